"""Pixels that fire on their own: found by statistics, kept in a text file.

A hot pixel fires often and alone, or in a small cluster. A pixel that sees a lamp or a texture
fires often too, but so do many around it. So a pixel is hot when its rate is above a floor *and*
far above the fourth fastest of the 24 pixels around it. Clusters of up to four hot pixels are found
so; the corner of a region that flickers has eight such neighbours, a line one pixel wide has four,
and neither is masked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events
from evdistill_core.events.decoders.base import MAX_SIDE, KernelArray
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.files import write_text_atomic

# A step of sensor time longer than this between packets is a pause, not time in which pixels fired.
_MAX_STEP_US = 1_000_000
_MAX_FILE_BYTES = 1 << 28
# So many pixels around that are about as fast speak for a lamp or a line.
_VOUCHERS = 4


@dataclass(frozen=True, eq=False)
class HotPixels:
    """Which pixels are hot.

    Attributes:
        mask: (H, W) bool, read-only, True where hot.
    """

    mask: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Refuse what is no frame of a sensor; keep a read-only view."""
        shape = self.mask.shape
        if len(shape) != 2 or not all(1 <= side <= MAX_SIDE for side in shape):
            raise ConfigError(f"a hot pixel mask is (H, W), 1..{MAX_SIDE} each, got {shape}")
        view = self.mask.view()
        view.flags.writeable = False
        object.__setattr__(self, "mask", view)

    @property
    def count(self) -> int:
        """Number of hot pixels."""
        return int(np.count_nonzero(self.mask))

    @staticmethod
    def from_counts(
        counts: npt.NDArray[np.int64], span_us: int, *, min_hz: float, ratio: float
    ) -> HotPixels:
        """Judge by how often each pixel fired.

        Args:
            counts: (H, W) events of each pixel.
            span_us: sensor time in which they fired.
            min_hz: slower pixels are never hot.
            ratio: hot pixels fire more than so many times as often as the fourth fastest of the
                24 pixels around them (fewer at the border).
        """
        return HotPixels(_judge(counts, min_hz * span_us / 1e6, ratio))

    def save(self, path: Path) -> None:
        """Write a text file: width and height, then x and y of one hot pixel a line."""
        height, width = self.mask.shape
        rows = [f"{x} {y}" for y, x in np.argwhere(self.mask).tolist()]
        head = "# hot pixels: width and height of the sensor, then x and y of one pixel a line"
        write_text_atomic(path, "\n".join([head, f"{width} {height}", *rows]) + "\n")

    @staticmethod
    def load(path: Path) -> HotPixels:
        """Read what ``save`` wrote, or a list made by hand (``#`` starts a comment).

        Raises:
            ConfigError: missing, no such list, or a pixel lies outside the frame.
        """
        try:
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise ConfigError(f"{path} is too large for a list of hot pixels")
            lines = path.read_text(encoding="utf-8").splitlines()
            rows = [
                [int(w) for w in row.split()] for r in lines if (row := r.split("#")[0].strip())
            ]
        except OSError as error:
            raise ConfigError(f"the list of hot pixels {path} cannot be read: {error}") from error
        except ValueError as error:
            raise ConfigError(f"{path}: expected two whole numbers a line, {error}") from error
        if not rows or any(len(row) != 2 for row in rows):
            raise ConfigError(
                f"{path}: expected a line 'width height', then 'x y' of one hot pixel a line"
            )
        (width, height), pixels = rows[0], rows[1:]
        if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
            raise ConfigError(f"{path}: width and height must be 1..{MAX_SIDE}, got {rows[0]}")
        mask = np.zeros((height, width), np.bool_)
        for x, y in pixels:
            if not (0 <= x < width and 0 <= y < height):
                raise ConfigError(f"{path}: pixel {x} {y} lies outside {width}x{height}")
            mask[y, x] = True
        return HotPixels(mask)


class HotPixelLearner:
    """Counts the first seconds of a stream, however it is split into packets.

    Args:
        width: columns of the sensor.
        height: rows of the sensor.
    """

    def __init__(self, width: int, height: int) -> None:
        self.counts = np.zeros((height, width), np.int64)
        self.span_us = 0
        self._newest_us: int | None = None

    def add(self, events: Events) -> None:
        """Take in events that follow those before."""
        if not len(events):
            return
        first_us, last_us = int(events.t_us[0]), int(events.t_us[-1])
        before_us = first_us if self._newest_us is None else self._newest_us
        # The pause before the packet and the packet itself each count, but neither without limit:
        # one damaged time must not end the learning.
        for step_us in (first_us - before_us, last_us - max(first_us, before_us)):
            self.span_us += min(max(step_us, 0), _MAX_STEP_US)
        self._newest_us = max(last_us, before_us)
        _count(events.x, events.y, self.counts)

    def interrupt(self) -> None:
        """Sensor time broke off: the time until the next packet does not count."""
        self._newest_us = None


@njit(nogil=True, cache=True)
def _count(x: KernelArray, y: KernelArray, counts: KernelArray) -> None:
    for i in range(x.size):
        counts[y[i], x[i]] += 1


@njit(nogil=True, cache=True)
def _judge(counts: npt.NDArray[np.int64], least: float, ratio: float) -> npt.NDArray[np.bool_]:
    """Mark pixels with counts of at least ``least`` that stand out from those around them."""
    height, width = counts.shape
    hot = np.zeros((height, width), np.bool_)
    fastest = np.zeros(_VOUCHERS, np.int64)
    for y in range(height):
        for x in range(width):
            count = counts[y, x]
            if count < max(least, 1):
                continue
            fastest[:] = 0
            for v in range(max(y - 2, 0), min(y + 3, height)):
                for u in range(max(x - 2, 0), min(x + 3, width)):
                    other = counts[v, u] if (v != y or u != x) else 0
                    for k in range(_VOUCHERS):
                        if other > fastest[k]:
                            fastest[k], other = other, fastest[k]
            hot[y, x] = count > ratio * fastest[_VOUCHERS - 1]
    return hot
