"""``evdistill cut``: a part of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    source: Annotated[Path, typer.Argument(help="Recording of any kind that `info` reads.")],
    target: Annotated[
        Path, typer.Argument(help="File to make: .mcap (a rosbag2), .aedat4, .h5 or .npz.")
    ],
    start: Annotated[float, typer.Option(help="Begin, seconds after the first event.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Stop, seconds after the first event.")] = None,
    topic: Annotated[str | None, typer.Option(help="Event topic, if there are several.")] = None,
) -> None:
    """Copy the events in [start, end) of a recording, and the pictures of that time.

    From a bag into a bag, all other topics come along as they are and names stay; the events are
    packed anew, in evt3 if they were, so that the first one is the first of the span. The file
    appears only when it is complete; Ctrl-C leaves nothing behind.
    """
    from evdistill_core.cli._progress import reading_progress
    from evdistill_core.recordings.convert import ConvertConfig, convert
    from evdistill_core.recordings.opening import open_recording

    with (
        open_recording(source, topic=topic) as recording,
        reading_progress(f"{source.name} -> {target.name}") as report,
    ):
        info = recording.info
        is_bag = info.format.startswith("rosbag")
        config = ConvertConfig(
            events_topic=info.topic if is_bag and info.topic else ConvertConfig.events_topic,
            frames_topic=(is_bag and info.frame_topic) or ConvertConfig.frames_topic,
            encoding="evt3" if info.encoding == "evt3" else "libcaer_cmp",
            start_us=round(start * 1e6),
            end_us=None if end is None else round(end * 1e6),
            other_topics=is_bag,
        )
        result = convert(
            recording, target, config, lambda events: report(recording.fraction_read, events)
        )
        warnings = recording.info.warnings
    typer.echo(
        f"{target}: {result.events:,} events, {result.triggers:,} triggers, "
        f"{result.frames:,} pictures, "
        f"{result.others:,} other messages, {target.stat().st_size / 1e6:.2f} MB"
    )
    for count, what in (
        (
            result.dropped_triggers,
            "trigger edges left out: .npz and .h5 keep them all, .aedat4 those of input 0, "
            "a bag in evt3 those of inputs 0 to 15",
        ),
        (result.dropped_frames, "pictures left out"),
    ):
        if count:
            typer.echo(f"note: {count:,} {what}", err=True)
    for text in warnings:
        typer.echo(f"warning: {text}", err=True)
