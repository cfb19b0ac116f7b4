"""Labelled images as the simulation wants them, and things cut out of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import IGNORE, OTHER

Labels = npt.NDArray[np.uint8]
BORDER_SHARE = 0.01  # of the image: outlines that annotators drew end this close to its border
WHOLE_SHARE = 0.9  # of an object's pixels in one part: else something stands before it


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image with a label per pixel.

    Attributes:
        code: (H, W) uint16, grey image value times 257 (full scale 65535).
        labels: (H, W) uint8, class ids; 255 ignore, 254 none of some classes.
        name: where it came from.
        objects: (H, W) uint16, the number of the object that a pixel belongs to, 0 none; objects
            may be of no class (254). None: objects are the connected regions of their classes.
    """

    code: npt.NDArray[np.uint16]
    labels: Labels
    name: str = ""
    objects: npt.NDArray[np.uint16] | None = None

    @staticmethod
    def from_arrays(
        image: npt.NDArray[np.uint8],
        labels: Labels,
        name: str = "",
        objects: npt.NDArray[np.uint16] | None = None,
    ) -> LabelledImage:
        """Take an 8 bit image, (H, W) grey or (H, W, 3) blue green red, and its labels.

        Args:
            image: the image.
            labels: see the class.
            name: see the class.
            objects: see the class.

        Raises:
            DataError: image and labels differ in size, or a dtype is not uint8.
        """
        if image.dtype != np.uint8 or labels.dtype != np.uint8 or labels.ndim != 2:
            raise DataError(
                f"{name or 'image'}: expected uint8 image and (H, W) uint8 labels, got "
                f"{image.dtype} {image.shape} and {labels.dtype} {labels.shape}"
            )
        if image.shape[:2] != labels.shape:
            raise DataError(
                f"{name or 'image'}: image {image.shape[:2]} and labels {labels.shape} differ "
                "in size (height, width)"
            )
        grey = image.astype(np.float32)
        if image.ndim == 3:
            # The weights of ITU-R BT.601; the fractions give dark images more than 256 levels.
            grey = grey @ np.array([0.114, 0.587, 0.299], np.float32)
        return LabelledImage(np.rint(grey * 257.0).astype(np.uint16), labels, name, objects)


@dataclass(frozen=True, eq=False)
class Thing:
    """A countable thing cut out of an image.

    Attributes:
        code: (h, w) uint16, its surroundings included.
        mask: (h, w) bool, True on the thing.
        label: its class id; 254 for a thing of none of the classes.
    """

    code: npt.NDArray[np.uint16]
    mask: npt.NDArray[np.bool_]
    label: int


def cut_things(
    image: LabelledImage, thing_ids: Iterable[int], *, min_pixels: int = 250
) -> Iterator[Thing]:
    """Yield the objects of the thing classes, or the connected components of these classes.

    The value 254 among the ids yields things of none of the classes, of images that name objects.
    Where they do not, 254 is everything that is none of them, and no thing.

    Left out are those below ``min_pixels``, those that fill less than a fifth of their box (many
    things in one), and those that the image's border cuts: of components, the left and the right
    one (cars of a dash camera rarely stand elsewhere); of objects, all four, because photographs
    show halves of people. An object in several parts is hidden by others and left out too.
    """
    if image.objects is not None:
        yield from _cut_objects(image, image.objects, frozenset(thing_ids), min_pixels)
        return
    for label in (k for k in thing_ids if k != OTHER):
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


def number_things(
    labels: Labels, objects: npt.NDArray[np.uint16] | None, thing_ids: Iterable[int]
) -> npt.NDArray[np.uint16]:
    """Return which thing each pixel of an image shows, (H, W) uint16: 1, 2, ...; 0 no thing.

    Things are the objects that the image names, else the connected components of each thing class:
    two cars that touch there are one, and a car behind a pole is two.

    Args:
        labels: (H, W) uint8, class ids.
        objects: (H, W) uint16, see ``LabelledImage.objects``.
        thing_ids: ids of the thing classes.
    """
    if objects is not None:
        is_thing = np.zeros(256, np.bool_)
        is_thing[list(thing_ids)] = True
        kept = np.where(is_thing[labels], objects, 0)
        is_used = np.bincount(kept.ravel(), minlength=1) > 0
        is_used[0] = False
        return np.asarray((np.cumsum(is_used) * is_used).astype(np.uint16)[kept])
    numbers = np.zeros(labels.shape, np.uint16)
    last = 0
    for label in thing_ids:
        count, index = cv2.connectedComponents((labels == label).astype(np.uint8), connectivity=4)
        numbers += np.where(index > 0, index + last, 0).astype(np.uint16)
        last += count - 1
    return numbers


def _cut_objects(
    image: LabelledImage,
    objects: npt.NDArray[np.uint16],
    thing_ids: frozenset[int],
    min_pixels: int,
) -> Iterator[Thing]:
    rows, columns = objects.shape
    margin = max(2, round(BORDER_SHARE * min(rows, columns)))
    for number in np.unique(objects[objects > 0]):
        mask = objects == number
        ids = np.bincount(image.labels[mask], minlength=256)[:IGNORE]
        label, pixels = int(ids.argmax()), int(mask.sum())
        if label not in thing_ids or not ids[label] or pixels < min_pixels:
            continue
        _, index, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        k = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        left, top, width, height, whole = (int(v) for v in stats[k])
        is_cut = min(left, top) < margin or left + width > columns - margin
        is_cut |= top + height > rows - margin
        if is_cut or whole < WHOLE_SHARE * pixels or whole < 0.2 * width * height:
            continue
        part = (slice(top, top + height), slice(left, left + width))
        yield Thing(image.code[part].copy(), index[part] == k, label)
