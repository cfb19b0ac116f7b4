"""``evdistill info``: what is in a recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from evdistill_core.recordings.base import Recording
    from evdistill_core.recordings.summary import Summary

CHART_WIDTH = 60
CHART_ROWS = 5
BLOCKS = " ▁▂▃▄▅▆▇█"


def command(
    file: Annotated[Path, typer.Argument(help="Any recording that docs/recordings.md lists")],
    topic: Annotated[str | None, typer.Option(help="Event topic, if there are several.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Also save the rate as a picture.")] = None,
) -> None:
    """Count the events of a recording and show its topics and its event rate over time."""
    from evdistill_core.cli._progress import reading_progress
    from evdistill_core.recordings.opening import open_recording
    from evdistill_core.recordings.summary import summarise

    with open_recording(file, topic=topic) as recording, reading_progress("reading") as report:
        summary = summarise(recording, lambda events: report(recording.fraction_read, events))
    facts = describe(recording, summary)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        show(facts, summary)
    if plot is not None:
        save_plot(plot, file.name, summary)
        typer.echo(f"rate picture: {plot}", err=True)


def describe(recording: Recording, summary: Summary) -> dict[str, Any]:
    """Return everything that ``--json`` prints."""
    import dataclasses

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
        "counters": recording.counters,
        "rate": {
            "span_us": round(span_s * 1e6),
            "mean_hz": _mean_hz(summary),
            "hz": [round(float(r), 1) for r in rates_hz],
        },
        "warnings": list(info.warnings),
    }


def _mean_hz(summary: Summary) -> float:
    return round(summary.events / summary.duration_us * 1e6, 1) if summary.duration_us else 0.0


def show(facts: dict[str, Any], summary: Summary) -> None:
    """Print the facts for people."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table.grid(padding=(0, 2))
    rows = [
        ("file", f"{facts['path']} ({facts['format']})"),
        ("events", f"{facts['events']:,}  ({facts['on']:,} on, {facts['off']:,} off)"),
        ("sensor", f"{facts['width']} x {facts['height']}"),
        ("encoding", facts["encoding"] or "-"),
        ("duration", f"{facts['duration_us'] / 1e6:.3f} s"),
        ("time", f"{facts['first_us']} .. {facts['last_us']} us"),
        ("triggers", f"{facts['triggers']:,}"),
        ("sums", f"x {facts['sum_x']:,}  y {facts['sum_y']:,}"),
    ]
    for topic in facts["topics"]:
        count = "" if topic["message_count"] < 0 else f", {topic['message_count']:,} messages"
        mark = " <- events" if topic["name"] == facts["topic"] else ""
        rows.append(("topic", f"{topic['name']}  {topic['type_name']}{count}{mark}"))
    rows += [("gap", f"{reason}: {n}") for reason, n in facts["discontinuities"].items()]
    rows += [("counter", f"{k}: {v:,}") for k, v in facts["counters"].items() if _is_trouble(k, v)]
    rows += [("warning", text) for text in facts["warnings"]]
    for name, text in rows:
        table.add_row(name, escape(str(text)))
    console.print(table)
    for line in chart(summary):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _is_trouble(name: str, value: int) -> bool:
    """Tell counters of damage from those of traffic."""
    return value > 0 and name not in {"messages", "events", "bytes", "triggers"}


def chart(summary: Summary) -> list[str]:
    """Draw the event rate as lines of block characters, time to the right, rate upwards."""
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
    axis = "0 s" + f"{len(heights) * span_s:.3g} s".rjust(len(heights) - 3)
    return [*lines, " " * 15 + "+" + "-" * len(heights), " " * 16 + axis]


def save_plot(target: Path, name: str, summary: Summary) -> None:
    """Save the event rate as a picture; the suffix chooses the format."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    from evdistill_core.foundation.errors import ConfigError
    from evdistill_core.foundation.files import atomic_path

    rates_hz, span_s = summary.rate.rates_hz(256)
    figure, axes = plt.subplots(figsize=(9, 3), layout="constrained")
    axes.stairs(rates_hz / 1e3, np.arange(len(rates_hz) + 1) * span_s, fill=True)
    axes.set(xlabel="time since the first event (s)", ylabel="events (thousand/s)", title=name)
    axes.margins(x=0)
    try:
        with atomic_path(target) as temporary:
            figure.savefig(temporary, dpi=120)
    except ValueError as error:
        raise ConfigError(f"--plot {target}: {error}") from error
    finally:
        plt.close(figure)
