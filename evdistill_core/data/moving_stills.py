"""Labelled event windows of recognition, simulated: an image moves in front of a sensor.

This is how N-MNIST and N-Caltech101 were recorded (a camera in small jerks before a screen), so the
same code that makes those sets from MNIST or class folders makes them of anybody's images.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.data.augment import AugmentConfig
from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages
from evdistill_core.data.samples import Sample, Shuffle, seed_of
from evdistill_core.data.simulated import (
    KeptWindow,
    augmented_sample,
    cached_window,
    label_facts,
    refuse_sequences,
    window_digest,
)
from evdistill_core.foundation.config import to_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.foundation.ranges import check_at_least, check_intervals, check_ranges
from evdistill_core.representations import InputSpec
from evdistill_core.simulation.images import LabelledImage
from evdistill_core.simulation.pixels import PixelArray
from evdistill_core.simulation.sensor import SensorModel, SensorRanges

# Three legs of 5.5 px that come back to the start: down right, up right, left.
SACCADES_PX = ((2.75, 4.76), (2.75, -4.76), (-5.5, 0.0))
STEP_PX = 0.5  # intensity is linear between two drawn images, so they must lie this close
UNIQUE_SEED = 0
Path2D = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MovingStillsConfig:
    """Which images, how they move, and who looks at them.

    Attributes:
        images: class folders or MNIST.
        height: rows of the sensor.
        width: columns of the sensor.
        scale: (low, high) of the image's size beside the largest that fits the sensor whole;
            its edge is repeated around it.
        legs_px: (columns, rows) that the image moves in equal parts of the window, one after the
            other; by default N-MNIST's three saccades. The middle of the path is in the middle of
            the sensor.
        length: (low, high) of a random factor on the path.
        turn_deg: the path is turned by a random angle of at most this; 180 is any direction.
        settle: (low, high) share of each leg that the motion takes; the rest of it stands still.
        delay: (low, high) share of that rest that comes before the motion, drawn for every leg.
        speed: ``constant``, or ``smooth``: from rest to rest, fastest half-way, as servos move.
        shift_px: the middle of the path lies at most this far from that of the sensor, in columns
            and in rows.
        sensor: what the pixels are like.
        unique: how many different windows there are, the same ones for every seed; the seed of a
            run decides their order and augmentation. 0: every index is a new window.
        cache: folder in which the unique windows are kept, for this run and later ones.
    """

    images: ImagesConfig
    height: int = 34
    width: int = 34
    scale: tuple[float, float] = (0.75, 0.95)
    legs_px: tuple[tuple[float, float], ...] = SACCADES_PX
    length: tuple[float, float] = (0.8, 1.2)
    turn_deg: float = 0.0
    settle: tuple[float, float] = (0.9, 1.0)
    delay: tuple[float, float] = (0.0, 0.0)
    speed: Literal["constant", "smooth"] = "constant"
    shift_px: float = 0.0
    sensor: SensorRanges = field(default_factory=SensorRanges)
    unique: int = 0
    cache: Path | None = None

    def __post_init__(self) -> None:
        """Refuse images of another task, and motions that are none."""
        if not self.images.is_recognition:
            raise ConfigError(
                f"moving_stills needs images of one class each, layout {self.images.layout} has "
                "dense labels: use simulation"
            )
        check_ranges(
            self,
            height=(8, 2048),
            width=(8, 2048),
            shift_px=(0, 2048),
            legs_px=(-1e6, 1e6),
            turn_deg=(0, 180),
        )
        check_intervals(self, scale=(0.01, 10), length=(0.01, 100), settle=(0.01, 1), delay=(0, 1))
        check_at_least(self, unique=0)
        if self.shift_px > max(self.height, self.width):
            raise ConfigError(f"shift_px must lie in 0..the sensor's size, got {self.shift_px}")
        if not self.legs_px:
            raise ConfigError("legs_px needs at least one leg, got none")


class MovingStills:
    """Simulated windows by index: every round all images, motion and sensor again.

    Args:
        config: images, motion, sensors.
        spec: what the student is fed; a window is as long as it says.
        classes: what the labels mean.
        seed: of all draws, with the index.
        augmentation: applied to the events.

    Raises:
        DataError: the images are missing.
    """

    def __init__(
        self,
        config: MovingStillsConfig,
        spec: InputSpec,
        classes: ClassTable,
        *,
        seed: int,
        augmentation: AugmentConfig | None = None,
    ) -> None:
        refuse_sequences(spec, "moving_stills makes one window of an image")
        self._config, self._spec, self._seed = config, spec, seed
        self._augmentation = augmentation
        self._images = LabelledImages(config.images, classes)
        # Runs of several seeds share the windows of one cache.
        self._window_seed = UNIQUE_SEED if config.unique else seed
        self._shuffle = Shuffle(len(self._images), seed=self._window_seed)
        self._order = Shuffle(config.unique, seed=seed) if config.unique else None
        self._cache = self._cache_folder()

    def __len__(self) -> int:
        return self._config.unique or len(self._images)

    def sample(self, index: int) -> Sample:
        """Return the window of this index; its label is (1, 1)."""
        number = self._order.at(index) if self._order is not None else index
        return augmented_sample(
            cached_window(self._cache, number, self.window),
            self._spec,
            self._augmentation,
            (self._seed, index),
            is_recognition=True,
        )

    def window(self, index: int) -> KeptWindow:
        """Return the events of this number and the class on every pixel."""
        config = self._config
        rng = np.random.default_rng(seed_of(self._window_seed, index, 31))
        still = self._images[self._shuffle.at(index)]
        code = LabelledImage.from_arrays(still.image, still.label).code
        sensor = SensorModel.random(rng, config.sensor)
        path, settle = _drawn_path(config, rng), rng.uniform(*config.settle)
        delays = rng.uniform(*config.delay, len(config.legs_px))
        path += rng.uniform(-config.shift_px, config.shift_px, 2)
        canvas = _Canvas(sensor.response()[code], config, rng.uniform(*config.scale))
        pixels = PixelArray(sensor, height=config.height, width=config.width, rng=rng)
        window_us = self._spec.window_us
        times_us, places = _timetable(
            path, window_us, settle, delays, is_smooth=config.speed == "smooth"
        )
        pixels.start(canvas.draw(places[0]), 0)
        for t_us, place in zip(times_us[1:], places[1:], strict=True):
            pixels.advance(canvas.draw(place), int(t_us))
        label = np.full((config.height, config.width), still.label[0, 0], np.uint8)
        return KeptWindow(pixels.take_events(), label, 0, window_us)

    def _cache_folder(self) -> Path | None:
        config = self._config
        if config.cache is None or not config.unique:
            return None
        facts = to_mapping(config)
        facts.update(unique=0, cache="", window_us=self._spec.window_us)
        facts["files"] = list(self._images.names)
        facts["classes"] = label_facts(self._images.classes)
        return config.cache / window_digest(facts, Path(__file__))


class _Canvas:
    """An image that can be drawn anywhere on the sensor."""

    def __init__(
        self, log_image: npt.NDArray[np.float32], config: MovingStillsConfig, scale: float
    ) -> None:
        height, width = log_image.shape
        self._size = (config.width, config.height)
        self._factor = scale * min(config.height / height, config.width / width)
        self._middle = ((config.width - 1) / 2, (config.height - 1) / 2)
        self._own_middle = ((width - 1) / 2, (height - 1) / 2)
        self._image = log_image
        if self._factor < 0.5:  # bilinear picking would alias
            size = (max(1, round(width * self._factor)), max(1, round(height * self._factor)))
            small = cv2.resize(log_image, size, interpolation=cv2.INTER_AREA)
            self._image = np.asarray(small, np.float32)
            self._factor = 1.0
            self._own_middle = ((size[0] - 1) / 2, (size[1] - 1) / 2)

    def draw(self, place: Path2D) -> npt.NDArray[np.float32]:
        f = self._factor
        shift = [self._middle[i] + float(place[i]) - f * self._own_middle[i] for i in range(2)]
        matrix = np.array([[f, 0.0, shift[0]], [0.0, f, shift[1]]])
        drawn = cv2.warpAffine(
            self._image,
            matrix,
            self._size,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(drawn, np.float32)


def _drawn_path(config: MovingStillsConfig, rng: np.random.Generator) -> Path2D:
    """Return the corners of the path, (legs + 1, 2) columns and rows around the middle."""
    legs = np.array(config.legs_px, np.float64) * rng.uniform(*config.length)
    angle = math.radians(rng.uniform(-config.turn_deg, config.turn_deg))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    corners = np.vstack([np.zeros(2), np.cumsum(legs @ turn.T, axis=0)])
    middle: Path2D = (corners.min(0) + corners.max(0)) / 2
    return np.asarray(corners - middle, np.float64)


def _timetable(
    corners: Path2D,
    window_us: int,
    settle: float,
    delays: npt.NDArray[np.float64],
    *,
    is_smooth: bool,
) -> tuple[npt.NDArray[np.int64], Path2D]:
    """Return rising times (N,) from 0 to ``window_us`` and the places (N, 2) at them."""
    leg_us = window_us / (len(corners) - 1)
    times, places = [np.zeros(1)], [corners[:1]]
    for i, (start, end) in enumerate(itertools.pairwise(corners)):
        begin_us = (i + (1 - settle) * delays[i]) * leg_us
        # A smooth motion is up to pi / 2 times as fast as a constant one.
        pictures = math.ceil(float(np.hypot(*(end - start))) / STEP_PX * (1.6 if is_smooth else 1))
        u = np.arange(max(2, pictures) + 1) / max(2, pictures)
        share = (1 - np.cos(np.pi * u)) / 2 if is_smooth else u
        times += [begin_us + u * settle * leg_us, np.array([(i + 1) * leg_us])]
        places += [start + share[:, None] * (end - start), end[None]]
    rounded = np.rint(np.concatenate(times)).astype(np.int64)
    # What coincides with its predecessor is no new image: no pause, or a window of microseconds.
    rising = np.append(True, np.diff(rounded) > 0)
    return rounded[rising], np.concatenate(places)[rising]
