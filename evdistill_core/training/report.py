"""The page at the end of a run: curves, scores, what it predicts on its validation windows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evdistill_core.data.samples import SampleSource
from evdistill_core.evaluation.page import Result, add_result
from evdistill_core.evaluation.pictures import write_curves, write_panels
from evdistill_core.evaluation.report import ReportPage
from evdistill_core.foundation.config import dump_yaml
from evdistill_core.training.loop import METRICS, Trainer
from evdistill_core.training.run_log import read_records

PANEL_WINDOWS = 6


def write_training_report(trainer: Trainer, results: dict[str, Result]) -> Path:
    """Write ``report.html`` and its pictures into the folder of the run.

    Args:
        trainer: after its run.
        results: of the last validation, by set.

    Returns:
        The page.
    """
    out = trainer.out
    page = ReportPage(f"Training of {trainer.config.name}")
    page.paragraph(f"{trainer.state.step} steps of {trainer.config.batch_size} windows.")
    _add_curves(page, out, trainer.task.score_name)
    for name, result in results.items():
        with trainer.evaluation_weights():
            panels = _panels(trainer, trainer.validation[name])
        add_result(page, out, name, result, panels, classes=trainer.classes)
    for number, (caption, rows) in enumerate(trainer.panels().items()):
        page.heading(caption)
        write_panels(out / f"panels_extra{number}.png", rows, trainer.classes)
        page.picture(f"panels_extra{number}.png", caption)
    page.heading("Configuration")
    page.code(dump_yaml(trainer.config))
    page.write(out / "report.html")
    return out / "report.html"


def _panels(trainer: Trainer, source: SampleSource) -> list[list[npt.NDArray[np.uint8]]]:
    windows = [source.sample(i) for i in range(min(PANEL_WINDOWS, len(source)))]
    return trainer.task.panels(
        trainer.predict,
        windows,
        trainer.classes,
        kind=trainer.picture_kind,
        activity_radius_px=trainer.config.loss.activity_radius_px,
    )


def _add_curves(page: ReportPage, out: Path, score_name: str) -> None:
    records = list(read_records(out / METRICS))
    steps = [r for r in records if r.get("kind") == "step"]
    curves: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    # Terms that train translation are missing in the steps between (``adversary.every``).
    names = dict.fromkeys(k for r in steps for k in r if k.startswith(("loss", "watch")))
    for key in [k for k in names if not k.endswith("_scaled")]:  # same curve, other axis
        known = [r for r in steps if key in r]
        x, y = smoothed([_number(r["step"]) for r in known], [_number(r[key]) for r in known])
        curves[key] = (x, y)
    scores = [r for r in records if r.get("kind") == "validation"]
    if scores:
        curves[f"validation {score_name}"] = (
            [_number(r["step"]) for r in scores],
            [_number(r["score"]) for r in scores],
        )
    if curves:
        write_curves(out / "curves.png", curves, "step")
        page.heading("Curves")
        page.picture("curves.png", "Losses are means over neighbouring steps")


def smoothed(
    x: Sequence[float], y: Sequence[float], points: int = 200
) -> tuple[list[float], list[float]]:
    """Return means over equal stretches, at most ``points`` of them."""
    size = max(1, -(-len(x) // points))
    starts = range(0, len(x), size)
    return (
        [float(np.mean(x[i : i + size])) for i in starts],
        [float(np.mean(y[i : i + size])) for i in starts],
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
