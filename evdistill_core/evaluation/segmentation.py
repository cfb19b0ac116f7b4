"""Scoring dense predictions window by window, everywhere and near events."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.evaluation.confusion import Confusion
from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.inference.postprocess import segment
from evdistill_core.reports.numbers import percent

DEFAULT_ACTIVITY_RADIUS_PX = 3


class LabelledWindow(Protocol):
    """What is scored: a network input with dense labels."""

    @property
    def input(self) -> npt.NDArray[np.float32]:
        """Return the (C, H, W) input."""
        ...

    @property
    def sequence(self) -> npt.NDArray[np.float32]:
        """Return what a student is fed: the input, or (T, C, H, W), which it ends."""
        ...

    @property
    def label(self) -> npt.NDArray[np.uint8]:
        """Return the (H, W) labels, ids, 254 or 255."""
        ...

    @property
    def excluded(self) -> npt.NDArray[np.bool_] | None:
        """Return the (K,) classes that pixels of the value 254 are not of, or None."""
        ...

    @property
    def active(self) -> npt.NDArray[np.uint8]:
        """Return the (H, W) image that is 1 where an event fired."""
        ...


Predict = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


@dataclass
class SegmentationResult:
    """Counts of one evaluation.

    Attributes:
        everywhere: all labelled pixels.
        near_events: labelled pixels with an event in the square of ``activity_radius_px``: what
            the live side publishes, and all that a fixed camera can know.
        windows: how many were scored.
        activity_radius_px: half side of that square.
    """

    everywhere: Confusion
    near_events: Confusion
    windows: int
    activity_radius_px: int

    @property
    def selection_score(self) -> float:
        """What the best checkpoint is chosen by: mIoU near events."""
        score = self.near_events.scores().miou
        return score if math.isfinite(score) else 0.0

    @property
    def knows_no_class(self) -> bool:
        """Whether labels say of no pixel what it is, only what it is not."""
        scores = self.everywhere.scores()
        return scores.pixels == 0 and math.isfinite(scores.all_false_alarms)

    @property
    def summary(self) -> str:
        """One line for the terminal, in percent."""
        near, everywhere = self.near_events.scores(), self.everywhere.scores()
        if self.knows_no_class:
            return (
                f"false alarms on {percent(near.all_false_alarms)} % of the pixels near events, "
                f"{percent(everywhere.all_false_alarms)} % everywhere; no pixel has a class"
            )
        return f"mIoU near events {percent(near.miou)} %, everywhere {percent(everywhere.miou)} %"

    def to_dict(self, classes: ClassTable) -> dict[str, object]:
        """Return plain data for JSON."""
        return {
            "windows": self.windows,
            "activity_radius_px": self.activity_radius_px,
            "everywhere": self.everywhere.scores().to_dict(classes.names),
            "near_events": self.near_events.scores().to_dict(classes.names),
        }


def predict_mask(
    logits: npt.NDArray[np.float32], *, height: int, width: int
) -> npt.NDArray[np.uint8]:
    """Return the class of every pixel, enlarged the way the live side does.

    Args:
        logits: (K, h, w) float32, h and w one whole factor below the input.
        height: rows of the input.
        width: columns of the input.

    Raises:
        DataError: the logits are no whole factor smaller than the input.
    """
    stride = height / logits.shape[1]
    if width / logits.shape[2] != stride:
        raise DataError(
            f"logits of {logits.shape[1:]} do not fit an input of {(height, width)}: one stride "
            "for both axes is needed"
        )
    mask, _, _ = segment(logits, np.ones((height, width), np.uint8), stride=stride)
    return mask


def score_windows(
    predict: Predict,
    windows: Iterable[LabelledWindow],
    classes: ClassTable,
    *,
    activity_radius_px: int = DEFAULT_ACTIVITY_RADIUS_PX,
    each: Callable[[LabelledWindow, npt.NDArray[np.uint8]], None] | None = None,
) -> SegmentationResult:
    """Count predictions against labels.

    Args:
        predict: what a student is fed, (C, H, W) or (T, C, H, W) -> (K, h, w) logits.
        windows: what to score.
        classes: table of the labels and of the logits.
        activity_radius_px: half side of the square that counts as near an event.
        each: called with every window and its mask (for pictures and progress).

    Raises:
        DataError: logits have another number of classes than the table.
    """
    result = SegmentationResult(
        Confusion(len(classes)), Confusion(len(classes)), 0, activity_radius_px
    )
    for window in windows:
        logits = predict(window.sequence)
        if len(logits) != len(classes):
            raise DataError(f"the student has {len(logits)} classes, the labels {len(classes)}")
        height, width = window.label.shape
        mask = predict_mask(logits, height=height, width=width)
        near = near_events(window.active, activity_radius_px)
        result.everywhere.add(window.label, mask, excluded=window.excluded)
        result.near_events.add(window.label, mask, near, excluded=window.excluded)
        result.windows += 1
        if each is not None:
            each(window, mask)
    return result


def near_events(active: npt.NDArray[np.uint8], radius_px: int) -> npt.NDArray[np.bool_]:
    """Return where an event fired within a square.

    Args:
        active: (H, W) uint8, 1 where an event fired.
        radius_px: half side of the square; 0 returns the fired pixels, -1 everything.
    """
    if radius_px < 0:
        return np.ones(active.shape, np.bool_)
    kernel = np.ones((2 * radius_px + 1,) * 2, np.uint8)
    return np.asarray(cv2.dilate(active, kernel)) > 0
