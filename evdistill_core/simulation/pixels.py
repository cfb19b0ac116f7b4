"""The pixel array: log intensity images in, events out.

Between two images the log intensity of a pixel changes linearly, so threshold crossings have exact
times. A pixel stores one number, its difference from the reference it last memorised.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events
from evdistill_core.simulation.sensor import SensorModel

FloatImage = npt.NDArray[np.float32]

LEAST_THRESHOLD = 0.01  # mismatch never makes a pixel fire without end
SORT_BY_COUNTING_BELOW_US = 1 << 21


class PixelArray:
    """The pixels of one sensor through time.

    At the start every pixel is somewhere between its two thresholds, evenly distributed: that is
    the state of a sensor that has been looking for a while, and it makes the mean number of events
    of a change proportional to the change.

    Args:
        model: what the pixels are like.
        height: rows.
        width: columns.
        rng: draws mismatch, start state, hot pixels, noise. The same generator state and images
            give the same events.
    """

    def __init__(
        self, model: SensorModel, *, height: int, width: int, rng: np.random.Generator
    ) -> None:
        self.model = model
        self.height = height
        self.width = width
        self._rng = rng
        pixels = height * width
        self._on = self._thresholds(model.threshold_on, pixels)
        self._off = self._thresholds(model.threshold_off, pixels)
        phase = rng.random(pixels, np.float32)
        # Just inside the thresholds: no motion and no noise give no event.
        self._difference = (phase * (self._on + self._off) - self._off) * np.float32(0.999)
        hot = rng.binomial(pixels, model.hot_fraction)
        self._hot = rng.choice(pixels, hot, replace=False, shuffle=False)
        self._release_us = np.zeros(pixels, np.float64)
        self._log = np.empty(0, np.float32)
        self._start_us = 0
        self._now_us = 0
        self._buffer = _Buffer(1 << 16)

    def start(self, log_image: FloatImage, t_us: int) -> None:
        """Begin at an image: the pixels have settled on it.

        Args:
            log_image: (H, W) float32, natural logarithm of intensity.
            t_us: time of the image.
        """
        self._log = self._checked(log_image).copy()
        self._start_us = self._now_us = t_us

    def advance(self, log_image: FloatImage, t_us: int) -> None:
        """Let the intensity change linearly to ``log_image`` until ``t_us``.

        Args:
            log_image: (H, W) float32.
            t_us: above the time of the last image.

        Raises:
            ValueError: time does not rise, ``start`` was not called, or the size differs.
        """
        if self._log.size == 0:
            raise ValueError("call start with a first image before advance")
        if t_us <= self._now_us:
            raise ValueError(f"t_us must rise: {t_us} after {self._now_us}")
        target = self._checked(log_image)
        duration_us = t_us - self._now_us
        if self.model.cutoff_hz is not None:
            # Implicit Euler step of a first-order low pass: stable for any duration.
            gain: float | FloatImage = 2.0 * math.pi * self.model.cutoff_hz * duration_us * 1e-6
            if self.model.cutoff_brightness:
                # Log intensity is 0 at full scale: there the corner is cutoff_hz.
                gain = gain * np.exp(target * np.float32(self.model.cutoff_brightness))
            weight = np.asarray(gain / (1.0 + gain), np.float32)
            target = self._log + (target - self._log) * weight
        self._cross(target, t_us)
        np.copyto(self._log, target)
        self._now_us = t_us

    def take_events(self) -> Events:
        """Return all events since the start or since the last call, sorted by time."""
        self._add_noise()
        x, y, t_us, p = self._buffer.take()
        t_us -= t_us % self.model.time_step_us
        np.maximum(t_us, self._start_us, out=t_us)
        order = _time_order(t_us, self._start_us, self._now_us)
        self._start_us = self._now_us
        return Events(x[order], y[order], t_us[order], p[order], self.width, self.height)

    def _thresholds(self, mean: float, pixels: int) -> FloatImage:
        if self.model.mismatch == 0:
            return np.full(pixels, max(mean, LEAST_THRESHOLD), np.float32)
        spread = self._rng.standard_normal(pixels, np.float32)
        spread *= np.float32(self.model.mismatch * mean)
        spread += np.float32(mean)
        # A threshold below 0.3 of the mean would be a hot pixel; those have their own rate.
        return np.maximum(spread, np.float32(max(0.3 * mean, LEAST_THRESHOLD)), out=spread)

    def _checked(self, log_image: FloatImage) -> FloatImage:
        if log_image.shape != (self.height, self.width) or log_image.dtype != np.float32:
            raise ValueError(
                f"images must be float32 ({self.height}, {self.width}), "
                f"got {log_image.dtype} {log_image.shape}"
            )
        return np.ascontiguousarray(log_image).reshape(-1)

    def _cross(self, target: FloatImage, t_us: int) -> None:
        pixel = 0
        while True:
            buffer = self._buffer
            pixel, buffer.count = _cross_thresholds(
                self._log, target, self._difference, self._release_us, self._on, self._off,
                self.width, self._now_us, t_us, self.model.refractory_us, self.model.leak_hz * 1e-6,
                pixel, buffer.x, buffer.y, buffer.t_us, buffer.p, buffer.count,
            )  # fmt: skip
            if pixel >= target.size:
                return
            buffer.grow()

    def _add_noise(self) -> None:
        start_us, now_us = self._start_us, self._now_us
        if now_us <= start_us:
            return
        model, rng = self.model, self._rng
        # Pairs whose first event lies before the window still have their second one in it.
        early_us = start_us - (round(5 * model.pair_us) if model.noise_pairs else 0)
        seconds = (now_us - early_us) * 1e-6
        pixels = self.height * self.width
        rate_hz = model.noise_hz / (1.0 + model.noise_pairs)
        first = self._noisy_pixels(rng.poisson(pixels * rate_hz * seconds))
        t_first = rng.integers(early_us, now_us, first.size)
        p_first = rng.random(first.size) < model.noise_on_fraction
        paired = rng.random(first.size) < model.noise_pairs
        delay_us = rng.exponential(model.pair_us, int(paired.sum())).astype(np.int64)
        repeats = rng.poisson(model.hot_hz * (now_us - start_us) * 1e-6, self._hot.size)
        hot = np.repeat(self._hot, repeats)
        where = np.concatenate([first, first[paired], hot])
        t_hot = rng.integers(start_us, now_us, hot.size)
        t_us = np.concatenate([t_first, t_first[paired] + delay_us, t_hot])
        # A hot pixel sticks to one polarity; which one is a property of the pixel.
        p = np.concatenate([p_first, ~p_first[paired], hot % 2 == 0])
        seen = (t_us >= start_us) & (t_us < now_us)
        where = where[seen]
        self._buffer.add(where % self.width, where // self.width, t_us[seen], p[seen])

    def _noisy_pixels(self, count: int) -> npt.NDArray[np.int64]:
        pixels = self.height * self.width
        if self.model.noise_darkness == 0 or count == 0:
            return self._rng.integers(0, pixels, count)
        # exp(-darkness * log intensity): shot noise is loudest where there is least light.
        total = np.cumsum(np.exp(self._log * np.float32(-self.model.noise_darkness)), dtype=float)
        drawn = np.searchsorted(total, self._rng.random(count) * total[-1], side="right")
        return np.asarray(np.minimum(drawn, pixels - 1), np.int64)


class _Buffer:
    """Columns that grow."""

    def __init__(self, capacity: int) -> None:
        self.count = 0
        self.x = np.empty(capacity, np.uint16)
        self.y = np.empty(capacity, np.uint16)
        self.t_us = np.empty(capacity, np.int64)
        self.p = np.empty(capacity, np.uint8)

    def grow(self) -> None:
        for name in ("x", "y", "t_us", "p"):
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.empty_like(column)]))

    def add(
        self,
        x: npt.NDArray[np.int64],
        y: npt.NDArray[np.int64],
        t_us: npt.NDArray[np.int64],
        p: npt.NDArray[np.bool_],
    ) -> None:
        while self.count + x.size > self.x.size:
            self.grow()
        part = slice(self.count, self.count + x.size)
        self.x[part], self.y[part], self.t_us[part], self.p[part] = x, y, t_us, p
        self.count += x.size

    def take(
        self,
    ) -> tuple[
        npt.NDArray[np.uint16], npt.NDArray[np.uint16], npt.NDArray[np.int64], npt.NDArray[np.uint8]
    ]:
        part = slice(0, self.count)
        self.count = 0
        return self.x[part], self.y[part], self.t_us[part].copy(), self.p[part]


def _time_order(t_us: npt.NDArray[np.int64], start_us: int, end_us: int) -> npt.NDArray[np.int64]:
    if end_us - start_us < SORT_BY_COUNTING_BELOW_US:
        return _order_by_counting(t_us, start_us, end_us)
    return np.argsort(t_us, kind="stable")


@njit(nogil=True, cache=True)
def _order_by_counting(
    t_us: npt.NDArray[np.int64], start_us: int, end_us: int
) -> npt.NDArray[np.int64]:
    place = np.zeros(end_us - start_us + 2, np.int64)
    for i in range(len(t_us)):
        place[t_us[i] - start_us + 1] += 1
    for k in range(1, len(place)):
        place[k] += place[k - 1]
    order = np.empty(len(t_us), np.int64)
    for i in range(len(t_us)):
        k = t_us[i] - start_us
        order[place[k]] = i
        place[k] += 1
    return order


@njit(nogil=True, cache=True)
def _cross_thresholds(  # noqa: PLR0913, PLR0917 - a kernel takes bare arrays
    start: FloatImage,
    target: FloatImage,
    difference: FloatImage,
    release_us: npt.NDArray[np.float64],
    on: FloatImage,
    off: FloatImage,
    width: int,
    t_start_us: int,
    t_end_us: int,
    refractory_us: float,
    leak_per_us: float,
    first_pixel: int,
    x: npt.NDArray[np.uint16],
    y: npt.NDArray[np.uint16],
    t_us: npt.NDArray[np.int64],
    p: npt.NDArray[np.uint8],
    count: int,
) -> tuple[int, int]:
    """Write the crossings of all pixels; stop early at a pixel for which there is no room.

    ``difference`` is log intensity minus the memorised reference; NaN marks a pixel in reset until
    ``release_us``. Returns the next pixel to do and the number of events written so far.
    """
    duration_us = float(t_end_us - t_start_us)
    leak = np.float32(leak_per_us * duration_us)
    for i in range(first_pixel, len(target)):
        change = target[i] - start[i] + leak * on[i]
        after = difference[i] + change
        if after < on[i] and after > -off[i]:  # never true for NaN
            difference[i] = after
            continue
        rate = float(change) / duration_us
        now_us = 0.0  # since t_start_us
        value = float(difference[i])
        if np.isnan(difference[i]):
            now_us = release_us[i] - t_start_us
            value = 0.0
            if now_us >= duration_us:
                continue
        room = abs(change) / min(on[i], off[i]) + 2.0
        if count + room > len(x):
            return i, count
        while True:
            limit = float(on[i]) if rate > 0 else -float(off[i])
            if rate == 0.0:
                break
            crossing_us = now_us + (limit - value) / rate
            if crossing_us > duration_us:
                break
            x[count] = i % width
            y[count] = i // width
            # An event of the last instant belongs to this interval, which is half open.
            t_us[count] = t_start_us + min(int(max(crossing_us, 0.0)), t_end_us - t_start_us - 1)
            p[count] = 1 if rate > 0 else 0
            count += 1
            value = 0.0
            now_us = max(crossing_us, 0.0) + refractory_us
            if now_us >= duration_us:
                break
        if now_us >= duration_us and refractory_us > 0.0:
            difference[i] = np.nan
            release_us[i] = t_start_us + now_us
        else:
            difference[i] = value + rate * (duration_us - now_us)
    return len(target), count
