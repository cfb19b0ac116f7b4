"""How commands show themselves: help with examples, groups of commands, one place for ``-v``.

Help is plain text in this order: usage, what the command does, examples, arguments, options. Only
public names of typer are used, with or without click below it.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import select
import sys
import typing
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from evdistill_core.cli import _verbosity
from evdistill_core.foundation.signals import Interrupts, exit_code

#: Groups of commands in the order of ``evdistill --help``.
GROUPS = ("Recordings", "Live", "Training")
OTHER = "Other"

# What click raises for wrong arguments, from a public name (click is private in typer).
UsageError: Any = typer.BadParameter.__mro__[1]
_VALUE = re.compile(r"^([^/=]*:?\d+|.+\.rrd)$")

Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Show log lines, and the traceback of an unexpected error."
    ),
]


@dataclass(frozen=True)
class Place:
    """Where a command stands in ``evdistill --help``.

    Attributes:
        group: one of ``GROUPS``.
        order: smaller ones come first in the group.
    """

    group: str = OTHER
    order: int = 0

    @property
    def key(self) -> tuple[int, int]:
        """What places are sorted by."""
        known = GROUPS.index(self.group) if self.group in GROUPS else len(GROUPS)
        return known, self.order


def place_of(module: ModuleType) -> Place:
    """Return the ``PLACE`` that a command's module names; plug-ins may have none."""
    place = getattr(module, "PLACE", None)
    return place if isinstance(place, Place) else Place()


def add_command(app: typer.Typer, name: str, module: ModuleType) -> None:
    """Add the subcommand that a module describes: ``command``, ``PLACE``, ``EXAMPLES``."""
    app.command(
        name,
        cls=Command,
        epilog="\n".join(getattr(module, "EXAMPLES", ())) or None,
        rich_help_panel=place_of(module).group,
    )(_with_verbose(module.command))


