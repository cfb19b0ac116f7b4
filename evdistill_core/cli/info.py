"""``evdistill info``: what is in recordings."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import (
    End,
    Json,
    Overwrite,
    RecordingArguments,
    Start,
    span_us,
)
from evdistill_core.cli._reading import AS_TOLD, Reading, reads_recordings

if TYPE_CHECKING:
    from evdistill_core.recordings.base import Recording
    from evdistill_core.recordings.summary import Summary

PLACE = Place("Recordings", 1)
EXAMPLES = (
    "evdistill info street.mcap",
    "evdistill info recordings/ --json",
    "evdistill info drive.raw --start 10 --end 20 --plot rate.png",
)

CHART_WIDTH = 60
CHART_ROWS = 5
BLOCKS = " ▁▂▃▄▅▆▇█"


def _list_formats(wanted: bool) -> None:
    from evdistill_core.recordings.formats import READ

    if wanted:
        width = max(len(name) for name, _ in READ)
        for name, what in READ:
            typer.echo(f"{name:<{width}}  {what}")
        raise typer.Exit


@reads_recordings
def command(
    recordings: RecordingArguments,
    reading: Reading = AS_TOLD,
    start: Start = 0.0,
    end: End = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also save the event rate as an image or a PDF."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    formats: Annotated[
        bool,
        typer.Option(
            "--formats", is_eager=True, callback=_list_formats, help="List what is read, and end."
        ),
    ] = False,
) -> None:
    """Count events; show topics, event rate and damage.

    With --json, one recording is one object. Of several, or of a folder, the object has a list
    `recordings`, and a list `failed`.
    """
    from evdistill_core.cli._outputs import print_json
    from evdistill_core.cli._several import each, several
    from evdistill_core.foundation.errors import ConfigError
    from evdistill_core.foundation.outputs import check_file

    span_us(start, end)  # refuses an impossible one
    many = several(recordings, reading)
    if plot is not None:
        if many is not None:
            raise ConfigError("--plot shows one recording: name one, not several or a folder")
        check_file(plot, overwrite=overwrite, sources=recordings)
    if many is None:
        facts, summary = _read(recordings[0], reading, (start, end))
        if as_json:
            print_json(facts)
        else:
            show(facts, summary)
        if plot is not None:
            start_s = facts["rate"]["start_us"] / 1e6
            save_plot(plot, recordings[0].name, summary, start_s=start_s)
            typer.echo(f"rate: {plot}", err=True)
        return

    def one(path: Path) -> dict[str, Any]:
        facts, summary = _read(path, reading, (start, end))
        if not as_json:
            show(facts, summary)
            typer.echo()
        return facts

    outcome = each(many, one)
    if as_json:
        print_json(outcome.facts())
    outcome.finish("read", quiet=as_json)


def _read(
    path: Path, reading: Reading, span_s: tuple[float, float | None]
) -> tuple[dict[str, Any], Summary]:
    from evdistill_core.cli._progress import reading_progress
    from evdistill_core.recordings.opening import open_recording
    from evdistill_core.recordings.summary import summarise

    with open_recording(path, **reading) as recording, reading_progress(path.name) as report:
        span_us = recording.span_us(*span_s)
        summary = summarise(
            recording, lambda events: report(recording.fraction_read, events), span_us=span_us
        )
        if span_us != (None, None) and not summary.events:
            raise recording.nothing_in_span()
        # The rate begins at the first event of the span, which may come after its start.
        first_us = summary.rate.origin_us
        late_us = 0 if span_us[0] is None or first_us is None else first_us - span_us[0]
        facts = describe(recording, summary, start_us=round(span_s[0] * 1e6) + late_us)
        return facts, summary


def describe(recording: Recording, summary: Summary, *, start_us: int = 0) -> dict[str, Any]:
    """Return everything that ``--json`` prints.

    Args:
        recording: that was read.
        summary: of it, or of a span.
        start_us: time from the recording's first event to the summary's.
    """
    import dataclasses

    from evdistill_core.events.account import account_of_reading

    info = recording.info
    rates_hz, span_s = summary.rate.rates_hz(CHART_WIDTH)
    return {
        "path": str(info.path),
        "format": info.format,
        "topic": info.topic,
        "encoding": info.encoding,
        "events": summary.events,
        "on": summary.on,
        "off": summary.off,
        "width": info.width,
        "height": info.height,
        "duration_us": summary.duration_us,
        "first_us": summary.first_us,
        "last_us": summary.last_us,
        "sum_x": summary.sum_x,
        "sum_y": summary.sum_y,
        "triggers": summary.triggers,
        "frame_topic": info.frame_topic,
        "topics": [dataclasses.asdict(t) for t in info.topics],
        "discontinuities": summary.discontinuities,
        "event_account": account_of_reading(recording.counters, summary.events).to_dict(),
        "counters": recording.counters,
        "rate": {
            "start_us": start_us,
            "span_us": round(span_s * 1e6),
            "mean_hz": _mean_hz(summary),
            "hz": [round(float(r), 1) for r in rates_hz],
        },
        "warnings": _warnings(recording),
    }


def _mean_hz(summary: Summary) -> float:
    return round(summary.events / summary.duration_us * 1e6, 1) if summary.duration_us else 0.0


def show(facts: dict[str, Any], summary: Summary) -> None:
    """Print the facts for people."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from evdistill_core.events.account import EventAccount

    console = Console()
    table = Table.grid(padding=(0, 2))
    rows = [
        ("file", f"{facts['path']} ({facts['format']})"),
        ("events", f"{facts['events']:,}  ({facts['on']:,} on, {facts['off']:,} off)"),
        ("sensor", f"{facts['width']} x {facts['height']}"),
        ("encoding", facts["encoding"] or "-"),
        ("duration", f"{facts['duration_us'] / 1e6:.3f} s"),
        ("time", f"{facts['first_us']} .. {facts['last_us']} us"),
        *_date(facts["first_us"]),
        ("triggers", f"{facts['triggers']:,}"),
        ("checksums", f"sum of x {facts['sum_x']:,}, sum of y {facts['sum_y']:,}"),
    ]
    for topic in facts["topics"]:
        count = "" if topic["message_count"] < 0 else f", {topic['message_count']:,} messages"
        kind = "" if topic["type_name"] == topic["name"] else f"  {topic['type_name']}"
        is_read = topic["name"] == facts["topic"]
        rows.append(("event topic" if is_read else "topic", f"{topic['name']}{kind}{count}"))
    rows += [("gap", f"{reason}: {n}") for reason, n in facts["discontinuities"].items()]
    rows += [("note", text) for text in EventAccount(**facts["event_account"]).lines()]
    rows += [("counter", f"{k}: {v:,}") for k, v in facts["counters"].items() if _is_trouble(k, v)]
    rows += [("warning", text) for text in facts["warnings"]]
    for name, text in rows:
        table.add_row(name, escape(str(text)))
    console.print(table)
    for line in chart(summary, start_s=facts["rate"]["start_us"] / 1e6):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _date(first_us: int) -> list[tuple[str, str]]:
    """Return the row with the date of a time since 1970; none for a clock that began elsewhere."""
    if not 10**15 <= first_us < 4 * 10**15:  # 2001 .. 2096
        return []
    begun = datetime.datetime.fromtimestamp(first_us / 1e6, datetime.timezone.utc)
    return [("date", f"{begun:%Y-%m-%d %H:%M:%S} UTC, if its clock counts from 1970")]


