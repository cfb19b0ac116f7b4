"""``evdistill report``: what a recording of a node's results says, and its score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    results: Annotated[
        Path, typer.Argument(help="Bag of results: of replay.launch.py, or masks.mcap of `run`.")
    ],
    labels: Annotated[
        Path | None, typer.Option(help="Bag with true masks (mono8) on a topic .../mask.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write JSON here.")] = None,
) -> None:
    """Count windows and detections of a run, and score its masks against labels."""
    import json

    from evdistill_core.evaluation.replay import replay_report
    from evdistill_core.foundation.files import write_text_atomic

    text = json.dumps(replay_report(results, labels), indent=2, allow_nan=False) + "\n"
    if out is not None:
        write_text_atomic(out, text)
    typer.echo(text, nl=False)
