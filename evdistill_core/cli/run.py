"""``evdistill run``: recordings through the same pipeline as a live camera."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import (
    End,
    Json,
    OutFolder,
    Overwrite,
    Parameters,
    ParamsFile,
    RecordingArguments,
    Start,
    Student,
    span_us,
)
from evdistill_core.cli._reading import AS_TOLD, Reading, reads_recordings

PLACE = Place("Recordings", 6)
EXAMPLES = (
    "evdistill run street.mcap --out out/street",
    "evdistill run street.raw -o out/street --student my.evstudent --start 5 --end 10",
    "evdistill run recordings/ --out out/all -p min_score:=0.6",
)


@reads_recordings
def command(
    recordings: RecordingArguments,
    out: OutFolder,
    student: Student = None,
    params_file: ParamsFile = None,
    parameter: Parameters = None,
    reading: Reading = AS_TOLD,
    start: Start = 0.0,
    end: End = None,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="Neither overlay.mp4 nor overlay.png: faster.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show no progress and no table.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Put recordings through a student.

    The folder gets a page, report.html, with what was found; overlay.mp4, overlay.png, report.json
    and a bag: masks.mcap, or classifications.mcap of a student of recognition. Several recordings,
    or a folder of them, get a folder each in it. One that fails does not stop the others.

    No window is dropped: the recording waits for the network. Events that are left out are
    counted, each with its reason. The same packets give the same results
    as the live front ends when those drop nothing.
    """
    from rich.console import Console

    from evdistill_core.cli._outputs import print_json
    from evdistill_core.cli._several import each, several
    from evdistill_core.foundation.outputs import check_folder
    from evdistill_core.perception.offline import run_recording
    from evdistill_core.perception.parameter_files import load_parameters, parse_assignments
    from evdistill_core.perception.result_files import RESULTS
    from evdistill_core.perception.run_table import print_run

    span_us(start, end)  # refuses an impossible one
    many = several(recordings, reading)
    if many is None:
        check_folder(out, RESULTS, overwrite=overwrite, sources=recordings)
    folders = {} if many is None else _folders(many, out, overwrite=overwrite)
    overrides = parse_assignments(parameter or [])
    if student is not None:
        overrides["student"] = str(student)
    parameters = load_parameters(params_file, overrides)

    def one(path: Path) -> dict[str, object]:
        folder = folders.get(path, out)
        if many is not None and not quiet and not as_json:
            typer.echo(f"\n{path}")
        report = run_recording(
            path,
            folder,
            parameters,
            reading=reading,
            span_s=(start, end),
            pictures=not no_pictures,
            show_progress=not quiet,
        )
        if quiet and not as_json:
            typer.echo(f"{report['windows']} windows in {report['wall_s']} s -> {folder}")
        elif not as_json:
            print_run(report, folder, Console())
        for text in cast("list[str]", report["warnings"]):
            typer.echo(f"warning: {text}", err=True)
        return report

    if many is None:
        report = one(recordings[0])
        if as_json:
            print_json(report)
        return
    outcome = each(many, one)
    if as_json:
        print_json(outcome.facts())
    outcome.finish("computed", quiet=as_json)


def _folders(recordings: Sequence[Path], out: Path, *, overwrite: bool) -> dict[Path, Path]:
    """Return the folder for the results of each recording; refuse one that has some already."""
    from evdistill_core.cli._several import names_of
    from evdistill_core.foundation.outputs import check_folder
    from evdistill_core.perception.result_files import RESULTS

    check_folder(out, (), overwrite=overwrite)
    folders = {path: out / name for path, name in names_of(recordings).items()}
    for folder in folders.values():
        check_folder(folder, RESULTS, overwrite=overwrite, sources=recordings)
    return folders
