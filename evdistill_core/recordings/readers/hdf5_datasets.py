"""HDF5 files of MVSEC, DDD17 and DDD20."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.events.decoders import make_decoder
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.base import (
    EventBatch,
    Frame,
)
from evdistill_core.recordings.readers.hdf5_base import (
    CAER_FRAME,
    CAER_FRAME_HEAD,
    CAER_HEADER,
    CAER_POLARITY,
    DAVIS346,
    MAX_CAER_OVERFLOW,
    Hdf5Recording,
    from_seconds,
    opened,
)
from evdistill_core.recordings.readers.records import Fields
from evdistill_core.recordings.readers.time_unit import TIME_LIMIT_US


class TableHdf5(Hdf5Recording):
    """An (N, 4) table of events."""

    order = ""

    def _check(self, file: Any) -> int:
        return len(self._numbers(file[self._table()], self._table(), 4))

    def _table(self) -> str:
        return self._name

    def _find_size(self, file: Any) -> tuple[int, int]:
        return DAVIS346

    def _time_us(self, file: Any, row: int) -> int:
        return int(self._times(file[self._table()][row : row + 1, self.order.index("t")])[0])

    def _times(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        return (
            from_seconds(self._path, stored)
            if stored.dtype.kind == "f"
            else stored.astype(np.int64)
        )

    def _block(self, file: Any, start: int, end: int) -> Iterator[EventBatch]:
        rows = file[self._table()][start:end]
        x, y, t, p = (rows[:, self.order.index(name)] for name in "xytp")
        events = self._in_frame(Fields(self._times(t), x, y, p))
        if len(events):
            yield self._batch(events)


class MvsecHdf5(TableHdf5):
    """MVSEC: ``davis/left/events`` of x, y, t in seconds, p in {-1, 1}; and images."""

    layout = "mvsec"
    order = "xytp"

    def _table(self) -> str:
        return f"{self._name}/events"

    def _check(self, file: Any) -> int:
        names = (f"{self._name}/image_raw", f"{self._name}/image_raw_ts")
        if all(name in file for name in names):
            self._frame_topic = names[0]
        return super()._check(file)

    def frames(self) -> Iterator[Frame]:
        """Yield the images of the same camera."""
        if not self._frame_topic:
            return
        make = self._frame_maker()
        with opened(self._path) as file:
            images, times = file[self._frame_topic], file[f"{self._name}/image_raw_ts"]
            for i in range(min(len(images), len(times))):
                t_us = int(from_seconds(self._path, np.array([times[i]], np.float64))[0])
                yield from make(images[i], t_us, t_us * 1000)


class ExportHdf5(TableHdf5):
    """The export of DDD20's tools: ``event`` of t in microseconds, x, y, p; and images."""

    layout = "ddd20-export"
    order = "txyp"

    def _check(self, file: Any) -> int:
        if {"frame", "frame_ts"} <= set(file.keys()):
            self._frame_topic = "frame"
        return super()._check(file)

    def frames(self) -> Iterator[Frame]:
        """Yield the images; their times are coarse, the file holds them as 32 bit seconds."""
        if not self._frame_topic:
            return
        make = self._frame_maker()
        with opened(self._path) as file:
            images, times = file["frame"], file["frame_ts"]
            for i in range(min(len(images), len(times))):
                seconds = np.asarray(times[i], np.float64).reshape(-1)[:1]
                t_us = int(from_seconds(self._path, seconds)[0])
                yield from make(images[i], t_us, t_us * 1000)


class CaerHdf5(Hdf5Recording):
    """DDD17 and DDD20 as recorded: packets of cAER, one a row, of events or of an image.

    Some recordings were made with the camera upside down; they are given as they are.
    """

    layout = "ddd17"
    in_heaps = True
    ROWS_A_BLOCK = 16

    def _check(self, file: Any) -> int:
        data, times = file["dvs/data"], file["dvs/timestamp"]
        if data.ndim != 2 or data.shape[1] != 3 or len(times) < len(data):
            raise RecordingError(
                f"{self._path}: dvs/data must be (N, 3) packets with N dvs/timestamp, got "
                f"{data.shape} and {times.shape}"
            )
        # The recorder makes room ahead: rows that were never written have time 0.
        self._host_us = np.asarray(times[: len(data)], np.int64)
        self._frame_topic = "dvs"
        return int(np.count_nonzero(self._host_us))

    def _find_size(self, file: Any) -> tuple[int, int]:
        return DAVIS346

    def _step(self) -> int:
        return self.ROWS_A_BLOCK

    def _packets(self, file: Any, start: int, end: int) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield row, type, overflow of the clock and payload; damaged rows are counted."""
        for row in range(start, end):
            _, head, body = file["dvs/data"][row]
            payload = np.asarray(body, np.uint8).tobytes()
            if len(head) != CAER_HEADER.size:
                self._counts["damaged_messages"] += 1
                continue
            kind, _, size, _, overflow, capacity, _, _ = CAER_HEADER.unpack(
                np.asarray(head, np.uint8).tobytes()
            )
            if not 0 <= overflow < MAX_CAER_OVERFLOW or size * capacity != len(payload):
                self._counts["damaged_messages"] += 1
                continue
            yield row, kind, overflow, payload

    def _time_us(self, file: Any, row: int) -> int:
        """Return the first event's time of the first packet with events from ``row`` on."""
        for _, kind, overflow, payload in self._packets(file, row, self._rows):
            if kind == CAER_POLARITY and len(payload) >= 8:
                return (overflow << 31) + int(np.frombuffer(payload, "<i4", 2)[1])
        return int(TIME_LIMIT_US)

    def _block(self, file: Any, start: int, end: int) -> Iterator[EventBatch]:
        width, height = self._size
        for row, kind, overflow, payload in self._packets(file, start, end):
            if kind != CAER_POLARITY:
                continue
            decoder = make_decoder("libcaer", width=width, height=height)
            events = decoder.decode(payload, (overflow << 31) * 1000).events
            for name in ("out_of_frame", "backward_time", "unknown_words"):
                self._counts[name] += getattr(decoder.counters, name)
            if len(events):
                batch = self._batch(events)
                yield EventBatch(events, batch.triggers, int(self._host_us[row]) * 1000)

    def frames(self) -> Iterator[Frame]:
        """Yield the images, at 8 bits."""
        width, height = self._size
        make = self._frame_maker()
        with opened(self._path) as file:
            for row, kind, overflow, payload in self._packets(file, 0, self._rows):
                if kind != CAER_FRAME:
                    continue
                if len(payload) != CAER_FRAME_HEAD + 2 * width * height:
                    self._left_out_frames.add(f"the size of an image is not {width}x{height}")
                    continue
                t_us = (overflow << 31) + struct.unpack_from("<I", payload, 8)[0]
                pixels = np.frombuffer(payload, "<u2", offset=CAER_FRAME_HEAD)
                stamp_ns = int(self._host_us[row]) * 1000
                yield from make(pixels.reshape(height, width), t_us, stamp_ns)
