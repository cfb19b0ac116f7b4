"""Model of an event sensor: what its pixels are like, and how they differ from one another.

Source: log intensity with contrast thresholds and interpolated crossing times: Rebecq et al.,
ESIM, CoRL 2018. Threshold mismatch, leak, background activity, linear-logarithmic response: Hu et
al., v2e, CVPRW 2021. Differs: during its refractory time a pixel is held in reset, so that its
reference is the intensity at the end of that time, as in the circuit (Lichtsteiner et al., 2008);
both simulators only drop the events. The response below the knee joins with equal slope.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.config import LATER
from evdistill_core.foundation.ranges import (
    check_above,
    check_at_least,
    check_intervals,
    check_ranges,
)

LEVELS = 65_536  # 16 bit intensity codes of the source images


@dataclass(frozen=True, kw_only=True)
class SensorModel:
    """One sensor.

    Attributes:
        threshold_on: rise of log intensity (natural logarithm) that gives a brighter event.
        threshold_off: fall that gives a darker event.
        mismatch: standard deviation of the thresholds over pixels, as a part of the threshold.
        refractory_us: how long a pixel is held in reset after an event; microseconds.
        noise_hz: background activity, events per pixel and second.
        noise_on_fraction: part of the background activity that is brighter, 0 .. 1.
        noise_darkness: how much more the dark is noisy: the rate of a pixel goes with its
            intensity to the power of minus this; the mean over the image stays ``noise_hz``.
        noise_pairs: part of the noise that is followed by an event of the other polarity.
        pair_us: mean time between the two.
        hot_fraction: part of the pixels that fire all the time, 0 .. 1.
        hot_hz: mean rate of a hot pixel.
        leak_hz: brighter events per second of a pixel whose intensity stays the same.
        cutoff_hz: corner of the pixel's first-order low pass; None: infinitely fast.
        cutoff_brightness: how much slower the dark is: the corner of a pixel is ``cutoff_hz`` times
            its intensity (1: full scale) to the power of this. 0: all pixels are equally fast; 1:
            as photoreceptors are, whose bandwidth goes with the photocurrent (Lichtsteiner et al.,
            JSSC 2008).
        knee: intensity, as a part of full scale, below which the response is linear.
        gamma: exponent that turns image values into light.
        exposure: factor on the light; above 1 saturates the brightest parts.
        time_step_us: timestamps are rounded down to multiples of this.
    """

    threshold_on: float = 0.25
    threshold_off: float = 0.25
    mismatch: float = 0.1
    refractory_us: float = 500.0
    noise_hz: float = 0.1
    noise_on_fraction: float = 0.5
    noise_darkness: float = 0.0
    noise_pairs: float = 0.0
    pair_us: float = 3500.0
    hot_fraction: float = 0.0
    hot_hz: float = 20.0
    leak_hz: float = 0.0
    cutoff_hz: float | None = None
    cutoff_brightness: float = 0.0
    knee: float = 0.02
    gamma: float = 2.2
    exposure: float = 1.0
    time_step_us: int = 1

    def __post_init__(self) -> None:
        """Refuse values that no sensor has."""
        check_above(
            self,
            threshold_on=0,
            threshold_off=0,
            knee=0,
            gamma=0,
            exposure=0,
            time_step_us=0,
            pair_us=0,
            cutoff_hz=0,
        )
        check_at_least(
            self,
            mismatch=0,
            refractory_us=0,
            noise_hz=0,
            noise_darkness=0,
            hot_hz=0,
            leak_hz=0,
            cutoff_brightness=0,
        )
        check_ranges(self, noise_on_fraction=(0, 1), noise_pairs=(0, 1), hot_fraction=(0, 1))

    def response(self) -> npt.NDArray[np.float32]:
        """Return log intensity by 16 bit intensity code.

        Returns:
            (65536,) float32, rising: ln(I) above the knee, a line of the same slope below it.
        """
        light = np.linspace(0.0, 1.0, LEVELS, dtype=np.float32) ** np.float32(self.gamma)
        light = np.minimum(light * np.float32(self.exposure), np.float32(1.0))
        knee = np.float32(self.knee)
        below = np.float32(math.log(self.knee)) + light / knee - np.float32(1.0)
        return np.asarray(
            np.where(light < knee, below, np.log(np.maximum(light, knee))), np.float32
        )

    def picture(self, log_image: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Return the 8 bit grey image of a log intensity image (the response backwards)."""
        below = (log_image - math.log(self.knee) + 1.0) * self.knee
        light = np.where(log_image < math.log(self.knee), below, np.exp(log_image))
        level = np.clip(light / self.exposure, 0.0, 1.0) ** (1.0 / self.gamma)
        picture: npt.NDArray[np.uint8] = np.rint(level * 255.0).astype(np.uint8)
        return picture

    @staticmethod
    def random(rng: np.random.Generator, ranges: SensorRanges | None = None) -> SensorModel:
        """Draw a sensor; the same generator state gives the same sensor."""
        r = ranges or SensorRanges()
        threshold = _log_uniform(rng, r.threshold)
        ratio = _log_uniform(rng, r.on_off_ratio)
        has_cutoff = rng.random() < r.cutoff_probability
        cutoff = _log_uniform(rng, r.cutoff_hz)
        return SensorModel(
            threshold_on=threshold * math.sqrt(ratio),
            threshold_off=threshold / math.sqrt(ratio),
            mismatch=rng.uniform(*r.mismatch),
            refractory_us=_log_uniform(rng, r.refractory_us),
            noise_hz=_log_uniform(rng, r.noise_hz),
            noise_on_fraction=rng.uniform(*r.noise_on_fraction),
            noise_darkness=rng.uniform(*r.noise_darkness),
            noise_pairs=rng.uniform(*r.noise_pairs),
            pair_us=_log_uniform(rng, r.pair_us),
            hot_fraction=rng.uniform(*r.hot_fraction),
            hot_hz=_log_uniform(rng, r.hot_hz),
            leak_hz=_log_uniform(rng, r.leak_hz),
            cutoff_hz=cutoff if has_cutoff else None,
            knee=_log_uniform(rng, r.knee),
            gamma=rng.uniform(*r.gamma),
            exposure=_log_uniform(rng, r.exposure),
            time_step_us=1,
            # Drawn last, and only where asked for: other draws stay what they were.
            cutoff_brightness=rng.uniform(*r.cutoff_brightness) if r.cutoff_brightness[1] else 0.0,
        )


