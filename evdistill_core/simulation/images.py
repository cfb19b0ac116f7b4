"""Labelled images as the simulation wants them, and things cut out of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import DataError

Labels = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
IMAGE_FOLDERS = ("images", "image", "leftImg8bit", "imgs")
LABEL_FOLDERS = ("labels", "masks", "label", "mask", "annotations")


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


def list_labelled(source: Path, split: str | None = None) -> list[tuple[Path, Path]]:
    """Return the pairs (image, label image) of a folder, sorted by name.

    Args:
        source: holds ``images/`` and ``labels/`` (or ``masks/`` ...), each with the same file
            names up to the suffix, directly or in folders of splits (train, val, test).
        split: only this folder below; None: all.

    Raises:
        DataError: a folder is missing, nothing is found, or an image has no label.
    """
    images, labels = _child(source, IMAGE_FOLDERS), _child(source, LABEL_FOLDERS)
    if split is not None:
        images, labels = images / split, labels / split
        if not images.is_dir():
            raise DataError(f"{images} is no folder: check the split {split!r}")
    by_name = {
        p.relative_to(labels).with_suffix(""): p
        for p in labels.rglob("*")
        if p.suffix.lower() in IMAGE_SUFFIXES
    }
    pairs = []
    for path in sorted(p for p in images.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES):
        label = by_name.get(path.relative_to(images).with_suffix(""))
        if label is None:
            raise DataError(f"{path} has no label image of that name below {labels}")
        pairs.append((path, label))
    if not pairs:
        raise DataError(f"no images below {images}; known kinds: {', '.join(IMAGE_SUFFIXES)}")
    return pairs


def read_labelled(
    image_path: Path, label_path: Path, table: npt.NDArray[np.uint8] | None = None
) -> LabelledImage:
    """Read one pair.

    Args:
        image_path: colour or grey picture.
        label_path: one-channel 8 bit picture of ids.
        table: (256,) uint8, new id by old id (``foundation.labels.lookup_table``); None: as is.

    Raises:
        DataError: a file is missing or no picture, or the two do not fit.
    """
    image = _read(image_path, cv2.IMREAD_COLOR)
    labels = _read(label_path, cv2.IMREAD_UNCHANGED)
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise DataError(f"{label_path} must have one channel of 8 bit class ids")
    if table is not None:
        labels = table[labels]
    return LabelledImage.from_arrays(image, labels, str(image_path))


def read_all(
    pairs: Sequence[tuple[Path, Path]], table: npt.NDArray[np.uint8] | None = None
) -> list[LabelledImage]:
    """Read several pairs (see ``read_labelled``)."""
    return [read_labelled(image, label, table) for image, label in pairs]


def _read(path: Path, flags: int) -> npt.NDArray[np.uint8]:
    content = cv2.imread(str(path), flags)
    if content is None:
        raise DataError(f"{path} is missing or no picture")
    return np.asarray(content, np.uint8)


def _child(source: Path, names: Sequence[str]) -> Path:
    if not source.is_dir():
        raise DataError(f"{source} is no folder")
    for name in names:
        if (source / name).is_dir():
            return source / name
    raise DataError(f"{source} has none of the folders {', '.join(names)}")
