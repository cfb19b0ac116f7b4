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
        raise OutputError(
            f"where does the result go? Write the file to make after {paths[0]}, or a folder for "
            "several recordings, or name it with --out (-o)"
        )
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
        raise OutputError(
            f"where does the result go? Write the file to make after {source}, or name it with "
            "--out (-o)"
        )
    return target


def check_new_file(
    target: Path, *, overwrite: bool, sources: Sequence[Path], several: bool = False
) -> None:
    """Refuse a file as ``check_file`` does; warn where it is a recording, maybe meant as a source.

    Args:
        target: the file to make.
        overwrite: whether one that is there may be replaced.
        sources: what is read.
        several: whether the command takes several recordings and a folder.

    Raises:
        OutputError: it is there already, or cannot be written there.
    """
    from evdistill_core.foundation.outputs import check_file
    from evdistill_core.recordings.finding import is_recording

    is_source = any(target.exists() and s.exists() and target.samefile(s) for s in sources)
    if target.is_file() and not overwrite and not is_source and is_recording(target):
        cure = (
            "if it is a source too, name a folder with --out"
            if several
            else "name the file to make last"
        )
        raise OutputError(
            f"{target} is there already and is a recording: {cure}; --overwrite would replace it"
        )
    check_file(target, overwrite=overwrite, sources=sources)


def print_json(facts: Mapping[str, object]) -> None:
    """Print the one JSON object that ``--json`` promises."""
    typer.echo(json.dumps(facts, indent=2, allow_nan=False, default=str))


def file_facts(path: Path) -> dict[str, object]:
    """Return what every JSON object says of a file that was written."""
    return {"out": str(path), "bytes": path.stat().st_size}
