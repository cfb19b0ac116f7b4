"""``evdistill train``: an experiment from its YAML file to a checkpoint and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    config: Annotated[Path, typer.Argument(help="Experiment, e.g. config/train/street6.yaml.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run [default: runs/<name of the run>].")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the folder.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(help="Stop the schedule at this many steps instead.", min=1)
    ] = None,
    devices: Annotated[
        int | None, typer.Option(help="Processes (GPUs) on this machine instead.", min=1)
    ] = None,
) -> None:
    """Train a student, a teacher, or a student from a teacher (stage: distill).

    Leaves last.pt, best.pt, metrics.jsonl and report.html in the folder of the run. Ctrl-C ends it
    after the step at hand with a checkpoint; --resume goes on as if nothing had happened.
    """
    import dataclasses

    from evdistill_core.training.console import run_with_progress
    from evdistill_core.training.stages import load_experiment, make_trainer

    experiment = load_experiment(config)
    if steps is not None:
        experiment = dataclasses.replace(experiment, steps=steps)
    if devices is not None:
        experiment = dataclasses.replace(experiment, devices=devices)
    folder = out or Path("runs") / experiment.name
    run_with_progress(make_trainer(experiment, folder, resume=resume))