def _with_verbose(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function with an option ``--verbose`` more, so that it stands after it too."""

    @functools.wraps(function)
    def wrapped(*arguments: object, verbose: bool = False, **options: object) -> None:
        if verbose:
            _verbosity.show_log()
        function(*arguments, **options)

    signature = inspect.signature(function, eval_str=True)
    option = inspect.Parameter(
        "verbose", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Verbose
    )
    parameters = [*signature.parameters.values(), option]
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    hints = typing.get_type_hints(function, include_extras=True)
    wrapped.__annotations__ = {**hints, "verbose": Verbose}
    return wrapped


class Command(TyperCommand):
    """A subcommand; its epilog holds the examples, one a line."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what follows the name in the usage line: SOURCE... [TARGET]."""
        arguments = [p for p in self.get_params(ctx) if p.param_type_name == "argument"]
        names = [_argument_name(p) if p.required else f"[{_argument_name(p)}]" for p in arguments]
        return ["[OPTIONS]", *names]

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Read the arguments; options whose metavar is in brackets may stand without a value."""
        options = names_of_options(self, ctx)
        optional = {name for name, p in options.items() if _may_stand_alone(p)}
        words = list(args)
        given = [word for word in args if word in optional]
        without_value = [word for word in args if f"{word}-from" in options]
        try:
            rest = super().parse_args(ctx, with_empty_values(args, optional))
            for parameter in self.get_params(ctx):
                _check_finite(parameter, ctx.params.get(parameter.name), ctx)
            _check_paths(words, ctx)
            return rest
        except UsageError as error:
            if given and "extra argument" in error.message:
                error.message += f". If it belongs to {given[-1]}, write {given[-1]}=VALUE"
            elif without_value and "extra argument" in error.message:
                name = without_value[-1]
                error.message += f". {name} takes no value; {name}-from does"
            raise

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write what the command does and, right below, how to call it."""
        super().format_help_text(ctx, formatter)
        if self.epilog:
            with formatter.section("Examples"):
                # Not wrapped: an example is there to be copied.
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options with what each of them takes."""
        rows: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                rows["Arguments"].append((_argument_name(parameter), record[1]))
            else:
                rows["Options"].append(record)
        for title, content in rows.items():
            if content:
                with formatter.section(title):
                    formatter.write_dl(content)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write nothing: the examples stand above."""


class Group(TyperGroup):
    """``evdistill`` itself: its help shows the commands by group."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section a group, in the order in which the commands were added."""
        sections: dict[str, list[tuple[str, str]]] = {}
        width = max(map(len, self.commands), default=0)
        for name, command in self.commands.items():
            if not command.hidden:
                text = command.get_short_help_str(formatter.width - width - 6)
                panel = getattr(command, "rich_help_panel", None)
                rows = sections.setdefault(panel if isinstance(panel, str) else OTHER, [])
                rows.append((name.ljust(width), text))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand; say it when a signal ends one, and when a pipe inside breaks."""
        try:
            with Interrupts():
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            typer.echo("evdistill: interrupted", err=True)
            raise typer.Exit(exit_code(error)) from error
        except BrokenPipeError as error:
            if _is_stdout_open():
                raise ConnectionError(
                    f"a process that this command talks to has ended: {error}"
                ) from error
            raise


def _check_finite(parameter: Any, value: object, ctx: Any) -> None:
    """Refuse nan and inf, which pass every check of a range."""
    if isinstance(value, float) and not math.isfinite(value):
        raise typer.BadParameter(f"must be a finite number, got {value}", ctx=ctx, param=parameter)


def _check_paths(args: Sequence[str], ctx: Any) -> None:
    """Refuse an empty path, which would mean the current folder: a variable that was not set."""
    is_empty = any(not word or (word.startswith("--") and word.endswith("=")) for word in args)
    if not is_empty or any(word.rstrip("/").endswith(".") for word in args):
        return
    for parameter in ctx.command.get_params(ctx):
        value = ctx.params.get(parameter.name)
        values = value if isinstance(value, list | tuple) else [value]
        is_empty = Path() in values or ("" in values and parameter.param_type_name == "argument")
        if is_empty and _was_given(parameter, ctx):
            raise typer.BadParameter("must not be empty", ctx=ctx, param=parameter)


def _was_given(parameter: Any, ctx: Any) -> bool:
    source = ctx.get_parameter_source(parameter.name)
    return source is not None and source.name == "COMMANDLINE"


def _argument_name(parameter: Any) -> str:
    name: str = parameter.metavar or parameter.name.upper()
    return f"{name}..." if parameter.nargs != 1 and " " not in name else name


def _is_stdout_open() -> bool:
    """Tell whether somebody still reads what we print (``evdistill info FILE | head`` closes)."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError, ValueError):
        return False  # no stdout, or none of the system: ours is the likely one
    return not any(state & select.POLLERR for _, state in poll.poll(0))


def _may_stand_alone(parameter: Any) -> bool:
    return (parameter.metavar or "").startswith("[")


def with_empty_values(arguments: Sequence[str], optional: Container[str]) -> list[str]:
    """Return arguments in which ``--view`` without a value has an empty one.

    A value follows after ``=``, or as the next word if that is a port or ends in one (``8765``,
    ``robot:8765``), or is a recording of Rerun (``.rrd``): no other file and no topic does.

    Args:
        arguments: of a command.
        optional: names of the options whose value may be left out.
    """
    found: list[str] = []
    for i, word in enumerate(arguments):
        if word == "--":
            return [*found, *arguments[i:]]
        following = arguments[i + 1] if i + 1 < len(arguments) else ""
        if word in optional and not _VALUE.search(following):
            word = f"{word}="  # noqa: PLW2901 - the same word, with its value
        found.append(word)
    return found


def names_of_options(command: Any, ctx: Any) -> Mapping[str, Any]:
    """Return the options of a command by every name that they have."""
    return {
        name: parameter
        for parameter in command.get_params(ctx)
        if parameter.param_type_name == "option"
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
