"""Options that several commands share: one name, one meaning, one text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from evdistill_core.foundation.errors import ConfigError

# The same names as in the core, which would be slow to import for `--help` (a test compares them).
Device = Literal["auto", "cpu", "cuda"]
Encoding = Literal["libcaer_cmp", "evt3"]

RECORDING_HELP = "Recording of any kind that docs/reference/recordings.md lists."
RECORDINGS_HELP = (
    "Recordings of any kind that docs/reference/recordings.md lists, or folders of them."
)

RecordingArgument = Annotated[Path, typer.Argument(metavar="RECORDING", help=RECORDING_HELP)]
RecordingArguments = Annotated[
    list[Path], typer.Argument(metavar="RECORDING", help=RECORDINGS_HELP)
]

Topic = Annotated[
    str | None,
    typer.Option(
        "--topic", metavar="TOPIC", help="Event topic in the recording, if it has several."
    ),
]
Start = Annotated[
    float,
    typer.Option(
        "--start",
        metavar="SECONDS",
        help="Begin this long after the first event.",
        show_default=False,
    ),
]
End = Annotated[
    float | None,
    typer.Option("--end", metavar="SECONDS", help="Stop this long after the first event."),
]

OutFile = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FILE", help="The file to make, in place of TARGET."),
]
OutFolder = Annotated[
    Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the results.")
]
OutFolderOption = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the results.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a result that is there already.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an earlier run was stopped.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")
]

Student = Annotated[
    Path | None,
    typer.Option(
        "--student",
        metavar="FILE",
        help="Student file, or street6, street6-nano; default: the parameter's, or street6.",
    ),
]
ParamsFile = Annotated[
    Path | None,
    typer.Option(
        "--params-file", metavar="FILE", help="ROS parameter file, such as config/seg.yaml."
    ),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--param", "-p", metavar="NAME:=VALUE", help="One parameter; may be given repeatedly."
    ),
]
Domain = Annotated[
    int | None,
    typer.Option(
        "--domain", metavar="N", min=0, max=232, help="DDS domain; default: ROS_DOMAIN_ID."
    ),
]

ViewAt = Annotated[
    str | None,
    typer.Option(
        "--view",
        metavar="[ADDRESS]",
        help="Serve a live page; default address: 127.0.0.1:8765. Elsewhere it has a token.",
    ),
]

RerunTo = Annotated[
    str | None,
    typer.Option(
        "--rerun",
        metavar="[FILE.rrd|ADDRESS]",
        help="Send windows to Rerun: a file, a viewer, or a new viewer (extra rerun).",
    ),
]
FoxgloveAt = Annotated[
    str | None,
    typer.Option(
        "--foxglove",
        metavar="[ADDRESS]",
        help="Serve windows to Foxglove; default: 127.0.0.1:8765 (extra foxglove).",
    ),
]

Layout = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="NAME",
        help="Layout of the images (docs/how-to/labelled-images.md); default: found out.",
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="FILE",
        help="Class file, or street6, camvid11, dsec11, cityscapes19 (docs/how-to/classes.md).",
    ),
]
WriteClasses = Annotated[
    Path | None,
    typer.Option(
        "--write-classes",
        metavar="FILE",
        help="If nothing says what labels mean: write a class file to fill in.",
    ),
]
Onnx = Annotated[
    bool,
    typer.Option(
        "--onnx/--no-onnx",
        help="Include the ONNX model; without it the student needs torch.",
    ),
]

EventEncoding = Annotated[
    Encoding,
    typer.Option("--encoding", help="Of the events in a bag; evt3 holds trigger edges too."),
]
PacketMs = Annotated[
    float,
    typer.Option("--packet-ms", metavar="MS", help="Duration of one event message in a bag."),
]
FrameStep = Annotated[
    int, typer.Option("--frame-step", metavar="N", help="Keep every n-th image; 0 keeps none.")
]
EventsTopic = Annotated[
    str,
    typer.Option("--events-topic", metavar="TOPIC", help="Name of the event topic in a new bag."),
]
FramesTopic = Annotated[
    str,
    typer.Option("--frames-topic", metavar="TOPIC", help="Name of the image topic in a new bag."),
]
FrameId = Annotated[
    str, typer.Option("--frame-id", metavar="NAME", help="Coordinate frame in the headers.")
]


def span_us(start: float, end: float | None) -> tuple[int, int | None]:
    """Return ``--start`` and ``--end`` in microseconds after the first event.

    Raises:
        ConfigError: the span is empty, or begins before the first event.
    """
    if start < 0:
        raise ConfigError(f"--start must be at least 0 s, got {start:g}")
    if end is not None and end <= start:
        raise ConfigError(
            f"--end must lie after --start, got {start:g} .. {end:g} s; leave it out for the whole "
            "rest"
        )
    return round(start * 1e6), None if end is None else round(end * 1e6)
