"""Plain columns: what all such files have in common, and ``.npz`` files, read and written."""

from __future__ import annotations

import contextlib
import math
import struct
import tokenize
import zipfile
import zlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.decoders.base import MAX_SIDE
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.base import EventBatch, Recording, RecordingInfo
from evdistill_core.recordings.read_options import AS_THE_FILE_SAYS, ReadOptions
from evdistill_core.recordings.readers.bounded import PIECE_LIMIT_BYTES
from evdistill_core.recordings.readers.chips import camera_size

ZIP_MAGIC = b"PK\x03\x04"
BATCH_EVENTS = 65_536
TIME_LIMIT_US = 2.0**62
#: numbers in one row of an array of events; longer ones are none
MAX_ROW = 64
COLUMNS: Mapping[str, Any] = {"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.uint8}
TRIGGER_COLUMNS: Mapping[str, Any] = {
    "trigger_t": np.int64,
    "trigger_channel": np.uint8,
    "trigger_edge": np.uint8,
}
# What zipfile raises on damaged bytes; a damaged directory may claim encryption (RuntimeError), an
# unknown compression (NotImplementedError) or a negative place (OSError).
_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    OverflowError,
    MemoryError,
    UnicodeDecodeError,
)
Quad = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]


class ColumnsRecording(Recording):
    """What npz and text have in common: four columns and perhaps a frame size."""

    kind = ""

    #: which of ``ReadOptions`` mean something for this kind of file
    takes = frozenset({"columns", "time_unit", "size", "camera"})

    def __init__(self, path: Path, options: ReadOptions = AS_THE_FILE_SAYS) -> None:
        super().__init__()
        self._path = path
        self._options = options
        self._size = self._told_size() or self._guessed_size()

    def _told_size(self) -> tuple[int, int] | None:
        """Return width and height as the user says, or as the file does."""
        if self._options.size:
            return self._options.size
        if self._options.camera:
            return camera_size(self._path, self._options.camera)
        return self._stored_size()

    @abstractmethod
    def _stored_size(self) -> tuple[int, int] | None:
        """Return width and height where the file tells them."""

    @abstractmethod
    def _chunks(self) -> Iterator[Quad]:
        """Yield t_us, x, y, p in pieces."""

    def _triggers(self) -> Triggers:
        return Triggers.empty()

    def _checked_size(self, width: int, height: int) -> tuple[int, int]:
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise RecordingError(
                f"{self._path} says that its sensor has {width}x{height} pixels; "
                f"expected 1 .. {MAX_SIDE} each"
            )
        return width, height

    def _guessed_size(self) -> tuple[int, int]:
        """Take the largest coordinates; costs one pass over the file."""
        width = height = 1
        for _, x, y, _ in self._chunks():
            good = np.isfinite(x) & np.isfinite(y)
            if good.any():
                width = max(width, min(MAX_SIDE, int(x[good].max()) + 1))
                height = max(height, min(MAX_SIDE, int(y[good].max()) + 1))
        self._warn(
            f"the file does not tell the sensor's size; the largest coordinates give "
            f"{width}x{height}, the sensor may be larger (--size tells it)"
        )
        return width, height

    @property
    def info(self) -> RecordingInfo:
        """Size and number of events."""
        return self._describe(self.kind, self.kind)

    def _all_batches(self) -> Iterator[EventBatch]:
        return self._batches_of(self._chunks())

    def _batches_of(self, chunks: Iterator[Quad]) -> Iterator[EventBatch]:
        self._counts = Counter()
        triggers = self._triggers()
        handed = 0
        stamp_us = 0
        for t_us, x, y, p in chunks:
            events = self._checked(t_us, x, y, p)
            if not len(events):
                continue
            self._counts["messages"] += 1
            self._counts["events"] += len(events)
            stamp_us = int(events.t_us[-1])
            until = int(np.searchsorted(triggers.t_us, stamp_us, side="right"))
            until = max(until, handed)
            yield EventBatch(events, _part(triggers, handed, until), stamp_us * 1000)
            handed = until
        if handed < len(triggers):
            rest = _part(triggers, handed, len(triggers))
            stamp_us = int(rest.t_us[-1])
            yield EventBatch(Events.empty(*self._size), rest, stamp_us * 1000)

    def _checked(
        self,
        t_us: npt.NDArray[Any],
        x: npt.NDArray[Any],
        y: npt.NDArray[Any],
        p: npt.NDArray[Any],
    ) -> Events:
        """Convert one piece; events outside the frame are counted and left out."""
        width, height = self._size
        if not ((np.trunc(x) == x).all() and (np.trunc(y) == y).all()):
            self._warn("coordinates with fractions (or none at all) are rounded down or left out")
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        outside = len(x) - int(np.count_nonzero(inside))
        if outside:
            self._counts["out_of_frame"] += outside
            t_us, x, y, p = t_us[inside], x[inside], y[inside], p[inside]
        return Events.from_columns(x, y, t_us, p, width=width, height=height)


