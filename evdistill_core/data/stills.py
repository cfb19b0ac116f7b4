"""Labelled images as training samples: scaled, cropped, mirrored, in other light.

A teacher learns from them; the distillation translates them into events.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.data.image_layouts import LabelledImage
from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages
from evdistill_core.data.samples import Sample, Shuffle, seed_of
from evdistill_core.foundation.config import LATER
from evdistill_core.foundation.labels import IGNORE, OTHER, ClassTable
from evdistill_core.foundation.ranges import check_above, check_crop, check_intervals, check_ranges
from evdistill_core.simulation.images import number_things

Grey = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.uint16]
_Kept = tuple[Labels, Labels, Numbers]  # grey image, labels, numbers of things
RARE_MIN_PIXELS = 100
KEPT_BYTES = 256 * 2**20  # of decoded images a process; reading one again costs as much as a change


@dataclass(frozen=True, kw_only=True)
class StillsConfig:
    """Which images, and what is changed.

    Attributes:
        images: where they lie.
        crop: (height, width) of a random crop; (0, 0): the whole, padded to ``multiple``.
        border: what lies around an image that is smaller than that: ``empty``: padding right and
            below that counts nowhere; ``edge``: the image in the middle, its edge repeated (a
            digit on black).
        multiple: of padded height and width, where nothing is cropped.
        scale: (low, high) of a random scale before the crop, log-uniform.
        flip: probability of a left-right mirror.
        jitter: strength of brightness, contrast and gamma changes, 0..1.
        noise: largest deviation of added noise, in grey values of 0..255.
        blur: probability of a slight blur.
        rare_temperature: images are drawn by the classes in them, rare ones more often, with
            probability ~ exp((1 - share of the class) / temperature); 0: in turn (recognition:
            in a new order every round), all alike. Images of none of some classes (254) that hold
            no class are drawn as often as they are.
        share: how often these images are drawn, beside the shares of others.
    """

    images: ImagesConfig
    crop: tuple[int, int] = (0, 0)
    border: Literal["empty", "edge"] = "empty"
    multiple: int = 32
    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    jitter: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    rare_temperature: float = 0.0
    share: float = field(default=1.0, metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        check_crop(self.crop)
        check_intervals(self, scale=(0.05, 20))
        check_above(self, share=0)
        check_ranges(
            self,
            crop=(0, 8192),
            multiple=(1, 1024),
            flip=(0, 1),
            jitter=(0, 1),
            noise=(0, 100),
            blur=(0, 1),
            rare_temperature=(0, 100),
        )


class Stills:
    """Labelled images by index; every index is the same change of the same image.

    Args:
        config: images and changes.
        classes: what the labels mean.
        seed: of all draws, with the index.

    Raises:
        DataError: images are missing.
    """

    def __init__(self, config: StillsConfig, classes: ClassTable, *, seed: int) -> None:
        self.config = config
        self._classes = classes
        self._seed = seed
        self._images = LabelledImages(config.images, classes)
        self._kept: dict[int, _Kept] = {}
        self._room = KEPT_BYTES
        self._shuffle = Shuffle(len(self._images), seed=seed)
        self._by_class, self._chance = self._rarity() if config.rare_temperature > 0 else ([], [])

    def __len__(self) -> int:
        return len(self._images)

    def sample(self, index: int) -> Sample:
        """Return the image of this index as a sample.

        Returns:
            Input (1, H, W) in -1..1, labels ((1, 1) of images with one class), and as ``active``
            where there is image (1) and padding (0).
        """
        rng = np.random.default_rng(seed_of(self._seed, index, 21))
        grey, label, things = self._grey(self._choose(index, rng))
        recognised = label[:1, :1]
        image = grey.astype(np.float32)
        image, label, things = _scaled(image, label, things, self.config.scale, rng)
        if rng.random() < self.config.flip:
            image, label, things = image[:, ::-1], label[:, ::-1], things[:, ::-1]
        image, label, things, inside = self._fitted(image, label, things, rng)
        image = np.clip(self._lit(image, rng), 0, 255)
        network_input = np.where(inside, image / np.float32(127.5) - 1, np.float32(0))
        if self.config.images.is_recognition:
            label = recognised.copy()
        return Sample(
            network_input[None].astype(np.float32),
            label,
            inside.astype(np.uint8),
            excluded=self._images.excluded,
            instances=None if self.config.images.is_recognition else np.ascontiguousarray(things),
        )

    def _grey(self, number: int) -> _Kept:
        """Return an image, its labels and the numbers of its things; kept while there is room."""
        if number in self._kept:
            return self._kept[number]
        still = self._images[number]
        # Grey: what the frames of an event camera are, and what its events can hold.
        grey = np.asarray(cv2.cvtColor(still.image, cv2.COLOR_BGR2GRAY), np.uint8)
        things = np.zeros(still.label.shape, np.uint16)
        if not self.config.images.is_recognition:
            things = number_things(still.label, still.objects, self._classes.thing_ids)
        size = grey.nbytes + still.label.nbytes + things.nbytes
        if size <= self._room:
            self._room -= size
            self._kept[number] = (grey, still.label, things)
        return grey, still.label, things

    def __getstate__(self) -> dict[str, object]:
        # Workers decode for themselves instead of receiving images through a pipe.
        return {**self.__dict__, "_kept": {}, "_room": KEPT_BYTES}

    def _choose(self, index: int, rng: np.random.Generator) -> int:
        if not self._by_class and self.config.images.is_recognition:
            return self._shuffle.at(index)
        if not self._by_class:
            return index % len(self._images)
        k = int(rng.choice(len(self._by_class), p=self._chance))
        return int(rng.choice(self._by_class[k]))

    def _rarity(self) -> tuple[list[npt.NDArray[np.int64]], list[float]]:
        counts = np.array([_class_counts(s, self._classes) for s in self._all()])
        share = counts.sum(0) / max(1, counts[:, :-1].sum())
        holds = counts >= RARE_MIN_PIXELS
        present = [k for k in range(len(self._classes)) if holds[:, k].any()]
        if not present:
            return [], []
        score = np.exp((1 - share[present]) / self.config.rare_temperature)
        chance = (score / score.sum()).tolist()
        pools = [np.flatnonzero(holds[:, k]) for k in present]
        # 254 is no class that could be rare: it is most of what there is.
        without = np.flatnonzero(holds[:, -1] & ~holds[:, :-1].any(1))
        if len(without):
            left = 1 - len(without) / len(counts)
            return [*pools, without], [*(c * left for c in chance), 1 - left]
        return pools, chance

    def _all(self) -> list[LabelledImage]:
        return [self._images[i] for i in range(len(self._images))]

    def _fitted(
        self, image: Grey, label: Labels, things: Numbers, rng: np.random.Generator
    ) -> tuple[Grey, Labels, Numbers, npt.NDArray[np.bool_]]:
        height, width = label.shape
        multiple = self.config.multiple
        rows, columns = self.config.crop
        if not rows:
            rows, columns = -(-height // multiple) * multiple, -(-width // multiple) * multiple
        top = int(rng.integers(max(0, height - rows) + 1))
        left = int(rng.integers(max(0, width - columns) + 1))
        part = (slice(top, top + rows), slice(left, left + columns))
        image, label, things = image[part], label[part], things[part]
        lacking = (rows - label.shape[0], columns - label.shape[1])
        if self.config.border == "edge":
            around = [(n // 2, n - n // 2) for n in lacking]
            return (
                np.pad(image, around, mode="edge"),
                np.pad(label, around, constant_values=IGNORE),
                np.pad(things, around),
                np.ones((rows, columns), np.bool_),
            )
        missing = [(0, n) for n in lacking]
        inside = np.pad(np.ones(label.shape, np.bool_), missing)
        return (
            np.pad(image, missing),
            np.pad(label, missing, constant_values=IGNORE),
            np.pad(things, missing),
            inside,
        )

    def _lit(self, image: Grey, rng: np.random.Generator) -> Grey:
        config = self.config
        if config.jitter > 0:
            low, high = 1 - config.jitter, 1 + config.jitter
            contrast, brightness = rng.uniform(low, high, 2)
            gamma = math.exp(rng.uniform(-1, 1) * config.jitter)
            level = np.clip(image * brightness / 255, 0, 1) ** gamma * 255
            mean = level.mean()
            image = np.asarray((level - mean) * contrast + mean, np.float32)
        if config.blur > 0 and rng.random() < config.blur:
            blurred = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 1.5)))
            image = np.asarray(blurred, np.float32)
        if config.noise > 0:
            added = rng.normal(0, rng.uniform(0, config.noise), image.shape)
            image = image + added.astype(np.float32)
        return image


def _scaled(
    image: Grey,
    label: Labels,
    things: Numbers,
    limits: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[Grey, Labels, Numbers]:
    factor = math.exp(rng.uniform(math.log(limits[0]), math.log(limits[1])))
    if abs(factor - 1) < 1e-6:
        return image, label, things
    size = (max(1, round(label.shape[1] * factor)), max(1, round(label.shape[0] * factor)))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return (
        np.asarray(cv2.resize(image, size, interpolation=method), np.float32),
        np.asarray(cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8),
        np.asarray(cv2.resize(things, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint16),
    )


def _class_counts(still: LabelledImage, classes: ClassTable) -> npt.NDArray[np.int64]:
    """Return the pixels of every class, (K + 1,); the last are those of 254."""
    counts = np.bincount(still.label.ravel(), minlength=256)
    return np.append(counts[: len(classes)], counts[OTHER]).astype(np.int64)