def _warnings(recording: Recording) -> list[str]:
    """Return what was odd; of a bag of results, what it is."""
    from evdistill_core.viewing.result_overlays import has_results

    info = recording.info
    if info.topic or not has_results(recording):
        return list(info.warnings)
    return [
        f"no events: these are results of `evdistill run` or a node; see `evdistill report "
        f"{info.path}`",
        *(text for text in info.warnings if not text.startswith("no event topic")),
    ]


def _is_trouble(name: str, value: int) -> bool:
    """Tell counters of damage from those of traffic, and from what the account says."""
    from evdistill_core.events.account import DAMAGE, LEFT_OUT

    traffic = {"messages", "events", "bytes", "triggers"}
    told = {*DAMAGE, *LEFT_OUT, "discarded_before_sync", "discarded_at_jump"}
    return value > 0 and name not in traffic | told


def chart(summary: Summary, *, start_s: float = 0.0) -> list[str]:
    """Draw the event rate as lines of block characters, time to the right, rate upwards.

    Args:
        summary: with the rate.
        start_s: where the axis of time begins.
    """
    rates_hz, span_s = summary.rate.rates_hz(CHART_WIDTH)
    top = float(rates_hz.max())
    if top <= 0:
        return []
    steps = len(BLOCKS) - 1
    heights = [round(float(r) / top * CHART_ROWS * steps) for r in rates_hz]
    lines = []
    for row in reversed(range(CHART_ROWS)):
        filled = "".join(BLOCKS[min(max(h - row * steps, 0), steps)] for h in heights)
        label = f"{top / 1e3:8.1f} kev/s " if row == CHART_ROWS - 1 else " " * 15
        lines.append(label + "|" + filled)
    first, last = (f"{start_s + s:.6g} s" for s in (0.0, len(heights) * span_s))
    axis = first + last.rjust(len(heights) - len(first))
    return [*lines, " " * 15 + "+" + "-" * len(heights), " " * 16 + axis]


def save_plot(target: Path, name: str, summary: Summary, *, start_s: float = 0.0) -> None:
    """Save the event rate as a picture; the suffix chooses the format.

    Args:
        target: the picture.
        name: of the recording.
        summary: with the rate.
        start_s: where the axis of time begins.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    from evdistill_core.foundation.errors import ConfigError
    from evdistill_core.foundation.files import atomic_path

    rates_hz, span_s = summary.rate.rates_hz(256)
    figure, axes = plt.subplots(figsize=(9, 3), layout="constrained")
    axes.stairs(rates_hz / 1e3, start_s + np.arange(len(rates_hz) + 1) * span_s, fill=True)
    axes.set(xlabel="time since the first event (s)", ylabel="events (thousand/s)", title=name)
    axes.margins(x=0)
    try:
        with atomic_path(target) as temporary:
            figure.savefig(temporary, dpi=120)
    except ValueError as error:
        raise ConfigError(f"--plot {target}: {error}") from error
    finally:
        plt.close(figure)
