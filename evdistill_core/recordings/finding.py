"""Recordings by path: one, or all in a folder."""

from __future__ import annotations

from pathlib import Path

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.opening import open_recording


def find_recordings(path: Path) -> list[Path]:
    """Return the recordings that a path names: itself, or every readable entry of a folder.

    A folder that is a bag is one recording. Entries that are no recording are left out.

    Raises:
        RecordingError: nothing readable is there.
    """
    if is_recording(path):
        return [path]
    if not path.is_dir():
        raise RecordingError(f"{path} is no recording and no folder of recordings")
    found = [p for p in sorted(path.iterdir()) if not p.name.startswith(".") and is_recording(p)]
    if not found:
        raise RecordingError(
            f"no recording in {path}: `evdistill info FILE` says why one is refused"
        )
    return found


def is_recording(path: Path) -> bool:
    """Tell whether ``open_recording`` opens a path."""
    try:
        with open_recording(path):
            return True
    except RecordingError:
        return False
