"""Scoring a student file or a checkpoint on labelled sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
from rich.progress import track

from evdistill_core.data.samples import SampleSource
from evdistill_core.evaluation.page import Panel, panel_row, write_evaluation
from evdistill_core.evaluation.segmentation import (
    LabelledWindow,
    Predict,
    SegmentationResult,
    score_windows,
)
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.inference.runner import Device, Runtime, make_runner
from evdistill_core.inference.student import SUFFIX, StudentFile
from evdistill_core.representations.spec import InputSpec

PANEL_WINDOWS = 8


@dataclass(frozen=True)
class Predictor:
    """Something that turns inputs into logits, and what it is.

    Attributes:
        predict: (C, H, W) input -> (K, h, w) logits.
        input: what it must be fed.
        classes: what its logits mean.
        description: for the report.
    """

    predict: Predict
    input: InputSpec
    classes: ClassTable
    description: str


def load_predictor(path: Path, *, runtime: str = "auto", device: str = "auto") -> Predictor:
    """Load a student file, or the averaged weights of a checkpoint (torch, CPU).

    Raises:
        StudentError: the file is missing, damaged or neither of the two.
        ConfigError: runtime or device do not exist here.
    """
    if path.suffix == SUFFIX:
        student = StudentFile.open(path)
        # make_runner refuses unknown words by itself.
        runner = make_runner(
            student, runtime=cast("Runtime", runtime), device=cast("Device", device)
        )
        return Predictor(
            runner.run, student.info.input, student.info.classes, f"{path} ({runner.description})"
        )
    return _checkpoint_predictor(path)


def _checkpoint_predictor(path: Path) -> Predictor:
    import torch  # noqa: PLC0415 - student files do without

    from evdistill_core.models.checkpoint import load_checkpoint  # noqa: PLC0415

    checkpoint = load_checkpoint(path)
    network = checkpoint.build()

    def predict(network_input: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            logits = network(torch.from_numpy(network_input)[None])[0].numpy()
        return cast("npt.NDArray[np.float32]", logits)

    return Predictor(predict, checkpoint.input, checkpoint.classes, f"{path} (torch, cpu)")


def evaluate_sets(
    predictor: Predictor,
    sets: Mapping[str, SampleSource],
    out: Path,
    *,
    dataset: str,
    activity_radius_px: int,
) -> Path:
    """Score every set, write the report, return its page (see ``evaluation.page``)."""
    results: dict[str, SegmentationResult] = {}
    panels: dict[str, Panel] = {}
    for name, source in sets.items():
        rows: Panel = []

        def keep(window: LabelledWindow, mask: npt.NDArray[np.uint8], rows: Panel = rows) -> None:
            if len(rows) < PANEL_WINDOWS and (not rows or rows[0][0].shape[:2] == mask.shape):
                kind = predictor.input.kind
                rows.append(
                    panel_row(
                        window,
                        mask,
                        predictor.classes,
                        kind=kind,
                        activity_radius_px=activity_radius_px,
                    )
                )

        windows = (source.sample(i) for i in track(range(len(source)), f"{name}"))
        results[name] = score_windows(
            predictor.predict,
            windows,
            predictor.classes,
            activity_radius_px=activity_radius_px,
            each=keep,
        )
        panels[name] = rows
    facts = {
        "student": predictor.description,
        "dataset": dataset,
        "windows": {name: len(source) for name, source in sets.items()},
        "input": predictor.input.to_mapping(),
    }
    return write_evaluation(
        out, "Evaluation", results, panels, classes=predictor.classes, facts=facts
    )
