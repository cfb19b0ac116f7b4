"""``evdistill evaluate``: scores of a student on labelled windows, as JSON and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    student: Annotated[Path, typer.Argument(help="Student file (.evstudent) or checkpoint (.pt).")],
    dataset: Annotated[
        Path,
        typer.Argument(
            help="YAML with the sets to score (config/eval/*.yaml), or a folder made by "
            "`evdistill simulate`."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("out/evaluation"),
    windows: Annotated[
        int, typer.Option(help="Score at most this many windows a set; 0: all.", min=0)
    ] = 0,
    activity_radius: Annotated[
        int, typer.Option(help="Half side of the square that counts as near an event, pixels.")
    ] = 3,
    runtime: Annotated[str, typer.Option(help="auto, onnxruntime or torch.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Annotated[
        int | None, typer.Option(help="Seed of the simulated sets instead of the file's.")
    ] = None,
) -> None:
    """Score a student: IoU of every class, mIoU, accuracy, everywhere and near events; or top-1.

    Prints a line a set; leaves report.json, report.html and pictures in the folder.
    """
    from evdistill_core.data.build import build_evaluation_sets
    from evdistill_core.data.scoring import evaluate_sets, load_predictor

    predictor = load_predictor(student, runtime=runtime, device=device)
    sets = build_evaluation_sets(
        dataset, predictor.input, predictor.classes, limit=windows, seed=seed
    )
    results, page = evaluate_sets(
        predictor, sets, out, dataset=str(dataset), activity_radius_px=activity_radius
    )
    for name, result in results.items():
        typer.echo(f"{name}: {result.summary}")
    typer.echo(f"report: {page}")
