"""Neighbour filter: drops events that no other pixel nearby supports (sensor noise).

One map holds the time of the latest event of every pixel. When an event is judged, the map holds
all events up to ``dt_us`` after it and none beyond. So the latest time of a neighbour is at most
``dt_us`` later, and the neighbour supports the event unless that time is more than ``dt_us``
earlier. One look at the neighbours answers for both directions of time, in one pass.

The pass works in blocks of events, so that its inner loops are short and free of branches. For all
events of a block the map is written up to ``dt_us`` after the first one. The few events that are
not supported then are looked at again when it is written up to ``dt_us`` after the last one.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events
from evdistill_core.events.decoders.base import KernelArray
from evdistill_core.events.window import never_falls
from evdistill_core.representations.spec import BackgroundFilter

# Times in the map are counted from a base and take 16 bits where the filter's time allows it: half
# the memory, fewer cache misses. 0 is "never".
_SHORT_DT_US = 30_000
# A block's events lie within this share of dt_us. Longer blocks have more events to look at again.
_BLOCK_SHARE = 16
_BLOCK_EVENTS = 512
# A number inside a kernel: numba knows its type, and the arithmetic has no sign.
Word = Any
# Places in the state.
_JUDGED, _WRITTEN, _BASE, _HAS_BASE = range(4)


class NeighbourFilter:
    """Judges the events of one window, as they come in the order of time.

    An event has company if another pixel, at most ``radius_px`` rows and columns away, fired at
    most ``dt_us`` earlier or later in the same window. Its own pixel does not count, so a hot pixel
    falls away. Events outside the frame have no company.

    Not safe to share between threads.
    """

    def __init__(self) -> None:
        self._latest: KernelArray = np.empty(0, np.uint16)
        self._state = np.zeros(4, np.int64)
        self._spec = BackgroundFilter()
        self._height = self._width = 0

    @property
    def judged(self) -> int:
        """How many of the window's events are judged; they are the first ones."""
        return int(self._state[_JUDGED])

    def start(self, spec: BackgroundFilter, *, height: int, width: int) -> None:
        """Begin a window: forget all events."""
        dtype = np.uint16 if spec.dt_us <= _SHORT_DT_US else np.uint32
        size = (height + 2 * spec.radius_px) * (width + 2 * spec.radius_px)
        if self._latest.size != size or self._latest.dtype != dtype:
            self._latest = np.zeros(size, dtype)
        else:
            self._latest.fill(0)
        self._state[:] = 0
        self._spec, self._height, self._width = spec, height, width

    def judge(self, events: Events, kept: npt.NDArray[np.bool_], *, is_whole: bool) -> None:
        """Judge all events that can be judged by now.

        Args:
            events: those of the window that are known and not forgotten; times never fall.
            kept: (N,) bool; the places of events that become judged are written.
            is_whole: no more events follow, so that all can be judged. If not, those at the end
                wait: a later event may support them.
        """
        spec = self._spec
        _judge(
            self._latest, self._state, events.x, events.y, events.t_us, kept.view(np.uint8),
            self._height, self._width, spec.radius_px, spec.dt_us, is_whole,
        )  # fmt: skip

    def forget(self, count: int) -> None:
        """Number events anew: the first ``count`` ones, which are judged, are held no longer."""
        self._state[_JUDGED] -= count
        self._state[_WRITTEN] -= count


class _Workspace(threading.local):
    """One filter for each thread, for windows that are judged in one go."""

    def __init__(self) -> None:
        self.filter = NeighbourFilter()


_workspace = _Workspace()


def supported_events(events: Events, spec: BackgroundFilter) -> npt.NDArray[np.bool_]:
    """Tell which events of a window have company; see ``NeighbourFilter``.

    Args:
        events: N >= 0 events in any order (unsorted ones are sorted on a copy first).
        spec: radius and time.

    Returns:
        (N,) bool.
    """
    kept = np.empty(len(events), np.bool_)
    if not len(events):
        return kept
    if not never_falls(events.t_us):
        order = np.argsort(events.t_us, kind="stable")
        kept[order] = supported_events(events[order], spec)
        return kept
    judge = _workspace.filter
    judge.start(spec, height=events.height, width=events.width)
    judge.judge(events, kept, is_whole=True)
    return kept


