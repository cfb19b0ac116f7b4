"""Counts of what was left out, by reason: nothing is lost without being said."""

from __future__ import annotations

import threading
from collections.abc import Mapping

MAX_REASONS = 16
OTHER = "other reasons"


class Reasons:
    """How often something was left out, and why; from any thread.

    Damaged input can give a new reason for every item. After 16 of them the rest is counted
    together as ``other reasons``, so memory stays small.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, reason: str, count: int = 1) -> None:
        """Count ``count`` more items that were left out for a reason."""
        with self._lock:
            if reason not in self._counts and len(self._counts) >= MAX_REASONS:
                reason = OTHER
            self._counts[reason] = self._counts.get(reason, 0) + count

    @property
    def total(self) -> int:
        """Number of items left out."""
        with self._lock:
            return sum(self._counts.values())

    def as_dict(self) -> dict[str, int]:
        """Return reason -> number of items, in the order of their first item."""
        with self._lock:
            return dict(self._counts)


def sentences(what: str, counts: Mapping[str, int]) -> list[str]:
    """Return one line for each reason: ``3 images left out: no pixels``; ``what`` is singular."""
    return [
        f"{count:,} {what}{'' if count == 1 else 's'} left out: {reason}"
        for reason, count in counts.items()
    ]
