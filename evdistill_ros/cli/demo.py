"""``evdistill demo``: real events become masks, three processes, one command."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import OutFolderOption, Overwrite, ParamsFile, Student, ViewAt

PLACE = Place("Live", 0)
EXAMPLES = (
    "evdistill demo",
    "evdistill demo --view",
    "evdistill demo --recording street.mcap --out out/street-demo",
)

RECORDING = "davis346_street.mcap"
OUT = Path("out/demo")


def command(
    out: OutFolderOption = None,
    recording: Annotated[
        Path | None,
        typer.Option(
            metavar="RECORDING", help="Recording to play; default: demo/davis346_street.mcap."
        ),
    ] = None,
    student: Student = None,
    params_file: ParamsFile = None,
    view: ViewAt = None,
    overwrite: Overwrite = False,
) -> None:
    """Play a recording like a camera and segment it live.

    One process plays, one is `evdistill live`, this one watches over DDS on loopback and measures.
    The folder gets overlay.mp4, overlay.png, masks.mcap and report.json. Without --out it is
    out/demo, which belongs to the demo: what an earlier demo left there is replaced.

    With --view it plays over and over on a page, until Ctrl-C, and writes nothing.
    """
    from rich.console import Console

    from evdistill_core.foundation.errors import ConfigError
    from evdistill_core.foundation.outputs import check_folder
    from evdistill_core.perception.front_end import check_student
    from evdistill_core.perception.parameter_files import load_as
    from evdistill_core.perception.parameters import SegmentationParameters
    from evdistill_core.perception.result_files import RESULTS
    from evdistill_core.viewing.live.address import ViewAddress
    from evdistill_ros.standalone.console import StatusView
    from evdistill_ros.standalone.demo import DemoOptions, run_demo, show_demo

    path = _recording(recording)
    folder = OUT if out is None else out
    if view is None:
        check_folder(folder, RESULTS, overwrite=overwrite or out is None, sources=(path,))
    elif out is not None:
        raise ConfigError("--view writes nothing: leave out --out, or --view")
    else:
        ViewAddress.parse(view)
    arguments: list[str] = []
    if params_file is not None:
        arguments += ["--params-file", str(params_file)]
    if student is not None:
        arguments += ["--student", str(student)]
    overrides: dict[str, object] = {} if student is None else {"student": str(student)}
    check_student(load_as(SegmentationParameters, params_file, overrides))
    options = DemoOptions(recording=path, out=folder, live_arguments=tuple(arguments))
    if view is not None:
        show_demo(options, view, say=lambda text: typer.echo(text, err=True))
        return
    with StatusView(Console(stderr=True), "evdistill demo") as table:
        report = run_demo(options, say=table.say, show=table.show)
    _summary(report, folder)


def _recording(path: Path | None) -> Path:
    from evdistill_core.foundation.errors import RecordingError
    from evdistill_core.recordings.opening import open_recording

    if path is None:
        path = Path(__file__).resolve().parents[2] / "demo" / RECORDING
        if not path.is_file():
            raise RecordingError(
                f"the demo recording is not at {path}: run this in a clone of the repository, or "
                "name a recording with --recording"
            )
    with open_recording(path):  # what is none is told now, not by a process that plays it
        return path


def _summary(report: dict[str, object], out: Path) -> None:
    from evdistill_ros.standalone.demo import NEXT, dropped_note

    latency = report["latency_ms"]
    assert isinstance(latency, dict)
    typer.echo(
        f"{report['events']} events, {report['windows']} windows, "
        f"{report['windows_dropped']} dropped, {report['seq_gaps']} gaps; sent to mask received "
        f"p50 {latency['p50']:.1f} ms, p95 {latency['p95']:.1f} ms; "
        f"live process {report['rss_mb']} MB\n"
        f"look at {out}/overlay.png and {out}/overlay.mp4"
    )
    if note := dropped_note(report):
        typer.echo(note)
    typer.echo(NEXT)
    if note := _path_note():
        typer.echo(note)


def _path_note() -> str:
    """Return how to type the command where the shell does not find it, else an empty string."""
    command = Path(sys.argv[0])
    if command.name != "evdistill" or shutil.which("evdistill") is not None:
        return ""
    return f"evdistill is {command}; source {command.with_name('activate')} puts it on your path"
