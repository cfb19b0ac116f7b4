"""The ``evdistill`` command.

A subcommand is a module without a leading underscore in this package. It has a function ``command``
whose signature is the subcommand's and whose docstring is its help, a ``PLACE`` among the groups,
and ``EXAMPLES``. Packages named by the entry point group ``evdistill.commands`` (evdistill_ros.cli)
add theirs the same way, so that the core knows nothing of ROS. Subcommands import heavy libraries
inside ``command``: ``--help`` stays fast.

``main`` is the one place where errors become lines on stderr (see ``_errors``).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer

import evdistill_core.cli
from evdistill_core.cli import _verbosity
from evdistill_core.cli._command import Group, Verbose, add_command, place_of
from evdistill_core.cli._errors import FAILED, MISUSED, explain, keep_traceback
from evdistill_core.cli._misspelt import usage_line
from evdistill_core.foundation.errors import ConfigError, EvdistillError
from evdistill_core.foundation.invocation import set_arguments

PLUGIN_GROUP = "evdistill.commands"

_log = logging.getLogger(__name__)
# Base class of every mistake at the command line, from a public name (click is private in typer).
_ClickException: type[Exception] = typer.BadParameter.__mro__[2]


def build_app() -> typer.Typer:
    """Return the command with all subcommands found."""
    app = typer.Typer(
        name="evdistill",
        cls=Group,
        help="Label-free event-camera perception: live, from recordings, and training for it.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    modules: dict[str, Any] = {}
    for package in [evdistill_core.cli, *_plugins()]:
        for info in pkgutil.iter_modules(package.__path__):
            if not info.name.startswith("_"):
                module = importlib.import_module(f"{package.__name__}.{info.name}")
                if hasattr(module, "command"):
                    modules.setdefault(info.name.replace("_", "-"), module)
    for name, module in sorted(modules.items(), key=lambda m: (place_of(m[1]).key, m[0])):
        add_command(app, name, module)
    return app


def _plugins() -> list[Any]:
    return [entry.load() for entry in importlib.metadata.entry_points(group=PLUGIN_GROUP)]


def plugin_module(name: str) -> Any:
    """Return a module of the first package of commands that has it; the core has no ROS itself.

    Raises:
        ConfigError: none has it.
    """
    for package in _plugins():
        if importlib.util.find_spec(f"{package.__name__}.{name}") is not None:
            return importlib.import_module(f"{package.__name__}.{name}")
    raise ConfigError("this installation has no ROS part: install the package evdistill_ros whole")


def _show_version(wanted: bool) -> None:
    if wanted:
        from evdistill_core.cli._version import version_text

        typer.echo(version_text())
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Show the version, Python, and the extras that are installed, and exit.",
        ),
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Label-free event-camera perception: live, from recordings, and training for it."""
    del version
    if verbose:
        _verbosity.show_log()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; every error becomes a line on stderr and an exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: those after the name of the program.
    """
    set_arguments(tuple(arguments))
    try:
        code = _invoke(list(arguments))
        sys.stdout.flush()
    except typer.Abort:
        return _say("interrupted", FAILED)
    except _ClickException as error:
        return _misused(error)
    except BrokenPipeError:
        # `evdistill info FILE | head` closes our stdout early: that is no error to tell.
        sys.stderr.close()
        return FAILED
    except Exception as error:  # noqa: BLE001 - the last one to hear of it
        return _failed(error, _name(arguments))
    return code


def _invoke(arguments: list[str]) -> int:
    command = typer.main.get_command(build_app())
    result = command.main(arguments, prog_name="evdistill", standalone_mode=False)
    return result if isinstance(result, int) else 0


def _name(arguments: Sequence[str]) -> str:
    """Return the command's name for error lines: that of the subcommand too."""
    subcommand = next((a for a in arguments if not a.startswith("-")), "")
    return f"evdistill {subcommand}".strip()


def _misused(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError" and context is not None:
        typer.echo(context.get_help(), err=True)
        return MISUSED
    name = context.command_path if context is not None else "evdistill"
    return _say(f"{usage_line(error)} (see {name} --help)", MISUSED, name)


def _failed(error: Exception, name: str) -> int:
    found = explain(error)
    if _verbosity.is_shown() and not isinstance(error, EvdistillError):
        traceback.print_exception(error)
    if found is not None:
        return _say(*found, name)
    what = f"{type(error).__name__}: {error}"
    kept = "" if _verbosity.is_shown() else keep_traceback(error)
    if kept:
        return _say(
            f"unexpected {what}; please report it with the traceback in {kept}", FAILED, name
        )
    if not _verbosity.is_shown():
        traceback.print_exception(error)
    return _say(f"unexpected {what}; please report it with the traceback", FAILED, name)


def _say(text: str, code: int, name: str = "evdistill") -> int:
    print(f"{name}: error: {text}", file=sys.stderr)  # noqa: T201 - the command line talks
    return code


if __name__ == "__main__":
    main()
