"""Labelled images as the simulation wants them, and things cut out of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import DataError

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image with a label per pixel.

    Attributes:
        code: (H, W) uint16, grey picture value times 257 (full scale 65535).
        labels: (H, W) uint8, class ids; 255 ignore.
        name: where it came from.
    """

    code: npt.NDArray[np.uint16]
    labels: Labels
    name: str = ""

    @staticmethod
    def from_arrays(image: npt.NDArray[np.uint8], labels: Labels, name: str = "") -> LabelledImage:
        """Take an 8 bit picture, (H, W) grey or (H, W, 3) blue green red, and its labels.

        Raises:
            DataError: picture and labels differ in size, or a dtype is not uint8.
        """
        if image.dtype != np.uint8 or labels.dtype != np.uint8 or labels.ndim != 2:
            raise DataError(
                f"{name or 'image'}: expected uint8 picture and (H, W) uint8 labels, got "
                f"{image.dtype} {image.shape} and {labels.dtype} {labels.shape}"
            )
        if image.shape[:2] != labels.shape:
            raise DataError(
                f"{name or 'image'}: picture {image.shape[:2]} and labels {labels.shape} differ "
                "in size (height, width)"
            )
        grey = image.astype(np.float32)
        if image.ndim == 3:
            # The weights of ITU-R BT.601; the fractions give dark pictures more than 256 levels.
            grey = grey @ np.array([0.114, 0.587, 0.299], np.float32)
        return LabelledImage(np.rint(grey * 257.0).astype(np.uint16), labels, name)


@dataclass(frozen=True, eq=False)
class Thing:
    """A countable thing cut out of an image.

    Attributes:
        code: (h, w) uint16, its surroundings included.
        mask: (h, w) bool, True on the thing.
        label: its class id.
    """

    code: npt.NDArray[np.uint16]
    mask: npt.NDArray[np.bool_]
    label: int


def cut_things(
    image: LabelledImage, thing_ids: Iterable[int], *, min_pixels: int = 250
) -> Iterator[Thing]:
    """Yield the connected components of the thing classes.

    Components that touch the left or right border are cut by it and left out, as are those below
    ``min_pixels`` and those that fill less than a fifth of their box (many things in one).
    """
    for label in thing_ids:
        count, index, stats, _ = cv2.connectedComponentsWithStats(
            (image.labels == label).astype(np.uint8), connectivity=4
        )
        for k in range(1, count):
            left, top, width, height, pixels = (int(v) for v in stats[k])
            touches = left == 0 or left + width == image.labels.shape[1]
            if touches or pixels < min_pixels or pixels < 0.2 * width * height:
                continue
            part = (slice(top, top + height), slice(left, left + width))
            yield Thing(image.code[part].copy(), index[part] == k, label)
