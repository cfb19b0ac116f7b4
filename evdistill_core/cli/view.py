"""``evdistill view``: a recording as a video or a sheet of images; a live topic as a page."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import (
    RECORDING_HELP,
    Domain,
    End,
    OutFile,
    Overwrite,
    Start,
    ViewAt,
    span_us,
)
from evdistill_core.cli._reading import AS_TOLD, Reading, reads_recordings

PLACE = Place("Recordings", 2)
EXAMPLES = (
    "evdistill view street.mcap street.mp4 --end 5",
    "evdistill view street.raw sheet.png --kind surface",
    "evdistill view street.raw overlay.mp4 --results out/street/masks.mcap",
    "evdistill view --live /event_camera/events",
)


@reads_recordings
def command(
    source: Annotated[Path | None, typer.Argument(metavar="RECORDING", help=RECORDING_HELP)] = None,
    target: Annotated[
        Path | None,
        typer.Argument(metavar="TARGET", help="File to make: .mp4 (video) or .png (sheet)."),
    ] = None,
    out: OutFile = None,
    kind: Annotated[
        Literal["events", "surface", "images"],
        typer.Option(help="What is drawn; surface: a fading time surface; images: the camera's."),
    ] = "events",
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="BAG",
            help="Bag with masks or detections to lay over; default: the recording itself.",
        ),
    ] = None,
    start: Start = 0.0,
    end: End = None,
    window_ms: Annotated[
        float,
        typer.Option(
            metavar="MS",
            help="Sensor time of one image; default: a 30th of a second.",
            show_default=False,
        ),
    ] = 1000 / 30,
    decay_ms: Annotated[
        float, typer.Option(metavar="MS", help="Time constant of the surface.")
    ] = 30.0,
    speed: Annotated[
        float, typer.Option(metavar="X", help="Of the video against the sensor's time.")
    ] = 1.0,
    scale: Annotated[
        int | None,
        typer.Option(metavar="N", help="Enlargement; default: up to 800 px a side."),
    ] = None,
    pictures: Annotated[int, typer.Option(metavar="N", help="Images on a sheet.")] = 12,
    reading: Reading = AS_TOLD,
    live: Annotated[
        str | None,
        typer.Option(metavar="TOPIC", help="Show a topic of the ROS 2 graph on a page instead."),
    ] = None,
    node: Annotated[
        str,
        typer.Option(metavar="NAME", help="With --live: node whose masks and boxes are shown."),
    ] = "/segmentation",
    page: ViewAt = None,
    domain: Domain = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw the events of a recording as a video or a sheet.

    Masks and boxes that its bag holds are laid over them.

    The file appears only when it is complete; Ctrl-C leaves nothing behind. With --live a page
    shows the events of a topic as they come, until Ctrl-C.
    """
    if live is not None:
        raise typer.Exit(_show_topic(source, live, node, page, domain))
    from evdistill_core.cli._outputs import check_new_file, target_of
    from evdistill_core.cli._progress import reading_progress
    from evdistill_core.events.account import account_of_reading
    from evdistill_core.foundation.errors import ConfigError
    from evdistill_core.recordings.opening import open_recording
    from evdistill_core.viewing.films import ViewConfig, view
    from evdistill_core.viewing.result_overlays import has_results

    if source is None:
        raise ConfigError("name a RECORDING, or a topic with --live TOPIC")
    file = target_of(target, out, source)
    start_us, end_us = span_us(start, end)
    config = ViewConfig(
        kind=kind,
        window_us=round(window_ms * 1e3),
        decay_us=round(decay_ms * 1e3),
        start_us=start_us,
        end_us=end_us,
        speed=speed,
        scale=scale,
        pictures=pictures,
    )
    check_new_file(file, overwrite=overwrite, sources=(source,))
    with ExitStack() as stack:
        recording = stack.enter_context(open_recording(source, **reading))
        overlays = stack.enter_context(open_recording(results)) if results is not None else None
        if overlays is None and has_results(recording):
            overlays = recording
        report = stack.enter_context(reading_progress(f"{source.name} -> {file.name}"))
        shown = view(
            recording,
            file,
            config,
            results=overlays,
            progress=lambda events: report(recording.fraction_read, events),
        )
    typer.echo(f"{file}: {shown.windows:,} windows, {file.stat().st_size / 1e6:.2f} MB")
    for text in account_of_reading(recording.counters, shown.events).lines():
        typer.echo(f"note: {text}", err=True)
    for text in shown.warnings:
        typer.echo(f"warning: {text}", err=True)


def _show_topic(
    source: Path | None, topic: str, node: str, page: str | None, domain: int | None
) -> int:
    """Show a topic with the plug-in that can join the graph; return the exit code."""
    from evdistill_core.cli.main import plugin_module
    from evdistill_core.foundation.errors import ConfigError

    if source is not None:
        raise ConfigError(f"give a RECORDING or --live TOPIC, not both: got {source} and {topic}")
    show = plugin_module("_live_topic").show
    return int(show(topic, node=node, address=page or "", domain=domain))
