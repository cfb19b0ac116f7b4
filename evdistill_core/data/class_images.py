"""Images with one class each: folders named after their classes, and MNIST's idx files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
# Twice the largest file that exists in this format (EMNIST by class: 814 255 images of 28x28).
IDX_LIMIT_BYTES = 1 << 30
_IDX_SPLITS = {"train": "train", "test": "t10k"}


class ClassFolders:
    """Images below one folder a class.

    Args:
        folder: holds the class folders; their names in alphabetical order are ids 0, 1, ...

    Raises:
        DataError: the folder is missing, or holds no class folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(
                f"folder {folder} does not exist; set root and split (split: . where the class "
                "folders lie directly below root)"
            )
        classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not classes:
            raise DataError(f"{folder} holds no class folders")
        self.class_names = tuple(p.name for p in classes)
        self._paths: list[Path] = []
        ids: list[int] = []
        for number, path in enumerate(classes):
            pictures = [p for p in sorted(path.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES]
            self._paths += pictures
            ids += [number] * len(pictures)
        self.ids = np.array(ids, np.int64)
        self.names = [f"{p.parent.name}/{p.name}" for p in self._paths]

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        """Return one image, (H, W, 3) uint8, blue green red.

        Raises:
            DataError: the file cannot be read.
        """
        return read_image(self._paths[index], cv2.IMREAD_COLOR)


class IdxImages:
    """MNIST and its relatives: one idx file of images, one of labels, packed by gzip or not.

    Args:
        images: the file of images (unsigned bytes, three dimensions).
        labels: the file of labels (unsigned bytes, one dimension).

    Raises:
        DataError: a file is missing, damaged, or they do not belong together.
    """

    def __init__(self, images: Path, labels: Path) -> None:
        self._images = read_idx(images, dimensions=3)
        self.ids = read_idx(labels, dimensions=1).astype(np.int64)
        if len(self._images) != len(self.ids):
            raise DataError(
                f"{images} holds {len(self._images)} images, {labels} {len(self.ids)} labels"
            )
        count = max(10, int(self.ids.max(initial=0)) + 1)
        self.class_names = tuple(str(i) for i in range(count))
        self.names = [f"{i:05d}" for i in range(len(self.ids))]

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        """Return one image, (H, W, 3) uint8, all channels alike."""
        return np.repeat(self._images[index][..., None], 3, axis=2)


def find_idx(root: Path, split: str, images: str, labels: str) -> tuple[Path, Path]:
    """Return the two idx files of a split.

    ``images`` and ``labels`` are taken where they name files below ``root``; else the names that
    MNIST is published under, with ``-`` or ``.`` before ``idx``, packed or not.

    Raises:
        DataError: none of these exists.
    """
    if (root / images).is_file() and (root / labels).is_file():
        return root / images, root / labels
    prefix = _IDX_SPLITS.get(split, split)
    found = []
    for kind, dimensions in (("images", 3), ("labels", 1)):
        names = [
            f"{prefix}-{kind}{dot}idx{dimensions}-ubyte{packed}"
            for dot in ("-", ".")
            for packed in ("", ".gz")
        ]
        path = next((root / n for n in names if (root / n).is_file()), None)
        if path is None:
            raise DataError(
                f"{root} holds no {names[0]}[.gz] (split {split!r}); give both file names as "
                "images and labels"
            )
        found.append(path)
    return found[0], found[1]


def read_idx(path: Path, *, dimensions: int) -> npt.NDArray[np.uint8]:
    """Return the array of unsigned bytes in an idx file, packed by gzip or not.

    Raises:
        DataError: missing, damaged, of another type, or of other dimensions.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            head = file.read(4 + 4 * dimensions)
            if len(head) < 4 + 4 * dimensions or head[:4] != bytes((0, 0, 8, dimensions)):
                raise DataError(
                    f"{path} is no idx file of unsigned bytes with {dimensions} dimensions "
                    f"(it starts with {head[:4].hex(' ')})"
                )
            shape = struct.unpack(f">{dimensions}I", head[4:])
            size = math.prod(shape)
            if size > IDX_LIMIT_BYTES:
                raise DataError(f"{path} declares {size} bytes, above {IDX_LIMIT_BYTES}: damaged")
            data = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if len(data) != size:
        raise DataError(f"{path} declares {shape}, {size} bytes, but holds {len(data)}: damaged")
    return np.frombuffer(data, np.uint8).reshape(shape)


def read_image(path: Path, flags: int) -> npt.NDArray[np.uint8]:
    """Return what OpenCV reads from a file.

    Raises:
        DataError: it cannot be read.
    """
    content = cv2.imread(str(path), flags)
    if content is None:
        raise DataError(f"cannot read image {path}")
    return np.asarray(content)