@dataclass(frozen=True, kw_only=True)
class SensorRanges:
    """(low, high) of every value of a random sensor; rates and thresholds are log-uniform.

    Attributes:
        threshold: geometric mean of both thresholds, natural logarithm of intensity; above 0.
        on_off_ratio: threshold_on / threshold_off; above 0.
        mismatch: deviation of the thresholds over the pixels, as a part of the threshold.
        refractory_us: time that a pixel is held in reset after an event; above 0.
        noise_hz: background activity of a pixel, events a second; above 0.
        noise_on_fraction: part of the background activity that is brighter, 0 .. 1.
        noise_darkness: exponent of the noise in dark places: the rate of a pixel goes with its
            intensity to the power of minus this; at least 0.
        noise_pairs: part of the noise that an event of the other polarity follows, 0 .. 1.
        pair_us: mean time between the two events of a pair; above 0.
        hot_fraction: part of the pixels that fire all the time, 0 .. 1.
        hot_hz: mean rate of a hot pixel; above 0.
        leak_hz: brighter events a second of a pixel with constant intensity; above 0.
        cutoff_probability: part of the sensors that have a low pass.
        cutoff_hz: corner of the low pass of a pixel; above 0.
        cutoff_brightness: exponent of the corner in dark places: it goes with the intensity of a
            pixel to the power of this; at least 0.
        knee: intensity, as a part of full scale, below which the response is linear; above 0.
        gamma: exponent that turns values of images into light; above 0.
        exposure: factor on the light; above 1 the brightest parts saturate.
    """

    threshold: tuple[float, float] = (0.15, 0.6)
    on_off_ratio: tuple[float, float] = (0.75, 1.33)
    mismatch: tuple[float, float] = (0.05, 0.2)
    refractory_us: tuple[float, float] = (50.0, 3000.0)
    noise_hz: tuple[float, float] = (0.004, 1.0)
    noise_on_fraction: tuple[float, float] = (0.2, 0.8)
    noise_darkness: tuple[float, float] = (0.0, 1.2)
    noise_pairs: tuple[float, float] = (0.0, 0.9)
    pair_us: tuple[float, float] = (1500.0, 8000.0)
    hot_fraction: tuple[float, float] = (0.0, 0.0005)
    hot_hz: tuple[float, float] = (5.0, 100.0)
    leak_hz: tuple[float, float] = (0.001, 0.2)
    cutoff_probability: float = 0.5
    cutoff_hz: tuple[float, float] = (30.0, 1000.0)
    cutoff_brightness: tuple[float, float] = field(default=(0.0, 0.0), metadata=LATER)
    knee: tuple[float, float] = (0.005, 0.08)
    gamma: tuple[float, float] = (1.4, 2.4)
    exposure: tuple[float, float] = (0.5, 1.3)

    def __post_init__(self) -> None:
        """Refuse backward ranges, and values that ``SensorModel`` would refuse later."""
        check_ranges(self, cutoff_probability=(0, 1))
        check_intervals(
            self,
            **dict.fromkeys(("threshold", "on_off_ratio", "knee", "gamma"), (1e-6, 100)),
            **dict.fromkeys(("noise_on_fraction", "noise_pairs", "hot_fraction"), (0, 1)),
            **dict.fromkeys(("noise_hz", "hot_hz", "leak_hz", "cutoff_hz"), (1e-9, 1e6)),
            refractory_us=(1e-3, 1e9),
            pair_us=(1e-3, 1e9),
            mismatch=(0, 10),
            noise_darkness=(0, 10),
            cutoff_brightness=(0, 10),
            exposure=(1e-6, 1e3),
        )


def _log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    low, high = limits
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))
