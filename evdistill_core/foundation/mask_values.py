"""Which values mean which class in the label images (masks) of a user."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from evdistill_core.foundation.config import LATER
from evdistill_core.foundation.errors import ConfigError

Rgb = tuple[int, int, int]
LARGEST_ID = 65_535  # of a 16 bit mask


@dataclass(frozen=True, kw_only=True)
class MaskValues:
    """The meaning of every value, by the position of the class in its table.

    Attributes:
        ids: values of each class in single-channel masks, 0..65535; also the class numbers of
            polygon files. Empty: the layout of the data tells.
        colors: red, green, blue of each class in colour masks. Empty: there are none.
        ignored_ids: values without a class in single-channel masks.
        ignored_colors: colours without a class in colour masks.
        ignores_rest: whether every value that is not named has no class; else it is an error.
        background: position of the class around polygons; None: what lies there is ignored.
        complete_for: positions of the classes that the labels mark completely.
        other_ids: values of what is none of these classes, in single-channel masks.
        other_colors: the same in colour masks.
        rest_is_other: whether every value that is not named means that.
    """

    ids: tuple[tuple[int, ...], ...] = ()
    colors: tuple[tuple[Rgb, ...], ...] = ()
    ignored_ids: tuple[int, ...] = ()
    ignored_colors: tuple[Rgb, ...] = ()
    ignores_rest: bool = False
    background: int | None = None
    complete_for: tuple[int, ...] = field(default=(), metadata=LATER)
    other_ids: tuple[int, ...] = field(default=(), metadata=LATER)
    other_colors: tuple[Rgb, ...] = field(default=(), metadata=LATER)
    rest_is_other: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse values out of range and values that mean two things."""
        ids = [*self.ignored_ids, *self.other_ids, *(v for values in self.ids for v in values)]
        wrong = [v for v in ids if not 0 <= v <= LARGEST_ID]
        if wrong:
            raise ConfigError(f"ids of masks lie in 0..{LARGEST_ID}, got {wrong[0]}")
        colors = [
            *(*self.ignored_colors, *self.other_colors),
            *(c for values in self.colors for c in values),
        ]
        for color in colors:
            if len(color) != 3 or any(not 0 <= v <= 255 for v in color):
                raise ConfigError(f"a colour is three values in 0..255, got {color}")
        for kind, values in (("id", ids), ("colour", colors)):
            twice = [v for v, n in Counter(values).items() if n > 1]
            if twice:
                raise ConfigError(f"the {kind} {twice[0]} of masks is named twice: give it once")

    @property
    def has_values(self) -> bool:
        """Whether ids or colours are named; else the layout of the data tells."""
        return self.has_ids or self.has_colors

    @property
    def has_others(self) -> bool:
        """Whether a value means "none of the classes that are marked completely"."""
        return bool(self.other_ids or self.other_colors or self.rest_is_other)

    @property
    def has_ids(self) -> bool:
        """Whether single-channel values are named."""
        return any(self.ids)

    @property
    def has_colors(self) -> bool:
        """Whether colours are named."""
        return any(self.colors)

    def check_size(self, num_classes: int) -> None:
        """Raise ConfigError where these values are those of another number of classes."""
        for name, values in (("ids", self.ids), ("colors", self.colors)):
            if values and len(values) != num_classes:
                raise ConfigError(
                    f"masks.{name} holds {len(values)} rows for {num_classes} classes"
                )
        if self.background is not None and not 0 <= self.background < num_classes:
            raise ConfigError(f"background must lie in 0..{num_classes - 1}, got {self.background}")
        if any(not 0 <= k < num_classes for k in self.complete_for):
            raise ConfigError(
                f"complete_for must lie in 0..{num_classes - 1}, got {list(self.complete_for)}"
            )

    def by_position(self, num_classes: int) -> MaskValues:
        """Return the same with the positions of the classes as ids, where no value is named."""
        if self.has_values:
            return self
        return replace(self, ids=tuple((i,) for i in range(num_classes)))
