"""DDD17 as ESS distributes it: a folder with ``events.dat.t`` and ``events.dat.xyp``.

Times are int64 nanoseconds, the other file int16 rows of x, y, p. Both are mapped, not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.base import REORDER_US, EventBatch
from evdistill_core.recordings.read_options import AS_THE_FILE_SAYS, ReadOptions
from evdistill_core.recordings.readers.records import Fields, StreamRecording

TIMES, PLACES = "events.dat.t", "events.dat.xyp"
DAVIS346 = (346, 260)
BATCH_ROWS = 65_536


class EssFolder(StreamRecording):
    """Events of one ``dir0`` .. ``dir6``.

    Raises:
        RecordingError: the two files do not belong together.
    """

    def __init__(self, path: Path, options: ReadOptions = AS_THE_FILE_SAYS) -> None:
        super().__init__(path, "ess-ddd17", options=options)
        self._size = DAVIS346
        counts = (path / TIMES).stat().st_size / 8, (path / PLACES).stat().st_size / 6
        if counts[0] != counts[1] or not counts[0].is_integer():
            raise RecordingError(
                f"{path}: {TIMES} holds {counts[0]:g} events of 8 bytes, {PLACES} {counts[1]:g} of "
                "6: one of them is cut off"
            )
        self._rows = int(counts[0])

    @staticmethod
    def matches(path: Path) -> bool:
        """Tell whether a folder holds the two files."""
        return (path / TIMES).is_file() and (path / PLACES).is_file()

    def _all_batches(self) -> Iterator[EventBatch]:
        return self._batches_at(None)

    def _batches_from(self, start_us: int) -> Iterator[EventBatch]:
        return self._batches_at(start_us)

    def _batches_at(self, start_us: int | None) -> Iterator[EventBatch]:
        self._counts = Counter()
        if not self._rows:
            return
        t_ns = np.memmap(self._path / TIMES, "<i8", "r")
        places = np.memmap(self._path / PLACES, "<i2", "r").reshape(-1, 3)
        row = 0
        if start_us is not None:
            row = int(np.searchsorted(t_ns, (start_us - REORDER_US) * 1000))
        while row < self._rows:
            end = min(row + BATCH_ROWS, self._rows)
            part = np.asarray(places[row:end])
            t_us = np.asarray(t_ns[row:end]) // 1000
            events = self._in_frame(Fields(t_us, part[:, 0], part[:, 1], part[:, 2]))
            self._fraction = end / self._rows
            row = end
            if len(events):
                yield self._batch(events)
