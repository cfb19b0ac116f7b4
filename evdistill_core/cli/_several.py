"""Several recordings in one call: one that fails does not stop the others."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import typer

from evdistill_core.cli import _verbosity
from evdistill_core.cli._errors import FAILED, explain
from evdistill_core.cli._reading import Reading
from evdistill_core.foundation.errors import EvdistillError

T = TypeVar("T")


@dataclass
class Outcome(Generic[T]):
    """What became of several recordings.

    Attributes:
        done: what the work gave, by recording.
        failed: why it gave nothing, by recording.
    """

    done: dict[Path, T] = field(default_factory=dict)
    failed: dict[Path, str] = field(default_factory=dict)

    def facts(self) -> dict[str, object]:
        """Return what ``--json`` prints: ``recordings`` in their order, and ``failed``."""
        return {
            "recordings": list(self.done.values()),
            "failed": [{"path": str(p), "error": text} for p, text in self.failed.items()],
        }

    def finish(self, verb: str, *, quiet: bool = False) -> None:
        """Print how many went well, as the last line, and exit with 1 if one failed.

        Args:
            verb: what was done, such as "converted".
            quiet: print the line on stderr (with ``--json``).
        """
        total = len(self.done) + len(self.failed)
        line = f"{len(self.done)} of {total} recordings {verb}"
        if self.failed:
            line += f", {len(self.failed)} failed: {', '.join(p.name for p in self.failed)}"
        typer.echo(line, err=quiet)
        if self.failed:
            raise typer.Exit(FAILED)


def several(paths: Sequence[Path], reading: Reading) -> list[Path] | None:
    """Return the recordings that arguments name; None if it is one that is no folder of them.

    A recording that is named is in the list even if it cannot be read: the reason is told when it
    is opened. What a folder holds besides recordings is left out and named on stderr.

    Args:
        paths: files and folders.
        reading: how to read them.

    Raises:
        RecordingError: a folder holds no recording.
    """
    from evdistill_core.recordings.finding import find_recordings, is_recording

    if len(paths) == 1 and (not paths[0].is_dir() or is_recording(paths[0], reading)):
        return None
    found: list[Path] = []
    for path in paths:
        if not path.is_dir() or is_recording(path, reading):
            found.append(path)
            continue
        inside = find_recordings(path, reading)
        _tell_left_out(path, inside)
        found += inside
    return list(dict.fromkeys(found))


def _tell_left_out(folder: Path, found: Sequence[Path]) -> None:
    others = sorted(p.name for p in folder.iterdir() if p not in found and p.name[0] != ".")
    if others:
        names = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        typer.echo(f"note: {len(others)} in {folder} left out, no recordings: {names}", err=True)


def names_of(recordings: Sequence[Path]) -> dict[Path, str]:
    """Return a name for the results of each recording: its own, with its folder's where two agree.

    Numbers are added where that is not enough.
    """
    plain = {path: path.name if path.is_dir() else path.stem for path in recordings}
    names: dict[Path, str] = {}
    for path, name in plain.items():
        if list(plain.values()).count(name) > 1:
            name = f"{path.absolute().parent.name}_{name}"  # noqa: PLW2901
        wanted, number = name, 2
        while name in names.values():
            name, number = f"{wanted}_{number}", number + 1  # noqa: PLW2901
        names[path] = name
    return names


def each(recordings: Sequence[Path], work: Callable[[Path], T]) -> Outcome[T]:
    """Do the work for every recording; what goes wrong for one is told and kept.

    Args:
        recordings: paths.
        work: takes one of them.
    """
    outcome: Outcome[T] = Outcome()
    for path in recordings:
        try:
            outcome.done[path] = work(path)
        except (EvdistillError, OSError) as error:
            told = explain(error)
            if told is None or isinstance(error, BrokenPipeError):
                raise
            if _verbosity.is_shown():
                traceback.print_exception(error)
            outcome.failed[path] = told[0]
            text = told[0] if str(path) in told[0] else f"{path}: {told[0]}"
            typer.echo(f"evdistill: error: {text}", err=True)
    return outcome
