"""Which classes a user means: those he names, those beside his data, or none, which is an error.

Labels whose meaning nobody says are never taken for the numbers of some preset.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from evdistill_core.data.class_survey import MaskSurvey, class_file_skeleton, survey_masks
from evdistill_core.data.image_layouts import LAYOUTS
from evdistill_core.data.labelled_images import ImagesConfig
from evdistill_core.data.recorded_masks import RecordedMasksConfig, labelled_recordings, mask_files
from evdistill_core.foundation.class_file import (
    CLASS_FILE,
    Classes,
    is_class_file,
    named_table,
    read_class_file,
)
from evdistill_core.foundation.errors import ConfigError, DataError
from evdistill_core.foundation.labels import ClassTable

T = TypeVar("T")


class UnknownClassesError(DataError):
    """Labels hold values, and nothing says which classes they are.

    Attributes:
        skeleton: text of a class file with a class for every value, names to be filled in.
    """

    def __init__(self, survey: MaskSurvey, where: Path) -> None:
        self.skeleton = class_file_skeleton(survey, str(where))
        super().__init__(
            f"nothing says what the labels in {where} mean: they hold {survey.summary()}. Name the "
            "classes in a class file (--write-classes FILE makes one to fill in) and give it with "
            f"--classes, or put it there as {CLASS_FILE} (docs/how-to/classes.md)"
        )


def chosen(classes: str) -> Classes:
    """Return what a user names: a preset as it is, a class file with its content.

    Raises:
        ConfigError: no preset has this name, or the file is wrong.
    """
    if is_class_file(classes):
        return read_class_file(Path(classes))
    named_table(classes)
    return classes


def classes_of_images(
    images: ImagesConfig, *, given: str | None, configured: Classes | None, preset: Classes
) -> tuple[Classes, str]:
    """Return the classes of labelled images, and where they are said.

    The first of these: what the user gives, a class file beside the images, names that the layout
    has on disk (folders, data.yaml), the configuration. The preset stands for labels of published
    sets, whose layout knows what they mean.

    Args:
        images: where they lie.
        given: preset or path of a class file.
        configured: what a configuration names; None: nothing.
        preset: where nobody names classes.

    Raises:
        UnknownClassesError: nothing says what the labels mean.
        ConfigError: the class file is wrong.
    """
    if given is not None:
        return chosen(given), given
    beside = images.root / CLASS_FILE
    if beside.is_file():
        return read_class_file(beside), str(beside)
    layout = LAYOUTS.get(images.layout)
    on_disk = layout.class_file(images) if layout.class_file is not None else None
    if on_disk is not None:
        return on_disk, f"the names in {images.root}"
    if configured is not None:
        return configured, "the configuration"
    check_meaning(images)
    return preset, f"the layout {images.layout}"


def classes_of_experiment(
    data: object, *, given: str | None, configured: Classes | None, preset: Classes
) -> tuple[Classes, str]:
    """Return the classes of an experiment, and where they are said.

    The first of these: what the user gives, the experiment itself, a class file beside its images
    or recordings. The preset stands where layouts know what their labels mean.

    Args:
        data: of the configuration.
        given: preset or path of a class file.
        configured: what the experiment names; None: nothing.
        preset: where nobody names classes.

    Raises:
        UnknownClassesError: nothing says what labels mean.
        ConfigError: a class file is wrong.
    """
    if given is not None:
        return chosen(given), given
    if configured is not None:
        return configured, "the experiment"
    sets, folders = list(parts_of(data, ImagesConfig)), _recorded_folders(data)
    beside = _one_class_file([i.root / CLASS_FILE for i in sets], folders)
    if beside is not None:
        return read_class_file(beside), str(beside)
    for images in sets:
        check_meaning(images)
    if folders:
        raise UnknownClassesError(survey_masks(mask_files(folders)), folders[0])
    return preset, "published sets"


def check_meaning(images: ImagesConfig) -> None:
    """Raise UnknownClassesError where neither the layout nor a file says what labels mean."""
    layout = LAYOUTS.get(images.layout)
    survey = layout.unknown_values(images) if layout.unknown_values is not None else None
    if survey is not None:
        raise UnknownClassesError(survey, images.root)


def classes_of_recordings(
    folders: tuple[Path, ...], student: ClassTable, *, given: str | None
) -> tuple[ClassTable, str]:
    """Return a student's classes with the meaning of masks beside recordings, and who says it.

    The first of these: what the user gives, a class file in a folder or in the one above it, what
    the student was trained with.

    Args:
        folders: of ``RecordedMasksConfig``.
        student: its classes.
        given: preset or path of a class file.

    Raises:
        UnknownClassesError: nothing says what the masks mean.
        ConfigError: the class file is wrong, or has a class that the student does not have.
    """
    if given is not None:
        return student.with_masks_of(named_table(given)), given
    beside = _one_class_file([], folders)
    if beside is not None:
        return student.with_masks_of(read_class_file(beside).table()), str(beside)
    if student.masks is not None:
        return student, "the student"
    raise UnknownClassesError(survey_masks(mask_files(folders)), folders[0])


def _one_class_file(beside_images: Sequence[Path], folders: Sequence[Path]) -> Path | None:
    """Return the class file beside images and recordings; None: there is none.

    Raises:
        ConfigError: it is wrong, or two of them differ.
    """
    found = [p for p in beside_images if p.is_file()]
    for folder in (f for given in folders for f in labelled_recordings(given)):
        near = [place / CLASS_FILE for place in (folder, folder.parent)]
        found += [p for p in near if p.is_file()][:1]
    for path in found[1:]:
        if read_class_file(path) != read_class_file(found[0]):
            raise ConfigError(f"{found[0]} and {path} differ: give the right one with --classes")
    return found[0] if found else None


def _recorded_folders(data: object) -> tuple[Path, ...]:
    return tuple(p for r in parts_of(data, RecordedMasksConfig) for p in r.paths)


def parts_of(config: object, kind: type[T]) -> Iterator[T]:
    """Yield every part of a configuration that is of this kind, each once."""
    found: list[T] = []
    _collect(config, kind, found)
    seen: list[T] = []
    for part in found:
        if part not in seen:
            seen.append(part)
            yield part


def _collect(value: object, kind: type[T], found: list[T]) -> None:
    if isinstance(value, kind):
        found.append(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _collect([getattr(value, f.name) for f in dataclasses.fields(value)], kind, found)
    elif isinstance(value, Mapping):
        _collect(list(value.values()), kind, found)
    elif isinstance(value, tuple | list):
        for part in value:
            _collect(part, kind, found)
