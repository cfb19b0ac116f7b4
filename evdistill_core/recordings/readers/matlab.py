"""Matlab files: a table of N x 4, or a struct ``TD`` of x, y, p and ts.

Files up to version 7 are read whole (the format is one compressed block a variable); version 7.3 is
HDF5 and read in pieces. Structs whose polarities are 1 and 2 count rows and columns from 1 too, as
the tools of N-MNIST write them; all others count from 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.readers.columns import (
    BATCH_EVENTS,
    TIME_LIMIT_US,
    ColumnsRecording,
    Quad,
    microseconds,
)
from evdistill_core.recordings.readers.hdf5 import opened
from evdistill_core.recordings.readers.matlab5 import load_variables

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
    """Events of the largest table or of the struct in a ``.mat`` file.

    Integer times are microseconds; times with fractions are seconds.

    Raises:
        RecordingError: damaged, too large to read whole, or no events in it that we recognise.
    """

    kind = "matlab"

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._is_hdf5 = file.read(len(VERSION_73)) == VERSION_73
        self._loaded: Mapping[str, Any] | None = None
        super().__init__(path)

    def _stored_size(self) -> tuple[int, int] | None:
        return None

    def _chunks(self) -> Iterator[Quad]:
        if self._is_hdf5:
            with opened(self._path) as file:
                yield from self._pieces(_hdf5_tables(file))
        else:
            yield from self._pieces(self._tables())

    def _tables(self) -> Mapping[str, Any]:
        if self._loaded is None:
            self._loaded = _load(self._path)
        return self._loaded

    def _pieces(self, tables: Mapping[str, Any]) -> Iterator[Quad]:
        columns, shift = self._choose(tables)
        total = len(columns[0])
        head = np.asarray(columns[0][: min(total, SAMPLE_ROWS)], np.float64)
        seconds = bool((np.trunc(head) != head).any())
        for start in range(0, total, BATCH_EVENTS):
            rows = slice(start, min(start + BATCH_EVENTS, total))
            t, x, y, p = (np.asarray(c[rows]) for c in columns)
            self._fraction = rows.stop / total
            yield (
                self._times(t, seconds),
                x.astype(np.float64) - shift,
                y.astype(np.float64) - shift,
                p - shift,
            )

    def _times(self, t: Array, seconds: bool) -> npt.NDArray[np.int64]:
        if seconds:
            return microseconds(t.astype(np.float64))
        if t.dtype.kind == "f" and not (np.abs(t) < TIME_LIMIT_US).all():
            raise RecordingError(f"{self._path} holds times that are no numbers or beyond 2^62 us")
        return t.astype(np.int64)

    def _choose(self, tables: Mapping[str, Any]) -> tuple[Source, int]:
        """Return the columns, and what their counting begins with (0 or 1)."""
        for value in tables.values():
            if isinstance(value, Mapping):
                time = next((n for n in TIME_NAMES if n in value), None)
                if time and {"x", "y", "p"} <= set(value):
                    columns = (value[time], value["x"], value["y"], value["p"])
                    lengths = {len(c) for c in columns}
                    if len(lengths) != 1:
                        raise RecordingError(
                            f"{self._path}: columns must have one length, got {sorted(lengths)}"
                        )
                    return columns, _first_number(columns[3])
        found = [v for v in tables.values() if not isinstance(v, Mapping)]
        if not found:
            raise RecordingError(
                f"{self._path} holds {', '.join(tables) or 'nothing'}: expected a table of N x 4 "
                "(t x y p, or x y t p) or a struct with x, y, p and ts"
            )
        return _ordered(self._path, max(found, key=len)), 0


def _first_number(p: Array) -> int:
    """Return 1 for polarities 1 and 2, else 0."""
    sample = np.asarray(p[: min(len(p), SAMPLE_ROWS)])
    return int(len(sample) > 0 and sample.min() >= 1 and sample.max() == 2)


def _ordered(path: Path, table: Any) -> Source:
    """Tell ``t x y p`` from ``x y t p`` by which column rises."""
    sample = np.asarray(table[: min(len(table), SAMPLE_ROWS)], np.float64)
    rises = [(np.diff(sample[:, k]) >= 0).all() for k in (0, 2)]
    # A short recording of one row of pixels can rise in both: then the wider range is time.
    ranges = [np.ptp(sample[:, k]) if len(sample) else 0.0 for k in (0, 2)]
    if not any(rises):
        raise RecordingError(
            f"{path}: in its table neither column 1 nor column 3 rises as time does"
        )
    t_first = rises[0] and (not rises[1] or ranges[0] >= ranges[1])
    t, x, y = (0, 1, 2) if t_first else (2, 0, 1)
    columns = tuple(_Column(table, k) for k in (t, x, y, 3))
    return columns  # type: ignore[return-value]


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
