"""``evdistill train``: an experiment from its YAML file to a checkpoint and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import Classes, OutFolderOption, Overwrite, Resume, WriteClasses

PLACE = Place("Training", 2)
EXAMPLES = (
    "evdistill train config/train/street6.yaml",
    "evdistill train my_experiment.yaml --classes classes.yaml",
    "evdistill train config/train/street6.yaml --set optimiser.lr=0.001 --set steps=500",
    "evdistill train config/train/street6.yaml --set steps=500 --print-config",
)


def command(
    config: Annotated[
        Path,
        typer.Argument(metavar="CONFIG", help="Experiment, such as config/train/street6.yaml."),
    ],
    out: OutFolderOption = None,
    classes: Classes = None,
    write_classes: WriteClasses = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a value of the file; may be repeated."
        ),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print the experiment with all its values, and end."),
    ] = False,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Short for --set steps=N.", min=1)
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Processes (GPUs) on this machine; short for --set devices=N.",
            min=1,
        ),
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a student or a teacher, or distil a student.

    The key `stage` of the file says which: student, teacher or distill.

    The folder of the run, runs/NAME if --out names no other, gets last.pt, best.pt, metrics.jsonl
    and report.html. Ctrl-C ends the run after the step at hand with a checkpoint; --resume goes on
    as if nothing had happened.
    """
    from evdistill_core.cli._classes import check_experiment, skeleton_for_unknown_classes
    from evdistill_core.foundation.outputs import check_folder
    from evdistill_core.training.console import run_with_progress
    from evdistill_core.training.loop import CHECKPOINTS
    from evdistill_core.training.stages import experiment_text, load_with_classes, make_trainer

    _require(config)
    short = [f"{key}={n}" for key, n in (("steps", steps), ("devices", devices)) if n is not None]
    with skeleton_for_unknown_classes(write_classes, overwrite=overwrite):
        experiment, origin = load_with_classes(config, [*(changes or []), *short], classes=classes)
    if print_config:
        typer.echo(experiment_text(experiment), nl=False)
        return
    folder = out or Path("runs") / experiment.name
    cure = "go on with --resume"
    check_folder(folder, CHECKPOINTS, overwrite=overwrite or resume, cure=cure)
    check_experiment(experiment, origin)
    run_with_progress(make_trainer(experiment, folder, resume=resume, overwrite=overwrite))


def _require(config: Path) -> None:
    """Refuse an experiment that is not there, with those of config/train.

    Raises:
        ConfigError: there is no such file.
    """
    from evdistill_core.foundation.errors import ConfigError
    from evdistill_core.foundation.suggestions import did_you_mean, near_path

    if config.exists():
        return
    here = {path.stem: str(path) for path in sorted(Path("config/train").glob("*.yaml"))}
    near = near_path(config)
    if not near and config.stem in here:
        near = did_you_mean(here[config.stem], here.values())
    cure = near or f"; config/train has {', '.join(here) or 'some in the repository'}"
    raise ConfigError(f"there is no configuration {config}{cure}")
