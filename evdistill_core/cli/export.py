"""``evdistill export``: checkpoint or older student file to student file."""

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
    "evdistill export runs/last/last.pt my.evstudent --average runs/first/last.pt --share 0.4",
    "evdistill export old.evstudent new.evstudent",
    "evdistill export runs/street6/best.pt fast.evstudent --int8",
    "evdistill export street6 fast.evstudent --int8-from street.mcap",
)


def command(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="What `evdistill train` wrote (*.pt), or a student file of an older version.",
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Argument(metavar="TARGET", help="The student file to make (*.evstudent)."),
    ] = None,
    out: OutFile = None,
    onnx: Onnx = True,
    card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Markdown (data, scores, limits, licence) to open the model card with.",
        ),
    ] = None,
    average: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Checkpoint of an earlier stage of the same run, whose weights are mixed in.",
        ),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of --average, 0..1; default: 0.5."),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Also make a model in 8 bits, its ranges measured on windows that the student was "
            "trained on. The data of its experiment must be here.",
        ),
    ] = False,
    int8_from: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RECORDING",
            help="The same, measured on windows of this recording; may be given several times.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a student file of a checkpoint.

    An older student file is written again in today's format. The mean of two stages (--average)
    keeps some of what the later one has forgotten.

    Torch and ONNX Runtime are checked to compute the same. A model in 8 bits (--int8) is faster and
    less exact: it is judged on the windows that did not give its ranges.
    """
    from evdistill_core.cli._outputs import print_json, target_of
    from evdistill_core.cli._parity import write_and_report
    from evdistill_core.export.averaging import averaged
    from evdistill_core.export.student import load_trained
    from evdistill_core.foundation.errors import ConfigError
    from evdistill_core.foundation.outputs import check_file

    if share is not None and average is None:
        raise ConfigError("--share is of the weights of --average: name that checkpoint too")
    file = target_of(target, out, checkpoint)
    check_file(file, overwrite=overwrite, sources=(checkpoint, *([average] if average else [])))
    card_text = None
    if card is not None:
        try:
            card_text = card.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read --card {card}: {error}") from error
    trained, older_text = load_trained(checkpoint)
    if average is not None:
        trained = averaged(
            trained, load_trained(average)[0], 0.5 if share is None else share, origin=str(average)
        )
    text = older_text if card_text is None else card_text
    facts = write_and_report(
        trained, file, onnx=onnx, int8=int8, int8_from=int8_from or (), card_text=text,
        as_json=as_json,
    )  # fmt: skip
    if as_json:
        print_json(facts)
