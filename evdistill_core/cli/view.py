"""``evdistill view``: a recording as a film or as pictures."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer


def command(
    source: Annotated[Path, typer.Argument(help="Recording of any kind that `info` reads.")],
    target: Annotated[Path, typer.Argument(help="File to make: .mp4 (film) or .png (sheet).")],
    kind: Annotated[
        str, typer.Option(help="events or surface (a fading time surface).")
    ] = "events",
    results: Annotated[
        Path | None,
        typer.Option(help="Bag with masks or detections to lay over; default: the source itself."),
    ] = None,
    start: Annotated[float, typer.Option(help="Begin, seconds after the first event.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Stop, seconds after the first event.")] = None,
    window_ms: Annotated[float, typer.Option(help="Sensor time of one picture.")] = 1000 / 30,
    decay_ms: Annotated[float, typer.Option(help="Time constant of the surface.")] = 30.0,
    speed: Annotated[float, typer.Option(help="Of the film against the sensor's time.")] = 1.0,
    scale: Annotated[
        int | None, typer.Option(help="Enlargement; default: 2 up to 400 columns, else 1.")
    ] = None,
    pictures: Annotated[int, typer.Option(help="Pictures on a sheet.")] = 12,
    topic: Annotated[str | None, typer.Option(help="Event topic, if there are several.")] = None,
) -> None:
    """Show the events of a recording, with the masks and boxes that its bag holds.

    The file appears only when it is complete; Ctrl-C leaves nothing behind.
    """
    from evdistill_core.cli._progress import reading_progress
    from evdistill_core.recordings.opening import open_recording
    from evdistill_core.viewing.films import ViewConfig, view
    from evdistill_core.viewing.result_overlays import has_results

    config = ViewConfig(
        kind=kind,
        window_us=round(window_ms * 1e3),
        decay_us=round(decay_ms * 1e3),
        start_us=round(start * 1e6),
        end_us=None if end is None else round(end * 1e6),
        speed=speed,
        scale=scale,
        pictures=pictures,
    )
    with ExitStack() as stack:
        recording = stack.enter_context(open_recording(source, topic=topic))
        overlays = stack.enter_context(open_recording(results)) if results is not None else None
        if overlays is None and has_results(recording):
            overlays = recording
        report = stack.enter_context(reading_progress(f"{source.name} -> {target.name}"))
        shown = view(
            recording,
            target,
            config,
            results=overlays,
            progress=lambda events: report(recording.fraction_read, events),
        )
        warnings = recording.info.warnings
    typer.echo(f"{target}: {shown:,} windows, {target.stat().st_size / 1e6:.2f} MB")
    for text in warnings:
        typer.echo(f"warning: {text}", err=True)
