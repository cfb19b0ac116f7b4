"""Write events as text: ``.txt`` of ``t x y p`` lines, ``.csv`` with a header."""

from __future__ import annotations

import contextlib
from pathlib import Path

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.files import FinishedBlock, atomic_path

CSV_HEAD = "# width=%d height=%d\nt_us,x,y,p\n"
BATCH_EVENTS = 65_536


class TextWriter(FinishedBlock):
    """One event a line: microseconds, column, row, polarity 0 or 1.

    A ``.txt`` file begins with the sensor's width and height, as we read it. A ``.csv`` file begins
    with a comment that tells them, and the names of the columns: ``pandas.read_csv`` and
    ``numpy.loadtxt`` skip the comment with ``comment="#"`` and ``comments="#"``.

    Args:
        path: the file to make; it appears only when the block ends well.
        width: columns of the sensor.
        height: rows of the sensor.

    Attributes:
        written_bytes: on disk so far.
    """

    def __init__(self, path: Path, *, width: int, height: int) -> None:
        self._path = path
        is_csv = path.suffix == ".csv"
        self._head = CSV_HEAD % (width, height) if is_csv else f"{width} {height}\n"
        self._line = "%d,%d,%d,%d\n" if is_csv else "%d %d %d %d\n"
        self.written_bytes = 0

    def __enter__(self) -> TextWriter:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._stack = contextlib.ExitStack()
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._file = self._stack.enter_context(temporary.open("w", encoding="ascii", newline=""))
        self.written_bytes = self._file.write(self._head)
        return self

    def write(self, events: Events, triggers: Triggers) -> None:
        """Append events; triggers have no place here."""
        del triggers
        for start in range(0, len(events), BATCH_EVENTS):
            part = events[start : start + BATCH_EVENTS]
            columns = (c.tolist() for c in (part.t_us, part.x, part.y, part.p))
            text = "".join(map(self._line.__mod__, zip(*columns, strict=True)))
            self.written_bytes += self._file.write(text)
