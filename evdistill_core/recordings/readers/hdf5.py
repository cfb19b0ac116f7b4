"""HDF5 files of events in the layouts of data sets, and a writer of one of them.

Read are groups of the columns x, y, t, p (DSEC, M3ED), tables of N x 4 (MVSEC: x, y, t, p in
seconds; the export of DDD20: t, x, y, p) and the recorder's own packets of DDD17 and DDD20. Which
one it is shows in the names inside the file.
"""

from __future__ import annotations

import contextlib
import struct
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.decoders import make_decoder
from evdistill_core.foundation.errors import MessageError, RecordingError
from evdistill_core.foundation.reasons import Reasons
from evdistill_core.messages.images import EightBits
from evdistill_core.recordings.base import (
    REORDER_US,
    EventBatch,
    Frame,
    Recording,
    RecordingInfo,
    TopicInfo,
    checked_size,
)
from evdistill_core.recordings.read_options import AS_THE_FILE_SAYS, ReadOptions
from evdistill_core.recordings.readers.chips import camera_size
from evdistill_core.recordings.readers.hdf5_size import stored_size
from evdistill_core.recordings.readers.records import Fields, StreamRecording
from evdistill_core.recordings.readers.time_unit import TIME_LIMIT_US

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
COLUMN_NAMES = frozenset("xytp")
BATCH_ROWS = 65_536
#: A chunk is decompressed as a whole, and its size is a number in the file.
MAX_CHUNK_BYTES = 1 << 28
DAVIS346 = (346, 260)
COLUMN_SIZES = ((640, 480), (1280, 720))
SAMPLED_BLOCKS = 16
#: 'hhiiiiii' of libcaer: type, source, size, time offset, overflow, capacity, number, valid
CAER_HEADER = struct.Struct("<hhiiiiii")
CAER_POLARITY, CAER_FRAME = 1, 2
CAER_FRAME_HEAD = 36
MAX_CAER_OVERFLOW = 1000


