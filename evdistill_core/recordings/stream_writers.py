"""Writers of whole event streams besides npz: HDF5 as DSEC has it, and AEDAT4.

Both take batches in order, keep constant memory, and their file appears only when all is written.
"""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.foundation.files import atomic_path
from evdistill_core.recordings.base import Frame
from evdistill_core.recordings.hdf5 import h5py_module

FLUSH_EVENTS = 1 << 17
#: DSEC holds the time in 32 bits: 71 minutes
LONGEST_US = 1 << 32
AEDAT4_PACKET_EVENTS = 10_000


class DsecWriter:
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
        self._file = self._stack.enter_context(h5py.File(temporary, "w"))
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
        if len(triggers):
            self._triggers.append(triggers)
        if len(events):
            self._pending.append(events)
        if sum(map(len, self._pending)) >= FLUSH_EVENTS:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        events = Events.concatenate(self._pending)
        self._pending = []
        if self._offset_us is None:
            self._offset_us = int(events.t_us[0]) // 1000 * 1000
        since = events.t_us - self._offset_us
        if since.min() < 0 or since.max() >= LONGEST_US:
            raise RecordingError(
                "a DSEC file holds times from its first event to 71 minutes later, got one of "
                f"{int(since.min()) / 1e6:.3f} .. {int(since.max()) / 1e6:.3f} s: cut with "
                "--start and --end, or write .npz"
            )
        self._append_index(since)
        for name, column in (("x", events.x), ("y", events.y), ("t", since), ("p", events.p)):
            _append(self._columns[name], column)
        self._rows += len(events)

    def _append_index(self, since_us: npt.NDArray[np.int64]) -> None:
        """For each millisecond that begins here, the first event that is not before it."""
        newest = np.maximum(np.maximum.accumulate(since_us), self._newest_us)
        self._newest_us = int(newest[-1])
        first_new = len(self._index)
        milliseconds = np.arange(first_new, self._newest_us // 1000 + 1)
        _append(self._index, np.searchsorted(newest, milliseconds * 1000) + self._rows)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._flush()
            self._finish()

    def _finish(self) -> None:
        self._file["t_offset"] = np.int64(self._offset_us or 0)
        edges = Triggers.concatenate(self._triggers)
        if len(edges):
            group = self._file["events"].create_group("ext_trigger")
            group["t"], group["channel"], group["edge"] = edges.t_us, edges.channel, edges.edge


class Aedat4Writer:
    """Write events, pictures and the edges of one trigger input with iniVation's library.

    Args:
        path: the file to make.
        width: columns of the sensor.
        height: rows of the sensor.
        frame_size: width and height of the pictures; ``None`` writes none.
    """

    CAMERA = "evdistill"

    def __init__(
        self, path: Path, *, width: int, height: int, frame_size: tuple[int, int] | None = None
    ) -> None:
        self._path = path
        self._size = (width, height)
        self._frame_size = frame_size
        self._writer: Any = None

    def __enter__(self) -> Aedat4Writer:
        try:
            import dv_processing as dv  # noqa: PLC0415
        except ImportError as error:
            raise RecordingError(
                "writing AEDAT4 needs dv-processing: pip install dv-processing"
            ) from error
        self._dv = dv
        config = dv.io.MonoCameraWriter.Config(self.CAMERA)
        config.addEventStream(self._size)
        config.addTriggerStream()
        if self._frame_size is not None:
            config.addFrameStream(self._frame_size)
        self._stack = contextlib.ExitStack()
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._writer = dv.io.MonoCameraWriter(str(temporary), config)
        return self

    def write(self, events: Events, triggers: Triggers) -> None:
        """Append a batch; the trigger's channel has no place in the format."""
        dv = self._dv
        for start in range(0, len(events), AEDAT4_PACKET_EVENTS):
            part = events[start : start + AEDAT4_PACKET_EVENTS]
            columns = (part.t_us.tolist(), part.x.tolist(), part.y.tolist(), (part.p > 0).tolist())
            vector = dv.EventPacket.EventVector(map(dv.Event, *columns))
            self._writer.writeEventPacket(dv.EventPacket(vector))
        kinds = dv.TriggerType
        for t_us, edge in zip(triggers.t_us.tolist(), triggers.edge.tolist(), strict=True):
            kind = kinds.EXTERNAL_SIGNAL_RISING_EDGE if edge else kinds.EXTERNAL_SIGNAL_FALLING_EDGE
            self._writer.writeTrigger(dv.Trigger(t_us, kind))

    def write_frame(self, frame: Frame, t_us: int) -> None:
        """Append a picture with its sensor time."""
        image = frame.image[:, :, ::-1] if frame.image.ndim == 3 else frame.image
        self._writer.writeFrame(self._dv.Frame(t_us, np.ascontiguousarray(image).copy()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The library writes the end of the file when the last reference goes.
        self._writer = None
        gc.collect()
        self._stack.__exit__(kind, error, trace)


def _append(dataset: Any, values: npt.NDArray[Any]) -> None:
    start = len(dataset)
    dataset.resize((start + len(values),))
    dataset[start:] = values
