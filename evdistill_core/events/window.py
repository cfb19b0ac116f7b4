"""Cutting a stream of events into windows.

Windows are driven by event time, never by timers, and cut inside packets: however a stream is
split into packets, the windows are the same. A window ends at its duration or its count, whichever
comes first; the next one begins a stride later, so windows may overlap. Without overlap, windows of
a duration tile time from the first event on.

Order: event times may step back a little (see ``MAX_REORDER_US``). Such an event keeps its place in
the stream and its time is raised to the newest time before it, counted as ``reordered``; one that
lies further back is dropped and counted as ``late``. So the times of a window never fall.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.ranges import is_integer

MAX_REORDER_US = 10_000
MAX_OVERLAP = 1000
# About 220 MB; reached only when the events of one window never end.
MAX_PENDING_EVENTS = 1 << 24


@dataclass(frozen=True)
class WindowSpec:
    """How to cut; at least one of ``duration_us`` and ``count`` is given.

    Attributes:
        duration_us: length of a window in sensor time.
        count: number of events that ends a window.
        stride_us: sensor time between the starts of windows, 1 .. duration_us; the duration if
            None.
        stride_count: events between the starts of windows, 1 .. count; the count if None.
        deadline_ms: wall-clock time without events after which the front end calls ``close``;
            None never. The assembler itself looks at no clock.
        max_empty: how many windows without events are given out in a row; 1 tells a consumer that
            the scene went quiet.
    """

    duration_us: int | None = 50_000
    count: int | None = None
    stride_us: int | None = None
    stride_count: int | None = None
    deadline_ms: float | None = None
    max_empty: int = 1

    def __post_init__(self) -> None:
        """Refuse what would give no windows, or lose events between them."""
        if self.duration_us is None and self.count is None:
            raise ConfigError("a window needs duration_us, count, or both")
        _check_stride("stride_us", self.stride_us, "duration_us", self.duration_us)
        _check_stride("stride_count", self.stride_count, "count", self.count)
        if self.deadline_ms is not None and not 0 < self.deadline_ms < math.inf:
            raise ConfigError(f"deadline_ms must be above 0 or null, got {self.deadline_ms}")
        if self.max_empty < 0:
            raise ConfigError(f"max_empty must be 0 or more, got {self.max_empty}")


def _check_stride(name: str, stride: int | None, of: str, length: int | None) -> None:
    for what, number in ((of, length), (name, stride)):
        if number is not None and not is_integer(number):
            raise ConfigError(f"{what} must be a whole number (int), got {number!r}")
    if length is not None and length < 1:
        raise ConfigError(f"{of} must be 1 or more, got {length}")
    if stride is None:
        return
    if length is None:
        raise ConfigError(f"{name} needs {of}")
    if not 1 <= stride <= length:
        raise ConfigError(f"{name} must be 1..{of} ({length}), got {stride}")
    if length > MAX_OVERLAP * stride:
        raise ConfigError(
            f"{name} must be at least {of} / {MAX_OVERLAP} ({-(-length // MAX_OVERLAP)}), "
            f"got {stride}"
        )


@dataclass(frozen=True)
class Window:
    """One window.

    Attributes:
        events: times in [t_start_us, t_end_us), never falling; may share memory with the next.
        t_start_us: where it begins; the first event's time if the window before ended by count.
        t_end_us: where it ends, exclusive; one past the last event's time if it ended by count.
        index: counts the windows given out.
        stretch: counts the breaks of the stream before it; nothing may be carried from a window to
            one of another stretch.
        first_event: number of its first event in the stream, late ones not counted: overlapping
            windows tell by it which events they share.
        stamp_ns: host time of its end, nanoseconds since 1970; 0: not known.
    """

    events: Events
    t_start_us: int
    t_end_us: int
    index: int
    stretch: int = 0
    first_event: int = 0
    stamp_ns: int = 0


@dataclass(frozen=True)
class OpenWindow:
    """The window that is being collected.

    Attributes:
        t_start_us: where it begins.
        t_end_us: where it will end, exclusive.
        first_event: number of its first event, as in ``Window``.
        parts: its events so far, in order; at least one. More will follow them, none between.
    """

    t_start_us: int
    t_end_us: int
    first_event: int
    parts: tuple[Events, ...]


@dataclass
class WindowCounters:
    """Where the events went; ``pushed == used + late + discarded + pending`` at any time.

    Attributes:
        pushed: events taken in.
        used: events that were in a window and are no longer needed.
        late: events dropped for being too far behind.
        discarded: events dropped by ``reset`` before they were in any window.
        pending: events held for windows to come.
        reordered: events whose time was raised to the newest before them.
        windows: given out, empty ones included.
        empty_windows: given out without events: one when the events of a live camera stop, which
            ``evdistill run`` does not have.
        empty_skipped: windows without events that were not given out.
        resets: calls of ``reset`` that found events, changes of frame size, overflows.
    """

    pushed: int = 0
    used: int = 0
    late: int = 0
    discarded: int = 0
    pending: int = 0
    reordered: int = 0
    windows: int = 0
    empty_windows: int = 0
    empty_skipped: int = 0
    resets: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


class WindowAssembler:
    """Collects events and gives out windows as soon as they are complete.

    Args:
        spec: how to cut.
        max_pending_events: more than this waiting for one window is dropped as by ``reset``.

    Attributes:
        counters: updated by every call.
    """

    def __init__(self, spec: WindowSpec, *, max_pending_events: int = MAX_PENDING_EVENTS) -> None:
        self.spec = spec
        self.counters = WindowCounters()
        self._max_pending = max_pending_events
        self._stride_us = spec.stride_us or spec.duration_us
        self._stride_count = spec.stride_count or spec.count
        self._index = 0
        self._size = (0, 0)
        self._parts: list[Events] = []
        # Of the events held, how many (from the front) were in a window already.
        self._emitted = 0
        # The open window's start; None until its first event tells, at the latest _start_by_us.
        self._start_us: int | None = None
        self._start_by_us: int | None = None
        self._newest_us: int | None = None
        self._closed_us: int | None = None
        self._empty_run = 0

    @property
    def reached_us(self) -> int | None:
        """Sensor time reached, by events or by ``close``; what lies far before it would be late."""
        return self._newest_us

    def open_window(self) -> OpenWindow | None:
        """Return the oldest window that is not complete.

        None while it has no events, or its end is not known ahead (windows by count).
        """
        if self.spec.duration_us is None or self.spec.count is not None or not self._parts:
            return None
        start_us = self._resolve_start(self._parts[0].t_us, 0, self._newest_us)
        assert start_us is not None
        gone = self.counters.used + self.counters.discarded
        return OpenWindow(start_us, start_us + self.spec.duration_us, gone, tuple(self._parts))

    def push(self, events: Events) -> list[Window]:
        """Take in events that follow those before; return the windows that this completes."""
        self.counters.pushed += len(events)
        if self._parts and self._size != (events.width, events.height):
            self.reset()
        self._size = (events.width, events.height)
        events = self._in_order(events)
        if not len(events):
            return []
        self._newest_us = int(events.t_us[-1])
        self._parts.append(events)
        self.counters.pending += len(events)
        if not self._ripe(self._newest_us):
            if self.counters.pending > self._max_pending:
                self.reset()
            return []
        return self._cut(self._newest_us)

    def advance_to(self, t_us: int) -> list[Window]:
        """Sensor time has reached ``t_us``, the sensor says; return the windows that end by then.

        Some encodings tell the time without events. Windows by count alone wait on.
        """
        windows = self._cut(t_us) if self._ripe(t_us) else []
        if self._closed_us is not None and self._newest_us is not None:
            self._newest_us = max(self._newest_us, self._closed_us)
        return windows

    def close(self, t_us: int) -> list[Window]:
        """Give up waiting for events before ``t_us``: the camera stalls and a deadline has passed.

        As ``advance_to``; and without a duration, what is collected becomes a window, however few
        events it has, if it all lies before ``t_us``.
        """
        if self.spec.duration_us is not None:
            return self.advance_to(t_us)
        if self._newest_us is None or self._newest_us >= t_us:
            return []
        return self.flush()

    def flush(self) -> list[Window]:
        """Give out what is collected as a last window, if any of it was in none yet."""
        windows: list[Window] = []
        if self.counters.pending > self._emitted:
            events = Events.concatenate(self._parts)
            start_us = self._resolve_start(events.t_us, 0, self._newest_us)
            if start_us is not None:
                end_us = int(events.t_us[-1]) + 1
                if self.spec.duration_us is not None:
                    end_us = start_us + self.spec.duration_us
                windows.append(self._window(events, start_us, end_us, 0))
                self._emitted = len(events)
        self._drop()
        return windows

    def reset(self) -> None:
        """Drop what is collected; the next event begins a new grid. Counted."""
        self.counters.resets += bool(self._parts)
        self._drop()

    def _drop(self) -> None:
        self.counters.used += self._emitted
        self.counters.discarded += self.counters.pending - self._emitted
        self.counters.pending = 0
        self._forget()

    def _forget(self) -> None:
        self._parts = []
        self._emitted = 0
        self._start_us = self._start_by_us = self._newest_us = self._closed_us = None
        self._empty_run = 0

    def _in_order(self, events: Events) -> Events:
        t_us = events.t_us
        if not len(t_us):
            return events
        newest_us = int(t_us[0]) if self._newest_us is None else self._newest_us
        if t_us[0] >= newest_us and events.in_order:
            return events
        raised, kept, reordered = _put_in_order(t_us, newest_us, MAX_REORDER_US)
        events = Events(events.x, events.y, raised, events.p, events.width, events.height)[kept]
        self.counters.late += len(t_us) - len(events)
        self.counters.reordered += reordered
        return events

    def _ripe(self, reached_us: int) -> bool:
        """Tell whether cutting can give or skip a window."""
        if self.spec.count is not None and self.counters.pending >= self.spec.count:
            return True
        if self.spec.duration_us is None:
            return False
        start_us = self._start_us
        if start_us is None:
            start_us = self._start_by_us
            if self._parts:
                first_us = int(self._parts[0].t_us[0])
                start_us = first_us if start_us is None else min(first_us, start_us)
        return start_us is not None and reached_us >= start_us + self.spec.duration_us

    def _cut(self, reached_us: int) -> list[Window]:
        """Give out every window that is complete when sensor time has reached ``reached_us``."""
        events = Events.concatenate(self._parts or [Events.empty(*self._size)])
        t_us = events.t_us
        windows: list[Window] = []
        first = 0
        while True:
            start_us = self._start_us = self._resolve_start(t_us, first, reached_us)
            if start_us is None:
                break
            ended = self._end(t_us, first, start_us, reached_us)
            if ended is None:
                break
            stop, end_us = ended
            self._closed_us = end_us
            if stop == first:
                windows += self._empty(t_us, first, start_us, reached_us)
                continue
            self._empty_run = 0
            windows.append(self._window(events[first:stop], start_us, end_us, first))
            self._emitted = max(self._emitted, stop)
            first = self._step(t_us, first, start_us, reached_us)
        self._keep(events[first:], first)
        return windows

    def _resolve_start(
        self, t_us: npt.NDArray[np.int64], first: int, reached_us: int | None
    ) -> int | None:
        by_us = self._start_by_us
        if self._start_us is not None:
            return self._start_us
        if first < len(t_us):
            return int(t_us[first]) if by_us is None else min(int(t_us[first]), by_us)
        return (
            by_us if by_us is not None and reached_us is not None and reached_us >= by_us else None
        )

    def _end(
        self, t_us: npt.NDArray[np.int64], first: int, start_us: int, reached_us: int
    ) -> tuple[int, int] | None:
        """Return the place behind the open window's last event, and its end; None while open."""
        duration_us, count = self.spec.duration_us, self.spec.count
        by_time = len(t_us)
        if duration_us is not None:
            by_time = int(np.searchsorted(t_us, start_us + duration_us))
        if count is not None and first + count <= by_time:
            return first + count, int(t_us[first + count - 1]) + 1
        if duration_us is not None and reached_us >= start_us + duration_us:
            return by_time, start_us + duration_us
        return None

    def _step(self, t_us: npt.NDArray[np.int64], first: int, start_us: int, reached_us: int) -> int:
        """Set the start of the next window; return the place of its first event."""
        self._start_us = self._start_by_us = None
        by_count = len(t_us) + 1 if self._stride_count is None else first + self._stride_count
        if self._stride_us is None:
            return by_count
        next_us = start_us + self._stride_us
        by_time = int(np.searchsorted(t_us, next_us))
        if by_count < by_time or reached_us < next_us:
            # Begins at its first event, which may not be here yet, but not after next_us.
            self._start_by_us = next_us
            return min(by_count, len(t_us))
        self._start_us = next_us
        return by_time

    def _empty(
        self, t_us: npt.NDArray[np.int64], first: int, start_us: int, reached_us: int
    ) -> list[Window]:
        """Step over windows without events in one go; give out as many as wanted."""
        assert self.spec.duration_us is not None
        assert self._stride_us is not None
        if self._empty_run < self.spec.max_empty:
            self._empty_run += 1
            self.counters.empty_windows += 1
            self._start_us = start_us + self._stride_us
            end_us = start_us + self.spec.duration_us
            return [self._window(Events.empty(*self._size), start_us, end_us, first)]
        next_us = int(t_us[first]) if first < len(t_us) else reached_us
        skipped = (next_us - self.spec.duration_us - start_us) // self._stride_us + 1
        self._start_us = start_us + skipped * self._stride_us
        self._closed_us = self._start_us - self._stride_us + self.spec.duration_us
        self.counters.empty_skipped += skipped
        return []

    def _window(self, events: Events, start_us: int, end_us: int, first: int) -> Window:
        """Return the window of events of which ``first`` lie before it among those held."""
        self._index += 1
        self.counters.windows += 1
        gone = self.counters.used + self.counters.discarded
        return Window(events, start_us, end_us, self._index - 1, first_event=gone + first)

    def _keep(self, rest: Events, gone: int) -> None:
        """Hold only what the windows to come need."""
        used = min(gone, self._emitted)
        self.counters.used += used
        self.counters.discarded += gone - used
        self._emitted -= used
        self.counters.pending -= gone
        self._parts = [rest] if len(rest) else []


@njit(nogil=True, cache=True)
def _put_in_order(
    t_us: npt.NDArray[np.int64], newest_us: int, tolerance_us: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], int]:
    """Raise times to the newest before them; mark those to keep (not too far behind)."""
    raised = t_us.copy()
    kept = np.ones(t_us.size, np.bool_)
    reordered = 0
    for i in range(t_us.size):
        if t_us[i] >= newest_us:
            newest_us = t_us[i]
        elif t_us[i] >= newest_us - tolerance_us:
            raised[i] = newest_us
            reordered += 1
        else:
            kept[i] = False
    return raised, kept, reordered
