"""Neighbour filter: drops events that no other pixel nearby supports (sensor noise)."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events
from evdistill_core.representations.spec import BackgroundFilter

# Times are kept in 32 bits, counted from the first event: half the memory, half the cache misses.
FARTHEST_US = 1 << 30  # 18 minutes; beyond it all times are one
NEVER = -(1 << 31)


def supported_events(events: Events, spec: BackgroundFilter) -> npt.NDArray[np.bool_]:
    """Tell which events have company.

    An event has company if another pixel, at most ``radius_px`` rows and columns away, fired at
    most ``dt_us`` earlier or later. Its own pixel does not count, so a hot pixel falls away.

    Args:
        events: N >= 0 events in any order (unsorted ones are sorted on a copy first).
        spec: radius and time.

    Returns:
        (N,) bool. Events outside the frame have no company.
    """
    if len(events) == 0:
        return np.zeros(0, np.bool_)
    radius = spec.radius_px
    latest = _maps.of(events.height + 2 * radius, events.width + 2 * radius)
    if _rises(events.t_us):
        columns = (events.x, events.y, events.t_us)
        return _supported(latest, *columns, events.height, events.width, radius, spec.dt_us)
    order = np.argsort(events.t_us, kind="stable")
    kept = np.empty(len(events), np.bool_)
    columns = (events.x[order], events.y[order], events.t_us[order])
    kept[order] = _supported(latest, *columns, events.height, events.width, radius, spec.dt_us)
    return kept


def filter_background(events: Events, spec: BackgroundFilter | None) -> Events:
    """Return the events that have company (all of them when ``spec`` is None)."""
    if spec is None or len(events) == 0:
        return events
    return events[supported_events(events, spec)]


class _Maps(threading.local):
    """One map of latest times for each thread, all ``NEVER`` between calls.

    Filling a map of a large sensor takes three times as long as the events of a window do.
    """

    def __init__(self) -> None:
        self._map = np.empty((0, 0), np.int32)

    def of(self, height: int, width: int) -> npt.NDArray[np.int32]:
        """Return the map for a size; whoever writes into it cleans up."""
        if self._map.shape != (height, width):
            self._map = np.full((height, width), NEVER, np.int32)
        return self._map


_maps = _Maps()


@njit(nogil=True, cache=True)
def _rises(t_us: npt.NDArray[np.int64]) -> bool:
    for i in range(1, len(t_us)):  # noqa: SIM110 - numba compiles loops, not generators
        if t_us[i] < t_us[i - 1]:
            return False
    return True


@njit(nogil=True, cache=True)
def _supported(  # noqa: PLR0913, PLR0917 - a kernel takes bare arrays
    latest: npt.NDArray[np.int32],
    x: npt.NDArray[np.uint16],
    y: npt.NDArray[np.uint16],
    t_us: npt.NDArray[np.int64],
    height: int,
    width: int,
    radius: int,
    dt_us: int,
) -> npt.NDArray[np.bool_]:
    count = len(t_us)
    kept = np.zeros(count, np.bool_)
    # Forwards in time finds earlier company; backwards, on the negated clock, later company.
    for i in range(count):
        if x[i] < width and y[i] < height:
            row, column = int(y[i]) + radius, int(x[i]) + radius
            now_us = _since(t_us[i], t_us[0])
            kept[i] = _has_company(latest, row, column, now_us - dt_us, radius)
            latest[row, column] = now_us
    _forget(latest, x, y, height, width, radius)
    for k in range(count):
        i = count - 1 - k
        if x[i] < width and y[i] < height:
            row, column = int(y[i]) + radius, int(x[i]) + radius
            now_us = -_since(t_us[i], t_us[0])
            if not kept[i]:
                kept[i] = _has_company(latest, row, column, now_us - dt_us, radius)
            latest[row, column] = now_us
    _forget(latest, x, y, height, width, radius)
    return kept


@njit(nogil=True, cache=True)
def _forget(  # noqa: PLR0913, PLR0917
    latest: npt.NDArray[np.int32],
    x: npt.NDArray[np.uint16],
    y: npt.NDArray[np.uint16],
    height: int,
    width: int,
    radius: int,
) -> None:
    """Set every place that an event wrote to back to ``NEVER``."""
    for i in range(len(x)):
        if x[i] < width and y[i] < height:
            latest[int(y[i]) + radius, int(x[i]) + radius] = NEVER


@njit(nogil=True, cache=True)
def _since(t_us: int, first_us: int) -> int:
    # Differences of hostile times overflow: halves do not.
    if t_us // 2 - first_us // 2 > FARTHEST_US // 2:
        return FARTHEST_US
    return t_us - first_us


@njit(nogil=True, cache=True)
def _has_company(
    latest: npt.NDArray[np.int32], row: int, column: int, since: int, radius: int
) -> bool:
    for r in range(row - radius, row + radius + 1):
        for c in range(column - radius, column + radius + 1):
            if latest[r, c] >= since and (r != row or c != column):
                return True
    return False
