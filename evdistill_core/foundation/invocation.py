"""The call of ``evdistill`` that this process serves, and commands as text."""

from __future__ import annotations

import shlex
from contextvars import ContextVar
from pathlib import Path

_arguments: ContextVar[tuple[str, ...]] = ContextVar("evdistill_arguments", default=())


def set_arguments(arguments: tuple[str, ...]) -> None:
    """Note the arguments that the user gave to ``evdistill``, for the reports of this call."""
    _arguments.set(arguments)


def given_arguments() -> tuple[str, ...]:
    """Return the arguments of this call of ``evdistill``; empty in a program of the user's own."""
    return _arguments.get()


def command_text(*arguments: str | Path) -> str:
    """Return a command of evdistill as one types it, with quotes where a shell needs them."""
    return shlex.join(["evdistill", *map(str, arguments)])


def resume_text() -> str:
    """Return this call with ``--resume``; empty where a program called the library."""
    given = given_arguments()
    if not given:
        return ""
    kept = [word for word in given if word not in ("--resume", "--overwrite")]
    return command_text(*kept, "--resume")
