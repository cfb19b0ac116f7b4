"""The video and the contact sheet of a run, drawn in a thread of their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evdistill_core.drawing.colours import Image
from evdistill_core.drawing.films import FilmWriter
from evdistill_core.drawing.overlay import legend
from evdistill_core.drawing.sheets import contact_sheet, write_image
from evdistill_core.foundation.errors import EvdistillError
from evdistill_core.foundation.files import FinishedBlock
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.foundation.worker import BoundedQueue, Worker

FILM = "overlay.mp4"
SHEET = "overlay.png"
MAX_RATE_HZ = 60
"""No screen shows more; windows that come faster are thinned."""

_SHEET_PICTURES = 12
_QUEUE_ITEMS = 512
_QUEUE_BYTES = 1 << 27
# Stamps follow a clock that is estimated: so many windows may come closer than the rate allows.
_BURST = 3.0


@dataclass
class PictureCounts:
    """How many windows are in the video, and why the others are not.

    Attributes:
        drawn: windows in the video.
        above_rate: left out because windows came faster than ``MAX_RATE_HZ``.
        too_slow: left out because drawing was slower than computing.
    """

    drawn: int = 0
    above_rate: int = 0
    too_slow: int = 0


@dataclass(frozen=True, eq=False)
class _Task:
    draw: Callable[[], Image]
    stamp_ns: int
    caption: str


class ResultPictures(FinishedBlock):
    """Draws ``overlay.mp4`` and ``overlay.png`` beside the computation: a context manager.

    Nothing appears when the block ends by an error.

    Args:
        folder: where.
        classes: for the legends of video and sheet; None: theirs have the events' colours alone.
        has_legend: pictures come with a legend of their own.

    Attributes:
        counts: of windows; final when the block has ended.
    """

    def __init__(
        self, folder: Path, classes: ClassTable | None = None, *, has_legend: bool = False
    ) -> None:
        self._classes = classes
        self._has_legend = has_legend
        self._strip: Image | None = None
        self.counts = PictureCounts()
        self._folder = folder
        self._stack = ExitStack()
        self._queue: BoundedQueue[_Task] = BoundedQueue(
            max_items=_QUEUE_ITEMS, max_bytes=_QUEUE_BYTES
        )
        self._worker = Worker("pictures", self._work, self._fail)
        self._samples = _Samples(2 * _SHEET_PICTURES)
        self._last_ns: int | None = None
        self._credit = _BURST
        self._failure: Exception | None = None
        self._failure_report = ""

    def __enter__(self) -> ResultPictures:
        self._film = self._stack.enter_context(FilmWriter(self._folder / FILM))
        self._stack.callback(self._stop)
        self._worker.start()
        return self

    def _finish(self) -> None:
        self._queue.close()
        self._worker.join()
        self._check()
        self._write_sheet()

    def _stop(self) -> None:
        self._queue.close()
        self._queue.clear()
        self._worker.join()

    def add(
        self,
        draw: Callable[[], Image],
        stamp_ns: int,
        caption: str,
        *,
        size_bytes: int,
        wait: bool = False,
    ) -> None:
        """Have a window drawn later; returns at once.

        Args:
            draw: makes the picture, (H, W, 3) uint8 BGR; called in the thread of the pictures.
            stamp_ns: of the window.
            caption: for the sheet.
            size_bytes: of what ``draw`` holds.
            wait: wait for room instead of leaving the window out.

        Raises:
            OSError: an earlier picture could not be written.
        """
        self._check()
        if self._is_too_soon(stamp_ns):
            self.counts.above_rate += 1
            return
        task = _Task(draw, stamp_ns, caption)
        enter = self._queue.put if wait else self._queue.try_put
        if not enter(task, size_bytes):
            self._check()
            self.counts.too_slow += 1

    def _is_too_soon(self, stamp_ns: int) -> bool:
        """Tell whether windows come faster than ``MAX_RATE_HZ``; one that is early may pass."""
        elapsed_s = (stamp_ns - self._last_ns) / 1e9 if self._last_ns is not None else 0.0
        self._last_ns = stamp_ns
        gained = elapsed_s * MAX_RATE_HZ if elapsed_s >= 0 else _BURST  # fell: a new beginning
        self._credit = min(self._credit + gained, _BURST)
        if self._credit < 1.0:
            return True
        self._credit -= 1.0
        return False

    def _work(self) -> None:
        while not self._queue.is_finished:
            taken = self._queue.get()
            if taken is None:
                continue
            task, _ = taken
            picture = task.draw()
            self._film.add(self._with_legend(picture), task.stamp_ns // 1000)
            self._samples.add(picture, task.caption)
            self.counts.drawn += 1

    def _fail(self, report: str, error: Exception) -> None:
        self._failure_report, self._failure = report, error
        self._queue.close()
        self._queue.clear()

    def _check(self) -> None:
        if isinstance(self._failure, EvdistillError | OSError):
            raise self._failure
        if self._failure is not None:
            raise RuntimeError(self._failure_report) from self._failure

    def _write_sheet(self) -> None:
        chosen = self._samples.choose(_SHEET_PICTURES)
        if not chosen:
            (self._folder / SHEET).unlink(missing_ok=True)
            return
        sheet = contact_sheet([p for p, _ in chosen], [c for _, c in chosen])
        if not self._has_legend:
            sheet = np.concatenate([sheet, legend(self._classes, width=sheet.shape[1])])
        write_image(self._folder / SHEET, sheet)

    def _with_legend(self, picture: Image) -> Image:
        if self._has_legend:
            return picture
        if self._strip is None or self._strip.shape[1] != picture.shape[1]:
            self._strip = legend(self._classes, width=picture.shape[1])
        return np.concatenate([picture, self._strip])


class _Samples:
    """An even choice from a stream of unknown length in bounded memory."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept: list[tuple[Image, str]] = []
        self._step = 1
        self._seen = 0

    def add(self, picture: Image, caption: str) -> None:
        if self._seen % self._step == 0:
            if len(self._kept) == self._capacity:
                self._kept = self._kept[::2]
                self._step *= 2
            if self._seen % self._step == 0:
                self._kept.append((picture, caption))
        self._seen += 1

    def choose(self, count: int) -> list[tuple[Image, str]]:
        if len(self._kept) <= count:
            return self._kept
        at = np.linspace(0, len(self._kept) - 1, count).round().astype(int)
        return [self._kept[i] for i in at]
