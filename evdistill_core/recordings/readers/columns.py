"""Plain columns t, x, y, p: what all files of them have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.decoders.base import MAX_SIDE
from evdistill_core.recordings.base import EventBatch, Recording, RecordingInfo
from evdistill_core.recordings.read_options import AS_THE_FILE_SAYS, ReadOptions
from evdistill_core.recordings.readers.chips import camera_size
from evdistill_core.recordings.readers.time_unit import told_unit

BATCH_EVENTS = 65_536
Quad = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]


class ColumnsRecording(Recording):
    """What npz and text have in common: four columns and perhaps a frame size."""

    kind = ""
    #: which of ``ReadOptions`` mean something for this kind of file
    takes = frozenset({"columns", "time_unit", "size", "camera"})

    def __init__(self, path: Path, options: ReadOptions = AS_THE_FILE_SAYS) -> None:
        super().__init__()
        options.refuse_all_but(self.takes, path, f"a file of the kind {self.kind}")
        self._path = path
        self._options = options
        self._tell()
        self._size = self._told_size() or self._guessed_size()

    @abstractmethod
    def _tell(self) -> None:
        """Find out which column is which, and the unit of time."""

    def _told_unit(self, t: npt.NDArray[Any], named: str = "") -> str:
        """Return the unit of times, of which the first ones are given."""
        return told_unit(t, given=self._options.time_unit, named=named, warn=self._warn)

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

    def _guessed_size(self) -> tuple[int, int]:
        """Take the largest coordinates; costs one pass over the file."""
        width = height = 1
        for _, x, y, _ in self._chunks():
            # An event that no sensor sends is left out later; it says nothing of the size.
            good = (x < MAX_SIDE) & (y < MAX_SIDE) & (x >= 0) & (y >= 0)  # False for NaN
            if good.any():
                width = max(width, int(x[good].max()) + 1)
                height = max(height, int(y[good].max()) + 1)
        self._warn(
            f"the file does not hold the sensor's size; the largest coordinates give "
            f"{width}x{height}, the sensor may be larger (set it with --size)"
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
        if not (_is_whole(x) and _is_whole(y)):
            self._warn("coordinates with fractions (or none at all) are rounded down or left out")
            x, y = np.floor(x), np.floor(y)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        outside = len(x) - int(np.count_nonzero(inside))
        if outside:
            self._counts["out_of_frame"] += outside
            t_us, x, y, p = t_us[inside], x[inside], y[inside], p[inside]
        return Events.from_columns(x, y, t_us, self._is_on(p), width=width, height=height)


def _is_whole(column: npt.NDArray[Any]) -> bool:
    return column.dtype.kind != "f" or bool((np.trunc(column) == column).all())


def _part(triggers: Triggers, start: int, end: int) -> Triggers:
    span = slice(start, end)
    return Triggers(triggers.t_us[span], triggers.channel[span], triggers.edge[span])
