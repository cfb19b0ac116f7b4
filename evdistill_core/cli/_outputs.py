"""Where results go: ``--out`` in every command (docs/adr/0017-outputs.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from evdistill_core.foundation.errors import OutputError


def sources_and_target(paths: Sequence[Path], out: Path | None) -> tuple[list[Path], Path]:
    """Tell what is read from what is written: ``SOURCE... TARGET`` or ``SOURCE... --out TARGET``.

    Args:
        paths: the arguments; without ``--out`` the last one is the target, as with ``cp``.
        out: the value of ``--out``.

    Raises:
        OutputError: there is no target.
    """
    if out is not None:
        return list(paths), out
    if len(paths) < 2:
        raise OutputError(f"where does the result go? Name it after {paths[0]}, or with --out (-o)")
    return list(paths[:-1]), paths[-1]


def target_of(argument: Path | None, out: Path | None, source: Path) -> Path:
    """Return the target of a command with one source: its second argument or ``--out``.

    Raises:
        OutputError: there is none, or both are given and differ.
    """
    if argument is not None and out is not None and argument != out:
        raise OutputError(f"the result has two names: {argument} and --out {out}; give one")
    target = argument if out is None else out
    if target is None:
        raise OutputError(f"where does the result go? Name it after {source}, or with --out (-o)")
    return target


def print_json(facts: Mapping[str, object]) -> None:
    """Print the one JSON object that ``--json`` promises."""
    typer.echo(json.dumps(facts, indent=2, allow_nan=False, default=str))


def file_facts(path: Path) -> dict[str, object]:
    """Return what every JSON object says of a file that was written."""
    return {"out": str(path), "bytes": path.stat().st_size}
