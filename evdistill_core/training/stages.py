"""Experiments by stage: which configuration and which trainer a YAML file means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evdistill_core.foundation.config import (
    dump_yaml,
    from_mapping,
    load_yaml,
    with_assignments,
)
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.suggestions import did_you_mean
from evdistill_core.training.config import TrainConfig
from evdistill_core.training.distill_config import DistillConfig, TeacherConfig
from evdistill_core.training.distillation import DistillTrainer
from evdistill_core.training.loop import BEST, LAST, Trainer
from evdistill_core.training.teacher import TeacherTrainer

# student: labelled event windows; teacher: labelled images; distill: both sides, unpaired.
STAGES: Mapping[str, tuple[type[TrainConfig], type[Trainer]]] = {
    trainer.stage: (config, trainer)
    for config, trainer in (
        (TrainConfig, Trainer),
        (TeacherConfig, TeacherTrainer),
        (DistillConfig, DistillTrainer),
    )
}


def load_experiment(path: Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Return the configuration in a YAML file; its key ``stage`` says of which kind.

    Args:
        path: the file.
        changes: ``KEY=VALUE`` texts that win over it, see ``with_assignments``.

    Raises:
        ConfigError: the file or a change is wrong, or the stage is unknown.
    """
    values = with_assignments(load_yaml(path), changes)
    stage = values.pop("stage", "student")
    if not isinstance(stage, str) or stage not in STAGES:
        near = did_you_mean(str(stage), STAGES)
        raise ConfigError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}{near}")
    return from_mapping(STAGES[stage][0], values)


def train(
    config: str | Path,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Path:
    """Run an experiment to its end, with progress on the terminal.

    Args:
        config: YAML file of the experiment (``config/train``).
        out: folder of the run; None: ``runs/<name of the experiment>``.
        resume: go on from the last checkpoint in the folder.
        overwrite: replace a run that the folder holds.

    Returns:
        The checkpoint to go on with: the best on the validation sets, else the last.

    Raises:
        ConfigError: the file is missing or wrong.
        DataError: images or recordings are missing.
        TrainingError: the run cannot start or go on.
        KeyboardInterrupt: Ctrl-C ended it; its checkpoint is written.
    """
    # Only here: a caller in a notebook needs the bar, the trainer does not.
    from evdistill_core.training.console import run_with_progress  # noqa: PLC0415

    experiment = load_experiment(Path(config).expanduser())
    folder = Path("runs") / experiment.name if out is None else Path(out).expanduser()
    run_with_progress(make_trainer(experiment, folder, resume=resume, overwrite=overwrite))
    best = folder / BEST
    return best if best.exists() else folder / LAST


def experiment_text(config: TrainConfig) -> str:
    """Return the YAML text of a configuration that ``load_experiment`` reads back to its equal."""
    (stage,) = (name for name, (kind, _) in STAGES.items() if kind is type(config))
    return f"stage: {stage}\n{dump_yaml(config)}"


def make_trainer(
    config: TrainConfig, out: Path, *, resume: bool = False, overwrite: bool = False
) -> Trainer:
    """Return the trainer of a configuration (see ``Trainer`` for arguments and errors)."""
    trainers = {kind: trainer for kind, trainer in STAGES.values()}
    return trainers[type(config)](config, out, resume=resume, overwrite=overwrite)
