"""``evdistill distill-on``: recordings of a camera and labelled images in, a student file out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import Classes, Layout, OutFolder, Overwrite, Resume, WriteClasses

if TYPE_CHECKING:
    from evdistill_core.reports.origin import Stopwatch
    from evdistill_core.training.distill_config import DistillConfig

PLACE = Place("Training", 3)
EXAMPLES = (
    "evdistill distill-on my_recordings/ --images data/camvid --validation val",
    "evdistill distill-on my_recordings/ --images my_images/ --classes classes.yaml",
    "evdistill distill-on my_recordings/ --images data/camvid --out runs/my-camera --resume",
)

STUDENT = "student.evstudent"
#: What is worth keeping in the folder; the teacher comes last.
RESULTS = (STUDENT, "student/last.pt", "teacher/last.pt")

_REPOSITORY = Path(__file__).resolve().parents[2]


def command(
    recordings: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECORDING", help="Recordings of your camera, or folders of them; no labels."
        ),
    ],
    images: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Labelled images: images/<split> beside labels/<split> (CamVid), Cityscapes, "
            "images beside masks, YOLO's polygons; for a profile of recognition a folder a class, "
            "or MNIST's files.",
        ),
    ],
    out: OutFolder = Path("runs/my-camera"),
    classes: Classes = None,
    write_classes: WriteClasses = None,
    layout: Layout = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Images to learn from.")] = "train",
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Split that judges; default: the last fifth of the images."
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A teacher that you have instead of a new one: its last.pt, or a YAML file that "
            "describes an ONNX model (docs/how-to/onnx-teacher.md).",
        ),
    ] = None,
    profile: Annotated[Path, typer.Option(metavar="FILE", help="The distillation.")] = Path(
        "config/train/onboard.yaml"
    ),
    teacher_profile: Annotated[Path, typer.Option(metavar="FILE", help="The teacher.")] = Path(
        "config/train/teacher.yaml"
    ),
    frames: Annotated[
        bool,
        typer.Option(
            "--frames", help="Let the teacher see the images in the recordings too (DAVIS)."
        ),
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", help="Steps of the distillation, not the profile's.", min=1),
    ] = None,
    teacher_steps: Annotated[
        int | None,
        typer.Option(metavar="N", help="Steps of the teacher, not its profile's.", min=1),
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Distil a student onto your own camera.

    First a teacher is trained on the images, then the student is distilled from it; a profile whose
    teacher is an ONNX model, and --teacher, leave the first part out. The folder gets
    student.evstudent and a page, report.html, with the score and how it compares with the shipped
    student; student/report.html and teacher/report.html have the curves. Own masks need a class
    file (docs/how-to/classes.md): their labels are read and counted before anything is trained.
    Ctrl-C ends after the current step; the same command with --resume continues in the stage it
    was in.
    """
    from evdistill_core.cli._classes import check_images, skeleton_for_unknown_classes
    from evdistill_core.data.own_classes import classes_of_images
    from evdistill_core.data.unlabelled import open_windows
    from evdistill_core.foundation.class_file import table_of
    from evdistill_core.foundation.outputs import check_folder, remove_results
    from evdistill_core.recordings.finding import find_recordings
    from evdistill_core.reports.origin import Stopwatch
    from evdistill_core.reports.page import PAGE
    from evdistill_core.training.distill_config import DistillConfig, TeacherConfig
    from evdistill_core.training.distill_on import (
        LabelledData,
        find_labelled,
        given_teacher,
        open_profile,
        shortened,
        split_images,
        student_on,
        teacher_on,
        with_frames,
    )
    from evdistill_core.training.stages import names_classes

    stopwatch = Stopwatch()
    distillation = open_profile(DistillConfig, _found(profile))
    given = given_teacher(teacher, distillation)
    results = RESULTS if given is None else RESULTS[:-1]
    cure = "go on with --resume"
    if write_classes is None:  # else nothing is trained
        check_folder(out, results, overwrite=overwrite or resume, cure=cure)
    of_teacher = open_profile(TeacherConfig, _found(teacher_profile)) if given is None else None
    for path in recordings:
        find_recordings(path)  # a wrong path shows before all labels are read
    found = find_labelled(images, split, distillation, layout=layout or "")
    judging = (
        find_labelled(images, validation, distillation, layout=layout or "") if validation else None
    )
    with skeleton_for_unknown_classes(write_classes, overwrite=overwrite):
        own, origin = classes_of_images(
            found,
            given=classes,
            configured=distillation.classes if names_classes(_found(profile)) else None,
            preset=distillation.classes,
        )
    learnt, judging = split_images(found, judging, table_of(own))
    check_images((learnt, judging), table_of(own), origin)
    labelled = LabelledData(learnt, judging, own)
    # Both are read before the first step: a wrong path must not show after hours of teaching.
    source = out / "teacher" / "last.pt" if given is None else given
    pupil = student_on(distillation, recordings, labelled, source)
    if frames:
        pupil = with_frames(pupil)
    assert pupil.data.recordings is not None  # student_on pointed it at them
    open_windows(pupil.data.recordings, pupil.input, seed=0)  # reads them into the index, once
    if not resume:
        remove_results(out, (STUDENT, PAGE))
    if of_teacher is not None:
        master = teacher_on(of_teacher, labelled)
        _stage(shortened(master, teacher_steps), out / "teacher", resume, overwrite)
    if not _stage(shortened(pupil, steps), out / "student", resume, overwrite):
        return
    _finish(out, shortened(pupil, steps), recordings, images, stopwatch)


def _finish(
    out: Path,
    config: DistillConfig,
    recordings: list[Path],
    images: Path,
    stopwatch: Stopwatch,
) -> None:
    """Write the student file, compare it with the shipped student, and say how it went."""
    from evdistill_core.cli._parity import write_and_report
    from evdistill_core.foundation.progress import ProgressView
    from evdistill_core.models.checkpoint import load_checkpoint
    from evdistill_core.training.comparison import compare_with_shipped
    from evdistill_core.training.distill_on_report import Outcome, write_outcome
    from evdistill_core.training.tasks import task_of

    student = out / STUDENT
    write_and_report(load_checkpoint(out / "student" / "last.pt"), student, onnx=True, card_text="")
    with ProgressView("comparing with the shipped student", transient=True):
        comparison = compare_with_shipped(student, config)
    outcome = Outcome(
        out,
        student,
        task_of(config.network.name).score_name,
        config.class_table(),
        recordings,
        images,
        comparison,
    )
    write_outcome(outcome, stopwatch)
    for line in outcome.lines():
        typer.echo(line)


def _stage(config: object, out: Path, resume: bool, overwrite: bool) -> bool:
    """Run a stage, or what is left of it; one that is finished stays as it is.

    Returns:
        Whether this process, of those that a profile may ask for, is the one that goes on.
    """
    from typing import cast

    from evdistill_core.training.config import TrainConfig
    from evdistill_core.training.console import run_with_progress
    from evdistill_core.training.loop import LAST
    from evdistill_core.training.sessions import is_finished
    from evdistill_core.training.stages import make_trainer

    if resume and is_finished(out):
        return True
    going_on = resume and (out / LAST).exists()
    trainer = make_trainer(cast("TrainConfig", config), out, resume=going_on, overwrite=overwrite)
    run_with_progress(trainer)
    return trainer.processes.is_first


def _found(profile: Path) -> Path:
    """Return a profile as it is named, or beside the package where it is not there."""
    beside = _REPOSITORY / profile
    return beside if not profile.exists() and beside.exists() else profile
