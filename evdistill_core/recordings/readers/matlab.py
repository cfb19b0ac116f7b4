"""Matlab files: a table of N x 4, or a struct ``TD`` of x, y, p and ts.

Files up to version 7 are read whole (the format is one compressed block a variable); version 7.3 is
HDF5 and read in pieces. Structs whose polarities are 1 and 2 count rows and columns from 1 too, as
the tools of N-MNIST write them; so do those whose coordinates run from 1 to the size of a sensor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.base import RecordingInfo, TopicInfo
from evdistill_core.recordings.read_options import AS_THE_FILE_SAYS, ReadOptions
from evdistill_core.recordings.readers.chips import KNOWN_SIZES
from evdistill_core.recordings.readers.column_order import Order, refuse_order, told_order
from evdistill_core.recordings.readers.columns import BATCH_EVENTS, ColumnsRecording, Quad
from evdistill_core.recordings.readers.hdf5_base import opened
from evdistill_core.recordings.readers.matlab5 import load_variables
from evdistill_core.recordings.readers.time_unit import TIME_LIMIT_US, microseconds

MATLAB_MAGIC = b"MATLAB "
VERSION_73 = b"MATLAB 7.3"
#: All variables are in memory at once; beyond this a file must be saved as version 7.3.
WHOLE_LIMIT_BYTES = 1 << 28
SAMPLE_ROWS = 65_536
TIME_NAMES = ("ts", "t", "time", "timestamp")
Array = npt.NDArray[Any]
#: how to cut rows out of the columns t, x, y, p
Source = tuple[Array, Array, Array, Array]


class MatlabRecording(ColumnsRecording):
    """Events of one struct or table in a ``.mat`` file.

    Structs come before tables, ``TD`` before other structs, larger tables before smaller ones; the
    others can be chosen by name. Integer times are microseconds; times with fractions are seconds.

    Args:
        path: the file.
        topic: name of the variable; None: the first by the rule above.
        options: what the user said of the file.

    Raises:
        RecordingError: damaged, too large to read whole, or no events in it that we recognise.
    """

    kind = "matlab"

    def __init__(
        self,
        path: Path,
        topic: str | None = None,
        options: ReadOptions = AS_THE_FILE_SAYS,
    ) -> None:
        with path.open("rb") as file:
            self._is_hdf5 = file.read(len(VERSION_73)) == VERSION_73
        self._loaded: Mapping[str, Any] | None = None
        self._wanted = topic
        super().__init__(path, options)

    def _tell(self) -> None:
        with self._variables() as variables:
            self._streams = _events_first(self._path, variables)
            self._topic = _chosen(self._path, self._streams, self._wanted)
            self._order: Order | None = None
            value = variables[self._topic]
            if _is_struct(value):
                refuse_order(self._path, self._options.columns)
            else:
                self._order = _table_order(self._path, value, self._options.columns)
                if self._order.note:
                    self._warn(self._order.note)
            t = self._columns(value)[0]
            head = np.asarray(t[: min(len(t), SAMPLE_ROWS)])
            # Matlab's numbers are floating-point ones by default, whatever they count.
            self._is_whole = bool((np.trunc(head) == head).all())
            self._unit = self._told_unit(_whole(head) if self._is_whole else head)
            self._shift = _first_number(value)
        if self._wanted is None and len(self._streams) > 1:
            self._warn(
                f"events are taken from {self._topic}; --topic takes one of the others: "
                f"{', '.join(self._streams[1:])}"
            )

    def _columns(self, value: Any) -> Source:
        """Return t, x, y, p of the variable that was chosen."""
        if self._order is None:
            return _struct_columns(self._path, value)
        return self._order.pick([_Column(value, k) for k in range(len(self._order.letters))])

    @property
    def info(self) -> RecordingInfo:
        """Size, and every variable that holds events."""
        topics = tuple(TopicInfo(name, "events") for name in self._streams)
        return replace(super().info, topic=self._topic, topics=topics)

    def _stored_size(self) -> tuple[int, int] | None:
        return None

    @contextlib.contextmanager
    def _variables(self) -> Iterator[Mapping[str, Any]]:
        if self._is_hdf5:
            with opened(self._path) as file:
                yield _hdf5_tables(file)
        else:
            self._loaded = _load(self._path) if self._loaded is None else self._loaded
            yield self._loaded

    def _chunks(self) -> Iterator[Quad]:
        with self._variables() as variables:
            columns = self._columns(variables[self._topic])
            total = len(columns[0])
            for start in range(0, total, BATCH_EVENTS):
                rows = slice(start, min(start + BATCH_EVENTS, total))
                t, x, y, p = (np.asarray(c[rows]) for c in columns)
                self._fraction = rows.stop / total
                yield (
                    self._times(t),
                    x.astype(np.float64) - self._shift.place,
                    y.astype(np.float64) - self._shift.place,
                    p - self._shift.polarity,
                )

    def _times(self, t: Array) -> npt.NDArray[np.int64]:
        if not self._is_whole:
            return microseconds(t.astype(np.float64), self._unit, path=self._path)
        if t.dtype.kind == "f" and not (np.abs(t) < TIME_LIMIT_US).all():
            raise RecordingError(f"{self._path} holds times that are no numbers or beyond 2^62 us")
        return microseconds(t.astype(np.int64), self._unit, path=self._path)


@dataclass(frozen=True)
class _Shift:
    """What counting begins with: 0, or 1 as Matlab counts.

    Attributes:
        place: of columns and rows.
        polarity: of polarities.
    """

    place: int
    polarity: int


def _is_struct(value: Any) -> bool:
    return isinstance(value, Mapping)


def _events_first(path: Path, variables: Mapping[str, Any]) -> list[str]:
    """Return the names of variables that hold events, the one to take first."""
    structs = [n for n, v in variables.items() if _is_struct(v) and _time_name(v)]
    structs.sort(key=lambda name: name.lower() != "td")
    tables = [n for n, v in variables.items() if not _is_struct(v)]
    tables.sort(key=lambda name: -len(variables[name]))
    if not structs and not tables:
        lacking = next((n for n, v in variables.items() if _is_struct(v) and len(v)), None)
        near = ""
        if lacking is not None:
            missing = [n for n in ("x", "y", "p", "ts") if n not in variables[lacking]]
            near = f"; the struct {lacking} lacks {', '.join(missing)}"
        raise RecordingError(
            f"{path} holds {', '.join(variables) or 'nothing'}: expected a table of N x 4 "
            f"(t x y p, or x y t p) or a struct with x, y, p and ts{near}"
        )
    return structs + tables


def _chosen(path: Path, names: list[str], topic: str | None) -> str:
    if topic is not None and topic not in names:
        raise RecordingError(f"{path} has no events called '{topic}'; it has: {', '.join(names)}")
    return topic if topic is not None else names[0]


def _time_name(struct: Mapping[str, Any]) -> str | None:
    """Return the name of the times in a struct of events; None if it holds none."""
    time = next((n for n in TIME_NAMES if n in struct), None)
    return time if {"x", "y", "p"} <= set(struct) else None


def _struct_columns(path: Path, value: Any) -> Source:
    """Return t, x, y, p of a struct."""
    columns = (value[_time_name(value)], value["x"], value["y"], value["p"])
    lengths = {len(c) for c in columns}
    if len(lengths) != 1:
        raise RecordingError(f"{path}: columns must have one length, got {sorted(lengths)}")
    return columns


def _first_number(value: Any) -> _Shift:
    """Tell what a struct counts from.

    Polarities of 1 and 2 tell that everything counts from 1. So do columns and rows that begin at
    1 and end exactly at the size of a sensor that is in wide use. Tables count from 0.
    """
    if not _is_struct(value):
        return _Shift(0, 0)
    p = np.asarray(value["p"][: min(len(value["p"]), SAMPLE_ROWS)])
    if len(p) and p.min() >= 1 and p.max() == 2:
        return _Shift(1, 1)
    x, y = (np.asarray(value[name][: len(value[name])]) for name in "xy")
    from_one = len(x) > 0 and min(x.min(), y.min()) == 1 and (x.max(), y.max()) in KNOWN_SIZES
    return _Shift(int(from_one), 0)


def _table_order(path: Path, table: Any, given: str) -> Order:
    """Tell which column is which; both t x y p and x y t p are usual, so neither is warned of."""
    head = np.asarray(table[: min(len(table), SAMPLE_ROWS)])
    order = told_order(path, list(head.T), "txyp", given)
    return replace(order, note="") if order.letters == "xytp" else order


def _whole(times: Array) -> npt.NDArray[np.int64]:
    """Return whole numbers as such; what is beyond any time is cut to the limit."""
    return np.clip(times, -TIME_LIMIT_US, TIME_LIMIT_US).astype(np.int64)


class _Column:
    """One column of a table that may lie on disk."""

    def __init__(self, table: Any, index: int) -> None:
        self._table = table
        self._index = index

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, rows: slice) -> Array:
        return np.asarray(self._table[rows])[:, self._index]


def _load(path: Path) -> dict[str, Any]:
    if path.stat().st_size > WHOLE_LIMIT_BYTES:
        raise RecordingError(
            f"{path} has {path.stat().st_size >> 20} MB and can only be read whole: save it in "
            "Matlab with -v7.3"
        )
    variables = load_variables(path)
    return {
        name: value
        for name, value in variables.items()
        if isinstance(value, dict) or (value.ndim == 2 and value.shape[1] == 4)
    }


class _Transposed:
    """Matlab stores columns first: in HDF5 a table lies on its side."""

    def __init__(self, stored: Any) -> None:
        self._stored = stored

    def __len__(self) -> int:
        return int(self._stored.shape[1])

    def __getitem__(self, rows: slice) -> Array:
        return np.asarray(self._stored[:, rows]).T


class _Flat:
    """A row or a column of one number a cell."""

    def __init__(self, stored: Any) -> None:
        self._stored = stored

    def __len__(self) -> int:
        return int(np.prod(self._stored.shape))

    def __getitem__(self, rows: slice) -> Array:
        part = self._stored[0, rows] if self._stored.shape[0] == 1 else self._stored[rows, 0]
        return np.asarray(part)


def _hdf5_tables(file: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, item in file.items():
        if name.startswith("#"):
            continue
        if hasattr(item, "keys"):
            flat = {n: _Flat(v) for n, v in item.items() if _is_flat(v)}
            found[name] = flat
        elif item.ndim == 2 and item.shape[0] == 4 and item.dtype.kind in "iufb":
            found[name] = _Transposed(item)
    return found


def _is_flat(item: Any) -> bool:
    shape = getattr(item, "shape", None)
    return shape is not None and len(shape) == 2 and 1 in shape and item.dtype.kind in "iufb"
