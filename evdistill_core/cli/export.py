"""``evdistill export``: checkpoint to student file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    checkpoint: Annotated[Path, typer.Argument(help="What `evdistill train` wrote (*.pt).")],
    out: Annotated[Path, typer.Argument(help="The student file to make (*.evstudent).")],
    onnx: Annotated[
        bool | None,
        typer.Option(
            "--onnx/--no-onnx",
            help="Include the ONNX model; by default up to 20 M parameters.",
            show_default=False,
        ),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(help="Markdown (data, scores, limits, licence) to open the model card with."),
    ] = None,
) -> None:
    """Make a student file of a checkpoint, and check that it computes the same."""
    from evdistill_core.cli._parity import write_and_report
    from evdistill_core.foundation.errors import ConfigError
    from evdistill_core.models.checkpoint import load_checkpoint

    card_text = ""
    if card is not None:
        try:
            card_text = card.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read --card {card}: {error}") from error
    write_and_report(load_checkpoint(checkpoint), out, onnx=onnx, card_text=card_text)
