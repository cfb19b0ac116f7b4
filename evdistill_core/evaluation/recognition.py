"""Scoring one class a window: top-1, accuracy of every class, confusion."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evdistill_core.evaluation.confusion import Confusion
from evdistill_core.evaluation.segmentation import LabelledWindow, Predict
from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import IGNORE, ClassTable
from evdistill_core.reports.numbers import percent

RIGHT_RGB, WRONG_RGB = (0, 158, 115), (213, 94, 0)
"""Green and orange that colour-blind people tell apart too."""


@dataclass
class RecognitionResult:
    """Counts of one evaluation.

    Attributes:
        confusion: windows by true and predicted class.
        windows: how many were scored.
    """

    confusion: Confusion
    windows: int

    @property
    def top1(self) -> float:
        """Share of windows whose class is the first guess; NaN without windows."""
        return self.confusion.scores().accuracy

    @property
    def selection_score(self) -> float:
        """What the best checkpoint is chosen by."""
        return self.top1 if math.isfinite(self.top1) else 0.0

    @property
    def summary(self) -> str:
        """One line for the terminal, in percent."""
        return f"top-1 {percent(self.top1)} % of {self.windows} windows"

    def to_dict(self, classes: ClassTable) -> dict[str, object]:
        """Return plain data for JSON; None where a class has no window."""
        scores, counts = self.confusion.scores(), self.confusion.counts
        return {
            "windows": self.windows,
            "top1": scores.accuracy if self.windows else None,
            "classes": {
                name: {
                    "windows": int(counts[i].sum()),
                    "accuracy": _finite(scores.recall[i]),
                    "precision": _finite(scores.precision[i]),
                }
                for i, name in enumerate(classes.names)
            },
        }


def score_recognition(
    predict: Predict,
    windows: Iterable[LabelledWindow],
    classes: ClassTable,
    *,
    each: Callable[[LabelledWindow, int], None] | None = None,
) -> RecognitionResult:
    """Count first guesses against labels.

    Args:
        predict: (C, H, W) input -> (K,) logits.
        windows: what to score; a label is (1, 1), a class id (255 is not scored).
        classes: table of the labels and of the logits.
        each: called with every window and the guessed class.

    Raises:
        DataError: logits or labels are not those of recognition, or have other classes.
    """
    result = RecognitionResult(Confusion(len(classes)), 0)
    for window in windows:
        logits = predict(window.sequence).reshape(-1)
        if len(logits) != len(classes):
            raise DataError(
                f"the student gives {len(logits)} logits a window, the labels have {len(classes)} "
                "classes"
            )
        if window.label.shape != (1, 1):
            raise DataError(
                f"recognition needs one label a window, got labels of {window.label.shape}"
            )
        guess = int(np.argmax(logits))
        if window.label[0, 0] != IGNORE:
            result.confusion.add(window.label, np.array([[guess]]))
            result.windows += 1
        if each is not None:
            each(window, guess)
    return result


def caption_picture(
    picture: npt.NDArray[np.uint8], truth: int, guess: int
) -> npt.NDArray[np.uint8]:
    """Return an (H, W, 3) picture, enlarged, in a green (right) or orange (wrong) frame."""
    factor = max(1, -(-128 // picture.shape[0]))
    large = np.repeat(np.repeat(picture, factor, axis=0), factor, axis=1)
    colour = RIGHT_RGB if truth == guess else WRONG_RGB
    framed = np.pad(large, ((8, 8), (8, 8), (0, 0)))
    edge = np.ones(framed.shape[:2], np.bool_)
    edge[8:-8, 8:-8] = False
    framed[edge] = colour
    return framed


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
