"""The part of a sensor that a student sees, which way up, and at which size.

Events are cut to the region of interest and turned upright before the student sees them; what it
says is turned back and put into its place, so that results are in the sensor's coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import IGNORE
from evdistill_core.inference.prediction import Answer, Detection, Prediction

Pixel = TypeVar("Pixel", bound=np.generic)
# By quarter turns clockwise: directions of the view in the sensor's coordinates, as columns.
_DIRECTIONS = {
    0: ((1, 0), (0, 1)),
    1: ((0, 1), (-1, 0)),
    2: ((-1, 0), (0, -1)),
    3: ((0, -1), (1, 0)),
}


@dataclass(frozen=True)
class View:
    """How a student looks at a sensor.

    Attributes:
        height: rows of the sensor.
        width: columns of the sensor.
        left: first column of the region that is seen.
        top: first row of it.
        right: column after its last.
        bottom: row after its last.
        turns: quarter turns clockwise that put the image upright, 0..3.
    """

    height: int
    width: int
    left: int
    top: int
    right: int
    bottom: int
    turns: int = 0

    @staticmethod
    def of(*, height: int, width: int, roi: tuple[int, int, int, int], rotation_deg: int) -> View:
        """Return the view of a sensor.

        Args:
            height: rows of the sensor.
            width: columns of the sensor.
            roi: x, y, width and height of the region; width and height of 0: all.
            rotation_deg: 0, 90, 180 or 270, clockwise.

        Raises:
            ConfigError: the region is not wholly on the sensor.
        """
        x, y, wide, high = roi
        right = x + wide if wide else width
        bottom = y + high if high else height
        if not (x < right <= width and y < bottom <= height):
            raise ConfigError(
                f"roi {list(roi)} lies outside of this sensor of {width}x{height} pixels, or "
                "reaches beyond it; it is [x, y, width, height]"
            )
        return View(height, width, x, y, right, bottom, rotation_deg // 90 % 4)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what the student sees, upright."""
        size = self.bottom - self.top, self.right - self.left
        return size if self.turns % 2 == 0 else size[::-1]

    @property
    def is_whole(self) -> bool:
        """Whether the student sees the sensor as it is."""
        return self.turns == 0 and self.size == (self.height, self.width)

    def events(self, events: Events) -> Events:
        """Return the events of the region in the coordinates of the view."""
        if self.is_whole:
            return events
        x, y = events.x, events.y
        inside = (x >= self.left) & (x < self.right) & (y >= self.top) & (y < self.bottom)
        if not inside.all():
            events = events[inside]
        u, v = events.x - np.uint16(self.left), events.y - np.uint16(self.top)
        last_u, last_v = (
            np.uint16(n - 1) for n in (self.right - self.left, self.bottom - self.top)
        )
        if self.turns == 1:
            u, v = last_v - v, u
        elif self.turns == 2:
            u, v = last_u - u, last_v - v
        elif self.turns == 3:
            u, v = v, last_u - u
        height, width = self.size
        return Events(u, v, events.t_us, events.p, width, height)

    def place(self, answer: Answer) -> Answer:
        """Return what is said about the view in the coordinates of the sensor."""
        if self.is_whole or not isinstance(answer, Prediction):
            return answer
        instances = answer.instances
        return Prediction(
            self._image(answer.mask, IGNORE),
            self._image(answer.confidence, 0),
            tuple(self._detection(d) for d in answer.detections),
            None if instances is None else self._image(instances, 0),
            factor=answer.factor,
        )

    def _image(self, image: npt.NDArray[Pixel], outside: int) -> npt.NDArray[Pixel]:
        upright = np.rot90(image, self.turns)
        if upright.shape == (self.height, self.width):
            return np.ascontiguousarray(upright)
        whole = np.full((self.height, self.width), outside, image.dtype)
        whole[self.top : self.bottom, self.left : self.right] = upright
        return whole

    def _detection(self, detection: Detection) -> Detection:
        left, top, right, bottom = detection.box_xyxy
        high, wide = self.size
        box = {
            0: (left, top, right, bottom),
            1: (top, wide - right, bottom, wide - left),
            2: (wide - right, high - bottom, wide - left, high - top),
            3: (high - bottom, left, high - top, right),
        }[self.turns]
        turn = np.array(_DIRECTIONS[self.turns])
        covariance = detection.covariance
        if covariance:
            both = np.kron(np.eye(2), turn)
            turned = both @ np.array(covariance) @ both.T
            covariance = tuple(tuple(row) for row in turned.tolist())
        u, v = (turn @ np.array(detection.velocity_px_s)).tolist()
        return replace(
            detection,
            box_xyxy=(
                box[0] + self.left, box[1] + self.top, box[2] + self.left, box[3] + self.top,
            ),
            velocity_px_s=(u, v),
            covariance=covariance,
        )  # fmt: skip