def h5py_module() -> ModuleType:
    """Import h5py with the compressors that data sets use.

    Raises:
        RecordingError: it is not installed.
    """
    try:
        import h5py  # noqa: PLC0415
        import hdf5plugin  # noqa: F401, PLC0415 - registers Blosc
    except ImportError as error:
        raise RecordingError(
            "HDF5 files need h5py and hdf5plugin: pip install 'evdistill_ros[hdf5]'"
        ) from error
    module: ModuleType = h5py
    return module


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open for reading; what h5py says about damage becomes our error."""
    h5py = h5py_module()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecordingError(f"{path} is cut off or damaged (HDF5: {reason})") from error


def open_hdf5(path: Path, topic: str | None, options: ReadOptions = AS_THE_FILE_SAYS) -> Recording:
    """Return the reader that fits the names inside the file.

    Raises:
        RecordingError: no layout that we know, or several streams and no choice among them.
    """
    with opened(path) as file:
        streams = _streams(file)
        names = list(file)[:20]
    if not streams:
        raise RecordingError(
            f"{path} has no events in a layout that we know; it holds {', '.join(names)}. Known: "
            "groups of x, y, t, p (DSEC), davis/*/events (MVSEC), event (DDD20's export), "
            "dvs/data (DDD17)"
        )
    if topic is not None and topic not in streams:
        raise RecordingError(f"{path} has no stream '{topic}'; it has: {', '.join(streams)}")
    if topic is None and len(streams) > 1:
        raise RecordingError(
            f"{path} has several event streams, choose one with --topic: {', '.join(streams)}"
        )
    name = topic or next(iter(streams))
    return streams[name](path, name, tuple(streams), options)


def _streams(file: Any) -> dict[str, type[Hdf5Recording]]:
    found: dict[str, type[Hdf5Recording]] = {}

    def look(name: str, item: Any) -> None:
        is_group = hasattr(item, "keys")
        if is_group and set(item.keys()) >= COLUMN_NAMES:
            found[name] = ColumnsHdf5
        elif is_group:
            return
        elif name.startswith("davis/") and name.endswith("/events"):
            found[name.removesuffix("/events")] = MvsecHdf5
        elif name == "event":
            found[name] = ExportHdf5
        elif name == "dvs/data":
            found["dvs"] = CaerHdf5

    if set(file.keys()) >= COLUMN_NAMES:
        found["/"] = ColumnsHdf5
    file.visititems(look)
    return found


class Hdf5Recording(StreamRecording):
    """What all layouts have in common.

    Args:
        path: the file.
        name: of the stream in it.
        streams: all of them.
        options: what the user said of the file.
    """

    layout = ""
    takes = frozenset({"size", "camera"})

    def __init__(
        self,
        path: Path,
        name: str,
        streams: tuple[str, ...],
        options: ReadOptions = AS_THE_FILE_SAYS,
    ) -> None:
        super().__init__(path, f"hdf5-{self.layout}", options=options)
        self._name = name
        self._topics = tuple(TopicInfo(s, "events") for s in streams)
        self._frame_topic = ""
        with opened(path) as file:
            self._rows = self._check(file)
            self._size = self._told_size(file) or self._find_size(file)

    def _told_size(self, file: Any) -> tuple[int, int] | None:
        """Return width and height as the user says, or as the file does anywhere."""
        if self._options.size:
            return self._options.size
        if self._options.camera:
            return camera_size(self._path, self._options.camera)
        size = stored_size(file, self._name)
        return checked_size(self._path, *size) if size else None

    @property
    def info(self) -> RecordingInfo:
        """Size, streams and the pictures' name."""
        return self._describe(
            self._kind,
            self._encoding,
            topic=self._name,
            frame_topic=self._frame_topic,
            topics=self._topics,
        )

    def _frame_maker(self) -> Callable[[Any, int, int], Iterator[Frame]]:
        """Return what makes a picture of stored pixels, t_us and stamp_ns, or counts it as lost."""
        self._left_out_frames = left_out = Reasons()
        to_eight_bits = EightBits()

        def make(stored: Any, t_us: int, stamp_ns: int) -> Iterator[Frame]:
            pixels = np.array(stored)
            if pixels.dtype.kind in "iu" and pixels.dtype != np.uint8:
                narrow = pixels.astype(np.uint16)
                pixels = narrow if (narrow == pixels).all() else pixels
            try:
                if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
                    raise MessageError(f"a picture is (H, W) or (H, W, 3), got {pixels.shape}")
                image = to_eight_bits(pixels)
            except MessageError as error:
                left_out.add(str(error))
                return
            image.flags.writeable = False
            yield Frame(image, t_us, stamp_ns)

        return make

    @abstractmethod
    def _check(self, file: Any) -> int:
        """Return the number of rows; refuse shapes and types that cannot be."""

    @abstractmethod
    def _find_size(self, file: Any) -> tuple[int, int]:
        """Return width and height where the file does not tell them."""

    @abstractmethod
    def _time_us(self, file: Any, row: int) -> int:
        """Return the time of one row."""

    @abstractmethod
    def _block(self, file: Any, start: int, end: int) -> Iterator[EventBatch]:
        """Yield the events of rows ``start`` to ``end``."""

    def _row_at(self, file: Any, start_us: int) -> int:
        """Return a row before which nothing from ``start_us`` on lies, by halving."""
        low, high = 0, self._rows
        while low < high:
            middle = (low + high) // 2
            if self._time_us(file, middle) < start_us - REORDER_US:
                low = middle + 1
            else:
                high = middle
        return low

    def _all_batches(self) -> Iterator[EventBatch]:
        return self._batches_at(None)

    def _batches_from(self, start_us: int) -> Iterator[EventBatch]:
        return self._batches_at(start_us)

    def _batches_at(self, start_us: int | None) -> Iterator[EventBatch]:
        self._counts = Counter()
        with opened(self._path) as file:
            row = 0 if start_us is None else self._row_at(file, start_us)
            step = self._step()
            while row < self._rows:
                end = min(row + step, self._rows)
                self._fraction = end / self._rows
                yield from self._block(file, row, end)
                row = end
            yield from self._rest(file)

    def _step(self) -> int:
        return BATCH_ROWS

    def _rest(self, file: Any) -> Iterator[EventBatch]:
        """Yield what comes after the last event."""
        return iter(())

    def _numbers(self, item: Any, what: str, width: int | None = None) -> Any:
        """Check one dataset: (N,) or (N, width) numbers in chunks of a sane size."""
        shape = tuple(getattr(item, "shape", None) or ())
        tail = () if width is None else (width,)
        if not shape or item.dtype.kind not in "iufb" or shape[1:] != tail:
            expected = "(N,)" if width is None else f"(N, {width})"
            raise RecordingError(
                f"{self._path}: {what} must be {expected} numbers, got {shape or 'none'}"
            )
        if item.chunks and int(np.prod(item.chunks)) * item.dtype.itemsize > MAX_CHUNK_BYTES:
            raise RecordingError(f"{self._path}: {what} has chunks of {item.chunks}: damaged")
        return item


