"""An evaluation on disk: scores as JSON, a page with tables, confusion and panels."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evdistill_core.evaluation.box_scores import score_rows
from evdistill_core.evaluation.pictures import (
    input_picture,
    label_picture,
    write_confusion,
    write_panels,
)
from evdistill_core.evaluation.recognition import RecognitionResult
from evdistill_core.evaluation.report import ReportPage
from evdistill_core.evaluation.segmentation import LabelledWindow, SegmentationResult, near_events
from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.foundation.labels import IGNORE, ClassTable

Panel = list[list[npt.NDArray[np.uint8]]]
Result = SegmentationResult | RecognitionResult
#: Everything that an evaluation may leave in its folder.
RESULTS = ("report.json", "report.html", "confusion_*.png", "panels_*.png")


def score_table(
    result: SegmentationResult, classes: ClassTable
) -> tuple[list[str], list[list[object]]]:
    """Return head and rows of a table: IoU everywhere; IoU, precision, recall near events.

    Where labels say of pixels that they are none of some classes, a last column has the share of
    these on which such a class is predicted all the same.
    """
    everywhere, near = result.everywhere.scores(), result.near_events.scores()
    rows: list[list[object]] = [
        [name, everywhere.iou[i], near.iou[i], near.precision[i], near.recall[i]]
        for i, name in enumerate(classes.names)
    ]
    rows.append(["mean", everywhere.miou, near.miou, None, None])
    rows.append(["accuracy", everywhere.accuracy, near.accuracy, None, None])
    head = ["class", "IoU everywhere", "IoU near events", "precision near", "recall near"]
    if any(math.isfinite(share) for share in near.false_alarms):
        head.append("false alarms near")
        for row, share in zip(rows, [*near.false_alarms, None, None], strict=True):
            row.append(share)
    return head, rows


def recognition_table(
    result: RecognitionResult, classes: ClassTable
) -> tuple[list[str], list[list[object]]]:
    """Return head and rows of a table: windows, accuracy and precision of every class, top-1."""
    scores, counts = result.confusion.scores(), result.confusion.counts
    rows: list[list[object]] = [
        [name, int(counts[i].sum()), scores.recall[i], scores.precision[i]]
        for i, name in enumerate(classes.names)
    ]
    rows.append(["top-1", result.windows, result.top1, None])
    return ["class", "windows", "accuracy", "precision"], rows


def panel_row(
    window: LabelledWindow,
    mask: npt.NDArray[np.uint8],
    classes: ClassTable,
    *,
    kind: str,
    activity_radius_px: int,
) -> list[npt.NDArray[np.uint8]]:
    """Return the pictures of one window: events, labels, prediction (dimmer far from events)."""
    near = near_events(window.active, activity_radius_px)
    shown = np.where(window.label == IGNORE, np.uint8(IGNORE), mask)
    return [
        input_picture(window.input, kind),
        label_picture(window.label, classes, near),
        label_picture(shown, classes, near),
    ]


def add_result(  # noqa: PLR0913 - one block of a page
    page: ReportPage,
    folder: Path,
    name: str,
    result: Result,
    panels: Panel,
    *,
    classes: ClassTable,
) -> None:
    """Add one set's tables and pictures to a page; the pictures are written beside it."""
    page.heading(f"{name}: {result.windows} windows")
    if isinstance(result, RecognitionResult):
        page.table(*recognition_table(result, classes))
        counts, title = result.confusion.counts, f"{name}, {result.summary}"
        caption = "Inputs; green frame: recognised, orange: not"
        shown = None
    else:
        page.table(*score_table(result, classes))
        counts = result.near_events.counts
        title = f"{name}, pixels within {result.activity_radius_px} px of an event"
        shown = classes
        caption = "Events, labels, prediction (dimmer where no event is near)"
    write_confusion(folder / f"confusion_{name}.png", counts, classes.names, title)
    page.picture(f"confusion_{name}.png", "Share of each true class")
    if panels:
        write_panels(folder / f"panels_{name}.png", panels, shown)
        page.picture(f"panels_{name}.png", caption)


def write_evaluation(  # noqa: PLR0913 - what an evaluation consists of
    folder: Path,
    title: str,
    results: Mapping[str, Result],
    panels: Mapping[str, Panel],
    *,
    classes: ClassTable,
    facts: Mapping[str, object],
    films: Mapping[str, object] | None = None,
) -> Path:
    """Write ``report.json``, ``report.html`` and its pictures.

    Args:
        folder: made when missing.
        title: of the page.
        results: by set.
        panels: picture rows by set.
        classes: of the labels.
        facts: plain data about student and data, for both files.
        films: scores of boxes and tracks (``box_scores.score_sequences``); None: there are none.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = ReportPage(title)
    for name, result in results.items():
        add_result(page, folder, name, result, panels.get(name, []), classes=classes)
    if films is not None:
        page.heading("Boxes and tracks")
        for head, rows in score_rows(films):
            page.table(head, rows)
    page.heading("Facts")
    page.code(json.dumps(facts, indent=1))
    content = {"facts": facts, "sets": {n: r.to_dict(classes) for n, r in results.items()}}
    if films is not None:
        content["boxes_and_tracks"] = films
    write_text_atomic(folder / "report.json", json.dumps(content, indent=1) + "\n")
    page.write(folder / "report.html")
    return folder / "report.html"
