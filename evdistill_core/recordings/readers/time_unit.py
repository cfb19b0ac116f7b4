"""In which unit the times of plain columns are: told by the user, a name or the numbers.

Whole numbers are microseconds and numbers with fractions are seconds, unless that cannot be: a
date after the year 2100, or seconds without a single fraction. Where the unit only looks wrong (the
mean rate of events is far from any sensor's), a warning says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.read_options import TIME_UNITS_US

Array = npt.NDArray[Any]
TIME_LIMIT_US = 2.0**62
#: seconds since 1970 of 2001 and 2100: what a clock of the host shows
_DATES_S = (978_000_000.0, 4_102_444_800.0)
#: mean rates of events; a quiet sensor is above, the fastest one below
_LEAST_HZ, _MOST_HZ = 100.0, 1e9
#: fewer events tell nothing about their rate
_LEAST_EVENTS = 100
_UNIT_NAMES = {"ns": "nanoseconds", "us": "microseconds", "ms": "milliseconds", "s": "seconds"}


@np.errstate(invalid="ignore", over="ignore")  # damaged times are refused when they are read
def told_unit(
    t: Array, *, given: str = "", named: str = "", warn: Callable[[str], None] = lambda _: None
) -> str:
    """Return the unit of times: ``ns``, ``us``, ``ms`` or ``s``.

    Args:
        t: (N,) the first times, as stored.
        given: by the user, "" for nothing.
        named: by the name of the column, "" for nothing.
        warn: told what was guessed, and what looks wrong.
    """
    if given or named:
        return given or named
    usual = usual_unit(t)
    times = t.astype(np.float64)
    times = times[np.isfinite(times)]
    latest_s = float(np.abs(times).max(initial=0.0)) * TIME_UNITS_US[usual] / 1e6
    if latest_s > _DATES_S[1]:
        unit = _unit_of_date(float(np.abs(times).max()))
        if unit:
            warn(f"times are read as {_UNIT_NAMES[unit]}, by their date; set it with --time-unit")
            return unit
        warn(
            f"times reach {latest_s:.3g} s, read as {_UNIT_NAMES[usual]}: if that is not the unit, "
            "set it with --time-unit"
        )
        return usual
    rate_hz = _mean_rate(times, usual)
    if rate_hz is None or _LEAST_HZ <= rate_hz <= _MOST_HZ:
        return usual
    whole = usual == "s" and bool((np.trunc(times) == times).all())
    rate_in_us_hz = _mean_rate(times, "us")
    if whole and rate_in_us_hz is not None and _LEAST_HZ <= rate_in_us_hz <= _MOST_HZ:
        warn(
            "times have no fractions: they are read as microseconds, not as seconds; set it "
            "with --time-unit"
        )
        return "us"
    likely = _likely(times)
    hint = f" ({_UNIT_NAMES[likely]} would give {_mean_rate(times, likely):,.0f})" if likely else ""
    warn(
        f"read as {_UNIT_NAMES[usual]}, times give {rate_hz:,.3g} events a second{hint}: "
        "if that is not the unit, set it with --time-unit"
    )
    return usual


def usual_unit(t: Array) -> str:
    """Return the unit of times that nobody told: seconds with fractions, else microseconds."""
    return "s" if t.dtype.kind == "f" else "us"


def microseconds(t: Array, unit: str = "", *, path: Path | str = "it") -> npt.NDArray[np.int64]:
    """Return times as microseconds.

    Args:
        t: (N,) numbers.
        unit: of them; "": seconds if they are floating-point numbers, else microseconds.
        path: of the file, for the error.

    Raises:
        RecordingError: a time is no number, or beyond 2^62 us.
    """
    unit = unit or usual_unit(t)
    scale = TIME_UNITS_US[unit]
    if t.dtype.kind == "f":
        t_us = np.rint(t.astype(np.float64) * scale)
        if not (np.abs(t_us) < TIME_LIMIT_US).all():  # False for NaN too
            raise RecordingError(f"{path} holds times that are no numbers or beyond 2^62 us")
        return t_us.astype(np.int64)
    limit = TIME_LIMIT_US / max(scale, 1.0)
    if t.size and (int(t.min()) < -limit or int(t.max()) > limit):
        raise RecordingError(f"{path} holds times beyond 2^62 us")
    whole = t.astype(np.int64)
    if unit == "ns":
        return whole // 1000
    return whole if scale == 1.0 else whole * int(scale)


def _mean_rate(times: Array, unit: str) -> float | None:
    """Return events a second; None for too few of them. Steps back in time do not count."""
    steps = np.diff(times)
    span_s = float(steps[steps > 0].sum()) * TIME_UNITS_US[unit] / 1e6
    return (len(times) - 1) / span_s if span_s > 0 and len(times) >= _LEAST_EVENTS else None


def _unit_of_date(latest: float) -> str:
    """Return the unit in which a time is a date of our days; "" if none is."""
    for unit in ("ns", "us", "ms"):
        if _DATES_S[0] <= latest * TIME_UNITS_US[unit] / 1e6 <= _DATES_S[1]:
            return unit
    return ""


def _likely(times: Array) -> str:
    """Return the unit that gives the most usual rate, about a million a second; "" if none does."""
    rates = {unit: rate for unit in TIME_UNITS_US if (rate := _mean_rate(times, unit))}
    good = {unit: rate for unit, rate in rates.items() if 1e3 <= rate <= 1e8}
    return min(good, key=lambda unit: abs(np.log10(good[unit] / 1e6)), default="")
