"""The page of a run: what went in, what was found, how long it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from evdistill_core.drawing.overlay import EVENT_COLOURS
from evdistill_core.events.account import DAMAGE, LEFT_OUT
from evdistill_core.foundation.invocation import command_text
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.perception.front_end import SHIPPED_STUDENT
from evdistill_core.perception.result_pictures import FILM, SHEET
from evdistill_core.reports.charts import Chart
from evdistill_core.reports.numbers import percent, size
from evdistill_core.reports.origin import Stopwatch
from evdistill_core.reports.page import PAGE, Cell, ClassCell, ReportPage

_STAGES = {
    "decode": "bytes to events",
    "represent": "window to network input",
    "infer": "the network",
    "postprocess": "mask, boxes, tracks",
}
"""Stages that cost time in a run; the others wait, because the recording waits for the network."""


def write_run_page(  # noqa: PLR0913 - what the parts of a run know
    report: Mapping[str, Any],
    folder: Path,
    *,
    student: Path,
    classes: ClassTable,
    charts: Sequence[Chart],
    stopwatch: Stopwatch,
) -> Path | None:
    """Write ``report.html`` beside the results of a run.

    Args:
        report: as written to report.json.
        folder: of the results.
        student: the student file.
        classes: of the student.
        charts: of the run over time.
        stopwatch: started when the run began.

    Returns:
        The page; None where it cannot be written, which is a warning.
    """
    origin = stopwatch.origin()
    recording = Path(report["recording"])
    page = ReportPage(
        "Run",
        f"{recording.name} through {student.name}",
        f"{report['sensor_s']:.1f} s of events from a {report['width']}x{report['height']} sensor "
        f"({report['encoding'] or 'columns'}) went through {report['student']}, "
        f"on {origin.began:%Y-%m-%d}.",
    )
    _add_scores(page, report)
    for text, command in _next_steps(report, folder, student):
        page.next_step(text, command)
    page.heading("What was found")
    _add_found(page, report, classes)
    page.charts(charts)
    _add_pictures(page, folder, classes)
    _add_events(page, report)
    _add_times(page, report)
    page.heading("Files", "In the folder of this page.")
    names = {FILM: "video", SHEET: "images"}
    page.links(
        {
            file["name"]: f"{names.get(file['name'], 'results')}, {size(file['bytes'])}"
            for file in report["files"]
        }
        | {"report.json": "all numbers"}
    )
    page.origin(origin, {"Recording": str(recording), "Student": str(student)})
    return page.write(folder / PAGE)


def _add_scores(page: ReportPage, report: Mapping[str, Any]) -> None:
    skipped = report["windows_skipped"]
    more = f"{skipped:,} skipped by max_rate_hz" if skipped else "none dropped"
    page.score("Windows", f"{report['windows']:,}", more)
    events = report["event_account"]
    share = events["used"] / events["read"] if events["read"] else None
    page.score("Events used", f"{percent(share)} %", f"of {events['read']:,}")
    if report["wall_s"]:
        speed = report["sensor_s"] / report["wall_s"]
        page.score("Speed", f"{speed:.2g} x real time", "reading, computing and drawing")
    network_ms = report["stages_ms"]["infer"]["p50"]
    page.score("Network", f"{network_ms:.1f} ms", "median of a window")


def _next_steps(report: Mapping[str, Any], folder: Path, student: Path) -> list[tuple[str, str]]:
    bag = next((f["name"] for f in report["files"] if f["name"].endswith(".mcap")), None)
    steps = []
    if bag is not None:
        command = command_text(
            "report", folder / bag, "--labels", "LABELS", "--out", folder / "score.html"
        )
        steps.append(("Score the results, where you have labels:", command))
    named = () if student == SHIPPED_STUDENT else ("--student", str(student))
    live = command_text("live", *named)
    return [*steps, ("Do the same live, from a camera driver or a player:", live)]


def _add_found(page: ReportPage, report: Mapping[str, Any], classes: ClassTable) -> None:
    colours = {info.name: info.color_rgb for info in classes.classes}
    found = report["found"]
    if not found:
        page.paragraph("Nothing that the student is sure of.")
        return
    is_boxes = all("boxes" in counts for counts in found.values())
    head = ["class", "boxes", "tracks"] if is_boxes else ["class", "windows"]
    rows: list[list[Cell]] = [
        [ClassCell(name, colours.get(name, (128, 128, 128))), *counts.values()]
        for name, counts in found.items()
    ]
    note = "Boxes are counted in every window; a track is one thing that is followed."
    page.table(head, rows, caption=note if is_boxes else "The most likely class of each window.")


def _add_pictures(page: ReportPage, folder: Path, classes: ClassTable) -> None:
    if not (folder / SHEET).is_file():
        return
    data = np.fromfile(folder / SHEET, np.uint8)
    sheet = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if sheet is None:
        return
    page.heading("Images", "Windows from the beginning to the end, evenly chosen.")
    page.legend(classes, EVENT_COLOURS)
    caption = "Mask, boxes with class, track and score, and events. The line names the window."
    page.picture(np.asarray(sheet, np.uint8), caption)


def _add_events(page: ReportPage, report: Mapping[str, Any]) -> None:
    account = report["event_account"]
    read = account["read"]

    def row(name: str, count: int) -> list[Cell]:
        return [name, count, percent(count / read if read else None)]

    page.heading("Events", "What became of every event of the recording.")
    rows = [row("used", account["used"])]
    rows += [row(LEFT_OUT[n], count) for n, count in account["left_out"].items() if count]
    rows.append(row("read", read))
    page.table(["events", "number", "%"], rows, totals=1)
    damage: list[list[Cell]] = [[DAMAGE[n], k] for n, k in account["damage"].items() if k]
    if damage:
        page.table(["damage", "number"], damage)
    for text in report.get("warnings", ()):
        page.verdict(text, "warn", head="Warning")


def _add_times(page: ReportPage, report: Mapping[str, Any]) -> None:
    page.heading(
        "Time for each window",
        "The recording waits for the network, so there is no waiting time to measure here; "
        "`evdistill demo` measures the whole way.",
    )
    stages = report["stages_ms"]
    rows: list[list[Cell]] = [
        [text, *(f"{stages[name][p]:.2f}" for p in ("p50", "p95", "p99"))]
        for name, text in _STAGES.items()
    ]
    page.table(["stage", "median, ms", "95th percentile, ms", "99th percentile, ms"], rows)
