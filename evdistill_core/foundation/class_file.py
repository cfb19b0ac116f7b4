"""Class files: the classes of a user, their colours, and what the values in masks mean.

One file for ``train``, ``distill-on``, ``evaluate`` and ``simulate`` (docs/how-to/classes.md)::

    classes:
      - {name: floor, ids: [0]}
      - {name: forklift, ids: [3, 4], thing: true, color: "#e6194b"}
    ignore: [255]

A name of ``CLASS_SETS`` stands for a file wherever one is asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from evdistill_core.foundation.class_maps import CLASS_SETS, named_classes, spread_colors
from evdistill_core.foundation.config import LATER, from_mapping, load_yaml
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import ClassInfo, ClassTable
from evdistill_core.foundation.mask_values import MaskValues, Rgb
from evdistill_core.foundation.suggestions import did_you_mean, near_path

CLASS_FILE = "classes.yaml"
IGNORE_REST = "rest"
T = TypeVar("T")
_HEX = re.compile(r"#[0-9a-fA-F]{6}")

# As it is written: "#rrggbb", or red, green, blue.
Color = str | tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class ClassEntry:
    """One class of a file.

    Attributes:
        name: as results publish it.
        thing: countable: its regions become boxes.
        color: in images of masks, ``"#rrggbb"`` or three values in 0..255. Left out: the first
            of ``colors``, else one of evenly spaced hue.
        ids: its values in single-channel masks, and its numbers in polygon files.
        colors: its colours in colour masks, written as ``color`` is.
    """

    name: str
    thing: bool = False
    color: Color = ""
    ids: tuple[int, ...] = ()
    colors: tuple[Color, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a name that was not filled in, and what is no colour."""
        if not self.name.strip():
            values = [*self.ids, *self.colors]
            means = f" with the values {values} in masks" if values else ""
            raise ConfigError(f"a class{means} has no name: write what it is called")
        for color in (*self.colors, *([self.color] if self.color else [])):
            rgb_of(color, f"class {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class ClassFile:
    """The content of a class file.

    Attributes:
        classes: their order decides their numbers in results. Either all but the background
            have ``ids`` or ``colors``, or none has. Without them the ids are 0, 1, 2, ... in this
            order, or those of the layout (names in YOLO's data.yaml, CamVid, Cityscapes).
        ignore: values without a class: ids and colours, or the word ``rest`` for all that no
            class names. 255 in single-channel masks is among them unless a class has it.
        background: name of the class around the polygons of polygon files; empty: ignored.
        complete_for: names of the classes that the labels mark completely: what has no class is
            none of them. Around polygons that is so everywhere, in masks where ``other`` says it.
        other: values of what is none of ``complete_for``: ids and colours, or the word ``rest``.
    """

    classes: tuple[ClassEntry, ...]
    ignore: str | tuple[int | Color, ...] = ()
    background: str = ""
    complete_for: tuple[str, ...] = field(default=(), metadata=LATER)
    other: str | tuple[int | Color, ...] = field(default=(), metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse a file that makes no table."""
        self.table()

    def table(self) -> ClassTable:
        """Return the classes with what masks mean.

        Raises:
            ConfigError: no class, equal names, a value with two meanings, or some classes with
                values and some without.
        """
        return ClassTable(
            tuple(
                ClassInfo(entry.name, rgb_of(_color(entry, spare), entry.name), entry.thing)
                for entry, spare in zip(self.classes, spread_colors(len(self.classes)), strict=True)
            ),
            self._masks(),
        )

    def _masks(self) -> MaskValues | None:
        ignored, other = _values(self.ignore, "ignore"), _values(self.other, "other")
        names = [c.name for c in self.classes]
        if self.background and self.background not in names:
            raise ConfigError(f"background must be one of {names}, got {self.background!r}")
        said = [c.name for c in self.classes if c.ids or c.colors]
        silent = [n for n in names if n not in said and n != self.background]
        if said and silent:
            lacking = silent[0]
            raise ConfigError(
                f"class {lacking!r} has neither ids nor colors, and {said[0]!r} has: give every "
                "class but the background its values in the masks, or none"
            )
        self._check_partial()
        if not said and not self.ignore and not self.background and not self.complete_for:
            return None
        return MaskValues(
            ids=_rows(tuple(c.ids for c in self.classes)),
            colors=_rows(
                tuple(tuple(rgb_of(v, c.name) for v in c.colors) for c in self.classes),
            ),
            ignored_ids=tuple(v for v in ignored if isinstance(v, int)),
            ignored_colors=tuple(rgb_of(v, "ignore") for v in ignored if not isinstance(v, int)),
            ignores_rest=self.ignore == IGNORE_REST,
            background=names.index(self.background) if self.background else None,
            complete_for=tuple(names.index(n) for n in self.complete_for),
            other_ids=tuple(v for v in other if isinstance(v, int)),
            other_colors=tuple(rgb_of(v, "other") for v in other if not isinstance(v, int)),
            rest_is_other=self.other == IGNORE_REST,
        )

    def _check_partial(self) -> None:
        names = [c.name for c in self.classes]
        unknown = [n for n in self.complete_for if n not in names]
        if unknown:
            raise ConfigError(
                f"complete_for names {unknown[0]!r}, which is none of {names}"
                f"{did_you_mean(unknown[0], names)}"
            )
        if self.other and not self.complete_for:
            raise ConfigError(
                "other says which values are none of some classes: name these classes under "
                "complete_for"
            )
        if self.other == self.ignore == IGNORE_REST:
            raise ConfigError(f"only one of ignore and other can be {IGNORE_REST}")


# Whatever names classes: a preset or a path, names alone, or the content of a class file.
Classes = str | tuple[str, ...] | ClassFile


def read_class_file(path: Path) -> ClassFile:
    """Read a class file.

    Raises:
        ConfigError: it is missing or wrong; the message names the file and the key.
    """
    if not path.exists():
        raise ConfigError(
            f"there is no class file {path}{near_path(path)}; name a file or one of the presets "
            f"{', '.join(CLASS_SETS)}"
        )
    try:
        return from_mapping(ClassFile, load_yaml(path))
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if str(path) in text else f"{path}: {text}") from error


def is_class_file(classes: str) -> bool:
    """Return whether a word that names classes is a path of a class file, not a preset."""
    return classes.endswith((".yaml", ".yml")) or "/" in classes


def named_table(classes: str) -> ClassTable:
    """Return the classes of a preset or of a class file.

    Args:
        classes: a name in ``CLASS_SETS``, or the path of a YAML file.

    Raises:
        ConfigError: no preset has this name, or the file is wrong.
    """
    if is_class_file(classes):
        return read_class_file(Path(classes)).table()
    if classes not in CLASS_SETS:
        raise ConfigError(
            f"classes must be one of {', '.join(CLASS_SETS)}, or a class file (*.yaml, see "
            f"docs/how-to/classes.md), got {classes!r}{did_you_mean(classes, CLASS_SETS)}"
        )
    return CLASS_SETS[classes]


def table_of(classes: Classes) -> ClassTable:
    """Return the table of whatever names classes.

    Raises:
        ConfigError: an unknown preset, a wrong file, or names that make no table.
    """
    if isinstance(classes, ClassFile):
        return classes.table()
    return named_table(classes) if isinstance(classes, str) else named_classes(classes)


def rgb_of(color: Color, where: str) -> Rgb:
    """Return red, green, blue of a colour as it is written.

    Raises:
        ConfigError: it is neither ``"#rrggbb"`` nor three values in 0..255.
    """
    if isinstance(color, str):
        if not _HEX.fullmatch(color):
            raise ConfigError(
                f'{where}: a colour is "#rrggbb" in quotes or [red, green, blue], got {color!r}'
            )
        return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
    if any(not 0 <= v <= 255 for v in color):
        raise ConfigError(f"{where}: a colour is three values in 0..255, got {list(color)}")
    return color


def _values(values: str | tuple[int | Color, ...], key: str) -> tuple[int | Color, ...]:
    if not isinstance(values, str):
        return values
    if values != IGNORE_REST:
        raise ConfigError(
            f"{key} must be a list of values, or the word {IGNORE_REST}, got {values!r}"
        )
    return ()


def _color(entry: ClassEntry, spare: Rgb) -> Color:
    return entry.color or (entry.colors[0] if entry.colors else spare)


def _rows(rows: tuple[tuple[T, ...], ...]) -> tuple[tuple[T, ...], ...]:
    return rows if any(rows) else ()
