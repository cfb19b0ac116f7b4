"""Experiments by stage: which configuration and which trainer a YAML file means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evdistill_core.foundation.config import from_mapping, load_yaml
from evdistill_core.foundation.errors import ConfigError
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


def load_experiment(path: Path) -> TrainConfig:
    """Return the configuration in a YAML file; its key ``stage`` says of which kind.

    Raises:
        ConfigError: the file is missing or wrong, or the stage is unknown.
    """
    values = load_yaml(path)
    stage = values.pop("stage", "student")
    if not isinstance(stage, str) or stage not in STAGES:
        raise ConfigError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}")
    return from_mapping(STAGES[stage][0], values)


def train(config: str | Path, out: str | Path | None = None, *, resume: bool = False) -> Path:
    """Run an experiment to its end, with progress on the terminal.

    Args:
        config: YAML file of the experiment (``config/train``).
        out: folder of the run; None: ``runs/<name of the experiment>``.
        resume: go on from the last checkpoint in the folder.

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
    run_with_progress(make_trainer(experiment, folder, resume=resume))
    best = folder / BEST
    return best if best.exists() else folder / LAST


def make_trainer(config: TrainConfig, out: Path, *, resume: bool = False) -> Trainer:
    """Return the trainer of a configuration (see ``Trainer`` for errors)."""
    trainers = {kind: trainer for kind, trainer in STAGES.values()}
    return trainers[type(config)](config, out, resume=resume)
