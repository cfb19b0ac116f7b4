"""Images with polygons in YOLO's segmentation layout.

``images/<split>/*`` beside ``labels/<split>/*.txt``, ``<split>/images`` beside ``<split>/labels``,
or ``images`` beside ``labels`` without splits. A line of a label file is one polygon: class number,
then x1 y1 x2 y2 ... as shares of width and height.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.data.class_images import IMAGE_SUFFIXES
from evdistill_core.data.masks import UnknownValuesError, Value, counted
from evdistill_core.foundation.class_file import CLASS_FILE, ClassEntry, ClassFile
from evdistill_core.foundation.config import load_yaml
from evdistill_core.foundation.errors import ConfigError, DataError
from evdistill_core.foundation.labels import (
    AUTO,
    IGNORE,
    OTHER,
    ClassTable,
    complete_classes,
    mapped_ids,
)
from evdistill_core.foundation.mask_values import MaskValues

NAMES_FILE = "data.yaml"
MIN_POINTS = 3
# Exporters round and cut: what lies outside by less than this share of the image is moved inside.
OUTSIDE = 0.01
_SHIFT = 4  # bits of a pixel's fraction in OpenCV's drawing


@dataclass(frozen=True)
class Polygon:
    """One object.

    Attributes:
        number: of its class, as the file has it.
        points: (N, 2) float64, x and y in 0..1 of width and height; N >= 3.
    """

    number: int
    points: npt.NDArray[np.float64]

    @property
    def area(self) -> float:
        """Share of the image, by the shoelace formula."""
        x, y = self.points.T
        return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def read_polygons(path: Path) -> list[Polygon]:
    """Return the polygons of a label file in the order of its lines; an empty file has none.

    Raises:
        DataError: a line is no polygon; the message names file, line and reason.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    polygons = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                polygons.append(_polygon(line.split()))
            except ValueError as error:
                raise DataError(f"{path}, line {number}: {error}") from error
    return polygons


