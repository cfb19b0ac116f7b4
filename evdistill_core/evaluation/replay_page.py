"""The page of ``evdistill report``: what a recording of a node's results says, and its score."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evdistill_core.evaluation.page import add_boxes
from evdistill_core.foundation.invocation import command_text
from evdistill_core.reports.charts import Chart, Line
from evdistill_core.reports.numbers import NONE, percent
from evdistill_core.reports.origin import Stopwatch
from evdistill_core.reports.page import BarCell, Cell, ReportPage

_MOST_LINES = 6


def write_replay_page(
    report: Mapping[str, Any], path: Path, *, results: Path, stopwatch: Stopwatch
) -> Path | None:
    """Write a page of what ``replay_report`` returned.

    Args:
        report: see ``evaluation.replay.replay_report``.
        path: of the page.
        results: the bag of results.
        stopwatch: started when the work began.

    Returns:
        The page; None where it cannot be written, which is a warning.
    """
    origin = stopwatch.origin()
    is_recognition = report["task"] == "recognition"
    count = report["classifications" if is_recognition else "masks"]
    answers = "classified windows" if is_recognition else "masks"
    is_scored = "score" in report or "detection_score" in report
    page = ReportPage(
        "Results of a node",
        results.name,
        f"{count:,} {answers} of a student of {len(report['classes'])} classes, read on "
        f"{origin.began:%Y-%m-%d}" + (" and compared with labels." if is_scored else "."),
    )
    page.score(answers.capitalize(), f"{count:,}")
    (_add_recognition if is_recognition else _add_segmentation)(page, report)
    _add_latency(page, report)
    _add_counters(page, report)
    if not is_scored:
        command = command_text("report", results, "--labels", "LABELS")
        page.next_step("Score the results, where you have labels:", command)
    page.next_step("Look into the recording of results:", command_text("info", results))
    page.origin(origin, {"Results": str(results)})
    return page.write(path)


def _add_segmentation(page: ReportPage, report: Mapping[str, Any]) -> None:
    page.score("Boxes", f"{report['detections']:,}", "in all windows")
    if "score" in report:
        _add_mask_score(page, report["score"])
    if "detection_score" in report:
        boxes = report["detection_score"]
        page.score("AP50", f"{percent(boxes['coco']['ap50'])} %", "of boxes, mean over classes")
        add_boxes(page, boxes)
        page.paragraph(
            f"{boxes['labels_scored']:,} of {boxes['labels']:,} labelled images have a result near "
            f"in time. Precision {percent(boxes['precision'])} %, recall "
            f"{percent(boxes['recall'])} % at an overlap of {boxes['min_iou']:g}."
        )
    page.heading("Detections", "Boxes in all windows; a track is one thing that is followed.")
    rows: list[list[Cell]] = [
        [name, found["detections"], found["tracks"], percent(found["mean_score"])]
        for name, found in report["detected"].items()
    ]
    page.table(["class", "boxes", "tracks", "mean score, %"], rows or [["none", 0, 0, NONE]])
    parts = report["over_time"]
    names = sorted(report["detected"], key=lambda name: -report["detected"][name]["detections"])[
        :_MOST_LINES
    ]
    if len(parts) > 1 and names:
        x = [part["from_s"] for part in parts]
        lines = [
            Line(name, x, [p["detections"].get(name, 0) / max(1, p["masks"]) for p in parts])
            for name in names
        ]
        note = "Mean number of detections by class over the time of the recording."
        page.charts([Chart("Boxes a window", note, lines, "s after the first result", True)])


def _add_mask_score(page: ReportPage, score: Mapping[str, Any]) -> None:
    page.score(
        "mIoU",
        f"{percent(score['miou'])} %",
        f"{score['labels_scored']:,} of {score['labels']:,} labels",
    )
    page.heading(
        "Score of the masks",
        "IoU: pixels that label and mask share, of all that either has. Each label meets the mask "
        "nearest in time. A dash: no such pixel, so there is nothing to score.",
    )
    rows: list[list[Cell]] = [
        [name, *(BarCell(found[key]) for key in ("iou", "precision", "recall"))]
        for name, found in score["classes"].items()
    ]
    rows.append(["mean (mIoU)", BarCell(score["miou"]), "", ""])
    rows.append(["accuracy of pixels", BarCell(score["accuracy"]), "", ""])
    page.table(["class", "IoU, %", "precision, %", "recall, %"], rows, totals=2)


def _add_recognition(page: ReportPage, report: Mapping[str, Any]) -> None:
    if "score" in report:
        score = report["score"]
        page.score("top-1", f"{percent(score['top1'])} %", f"{score['windows']:,} labelled windows")
        page.heading("Score", "A window without a class counts as wrong.")
        rows: list[list[Cell]] = [
            [
                name,
                row["windows"],
                BarCell(row["right"] / row["windows"] if row["windows"] else None),
            ]
            for name, row in score["classes"].items()
        ]
        rows.append(["all (top-1)", score["windows"], BarCell(score["top1"])])
        page.table(["class", "labelled windows", "right, %"], rows, totals=1)
    page.score("Without a class", f"{report['unnamed']:,}", "windows")
    page.heading("Classes", "The most likely class of each window.")
    named: list[list[Cell]] = [
        [name, found["windows"], percent(found["mean_score"])]
        for name, found in report["named"].items()
    ]
    page.table(["class", "windows", "mean score, %"], named or [["none", 0, NONE]])
    parts: list[list[Cell]] = [
        [
            f"{p['from_s']:.2f}",
            p["windows"],
            p["class"] or NONE,
            p["of_it"],
            percent(p["mean_score"]),
        ]
        for p in report["over_time"]
    ]
    page.subheading("Over time", "The most frequent class of each part of the recording.")
    page.table(["from, s", "windows", "class", "of it", "mean score, %"], parts)


def _add_latency(page: ReportPage, report: Mapping[str, Any]) -> None:
    page.heading("Latency", "From the events to the result, in the node that made it.")
    stages: dict[str, dict[str, float]] = {}
    for name, value in report["latency_ms"].items():
        stage, _, percentile = name.rpartition("_ms_")
        stages.setdefault(stage, {})[percentile] = value
    if not stages:
        told = str(report.get("latency_note", "the recording says nothing of it"))
        page.paragraph(f"{told[:1].upper()}{told[1:]}.")
        return
    heads = list(dict.fromkeys(p for found in stages.values() for p in found))
    rows: list[list[Cell]] = [
        [stage, *(f"{found[p]:.2f}" if p in found else NONE for p in heads)]
        for stage, found in stages.items()
    ]
    page.table(["stage", *(f"{p}, ms" for p in heads)], rows)


def _add_counters(page: ReportPage, report: Mapping[str, Any]) -> None:
    page.heading("Counters", "Those above zero; what was dropped has a counter with a reason.")
    rows: list[list[Cell]] = [[n, count] for n, count in report["counters"].items() if count]
    page.table(["counter", "number"], rows or [["none", 0]])
