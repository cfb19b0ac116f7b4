"""Recordings by path: one, or all in a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.opening import open_recording

#: what ``open_recording`` takes besides the path
Reading = Mapping[str, str | None]
#: Files of a bag, as rosbag2 numbers them: NAME_0.mcap, NAME_1.mcap, ...
_BAG_FILE = re.compile(r"(.*?)(_\d+)?\.(mcap|db3)(\.zstd)?")


def find_recordings(path: Path, reading: Reading | None = None) -> list[Path]:
    """Return the recordings that a path names: itself, or every readable entry of a folder.

    A folder that is a bag is one recording. Entries that are no recording are left out.

    Args:
        path: a recording, or a folder.
        reading: how to read them.

    Raises:
        RecordingError: nothing readable is there; of a file, why it cannot be read.
    """
    if not path.is_dir():
        open_recording(path, **(reading or {})).__exit__(None, None, None)
        return [path]
    if is_one_recording(path, reading):
        return [path]
    inside = (p for p in sorted(path.iterdir()) if not p.name.startswith("."))
    found = [p for p in inside if is_one_recording(p, reading)]
    if not found:
        raise RecordingError(
            f"no recording in {path}: `evdistill info FILE` says why one is refused"
        )
    return found


def is_recording(path: Path, reading: Reading | None = None) -> bool:
    """Tell whether ``open_recording`` opens a path.

    Args:
        path: a file or a folder.
        reading: how to read it.
    """
    try:
        with open_recording(path, **(reading or {})):
            return True
    except RecordingError:
        return False


def is_one_recording(path: Path, reading: Reading | None = None) -> bool:
    """Tell whether a path is one recording; a folder of some is none.

    A bag that was recorded has ``metadata.yaml``. Without it (the recorder was killed) the files of
    one bag have one name and a number; files of other names, or of other formats, are recordings of
    their own.

    Args:
        path: a file or a folder.
        reading: how to read it.
    """
    if not is_recording(path, reading):
        return False
    if not path.is_dir() or (path / "metadata.yaml").exists():
        return True
    entries = [p for p in path.iterdir() if not p.name.startswith(".")]
    parts = {p: _BAG_FILE.fullmatch(p.name) for p in entries}
    names = {found[1] for found in parts.values() if found}
    others = (p for p, found in parts.items() if not found)
    return len(names) == 0 or (
        len(names) == 1 and not any(is_recording(p, reading) for p in others)
    )
