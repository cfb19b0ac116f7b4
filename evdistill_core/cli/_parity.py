"""What commands that make a student file share: write it and tell how well its forms agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evdistill_core.inference.runner import FloatArray
    from evdistill_core.models.checkpoint import Checkpoint


def write_and_report(
    checkpoint: Checkpoint,
    out: Path,
    *,
    onnx: bool,
    int8: bool = False,
    int8_from: Sequence[Path] = (),
    card_text: str = "",
    as_json: bool = False,
) -> dict[str, object]:
    """Write the student file and print how far its forms are from the trained network.

    Args:
        checkpoint: what is exported.
        out: the student file.
        onnx: whether to include the ONNX model.
        int8: also make a model in 8 bits, with windows that the student was trained on.
        int8_from: recordings to make a model in 8 bits with instead.
        card_text: Markdown that opens the model card.
        as_json: print to stderr.

    Returns:
        What ``--json`` prints; nothing is on stdout then.
    """
    from rich.console import Console
    from rich.table import Table

    from evdistill_core.export.int8 import calibration_windows
    from evdistill_core.export.student import export_student, float_layers
    from evdistill_core.inference.student import StudentFile

    console = Console(stderr=as_json)
    with Console(stderr=True).status("exporting and comparing ..."):
        windows: Sequence[FloatArray] = ()
        calibrated_on = ""
        if int8_from:
            windows = calibration_windows(int8_from, checkpoint.input)
            calibrated_on = ", ".join(path.name for path in int8_from)
        elif int8:
            from evdistill_core.training.calibration import training_windows

            windows, calibrated_on = training_windows(checkpoint)
        rows = export_student(
            checkpoint, out, onnx=onnx, calibration=windows, calibrated_on=calibrated_on,
            card_text=card_text,
        )  # fmt: skip
    table = Table("form", "output", "input", "largest difference", "largest value", "same class")
    for row in rows:
        table.add_row(
            row.form,
            row.output,
            f"{row.height}x{row.width}",
            f"{row.max_abs_difference:.2g}",
            f"{row.max_abs_logit:.3g}",
            row.same_class,
        )
    console.print(table)
    console.print(f"wrote {out} ({out.stat().st_size / 1e6:.2f} MB)", soft_wrap=True, markup=False)
    facts: dict[str, object] = {
        "out": str(out),
        "bytes": out.stat().st_size,
        "parity": [dataclasses.asdict(row) for row in rows],
    }
    if windows:
        kept = float_layers(StudentFile.open(out).info)
        end = f"; the first {kept} convolutions stay in float" if kept else ""
        console.print(f"model in 8 bits: measured on {calibrated_on}{end}", markup=False)
        facts["int8"] = calibrated_on
    return facts
