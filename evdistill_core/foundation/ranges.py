"""The check of numbers that configurations share."""

from __future__ import annotations

from collections.abc import Mapping

from evdistill_core.foundation.errors import ConfigError

Ranges = Mapping[str, tuple[float, float]]
"""Name of a number -> the lowest and the highest value allowed."""


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
        if not low <= value <= high:
            raise ConfigError(f"{name} must lie in {low}..{high}, got {value}")


def check_at_least(values: object, /, **lows: float) -> None:
    """Refuse an attribute below its lowest value, or one that is not a number.

    Args:
        values: what has the attributes.
        **lows: the lowest allowed value by the name of the attribute.

    Raises:
        ConfigError: names the attribute, the lowest value and the value.
    """
    for name, low in lows.items():
        value = getattr(values, name)
        if not value >= low:
            raise ConfigError(f"{name} must be at least {low}, got {value}")
