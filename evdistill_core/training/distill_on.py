"""The short way for a user with a camera of his own: two profiles, pointed at his data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from evdistill_core.data.build import SourceConfig
from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages, find_images
from evdistill_core.data.unpaired import DistillDataConfig, TeacherDataConfig
from evdistill_core.foundation.class_file import Classes
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.recordings.finding import find_recordings
from evdistill_core.training.config import TrainConfig
from evdistill_core.training.distill_config import DistillConfig, TeacherConfig
from evdistill_core.training.onnx_teacher_config import OnnxTeacherConfig, read_onnx_teacher
from evdistill_core.training.stages import STAGES, load_experiment
from evdistill_core.training.teacher_base import class_ids

C = TypeVar("C", bound=TrainConfig)
# What frames of the camera itself add, with the weights of the row wide-translation-frames of
# benchmarks/accuracy/: the teacher sees them, and G_ei is told what they show.
FRAME_TERMS = {"paired": 10.0, "kd_paired": 1.0}
FRAME_WITHIN_US = 100_000  # with 10 frames a second or more, every window ends at one
HELD_OUT = 5  # where no images are kept for validation, every fifth part of the list is, at its end


def open_profile(kind: type[C], path: Path) -> C:
    """Read a profile of a stage: ``DistillConfig`` or ``TeacherConfig``.

    Raises:
        ConfigError: it is no such profile.
    """
    config = load_experiment(path)
    if type(config) is not kind:
        (wanted,) = (stage for stage, (of_stage, _) in STAGES.items() if of_stage is kind)
        raise ConfigError(f"{path} is not a profile with stage: {wanted}")
    return config


def find_labelled(
    root: Path, split: str, profile: DistillConfig, *, layout: str = ""
) -> ImagesConfig:
    """Tell how the labelled images of a user lie, for the task of a profile.

    Args:
        root: the folder.
        split: which part of the images.
        profile: decides the task. Where its own images lie alike, their file names are kept.
        layout: of ``ImagesConfig``; empty: whichever fits.

    Raises:
        DataError: there are no such images.
        ConfigError: no layout has this name, or it is of the other task.
    """
    known = profile.data.stills.images
    found = find_images(root, split, is_recognition=known.is_recognition, layout=layout)
    if known.is_recognition and found.layout == known.layout:
        return replace(found, images=known.images, labels=known.labels)
    return found


def split_images(
    images: ImagesConfig, validation: ImagesConfig | None, classes: ClassTable
) -> tuple[ImagesConfig, ImagesConfig]:
    """Return the images to learn from and those that judge.

    Args:
        images: all that are given for training.
        classes: what their labels mean.
        validation: images kept apart by their owner; None: the last fifth of ``images``, which
            for frames of a drive is another stretch of it, not neighbours of what is learnt.

    Raises:
        DataError: images are missing.
        ConfigError: there are too few to keep some apart, or they are listed by class.
    """
    if validation is not None:
        return images, validation
    if images.layout == "class-folders":
        raise ConfigError(
            f"{images.root} is listed class by class, so its last fifth would judge by the last "
            "classes alone: keep a folder of images apart and name it with --validation"
        )
    count = len(LabelledImages(images, classes))
    if count < 2:
        raise ConfigError(f"{images.root} holds {count} labelled image; at least 2 are needed")
    kept = count - max(1, count // HELD_OUT)
    return (
        replace(images, limit=kept),
        replace(images, skip=images.skip + kept, limit=0),
    )


@dataclass(frozen=True)
class LabelledData:
    """The labelled side of a user's data.

    Attributes:
        learnt: images to learn from.
        judging: images that judge.
        classes: what their labels mean.
    """

    learnt: ImagesConfig
    judging: ImagesConfig
    classes: Classes


def teacher_on(profile: TeacherConfig, labelled: LabelledData) -> TeacherConfig:
    """Return the teacher of a profile on these images."""
    config = _with_classes(profile, labelled)
    sets = {
        name: replace(stills, images=labelled.judging)
        for name, stills in config.data.validation_stills.items()
    }
    stills = replace(config.data.stills, images=labelled.learnt)
    return replace(config, data=replace(config.data, stills=stills, validation_stills=sets))


def given_teacher(teacher: Path | None, profile: DistillConfig) -> Path | OnnxTeacherConfig | None:
    """Return the teacher that need not be trained first; None: there is none.

    Args:
        teacher: that of the command: a checkpoint, or a YAML file that describes an ONNX model.
        profile: whose own teacher counts where it is an ONNX model.

    Raises:
        ConfigError: an ONNX file without its description, or a wrong description.
    """
    if teacher is None:
        return profile.teacher if isinstance(profile.teacher, OnnxTeacherConfig) else None
    suffix = teacher.suffix.lower()
    if suffix == ".onnx":
        raise ConfigError(
            f"{teacher} alone does not say what its classes and its input are: name a YAML file "
            "with the keys onnx, classes and normalise (docs/how-to/onnx-teacher.md)"
        )
    return read_onnx_teacher(teacher) if suffix in (".yaml", ".yml") else teacher


def student_on(
    profile: DistillConfig,
    recordings: Sequence[Path],
    labelled: LabelledData,
    teacher: Path | OnnxTeacherConfig,
) -> DistillConfig:
    """Return the distillation of a profile on these recordings and images.

    Raises:
        ConfigError: the target of the profile is not recordings; or an ONNX teacher cannot serve
            a term of it, or does not know a class.
        RecordingError: a path holds no recording.
    """
    config = _with_classes(profile, labelled)
    data = config.data
    if data.recordings is None:
        raise ConfigError(f"profile {config.name} has no data.recordings to point at your own")
    if isinstance(teacher, OnnxTeacherConfig):
        class_ids(teacher.class_names(), config.class_table(), teacher.class_map)
    paths = tuple(found for path in recordings for found in find_recordings(path))
    return replace(
        config,
        teacher=teacher,
        data=replace(
            data,
            stills=replace(data.stills, images=labelled.learnt),
            recordings=replace(data.recordings, paths=paths),
            train=_on_images(data.train, labelled.learnt),
            validation=_on_images(data.validation, labelled.judging),
        ),
    )


def _with_classes(config: C, labelled: LabelledData) -> C:
    # The notes of a profile are about its own images: licence, drives, scores.
    data = config.data
    assert isinstance(data, TeacherDataConfig | DistillDataConfig)  # both have stills
    notes = config.notes if labelled.learnt.layout == data.stills.images.layout else ()
    return replace(config, classes=labelled.classes, notes=notes)


def with_frames(config: DistillConfig) -> DistillConfig:
    """Return the run with the terms of the camera's own frames; those that it has stay as they are.

    Raises:
        ConfigError: the target is not recordings.
    """
    recordings = config.data.recordings
    if recordings is None:
        raise ConfigError("frames come with recordings, and the run has no data.recordings")
    within_us = recordings.frame_within_us or FRAME_WITHIN_US
    added = {name: config.terms[name] or weight for name, weight in FRAME_TERMS.items()}
    return replace(
        config,
        data=replace(config.data, recordings=replace(recordings, frame_within_us=within_us)),
        terms=config.terms | added,
    )


def shortened(config: C, steps: int | None) -> C:
    """Return the run with another number of steps; the warm-up keeps to a tenth of them."""
    if steps is None:
        return config
    warmup = min(config.optimiser.warmup_steps, steps // 10)
    optimiser = replace(config.optimiser, warmup_steps=warmup)
    return replace(config, steps=steps, optimiser=optimiser)


def _on_images(sources: Sequence[SourceConfig], images: ImagesConfig) -> tuple[SourceConfig, ...]:
    def on_images(source: SourceConfig) -> SourceConfig:
        if source.simulation is not None:
            return replace(source, simulation=replace(source.simulation, images=images))
        if source.moving_stills is not None:
            return replace(source, moving_stills=replace(source.moving_stills, images=images))
        return source

    return tuple(map(on_images, sources))
