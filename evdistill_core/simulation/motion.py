"""Motion through time: smooth trajectories of the camera and of things."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

CALM_S = 0.2  # accelerations as drawn go on no longer than this
PARAMETERS = 6  # column px, row px, angle rad, log scale, and the two perspective terms 1/px


def _zeros() -> Vector:
    return np.zeros(PARAMETERS)


@dataclass(frozen=True, eq=False)
class Motion:
    """Offsets (column, row, angle, log scale, perspective x, perspective y) as functions of time.

    offset(t) = velocity t + acceleration t^2 / 2 + shake sin(2 pi shake_hz t + shake_phase), with
    t in seconds from the middle of the window.

    Attributes:
        velocity: (6,) per second.
        acceleration: (6,) per second squared.
        shake: (6,) amplitude.
        shake_hz: frequency of the shake.
        shake_phase: (6,) radians.
    """

    velocity: Vector = field(default_factory=_zeros)
    acceleration: Vector = field(default_factory=_zeros)
    shake: Vector = field(default_factory=_zeros)
    shake_hz: float = 1.0
    shake_phase: Vector = field(default_factory=_zeros)

    def offset(self, t_s: float) -> Vector:
        """Return (6,) offsets at ``t_s`` seconds from the middle of the window."""
        wave = np.sin(2.0 * math.pi * self.shake_hz * t_s + self.shake_phase)
        result: Vector = (
            self.velocity * t_s + self.acceleration * (0.5 * t_s * t_s) + self.shake * wave
        )
        return result

    def packed(self) -> Vector:
        """Return (25,) all numbers in a row, as the drawing kernel takes them."""
        return np.concatenate(
            [self.velocity, self.acceleration, self.shake, [self.shake_hz], self.shake_phase]
        )

    def similarity(self, t_s: float, origin: tuple[float, float]) -> Matrix:
        """Return the 3x3 matrix that carries a thing at the coordinate origin into the scene.

        Args:
            t_s: seconds from the middle of the window.
            origin: (column, row) in the scene where the thing is at offset 0.
        """
        column, row, angle, log_scale = self.offset(t_s)[:4]
        matrix: Matrix = shift(origin[0] + column, origin[1] + row) @ turn(
            angle, math.exp(log_scale)
        )
        return matrix

    def homography(self, t_s: float, centre: tuple[float, float]) -> Matrix:
        """Return the 3x3 matrix from pixels of the moved camera to pixels of the scene.

        Args:
            t_s: seconds from the middle of the window.
            centre: (column, row) around which the camera turns and zooms.
        """
        column, row, angle, log_scale, tilt_x, tilt_y = self.offset(t_s)
        tilt = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [tilt_x, tilt_y, 1.0]])
        back = shift(centre[0] + column, centre[1] + row)
        matrix: Matrix = (
            back @ tilt @ turn(angle, math.exp(log_scale)) @ shift(-centre[0], -centre[1])
        )
        return matrix


STILL = Motion()


def random_turning_motion(rng: np.random.Generator, *, size_px: float) -> Motion:
    """Draw the motion of a thing that stays about where it is: it turns, shakes, or both.

    Args:
        rng: generator.
        size_px: its size, to which the shake is relative.
    """
    kind = rng.random()
    velocity, shake = np.zeros(PARAMETERS), np.zeros(PARAMETERS)
    drift, direction = log_uniform(rng, (0.5, 30.0)), rng.uniform(0.0, 2 * math.pi)
    velocity[0], velocity[1] = drift * math.cos(direction), drift * math.sin(direction)
    if kind < 0.7:
        velocity[2] = log_uniform(rng, (0.5, 40.0)) * rng.choice((-1.0, 1.0))
    if kind > 0.4:
        farthest_px = log_uniform(rng, (0.5, max(1.0, 0.2 * size_px)))
        shake[:2] = rng.normal(0.0, farthest_px, 2)
        shake[2] = rng.normal(0.0, 0.1)
    return Motion(
        velocity,
        shake=shake,
        shake_hz=log_uniform(rng, (2.0, 40.0)),
        shake_phase=rng.uniform(0.0, 2 * math.pi, PARAMETERS),
    )


def calm(motion: Motion, span_s: float, size_px: float, farthest_px: float = math.inf) -> Motion:
    """Return a motion that can go on for a while.

    Speeds of a window of 50 ms may double within it, and things may grow without end; over
    seconds, a thing keeps about its speed, turns by half a radian and grows by half at most.

    Args:
        motion: as drawn for a window.
        span_s: how long it goes on, around the middle of time.
        size_px: what turns and grows, half the diagonal of the image for a camera.
        farthest_px: slow it down so that no point moves farther from the middle position.
    """
    half_s = span_s / 2
    rates = np.abs(motion.velocity) * (1.0, 1.0, size_px, size_px, size_px**2, size_px**2)
    slower = min(1.0, farthest_px / max(float(rates.sum()) * half_s, 1e-9))
    velocity = motion.velocity * slower
    most = np.array([0.5, 0.4]) / half_s
    velocity[2:4] = np.clip(velocity[2:4], -most, most)
    steady = np.divide(velocity, motion.velocity, out=np.zeros(PARAMETERS), where=velocity != 0)
    acceleration = motion.acceleration * steady * min(1.0, CALM_S / span_s)
    if math.isfinite(farthest_px):
        acceleration = np.clip(acceleration, -np.abs(velocity) / half_s, np.abs(velocity) / half_s)
    return replace(motion, velocity=velocity, acceleration=acceleration)


def shift(column: float, row: float) -> Matrix:
    """Return the matrix of a translation."""
    return np.array([[1.0, 0.0, column], [0.0, 1.0, row], [0.0, 0.0, 1.0]])


def turn(angle: float, scale: float = 1.0) -> Matrix:
    """Return the matrix of a rotation (radians, clockwise in the image) and scaling."""
    c, s = math.cos(angle) * scale, math.sin(angle) * scale
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def apply(matrix: Matrix, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (N, 2) points (column, row) mapped by a 3x3 matrix."""
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    result: npt.NDArray[np.float64] = mapped[:, :2] / np.maximum(mapped[:, 2:], 1e-6)
    return result


