"""Label images (masks): reading their values, and turning values into class ids.

Single-channel masks of 8 or 16 bits, palette masks and colour masks are read. A palette mask (as
annotation tools and Pascal VOC write them) counts by its indices where ids are described, else by
its colours. A colour mask whose channels are equal everywhere counts as single-channel where only
ids are described, and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from evdistill_core.data.class_images import read_image
from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import IGNORE, OTHER, ClassTable
from evdistill_core.foundation.mask_values import LARGEST_ID, MaskValues, Rgb

# A value of a mask: an id, or red, green, blue.
Value = int | Rgb
NAMED_IN_ERRORS = 8
_UNKNOWN = -1
_PNG_COLOR_TYPE = 25  # offset of this byte in a PNG file
_PALETTE = 3


class UnknownValuesError(DataError):
    """A mask holds values without a meaning.

    Args:
        path: the mask, or a file of polygons.
        counts: how often every such value stands there.
        meaning: what is known, and the cure.
        unit: what is counted, one of them.
    """

    def __init__(
        self, path: Path, counts: Mapping[Value, int], meaning: str, *, unit: str = "pixel"
    ) -> None:
        self.path, self.counts, self.meaning, self.unit = path, counts, meaning, unit
        super().__init__(f"{path} holds {values_text(counts, unit)}; {meaning}")


@dataclass(frozen=True)
class RawMask:
    """The values of a mask.

    Attributes:
        codes: (H, W) int32: ids, or red << 16 | green << 8 | blue.
        is_color: which of the two.
    """

    codes: npt.NDArray[np.int32]
    is_color: bool

    def counts(self) -> dict[Value, int]:
        """Return how many pixels each value has."""
        codes, counts = np.unique(self.codes, return_counts=True)
        return {
            _value(int(code), self.is_color): int(n) for code, n in zip(codes, counts, strict=True)
        }


class MaskDecoder:
    """Turns the values of masks into class ids.

    Args:
        ids: class id (or 254, 255) by value of single-channel masks.
        colors: class id (or 254, 255) by colour of colour masks.
        rest: what values that are not named become; None: they are an error.
        meaning: what an error says about values that are not named: what is known, and the cure.
    """

    def __init__(
        self,
        ids: Mapping[int, int],
        colors: Mapping[Rgb, int] | None = None,
        *,
        rest: int | None = None,
        meaning: str,
    ) -> None:
        self._has_ids, self._has_colors = bool(ids), bool(colors)
        self._meaning = meaning
        self._rest = _UNKNOWN if rest is None else rest
        self._by_id = np.full(LARGEST_ID + 1, self._rest, np.int16)
        for value, class_id in ids.items():
            self._by_id[value] = class_id
        by_code = sorted((_code(color), class_id) for color, class_id in (colors or {}).items())
        self._color_codes = np.array([code for code, _ in by_code], np.int32)
        self._of_color = np.array([class_id for _, class_id in by_code], np.int16)

    def read(self, path: Path) -> npt.NDArray[np.uint8]:
        """Return the class ids in a mask.

        Returns:
            (H, W) uint8, class ids, 254 or 255.

        Raises:
            UnknownValuesError: it holds values that are not named.
            DataError: it cannot be read, or is no mask of a kind that is described.
        """
        mask = read_mask(path, has_ids=self._has_ids, has_colors=self._has_colors)
        if mask.is_color and not self._has_colors:
            raise DataError(
                f"{path} is a colour image, and the classes are described by ids alone: give their "
                "colors in a class file (docs/how-to/classes.md)"
            )
        label = self._of_colors(mask.codes) if mask.is_color else self._by_id[mask.codes]
        unknown = label == _UNKNOWN
        if unknown.any():
            counts = RawMask(mask.codes[unknown], mask.is_color).counts()
            raise UnknownValuesError(path, counts, self._meaning)
        return label.astype(np.uint8)

    def _of_colors(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.int16]:
        place = np.searchsorted(self._color_codes, codes)
        place = np.minimum(place, len(self._color_codes) - 1)
        found = self._of_color[place]
        return np.where(self._color_codes[place] == codes, found, np.int16(self._rest))


def decoder_of(classes: ClassTable, *, other: int = OTHER) -> MaskDecoder:
    """Return the decoder of masks whose values the class table describes.

    Where it names no values, the ids are the positions of the classes. 255 in single-channel masks
    is ignored unless a class has it.

    Args:
        classes: the table.
        other: what the values become that mean "none of the classes that are marked completely":
            254, or 255 where nobody learns from them.
    """
    masks = (classes.masks or MaskValues()).by_position(len(classes))
    ids = {v: k for k, values in enumerate(masks.ids) for v in values}
    colors = {c: k for k, values in enumerate(masks.colors) for c in values}
    named = ", ".join(
        f"{name} {values_list([*_row(masks.ids, k), *_row(masks.colors, k)])}"
        for k, name in enumerate(classes.names[:NAMED_IN_ERRORS])
    )
    more = ", ..." if len(classes) > NAMED_IN_ERRORS else ""
    ids = dict.fromkeys(masks.ignored_ids, IGNORE) | dict.fromkeys(masks.other_ids, other) | ids
    of_color = dict.fromkeys(masks.ignored_colors, IGNORE)
    of_color |= dict.fromkeys(masks.other_colors, other)
    rest = IGNORE if masks.ignores_rest else other
    return MaskDecoder(
        {IGNORE: IGNORE} | ids if masks.has_ids else {},
        of_color | colors if colors else {},
        rest=rest if masks.ignores_rest or masks.rest_is_other else None,
        meaning=f"no class has these values ({named}{more}): give them to a class, or list them "
        "under ignore in the class file (docs/how-to/classes.md)",
    )


def read_mask(path: Path, *, has_ids: bool, has_colors: bool) -> RawMask:
    """Read the values of a mask.

    Args:
        path: PNG, BMP or TIFF.
        has_ids: whether single-channel values are described.
        has_colors: whether colours are described.

    Raises:
        DataError: it cannot be read, or has values of another type.
    """
    wants_colors = has_colors and not has_ids
    if not wants_colors and _is_palette(path):
        return RawMask(_palette_indices(path), is_color=False)
    raw = read_image(path, cv2.IMREAD_UNCHANGED)
    is_color = raw.ndim == 3
    if raw.dtype != np.uint8 and not (raw.dtype == np.uint16 and not is_color):
        raise DataError(
            f"{path} must be a mask of 8 bits, or of 16 bits with one channel, got {raw.dtype} "
            f"with shape {raw.shape}"
        )
    if not is_color:
        if wants_colors and raw.dtype == np.uint8:
            return RawMask(raw.astype(np.int32) * 0x010101, is_color=True)
        return RawMask(raw.astype(np.int32), is_color=False)
    blue, green, red = (raw[..., k].astype(np.int32) for k in range(3))  # alpha says nothing
    if has_ids and not has_colors and (red == green).all() and (red == blue).all():
        return RawMask(red, is_color=False)
    return RawMask(red << 16 | green << 8 | blue, is_color=True)


def values_text(counts: Mapping[Value, int], unit: str) -> str:
    """Return values and how often they stand there in words, the most frequent first."""
    order = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{value_text(v)} ({counted(n, unit)})" for v, n in order[:NAMED_IN_ERRORS])
    left = len(order) - NAMED_IN_ERRORS
    more = f" and {left} more" if left > 0 else ""
    return f"{'the value' if len(order) == 1 else 'the values'} {shown}{more}"


def counted(count: int, what: str) -> str:
    """Return a number of things in words: "1 file", "1,200 files"."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def value_text(value: Value) -> str:
    """Return a value as a class file has it."""
    return str(value) if isinstance(value, int) else "#{:02x}{:02x}{:02x}".format(*value)


def values_list(values: list[Value]) -> str:
    """Return values as a list in a class file."""
    return "[" + ", ".join(map(value_text, values)) + "]"


def _row(rows: tuple[tuple[Value, ...], ...], k: int) -> tuple[Value, ...]:
    return rows[k] if rows else ()


def _code(color: Rgb) -> int:
    red, green, blue = color
    return red << 16 | green << 8 | blue


def _value(code: int, is_color: bool) -> Value:
    return (code >> 16, code >> 8 & 255, code & 255) if is_color else code


def _is_palette(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_PNG_COLOR_TYPE + 1)
    except OSError as error:
        raise DataError(f"cannot read image {path}: {error}") from error
    return head[1:4] == b"PNG" and head[_PNG_COLOR_TYPE:] == bytes((_PALETTE,))


def _palette_indices(path: Path) -> npt.NDArray[np.int32]:
    # OpenCV returns the colours of a palette, never the indices.
    try:
        with Image.open(path) as image:
            return np.asarray(image, np.int32)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read image {path}: {error}") from error