class ColumnsHdf5(Hdf5Recording):
    """Columns x, y, t (microseconds), p; DSEC adds ``t_offset`` and ``ms_to_idx``."""

    layout = "dsec"

    def _check(self, file: Any) -> int:
        group = file[self._name]
        lengths = {n: len(self._numbers(group[n], n)) for n in sorted(COLUMN_NAMES)}
        if len(set(lengths.values())) != 1:
            raise RecordingError(f"{self._path}: columns must have one length, got {lengths}")
        self._offset_us = _number(file, "t_offset", group)
        self._is_seconds = group["t"].dtype.kind == "f"
        self._triggers = self._stored_triggers(group)
        return lengths["t"]

    def _stored_triggers(self, group: Any) -> Triggers:
        if "ext_trigger" not in group:
            return Triggers.empty()
        stored = group["ext_trigger"]
        return Triggers(
            np.asarray(self._numbers(stored["t"], "ext_trigger/t"), np.int64),
            np.asarray(self._numbers(stored["channel"], "ext_trigger/channel"), np.uint8),
            np.asarray(self._numbers(stored["edge"], "ext_trigger/edge"), np.uint8),
        )

    def _find_size(self, file: Any) -> tuple[int, int]:
        group = file[self._name]
        width = height = 0
        for start in np.linspace(0, max(0, self._rows - BATCH_ROWS), SAMPLED_BLOCKS):
            rows = slice(int(start), int(start) + BATCH_ROWS // SAMPLED_BLOCKS)
            if self._rows:
                width = max(width, int(group["x"][rows].max()))
                height = max(height, int(group["y"][rows].max()))
        fits = [s for s in COLUMN_SIZES if width < s[0] and height < s[1]]
        self._size = fits[0] if fits else (width + 1, height + 1)
        self._warn(
            f"the file does not tell the sensor's size; taken as {self._size[0]}x{self._size[1]} "
            "after a sample of its coordinates (--size tells it)"
        )
        return checked_size(self._path, *self._size)

    def _time_us(self, file: Any, row: int) -> int:
        return int(self._times(file[self._name]["t"][row : row + 1])[0])

    def _times(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        t_us = _from_seconds(self._path, stored) if self._is_seconds else stored.astype(np.int64)
        return t_us + self._offset_us

    def _row_at(self, file: Any, start_us: int) -> int:
        row = self._indexed_row(file, start_us)
        return super()._row_at(file, start_us) if row is None else row

    def _indexed_row(self, file: Any, start_us: int) -> int | None:
        """Look ``start_us`` up in ms_to_idx; ``None`` where that is missing or wrong."""
        index = file.get("ms_to_idx", file[self._name].get("ms_to_idx"))
        millisecond = (start_us - self._offset_us) // 1000
        if index is None or not len(index):
            return None
        if millisecond < 0:
            return 0
        row = int(index[min(millisecond, len(index) - 1)])
        if not 0 <= row <= self._rows or (row and self._time_us(file, row - 1) >= start_us):
            self._warn("ms_to_idx does not fit the times: it is left aside")
            return None
        return row

    def _block(self, file: Any, start: int, end: int) -> Iterator[EventBatch]:
        group = file[self._name]
        x, y, t, p = (group[name][start:end] for name in "xytp")
        events = self._in_frame(Fields(self._times(t), x, y, p))
        edges = self._edges_until(start, int(events.t_us[-1]) if len(events) else None)
        if len(events) or len(edges):
            yield self._batch(events, edges)

    def _edges_until(self, start: int, last_us: int | None) -> Triggers:
        """Hand out each edge once, with the first events that are not earlier."""
        if start == 0 or not hasattr(self, "_edges_done"):
            self._edges_done = 0
        first = self._edges_done
        if last_us is not None:
            self._edges_done = max(
                first, int(np.searchsorted(self._triggers.t_us, last_us, side="right"))
            )
        part = slice(first, self._edges_done)
        return Triggers(
            self._triggers.t_us[part], self._triggers.channel[part], self._triggers.edge[part]
        )

    def _rest(self, file: Any) -> Iterator[EventBatch]:
        part = slice(getattr(self, "_edges_done", 0), None)
        rest = Triggers(
            self._triggers.t_us[part], self._triggers.channel[part], self._triggers.edge[part]
        )
        if len(rest):
            yield self._batch(Events.empty(*self._size), rest)


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
            _from_seconds(self._path, stored)
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
    """MVSEC: ``davis/left/events`` of x, y, t in seconds, p in {-1, 1}; and pictures."""

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
        """Yield the pictures of the same camera."""
        if not self._frame_topic:
            return
        make = self._frame_maker()
        with opened(self._path) as file:
            images, times = file[self._frame_topic], file[f"{self._name}/image_raw_ts"]
            for i in range(min(len(images), len(times))):
                t_us = int(_from_seconds(self._path, np.array([times[i]], np.float64))[0])
                yield from make(images[i], t_us, t_us * 1000)


class ExportHdf5(TableHdf5):
    """The export of DDD20's tools: ``event`` of t in microseconds, x, y, p; and pictures."""

    layout = "ddd20-export"
    order = "txyp"

    def _check(self, file: Any) -> int:
        if {"frame", "frame_ts"} <= set(file.keys()):
            self._frame_topic = "frame"
        return super()._check(file)

    def frames(self) -> Iterator[Frame]:
        """Yield the pictures; their times are coarse, the file holds them as 32 bit seconds."""
        if not self._frame_topic:
            return
        make = self._frame_maker()
        with opened(self._path) as file:
            images, times = file["frame"], file["frame_ts"]
            for i in range(min(len(images), len(times))):
                seconds = np.asarray(times[i], np.float64).reshape(-1)[:1]
                t_us = int(_from_seconds(self._path, seconds)[0])
                yield from make(images[i], t_us, t_us * 1000)


class CaerHdf5(Hdf5Recording):
    """DDD17 and DDD20 as recorded: packets of cAER, one a row, of events or of a picture.

    Some recordings were made with the camera upside down; they are given as they are.
    """

    layout = "ddd17"
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
        """Yield the pictures, at 8 bits."""
        width, height = self._size
        make = self._frame_maker()
        with opened(self._path) as file:
            for row, kind, overflow, payload in self._packets(file, 0, self._rows):
                if kind != CAER_FRAME:
                    continue
                if len(payload) != CAER_FRAME_HEAD + 2 * width * height:
                    self._left_out_frames.add(f"the size of a picture is not {width}x{height}")
                    continue
                t_us = (overflow << 31) + struct.unpack_from("<I", payload, 8)[0]
                pixels = np.frombuffer(payload, "<u2", offset=CAER_FRAME_HEAD)
                stamp_ns = int(self._host_us[row]) * 1000
                yield from make(pixels.reshape(height, width), t_us, stamp_ns)


def _number(file: Any, name: str, group: Any) -> int:
    """Return a single number beside or in a group; 0 where there is none."""
    item = file.get(name, group.get(name))
    return 0 if item is None else int(np.asarray(item).reshape(-1)[0])


def _from_seconds(path: Path, seconds: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    t_us = np.rint(seconds.astype(np.float64) * 1e6)
    if not (np.abs(t_us) < TIME_LIMIT_US).all():  # False for NaN too
        raise RecordingError(f"{path} holds times that are no numbers or beyond 2^62 us")
    return t_us.astype(np.int64)
