"""``evdistill convert``: recordings into another format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import (
    End,
    EventEncoding,
    EventsTopic,
    FrameId,
    FrameStep,
    FramesTopic,
    Json,
    OutFile,
    Overwrite,
    PacketMs,
    Start,
    span_us,
)
from evdistill_core.cli._reading import AS_TOLD, Reading, reads_recordings

PLACE = Place("Recordings", 4)
EXAMPLES = (
    "evdistill convert street.aedat4 street.mcap",
    "evdistill convert drive.raw drive.h5 --start 10 --end 20",
    "evdistill convert recordings/ more.raw --out bags/ --format mcap",
)


@reads_recordings
def command(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE... [TARGET]",
            help="Recordings or folders of them, then the file to make: .mcap (a rosbag2), "
            ".aedat4, .h5, .npz, .raw (EVT3), .txt or .csv. Of several recordings the target is "
            "a folder.",
        ),
    ],
    out: OutFile = None,
    suffix: Annotated[
        Literal["mcap", "aedat4", "h5", "npz", "raw", "txt", "csv"] | None,
        typer.Option("--format", help="Of the files made of several recordings; default: mcap."),
    ] = None,
    reading: Reading = AS_TOLD,
    start: Start = 0.0,
    end: End = None,
    encoding: EventEncoding = "libcaer_cmp",
    packet_ms: PacketMs = 10.0,
    frame_step: FrameStep = 1,
    events_topic: EventsTopic = "/event_camera/events",
    frames_topic: FramesTopic = "/event_camera/image_raw",
    frame_id: FrameId = "event_camera",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Convert recordings to another format.

    Written are ROS 2 bags, AEDAT4, HDF5, npz, EVT3 (.raw) and text.

    Event times, coordinates and order are kept exactly (evt3: times modulo 2^24 us). A file appears
    only when it is complete; Ctrl-C leaves nothing behind.

    Several recordings, or a folder of them, become files of the same names in the target folder.
    One that fails does not stop the others.
    """
    from evdistill_core.cli._converted import convert_file
    from evdistill_core.cli._outputs import check_new_file, print_json, sources_and_target
    from evdistill_core.cli._several import each, several
    from evdistill_core.foundation.errors import ConfigError
    from evdistill_core.recordings.convert import ConvertConfig

    sources, target = sources_and_target(paths, out)
    start_us, end_us = span_us(start, end)
    config = ConvertConfig(
        encoding=encoding,
        start_us=start_us,
        end_us=end_us,
        packet_us=round(packet_ms * 1e3),
        frame_step=frame_step,
        events_topic=events_topic,
        frames_topic=frames_topic,
        frame_id=frame_id,
    )
    many = several(sources, reading)
    if many is None:
        if suffix is not None and target.suffix != f".{suffix}":
            raise ConfigError(f"--format {suffix} does not fit {target}: its ending decides")
        check_new_file(target, overwrite=overwrite, sources=sources, several=True)
        facts = convert_file(sources[0], target, reading, lambda _: config, as_json=as_json)
        if as_json:
            print_json(facts)
        return
    targets = _targets(many, target, suffix or "mcap", overwrite=overwrite)
    outcome = each(
        many,
        lambda one: convert_file(one, targets[one], reading, lambda _: config, as_json=as_json),
    )
    if as_json:
        print_json(outcome.facts())
    outcome.finish("converted", quiet=as_json)


def _targets(
    sources: Sequence[Path], folder: Path, suffix: str, *, overwrite: bool
) -> dict[Path, Path]:
    """Return the file that is made of each recording; refuse those that must not be replaced."""
    from evdistill_core.cli._several import names_of
    from evdistill_core.foundation.outputs import check_file, check_folder

    check_folder(folder, (), overwrite=overwrite)
    targets = {path: folder / f"{name}.{suffix}" for path, name in names_of(sources).items()}
    for source, target in targets.items():
        check_file(target, overwrite=overwrite, sources=(source,))
    return targets
