"""The checks of numbers that configurations share; the reference pages show what they allow.

An attribute that is None is not checked. Of a tuple or a mapping every number is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from numbers import Integral

from evdistill_core.foundation.errors import ConfigError

Ranges = Mapping[str, tuple[float, float]]
"""Name of a number -> the lowest and the highest value allowed."""

BELOW_ONE = 0.999999
"""The highest of shares that must not be 1."""


def check_ranges(values: object, /, **ranges: tuple[float, float]) -> None:
    """Refuse an attribute that lies outside its range, or is not a number.

    Args:
        values: what has the attributes.
        **ranges: the lowest and the highest allowed value by the name of the attribute.

    Raises:
        ConfigError: names the attribute, the range and the value.
    """
    for name, (low, high) in ranges.items():
        value = getattr(values, name)
        if not all(low <= number <= high for number in _numbers(value)):
            raise ConfigError(f"{name} must lie in {low}..{high}, got {value}")


def check_at_least(values: object, /, **lows: float) -> None:
    """Refuse an attribute below its lowest value, or one that is not a finite number.

    Args:
        values: what has the attributes.
        **lows: the lowest allowed value by the name of the attribute.

    Raises:
        ConfigError: names the attribute, the lowest value and the value.
    """
    for name, low in lows.items():
        value = getattr(values, name)
        if not all(low <= number < math.inf for number in _numbers(value)):
            raise ConfigError(f"{name} must be at least {low} and finite, got {value}")


def check_above(values: object, /, **lows: float) -> None:
    """Refuse an attribute at or below a limit, or one that is not a finite number.

    Args:
        values: what has the attributes.
        **lows: the limit by the name of the attribute.

    Raises:
        ConfigError: names the attribute, the limit and the value.
    """
    for name, low in lows.items():
        value = getattr(values, name)
        if not all(low < number < math.inf for number in _numbers(value)):
            raise ConfigError(f"{name} must be above {low} and finite, got {value}")


def check_intervals(values: object, /, **ranges: tuple[float, float]) -> None:
    """Refuse a pair (low, high) that runs backwards or leaves its range.

    Args:
        values: what has the attributes.
        **ranges: the lowest and the highest allowed value by the name of the attribute.

    Raises:
        ConfigError: names the attribute, the range and the value.
    """
    for name, (low, high) in ranges.items():
        value = getattr(values, name)
        if not low <= value[0] <= value[1] <= high:
            raise ConfigError(f"{name} must be (low, high) within {low}..{high}, got {value}")


def is_integer(value: object) -> bool:
    """Tell whether a value is a whole number by its type, of Python or of NumPy."""
    return isinstance(value, Integral)


def check_crop(crop: tuple[int, int]) -> None:
    """Refuse a size (height, width) of which one number alone is 0.

    Raises:
        ConfigError: it is neither above 0 nor (0, 0).
    """
    if min(crop) < 0 or (min(crop) == 0) != (max(crop) == 0):
        raise ConfigError(f"crop must be (height, width) above 0, or (0, 0), got {crop}")


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple):
        for inner in value:
            yield from _numbers(inner)
    elif value is not None:
        assert isinstance(value, int | float)
        yield value