class NpzRecording(ColumnsRecording):
    """Columns ``t``, ``x``, ``y``, ``p`` of one length, read in pieces out of the zip.

    Integer ``t`` is microseconds, floating-point ``t`` is seconds. ``width`` and ``height`` are
    optional numbers, ``trigger_t``, ``trigger_channel``, ``trigger_edge`` optional columns. An
    (N, 4) array ``events`` of t, x, y, p (seconds) is read too.
    """

    kind = "npz"

    def __init__(self, path: Path, options: ReadOptions = AS_THE_FILE_SAYS) -> None:
        with self._zip(path) as archive:
            self._members = {name[:-4] for name in archive.namelist() if name.endswith(".npy")}
        if not (set(COLUMNS) <= self._members or "events" in self._members):
            raise RecordingError(
                f"{path} has the arrays {', '.join(sorted(self._members)) or '(none)'}; expected "
                "the columns t, x, y, p, or one (N, 4) array 'events' of t, x, y, p"
            )
        super().__init__(path, options)

    @staticmethod
    @contextlib.contextmanager
    def _zip(path: Path) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(path) as archive:
                yield archive
        except _ZIP_DAMAGE as error:
            raise RecordingError(f"{path} is cut off or damaged: {error}") from error

    def _stored_size(self) -> tuple[int, int] | None:
        if not {"width", "height"} <= self._members:
            return None
        with self._zip(self._path) as archive:
            sides = [_whole(archive, name).reshape(-1) for name in ("width", "height")]
        if any(len(side) != 1 for side in sides):
            raise RecordingError(f"{self._path}: width and height must be one number each")
        return self._checked_size(int(sides[0][0]), int(sides[1][0]))

    def _triggers(self) -> Triggers:
        if not set(TRIGGER_COLUMNS) <= self._members:
            return Triggers.empty()
        with self._zip(self._path) as archive:
            t, channel, edge = (_whole(archive, name) for name in TRIGGER_COLUMNS)
        if t.ndim != 1 or not t.shape == channel.shape == edge.shape:
            raise RecordingError(f"{self._path}: trigger columns must have one length")
        return Triggers(
            t.astype(np.int64, copy=False),
            channel.astype(np.uint8, copy=False),
            edge.astype(np.uint8, copy=False),
        )

    def _chunks(self) -> Iterator[Quad]:
        with self._zip(self._path) as archive:
            if not set(COLUMNS) <= self._members:
                for fraction, (table,) in _together(archive, ["events"], self._path):
                    self._fraction = fraction
                    if table.ndim != 2 or table.shape[1] != 4:
                        raise RecordingError(
                            f"{self._path}: array 'events' must be (N, 4), got {table.shape}"
                        )
                    yield (microseconds(table[:, 0]), table[:, 1], table[:, 2], table[:, 3])
                return
            for fraction, (t, x, y, p) in _together(archive, list(COLUMNS), self._path):
                self._fraction = fraction
                yield microseconds(t), x, y, p


