"""Numbers as people read them: percent, counts, durations, sizes."""

from __future__ import annotations

import math

NONE = "-"
"""Stands where there is no value."""


def percent(value: float | None) -> str:
    """Return a share as percent with one decimal; a dash for None and NaN."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{100 * value:.1f}"


def points(difference: float) -> str:
    """Return the difference of two shares in percentage points, with its sign."""
    return f"{100 * difference:+.1f}"


def duration(seconds: float) -> str:
    """Return a span of time: "850 ms", "12.3 s", "4 min 5 s", "3 h 20 min"."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"


def size(count: int) -> str:
    """Return a number of bytes: "12.5 MB" (1e6 bytes)."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count} bytes"


def short(value: float) -> str:
    """Return a number with about three significant digits, and a dash for what is not finite."""
    if not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
