"""What a student says about one window: a mask, how sure it is, and the things in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Detection:
    """One connected component of countable classes.

    Attributes:
        class_id: id in the student's class table: the class that most of it speaks for.
        score: probability of that class summed over its pixels, divided by the area, 0..1.
        box_xyxy: left, top, right, bottom in sensor pixels, half open (right and bottom outside).
        area_px: pixels of thing classes inside the component, at least 1.
        track_id: stays with a component from window to window, counted from 1.
    """

    class_id: int
    score: float
    box_xyxy: tuple[int, int, int, int]
    area_px: int
    track_id: int = 0


@dataclass(frozen=True, eq=False)
class Prediction:
    """The student's answer for one window, at sensor resolution.

    Attributes:
        mask: (H, W) uint8, class id, or 255 where nothing can be said.
        confidence: (H, W) float32, probability of the class in ``mask``; 0 where mask is 255.
        detections: components of the thing classes, largest first.
    """

    mask: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    detections: tuple[Detection, ...] = ()

    def __post_init__(self) -> None:
        """Refuse parts that do not belong together."""
        if self.mask.ndim != 2 or self.mask.dtype != np.uint8:
            raise ValueError(f"mask must be (H, W) uint8, got {self.mask.shape} {self.mask.dtype}")
        if self.confidence.shape != self.mask.shape or self.confidence.dtype != np.float32:
            raise ValueError(
                f"confidence must be {self.mask.shape} float32, "
                f"got {self.confidence.shape} {self.confidence.dtype}"
            )
