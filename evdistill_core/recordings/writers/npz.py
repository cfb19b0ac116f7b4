"""Write ``.npz`` files of plain columns."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.files import FinishedBlock, atomic_path, writing
from evdistill_core.recordings.readers.numpy_files import COLUMNS, TRIGGER_COLUMNS


class NpzWriter(FinishedBlock):
    """Write events as an ``.npz`` of plain columns that ``numpy.load`` and we read.

    Columns are collected on disk, so memory does not grow with the recording. The file appears
    only when the block ends well.

    Args:
        path: the file to make.
        width: columns of the sensor.
        height: rows of the sensor.

    Attributes:
        written_bytes: on disk so far, before compression.
    """

    def __init__(self, path: Path, *, width: int, height: int) -> None:
        self._path = path
        self._size = {"width": np.int64(width), "height": np.int64(height)}
        self._files: dict[str, IO[bytes]] = {}
        self.written_bytes = 0

    def __enter__(self) -> NpzWriter:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._stack = contextlib.ExitStack()
        # Removes itself even when Ctrl-C comes before the block has begun.
        scratch = tempfile.TemporaryDirectory(
            prefix=f".{self._path.stem}.", dir=self._path.parent, ignore_cleanup_errors=True
        )
        self._folder = Path(self._stack.enter_context(scratch))
        for name in (*COLUMNS, *TRIGGER_COLUMNS):
            column = (self._folder / name).open("wb")
            self._files[name] = self._stack.enter_context(column)
        return self

    def write(self, events: Events, triggers: Triggers) -> None:
        """Append a batch."""
        self.written_bytes += 13 * len(events) + 10 * len(triggers)
        columns = (events.t_us, events.x, events.y, events.p)
        edges = (triggers.t_us, triggers.channel, triggers.edge)
        with writing(self._path):
            for name, column in zip(self._files, (*columns, *edges), strict=True):
                self._files[name].write(np.ascontiguousarray(column).tobytes())

    def _finish(self) -> None:
        with writing(self._path):
            for file in self._files.values():
                file.flush()
        with (
            atomic_path(self._path) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive,
        ):
            for name, dtype in {**COLUMNS, **TRIGGER_COLUMNS}.items():
                column = self._folder / name
                count = column.stat().st_size // np.dtype(dtype).itemsize
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    _write_header(member, np.dtype(dtype), (count,))
                    with column.open("rb") as source:
                        shutil.copyfileobj(source, member, 1 << 20)
            for name, number in self._size.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, np.asarray(number), allow_pickle=False)


def _write_header(member: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(
        member,
        {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape},
    )
