"""What a run leaves in its folder: overlay.mp4, overlay.png, a bag of results and report.json.

Shared by ``evdistill run`` and by the demo's observer, so that both write the same things.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from evdistill_core.drawing.colours import Image
from evdistill_core.foundation.files import FinishedBlock, write_text_atomic
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.foundation.outputs import remove_results
from evdistill_core.perception.result_pictures import FILM, SHEET, PictureCounts, ResultPictures
from evdistill_core.recordings.writers.mcap import McapWriter
from evdistill_core.reports.page import PAGE

REPORT = "report.json"
#: Everything that a run may leave in its folder.
RESULTS = (REPORT, PAGE, FILM, SHEET, "masks.mcap", "classifications.mcap")


class ResultFiles(FinishedBlock):
    """Collects results and writes them; nothing appears when the block ends by an error.

    Args:
        folder: where; made when missing.
        classes: for the legends, see ``ResultPictures``.
        has_legend: pictures come with a legend of their own.
        bag: name of the bag.
        pictures: write overlay.mp4 and overlay.png too.
    """

    def __init__(
        self,
        folder: Path,
        classes: ClassTable | None = None,
        *,
        has_legend: bool = False,
        bag: str = "masks.mcap",
        pictures: bool = True,
    ) -> None:
        self.folder = folder
        self._bag_path = folder / bag
        self._stack = ExitStack()
        self._pictures = (
            ResultPictures(folder, classes, has_legend=has_legend) if pictures else None
        )

    def __enter__(self) -> ResultFiles:
        # Results of an earlier run must not stand beside half of this one's.
        remove_results(self.folder, RESULTS)
        with ExitStack() as stack:
            self._bag = stack.enter_context(McapWriter(self._bag_path))
            if self._pictures is not None:
                stack.enter_context(self._pictures)
            self._stack = stack.pop_all()
        return self

    @property
    def wants_pictures(self) -> bool:
        """Whether pictures are written."""
        return self._pictures is not None

    @property
    def picture_counts(self) -> PictureCounts | None:
        """How many windows are in the video; final after the block, None without pictures."""
        return None if self._pictures is None else self._pictures.counts

    def write(
        self, topic: str, type_name: str, data: bytes | bytearray | memoryview, stamp_ns: int
    ) -> None:
        """Append a message to the bag."""
        self._bag.write(topic, type_name, bytes(data), stamp_ns)

    def add_picture(
        self,
        draw: Callable[[], Image],
        stamp_ns: int,
        caption: str,
        *,
        size_bytes: int,
        wait: bool = False,
    ) -> None:
        """Have a window drawn; nothing happens without pictures. See ``ResultPictures.add``."""
        if self._pictures is not None:
            self._pictures.add(draw, stamp_ns, caption, size_bytes=size_bytes, wait=wait)

    def written(self) -> list[Path]:
        """Return the files that are there when the block has ended, report.json included."""
        names = (FILM, SHEET, self._bag_path.name, REPORT)
        return [path for name in names if (path := self.folder / name).exists()]


def write_report(folder: Path, report: Mapping[str, object]) -> Path:
    """Write report.json and return its path."""
    path = folder / REPORT
    write_text_atomic(path, json.dumps(report, indent=2, allow_nan=False) + "\n")
    return path
