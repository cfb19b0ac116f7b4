"""Columns of events in HDF5 files: DSEC and M3ED, event_utils, Metavision, v2e."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.base import (
    EventBatch,
    Frame,
    checked_size,
)
from evdistill_core.recordings.readers.column_order import (
    Order,
    named_order,
    role_of,
    told_order,
)
from evdistill_core.recordings.readers.hdf5_base import (
    BATCH_ROWS,
    COLUMN_NAMES,
    COLUMN_SIZES,
    MAX_CHUNK_BYTES,
    SAMPLED_BLOCKS,
    Hdf5Recording,
    from_seconds,
    one_number,
    opened,
)
from evdistill_core.recordings.readers.hdf5_rows import (
    EcfRows,
    GroupRows,
    Rows,
    StructRows,
    TableRows,
    is_ecf,
)
from evdistill_core.recordings.readers.records import Fields
from evdistill_core.recordings.readers.time_unit import microseconds, told_unit


class ColumnsHdf5(Hdf5Recording):
    """A group of columns x, y, t, p; DSEC adds ``t_offset`` and ``ms_to_idx``."""

    layout = "dsec"
    takes = frozenset({"size", "camera", "time_unit"})

    def _check(self, file: Any) -> int:
        self._prepare(file)
        rows = self._rows_in(file)
        group = self._group(file)
        self._offset_us = one_number(file, "t_offset", group)
        self._unit = ""
        if len(rows):
            t = rows.read(0, min(len(rows), BATCH_ROWS))[0]
            given = self._options.time_unit
            self._unit = told_unit(t, given=given, named=self._named_unit, warn=self._warn)
        self._triggers = self._stored_triggers(group)
        return len(rows)

    _named_unit = ""

    def _prepare(self, file: Any) -> None:
        """Find out where the columns are; refuse what cannot be."""
        group = file[self._name]
        self._names = columns_of_group(group)
        lengths = {n: len(self._numbers(group[n], n)) for n in sorted(self._names.values())}
        if len(set(lengths.values())) != 1:
            raise RecordingError(f"{self._path}: columns must have one length, got {lengths}")
        self._named_unit = role_of(self._names["t"])[1]

    def _rows_in(self, file: Any) -> Rows:
        return GroupRows(file[self._name], self._names)

    def _group(self, file: Any) -> Any:
        """Return what holds the events and what stands beside them."""
        return file[self._name]

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
        rows = self._rows_in(file)
        width = height = 0
        for start in np.linspace(0, max(0, self._rows - BATCH_ROWS), SAMPLED_BLOCKS):
            end = min(int(start) + BATCH_ROWS // SAMPLED_BLOCKS, self._rows)
            if self._rows:
                _, x, y, _ = rows.read(int(start), end)
                width, height = max(width, int(x.max())), max(height, int(y.max()))
        fits = [s for s in COLUMN_SIZES if width < s[0] and height < s[1]]
        self._size = fits[0] if fits else (width + 1, height + 1)
        self._warn(
            f"the file does not hold the sensor's size; taken as {self._size[0]}x{self._size[1]} "
            "after a sample of its coordinates (set it with --size)"
        )
        return checked_size(self._path, *self._size)

    def _time_us(self, file: Any, row: int) -> int:
        return int(self._times(self._rows_in(file).time(row))[0])

    def _times(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        return microseconds(stored, self._unit, path=self._path) + self._offset_us

    def _row_at(self, file: Any, start_us: int) -> int:
        row = self._indexed_row(file, start_us)
        return super()._row_at(file, start_us) if row is None else row

    def _indexed_row(self, file: Any, start_us: int) -> int | None:
        """Look ``start_us`` up in ms_to_idx; ``None`` where that is missing or wrong."""
        index = file.get("ms_to_idx", self._group(file).get("ms_to_idx"))
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
        t, x, y, p = self._rows_in(file).read(start, end)
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


class EventUtilsHdf5(ColumnsHdf5):
    """event_utils: columns ``xs``, ``ys``, ``ts`` in seconds, ``ps``, and a dataset an image."""

    layout = "event-utils"

    def _prepare(self, file: Any) -> None:
        super()._prepare(file)
        if "images" in file and hasattr(file["images"], "keys") and len(file["images"]):
            self._frame_topic = "images"

    def frames(self) -> Iterator[Frame]:
        """Yield the images; those without a time are left out and counted."""
        if not self._frame_topic:
            return
        make = self._frame_maker()
        with opened(self._path) as file:
            for image in file["images"].values():
                if "timestamp" not in image.attrs:
                    self._left_out_frames.add("an image has no timestamp")
                    continue
                seconds = np.asarray(image.attrs["timestamp"], np.float64).reshape(-1)[:1]
                t_us = int(from_seconds(self._path, seconds)[0])
                yield from make(image, t_us, t_us * 1000)


class StructHdf5(ColumnsHdf5):
    """Metavision: structured datasets ``CD/events`` and ``EXT_TRIGGER/events``, packed or not."""

    layout = "metavision"

    def _prepare(self, file: Any) -> None:
        table = file[self._name]
        order = named_order(table.dtype.names)
        if order is None or table.ndim != 1:
            raise RecordingError(f"{self._path}: {self._name} has the fields {table.dtype.names}")
        self._order = order
        size = int(np.prod(table.chunks)) * table.dtype.itemsize if table.chunks else 0
        if size > MAX_CHUNK_BYTES:
            raise RecordingError(f"{self._path}: {self._name} has chunks of {table.chunks}")
        self._named_unit = order.unit

    def _rows_in(self, file: Any) -> Rows:
        table = file[self._name]
        return EcfRows(table) if is_ecf(table) else StructRows(table, self._order)

    def _group(self, file: Any) -> Any:
        return file[self._name].parent

    def _stored_triggers(self, group: Any) -> Triggers:
        stored = group.file.get("EXT_TRIGGER/events")
        if stored is None or not {"p", "t", "id"} <= set(stored.dtype.names or ()):
            return Triggers.empty()
        try:
            rows = stored[:]
        except OSError as error:
            self._warn(f"trigger edges are left out: {str(error).splitlines()[0]}")
            return Triggers.empty()
        return Triggers(
            rows["t"].astype(np.int64), rows["id"].astype(np.uint8), (rows["p"] > 0).astype("u1")
        )


class LooseTableHdf5(ColumnsHdf5):
    """A table ``events`` of rows of four numbers, as v2e writes it (t, x, y, p), and its frames."""

    layout = "table"
    takes = frozenset({"size", "camera", "time_unit", "columns"})

    def _prepare(self, file: Any) -> None:
        table = file[self._name]
        self._numbers(table, self._name, table.shape[1] if table.ndim == 2 else None)
        head = np.asarray(table[:BATCH_ROWS])
        given = self._options.columns
        self._order = Order(given or "txyp")
        if len(head):
            columns = [head[:, k] for k in range(head.shape[1])]
            self._order = told_order(self._path, columns, "txyp", given)
        if self._order.note:
            self._warn(self._order.note)
        if {"frame", "frame_ts"} <= set(self._group(file).keys()):
            self._frame_topic = "frame"

    def _rows_in(self, file: Any) -> Rows:
        return TableRows(file[self._name], self._order)

    def _group(self, file: Any) -> Any:
        return file[self._name].parent

    def _told_size(self, file: Any) -> tuple[int, int] | None:
        size = super()._told_size(file)
        if size is None and self._frame_topic and file["frame"].ndim == 3:
            height, width = file["frame"].shape[1:]
            return checked_size(self._path, int(width), int(height))
        return size

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that events were made of; their times are in the events' unit."""
        if not self._frame_topic:
            return
        make = self._frame_maker()
        with opened(self._path) as file:
            images, times = file["frame"], file["frame_ts"]
            for i in range(min(len(images), len(times))):
                t_us = int(self._times(np.asarray(times[i : i + 1]))[0])
                yield from make(images[i], t_us, t_us * 1000)


def columns_of_group(group: Any) -> dict[str, str]:
    """Return the names of t, x, y, p among the datasets of a group; nothing if one is missing."""
    names = [name for name in group if getattr(group.get(name), "shape", None)]
    if set(names) >= COLUMN_NAMES:
        return {name: name for name in COLUMN_NAMES}
    order = named_order(names)
    return {letter: names[order.letters.index(letter)] for letter in "txyp"} if order else {}