def _read_header(member: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and dtype; refuse what would need unpickling or a whole read."""
    try:
        version = np.lib.format.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise RecordingError(f"array '{name}': npy version {version}, expected 1.0 or 2.0")
        shape, fortran, dtype = (
            np.lib.format.read_array_header_1_0(member)
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0(member)
        )
    except RecordingError:
        raise
    # NumPy evaluates the header as a Python literal: what that raises on nonsense is its own.
    except (ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError) as error:
        raise RecordingError(f"array '{name}' is no plain NumPy array: {error}") from error
    except tokenize.TokenError as error:
        raise RecordingError(f"array '{name}' is no plain NumPy array: {error}") from error
    sane = len(shape) <= 2 and all(0 <= side < 1 << 40 for side in shape)
    if not sane or math.prod(shape[1:]) > MAX_ROW:
        raise RecordingError(f"array '{name}' has the impossible shape {shape}")
    if dtype.hasobject or dtype.kind not in "iufb" or (fortran and len(shape) > 1):
        raise RecordingError(f"array '{name}' must be numbers in C order, got {dtype} {shape}")
    return shape, dtype


def _whole(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        shape, dtype = _read_header(member, name)
        count = math.prod(shape)
        if count * dtype.itemsize > PIECE_LIMIT_BYTES:
            raise RecordingError(f"array '{name}' has {count} numbers: too many to be that")
        data = member.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise RecordingError(f"array '{name}' is cut off: {len(data)} bytes for {count} numbers")
    return np.frombuffer(data, dtype).reshape(shape)


def _together(
    archive: zipfile.ZipFile, names: list[str], path: Path
) -> Iterator[tuple[float, list[npt.NDArray[Any]]]]:
    """Yield the same rows of several arrays, ``BATCH_EVENTS`` at a time.

    The first number is the fraction done after these rows.
    """
    with contextlib.ExitStack() as stack:
        members = [stack.enter_context(archive.open(f"{name}.npy")) for name in names]
        headers = [_read_header(m, n) for m, n in zip(members, names, strict=True)]
        lengths = {shape[0] if shape else 0 for shape, _ in headers}
        if len(lengths) != 1 or any(not shape for shape, _ in headers):
            shapes = {n: h[0] for n, h in zip(names, headers, strict=True)}
            raise RecordingError(f"{path}: columns must have one length, got {shapes}")
        if len(names) > 1 and any(len(shape) != 1 for shape, _ in headers):
            raise RecordingError(f"{path}: columns must be one number a row")
        left = total = lengths.pop()
        while left:
            count = min(left, BATCH_EVENTS)
            left -= count
            rows = []
            for member, (shape, dtype), name in zip(members, headers, names, strict=True):
                width = math.prod(shape[1:])
                data = member.read(count * width * dtype.itemsize)
                if len(data) != count * width * dtype.itemsize:
                    raise RecordingError(f"{path}: array '{name}' is cut off")
                rows.append(np.frombuffer(data, dtype).reshape((count, *shape[1:])))
            yield 1 - left / total, rows


def microseconds(t: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return times as microseconds: floating-point numbers are seconds, integers are not.

    Raises:
        RecordingError: a time is no number, or beyond 2^62 us.
    """
    if t.dtype.kind == "f":
        t_us = np.rint(t.astype(np.float64) * 1e6)
        if not (np.abs(t_us) < TIME_LIMIT_US).all():  # False for NaN too
            raise RecordingError("column t holds times that are no numbers or beyond 2^62 us")
        return t_us.astype(np.int64)
    if t.size and (int(t.min()) < -TIME_LIMIT_US or int(t.max()) > TIME_LIMIT_US):
        raise RecordingError("column t holds times beyond 2^62 us")
    return t.astype(np.int64)


def _part(triggers: Triggers, start: int, end: int) -> Triggers:
    span = slice(start, end)
    return Triggers(triggers.t_us[span], triggers.channel[span], triggers.edge[span])
