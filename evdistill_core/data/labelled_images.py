"""Labelled stills on disk: dense labels (CamVid, Cityscapes, folders) or one class an image.

An image with one class carries its id on every pixel, so that cropping, moving and simulating are
the same code for both tasks; ``ImagesConfig.is_recognition`` says that it is one label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.data.class_images import (
    IMAGE_SUFFIXES,
    ClassFolders,
    IdxImages,
    find_idx,
    read_image,
)
from evdistill_core.foundation.class_maps import CITYSCAPES_LABEL_IDS, cityscapes_table
from evdistill_core.foundation.errors import ConfigError, DataError
from evdistill_core.foundation.labels import (
    CAMVID_NAMES,
    CAMVID_TO_SIX,
    IGNORE,
    SIX_CLASSES,
    ClassTable,
    lookup_table,
)

RECOGNITION_LAYOUTS = ("class-folders", "mnist")


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Where labelled images lie and what their labels mean.

    Attributes:
        layout: ``camvid`` (``root/images/<split>``, ``root/labels/<split>``, ids 0..10 and void
            11); ``cityscapes`` (``root/leftImg8bit/<split>/<city>``, ``root/gtFine/<split>/<city>``
            with ``_labelIds`` or ``_labelTrainIds``; mapped to 19, 11 or 6 classes); ``folders``
            (``root/<images>``, ``root/<labels>``, ids given by ``names``); ``class-folders``
            (``root/<split>/<class>/*``: recognition); ``mnist`` (idx files in ``root``:
            recognition).
        root: folder; relative paths are relative to the working directory.
        split: ``train``, ``val``, ``test``; several are joined by ``+`` (camvid, cityscapes).
            ``.``: class folders lie directly below root. ``mnist``: ``train``, ``test``.
        images: image folder below root (``folders``), or file of pictures (``mnist``, where it
            has another name than the published one).
        labels: label folder below root (``folders``), or file of labels (``mnist``).
        names: class names by label id (``folders`` only); empty: the ids are already ours.
        class_map: source class name to target class name (``folders`` and recognition); names
            left out are ignored.
        include: keep files whose name starts with one of these (CamVid drives: ``0001TP``,
            ``0006R0``, ``0016E5``; Cityscapes: cities); empty keeps all.
        exclude: drop files whose name starts with one of these.
        skip: leave out the first N files: two parts of one list share no image.
        limit: use only the first N files of what is left; 0 uses all.
    """

    root: Path
    layout: Literal["camvid", "cityscapes", "folders", "class-folders", "mnist"] = "camvid"
    split: str = "train"
    images: str = "images"
    labels: str = "labels"
    names: tuple[str, ...] = ()
    class_map: dict[str, str] = field(default_factory=dict)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    skip: int = 0
    limit: int = 0

    def __post_init__(self) -> None:
        """Refuse negative numbers of files."""
        if self.skip < 0 or self.limit < 0:
            raise ConfigError(f"skip and limit must be >= 0, got {self.skip} and {self.limit}")

    @property
    def is_recognition(self) -> bool:
        """Whether every image has one class."""
        return self.layout in RECOGNITION_LAYOUTS


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

    Attributes:
        names: file names in order.

    Raises:
        DataError: a folder is missing or empty, an image has no label file, or a class folder has
            no place among the classes.
        ConfigError: the class map names an unknown class.
    """

    def __init__(self, config: ImagesConfig, classes: ClassTable = SIX_CLASSES) -> None:
        self.config = config
        self.classes = classes
        source = _ClassSource if config.is_recognition else _DenseSource
        self._source: _ClassSource | _DenseSource = source(config, classes)
        kept = [i for i in self._source.usable() if _kept(self._source.names[i], config)]
        kept = kept[config.skip :]
        self._numbers = kept[: config.limit] if config.limit else kept
        self.names = tuple(self._source.names[i] for i in self._numbers)
        if not self._numbers:
            raise DataError(
                f"no labelled image left in {config.root} (split {config.split!r}, "
                f"include {list(config.include)}, exclude {list(config.exclude)}, skip "
                f"{config.skip})"
            )

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> LabelledImage:
        """Read one still.

        Raises:
            DataError: a file cannot be read, sizes differ, or a label id has no meaning.
        """
        return self._source.read(self._numbers[index])


def recognition_names(config: ImagesConfig) -> tuple[str, ...]:
    """Return the class names that a recognition layout has on disk.

    Raises:
        DataError: the folder or file is missing.
        ConfigError: the layout has dense labels.
    """
    if not config.is_recognition:
        raise ConfigError(f"layout {config.layout} has dense labels: name the classes")
    return _recognition_files(config).class_names


class _ClassSource:
    """Images of one class each."""

    def __init__(self, config: ImagesConfig, classes: ClassTable) -> None:
        self._files = _recognition_files(config)
        self.names = self._files.names
        names = self._files.class_names
        unknown = sorted(set(names) - set(classes.names))
        if unknown and not config.class_map:
            raise DataError(
                f"{config.root} has the class {unknown[0]!r}, which is none of "
                f"{list(classes.names)}; name it in classes, or give a class_map (what it leaves "
                "out is ignored)"
            )
        table = lookup_table(names, config.class_map or {n: n for n in names}, classes)
        self._ids = table[self._files.ids]

    def usable(self) -> list[int]:
        return [int(i) for i in np.flatnonzero(self._ids != IGNORE)]

    def read(self, number: int) -> LabelledImage:
        image = self._files.image(number)
        label = np.full(image.shape[:2], self._ids[number], np.uint8)
        return LabelledImage(Path(self.names[number]).stem, image, label)


class _DenseSource:
    """Images with a label image each."""

    def __init__(self, config: ImagesConfig, classes: ClassTable) -> None:
        self._config, self._classes = config, classes
        if config.layout == "cityscapes":
            self._pairs = [p for s in _splits(config) for p in _cityscapes_pairs(config.root, s)]
            self._tables = {k: cityscapes_table(k, classes) for k in CITYSCAPES_KINDS}
        else:
            self._pairs = [p for folders in _folders(config) for p in _pairs(*folders)]
            self._tables = {"": _label_table(config, classes)}
        self.names = [image.name for image, _ in self._pairs]

    def usable(self) -> list[int]:
        return list(range(len(self._pairs)))

    def read(self, number: int) -> LabelledImage:
        image_path, label_path = self._pairs[number]
        image = read_image(image_path, cv2.IMREAD_COLOR)
        raw = read_image(label_path, cv2.IMREAD_UNCHANGED)
        if raw.ndim != 2 or raw.dtype != np.uint8:
            raise DataError(
                f"{label_path} must be an 8 bit single-channel label image, "
                f"got shape {raw.shape} {raw.dtype}"
            )
        if raw.shape != image.shape[:2]:
            raise DataError(f"{label_path} is {raw.shape}, its image is {image.shape[:2]}")
        kind = _cityscapes_kind(label_path) if self._config.layout == "cityscapes" else ""
        self._check_ids(label_path, raw, kind)
        return LabelledImage(image_path.stem, image, self._tables[kind][raw])

    def _check_ids(self, path: Path, raw: npt.NDArray[np.uint8], kind: str) -> None:
        known = {
            "camvid": len(CAMVID_NAMES) + 1,
            "cityscapes": CITYSCAPES_KINDS.get(kind, 0),
        }.get(self._config.layout, len(self._config.names or self._classes.names))
        largest = int(raw[raw != IGNORE].max(initial=0))
        if largest >= known:
            raise DataError(
                f"{path} holds label {largest}; {self._config.layout} labels are 0..{known - 1} "
                f"and {IGNORE} (is this a colour-coded or another label set?)"
            )


# Label files of Cityscapes, the preferred kind first, and how many ids each may hold.
CITYSCAPES_KINDS = {"labelIds": CITYSCAPES_LABEL_IDS, "labelTrainIds": 19}


def _recognition_files(config: ImagesConfig) -> ClassFolders | IdxImages:
    if config.layout == "class-folders":
        return ClassFolders(config.root / config.split)
    return IdxImages(*find_idx(config.root, config.split, config.images, config.labels))


def _label_table(config: ImagesConfig, classes: ClassTable) -> npt.NDArray[np.uint8]:
    names: tuple[str, ...]
    mapping: Mapping[str, str]
    if config.layout == "camvid":
        names = CAMVID_NAMES
        own = classes.names == CAMVID_NAMES
        mapping = {n: n for n in names} if own else CAMVID_TO_SIX
    else:
        names = config.names or classes.names
        mapping = config.class_map or {n: n for n in names if n in classes.names}
    return lookup_table(names, mapping, classes)


def _splits(config: ImagesConfig) -> list[str]:
    return [s.strip() for s in config.split.split("+")]


def _folders(config: ImagesConfig) -> list[tuple[Path, Path]]:
    if config.layout == "folders":
        return [(config.root / config.images, config.root / config.labels)]
    return [(config.root / "images" / s, config.root / "labels" / s) for s in _splits(config)]


def _cityscapes_kind(path: Path) -> str:
    return path.stem.rsplit("_", 1)[-1]


def _cityscapes_pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    images, labels = root / "leftImg8bit" / split, root / "gtFine" / split
    for folder in (images, labels):
        if not folder.is_dir():
            raise DataError(f"folder {folder} does not exist; set data root (and split) to one")
    pairs = []
    for path in sorted(images.glob("*/*_leftImg8bit.png")):
        stem = path.name.removesuffix("_leftImg8bit.png")
        names = [f"{stem}_gtFine_{kind}.png" for kind in CITYSCAPES_KINDS]
        city = labels / path.parent.name
        label = next((city / n for n in names if (city / n).is_file()), None)
        if label is None:
            raise DataError(f"image {path} has no label file {city / names[0]} or {names[1]}")
        pairs.append((path, label))
    return pairs


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
