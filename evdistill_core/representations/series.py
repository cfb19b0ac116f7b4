"""The inputs of windows that overlap: each event is filtered once, and filled in once if possible.

Windows that are a whole number of strides long consist of slices, a stride long each. Whether an
event has company depends on the window only near its start and end: an event of the first slice
does not count company in the slice before, one of the last slice none in the slice after. So the
filter says of each event where its company lies, and every window takes those that count in it. A
slice is at least as long as the filter's ``dt_us``, so no company lies farther away than that.

Where a stride is a whole number of bin distances, each slice has a grid of its own, and a window is
their sum (``Representation.slice_channels``). Elsewhere the events of all slices are filled in for
every window. Both are equal to ``represent`` to the last bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

import numpy as np

from evdistill_core.events.array import Events
from evdistill_core.representations.background import Late, NeighbourFilter
from evdistill_core.representations.normalisation import normalise_inplace
from evdistill_core.representations.representation import BoolArray, FloatArray, InputWindow
from evdistill_core.representations.spec import InputSpec

Add = Callable[[FloatArray, Events, BoolArray | None, InputWindow], None]
# Where the company of an event lies.
_OWN, _EARLIER, _LATER = 1, 2, 4


def slices_of(spec: InputSpec, duration_us: int, stride_us: int) -> int:
    """Return of how many slices a window consists; 1 where overlapping windows share no work.

    Args:
        spec: the input.
        duration_us: length of a window.
        stride_us: time between the starts of windows, 1 .. duration_us.
    """
    count, rest = divmod(duration_us, stride_us)
    has_filter = spec.background_filter
    if rest or (has_filter is not None and has_filter.dt_us > stride_us):
        return 1
    if has_filter is None and _slice_channels(spec, count) is None:
        return 1
    return count


def _slice_channels(spec: InputSpec, count: int) -> int | None:
    channels = spec.representation.slice_channels
    return None if channels is None else channels(spec, count)


class InputSeries:
    """Builds what a student is fed for windows that overlap.

    ``add`` takes the events of the stream, ``input`` gives the input of the next window. How the
    events are cut into parts makes no difference. Not safe to share between threads.

    Args:
        spec: kind, normalisation and size of the input.
        height: rows of the sensor.
        width: columns of the sensor.
        t_start_us: start of the first window, microseconds of sensor time.
        duration_us: length of a window.
        stride_us: time between two starts; ``slices_of`` must be above 1.
    """

    def __init__(  # noqa: PLR0913 - a sensor's size and a series of windows are two and three
        self,
        spec: InputSpec,
        *,
        height: int,
        width: int,
        t_start_us: int,
        duration_us: int,
        stride_us: int,
    ) -> None:
        count = slices_of(spec, duration_us, stride_us)
        if count < 2:
            raise ValueError(
                f"windows of {duration_us} us every {stride_us} us share nothing: represent them "
                "one by one"
            )
        self._spec = spec
        self._grid = spec.grid(height=height, width=width)
        self._shape = spec.shape(height=height, width=width)
        self._count = count
        self._stride_us = stride_us
        self._size = (width, height)
        self._filter: NeighbourFilter | None = None
        if spec.background_filter is not None:
            self._filter = NeighbourFilter()
            self._filter.start(spec.background_filter, height=height, width=width)
        self._slice_channels = _slice_channels(spec, count)
        # The last one is open.
        self._slices: deque[_Slice] = deque()
        self._open(t_start_us)

    def fits(self, t_start_us: int, t_end_us: int, *, width: int, height: int) -> bool:
        """Tell whether a window is one of the series, and was not left behind."""
        first_us = self._slices[0].t_start_us
        return (
            t_end_us - t_start_us == self._count * self._stride_us
            and first_us <= t_start_us
            and (t_start_us - first_us) % self._stride_us == 0
            and self._slices[-1].t_start_us < t_end_us
            and (width, height) == self._size
        )

    def add(self, events: Events) -> None:
        """Take the next events of the stream; their times never fall, nor lie before the start."""
        while len(events):
            end_us = self._slices[-1].t_start_us + self._stride_us
            here = int(np.searchsorted(events.t_us, end_us))
            if here:
                self._take(events[:here])
            events = events[here:]
            if len(events):
                self._close()

    def input(self, t_start_us: int) -> FloatArray:
        """Return the input of a window that ``fits``, all of whose events were taken.

        Later windows begin later: slices before them are forgotten.
        """
        end_us = t_start_us + self._count * self._stride_us
        while self._slices[-1].t_start_us < end_us:
            self._close()
        out = np.zeros(self._shape, np.float32)
        window = InputWindow(self._spec, self._grid, t_start_us, end_us)
        for at in range(self._count):
            self._slice(t_start_us + at * self._stride_us).add_to(out, at, window)
        if self._spec.representation.add is None:
            parts = [
                part
                for at in range(self._count)
                for part in self._slice(t_start_us + at * self._stride_us).listed(is_first=at == 0)
            ]
            events = Events.concatenate(parts or [Events.empty(*self._size)])
            self._spec.representation.fill(out, events, window)
        normalise_inplace(out, self._spec, self._grid)
        while self._slices[0].t_start_us <= t_start_us:
            self._slices.popleft()
        return out

    def _slice(self, t_start_us: int) -> _Slice:
        return self._slices[(t_start_us - self._slices[0].t_start_us) // self._stride_us]

    def _open(self, t_start_us: int) -> None:
        add, channels = self._spec.representation.add, self._slice_channels
        if add is None or channels is None:
            self._slices.append(_ListedSlice(t_start_us, add))
        else:
            t_end_us = t_start_us + self._stride_us
            window = InputWindow(self._spec, self._grid, t_start_us, t_end_us)
            self._slices.append(_SummedSlice(window, (channels, *self._shape[1:]), add))
        if self._filter is not None:
            self._filter.begin_slice(t_start_us)

    def _take(self, events: Events) -> None:
        if self._filter is None:
            self._slices[-1].take(events, None)
            return
        kept = np.empty(len(events), np.bool_)
        late = self._filter.judge(events, kept)
        self._slices[-1].take(events, kept)
        self._take_late(late)

    def _take_late(self, late: Late) -> None:
        """Take events that waited for company."""
        if not len(late.number):
            return
        opened = self._slices[-1]
        if late.in_vain.any():
            opened.take_earlier(late.of(late.in_vain))
            late = late.of(~late.in_vain)
        is_own = late.events.t_us >= opened.t_start_us
        if is_own.all():
            opened.take_late(late)
            return
        opened.take_late(late.of(is_own))
        if len(self._slices) > 1:  # else no window needs that slice any more
            self._slices[-2].take_later(late.of(~is_own))

    def _close(self) -> None:
        """End the open slice, and begin the next one."""
        opened = self._slices[-1]
        if self._filter is not None:
            late, earlier = self._filter.end_slice()
            self._take_late(late)
            opened.take_earlier(earlier)
        self._open(opened.t_start_us + self._stride_us)
        # A window that nobody asks for holds nothing.
        while len(self._slices) > self._count + 1:
            self._slices.popleft()


class _Slice(ABC):
    """The events of a stride of time, and where their company lies."""

    t_start_us: int

    @abstractmethod
    def take(self, events: Events, kept: BoolArray | None) -> None:
        """Take the next events, and which of them have company in the slice (None: all count)."""

    @abstractmethod
    def take_late(self, late: Late) -> None:
        """Take events of before that have company in the slice after all."""

    @abstractmethod
    def take_earlier(self, late: Late) -> None:
        """Take those that have company in the slice before, and none in their own."""

    @abstractmethod
    def take_later(self, late: Late) -> None:
        """Take those that have company in the next slice, and none in their own."""

    @abstractmethod
    def add_to(self, out: FloatArray, at: int, window: InputWindow) -> None:
        """Add the slice to the values of a window, whose slice number ``at`` it is."""

    @abstractmethod
    def listed(self, *, is_first: bool) -> list[Events]:
        """Return the events that count, for what is filled at once."""


class _SummedSlice(_Slice):
    """Keeps a grid, and the few events whose company lies across the start alone."""

    def __init__(self, window: InputWindow, shape: tuple[int, ...], add: Add) -> None:
        self._add = add
        self.t_start_us = window.t_start_us
        self._window = window
        self._grid = np.zeros(shape, np.float32)
        # Those that have company in the slice before. All of them count unless the slice is the
        # first one of a window; then those that have some in the next slice too.
        self._with_earlier: list[Events] = []
        self._with_both: list[Events] = []

    def take(self, events: Events, kept: BoolArray | None) -> None:
        self._add(self._grid, events, kept, self._window)

    def take_late(self, late: Late) -> None:
        self._add(self._grid, late.events, None, self._window)

    def take_earlier(self, late: Late) -> None:
        self._with_earlier.append(late.events)

    def take_later(self, late: Late) -> None:
        self._add(self._grid, late.events, ~late.has_earlier, self._window)
        self._with_both.append(late.events[late.has_earlier])

    def add_to(self, out: FloatArray, at: int, window: InputWindow) -> None:
        start = at * (len(self._grid) - 1)
        part = out[start : start + len(self._grid)]
        part += self._grid
        for events in self._with_earlier if at else self._with_both:
            self._add(part, events, None, self._window)

    def listed(self, *, is_first: bool) -> list[Events]:
        return []  # there are none: such representations have ``add``


class _ListedSlice(_Slice):
    """Keeps the events, and for each of them where its company lies."""

    def __init__(self, t_start_us: int, add: Add | None) -> None:
        self._add = add
        self.t_start_us = t_start_us
        self._parts: list[Events] = []
        self._company = np.empty(0, np.uint8)
        self._used = 0

    def take(self, events: Events, kept: BoolArray | None) -> None:
        end = self._used + len(events)
        if end > len(self._company):
            company = np.empty(2 * end, np.uint8)
            company[: self._used] = self._company[: self._used]
            self._company = company
        assert kept is not None  # without a filter such slices share nothing
        self._company[self._used : end] = kept.view(np.uint8) * _OWN
        self._parts.append(events)
        self._used = end

    def take_late(self, late: Late) -> None:
        self._company[late.number] |= _OWN

    def take_earlier(self, late: Late) -> None:
        self._company[late.number] |= _EARLIER

    def take_later(self, late: Late) -> None:
        self._company[late.number] |= _LATER

    def add_to(self, out: FloatArray, at: int, window: InputWindow) -> None:
        if self._add is not None:
            for events, counts in self._counting(is_first=at == 0):
                self._add(out, events, counts, window)

    def listed(self, *, is_first: bool) -> list[Events]:
        return [events[counts] for events, counts in self._counting(is_first=is_first)]

    def _counting(self, *, is_first: bool) -> list[tuple[Events, BoolArray]]:
        """Return the parts, and which of their events count."""
        where = _OWN | _LATER | (0 if is_first else _EARLIER)
        counts = self._company[: self._used] & where != 0
        edges = np.cumsum([0, *[len(part) for part in self._parts]]).tolist()
        return [(part, counts[edges[i] : edges[i + 1]]) for i, part in enumerate(self._parts)]
