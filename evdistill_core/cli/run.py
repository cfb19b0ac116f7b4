"""``evdistill run``: a recording through the same pipeline as a live camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    recording: Annotated[Path, typer.Argument(help="Any recording that `info` reads.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")],
    student: Annotated[
        Path | None, typer.Option(help="Student file; default: the parameter's.")
    ] = None,
    params_file: Annotated[
        Path | None, typer.Option("--params-file", help="ROS parameter file, as for live.")
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="One parameter, NAME:=VALUE.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Event topic or stream.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Put a recording through a student: overlay.mp4, overlay.png, a bag, report.json in OUT.

    The bag is masks.mcap, or classifications.mcap of a student of recognition. Nothing is dropped:
    the recording waits for the network. The same packets give the same results as the live front
    ends when those drop nothing.
    """
    from evdistill_core.perception.offline import run_recording
    from evdistill_core.perception.parameter_files import load_parameters, parse_assignments

    overrides = parse_assignments(parameter or [])
    if student is not None:
        overrides["student"] = str(student)
    parameters = load_parameters(params_file, overrides)
    report = run_recording(
        recording,
        out,
        parameters,
        topic=topic,
        show_progress=not quiet,
    )
    windows, seconds = report["windows"], report["wall_s"]
    typer.echo(f"{windows} windows in {seconds} s -> {out}")
