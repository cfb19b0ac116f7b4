"""The ``evdistill`` command.

Every module of this package but this one is a subcommand: it has a function ``command`` whose
signature is the subcommand's and whose docstring is its help. Packages named by the entry point
group ``evdistill.commands`` (evdistill_ros.cli) add theirs the same way, so that the core knows
nothing of ROS. Subcommands import heavy libraries inside ``command``: ``--help`` stays fast.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import sys

import typer

import evdistill_core.cli
from evdistill_core.foundation.errors import EvdistillError

INTERRUPTED = 130  # 128 + SIGINT, what shells expect
PLUGIN_GROUP = "evdistill.commands"


def build_app() -> typer.Typer:
    """Return the command with all subcommands found."""
    app = typer.Typer(
        name="evdistill",
        help="Label-free event-camera perception: live, from recordings, and training for it.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        add_completion=False,
    )
    packages = [evdistill_core.cli]
    for entry in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        packages.append(entry.load())
    seen: set[str] = set()
    for package in packages:
        for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda i: i.name):
            module = importlib.import_module(f"{package.__name__}.{info.name}")
            name = info.name.replace("_", "-")
            if hasattr(module, "command") and name not in seen:
                seen.add(name)
                app.command(name)(module.command)
    return app


def main() -> None:
    """Run the command line; errors of ours become one line on stderr and an exit code."""
    try:
        build_app()(standalone_mode=True)
    except EvdistillError as error:
        print(f"evdistill: error: {error}", file=sys.stderr)  # noqa: T201 - the command line talks
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("evdistill: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # `evdistill info FILE | head` closes our stdout early: no traceback for that.
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    main()
