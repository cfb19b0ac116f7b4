"""``evdistill cut``: a part of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import (
    End,
    Json,
    OutFile,
    Overwrite,
    RecordingArgument,
    Start,
    span_us,
)
from evdistill_core.cli._reading import AS_TOLD, Reading, reads_recordings

if TYPE_CHECKING:
    from evdistill_core.recordings.base import RecordingInfo
    from evdistill_core.recordings.convert import ConvertConfig

PLACE = Place("Recordings", 3)
EXAMPLES = (
    "evdistill cut drive.mcap crossing.mcap --start 12.5 --end 20",
    "evdistill cut drive.raw first_second.h5 --end 1",
)


@reads_recordings
def command(
    source: RecordingArgument,
    target: Annotated[
        Path | None,
        typer.Argument(metavar="TARGET", help="File to make: as `convert` writes."),
    ] = None,
    out: OutFile = None,
    start: Start = 0.0,
    end: End = None,
    reading: Reading = AS_TOLD,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Copy a span of a recording, events and images.

    From a bag into a bag, all other topics are copied unchanged, and names stay. The events are
    packed again, in evt3 if they were, so that the first one is the first of the span. The file
    appears only when it is complete; Ctrl-C leaves nothing behind.
    """
    from evdistill_core.cli._converted import convert_file
    from evdistill_core.cli._outputs import check_new_file, print_json, target_of

    file = target_of(target, out, source)
    start_us, end_us = span_us(start, end)
    check_new_file(file, overwrite=overwrite, sources=(source,))
    facts = convert_file(
        source, file, reading, lambda info: _config(info, start_us, end_us), as_json=as_json
    )
    if as_json:
        print_json(facts)


def _config(info: RecordingInfo, start_us: int, end_us: int | None) -> ConvertConfig:
    """Keep names, encoding and other topics of a bag."""
    from evdistill_core.recordings.convert import ConvertConfig

    is_bag = info.format.startswith("rosbag")
    return ConvertConfig(
        events_topic=info.topic if is_bag and info.topic else ConvertConfig.events_topic,
        frames_topic=(is_bag and info.frame_topic) or ConvertConfig.frames_topic,
        encoding="evt3" if info.encoding == "evt3" else "libcaer_cmp",
        start_us=start_us,
        end_us=end_us,
        other_topics=is_bag,
    )
