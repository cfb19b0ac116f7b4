"""Experiments by stage: which configuration and which trainer a YAML file means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evdistill_core.foundation.config import from_mapping, load_yaml
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.training.config import TrainConfig
from evdistill_core.training.distill_config import DistillConfig, TeacherConfig
from evdistill_core.training.distillation import DistillTrainer
from evdistill_core.training.loop import Trainer
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


def make_trainer(config: TrainConfig, out: Path, *, resume: bool = False) -> Trainer:
    """Return the trainer of a configuration (see ``Trainer`` for errors)."""
    trainers = {kind: trainer for kind, trainer in STAGES.values()}
    return trainers[type(config)](config, out, resume=resume)
