"""``evdistill import-checkpoint``: the authors' released weights to a student file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    checkpoint: Annotated[
        Path, typer.Argument(help="state_dict of the authors' DeepLab, six classes by default.")
    ],
    out: Annotated[Path, typer.Argument(help="The student file to make (*.evstudent).")],
    classes: Annotated[
        Path | None,
        typer.Option(help="YAML with a list `classes` (name, color_rgb, is_thing) if not the six."),
    ] = None,
    onnx: Annotated[
        bool | None,
        typer.Option(
            "--onnx/--no-onnx",
            help="Include the ONNX model, 237 MB more; by default not.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make a student file of a checkpoint of the EvDistill release (DeepLabV3+ ResNet-101)."""
    from evdistill_core.cli._parity import write_and_report
    from evdistill_core.export.released import import_released
    from evdistill_core.foundation.config import load_yaml
    from evdistill_core.foundation.labels import ClassTable

    table = ClassTable.from_dict(load_yaml(classes).get("classes")) if classes else None
    write_and_report(import_released(checkpoint, table), out, onnx=onnx)
