"""Mistakes at the command line: did you mean, and what options were called before."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from evdistill_core.cli._command import names_of_options
from evdistill_core.foundation.suggestions import did_you_mean

#: Options that were renamed so that each name means one thing: command -> old -> new.
RENAMED: Mapping[str, Mapping[str, str]] = {
    "play": {"--source-topic": "--topic", "--image-topic": "--image"},
    "doctor": {"--topic": "--events"},
}
#: What to do about an option that is missing: command -> name of its parameter -> cure.
MISSING: Mapping[str, Mapping[str, str]] = {
    "run": {"out": "run takes recordings, name the folder for the results with --out FOLDER (-o)"},
}
#: Words of the libraries below typer, and ours.
_PLAIN = (
    (r"'[^']*' is not a valid float( range)?$|input should be a valid number.*$",
     "must be a number"),
    (r"'[^']*' is not a valid int(eger)?( range)?$|input should be a valid integer.*$",
     "must be a whole number"),
    (r"input should be greater than or equal to ", "must be at least "),
    (r"input should be less than or equal to ", "must be at most "),
    (r"input should be ", "must be "),
)  # fmt: skip


def usage_line(error: Any) -> str:
    """Return one line for a mistake at the command line.

    Args:
        error: typer's exception.
    """
    context = getattr(error, "ctx", None)
    option = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption" and context is not None and option:
        renamed = RENAMED.get(context.info_name or "", {}).get(option)
        if renamed:
            return f"there is no option {option} (any more); did you mean {renamed}?"
        near = did_you_mean(option, names_of_options(context.command, context))
        return f"there is no option {option}{near}"
    message = " ".join(error.format_message().split()).replace("Value error, ", "")
    message = message[:1].lower() + message[1:].rstrip(".")
    found = re.match(r"no such command '(.+?)'", message)
    if found and context is not None:
        near = did_you_mean(found[1], context.command.commands)
        return f"there is no command '{found[1]}'{near}"
    if type(error).__name__ == "MissingParameter" and context is not None:
        cure = MISSING.get(context.info_name or "", {}).get(getattr(error.param, "name", ""))
        return f"missing option {error.param.opts[0]!r}: {cure}" if cure else message
    choice = re.search(r"'([^']*)' is not one of (.+)$", message)
    if choice:
        return message + did_you_mean(choice[1], re.findall(r"'([^']*)'", choice[2]))
    return _plain(message, error)


def _plain(message: str, error: Any) -> str:
    """Return what is wrong with a value in plain words, with the value."""
    for words, ours in _PLAIN:
        changed = re.sub(words, ours, message, flags=re.IGNORECASE)
        if changed != message:
            return changed + _given(message, error)
    return message


def _given(message: str, error: Any) -> str:
    """Return ``", got '0.5s'"``; "" where neither the message nor its cause tells the value."""
    quoted = re.search(r"('[^']*') is not a valid", message)
    if quoted:
        return f", got {quoted[1]}"
    details = getattr(error.__cause__, "errors", None)
    found = details() if callable(details) else ()
    return f", got {found[0]['input']!r}" if found and "input" in found[0] else ""
