"""Neighbour filter: drops events that no other pixel nearby supports (sensor noise).

One map holds the time of the latest event of every pixel. Events come in blocks that are far
shorter than ``dt_us``. A block is written into the map first, then each of its events looks at its
neighbours. What it finds there is either earlier, or later within the block, and supports it unless
it is more than ``dt_us`` old. So most events are judged as soon as they are there.

The others wait: a later event may support them for ``dt_us``. They look twice more, when a block
comes that reaches beyond that time: before it is written, and afterwards. Where it then hides
earlier events of a pixel, its events are searched one by one. So the result is exact, and only
events that wait are held.

Windows that overlap share the filter: it goes on from slice to slice of the stream, and tells where
the company of an event lies, in its own slice, before, or after it (see ``series.py``).
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events
from evdistill_core.events.decoders.base import Columns, KernelArray
from evdistill_core.representations.spec import BackgroundFilter

# Times in the map are counted from a base and take 16 bits where the filter's time allows it: half
# the memory, fewer cache misses. 0 is "never".
_SHORT_DT_US = 30_000
# A block's events lie within this share of dt_us. Longer blocks have more events to search.
_BLOCK_SHARE = 16
_BLOCK_EVENTS = 512
# A number inside a kernel: numba knows its type, and the arithmetic has no sign.
Word = Any
# Places in the state.
_HEAD, _TAIL, _LATE, _BASE, _HAS_BASE, _NUMBER, _SLICE, _HAS_SLICE = range(8)
# Places in the word of an event that waits.
_Y_BIT, _P_BIT, _EARLIER_BIT, _NUMBER_BIT, _IN_VAIN_BIT = 16, 32, 33, 34, 63
_NUMBER_MASK = (1 << _IN_VAIN_BIT - _NUMBER_BIT) - 1


class _Waiting(NamedTuple):
    """Events that wait.

    Attributes:
        above: (N,) where their neighbourhood begins in the map.
        t_us: (N,) int64.
        word: (N,) uint64: x in 16 bits, y in 16, p in one, one that tells of company before the
            slice, their number in it, and one of those that waited in vain.
    """

    above: KernelArray
    t_us: KernelArray
    word: KernelArray

    @staticmethod
    def room(count: int) -> _Waiting:
        return _Waiting(
            np.empty(count, np.uintp), np.empty(count, np.int64), np.empty(count, np.uint64)
        )


class Late(NamedTuple):
    """Events that were judged after their turn, and have company.

    Those with ``in_vain`` have none but in the slice before their own.

    Attributes:
        events: in no order.
        number: (N,) int64, their places among all events of the window, or of their slice.
        has_earlier: (N,) bool, whether there is company in the slice before their own too.
        in_vain: (N,) bool, see above.
    """

    events: Events
    number: npt.NDArray[np.int64]
    has_earlier: npt.NDArray[np.bool_]
    in_vain: npt.NDArray[np.bool_]

    def of(self, mask: npt.NDArray[np.bool_]) -> Late:
        """Return some of them."""
        return Late(
            self.events[mask], self.number[mask], self.has_earlier[mask], self.in_vain[mask]
        )


class NeighbourFilter:
    """Judges the events of one window, as they come in the order of time.

    An event has company if another pixel, at most ``radius_px`` rows and columns away, fired at
    most ``dt_us`` earlier or later in the same window. Its own pixel does not count, so a hot pixel
    falls away. Events outside the frame have no company.

    Not safe to share between threads.
    """

    def __init__(self) -> None:
        self._latest: KernelArray = np.empty(0, np.uint16)
        self._state = np.zeros(8, np.int64)
        self._spec = BackgroundFilter()
        self._height = self._width = 0
        self._waiting = _Waiting.room(0)
        self._late = _Waiting.room(0)

    def start(self, spec: BackgroundFilter, *, height: int, width: int) -> None:
        """Begin a window: forget all events."""
        dtype = np.uint16 if spec.dt_us <= _SHORT_DT_US else np.uint32
        # Below the frame is room for one neighbourhood more: that of events outside of it.
        side = 2 * spec.radius_px + 1
        size = (height + side - 1 + side) * (width + side - 1)
        if self._latest.size != size or self._latest.dtype != dtype:
            self._latest = np.zeros(size, dtype)
        else:
            self._latest.fill(0)
        self._state[:] = 0
        self._spec, self._height, self._width = spec, height, width

    def judge(self, events: Events, kept: npt.NDArray[np.bool_]) -> Late:
        """Judge the next events as far as it can be done.

        Args:
            events: N of them; times never fall, neither among them nor from call to call.
            kept: (N,) bool, written: which of them have company. False may still change.

        Returns:
            Events of earlier calls, or of this one, whose place in ``kept`` says False: by now they
            have company.
        """
        self._make_room(len(events))
        spec = self._spec
        _judge(
            self._latest, self._state, (events.x, events.y, events.t_us, events.p),
            kept.view(np.uint8), self._waiting, self._late,
            (self._height, self._width, spec.radius_px), spec.dt_us,
        )  # fmt: skip
        return self._take_late()

    def begin_slice(self, t_start_us: int) -> None:
        """Go on with events from a time on, after ``end_slice``; numbers begin at 0 again.

        From now on ``kept`` tells of company in the slice itself. Late events that lie before it
        are of the slice before, and have company in this one.
        """
        self._state[_SLICE], self._state[_HAS_SLICE], self._state[_NUMBER] = t_start_us, 1, 0

    def end_slice(self) -> tuple[Late, Late]:
        """All events of the slice were judged; it must be ``dt_us`` long at least.

        Returns:
            Late events, as of ``judge``; and those events that still wait, and have company in the
            slice before. They may get some in the next one.
        """
        _finish(
            self._latest, self._state, self._waiting, self._late,
            (self._height, self._width, self._spec.radius_px),
        )  # fmt: skip
        late = self._take_late()
        head, tail = int(self._state[_HEAD]), int(self._state[_TAIL])
        left = [column[head:tail] for column in self._waiting]
        # The time of those of the slice before has passed.
        left = [column[left[1] >= self._state[_SLICE]] for column in left]
        count = len(left[0])
        for column, values in zip(self._waiting, left, strict=True):
            column[:count] = values
        self._state[_HEAD], self._state[_TAIL] = 0, count
        waiting = self._unpacked(_Waiting(*left))
        return late, waiting.of(waiting.has_earlier)

    def finish(self) -> Late:
        """No more events follow: return those that waited and have company."""
        _finish(
            self._latest, self._state, self._waiting, self._late,
            (self._height, self._width, self._spec.radius_px),
        )  # fmt: skip
        self._state[_TAIL] = self._state[_HEAD]
        return self._take_late()

    def _take_late(self) -> Late:
        count = int(self._state[_LATE])
        self._state[_LATE] = 0
        return self._unpacked(_Waiting(*[column[:count] for column in self._late]))

    def _unpacked(self, waiting: _Waiting) -> Late:
        count = len(waiting.t_us)
        columns, number = Columns.room(count), np.empty(count, np.int64)
        has_earlier, in_vain = np.empty(count, np.bool_), np.empty(count, np.bool_)
        _unpack(waiting, columns, number, has_earlier, in_vain)
        return Late(columns.events(count, self._width, self._height), number, has_earlier, in_vain)

    def _make_room(self, more: int) -> None:
        """Move what waits to the front, and have room for more behind it."""
        first, end = int(self._state[_HEAD]), int(self._state[_TAIL])
        wanted = end - first + more + 1  # kernels write one place more than they use
        waiting = self._waiting
        if wanted > len(waiting.t_us):
            self._waiting, self._late = _Waiting.room(2 * wanted), _Waiting.room(2 * wanted)
        for source, target in zip(waiting, self._waiting, strict=True):
            target[: end - first] = source[first:end]
        self._state[_HEAD], self._state[_TAIL] = 0, end - first


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
    if not events.in_order:
        order = np.argsort(events.t_us, kind="stable")
        kept[order] = supported_events(events[order], spec)
        return kept
    judge = _workspace.filter
    judge.start(spec, height=events.height, width=events.width)
    kept[judge.judge(events, kept).number] = True
    kept[judge.finish().number] = True
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
    events: tuple[KernelArray, KernelArray, KernelArray, KernelArray],
    kept: KernelArray,
    waiting: _Waiting,
    late: _Waiting,
    size: tuple[int, int, int],
    dt_us: int,
) -> None:
    x, y, t_us, p = events
    width, radius = np.uintp(size[1]), np.uintp(size[2])
    stride = width + radius + radius
    dt, block_us = np.uint64(dt_us), np.uint64(dt_us // _BLOCK_SHARE)
    base = np.uint64(state[_BASE])
    limit = np.uint64(0xFFFF if latest.itemsize == 2 else 0xFFFFFFFF)
    above = np.empty(_BLOCK_EVENTS, np.uintp)
    now = np.empty(_BLOCK_EVENTS, np.uint64)
    unsure = np.empty(_BLOCK_EVENTS, np.int64)
    i, count = 0, len(t_us)
    while i < count:
        first_us = np.uint64(t_us[i])
        end = _block_end(t_us, i, first_us, block_us)
        last_us = np.uint64(t_us[end - 1])
        first, stop = state[_HEAD], state[_HEAD]
        while stop < state[_TAIL] and last_us - np.uint64(waiting.t_us[stop]) > dt:
            stop += 1
        asked = _look_before(latest, state, waiting, late, stop, base, stride, radius)
        if not state[_HAS_BASE]:
            base = first_us - dt - np.uint64(1)
            state[_HAS_BASE] = 1
        elif last_us - base > limit:
            shift = first_us - dt - np.uint64(1) - base
            _move_base(latest, min(shift, limit))
            base += shift
        _write(latest, x, y, t_us, i, end, base, size, above, now)
        # Company before the slice does not count; 0 is before all.
        begins = np.uint64(0)
        if state[_HAS_SLICE] and np.int64(base) < state[_SLICE]:
            begins = np.uint64(state[_SLICE]) - base
        unjudged = _look(latest, above, now, i, end, dt, begins, kept, unsure, stride, radius)
        _wait(waiting, state, x, y, t_us, p, i, above, unsure[:unjudged])
        late_count, at = np.uintp(state[_LATE]), np.uintp(first)
        for k in range(at, at + np.uintp(asked)):
            newest = np.uint64(_newest_around(latest, waiting.above[k], stride, radius))
            since = np.uint64(waiting.t_us[k]) - base
            # A base that has moved may be the event's own time: then "never" is not before it.
            if (
                newest
                and newest >= since
                and (
                    newest - since <= dt or _is_near_one(waiting, k, x, y, t_us, i, end, dt, radius)
                )
            ):
                late.t_us[late_count] = waiting.t_us[k]
                late.word[late_count] = waiting.word[k]
                late_count += np.uintp(1)
            elif waiting.word[k] >> np.uint64(_EARLIER_BIT) & np.uint64(1) and (
                waiting.t_us[k] >= state[_SLICE]
            ):
                late.t_us[late_count] = waiting.t_us[k]
                late.word[late_count] = waiting.word[k] | np.uint64(1) << np.uint64(_IN_VAIN_BIT)
                late_count += np.uintp(1)
        state[_LATE] = late_count
        state[_HEAD] = stop
        i = end
    state[_BASE] = np.int64(base)
    state[_NUMBER] += count


@njit(nogil=True, cache=True)
def _write(  # noqa: PLR0913, PLR0917
    latest: KernelArray,
    x: KernelArray,
    y: KernelArray,
    t_us: KernelArray,
    first: int,
    end: int,
    base: Word,
    size: tuple[int, int, int],
    above: KernelArray,
    now: KernelArray,
) -> None:
    """Write a block into the map; note where the neighbourhoods begin, and the times."""
    height, width, radius = np.uintp(size[0]), np.uintp(size[1]), np.uintp(size[2])
    stride = width + radius + radius
    middle = radius * stride + radius
    outside = np.uintp(latest.size) - (radius + radius + np.uintp(1)) * stride
    start = np.uintp(first)
    for k in range(np.uintp(end - first)):
        column, row = np.uintp(x[start + k]), np.uintp(y[start + k])
        # The corner of the neighbourhood: the map begins radius rows and columns before the frame.
        at = row * stride + column
        if column >= width or row >= height:
            at = outside
        since = np.uint64(t_us[start + k]) - base
        above[k] = at
        now[k] = since
        latest[at + middle] = since


@njit(nogil=True, cache=True)
def _look(  # noqa: PLR0913, PLR0917
    latest: KernelArray,
    above: KernelArray,
    now: KernelArray,
    first: int,
    end: int,
    dt: Word,
    begins: Word,
    kept: KernelArray,
    unsure: KernelArray,
    stride: Word,
    radius: Word,
) -> Word:
    """Mark the events of a block that have company; list the others, return how many they are.

    In the list an event is twice its place, plus one where it has company before the slice.
    """
    start, one, waiting = np.uintp(first), np.uintp(1), np.uintp(0)
    for k in range(np.uintp(end - first)):
        # Not below 1: what was never written is no company.
        oldest = now[k] - dt
        newest = np.uint64(_newest_around(latest, above[k], stride, radius))
        has_company = newest >= max(oldest, begins)
        kept[start + k] = has_company
        unsure[waiting] = k + k + np.uintp(newest >= oldest)
        waiting += one - np.uintp(has_company)
    return np.int64(waiting)


@njit(nogil=True, cache=True)
def _look_before(  # noqa: PLR0913, PLR0917
    latest: KernelArray,
    state: KernelArray,
    waiting: _Waiting,
    late: _Waiting,
    stop: int,
    base: Word,
    stride: Word,
    radius: Word,
) -> Word:
    """Give out what waits, up to place ``stop``, and has company; return how many are left.

    Those that are left lie at the front.
    """
    one, late_count = np.uintp(1), np.uintp(state[_LATE])
    first = np.uintp(state[_HEAD])
    left = first
    for k in range(first, np.uintp(stop)):
        above, t_us, word = waiting.above[k], waiting.t_us[k], waiting.word[k]
        newest = np.uint64(_newest_around(latest, above, stride, radius))
        has_company = np.uintp(newest >= np.uint64(t_us) - base)
        late.t_us[late_count] = t_us
        late.word[late_count] = word
        late_count += has_company
        waiting.above[left] = above
        waiting.t_us[left] = t_us
        waiting.word[left] = word
        left += one - has_company
    state[_LATE] = late_count
    return np.int64(left - first)


@njit(nogil=True, cache=True)
def _wait(  # noqa: PLR0913, PLR0917
    waiting: _Waiting,
    state: KernelArray,
    x: KernelArray,
    y: KernelArray,
    t_us: KernelArray,
    p: KernelArray,
    first: int,
    above: KernelArray,
    unsure: KernelArray,
) -> None:
    """Let some events of a block that begins at place ``first`` wait."""
    tail, number = np.uintp(state[_TAIL]), np.uint64(state[_NUMBER])
    for k in range(len(unsure)):
        at = np.uintp(unsure[k]) >> np.uintp(1)
        i = np.uintp(first) + at
        word = np.uint64(x[i]) | np.uint64(y[i]) << np.uint64(_Y_BIT)
        word |= np.uint64(p[i] > 0) << np.uint64(_P_BIT)
        word |= np.uint64(unsure[k] & 1) << np.uint64(_EARLIER_BIT)
        waiting.above[tail] = above[at]
        waiting.t_us[tail] = t_us[i]
        waiting.word[tail] = word | (number + i) << np.uint64(_NUMBER_BIT)
        tail += np.uintp(1)
    state[_TAIL] = tail


@njit(nogil=True, cache=True)
def _unpack(
    late: _Waiting,
    columns: Columns,
    number: KernelArray,
    has_earlier: KernelArray,
    in_vain: KernelArray,
) -> None:
    for k in range(len(number)):
        word = late.word[k]
        columns.x[k] = word & np.uint64(0xFFFF)
        columns.y[k] = word >> np.uint64(_Y_BIT) & np.uint64(0xFFFF)
        columns.t_us[k] = late.t_us[k]
        columns.p[k] = word >> np.uint64(_P_BIT) & np.uint64(1)
        has_earlier[k] = word >> np.uint64(_EARLIER_BIT) & np.uint64(1)
        number[k] = word >> np.uint64(_NUMBER_BIT) & np.uint64(_NUMBER_MASK)
        in_vain[k] = word >> np.uint64(_IN_VAIN_BIT)


@njit(nogil=True, cache=True)
def _finish(
    latest: KernelArray,
    state: KernelArray,
    waiting: _Waiting,
    late: _Waiting,
    size: tuple[int, int, int],
) -> None:
    """Give out all that waits and has company; the others wait on."""
    radius = np.uintp(size[2])
    stride = np.uintp(size[1]) + radius + radius
    base = np.uint64(state[_BASE])
    left = _look_before(latest, state, waiting, late, state[_TAIL], base, stride, radius)
    state[_TAIL] = state[_HEAD] + left


@njit(nogil=True, cache=True)
def _is_near_one(  # noqa: PLR0913, PLR0917
    waiting: _Waiting,
    k: int,
    x: KernelArray,
    y: KernelArray,
    t_us: KernelArray,
    first: int,
    end: int,
    dt: Word,
    radius: Word,
) -> bool:
    """Tell whether an event that waits is near an event of a block that is not too late for it."""
    since, word = np.uint64(waiting.t_us[k]), waiting.word[k]
    column = np.int64(word & np.uint64(0xFFFF))
    row = np.int64(word >> np.uint64(16) & np.uint64(0xFFFF))
    for j in range(first, end):
        if np.uint64(t_us[j]) - since > dt:
            break
        distance = max(abs(np.int64(x[j]) - column), abs(np.int64(y[j]) - row))
        if 0 < distance <= np.int64(radius):
            return True
    return False


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
def _move_base(latest: KernelArray, shift: Word) -> None:
    """Count the map's times from a later base; what lies before it becomes "never"."""
    for k in range(latest.size):
        latest[k] -= min(latest[k], latest.dtype.type(shift))


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
