"""Text files of ``t x y p``, one event a line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.base import REORDER_US, EventBatch
from evdistill_core.recordings.read_options import AS_THE_FILE_SAYS, ReadOptions
from evdistill_core.recordings.readers.columns import (
    BATCH_EVENTS,
    ColumnsRecording,
    Quad,
    microseconds,
)
from evdistill_core.recordings.readers.records import SeekTable

#: characters of one line of text that are looked at
MAX_LINE = 256
#: lines that tell the unit of time
HEAD_LINES = 1000
SEEK_SAMPLES = 1024
#: samples are not closer than that: so much is read in a few ms
SEEK_BYTES = 1 << 16


class TextRecording(ColumnsRecording):
    """Lines of ``t x y p``: seconds when ``t`` has a decimal point, else microseconds.

    A first line of two numbers is the sensor's width and height; ``#`` starts a comment. A span is
    entered by times sampled over the file, if those never fall by more than ``REORDER_US``.
    """

    kind = "text"

    def __init__(self, path: Path, options: ReadOptions = AS_THE_FILE_SAYS) -> None:
        self._bytes = path.stat().st_size
        self._seconds = _tells_seconds(path)
        self._table: SeekTable | None = None
        super().__init__(path, options)

    @staticmethod
    def matches(head: bytes) -> bool:
        """Tell whether the first bytes of a file look like such text."""
        try:
            lines = head.decode("ascii").splitlines()
        except UnicodeDecodeError:
            return False
        rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
        if rows and len(rows[0]) == 2:
            rows = rows[1:]
        return bool(rows) and _is_row(rows[0])

    def _stored_size(self) -> tuple[int, int] | None:
        with self._path.open("rb") as file:
            for words in map(_words, _lines(file)):
                if len(words) == 2:
                    return self._checked_size(*self._whole_numbers(words))
                if words:
                    return None
        return None

    def _chunks(self) -> Iterator[Quad]:
        return self._chunks_at(0)

    def _chunks_at(self, place: int) -> Iterator[Quad]:
        """Yield what stands from the line on that begins at a byte."""
        with self._path.open("rb") as file:
            file.seek(place)
            begun = place > 0
            source = _lines(file)
            while lines := list(islice(source, BATCH_EVENTS)):
                rows = [words for line in lines if (words := _words(line))]
                if not begun and rows and len(rows[0]) == 2:
                    rows = rows[1:]
                begun = True
                columns = self._columns(rows, place)
                place = file.tell()
                self._fraction = min(1.0, place / self._bytes)
                yield columns

    def _batches_from(self, start_us: int) -> Iterator[EventBatch]:
        self._table = self._table or self._sampled()
        if not len(self._table.places):
            return self._all_batches()
        place, _ = self._table.before(start_us)
        return self._batches_of(self._chunks_at(place))

    def _sampled(self) -> SeekTable:
        """Read the times of lines spread over the file; nothing if they fall."""
        found: list[tuple[int, int]] = []
        with self._path.open("rb") as file:
            for aim in range(0, self._bytes, max(-(-self._bytes // SEEK_SAMPLES), SEEK_BYTES)):
                file.seek(aim)
                if aim:
                    next(_lines(file), None)  # the rest of a line
                place = file.tell()
                row = _words(next(_lines(file), b""))
                with contextlib.suppress(RecordingError):  # said where that line is to be read
                    t_us, *_ = self._columns([row], place)
                    found.append((place if found else 0, int(t_us[0])))
        places, times = np.array(found, np.int64).reshape(-1, 2).T
        if (np.maximum.accumulate(times) - times > REORDER_US).any():
            self._warn("times fall: a span is found by reading the whole file")
            return SeekTable(places[:0], times[:0])
        return SeekTable(places, times)

    def _whole_numbers(self, words: list[str]) -> list[int]:
        try:
            return [int(word) for word in words]
        except ValueError as error:
            raise RecordingError(
                f"{self._path}: its first line must be the sensor's width and height, got "
                f"{' '.join(words)[:80]!r}"
            ) from error

    def _columns(self, rows: list[list[str]], place: int) -> Quad:
        wrong = next((row for row in rows if len(row) != 4), None)
        where = f"{self._path}: expected four numbers 't x y p' a line, after byte {place}: "
        if wrong is not None:
            raise RecordingError(f"{where}got {' '.join(wrong)[:80]!r}")
        try:
            table = np.array([row[1:] for row in rows], np.float64).reshape(-1, 3)
            t_us = (
                microseconds(np.array([row[0] for row in rows], np.float64))
                if self._seconds
                else np.array([int(row[0]) for row in rows], np.int64)
            )
        except RecordingError:
            raise
        except (ValueError, OverflowError) as error:
            raise RecordingError(f"{where}{error}") from error
        return t_us, table[:, 0], table[:, 1], table[:, 2]


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield lines, cut where they get too long: a file may be one line of gigabytes."""
    while line := file.readline(MAX_LINE):
        yield line
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE)


def _words(line: bytes) -> list[str]:
    """Return the words of a line without its comment."""
    return line.split(b"#")[0].decode("ascii", "replace").split()


def _tells_seconds(path: Path) -> bool:
    """Tell whether any of the first times has a decimal point; the very first may be a plain 0."""
    with path.open("rb") as file:
        rows = map(_words, islice(_lines(file), HEAD_LINES))
        return any(set(".eE") & set(row[0]) for row in rows if len(row) == 4)


def _is_row(words: list[str]) -> bool:
    if len(words) != 4:
        return False
    try:
        [float(word) for word in words]
    except ValueError:
        return False
    return True
