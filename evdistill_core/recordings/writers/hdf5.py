"""Write HDF5 as DSEC has it."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.foundation.files import FinishedBlock, atomic_path
from evdistill_core.recordings.readers.hdf5_base import h5py_module

FLUSH_EVENTS = 1 << 17
#: DSEC holds the time in 32 bits: 71 minutes
LONGEST_US = 1 << 32


class DsecWriter(FinishedBlock):
    """Write ``events/{x,y,t,p}``, ``t_offset`` and ``ms_to_idx``, compressed with Blosc.

    Beyond DSEC, the group ``events`` has the sensor's ``width`` and ``height`` as attributes and
    the edges on the trigger input as ``ext_trigger``; readers of DSEC ignore both.

    Args:
        path: the file to make.
        width: columns of the sensor.
        height: rows of the sensor.
    """

    COLUMNS = (("x", np.uint16), ("y", np.uint16), ("t", np.uint32), ("p", np.uint8))

    def __init__(self, path: Path, *, width: int, height: int) -> None:
        self._path = path
        self._size = (width, height)
        self._pending: list[Events] = []
        self._triggers: list[Triggers] = []
        self._offset_us: int | None = None
        self._newest_us = 0
        self._rows = 0

    def __enter__(self) -> DsecWriter:
        h5py = h5py_module()
        import hdf5plugin  # noqa: PLC0415

        self._stack = contextlib.ExitStack()
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._disk = self._stack.enter_context(_PatientFile(temporary))
        self._stack.push(self._raise_of_closing)
        self._file = self._stack.enter_context(h5py.File(self._disk, "w"))
        blosc = hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.SHUFFLE)
        group = self._file.create_group("events")
        group.attrs["width"], group.attrs["height"] = self._size
        options = {"shape": (0,), "maxshape": (None,), "chunks": (FLUSH_EVENTS // 4,), **blosc}
        self._columns = {
            name: group.create_dataset(name, dtype=dtype, **options) for name, dtype in self.COLUMNS
        }
        self._index = self._file.create_dataset("ms_to_idx", dtype=np.uint64, **options)
        return self

    def write(self, events: Events, triggers: Triggers) -> None:
        """Append a batch.

        Raises:
            RecordingError: an event is earlier than the first one, or 71 minutes later.
        """
        if len(events):
            self._check(events)
            self._pending.append(events)
        if len(triggers):
            self._triggers.append(triggers)
        if sum(map(len, self._pending)) >= FLUSH_EVENTS:
            self._flush()

    @property
    def written_bytes(self) -> int:
        """Size of the file so far."""
        size: int = self._file.id.get_filesize()
        return size

    def _check(self, events: Events) -> None:
        if self._offset_us is None:
            self._offset_us = int(events.t_us.min()) // 1000 * 1000
        first, last = int(events.t_us.min()), int(events.t_us.max())
        if first < self._offset_us or last - self._offset_us >= LONGEST_US:
            raise RecordingError(
                "a DSEC file holds times from its first event to 71 minutes later, got one of "
                f"{(first - self._offset_us) / 1e6:.3f} .. {(last - self._offset_us) / 1e6:.3f} s: "
                "cut with --start and --end, or write .npz"
            )

    def _flush(self) -> None:
        if not self._pending:
            return
        events = Events.concatenate(self._pending)
        self._pending = []
        since = events.t_us - (self._offset_us or 0)
        self._append_index(since)
        for name, column in (("x", events.x), ("y", events.y), ("t", since), ("p", events.p)):
            _append(self._columns[name], column)
        self._rows += len(events)
        self._disk.raise_error()

    def _raise_of_closing(
        self, kind: type[BaseException] | None, error: object, trace: object
    ) -> None:
        """Raise what went wrong while HDF5 closed its file, if nothing else is raised."""
        if kind is None:
            self._disk.raise_error()

    def _append_index(self, since_us: npt.NDArray[np.int64]) -> None:
        """For each millisecond that begins here, the first event that is not before it."""
        newest = np.maximum(np.maximum.accumulate(since_us), self._newest_us)
        self._newest_us = int(newest[-1])
        first_new = len(self._index)
        milliseconds = np.arange(first_new, self._newest_us // 1000 + 1)
        _append(self._index, np.searchsorted(newest, milliseconds * 1000) + self._rows)

    def _finish(self) -> None:
        self._flush()
        self._file["t_offset"] = np.int64(self._offset_us or 0)
        edges = Triggers.concatenate(self._triggers)
        if len(edges):
            group = self._file["events"].create_group("ext_trigger")
            group["t"], group["channel"], group["edge"] = edges.t_us, edges.channel, edges.edge


class _PatientFile(io.FileIO):
    """A file whose writes never fail, so that HDF5 can always close it; the first error is kept.

    Where a write fails while HDF5 closes a file (the disk is full), the file stays half open inside
    the library, and the process crashes when it ends.

    Args:
        path: the file, made again.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def raise_error(self) -> None:
        """Raise the first error of a write, if there was one."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        """Write all of the bytes; nothing after the first error."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self._error is None and len(rest):
                rest = rest[super().write(rest) or 0 :]
        except OSError as error:
            self._error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Change the size, unless something went wrong before."""
        try:
            return super().truncate(size) if self._error is None else size or 0
        except OSError as error:
            self._error = error
            return size or 0

    def readinto(self, buffer: Any) -> int:
        """Read as many bytes as asked for; zeros where a write failed."""
        view = memoryview(buffer).cast("B")
        count = super().readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        return len(view)


def _append(dataset: Any, values: npt.NDArray[Any]) -> None:
    start = len(dataset)
    dataset.resize((start + len(values),))
    dataset[start:] = values
