"""The table at the end of a run: the same as report.json, for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evdistill_core.events.account import DAMAGE, LEFT_OUT
from evdistill_core.perception.result_pictures import FILM, MAX_RATE_HZ, SHEET
from evdistill_core.reports.numbers import size
from evdistill_core.reports.page import PAGE

Row = tuple[str, str, str]

_KINDS = {FILM: "video", SHEET: "images"}


def run_rows(report: Mapping[str, Any], folder: Path) -> list[Row]:
    """Return name, value and note of everything worth saying of a run.

    Args:
        report: as written to report.json.
        folder: of the results.
    """
    return [
        *_window_rows(report),
        *_event_rows(report),
        *_found_rows(report),
        *_file_rows(report, folder),
    ]


def print_run(report: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Print the table: in colour on a terminal, as aligned plain text elsewhere."""
    rows = run_rows(report, folder)
    if not console.is_terminal:
        for line in aligned(rows):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def aligned(rows: list[Row]) -> list[str]:
    """Return lines of text with the columns below each other."""
    first, second = (max((len(row[i]) for row in rows), default=0) for i in range(2))
    return [f"{a:<{first}}  {b:>{second}}  {c}".rstrip() for a, b, c in rows]


def _window_rows(report: Mapping[str, Any]) -> list[Row]:
    sensor_s, wall_s = report["sensor_s"], report["wall_s"]
    rate = f", {sensor_s / wall_s:.1f} x real time" if wall_s else ""
    note = f"{sensor_s:.1f} s of sensor time in {wall_s:.1f} s{rate}"
    rows = [("windows computed", f"{report['windows']:,}", note)]
    if report["windows_skipped"]:
        rows.append(("windows skipped", f"{report['windows_skipped']:,}", "max_rate_hz is set"))
    return rows


def _event_rows(report: Mapping[str, Any]) -> list[Row]:
    events = report["event_account"]
    left_out = {name: count for name, count in events["left_out"].items() if count}
    rows: list[Row] = [
        ("events read", f"{events['read']:,}", ""),
        ("events used", f"{events['used']:,}", ""),
        ("events left out", f"{sum(left_out.values()):,}", ""),
    ]
    rows += [("", f"{count:,}", LEFT_OUT[name]) for name, count in left_out.items()]
    rows += [
        ("damage" if i == 0 else "", f"{count:,}", DAMAGE[name])
        for i, (name, count) in enumerate((n, c) for n, c in events["damage"].items() if c)
    ]
    return rows


def _found_rows(report: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = []
    for name, counts in report["found"].items():
        if "windows" in counts:
            rows.append((name, f"{counts['windows']:,}", "windows of this class"))
        else:
            rows.append((name, f"{counts['boxes']:,}", f"boxes, of {counts['tracks']:,} tracks"))
    return rows or [("found", "0", "nothing that the student is sure of")]


def _file_rows(report: Mapping[str, Any], folder: Path) -> list[Row]:
    rows: list[Row] = []
    for file in report["files"]:
        name = file["name"]
        kind = _KINDS.get(name, "results")
        note = f" ({_film_note(report)})" if name == FILM else ""
        rows.append((kind, size(file["bytes"]), f"{folder / name}{note}"))
    rows.append(("numbers", "", str(folder / "report.json")))
    rows.append(("report", "", str(folder / PAGE)))
    return rows


def _film_note(report: Mapping[str, Any]) -> str:
    counts = report["pictures"]
    if counts["drawn"] == report["windows"]:
        return "every window"
    why = []
    if counts["above_rate"]:
        why.append(f"at most {MAX_RATE_HZ} images a second")
    if counts["too_slow"]:
        why.append(f"{counts['too_slow']:,} left out: drawing is slower than computing")
    return f"{counts['drawn']:,} of {report['windows']:,} windows; {'; '.join(why)}"