def filter_background(events: Events, spec: BackgroundFilter | None) -> Events:
    """Return the events that have company (all of them when ``spec`` is None)."""
    if spec is None or len(events) == 0:
        return events
    return events[supported_events(events, spec)]


# Times are subtracted in 64 bits without a sign: right for any two times of which the second is not
# the earlier one, however far apart a damaged stream puts them.


@njit(nogil=True, cache=True)
def _judge(  # noqa: PLR0913, PLR0917 - a kernel takes bare arrays
    latest: KernelArray,
    state: KernelArray,
    x: KernelArray,
    y: KernelArray,
    t_us: KernelArray,
    kept: KernelArray,
    height: int,
    width: int,
    radius: Word,
    dt_us: int,
    is_whole: bool,
) -> None:
    count = len(t_us)
    i, j, base = int(state[_JUDGED]), int(state[_WRITTEN]), np.uint64(state[_BASE])
    dt, block_us = np.uint64(dt_us), np.uint64(dt_us // _BLOCK_SHARE)
    limit = np.uint64(0xFFFF if latest.itemsize == 2 else 0xFFFFFFFF)
    unsure = np.empty(_BLOCK_EVENTS, np.int64)
    size = (height, width, radius)
    while i < count:
        first_us = np.uint64(t_us[i])
        end = _block_end(t_us, i, first_us, block_us)
        if not is_whole:
            end = _end_of_certain(t_us, i, end, dt)
            if end == i:
                break
        last_us = np.uint64(t_us[end - 1])
        if not state[_HAS_BASE]:
            base = first_us - dt - np.uint64(1)
            state[_HAS_BASE] = 1
        elif last_us - base + dt > limit:
            shift = first_us - dt - np.uint64(1) - base
            _move_base(latest, min(shift, limit))
            base += shift
        j = _write(latest, x, y, t_us, j, first_us + dt - base, base, size)
        waiting = _look(latest, x, y, t_us, i, end, kept, unsure, base + dt, size)
        if waiting and last_us != first_us:
            before = j
            j = _write(latest, x, y, t_us, j, last_us + dt - base, base, size)
            for k in range(waiting):
                at = unsure[k]
                kept[at] = _look_again(latest, x, y, t_us, at, before, j, dt, base, size)
        i = end
    state[_JUDGED], state[_WRITTEN], state[_BASE] = i, j, np.int64(base)


@njit(nogil=True, cache=True)
def _block_end(t_us: KernelArray, i: Word, first_us: Word, block_us: Word) -> Word:
    """Return the place behind the last event of the block that begins at ``i``."""
    low, high = i + 1, min(i + _BLOCK_EVENTS, len(t_us))
    if np.uint64(t_us[high - 1]) - first_us <= block_us:
        return high
    while low < high:
        middle = (low + high) // 2
        if np.uint64(t_us[middle]) - first_us <= block_us:
            low = middle + 1
        else:
            high = middle
    return low


@njit(nogil=True, cache=True)
def _end_of_certain(t_us: KernelArray, i: Word, end: int, dt: Word) -> Word:
    """Return the place behind the last event that none still to come can support."""
    newest_us = np.uint64(t_us[-1])
    while end > i and newest_us - np.uint64(t_us[end - 1]) <= dt:
        end -= 1
    return end


@njit(nogil=True, cache=True)
def _move_base(latest: KernelArray, shift: Word) -> None:
    """Count the map's times from a later base; what lies before it becomes "never"."""
    for k in range(latest.size):
        latest[k] -= min(latest[k], latest.dtype.type(shift))


@njit(nogil=True, cache=True)
def _write(  # noqa: PLR0913, PLR0917
    latest: KernelArray,
    x: KernelArray,
    y: KernelArray,
    t_us: KernelArray,
    j: Word,
    until: Word,
    base: Word,
    size: tuple[int, int, int],
) -> Word:
    """Write the events from place ``j`` on, up to a time since the base; return where it ends."""
    height, width, radius = np.uintp(size[0]), np.uintp(size[1]), np.uintp(size[2])
    stride = width + radius + radius
    at, count = np.uintp(j), np.uintp(len(t_us))
    while at < count:
        now = np.uint64(t_us[at]) - base
        if now > until:
            break
        column, row = np.uintp(x[at]), np.uintp(y[at])
        if column < width and row < height:
            latest[(row + radius) * stride + column + radius] = now
        at += np.uintp(1)
    return np.int64(at)


@njit(nogil=True, cache=True)
def _look(  # noqa: PLR0913, PLR0917
    latest: KernelArray,
    x: KernelArray,
    y: KernelArray,
    t_us: KernelArray,
    first: int,
    end: int,
    kept: KernelArray,
    unsure: KernelArray,
    since: Word,
    size: tuple[int, int, int],
) -> Word:
    """Mark the events that a neighbour supports; list the others, return how many they are."""
    height, width, radius = np.uintp(size[0]), np.uintp(size[1]), np.uintp(size[2])
    stride = width + radius + radius
    one, waiting = np.uintp(1), np.uintp(0)
    for i in range(np.uintp(first), np.uintp(end)):
        column, row = np.uintp(x[i]), np.uintp(y[i])
        if column >= width or row >= height:
            kept[i] = 0
            continue
        # The corner of the neighbourhood: the map begins radius rows and columns before the frame.
        above = row * stride + column
        # Not below 1: what was never written is no company.
        oldest = np.uint64(t_us[i]) - since
        newest = _newest_around(latest, above, stride, radius)
        kept[i] = newest >= oldest
        unsure[waiting] = i
        waiting += one - np.uintp(kept[i])
    return np.int64(waiting)


@njit(nogil=True, cache=True, inline="always")
def _newest_around(latest: KernelArray, above: Word, stride: Word, radius: Word) -> Word:
    """Return the latest time in the square whose corner is ``above``, its middle left out."""
    one, two = np.uintp(1), np.uintp(2)
    here, below = above + stride, above + stride + stride
    if radius == one:
        upper = max(latest[above], latest[above + one], latest[above + two])
        lower = max(latest[below], latest[below + one], latest[below + two])
        sides = max(latest[here], latest[here + two])
        return max(upper, lower, sides)
    side = radius + radius + one
    middle = above + radius * stride + radius
    newest = latest.dtype.type(0)
    for row in range(side):
        start = above + row * stride
        for at in range(start, start + side):
            if at != middle:
                newest = max(newest, latest[at])
    return newest


@njit(nogil=True, cache=True)
def _look_again(  # noqa: PLR0913, PLR0917
    latest: KernelArray,
    x: KernelArray,
    y: KernelArray,
    t_us: KernelArray,
    i: Word,
    before: int,
    written: int,
    dt: Word,
    base: Word,
    size: tuple[int, int, int],
) -> bool:
    """Judge an event that nothing supports among the events up to place ``before``.

    The map may now hold events that are too late for it and hide earlier ones; then those written
    since are searched one by one.
    """
    width, radius = np.uintp(size[1]), np.uintp(size[2])
    stride = width + radius + radius
    above = np.uintp(y[i]) * stride + np.uintp(x[i])
    middle = above + radius * stride + radius
    side = radius + radius + np.uintp(1)
    oldest, youngest = np.uint64(t_us[i]) - base - dt, np.uint64(t_us[i]) - base + dt
    if _newest_around(latest, above, stride, radius) < oldest:
        return False
    for row in range(side):
        start = above + row * stride
        for at in range(start, start + side):
            now = np.uint64(latest[at])
            if at != middle and oldest <= now <= youngest:
                return True
    column, line, reach = np.int64(x[i]), np.int64(y[i]), np.int64(size[2])
    for j in range(before, written):
        if np.uint64(t_us[j]) - base > youngest:
            break
        distance = max(abs(np.int64(x[j]) - column), abs(np.int64(y[j]) - line))
        if 0 < distance <= reach:
            return True
    return False
