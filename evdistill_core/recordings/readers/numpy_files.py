"""NumPy files of events: ``.npz`` archives and single ``.npy`` arrays, read in pieces.

An archive holds one array a column, or one table; a table is (N, 4), (4, N) or structured. Nothing
is unpickled.
"""

from __future__ import annotations

import contextlib
import functools
import math
import struct
import tokenize
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Triggers
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.base import checked_size
from evdistill_core.recordings.readers.bounded import PIECE_LIMIT_BYTES
from evdistill_core.recordings.readers.column_order import (
    Order,
    lacking,
    named_order,
    refuse_order,
    role_of,
    told_order,
)
from evdistill_core.recordings.readers.columns import BATCH_EVENTS, ColumnsRecording, Quad
from evdistill_core.recordings.readers.time_unit import microseconds

ZIP_MAGIC = b"PK\x03\x04"
NPY_MAGIC = b"\x93NUMPY"
#: numbers in one row of an array of events; longer ones are none
MAX_ROW = 64
COLUMNS: Mapping[str, Any] = {"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.uint8}
TRIGGER_COLUMNS: Mapping[str, Any] = {
    "trigger_t": np.int64,
    "trigger_channel": np.uint8,
    "trigger_edge": np.uint8,
}
#: files of so many events stay in memory while they are open: 32 MB at most in int64
KEPT_EVENTS = 1_000_000
#: the usual order of a table
TABLE_ORDER = "txyp"
#: fields of the bounding boxes that go with Prophesee's data sets
BOX_FIELDS = frozenset({"w", "h", "class_id"})
# What zipfile raises on damaged bytes; a damaged directory may claim encryption (RuntimeError), an
# unknown compression (NotImplementedError) or a negative place (OSError).
ZIP_DAMAGE = (
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
Array = npt.NDArray[Any]
Opener = Callable[[], IO[bytes]]


@dataclass(frozen=True)
class Header:
    """What stands before the numbers of an array.

    Attributes:
        shape: of the array.
        dtype: of one element.
        fortran: columns are stored one behind the other.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def is_table(self) -> bool:
        """Whether rows of several numbers can be taken out of it."""
        return self.dtype.names is not None or (len(self.shape) == 2 and min(self.shape) > 1)

    @property
    def is_sideways(self) -> bool:
        """Whether whole columns lie one behind the other, as in the transpose of (4, N)."""
        if self.dtype.names is not None or len(self.shape) != 2:
            return False
        rows, columns = self.shape
        if self.fortran:
            return columns <= MAX_ROW
        return columns > MAX_ROW and len(TABLE_ORDER) <= rows <= MAX_ROW

    @property
    def width(self) -> int:
        """Numbers in one row, however the table lies."""
        if len(self.shape) != 2:
            return 1
        return self.shape[0] if self.is_sideways != self.fortran else self.shape[1]

    @property
    def length(self) -> int:
        """Rows."""
        return math.prod(self.shape) // max(1, self.width)


class NumpyRecording(ColumnsRecording):
    """What ``.npz`` and ``.npy`` have in common."""

    #: all rows of a small file, which is unpacked once and not for each pass over it
    _kept: list[tuple[float, list[Array]]] | None = None

    def _tell(self) -> None:
        self._order = Order(TABLE_ORDER)
        self._unit = ""
        with self._opened() as openers:
            self._arrays, named = self._chosen(openers)
            rows = self._rows(openers)
            head = next(rows, None)
            if head is not None and len(head[1][0]) <= head[0] * KEPT_EVENTS:
                self._kept = [head, *rows]
        if named is not None:
            self._order = named
        if head is not None:
            given = self._options.columns
            self._order = named or told_order(self._path, head[1], TABLE_ORDER, given)
            self._unit = self._told_unit(self._order.pick(head[1])[0], self._order.unit)
        if self._order.note:
            self._warn(self._order.note)

    @abstractmethod
    def _opened(self) -> contextlib.AbstractContextManager[Mapping[str, Opener]]:
        """Open the file; give what opens each array in it, by name."""

    @abstractmethod
    def _chosen(self, openers: Mapping[str, Opener]) -> tuple[list[str], Order | None]:
        """Return the arrays of the events, and the order of columns where names tell it."""

    def _rows(self, openers: Mapping[str, Opener]) -> Iterator[tuple[float, list[Array]]]:
        return _columns_of({name: openers[name] for name in self._arrays}, self._path)

    def _chunks(self) -> Iterator[Quad]:
        with contextlib.ExitStack() as stack:
            pieces: Iterable[tuple[float, list[Array]]] | None = self._kept
            if pieces is None:
                pieces = self._rows(stack.enter_context(self._opened()))
            for fraction, columns in pieces:
                self._fraction = fraction
                t, x, y, p = self._order.pick(columns)
                yield microseconds(t, self._unit, path=self._path), x, y, p


class NpzRecording(NumpyRecording):
    """Columns of one length, or one table, read in pieces out of the zip.

    Columns are called ``t``, ``x``, ``y``, ``p`` or by the usual other names. ``width`` and
    ``height`` are optional numbers, ``trigger_t``, ``trigger_channel``, ``trigger_edge`` optional
    columns. A table is the array ``events``, or the only one there is.
    """

    kind = "npz"

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Mapping[str, Opener]]:
        with opened_zip(self._path) as archive:
            yield {
                name[:-4]: functools.partial(archive.open, name)
                for name in archive.namelist()
                if name.endswith(".npy")
            }

    def _chosen(self, openers: Mapping[str, Opener]) -> tuple[list[str], Order | None]:
        self._members = frozenset(openers)
        roles = {name: role_of(name) for name in openers}
        columns = [n for n, (letter, _) in roles.items() if letter]
        exact = [n for n in COLUMNS if n in openers]
        if len(exact) == len(COLUMNS):
            columns = exact
        order = named_order(columns)
        if order is not None and not self._options.columns:
            return columns, order
        tables = {
            name: header for name, opener in openers.items() if (header := _table(opener, name))
        }
        name = "events" if "events" in openers else next(iter(tables), "")
        if len(tables) > 1 and name != "events":
            raise RecordingError(
                f"{self._path} holds several tables: {', '.join(tables)}. Which one is the events "
                "is not clear; name it 'events'"
            )
        if not name:
            raise RecordingError(self._refusal(columns, sorted(openers)))
        fields = _header_of(openers[name], name).dtype.names
        return [name], _field_order(self._path, fields, self._options.columns) if fields else None

    def _refusal(self, columns: list[str], names: list[str]) -> str:
        if self._options.columns and len(columns) >= len(COLUMNS):
            refuse_order(self._path, self._options.columns)
        near = ""
        if len(columns) > 1:
            near = f" It looks like columns of events but lacks {lacking(columns)}."
        return (
            f"{self._path} has the arrays {', '.join(names) or '(none)'}; expected the columns t, "
            f"x, y, p, or one (N, 4) array 'events' of t, x, y, p.{near}"
        )

    def _stored_size(self) -> tuple[int, int] | None:
        if not {"width", "height"} <= self._members:
            return None
        with opened_zip(self._path) as archive:
            sides = [_whole(archive, name).reshape(-1) for name in ("width", "height")]
        if any(len(side) != 1 for side in sides):
            raise RecordingError(f"{self._path}: width and height must be one number each")
        return checked_size(self._path, int(sides[0][0]), int(sides[1][0]))

    def _triggers(self) -> Triggers:
        if not set(TRIGGER_COLUMNS) <= self._members:
            return Triggers.empty()
        with opened_zip(self._path) as archive:
            t, channel, edge = (_whole(archive, name) for name in TRIGGER_COLUMNS)
        if t.ndim != 1 or not t.shape == channel.shape == edge.shape:
            raise RecordingError(f"{self._path}: trigger columns must have one length")
        return Triggers(
            t.astype(np.int64, copy=False),
            channel.astype(np.uint8, copy=False),
            edge.astype(np.uint8, copy=False),
        )


class NpyRecording(NumpyRecording):
    """One array: structured, as tonic and Metavision have it, or a table of N x 4."""

    kind = "npy"

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Mapping[str, Opener]]:
        with contextlib.ExitStack() as stack:
            yield {"events": lambda: stack.enter_context(self._path.open("rb"))}

    def _chosen(self, openers: Mapping[str, Opener]) -> tuple[list[str], Order | None]:
        try:
            header = _header_of(openers["events"], "events")
        except RecordingError as error:
            raise RecordingError(f"{self._path}: {error}. {_NO_EVENTS}") from error
        names = header.dtype.names
        if names and set(names) >= BOX_FIELDS:
            raise RecordingError(
                f"{self._path} holds bounding boxes, no events: they are labels, which "
                "`evdistill report` takes"
            )
        if not header.is_table:
            raise RecordingError(f"{self._path} has the shape {header.shape}. {_NO_EVENTS}")
        return ["events"], _field_order(self._path, names, self._options.columns) if names else None

    def _stored_size(self) -> tuple[int, int] | None:
        return None


_NO_EVENTS = (
    "Events are an (N, 4) table or a structured array of t, x, y, p. Ev-SegNet's release holds "
    "counts and times of windows: evdistill_core.data.ev_segnet reads that data set"
)


@contextlib.contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; what zipfile says about damage becomes our error."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except ZIP_DAMAGE as error:
        raise RecordingError(f"{path} is cut off or damaged: {error}") from error


def _field_order(path: Path, names: tuple[str, ...], given: str) -> Order:
    refuse_order(path, given)
    order = named_order(names)
    if order is None:
        raise RecordingError(
            f"{path} looks like a structured array of events with the fields {', '.join(names)}, "
            f"but lacks {lacking(names) or 'one of each of t, x, y, p'}"
        )
    return order


def _table(opener: Opener, name: str) -> Header | None:
    """Return the header of an array that can be a table of events; None for others."""
    try:
        header = _header_of(opener, name)
    except RecordingError:
        return None
    return header if header.is_table else None


def _header_of(opener: Opener, name: str) -> Header:
    with opener() as member:
        return _read_header(member, name)


def _read_header(member: IO[bytes], name: str) -> Header:
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
    header = Header(shape, dtype, fortran and len(shape) > 1)
    sane = len(shape) <= 2 and all(0 <= side < 1 << 40 for side in shape)
    if not sane or header.width > MAX_ROW or dtype.itemsize > 8 * MAX_ROW:
        raise RecordingError(f"array '{name}' has the impossible shape {shape}")
    if not _is_numbers(dtype) or (dtype.names and len(shape) != 1):
        raise RecordingError(f"array '{name}' must be numbers, got {dtype} {shape}")
    return header


def _is_numbers(dtype: np.dtype[Any]) -> bool:
    if dtype.hasobject:
        return False
    if dtype.names is None:
        return dtype.kind in "iufb"
    return all(dtype[name].kind in "iufb" and not dtype[name].shape for name in dtype.names)


def _whole(archive: zipfile.ZipFile, name: str) -> Array:
    with archive.open(f"{name}.npy") as member:
        header = _read_header(member, name)
        count = math.prod(header.shape)
        if count * header.dtype.itemsize > PIECE_LIMIT_BYTES:
            raise RecordingError(f"array '{name}' has {count} numbers: too many to be that")
        data = member.read(count * header.dtype.itemsize)
    if len(data) != count * header.dtype.itemsize:
        raise RecordingError(f"array '{name}' is cut off: {len(data)} bytes for {count} numbers")
    return np.frombuffer(data, header.dtype).reshape(header.shape)


def _columns_of(openers: Mapping[str, Opener], path: Path) -> Iterator[tuple[float, list[Array]]]:
    """Yield the same rows of every column, ``BATCH_EVENTS`` at a time.

    The first number is the fraction done after these rows. A single array is a table, and its
    columns are given.
    """
    with contextlib.ExitStack() as stack:
        headers = {name: _header_of(opener, name) for name, opener in openers.items()}
        if len(openers) == 1:
            (name,) = openers
            yield from _rows_of_table(stack, openers[name], headers[name], path)
            return
        shapes = {name: header.shape for name, header in headers.items()}
        if len({shape[:1] for shape in shapes.values()}) != 1 or () in shapes.values():
            raise RecordingError(f"{path}: columns must have one length, got {shapes}")
        if any(len(shape) != 1 for shape in shapes.values()):
            raise RecordingError(f"{path}: columns must be one number a row")
        members = [
            _Member(stack.enter_context(opener()), name, path) for name, opener in openers.items()
        ]
        for start, count, total in _pieces(next(iter(shapes.values()))[0]):
            yield (start + count) / total, [member.read(count) for member in members]


def _rows_of_table(
    stack: contextlib.ExitStack, opener: Opener, header: Header, path: Path
) -> Iterator[tuple[float, list[Array]]]:
    names, width = header.dtype.names, header.width
    if names is None and (len(header.shape) != 2 or width < len(TABLE_ORDER)):
        raise RecordingError(f"{path}: array 'events' must be (N, 4), got {header.shape}")
    if header.is_sideways:
        members = []
        for k in range(width):
            member = _Member(stack.enter_context(opener()), "events", path)
            member.skip(k * header.length)
            members.append(member)
        for start, count, total in _pieces(header.length):
            yield (start + count) / total, [member.read(count) for member in members]
        return
    member = _Member(stack.enter_context(opener()), "events", path)
    for start, count, total in _pieces(header.length):
        if names is not None:
            rows = member.read(count)
            yield (start + count) / total, [rows[name] for name in names]
        else:
            table = member.read(count * width).reshape(count, width)
            yield (start + count) / total, [table[:, k] for k in range(width)]


def _pieces(length: int) -> Iterator[tuple[int, int, int]]:
    for start in range(0, length, BATCH_EVENTS):
        yield start, min(BATCH_EVENTS, length - start), length


class _Member:
    """Numbers of one array, read in order."""

    def __init__(self, file: IO[bytes], name: str, path: Path) -> None:
        self._file, self._name, self._path = file, name, path
        self._dtype = _read_header(file, name).dtype

    def read(self, count: int) -> Array:
        data = self._file.read(count * self._dtype.itemsize)
        if len(data) != count * self._dtype.itemsize:
            raise RecordingError(f"{self._path}: array '{self._name}' is cut off")
        return np.frombuffer(data, self._dtype)

    def skip(self, count: int) -> None:
        """Step over numbers; packed ones have to be read."""
        left = count * self._dtype.itemsize
        while left:
            piece = self._file.read(min(left, PIECE_LIMIT_BYTES >> 8))
            if not piece:
                raise RecordingError(f"{self._path}: array '{self._name}' is cut off")
            left -= len(piece)
