"""``evdistill convert``: one recording into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    source: Annotated[Path, typer.Argument(help="Recording of any kind that `info` reads.")],
    target: Annotated[
        Path, typer.Argument(help="File to make: .mcap (a rosbag2), .aedat4, .h5 or .npz.")
    ],
    topic: Annotated[str | None, typer.Option(help="Event topic, if there are several.")] = None,
    encoding: Annotated[
        str, typer.Option(help="Of the events: libcaer_cmp, or evt3 (holds trigger edges too).")
    ] = "libcaer_cmp",
    start: Annotated[float, typer.Option(help="Begin, seconds after the first event.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Stop, seconds after the first event.")] = None,
    packet_ms: Annotated[float, typer.Option(help="Duration of one event message.")] = 10.0,
    frame_step: Annotated[int, typer.Option(help="Keep every n-th picture; 0 keeps none.")] = 1,
    events_topic: Annotated[str, typer.Option()] = "/event_camera/events",
    frames_topic: Annotated[str, typer.Option()] = "/event_camera/image_raw",
    frame_id: Annotated[str, typer.Option()] = "event_camera",
) -> None:
    """Convert a recording to a ROS 2 bag (EventPacket and Image messages), AEDAT4, HDF5 or npz.

    Event times, coordinates and order are kept exactly (evt3: times modulo 2^24 us). The file
    appears only when it is complete; Ctrl-C leaves nothing behind.
    """
    from evdistill_core.cli._progress import reading_progress
    from evdistill_core.recordings.convert import ConvertConfig, convert
    from evdistill_core.recordings.opening import open_recording

    config = ConvertConfig(
        encoding=encoding,
        start_us=round(start * 1e6),
        end_us=None if end is None else round(end * 1e6),
        packet_us=round(packet_ms * 1e3),
        frame_step=frame_step,
        events_topic=events_topic,
        frames_topic=frames_topic,
        frame_id=frame_id,
    )
    with (
        open_recording(source, topic=topic) as recording,
        reading_progress(f"{source.name} -> {target.name}") as report,
    ):
        result = convert(
            recording, target, config, lambda events: report(recording.fraction_read, events)
        )
        warnings = recording.info.warnings
    packets = f" in {result.packets:,} packets" if result.packets else ""
    typer.echo(
        f"{target}: {result.events:,} events{packets}, {result.triggers:,} triggers, "
        f"{result.frames:,} pictures, {target.stat().st_size / 1e6:.2f} MB"
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