def corners(height: int, width: int) -> npt.NDArray[np.float64]:
    """Return the four corner pixels of an image as (4, 2) points."""
    right, bottom = width - 1.0, height - 1.0
    return np.array([[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]])


def log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    """Draw from ``limits`` evenly on a logarithmic scale."""
    low, high = limits
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def random_camera_motion(
    rng: np.random.Generator, speed_px_s: tuple[float, float], size_px: float
) -> Motion:
    """Draw a camera motion.

    Translation, rotation, zoom and perspective each come with their own share, so that some
    motions are pure and most are mixed; one in three also shakes.

    Args:
        rng: generator.
        speed_px_s: range of the speed at the border of the image, log-uniform.
        size_px: half the diagonal of the image.
    """
    speed = log_uniform(rng, speed_px_s)
    share = rng.dirichlet(np.full(4, 0.6)) * speed
    direction = rng.uniform(0.0, 2.0 * math.pi)
    sign = rng.choice((-1.0, 1.0), PARAMETERS)
    tilt = share[3] / size_px**2 * rng.dirichlet((1.0, 1.0))
    velocity = sign * np.array(
        [
            abs(math.cos(direction)) * share[0],
            abs(math.sin(direction)) * share[0],
            share[1] / size_px,
            share[2] / size_px,
            *tilt,
        ]
    )
    acceleration = velocity * rng.normal(0.0, 8.0, PARAMETERS)
    shake = np.zeros(PARAMETERS)
    if rng.random() < 1 / 3:
        amplitude_px = log_uniform(rng, (0.2, 4.0))
        shake[:3] = amplitude_px * rng.random(3) * (1.0, 1.0, 1.0 / size_px)
    return Motion(
        velocity,
        acceleration,
        shake,
        shake_hz=log_uniform(rng, (2.0, 25.0)),
        shake_phase=rng.uniform(0.0, 2.0 * math.pi, PARAMETERS),
    )


def random_thing_motion(
    rng: np.random.Generator,
    speed_px_s: tuple[float, float],
    *,
    level: float,
    size_px: float,
    slope: float = 0.0,
) -> Motion:
    """Draw the motion of a thing.

    Args:
        rng: generator.
        speed_px_s: range of its speed, log-uniform.
        level: standard deviation of its direction from the slope, radians.
        size_px: its size; growth (coming nearer) and turning are relative to it.
        slope: of the line along which it moves one way or the other, radians, clockwise from the
            horizontal.
    """
    speed = log_uniform(rng, speed_px_s)
    direction = slope + rng.normal(0.0, level) + (math.pi if rng.random() < 0.5 else 0.0)
    velocity = np.zeros(PARAMETERS)
    velocity[0], velocity[1] = speed * math.cos(direction), speed * math.sin(direction)
    velocity[2] = rng.normal(0.0, 0.1) * speed / size_px
    velocity[3] = rng.normal(0.0, 0.3) * speed / size_px
    return Motion(velocity, velocity * rng.normal(0.0, 3.0))