def _polygon(words: Sequence[str]) -> Polygon:
    if not words[0].isdecimal():
        raise ValueError(f"a line begins with a class number (0, 1, ...), got {words[0]!r}")
    try:
        values = [float(word) for word in words[1:]]
    except ValueError:
        wrong = next(w for w in words[1:] if not _is_number(w))
        raise ValueError(f"{wrong!r} is no number") from None
    if len(values) == 4:
        raise ValueError("this is a box (4 numbers), not a polygon: export segmentation labels")
    if len(values) % 2 or len(values) < 2 * MIN_POINTS:
        raise ValueError(
            f"a polygon has x and y of at least {MIN_POINTS} points, got {len(values)} numbers"
        )
    outside = [v for v in values if not -OUTSIDE <= v <= 1 + OUTSIDE]  # also what is not finite
    if outside:
        raise ValueError(
            f"coordinates are shares of width and height in 0..1, got {outside[0]:g} (are these "
            "pixels?)"
        )
    points = np.clip(np.array(values, np.float64).reshape(-1, 2), 0, 1)
    return Polygon(int(words[0]), points)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def draw_polygons(
    polygons: Sequence[Polygon],
    class_ids: Mapping[int, int],
    *,
    height: int,
    width: int,
    background: int = IGNORE,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    """Return polygons as a label image, and which of them each pixel shows.

    Where they overlap, the smaller one is on top.
    A polygon of the value 254 says nothing where it lies on one of a class: a tie on a person is
    part of the person in most label sets. Such pixels are 255, and still of that one.

    Args:
        polygons: in any order; of equal areas the later one is on top.
        class_ids: class id, 254 or 255 by number of the polygon; all numbers are in it.
        height: rows of the image.
        width: columns of the image.
        background: value outside of all polygons.

    Returns:
        Labels, (H, W) uint8, and numbers of the polygons that have a class or the value 254,
        (H, W) uint16, 1 for the largest, 0 where there is none. Pixels on an outline belong to
        the polygon.
    """
    label = np.full((height, width), background, np.uint8)
    objects = np.zeros((height, width), np.uint16)
    for number, polygon in enumerate(sorted(polygons, key=lambda p: -p.area), 1):
        # The centre of pixel k lies at (k + 0.5) / size.
        places = (polygon.points * (width, height) - 0.5) * (1 << _SHIFT)
        corners, class_id = [np.rint(places).astype(np.int32)], class_ids[polygon.number]
        if class_id == OTHER:
            inside = cv2.fillPoly(np.zeros_like(label), corners, 1, shift=_SHIFT) > 0
            objects[inside & (label == OTHER)] = number
            label[inside] = np.where(label[inside] < OTHER, IGNORE, label[inside])
        else:
            cv2.fillPoly(label, corners, class_id, shift=_SHIFT)
        if class_id < OTHER:
            cv2.fillPoly(objects, corners, number, shift=_SHIFT)
    return label, objects


class YoloSegmentation:
    """Images and their polygons.

    An image without a label file has no objects, as YOLO takes it.

    Args:
        root: folder of the set.
        split: folder names joined by ``+``; without split folders it is not looked at.
        classes: what the numbers mean: by ``class_map``, else by the ids of the class file, else by
            the names in data.yaml, else by position.
        number_names: names of the numbers 0, 1, 2, ...; empty: those in data.yaml.
        class_map: from these names to those of ``classes``; what it leaves out has no class. Empty:
            see ``classes``.
        complete_for: the classes that these files mark completely, so that what lies outside of all
            polygons, or in one without a class, is none of them: 254. "auto": all that
            ``class_map`` reaches, or what the class file says.

    Attributes:
        names: file names of the images in order.
        notes: what must be said about files without a counterpart.
        complete_for: the classes that are marked completely; what a pixel of 254 is not.

    Raises:
        DataError: folders are missing, or data.yaml is wrong.
        ConfigError: the class map or ``complete_for`` has a name that is none.
    """

    def __init__(  # noqa: PLR0913 - options by name
        self,
        root: Path,
        split: str,
        classes: ClassTable,
        *,
        number_names: Sequence[str] = (),
        class_map: Mapping[str, str] | None = None,
        complete_for: str | Sequence[str] = AUTO,
    ) -> None:
        self._files = [pair for s in split.split("+") for pair in yolo_files(root, s.strip())]
        self.names = [image.name for image, _ in self._files]
        self.notes = [n for s in split.split("+") for n in _unpaired(root, s.strip())]
        masks = MaskValues() if class_map else classes.masks or MaskValues()
        reached = set(class_map.values()) if class_map else classes.complete_for
        self.complete_for = complete_classes(complete_for, classes, reached)
        rest = OTHER if self.complete_for else IGNORE
        known = dict(enumerate(number_names)) or yolo_names(root)
        if class_map:
            self._ids = _mapped_ids(classes, known, class_map, rest)
        else:
            self._ids = _class_ids(classes, masks, known)
            self._ids |= dict.fromkeys(masks.other_ids, rest)
        self._rest = rest if masks.rest_is_other else IGNORE if masks.ignores_rest else None
        self._background = rest if masks.background is None else masks.background
        self._known = ", ".join(classes.names)

    def image_path(self, number: int) -> Path:
        """Return the path of an image."""
        return self._files[number][0]

    def label(self, number: int, *, height: int, width: int) -> npt.NDArray[np.uint8]:
        """Return the labels of an image of this size (see ``label_and_objects``)."""
        return self.label_and_objects(number, height=height, width=width)[0]

    def label_and_objects(
        self, number: int, *, height: int, width: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
        """Return the labels of an image of this size, and which object a pixel shows.

        Returns:
            (H, W) uint8, class ids, 254 or 255; (H, W) uint16, 0 where there is no object of a
            class or of the value 254.

        Raises:
            UnknownValuesError: a polygon has a number without a meaning.
            DataError: the label file is damaged.
        """
        path = self._files[number][1]
        polygons = read_polygons(path) if path is not None else []
        numbers = Counter(p.number for p in polygons)
        unknown: dict[Value, int] = {n: k for n, k in numbers.items() if n not in self._ids}
        if unknown and self._rest is None:
            assert path is not None  # there are polygons
            raise UnknownValuesError(
                path,
                unknown,
                f"no class ({self._known}) has these numbers: give their ids to a class, or list "
                "them under ignore in the class file (docs/how-to/classes.md)",
                unit="polygon",
            )
        rest = IGNORE if self._rest is None else self._rest
        ids = {n: self._ids.get(n, rest) for n in numbers}
        return draw_polygons(polygons, ids, height=height, width=width, background=self._background)


def _mapped_ids(
    classes: ClassTable, names: Mapping[int, str], class_map: Mapping[str, str], rest: int
) -> dict[int, int]:
    """Return class id, or ``rest``, by the number of a polygon."""
    if not names:
        raise ConfigError(
            "class_map maps names, and the numbers of these polygons have none: say them in "
            f"{NAMES_FILE}, or as names"
        )
    said = tuple(names.values())
    ids = mapped_ids(said, class_map, classes, rest=rest, source="polygons")
    return dict(zip(names, ids, strict=True))


def _class_ids(classes: ClassTable, masks: MaskValues, names: Mapping[int, str]) -> dict[int, int]:
    """Return class id or 255 by the number of a polygon."""
    ids = dict.fromkeys(masks.ignored_ids, IGNORE)
    if masks.has_ids:
        return ids | {v: k for k, values in enumerate(masks.ids) for v in values}
    if not names:
        return ids | {k: k for k in range(len(classes))}
    missing = [name for name in classes.names if name not in names.values()]
    if missing:
        raise DataError(
            f"the class {missing[0]!r} is none of the names in {NAMES_FILE} "
            f"({', '.join(names.values())}): use its names, or give every class its ids"
        )
    of_name = {name: k for k, name in enumerate(classes.names)}
    return ids | {n: of_name[name] for n, name in names.items() if name in of_name}


def yolo_files(root: Path, split: str) -> list[tuple[Path, Path | None]]:
    """Return images in alphabetical order, each with its label file or None.

    Raises:
        DataError: the folders are missing.
    """
    folders = _folders(root, split)
    if folders is None:
        raise DataError(
            f"{root} holds no split {split!r}; there are {', '.join(_splits(root)) or 'none'}"
        )
    images, labels = folders
    found = (p for p in sorted(images.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES)
    paths = [(image, labels / f"{image.stem}.txt") for image in found]
    return [(image, label if label.is_file() else None) for image, label in paths]


def _unpaired(root: Path, split: str) -> list[str]:
    """Say how many images have no label file, and how many label files no image."""
    pairs, folders = yolo_files(root, split), _folders(root, split)
    assert folders is not None  # yolo_files found them
    bare = sum(label is None for _, label in pairs)
    stems = {image.stem for image, _ in pairs}
    lost = sum(p.suffix == ".txt" and p.stem not in stems for p in folders[1].iterdir())
    notes = [f"{counted(bare, 'image')} without a label file: no object is in them"] if bare else []
    return notes + ([f"{counted(lost, 'label file')} without an image, not used"] if lost else [])


def is_yolo(root: Path, split: str) -> bool:
    """Return whether label files of polygons lie beside images, and no label images."""
    folders = _folders(root, split) or next(
        (f for f in (_folders(root, s) for s in _splits(root)) if f is not None), None
    )
    return folders is not None and _has(folders[1], ".txt") and not _has(folders[1], ".png")


def yolo_names(root: Path) -> dict[int, str]:
    """Return the class names in data.yaml (or another YAML file with ``names``) by number.

    Returns:
        Empty where no file has names.

    Raises:
        DataError: names are neither a list nor a mapping of numbers to distinct texts.
    """
    others = (p for p in sorted(root.glob("*.y*ml")) if p.name not in (NAMES_FILE, CLASS_FILE))
    for path in (root / NAMES_FILE, *others):
        content = load_yaml(path) if path.is_file() else {}
        if "names" in content:
            return _checked_names(content["names"], path)
    return {}


def yolo_classes(root: Path) -> ClassFile | None:
    """Return the classes of data.yaml, all of them things; None where no file has names.

    Raises:
        DataError: the names are damaged.
    """
    names = yolo_names(root)
    if not names:
        return None
    entries = (ClassEntry(name=name, thing=True, ids=(n,)) for n, name in sorted(names.items()))
    return ClassFile(classes=tuple(entries))


def _checked_names(names: object, path: Path) -> dict[int, str]:
    rows = dict(enumerate(names)) if isinstance(names, list) else names
    is_fine = isinstance(rows, Mapping) and all(
        isinstance(n, int) and n >= 0 and isinstance(name, str) for n, name in rows.items()
    )
    if not isinstance(rows, Mapping) or not is_fine or len(set(rows.values())) < len(rows):
        raise DataError(
            f"{path}: names must be a list of distinct texts, or a mapping of class numbers to "
            f"them, got {names!r}"
        )
    return dict(rows)


def _folders(root: Path, split: str) -> tuple[Path, Path] | None:
    for images, labels in (
        (root / "images" / split, root / "labels" / split),
        (root / split / "images", root / split / "labels"),
        (root / "images", root / "labels"),
    ):
        if images.is_dir() and labels.is_dir() and _has(images, *IMAGE_SUFFIXES):
            return images, labels
    return None


def _splits(root: Path) -> list[str]:
    below = [p.name for p in (root / "images").glob("*") if p.is_dir()]
    beside = [p.parent.name for p in root.glob("*/images") if p.is_dir()]
    return sorted({*below, *beside})


def _has(folder: Path, *suffixes: str) -> bool:
    return any(p.suffix.lower() in suffixes for p in folder.iterdir())
