"""``evdistill evaluate``: scores of a student on labelled windows, as JSON and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import (
    Classes,
    Device,
    Json,
    OutFolder,
    Overwrite,
    WriteClasses,
)

PLACE = Place("Training", 4)
EXAMPLES = (
    "evdistill evaluate runs/street6/best.pt config/eval/street6.yaml --out out/evaluation",
    "evdistill evaluate my.evstudent out/simulated --windows 100 --json",
    "evdistill evaluate my.evstudent my_drive/ --classes classes.yaml",
)


def command(
    student: Annotated[
        Path,
        typer.Argument(metavar="STUDENT", help="Student file (.evstudent) or checkpoint (.pt)."),
    ],
    dataset: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET",
            help="YAML with the sets to score (config/eval/*.yaml), or a folder made by "
            "`evdistill simulate`, or one with a recording and masks/<t_us>.png.",
        ),
    ],
    out: OutFolder = Path("out/evaluation"),
    classes: Classes = None,
    write_classes: WriteClasses = None,
    windows: Annotated[
        int, typer.Option(metavar="N", help="Score at most N windows a set; 0: all.", min=0)
    ] = 0,
    activity_radius: Annotated[
        int,
        typer.Option(
            metavar="PIXELS",
            min=0,
            max=64,
            help="Half side of the square that counts as near an event.",
        ),
    ] = 3,
    runtime: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What computes the student: auto, onnxruntime, openvino, tensorrt, torch, or one "
            "of your own.",
        ),
    ] = "auto",
    device: Annotated[Device, typer.Option(help="Where it is computed.")] = "auto",
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Seed of the simulated sets instead of the file's."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Score a student on labelled windows.

    IoU of every class, mIoU and accuracy, everywhere and near events; top-1 of a student of
    recognition, all in percent. Recordings of `simulate --seconds` also have AP of boxes, and IDF1,
    MOTA and HOTA of tracks. Prints a line for each set and writes report.json and a page,
    report.html.
    """
    from dataclasses import replace

    from evdistill_core.cli._classes import skeleton_for_unknown_classes
    from evdistill_core.cli._outputs import print_json
    from evdistill_core.data.build import build_evaluation_sets, classes_of_sets
    from evdistill_core.data.film_scores import films_in, score_films
    from evdistill_core.data.samples import notes_of
    from evdistill_core.data.scoring import evaluate_sets, load_predictor
    from evdistill_core.evaluation.box_scores import score_lines
    from evdistill_core.evaluation.page import RESULTS
    from evdistill_core.foundation.outputs import check_folder, remove_results
    from evdistill_core.inference.student import SUFFIX, student_path
    from evdistill_core.perception.student import Student
    from evdistill_core.reports.origin import Stopwatch

    stopwatch = Stopwatch()
    check_folder(out, RESULTS, overwrite=overwrite)
    predictor = load_predictor(student, runtime=runtime, device=device)
    with skeleton_for_unknown_classes(write_classes, overwrite=overwrite):
        table, origin = classes_of_sets(dataset, predictor.classes, given=classes)
    if origin:
        typer.echo(f"the meaning of the labels comes from {origin}", err=True)
    predictor = replace(predictor, classes=table)
    sets = build_evaluation_sets(dataset, predictor.input, table, limit=windows, seed=seed)
    for name, source in sets.items():
        for note in notes_of(source):
            typer.echo(f"{name}: {note}", err=True)
    films = films_in(dataset) if predictor.task == "segmentation" else []
    boxes = None
    if films and student_path(student).suffix != SUFFIX:
        typer.echo("boxes and tracks are scored of student files only: export it first", err=True)
    elif films:
        loaded = Student.load(student_path(student), runtime=runtime, device=device)
        boxes = score_films(loaded, films)
    remove_results(out, RESULTS)
    results, page = evaluate_sets(
        predictor,
        sets,
        out,
        dataset=str(dataset),
        activity_radius_px=activity_radius,
        stopwatch=stopwatch,
        films=boxes,
    )
    if as_json:
        scores = {name: r.to_dict(predictor.classes) for name, r in results.items()}
        more = {} if boxes is None else {"boxes_and_tracks": boxes}
        print_json({"report": str(page), "sets": scores, **more})
        return
    for name, result in results.items():
        typer.echo(f"{name}: {result.summary}")
    for line in score_lines(boxes) if boxes is not None else ():
        typer.echo(line)
    typer.echo(f"report: {page}")
