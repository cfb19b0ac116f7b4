"""``evdistill import-checkpoint``: the authors' released weights to a student file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import Classes, Json, Onnx, OutFile, Overwrite

PLACE = Place("Training", 6)
EXAMPLES = ("evdistill import-checkpoint evdistill_release.pth released.evstudent",)


def command(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="state_dict of the authors' DeepLab, six classes by default.",
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Argument(metavar="TARGET", help="The student file to make (*.evstudent)."),
    ] = None,
    out: OutFile = None,
    classes: Classes = None,
    onnx: Onnx = True,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a student file of the EvDistill release.

    The release is a DeepLabV3+ with ResNet-101. The ONNX export needs a minute and 3 GB of memory.
    """
    from evdistill_core.cli._outputs import print_json, target_of
    from evdistill_core.cli._parity import write_and_report
    from evdistill_core.export.released import import_released
    from evdistill_core.foundation.class_file import named_table
    from evdistill_core.foundation.outputs import check_file

    file = target_of(target, out, checkpoint)
    check_file(file, overwrite=overwrite, sources=(checkpoint,))
    table = named_table(classes) if classes else None
    facts = write_and_report(import_released(checkpoint, table), file, onnx=onnx, as_json=as_json)
    if as_json:
        print_json(facts)
