"""``evdistill export``: checkpoint to student file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import Json, Onnx, OutFile, Overwrite

PLACE = Place("Training", 5)
EXAMPLES = (
    "evdistill export runs/street6/best.pt my.evstudent",
    "evdistill export runs/street6/best.pt my.evstudent --card card.md --no-onnx",
)


def command(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="What `evdistill train` wrote (*.pt).")
    ],
    target: Annotated[
        Path | None,
        typer.Argument(metavar="TARGET", help="The student file to make (*.evstudent)."),
    ] = None,
    out: OutFile = None,
    onnx: Onnx = None,
    card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Markdown (data, scores, limits, licence) to open the model card with.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a student file of a checkpoint.

    Its forms (torch, ONNX) are checked to compute the same.

    The ONNX model is included up to 20 M parameters, or as --onnx and --no-onnx say.
    """
    from evdistill_core.cli._outputs import print_json, target_of
    from evdistill_core.cli._parity import write_and_report
    from evdistill_core.foundation.errors import ConfigError
    from evdistill_core.foundation.outputs import check_file
    from evdistill_core.models.checkpoint import load_checkpoint

    file = target_of(target, out, checkpoint)
    check_file(file, overwrite=overwrite, sources=(checkpoint,))
    card_text = ""
    if card is not None:
        try:
            card_text = card.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read --card {card}: {error}") from error
    facts = write_and_report(
        load_checkpoint(checkpoint), file, onnx=onnx, card_text=card_text, as_json=as_json
    )
    if as_json:
        print_json(facts)
