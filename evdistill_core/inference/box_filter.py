"""Kalman filters of many boxes at once, in sensor time.

One box has the state (centre, velocity of the centre, size). The centre moves with constant
velocity and white-noise acceleration; width and height walk at random. Both axes are independent,
so the covariance of each is two by two and all equations are written out. The process noise is that
of continuous time: two steps of 25 ms give exactly what one step of 50 ms gives.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

NEW_SPEED = 4.0
"""Standard deviation of a new box's velocity, in box sides a second."""
SIZE_CHANGE = 0.15
"""Width and height change by this share of a box side in one second (one standard deviation)."""
LEAST_SIDE_PX = 1.0


class BoxFilter:
    """Filters N boxes; row i of every array belongs to box i.

    A box side, the unit of ``agility``, is the square root of width times height.

    Attributes:
        noise_px: standard deviation of a measured centre, width and height, pixels, above 0.
        agility: the velocity changes by this many box sides a second within one second (one
            standard deviation), 1/s, above 0.
        centre: (N, 2) x and y, pixels.
        velocity: (N, 2) pixels a second.
        size: (N, 2) width and height, pixels, at least ``LEAST_SIDE_PX``.
        centre_var: (N, 2) variance of the centre, px^2.
        cross_cov: (N, 2) covariance of centre and velocity on the same axis, px^2/s.
        velocity_var: (N, 2) variance of the velocity, px^2/s^2.
        size_var: (N, 2) variance of the size, px^2.
    """

    _COLUMNS = (
        "centre", "velocity", "size", "centre_var", "cross_cov", "velocity_var", "size_var",
    )  # fmt: skip

    def __init__(self, *, noise_px: float, agility: float) -> None:
        self.noise_px = noise_px
        self.agility = agility
        self.centre = np.empty((0, 2))
        self.velocity = np.empty((0, 2))
        self.size = np.empty((0, 2))
        self.centre_var = np.empty((0, 2))
        self.cross_cov = np.empty((0, 2))
        self.velocity_var = np.empty((0, 2))
        self.size_var = np.empty((0, 2))

    def __len__(self) -> int:
        return len(self.centre)

    def predict(self, dt_s: float) -> None:
        """Move all boxes on by some seconds, 0 or more."""
        side_squared = self.size.prod(axis=1, keepdims=True)
        noise = self.agility**2 * side_squared
        self.centre = self.centre + self.velocity * dt_s
        self.centre_var = (
            self.centre_var
            + 2 * dt_s * self.cross_cov
            + dt_s**2 * self.velocity_var
            + noise * (dt_s**3 / 3)
        )
        self.cross_cov = self.cross_cov + dt_s * self.velocity_var + noise * (dt_s**2 / 2)
        self.velocity_var = self.velocity_var + noise * dt_s
        self.size_var = self.size_var + SIZE_CHANGE**2 * side_squared * dt_s

    def correct(self, rows: npt.NDArray[np.intp], centre: Array, size: Array) -> None:
        """Take measured boxes in.

        Args:
            rows: (M,) boxes that were measured, none twice.
            centre: (M, 2) pixels.
            size: (M, 2) pixels.
        """
        noise = self.noise_px**2
        total = self.centre_var[rows] + noise
        surprise = centre - self.centre[rows]
        cross = self.cross_cov[rows]
        self.centre[rows] += self.centre_var[rows] / total * surprise
        self.velocity[rows] += cross / total * surprise
        self.centre_var[rows] *= noise / total
        self.cross_cov[rows] = cross * noise / total
        self.velocity_var[rows] -= cross**2 / total
        gain = self.size_var[rows] / (self.size_var[rows] + noise)
        corrected = self.size[rows] + gain * (size - self.size[rows])
        self.size[rows] = np.maximum(corrected, LEAST_SIDE_PX)
        self.size_var[rows] *= 1 - gain

    def add(self, centre: Array, size: Array) -> None:
        """Append boxes of unknown velocity; (M, 2) each, pixels."""
        at = len(self)
        for name in self._COLUMNS:
            setattr(self, name, np.concatenate([getattr(self, name), np.zeros_like(centre)]))
        self.restart(np.arange(at, at + len(centre)), centre, size)

    def restart(self, rows: npt.NDArray[np.intp], centre: Array, size: Array) -> None:
        """Put boxes elsewhere, at unknown velocity; arguments as for ``correct``."""
        size = np.maximum(size, LEAST_SIDE_PX)
        self.centre[rows] = centre
        self.velocity[rows] = 0.0
        self.size[rows] = size
        self.centre_var[rows] = self.size_var[rows] = self.noise_px**2
        self.cross_cov[rows] = 0.0
        self.velocity_var[rows] = NEW_SPEED**2 * size.prod(axis=1, keepdims=True)

    def keep(self, rows: npt.NDArray[np.intp]) -> None:
        """Forget all boxes but these, in this order."""
        for name in self._COLUMNS:
            setattr(self, name, getattr(self, name)[rows])

    def corners(self) -> Array:
        """Return the boxes as (N, 4) xyxy, pixels, with fractions."""
        return np.concatenate([self.centre - self.size / 2, self.centre + self.size / 2], axis=1)
