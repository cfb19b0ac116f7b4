"""Recordings by path: one, or all in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.opening import open_recording

#: what ``open_recording`` takes besides the path
Reading = Mapping[str, str | None]


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
    if is_recording(path, reading):
        return [path]
    inside = (p for p in sorted(path.iterdir()) if not p.name.startswith("."))
    found = [p for p in inside if is_recording(p, reading)]
    if not found:
        raise RecordingError(
            f"no recording in {path}: `evdistill info FILE` says why one is refused"
        )
    return found


def is_recording(path: Path, reading: Reading | None = None) -> bool:
    """Tell whether ``open_recording`` opens a path; a folder of several recordings it does not.

    Args:
        path: a file or a folder.
        reading: how to read it.
    """
    try:
        with open_recording(path, **(reading or {})):
            return True
    except RecordingError:
        return False
