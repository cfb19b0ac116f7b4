"""Trigger edges on their way between events: waiting for them, and in order with them.

A recording gives edges beside events, not among them. An edge that lies ahead of the events waits
until they have come so far: events are packed as they would be without edges.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Triggers


class EdgeQueue:
    """Edges in the order in which they came."""

    def __init__(self) -> None:
        self._parts: list[Triggers] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, triggers: Triggers) -> None:
        """Append edges."""
        if len(triggers):
            self._parts.append(triggers)
            self._count += len(triggers)

    def take_before(self, end_us: int) -> Triggers:
        """Remove and return the edges in front of the first one at or after a time."""
        if not self._count:
            return Triggers.empty()
        waiting = Triggers.concatenate(self._parts)
        later = np.flatnonzero(waiting.t_us >= end_us)
        count = int(later[0]) if len(later) else len(waiting)
        rest = select(waiting, slice(count, None))
        self._count = len(rest)
        self._parts = [rest] if self._count else []
        return select(waiting, slice(count))

    def take_all(self) -> Triggers:
        """Remove and return all edges."""
        waiting = Triggers.concatenate(self._parts)
        self._parts = []
        self._count = 0
        return waiting


def select(triggers: Triggers, index: slice | npt.NDArray[np.bool_]) -> Triggers:
    """Return a part of the edges."""
    return Triggers(triggers.t_us[index], triggers.channel[index], triggers.edge[index])


def places(t_us: npt.NDArray[np.int64], edges_us: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return in front of which event each edge belongs by its time; neither order is changed.

    Args:
        t_us: (N,) times of the events, in any order.
        edges_us: (M,) times of the edges, in any order.

    Returns:
        (M,) int64 that never fall, 0 .. N.
    """
    found = np.searchsorted(np.maximum.accumulate(t_us), edges_us, side="left")
    return np.maximum.accumulate(found).astype(np.int64)
