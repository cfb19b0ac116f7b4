"""What a student says about one window: a mask and the things in it, or the window's class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import StudentError


@dataclass(frozen=True)
class Detection:
    """One thing of a countable class in one window.

    Attributes:
        class_id: id in the student's class table: the class with most votes in the track so far.
        score: probability of its likeliest class summed over its pixels, divided by the area,
            0..1. Of an instance that the network told apart: the geometric mean of this and the
            height of its centre in the heat map.
        box_xyxy: left, top, right, bottom in sensor pixels, half open (right and bottom outside).
        area_px: pixels of thing classes that belong to it, at least 1.
        track_id: stays with a thing from window to window, counted from 1; no id is used twice. 0:
            not tracked.
        class_name: of the student's class table; empty where no table was given.
        age_s: seconds of sensor time since the first window that showed it.
        velocity_px_s: x and y of its centre's velocity, pixels a second; 0 until it is seen twice.
        covariance: (4, 4) of the centre x and y (px) and its velocity x and y (px/s), as rows;
            empty: not tracked.
        instance_id: its number in ``Prediction.instances`` of the same window. Two tracks that have
            merged share one. 0: it has none.
    """

    class_id: int
    score: float
    box_xyxy: tuple[int, int, int, int]
    area_px: int
    track_id: int = 0
    class_name: str = ""
    age_s: float = 0.0
    velocity_px_s: tuple[float, float] = (0.0, 0.0)
    covariance: tuple[tuple[float, ...], ...] = ()
    instance_id: int = 0


@dataclass(frozen=True, eq=False)
class Prediction:
    """The student's answer for one window, at sensor resolution.

    Attributes:
        mask: (H, W) uint8, class id, or 255 where nothing can be said.
        confidence: (H, W) float32, probability of the class in ``mask``; 0 where mask is 255.
        detections: things of the countable classes, largest first.
        instances: (H, W) uint16, the ``instance_id`` of the detection that a pixel belongs to; 0:
            none. Numbers mean nothing in the next window: ``track_id`` does. None: not made.
    """

    mask: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    detections: tuple[Detection, ...] = ()
    instances: npt.NDArray[np.uint16] | None = None

    def __post_init__(self) -> None:
        """Refuse parts that do not belong together."""
        if self.mask.ndim != 2 or self.mask.dtype != np.uint8:
            raise ValueError(f"mask must be (H, W) uint8, got {self.mask.shape} {self.mask.dtype}")
        if self.confidence.shape != self.mask.shape or self.confidence.dtype != np.float32:
            raise ValueError(
                f"confidence must be {self.mask.shape} float32, "
                f"got {self.confidence.shape} {self.confidence.dtype}"
            )
        if self.instances is not None and (
            self.instances.shape != self.mask.shape or self.instances.dtype != np.uint16
        ):
            raise ValueError(
                f"instances must be {self.mask.shape} uint16, "
                f"got {self.instances.shape} {self.instances.dtype}"
            )

    def without_confidence(self) -> Prediction:
        """Return the same with a confidence of 0 that takes no memory, for what is only drawn."""
        nothing = np.broadcast_to(np.float32(0), self.mask.shape)
        return Prediction(self.mask, nothing, self.detections, self.instances)


class InstanceOutput(NamedTuple):
    """What the instance head of a student says of one window, at the size of the logits.

    Attributes:
        centre: (h, w) float32 logits; their sigmoid is 1 at the centre of a thing.
        offset_px: (2, h, w) float32, x first: from the middle of a cell to the centre of its thing,
            in pixels of the network's input. Means something on cells of things.
    """

    centre: npt.NDArray[np.float32]
    offset_px: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Guess:
    """One class that a window may show.

    Attributes:
        class_id: id in the student's class table.
        score: its probability, 0..1.
        class_name: of the student's class table; empty where no table was given.
    """

    class_id: int
    score: float
    class_name: str = ""


@dataclass(frozen=True)
class Recognition:
    """The answer of a student of recognition for one window.

    Attributes:
        guesses: likeliest first, equal ones by class id; empty when nothing can be said.
    """

    guesses: tuple[Guess, ...] = ()

    def __post_init__(self) -> None:
        """Refuse guesses that are out of order."""
        scores = [g.score for g in self.guesses]
        if scores != sorted(scores, reverse=True):
            raise ValueError(f"guesses must be sorted by score, got {scores}")


Answer = Prediction | Recognition
"""What comes out of one window, by the student's task."""


class Interpreter(Protocol):
    """Makes answers from the logits of successive windows of one stream."""

    def configure(self, config: Any) -> None:
        """Take new settings, of the kind that it was made with, from the next window on."""
        ...

    def reset(self) -> None:
        """Forget earlier windows (after a jump in time or a new sensor size)."""
        ...

    def warm_up(
        self,
        logits: npt.NDArray[np.float32],
        events: Events,
        *,
        stride: float,
        head: InstanceOutput | None = None,
        factor: int = 1,
    ) -> Answer:
        """Compile and load what any window could need; an answer with something in it."""
        ...

    def __call__(  # noqa: PLR0913 - what the network says, and where it lies
        self,
        logits: npt.NDArray[np.float32],
        events: Events,
        *,
        stride: float,
        span_us: tuple[int, int],
        head: InstanceOutput | None = None,
        factor: int = 1,
    ) -> Answer:
        """Return the answer of one window.

        Args:
            logits: as the student's network gives them.
            events: those of the window; they carry the sensor's size.
            stride: sensor pixels a logit and axis.
            span_us: start and end of the window, microseconds of sensor time.
            head: what the student's instance head says; None: it has none.
            factor: sensor pixels a pixel of the network's input and axis.

        Raises:
            StudentError: the logits cannot be right.
        """
        ...


def refuse_unfinite(logits: npt.NDArray[np.float32]) -> None:
    """Raise StudentError when a logit is not finite."""
    # One pass without a temporary array: an infinity or a NaN survives the sum.
    if not np.isfinite(logits.sum(dtype=np.float64)):
        raise StudentError("the student's logits are not finite: its weights are damaged")
