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
    choice = re.search(r"'([^']*)' is not one of (.+)$", message)
    return message + (
        did_you_mean(choice[1], re.findall(r"'([^']*)'", choice[2])) if choice else ""
    )
