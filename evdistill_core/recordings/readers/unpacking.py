"""Files that are compressed as a whole: unpacked beside nothing, into a temporary folder."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import zstandard

from evdistill_core.foundation.errors import RecordingError

PIECE_BYTES = 1 << 22
#: What unpacking leaves free on the disk, however much a file claims to hold.
SPARE_BYTES = 1 << 30


class Unpacked:
    """The content of a ``.zstd`` file, on disk as long as this lives.

    Attributes:
        path: the unpacked file.

    Args:
        source: file that is one or several zstd frames.

    Raises:
        RecordingError: it is damaged, or larger than the disk has room for.
    """

    def __init__(self, source: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="evdistill-")
        self.path = Path(self._folder.name) / source.stem
        room = shutil.disk_usage(self._folder.name).free - SPARE_BYTES
        try:
            self._unpack(source, room)
        except (zstandard.ZstdError, EOFError) as error:
            raise RecordingError(
                f"{source} is cut off or damaged: it does not decompress ({error})"
            ) from error

    def _unpack(self, source: Path, room: int) -> None:
        written = 0
        with (
            source.open("rb") as packed,
            self.path.open("wb") as target,
            zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader,
        ):
            while piece := reader.read(PIECE_BYTES):
                written += len(piece)
                if written > room:
                    raise RecordingError(
                        f"{source} does not fit on the disk of {self._folder.name} when it is "
                        "unpacked: set TMPDIR to a larger one"
                    )
                target.write(piece)
