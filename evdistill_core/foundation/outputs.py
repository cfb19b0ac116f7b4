"""What may be written where: the one rule for outputs (docs/adr/0017-outputs.md).

A result that is there already is refused before any work, and replaced only where the caller says
so. What cannot be written at all is refused then too: a folder where a file should be, a file where
a folder should be, no permission, a read-only file system. A disk that fills up later raises an
``OSError`` that names the file (see ``foundation.files``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from evdistill_core.foundation.errors import OutputError

IN_PYTHON = "overwrite=True"
"""How a Python program says what ``--overwrite`` says at the command line."""


def check_file(
    target: Path,
    *,
    overwrite: bool,
    sources: Iterable[Path] = (),
    way: str = "--overwrite",
) -> None:
    """Refuse a file that cannot or must not be written.

    Args:
        target: the file to make.
        overwrite: whether one that is there may be replaced.
        sources: what is read; replacing one of these is always refused.
        way: how the user says that it may be replaced.

    Raises:
        OutputError: it is there already, is a folder or a source, or cannot be written there.
    """
    if target.is_dir():
        raise OutputError(f"{target} is a folder: give the name of a file")
    if any(_is_same(target, source) for source in sources):
        raise OutputError(f"{target} is the source itself: choose another name")
    if target.exists() and not overwrite:
        raise OutputError(
            f"{target} is there already: replace it with {way}, or choose another name"
        )
    _check_place(target, target.parent)


def check_folder(
    folder: Path,
    results: Iterable[str],
    *,
    overwrite: bool,
    sources: Iterable[Path] = (),
    cure: str = "",
) -> None:
    """Refuse a folder of results that cannot or must not be written.

    Other files in the folder do not matter; they are left alone.

    Args:
        folder: the folder to make or to fill.
        results: names or glob patterns of what an earlier run leaves there.
        overwrite: whether these may be replaced.
        sources: what is read; replacing one of these is always refused.
        cure: another way out than ``--overwrite``, such as "go on with --resume".

    Raises:
        OutputError: it holds a result already or a source, is a file, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file: give the name of a folder")
    _check_place(folder, folder)
    found = former_results(folder, results)
    for source in sources:
        if any(_is_same(path, source) for path in found):
            raise OutputError(f"{source} is read and would be replaced: choose another folder")
    if found and not overwrite:
        ways = [cure] if cure else []
        ways += ["replace it with --overwrite", "choose another folder"]
        raise OutputError(
            f"{folder} holds a result already ({found[0].name}): "
            f"{', '.join(ways[:-1])}, or {ways[-1]}"
        )


def former_results(folder: Path, results: Iterable[str]) -> list[Path]:
    """Return what an earlier run left in a folder, in the order of the patterns."""
    return [path for pattern in results for path in sorted(folder.glob(pattern))]


def remove_results(folder: Path, results: Iterable[str]) -> None:
    """Remove the files that an earlier run left in a folder, so that old and new never mix."""
    for path in former_results(folder, results):
        path.unlink(missing_ok=True)


def _check_place(target: Path, folder: Path) -> None:
    """Refuse a target whose folder, or the nearest one that is there, takes no new files."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise OutputError(f"{target} cannot be made: {place} is a file, not a folder")
    if os.access(place, os.W_OK | os.X_OK):
        return
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        raise OutputError(f"{target} cannot be written: {place} is on a read-only file system")
    raise OutputError(f"{target} cannot be written: no permission to write into {place}")


def _is_same(target: Path, source: Path) -> bool:
    return target.exists() and source.exists() and target.samefile(source)
