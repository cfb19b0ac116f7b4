"""``evdistill report``: what a recording of a node's results says, and its score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    results: Annotated[
        Path, typer.Argument(help="Bag of results: of replay.launch.py, or of `run`.")
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="What is true. Of masks: a bag with a topic .../mask (mono8), .../detections, or "
            "both. Of classes: a CSV file start_ns,end_ns,class, or a bag with .../classification."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write JSON here.")] = None,
) -> None:
    """Count windows, detections and classes of a run, and score them against labels."""
    import json

    from evdistill_core.evaluation.replay import replay_report
    from evdistill_core.foundation.files import write_text_atomic

    text = json.dumps(replay_report(results, labels), indent=2, allow_nan=False) + "\n"
    if out is not None:
        write_text_atomic(out, text)
    typer.echo(text, nl=False)
