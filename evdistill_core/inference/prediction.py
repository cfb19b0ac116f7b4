"""What a student says about one window: a mask and the things in it, or the window's class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import StudentError
from evdistill_core.inference.support import Support, middle


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        """Return one short line: class, track, score and box."""
        name = self.class_name or f"class {self.class_id}"
        track = f" {self.track_id}" if self.track_id else ""
        return f"Detection({name}{track}, score {self.score:.2f}, box {self.box_xyxy})"


@dataclass(frozen=True, eq=False)
class Maps:
    """What is said of each pixel, at one resolution.

    Attributes:
        mask: (H, W) uint8, class id, or 255 where nothing can be said.
        confidence: (H, W) float32, probability of the class in ``mask``; 0 where mask is 255.
        instances: (H, W) uint16, the ``instance_id`` of the detection that a pixel belongs to; 0:
            none. None: not made.
    """

    mask: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
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


class Prediction:
    """The student's answer for one window.

    It is made at the resolution of the network's input (``small``). ``mask``, ``confidence`` and
    ``instances`` are at sensor resolution; each is enlarged when it is asked for the first time.

    Args:
        mask: as in ``Maps``, at sensor resolution.
        confidence: as in ``Maps``.
        detections: things of the countable classes, largest first.
        instances: as in ``Maps``. Numbers mean nothing in the next window: ``track_id`` does.
        factor: sensor pixels a pixel of the network's input and axis.

    Attributes:
        detections: the same.
        factor: the same.
    """

    def __init__(
        self,
        mask: npt.NDArray[np.uint8],
        confidence: npt.NDArray[np.float32],
        detections: tuple[Detection, ...] = (),
        instances: npt.NDArray[np.uint16] | None = None,
        *,
        factor: int = 1,
    ) -> None:
        self.detections = detections
        self.factor = factor
        self._whole: Maps | None = Maps(mask, confidence, instances)
        self._small = self._whole if factor == 1 else None
        self._support: Support | None = None

    @staticmethod
    def of_maps(small: Maps, support: Support, detections: tuple[Detection, ...]) -> Prediction:
        """Return an answer that was made at the resolution of the network's input.

        Args:
            small: the maps, as large as ``support.counts``.
            support: where a label may stand.
            detections: as above.
        """
        if small.mask.shape != support.counts.shape:
            raise ValueError(f"maps must be {support.counts.shape}, got {small.mask.shape}")
        made = Prediction(small.mask, small.confidence, detections, small.instances)
        if support.factor > 1:
            made._whole, made._support, made.factor = None, support, support.factor
        return made

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the sensor."""
        shape = self._support.image.shape if self._support is not None else self.mask.shape
        return shape[0], shape[1]

    @property
    def small(self) -> Maps:
        """What is said at the resolution of the network's input.

        A pixel (u, v) stands for the sensor pixels ``factor * u .. factor * (u + 1) - 1`` and so on
        for v, as far as the sensor goes.
        """
        if self._small is None:
            ids, factor = self.instances, self.factor
            self._small = Maps(
                middle(self.mask, factor),
                middle(self.confidence, factor),
                None if ids is None else middle(ids, factor),
            )
        return self._small

    @cached_property
    def mask(self) -> npt.NDArray[np.uint8]:
        """(H, W) uint8, class id, or 255 where nothing can be said."""
        if self._whole is not None:
            return self._whole.mask
        return self._enlarger().enlarge_mask(self.small.mask)

    @cached_property
    def confidence(self) -> npt.NDArray[np.float32]:
        """(H, W) float32, probability of the class in ``mask``; 0 where mask is 255."""
        if self._whole is not None:
            return self._whole.confidence
        return self._enlarger().enlarge(self.small.confidence)

    @cached_property
    def instances(self) -> npt.NDArray[np.uint16] | None:
        """(H, W) uint16, ``instance_id`` of the detection of a pixel, 0: none; None: not made."""
        if self._whole is not None:
            return self._whole.instances
        instances = self.small.instances
        return None if instances is None else self._enlarger().enlarge(instances)

    def without_confidence(self) -> Prediction:
        """Return the same with a confidence of 0 that takes no memory, for what is only drawn."""
        nothing = np.broadcast_to(np.float32(0), self.mask.shape)
        return Prediction(self.mask, nothing, self.detections, self.instances)

    def _enlarger(self) -> Support:
        assert self._support is not None
        return self._support


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
