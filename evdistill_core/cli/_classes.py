"""What `train`, `distill-on`, `evaluate` and `simulate` share about the classes of a user."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from evdistill_core.data.class_survey import LabelShares
    from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages
    from evdistill_core.data.recorded_masks import RecordedMasks
    from evdistill_core.foundation.labels import ClassTable
    from evdistill_core.training.config import TrainConfig


@contextlib.contextmanager
def skeleton_for_unknown_classes(target: Path | None, *, overwrite: bool = False) -> Iterator[None]:
    """Print a class file to fill in, or write it, where the block finds classes without a name.

    A file that was written was asked for: the command ends there, without an error.

    Raises:
        Exit: the file is written.
        OutputError: the file to write cannot or must not be written.
        ConfigError: a file was asked for, and the classes have their names already.
    """
    from evdistill_core.data.own_classes import UnknownClassesError
    from evdistill_core.foundation.errors import ConfigError
    from evdistill_core.foundation.files import write_text_atomic
    from evdistill_core.foundation.outputs import check_file

    if target is not None:
        check_file(target, overwrite=overwrite)
    try:
        yield
    except UnknownClassesError as error:
        if target is None:
            typer.echo(error.skeleton, nl=False)
            raise
        write_text_atomic(target, error.skeleton)
        typer.echo(
            f"{target}: a class file; fill in its names, then run this again with --classes "
            f"{target} and without --write-classes",
            err=True,
        )
        raise typer.Exit from None
    if target is not None:  # a training that nobody asked for must not begin
        raise ConfigError(
            f"{target} is not written: the labels have a meaning already, from --classes, a "
            "classes.yaml beside them, the profile or their layout; leave --write-classes out"
        )


def check_images(sets: Iterable[ImagesConfig], classes: ClassTable, origin: str) -> None:
    """Read all labels of segmentation before anything is trained, and print what they hold.

    Args:
        sets: the images.
        classes: what their labels mean.
        origin: who says so, for the headline.

    Raises:
        DataError: labels are damaged, or hold values without a meaning.
    """
    from evdistill_core.data.class_survey import check_labels
    from evdistill_core.data.labelled_images import LabelledImages

    told: set[str] = set()
    for images in sets:
        if images.is_recognition:
            continue
        files = LabelledImages(images, classes)
        with _progress(len(files)) as on_image:
            shares = check_labels(partial(_label, files), len(files), classes, on_image=on_image)
        _show(shares, f"{images.root}: {len(files)} images, classes of {origin}")
        for note in files.notes:
            if note not in told:  # two parts of one list have the same files without a counterpart
                told.add(note)
                typer.echo(note, err=True)


def check_experiment(experiment: TrainConfig, origin: str) -> None:
    """Read the labels of a class file, and all masks of recordings, and print what they hold.

    Args:
        experiment: with its classes.
        origin: who says what they mean.

    Raises:
        DataError: labels are damaged, or hold values without a meaning.
    """
    from evdistill_core.data.labelled_images import ImagesConfig
    from evdistill_core.data.own_classes import parts_of
    from evdistill_core.data.recorded_masks import RecordedMasks, RecordedMasksConfig
    from evdistill_core.foundation.class_file import ClassFile

    table = experiment.class_table()
    if isinstance(experiment.classes, ClassFile):
        check_images(parts_of(experiment.data, ImagesConfig), table, origin)
    for recorded in parts_of(experiment.data, RecordedMasksConfig):
        _check_recordings(RecordedMasks(recorded, experiment.input, table), table, origin)


def _check_recordings(source: RecordedMasks, classes: ClassTable, origin: str) -> None:
    from evdistill_core.data.class_survey import check_labels

    with _progress(len(source)) as on_image:
        shares = check_labels(source.label, len(source), classes, on_image=on_image)
    _show(shares, f"{source.name}: {len(source)} masks of recordings, classes of {origin}")
    for note in source.notes:
        typer.echo(note, err=True)


def _label(files: LabelledImages, number: int) -> npt.NDArray[np.uint8]:
    return files[number].label


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("checking labels", total=total)
        yield lambda done: progress.update(task, completed=done)


def _show(shares: LabelShares, title: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    typer.echo(title)
    table = Table("class", "thing")
    for name in ("pixels", "images"):
        table.add_column(name, justify="right")
    whole = max(1, int(shares.pixels.sum()))
    infos = shares.classes.classes
    rows = [(c.name, "yes" if c.is_thing else "") for c in infos]
    rows += [("(another thing)", ""), ("(ignored)", "")]
    for (name, thing), pixels, images in zip(rows, shares.pixels, shares.images, strict=True):
        if name == "(another thing)" and not pixels:
            continue
        table.add_row(escape(name), thing, f"{pixels / whole:.1%}", f"{images:,}")
    Console().print(table)
    for name in shares.absent:
        typer.echo(f"the class {name!r} is in none of these images: it cannot be learnt", err=True)
