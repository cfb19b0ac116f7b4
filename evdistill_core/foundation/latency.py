"""Percentiles of durations in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Percentiles:
    """What a set of durations looks like, milliseconds; all 0 for an empty set."""

    p50: float
    p95: float
    p99: float
    count: int

    def to_dict(self) -> dict[str, float]:
        """Return ``{"p50": ..., "p95": ..., "p99": ...}``, rounded to microseconds."""
        return {name: round(getattr(self, name), 3) for name in ("p50", "p95", "p99")}


def percentiles_ms(values_ms: Iterable[float]) -> Percentiles:
    """Return the 50th, 95th and 99th percentile: the smallest value that so many do not exceed."""
    values = np.sort(np.fromiter(values_ms, np.float64))
    if not len(values):
        return Percentiles(0.0, 0.0, 0.0, 0)
    at = [float(values[max(0, -(-len(values) * q // 100) - 1)]) for q in (50, 95, 99)]
    return Percentiles(at[0], at[1], at[2], len(values))


class LatencyRing:
    """The latest durations of one stage. Not locked: its owner is.

    Args:
        capacity: values kept; older ones fall out.
    """

    def __init__(self, capacity: int = 8192) -> None:
        self._values_ms = np.zeros(capacity, np.float32)
        self._added = 0

    def add(self, value_ms: float) -> None:
        """Add one duration."""
        self._values_ms[self._added % len(self._values_ms)] = value_ms
        self._added += 1

    def percentiles(self) -> Percentiles:
        """Return the percentiles of what is kept; ``count`` is that of all ever added."""
        kept = percentiles_ms(self._values_ms[: min(self._added, len(self._values_ms))].tolist())
        return Percentiles(kept.p50, kept.p95, kept.p99, self._added)
