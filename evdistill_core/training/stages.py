"""Experiments by stage: which configuration and which trainer a YAML file means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evdistill_core.data.own_classes import classes_of_experiment
from evdistill_core.foundation.class_file import is_class_file, read_class_file
from evdistill_core.foundation.config import (
    dump_yaml,
    from_mapping,
    load_yaml,
    merged,
    naming,
    with_assignments,
)
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.suggestions import did_you_mean, near_path
from evdistill_core.training.config import TrainConfig
from evdistill_core.training.distill_config import DistillConfig, TeacherConfig
from evdistill_core.training.distillation import DistillTrainer
from evdistill_core.training.loop import BEST, LAST, Trainer
from evdistill_core.training.onnx_teacher_config import OnnxTeacherConfig, with_class_path
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
    with naming(path):
        return experiment_of(with_assignments(_read(path), changes))


def _read(path: Path, read_before: tuple[Path, ...] = ()) -> dict[str, object]:
    """Return what a YAML file holds, with what it extends.

    Paths of class files in it, and of the file that it extends, count from its folder.
    """
    values = load_yaml(path)
    if any(isinstance(v, dict) and "ros__parameters" in v for v in values.values()):
        raise ConfigError(
            f"{path} is a ROS parameter file, for the nodes and `evdistill run --params-file`: an "
            "experiment is needed here, such as config/train/street6.yaml"
        )
    classes = values.get("classes")
    if isinstance(classes, str) and is_class_file(classes):
        values["classes"] = str((path.parent / Path(classes).expanduser()).resolve())
    teacher = values.get("teacher")
    if isinstance(teacher, dict):
        values["teacher"] = with_class_path(teacher, path)
    if "extends" not in values:
        return values
    base = _extended(path, values.pop("extends"), read_before)
    return merged(_read(base, (*read_before, path.resolve())), values)


def _extended(path: Path, name: object, read_before: tuple[Path, ...]) -> Path:
    """Return the path of the file that an experiment extends."""
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{path}: extends must name a YAML file, got {name!r}")
    base = path.parent / Path(name).expanduser()
    if not base.is_file():
        raise ConfigError(f"{path}: extends names {name}, but there is no {base}{near_path(base)}")
    chain = [*read_before, path.resolve()]
    if base.resolve() in chain:
        circle = " -> ".join(p.name for p in (*chain[chain.index(base.resolve()) :], base))
        raise ConfigError(f"{path}: extends goes in a circle: {circle}")
    return base


def experiment_of(given: Mapping[str, object]) -> TrainConfig:
    """Return the configuration that plain data means, as a YAML file would hold it.

    Raises:
        ConfigError: a key or a value is wrong, or the stage is unknown.
    """
    values = dict(given)
    stage = values.pop("stage", "student")
    if not isinstance(stage, str) or stage not in STAGES:
        near = did_you_mean(str(stage), STAGES)
        raise ConfigError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}{near}")
    experiment = from_mapping(STAGES[stage][0], values)
    if isinstance(experiment.classes, str) and is_class_file(experiment.classes):
        # A run must not change when the file does.
        experiment = replace(experiment, classes=read_class_file(Path(experiment.classes)))
    if isinstance(experiment, DistillConfig) and isinstance(experiment.teacher, OnnxTeacherConfig):
        experiment = replace(experiment, teacher=experiment.teacher.frozen())
    return experiment


def load_with_classes(
    source: Path | Mapping[str, object],
    changes: Sequence[str] = (),
    *,
    classes: str | None = None,
) -> tuple[TrainConfig, str]:
    """Return an experiment whose labels have a meaning, and who says it.

    Args:
        source: YAML file of the experiment, or its content.
        changes: see ``load_experiment``.
        classes: preset or path of a class file, instead of what the experiment names.

    Raises:
        ConfigError: see ``load_experiment``; or the class file is wrong.
        UnknownClassesError: nothing says what labels mean.
    """
    values = _read(source) if isinstance(source, Path) else dict(source)
    with naming(source if isinstance(source, Path) else None):
        values = with_assignments(values, changes)
        experiment = experiment_of(values)
    own, origin = classes_of_experiment(
        experiment.data,
        given=classes,
        configured=experiment.classes if "classes" in values else None,
        preset=experiment.classes,
    )
    return replace(experiment, classes=own), origin


def names_classes(path: Path, changes: Sequence[str] = ()) -> bool:
    """Return whether a YAML file of an experiment, or a change of it, has the key ``classes``."""
    return "classes" in with_assignments(_read(path), changes)


def train(
    config: str | Path | Mapping[str, object],
    out: str | Path | None = None,
    *,
    classes: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Path:
    """Run an experiment to its end, with progress on the terminal.

    Args:
        config: YAML file of the experiment (``config/train``), or its content as a dict.
        out: folder of the run; None: ``runs/<name of the experiment>``.
        classes: a class file or a preset (docs/how-to/classes.md), instead of the experiment's.
        resume: go on from the last checkpoint in the folder.
        overwrite: replace a run that the folder holds.

    Returns:
        The checkpoint to go on with: the best on the validation sets, else the last.

    Raises:
        ConfigError: the file is missing or wrong.
        DataError: images or recordings are missing, or nothing says what their labels mean.
        TrainingError: the run cannot start or go on.
        KeyboardInterrupt: Ctrl-C or SIGTERM ended it; its checkpoint is written.
    """
    # Only here: a caller in a notebook needs the bar, the trainer does not.
    from evdistill_core.training.console import run_with_progress  # noqa: PLC0415

    given = None if classes is None else str(classes)
    source = Path(config).expanduser() if isinstance(config, str | Path) else config
    experiment, _ = load_with_classes(source, classes=given)
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
