"""Files of fixed-size event records: Prophesee DAT and the five bytes of N-MNIST.

They and AEDAT 2 are read in pieces through one loop; a format says where its records begin and what
their bits mean. Their clocks have 31 or 32 bits and are unwrapped by the half-range rule. A few
hundred times sampled over the file tell how often the clock has wrapped at any place, so a span is
read without what lies before it.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.decoders.base import (
    BACKWARD,
    MAX_SIDE,
    NO_TIME_YET,
    OUTSIDE,
    Columns,
    KernelArray,
    add_tally,
    put,
)
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.base import (
    REORDER_US,
    EventBatch,
    Recording,
    RecordingInfo,
    checked_size,
)
from evdistill_core.recordings.read_options import AS_THE_FILE_SAYS, ReadOptions
from evdistill_core.recordings.readers.bounded import zero_tail, zeros_left_out
from evdistill_core.recordings.readers.chips import camera_size

BATCH_RECORDS = 65_536
SEEK_SAMPLES = 1024
#: Longer than any header that a camera writes; what is no text by then is no header.
HEADER_LIMIT_BYTES = 1 << 20
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Fields:
    """Columns of some records: ``t_us`` unwrapped int64, ``x``, ``y`` and ``p`` of any integers."""

    t_us: Array
    x: Array
    y: Array
    p: Array


@dataclass(frozen=True)
class SeekTable:
    """Places in a file and the unwrapped time there.

    Attributes:
        places: (N,) int64, rising; number of a record, or an offset in bytes.
        t_us: (N,) int64, time of what lies there.
    """

    places: npt.NDArray[np.int64]
    t_us: npt.NDArray[np.int64]

    def before(self, t_us: int) -> tuple[int, int]:
        """Return the last place, and its time, before which nothing from ``t_us`` on lies."""
        newest = np.maximum.accumulate(self.t_us)
        at = int(np.searchsorted(newest, t_us - REORDER_US, side="right")) - 1
        at = max(at, 0)
        return int(self.places[at]), int(self.t_us[at])


class StreamRecording(Recording):
    """What all single-stream files have in common.

    Args:
        path: the file.
        kind: format, as ``info`` names it.
        encoding: of the events; the same as ``kind`` by default.
        options: what the user said of the file.

    Raises:
        RecordingError: an option that means nothing for this kind of file.
    """

    #: which of ``ReadOptions`` mean something for this kind of file
    takes: frozenset[str] = frozenset()

    def __init__(
        self,
        path: Path,
        kind: str,
        encoding: str = "",
        options: ReadOptions = AS_THE_FILE_SAYS,
    ) -> None:
        super().__init__()
        options.refuse_all_but(self.takes, path, f"a file of the kind {kind}")
        self._options = options
        self._path = path
        self._kind = kind
        self._encoding = encoding or kind
        self._size = (0, 0)

    @property
    def info(self) -> RecordingInfo:
        """What the header says."""
        return self._describe(self._kind, self._encoding)

    def _in_frame(self, fields: Fields) -> Events:
        """Return the events inside the frame; the others, and steps back in time, are counted."""
        width, height = self._size
        x, y = fields.x, fields.y
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        t_us, p = fields.t_us, fields.p
        if not inside.all():
            self._counts["out_of_frame"] += int(len(x) - np.count_nonzero(inside))
            t_us, x, y, p = t_us[inside], x[inside], y[inside], p[inside]
        self._counts["backward_time"] += int(np.count_nonzero(t_us[1:] < t_us[:-1]))
        return Events.from_columns(x, y, t_us, self._is_on(p), width=width, height=height)

    def _batch(self, events: Events, triggers: Triggers | None = None) -> EventBatch:
        """Count a batch; its stamp is the sensor time of the last thing in it."""
        triggers = Triggers.empty() if triggers is None else triggers
        self._counts["messages"] += 1
        self._counts["events"] += len(events)
        self._counts["triggers"] += len(triggers)
        last = [int(c[-1]) for c in (events.t_us, triggers.t_us) if len(c)]
        return EventBatch(events, triggers, max(last, default=0) * 1000)

    def _warn_guessed(self) -> None:
        self._warn(
            "the file does not hold the sensor's size; the largest coordinates give "
            f"{self._size[0]}x{self._size[1]}, the sensor may be larger (set it with --size)"
        )


class RecordsRecording(StreamRecording):
    """A header, then records of one size."""

    _dtype: np.dtype[Any]

    def __init__(
        self, path: Path, kind: str, data_at: int, options: ReadOptions = AS_THE_FILE_SAYS
    ) -> None:
        super().__init__(path, kind, options=options)
        self._data_at = data_at
        end = path.stat().st_size
        zeros = zero_tail(path, data_at)
        if zeros:
            self._warn(zeros_left_out(end - zeros, end))
        self._records, rest = divmod(max(end - zeros - data_at, 0), self._dtype.itemsize)
        if rest and not zeros:
            self._warn(f"cut off: the last {rest} bytes are no whole event and left out")
        # Where zeros begin, the last record may end in zeros of its own.
        self._records += bool(rest and zeros)
        self._table: SeekTable | None = None
        self._size = options.size or self._stored_size() or self._guessed_size()

    @abstractmethod
    def _stored_size(self) -> tuple[int, int] | None:
        """Return width and height where the file tells them."""

    @abstractmethod
    def _events(self, records: Array, t_us: Array) -> Events:
        """Take the bits of records apart; what is left out is counted."""

    def _raw_times(self, records: Array) -> npt.NDArray[np.uint32]:
        """Return the 32 bit clock of every record."""
        return np.asarray(records["t"], np.uint32)

    def _guessed_size(self) -> tuple[int, int]:
        """Take the largest coordinates."""
        self._size = self._extent()
        self._warn_guessed()
        return self._size

    def _extent(self) -> tuple[int, int]:
        """Return the smallest frame that holds all events; costs one pass over the file."""
        self._size = (MAX_SIDE, MAX_SIDE)
        width = height = 1
        for batch in self._all_batches():
            width = max(width, int(batch.events.x.max()) + 1)
            height = max(height, int(batch.events.y.max()) + 1)
        self._counts = Counter()
        return width, height

    def _pieces(self, start: int, t_us: int | None) -> Iterator[tuple[Array, Array, float]]:
        """Yield records, their unwrapped times and the fraction read, from record ``start`` on."""
        with self._path.open("rb") as file:
            file.seek(self._data_at + start * self._dtype.itemsize)
            last_us = t_us
            while start < self._records:
                records = read_records(file, self._dtype, min(BATCH_RECORDS, self._records - start))
                if not len(records):
                    raise RecordingError(f"{self._path} became shorter while it was read")
                start += len(records)
                times = unwrap(self._raw_times(records), last_us)
                last_us = int(times[-1])
                yield records, times, start / self._records

    def _all_batches(self) -> Iterator[EventBatch]:
        return self._batches_at(0, None)

    def _batches_from(self, start_us: int) -> Iterator[EventBatch]:
        if not self._records:
            return iter(())
        self._table = self._table or self._sampled()
        return self._batches_at(*self._table.before(start_us))

    def _batches_at(self, place: int, t_us: int | None) -> Iterator[EventBatch]:
        self._counts = Counter()
        for records, times, fraction in self._pieces(place, t_us):
            self._fraction = fraction
            events = self._events(records, times)
            if len(events):
                yield self._batch(events)

    def _sampled(self) -> SeekTable:
        """Read the times of evenly spread records."""
        places = np.unique(np.linspace(0, self._records - 1, SEEK_SAMPLES).astype(np.int64))
        raw = np.empty(len(places), np.uint32)
        with self._path.open("rb") as file:
            for i, place in enumerate(places):
                file.seek(self._data_at + int(place) * self._dtype.itemsize)
                raw[i] = self._raw_times(read_records(file, self._dtype, 1))[0]
        return SeekTable(places, unwrap(raw, None))


class DatRecording(RecordsRecording):
    """Prophesee DAT: text header, event type and size, then 64 bits an event.

    Version 1 has 9 bits of column and 8 of row, version 2 has 14 of both.
    """

    _dtype = np.dtype([("t", "<u4"), ("bits", "<u4")])
    #: event types of the header that hold polarity events
    EVENT_TYPES = (0x00, 0x0C)
    takes = frozenset({"size", "camera"})

    def __init__(self, path: Path, options: ReadOptions = AS_THE_FILE_SAYS) -> None:
        fields, data_at = text_header(path)
        self._header = fields
        with path.open("rb") as file:
            file.seek(data_at)
            kind = file.read(2)
        if len(kind) < 2 or kind[1] != self._dtype.itemsize or kind[0] not in self.EVENT_TYPES:
            raise RecordingError(
                f"{path}: a DAT file of polarity events has event type 0 or 12 and 8 bytes an "
                f"event after its header, got {list(kind)}. Was it written completely?"
            )
        version = fields.get("version", "").strip() or _dat_version(path, data_at + 2)
        if version not in {"1", "2"}:
            raise RecordingError(f"{path}: DAT version must be 1 or 2, got {version[:20]!r}")
        self._bits = (9, 8) if version == "1" else (14, 14)
        super().__init__(path, "dat", data_at + 2, options)

    def _stored_size(self) -> tuple[int, int] | None:
        if self._options.camera:
            return camera_size(self._path, self._options.camera)
        try:
            width, height = int(self._header["width"]), int(self._header["height"])
        except (KeyError, ValueError):
            return None
        return checked_size(self._path, width, height)

    def _events(self, records: Array, t_us: Array) -> Events:
        columns = Columns.room(len(records))
        tally = np.zeros(4, np.int64)
        width, height = self._size
        count = _unpack_dat(records["bits"], t_us, *self._bits, width, height, tally, columns)
        self._counts["out_of_frame"] += int(tally[OUTSIDE])
        self._counts["backward_time"] += int(tally[BACKWARD])
        return columns.events(count, width, height)


def _dat_version(path: Path, data_at: int) -> str:
    """Tell the version of a DAT file that does not: version 1 leaves the upper 14 bits unused."""
    with path.open("rb") as file:
        file.seek(data_at)
        head = read_records(file, DatRecording._dtype, BATCH_RECORDS)
    return "2" if len(head) and int(head["bits"].max()) >> 18 else "1"


@njit(nogil=True, cache=True)
def _unpack_dat(  # noqa: PLR0913, PLR0917 - columns, bits, a frame and two outputs
    bits: KernelArray,
    times: KernelArray,
    x_bits: int,
    y_bits: int,
    width: int,
    height: int,
    tally: KernelArray,
    columns: Columns,
) -> int:
    """Store every event and move on only behind one in the frame: no branches inside."""
    last_t: Any = NO_TIME_YET
    backward: Any = 0
    count: Any = 0
    for i in range(bits.size):
        word: Any = np.int64(bits[i])
        column = word & ((1 << x_bits) - 1)
        row = (word >> x_bits) & ((1 << y_bits) - 1)
        t: Any = times[i]
        put(columns, count, column, row, t, (word >> (x_bits + y_bits)) & 1)
        kept = (column < width) & (row < height)
        backward += kept & (t < last_t)
        last_t = t if kept else last_t
        count += kept
    add_tally(tally, 0, backward, bits.size - count, 0)
    return int(count)


class FiveByteRecording(RecordsRecording):
    """N-MNIST and N-Caltech101 (``.bin``, ``.bs2``): column, row, polarity and 23 bits of time.

    Row 240 marks an overflow of the clock: 2^13 microseconds are added from there on. The files
    have no header; ``matches`` says by which signs they are recognised.
    """

    _dtype = np.dtype([("x", "u1"), ("y", "u1"), ("t", "u1", 3)])
    OVERFLOW_ROW = 240
    OVERFLOW_US = 1 << 13
    SIZES = ((34, 34), (240, 180))
    SUFFIXES = (".bin", ".bs2")
    LEAST_EVENTS = 50

    takes = frozenset({"size"})

    def __init__(self, path: Path, options: ReadOptions = AS_THE_FILE_SAYS) -> None:
        super().__init__(path, "five-byte", 0, options)

    @classmethod
    def matches(cls, path: Path, head: bytes) -> bool:
        """Tell whether a file is made of such events.

        Its length is a multiple of five, and in the part given times never fall, lie in the first
        ten seconds at its start, and coordinates lie in the largest frame. Without one of the two
        suffixes at least 50 events must show it.
        """
        size = path.stat().st_size
        records = np.frombuffer(head[: len(head) // 5 * 5], cls._dtype)
        least = 1 if path.suffix.lower() in cls.SUFFIXES else cls.LEAST_EVENTS
        if size % 5 or len(records) < least:
            return False
        events = records[records["y"] != cls.OVERFLOW_ROW]
        time = cls._packed(events) & 0x7FFFFF
        inside = (events["x"] < 240) & (events["y"] < 180)
        return bool(inside.all() and (np.diff(time) >= 0).all() and len(time) and time.max() > 0)

    @staticmethod
    def _packed(records: Array) -> npt.NDArray[np.int64]:
        t = records["t"].astype(np.int64)
        packed: npt.NDArray[np.int64] = t[:, 0] << 16 | t[:, 1] << 8 | t[:, 2]
        return packed

    def _raw_times(self, records: Array) -> npt.NDArray[np.uint32]:
        time = self._packed(records) & 0x7FFFFF
        markers = np.cumsum(records["y"] == self.OVERFLOW_ROW)
        return np.asarray(time + markers * self.OVERFLOW_US, np.uint32)

    def _pieces(self, start: int, t_us: int | None) -> Iterator[tuple[Array, Array, float]]:
        offset_us = 0
        for records, times, fraction in super()._pieces(start, t_us):
            yield records, times + offset_us, fraction
            markers = int(np.count_nonzero(records["y"] == self.OVERFLOW_ROW))
            offset_us += markers * self.OVERFLOW_US

    def _batches_from(self, start_us: int) -> Iterator[EventBatch]:
        return self._all_batches()  # overflow marks count from the beginning; files are small

    def _stored_size(self) -> tuple[int, int] | None:
        return None

    def _guessed_size(self) -> tuple[int, int]:
        """Take the smallest frame of the two data sets that holds all events."""
        width, height = self._extent()
        return next((s for s in self.SIZES if width <= s[0] and height <= s[1]), self.SIZES[-1])

    def _events(self, records: Array, t_us: Array) -> Events:
        keep = records["y"] != self.OVERFLOW_ROW
        records, t_us = records[keep], t_us[keep]
        return self._in_frame(Fields(t_us, records["x"], records["y"], records["t"][:, 0] >> 7))


def unwrap(raw: npt.NDArray[np.uint32], last_us: int | None) -> npt.NDArray[np.int64]:
    """Unwrap a clock of 32 bits by the half-range rule.

    Args:
        raw: (N,) the clock.
        last_us: unwrapped time before the first of them; ``None`` starts at the first as it is.
    """
    if not len(raw):
        return np.empty(0, np.int64)
    t_us = np.empty(len(raw), np.int64)
    _unwrap(raw, int(raw[0]) if last_us is None else last_us, t_us)
    return t_us


@njit(nogil=True, cache=True)
def _unwrap(raw: KernelArray, last_us: int, t_us: KernelArray) -> None:
    t: Any = last_us
    for i in range(raw.size):
        t += np.int64(np.int32(raw[i] - np.uint32(t & 0xFFFFFFFF)))
        t_us[i] = t


def text_header(path: Path) -> tuple[dict[str, str], int]:
    """Read the ``% key value`` lines of a Prophesee file.

    Returns:
        Values by lower-case key, and where the data begin. A line ``% end`` ends the header;
        without one it ends before the first line that is none.

    Raises:
        RecordingError: there is no such header, or it has no end.
    """
    with path.open("rb") as file:
        head = file.read(HEADER_LIMIT_BYTES)
    fields: dict[str, str] = {}
    at = 0
    while head[at : at + 1] == b"%":
        end = head.find(b"\n", at)
        line = head[at : end if end >= 0 else None]
        if end < 0 or not re.fullmatch(rb"%[\t\x20-\x7e\x80-\xff]*\r?", line):
            break
        at = end + 1
        words = line[1:].decode("utf-8", "replace").split(maxsplit=1)
        if words and words[0].lower() == "end":
            break
        if words:
            fields[words[0].lower()] = words[1].strip() if len(words) > 1 else ""
    if not at:
        raise RecordingError(f"{path} has no '% key value' header: it is no Prophesee file")
    return fields, at


def read_records(file: IO[bytes], dtype: np.dtype[Any], count: int) -> Array:
    """Return up to ``count`` records from where the file stands."""
    data = file.read(count * dtype.itemsize)
    return np.frombuffer(data, dtype, len(data) // dtype.itemsize)
