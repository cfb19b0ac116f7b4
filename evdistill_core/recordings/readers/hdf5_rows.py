"""Rows of events in an HDF5 file: four datasets, a table, a structured dataset, or ECF chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.readers.bounded import PIECE_LIMIT_BYTES
from evdistill_core.recordings.readers.column_order import Order
from evdistill_core.recordings.readers.columns import Quad
from evdistill_core.recordings.readers.ecf import ECF_FILTER, decode_ecf

Array = npt.NDArray[Any]


class Rows(ABC):
    """Events by their place in the file."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, start: int, end: int) -> Quad:
        """Return t, x, y, p of some rows, as stored."""

    def time(self, row: int) -> Array:
        """Return the time of one row, (1,), as stored."""
        return self.read(row, row + 1)[0]


class GroupRows(Rows):
    """A dataset a column."""

    def __init__(self, group: Any, names: dict[str, str]) -> None:
        self._columns = [group[names[letter]] for letter in "txyp"]

    def __len__(self) -> int:
        return len(self._columns[0])

    def read(self, start: int, end: int) -> Quad:
        """Read the same rows of all four."""
        t, x, y, p = (np.asarray(column[start:end]) for column in self._columns)
        return t, x, y, p

    def time(self, row: int) -> Array:
        """Read the times alone."""
        return np.asarray(self._columns[0][row : row + 1])


class TableRows(Rows):
    """One dataset of rows of numbers."""

    def __init__(self, table: Any, order: Order) -> None:
        self._table, self._order = table, order

    def __len__(self) -> int:
        return len(self._table)

    def read(self, start: int, end: int) -> Quad:
        """Read whole rows."""
        rows = np.asarray(self._table[start:end])
        return self._order.pick([rows[:, k] for k in range(rows.shape[1])])


class StructRows(Rows):
    """One dataset of fields."""

    def __init__(self, table: Any, order: Order) -> None:
        self._table = table
        names = table.dtype.names
        self._names = [names[order.letters.index(letter)] for letter in "txyp"]

    def __len__(self) -> int:
        return len(self._table)

    def read(self, start: int, end: int) -> Quad:
        """Read whole rows."""
        rows = self._table[start:end]
        t, x, y, p = (rows[name] for name in self._names)
        return t, x, y, p


class EcfRows(Rows):
    """One dataset of fields in chunks of ECF, which HDF5 cannot unpack without a plug-in."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self._rows_a_chunk = int(table.chunks[0])
        self._number = -1
        self._chunk: Quad = (np.empty(0, np.int64),) * 4

    def __len__(self) -> int:
        return len(self._table)

    def read(self, start: int, end: int) -> Quad:
        """Unpack the chunks that the rows lie in."""
        size = self._rows_a_chunk
        parts = []
        for number in range(start // size, -(-end // size)):
            chunk = self._unpacked(number)
            low, high = max(start - number * size, 0), min(end - number * size, size)
            parts.append([column[low:high] for column in chunk])
        t, x, y, p = (np.concatenate(column) for column in zip(*parts, strict=True))
        return t, x, y, p

    def _unpacked(self, number: int) -> Quad:
        if number != self._number:
            first = number * self._rows_a_chunk
            stored = self._table.id.get_chunk_info_by_coord((first,)).size
            if stored > PIECE_LIMIT_BYTES:  # what the file claims is allocated before it is read
                raise RecordingError(f"chunk {number} of the events claims {stored} bytes: damaged")
            mask, data = self._table.id.read_direct_chunk((first,))
            if mask:  # the filter was skipped
                rows = np.frombuffer(data, self._table.dtype)
                self._chunk = rows["t"], rows["x"], rows["y"], rows["p"]
            else:
                self._chunk = decode_ecf(data)
            expected = min(self._rows_a_chunk, len(self) - first)
            if len(self._chunk[0]) < expected:
                raise RecordingError(
                    f"chunk {number} of the events holds {len(self._chunk[0])} of {expected} "
                    "events: damaged"
                )
            self._number = number
        return self._chunk


def is_ecf(table: Any) -> bool:
    """Tell whether a dataset is packed with ECF."""
    filters = table.id.get_create_plist()
    return any(filters.get_filter(i)[0] == ECF_FILTER for i in range(filters.get_nfilters()))
