"""An evaluation on disk: scores as JSON, and a page with tables, confusion and pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evdistill_core.evaluation.box_scores import score_rows
from evdistill_core.evaluation.pictures import (
    LABEL_COLOURS,
    OTHER_LABELS,
    input_picture,
    label_picture,
)
from evdistill_core.evaluation.recognition import RecognitionResult
from evdistill_core.evaluation.segmentation import LabelledWindow, SegmentationResult, near_events
from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.foundation.labels import IGNORE, ClassTable
from evdistill_core.reports.numbers import percent
from evdistill_core.reports.origin import Stopwatch
from evdistill_core.reports.page import PAGE, BarCell, Cell, ClassCell, ReportPage

Panel = list[list[npt.NDArray[np.uint8]]]
Result = SegmentationResult | RecognitionResult
REPORT = "report.json"
#: Everything that an evaluation may leave in its folder; the pictures are those of version 0.1.
RESULTS = (REPORT, PAGE, "confusion_*.png", "panels_*.png")
PANEL_HEADS = ("events", "labels", "prediction")
_COUNTED = ("true", "found", "id changes")
_IOU = "IoU: pixels that label and prediction share, of all that either has. "
_UNKNOWN = "A dash: no such pixel, so there is nothing to score."


@dataclass(frozen=True)
class Scored:
    """What an evaluation is about.

    Attributes:
        student: its name, for the headline.
        description: file, runtime and device.
        dataset: what the user named.
        classes: of labels and predictions.
        facts: plain data about student and data, for both files.
        next_steps: what to do next, and the command.
    """

    student: str
    description: str
    dataset: str
    classes: ClassTable
    facts: Mapping[str, object]
    next_steps: Sequence[tuple[str, str]] = ()


def image_score_table(
    result: SegmentationResult, classes: ClassTable
) -> tuple[list[str], list[list[Cell]]]:
    """Return head and rows of a table for images, of which all pixels count alike."""
    scores = result.everywhere.scores()
    rows: list[list[Cell]] = [
        [
            ClassCell(info.name, info.color_rgb),
            BarCell(scores.iou[i]),
            BarCell(scores.precision[i]),
            BarCell(scores.recall[i]),
        ]
        for i, info in enumerate(classes.classes)
    ]
    rows.append(["mean (mIoU)", BarCell(scores.miou), "", ""])
    rows.append(["accuracy of pixels", BarCell(scores.accuracy), "", ""])
    return ["class", "IoU, %", "precision, %", "recall, %"], rows


def score_table(
    result: SegmentationResult, classes: ClassTable
) -> tuple[list[str], list[list[Cell]]]:
    """Return head and rows of a table: IoU everywhere; IoU, precision, recall near events.

    The last two rows are mean and accuracy. Where labels say of pixels that they are none of some
    classes, a last column has the share of these on which such a class is predicted all the same.
    """
    everywhere, near = result.everywhere.scores(), result.near_events.scores()
    rows: list[list[Cell]] = [
        [
            ClassCell(info.name, info.color_rgb),
            BarCell(near.iou[i]),
            BarCell(everywhere.iou[i]),
            BarCell(near.precision[i]),
            BarCell(near.recall[i]),
        ]
        for i, info in enumerate(classes.classes)
    ]
    rows.append(["mean (mIoU)", BarCell(near.miou), BarCell(everywhere.miou), "", ""])
    rows.append(
        ["accuracy of pixels", BarCell(near.accuracy), BarCell(everywhere.accuracy), "", ""]
    )
    head = [
        "class",
        "IoU near events, %",
        "IoU everywhere, %",
        "precision near events, %",
        "recall near events, %",
    ]
    if any(math.isfinite(share) for share in near.false_alarms):
        head.append("false alarms near events, %")
        for row, share in zip(rows, near.false_alarms, strict=False):
            row.append(BarCell(share))
        for row in rows[-2:]:
            row.append("")
    return head, rows


def recognition_table(
    result: RecognitionResult, classes: ClassTable
) -> tuple[list[str], list[list[Cell]]]:
    """Return head and rows of a table: windows, accuracy and precision of every class, top-1."""
    scores, counts = result.confusion.scores(), result.confusion.counts
    rows: list[list[Cell]] = [
        [
            ClassCell(info.name, info.color_rgb),
            int(counts[i].sum()),
            BarCell(scores.recall[i]),
            BarCell(scores.precision[i]),
        ]
        for i, info in enumerate(classes.classes)
    ]
    rows.append(["all (top-1)", result.windows, BarCell(result.top1), ""])
    return ["class", "windows", "accuracy, %", "precision, %"], rows


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


def add_headline_score(
    page: ReportPage, name: str, result: Result, *, has_events: bool = True
) -> None:
    """Add the score of a set to the headline; see ``add_result``."""
    if isinstance(result, RecognitionResult):
        page.score(f"{name}: top-1", f"{percent(result.top1)} %", f"{result.windows:,} windows")
        return
    near, everywhere = result.near_events.scores(), result.everywhere.scores()
    if result.knows_no_class:
        page.score(
            f"{name}: false alarms near events",
            f"{percent(near.all_false_alarms)} %",
            f"everywhere {percent(everywhere.all_false_alarms)} %; {result.windows:,} windows",
        )
        return
    if not has_events:
        page.score(f"{name}: mIoU", f"{percent(everywhere.miou)} %", f"{result.windows:,} images")
        return
    page.score(
        f"{name}: mIoU near events",
        f"{percent(near.miou)} %",
        f"everywhere {percent(everywhere.miou)} %; {result.windows:,} windows",
    )


def add_result(  # noqa: PLR0913 - one section of a page
    page: ReportPage,
    name: str,
    result: Result,
    panels: Panel,
    *,
    classes: ClassTable,
    has_events: bool = True,
) -> None:
    """Add one set's tables and pictures to a page.

    Args:
        page: to add to.
        name: of the set.
        result: of the set.
        panels: rows of pictures.
        classes: of labels and predictions.
        has_events: inputs are events; False: images, of a teacher.
    """
    page.heading(f"{name}: {result.windows:,} {'windows' if has_events else 'images'}")
    if isinstance(result, RecognitionResult):
        head, rows = recognition_table(result, classes)
        page.table(head, rows, totals=1, caption="One class a window: the most likely one counts.")
        page.confusion(result.confusion.counts, classes, unit="windows")
        page.panels((), panels, "Inputs. Green frame: recognised. Orange frame: not.")
        return
    radius_px = result.activity_radius_px
    caption, where = _IOU, ""
    head, rows = (score_table if has_events else image_score_table)(result, classes)
    if has_events:
        caption += f"Near events: within {radius_px} px of one, where a still camera can know. "
        where = f"Pixels within {radius_px} px of an event."
    page.table(head, rows, totals=2, caption=caption + _UNKNOWN)
    page.subheading("Which class is taken for which", where)
    counted = result.near_events if has_events else result.everywhere
    page.confusion(counted.counts, classes)
    if panels:
        page.subheading("Examples", "Colours are dimmer where no event is near." * has_events)
        page.panels(PANEL_HEADS if has_events else ("image", *PANEL_HEADS[1:]), panels)


def add_legend(
    page: ReportPage, classes: ClassTable, *, is_dense: bool, has_events: bool = True
) -> None:
    """Add what the colours mean, where pictures have the colours of classes."""
    if is_dense:
        page.heading("Colours")
        page.legend(classes, LABEL_COLOURS if has_events else OTHER_LABELS)


def write_evaluation(  # noqa: PLR0913 - what an evaluation consists of
    folder: Path,
    scored: Scored,
    results: Mapping[str, Result],
    panels: Mapping[str, Panel],
    *,
    stopwatch: Stopwatch,
    films: Mapping[str, object] | None = None,
) -> Path:
    """Write ``report.json`` and the page ``report.html``.

    Args:
        folder: made when missing.
        scored: student and data.
        results: by set.
        panels: picture rows by set.
        stopwatch: started when the work began.
        films: scores of boxes and tracks (``box_scores.score_sequences``); None: there are none.

    Returns:
        The page; where it cannot be written, a warning was logged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    classes = scored.classes
    content = {"facts": scored.facts, "sets": {n: r.to_dict(classes) for n, r in results.items()}}
    if films is not None:
        content["boxes_and_tracks"] = films
    write_text_atomic(folder / REPORT, json.dumps(content, indent=1) + "\n")
    windows = sum(result.windows for result in results.values())
    origin = stopwatch.origin()
    page = ReportPage(
        "Evaluation",
        f"{scored.student} on {Path(scored.dataset).name}",
        f"{scored.description} was scored on {windows:,} labelled windows of {scored.dataset}, "
        f"on {origin.began:%Y-%m-%d}.",
    )
    for name, result in results.items():
        add_headline_score(page, name, result)
    for text, command in scored.next_steps:
        page.next_step(text, command)
    is_dense = any(isinstance(result, SegmentationResult) for result in results.values())
    add_legend(page, classes, is_dense=is_dense)
    for name, result in results.items():
        add_result(page, name, result, panels.get(name, []), classes=classes)
    if films is not None:
        add_boxes(page, films)
    page.heading("Data and student")
    page.details("Facts as in report.json", json.dumps(scored.facts, indent=1))
    page.origin(origin)
    page.write(folder / PAGE)
    return folder / PAGE


def add_boxes(page: ReportPage, scores: Mapping[str, object]) -> None:
    """Add the tables of boxes and tracks."""
    page.heading(
        "Boxes and tracks",
        "AP50: average precision of boxes that overlap a true one by half; AP50:95: mean over "
        "overlaps of 50 to 95 %. IDF1, MOTA and HOTA score tracks.",
    )
    for (what, *names), rows in score_rows(scores):
        head = [name if name in _COUNTED else f"{name}, %" for name in names]
        page.table(["class", *head], rows, totals=1, caption=what.partition(",")[0].capitalize())
