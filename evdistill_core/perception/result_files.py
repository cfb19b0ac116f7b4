"""What a run leaves behind: overlay.mp4, overlay.png, a bag of results and report.json.

Shared by ``evdistill run`` and by the demo's observer, so that both write the same things.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.foundation.outputs import remove_results
from evdistill_core.inference.pictures import (
    FilmWriter,
    Image,
    contact_sheet,
    legend,
    write_png,
)
from evdistill_core.recordings.writers.mcap import McapWriter

FILM = "overlay.mp4"
SHEET = "overlay.png"
REPORT = "report.json"
#: Everything that a run may leave in its folder.
RESULTS = (REPORT, FILM, SHEET, "masks.mcap", "classifications.mcap")

_SHEET_PICTURES = 12


class ResultFiles:
    """Collects results and writes them; nothing appears when the block ends by an error.

    Args:
        folder: where; made when missing.
        classes: for the legend; may be given later, before the block ends.
        bag: name of the bag.
    """

    def __init__(
        self, folder: Path, classes: ClassTable | None = None, *, bag: str = "masks.mcap"
    ) -> None:
        self.folder = folder
        self.classes = classes
        self._bag_path = folder / bag
        self._stack = ExitStack()
        self._samples = _Samples(2 * _SHEET_PICTURES)

    def __enter__(self) -> ResultFiles:
        # Results of an earlier run must not stand beside half of this one's.
        remove_results(self.folder, RESULTS)
        self._film = self._stack.enter_context(FilmWriter(self.folder / FILM))
        self._bag = self._stack.enter_context(McapWriter(self._bag_path))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._write_sheet()
        self._stack.__exit__(kind, error, trace)

    def write(
        self, topic: str, type_name: str, data: bytes | bytearray | memoryview, stamp_ns: int
    ) -> None:
        """Append a message to the bag."""
        self._bag.write(topic, type_name, bytes(data), stamp_ns)

    def add_picture(self, picture: Image, stamp_ns: int, caption: str) -> None:
        """Append an overlay to the film; an even choice of them makes the contact sheet."""
        self._film.add(picture, stamp_ns // 1000)
        self._samples.add(picture, caption)

    def _write_sheet(self) -> None:
        chosen = self._samples.choose(_SHEET_PICTURES)
        if not chosen:
            (self.folder / SHEET).unlink(missing_ok=True)
            return
        sheet = contact_sheet([p for p, _ in chosen], [c for _, c in chosen])
        if self.classes is not None:
            sheet = np.concatenate([sheet, legend(self.classes, width=sheet.shape[1])])
        write_png(self.folder / SHEET, sheet)


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
                self._kept.append((picture.copy(), caption))
        self._seen += 1

    def choose(self, count: int) -> list[tuple[Image, str]]:
        if len(self._kept) <= count:
            return self._kept
        at = np.linspace(0, len(self._kept) - 1, count).round().astype(int)
        return [self._kept[i] for i in at]


def write_report(folder: Path, report: Mapping[str, object]) -> Path:
    """Write report.json and return its path."""
    path = folder / REPORT
    write_text_atomic(path, json.dumps(report, indent=2, allow_nan=False) + "\n")
    return path
