"""The input of one window, built while its events come in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.events.decoders.base import Columns
from evdistill_core.events.window import never_falls
from evdistill_core.representations.background import NeighbourFilter
from evdistill_core.representations.normalisation import normalise_inplace
from evdistill_core.representations.representation import FloatArray, InputWindow
from evdistill_core.representations.spec import InputSpec


class InputBuilder:
    """Builds what a student is fed, from the parts of a window in the order of time.

    ``start``, then ``add`` for each part, then ``finish``. How the events are cut into parts makes
    no difference: the result is the one of a single part. After the last ``add`` only the events of
    the window's last ``dt_us`` (see ``BackgroundFilter``) and the normalisation are left.

    Representations that need all events at once (``Representation.add`` is None) are filled by
    ``finish``. Not safe to share between threads; may be used again for any number of windows.
    """

    def __init__(self) -> None:
        self._filter = NeighbourFilter()
        self._held = _Held()
        self._kept: npt.NDArray[np.bool_] = np.empty(0, np.bool_)
        self._spec = InputSpec()
        self._window: InputWindow | None = None
        self._out: FloatArray = np.empty(0, np.float32)

    def start(  # noqa: PLR0913 - a sensor's size and a window's span are two numbers each
        self,
        spec: InputSpec,
        *,
        height: int,
        width: int,
        t_start_us: int,
        t_end_us: int,
        out: FloatArray | None = None,
    ) -> None:
        """Begin a window; one that was not finished is forgotten.

        Args:
            spec: kind, normalisation and size of the input.
            height: rows of the sensor.
            width: columns of the sensor.
            t_start_us: start of the window, microseconds of sensor time.
            t_end_us: its end (exclusive), above the start.
            out: where to write, as in ``represent``; None: a new array.

        Raises:
            ValueError: the window is empty or backwards, or ``out`` does not fit.
        """
        check_window(t_start_us, t_end_us)
        shape = spec.shape(height=height, width=width)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise ValueError(
                f"out must be C-contiguous float32 {shape}, got {out.dtype} {out.shape}"
            )
        out.fill(0.0)
        self._out = out
        self._spec = spec
        self._window = InputWindow(
            spec, spec.grid(height=height, width=width), t_start_us, t_end_us
        )
        self._held.clear(width=width, height=height)
        if spec.background_filter is not None:
            self._filter.start(spec.background_filter, height=height, width=width)

    def add(self, events: Events) -> None:
        """Take the next events of the window.

        Args:
            events: of the sensor that ``start`` was told about. With a filter their times never
                fall, neither among them nor from part to part. They must not change before
                ``finish``: they may be read then.

        Raises:
            ValueError: a time falls, or the frame has another size.
        """
        if len(events):
            self._held.append(events, in_order=self._spec.background_filter is not None)
            self._work(is_whole=False)

    def finish(self) -> FloatArray:
        """Return the input, (C, H, W) float32: what ``represent`` returns for all these events."""
        window = self._window
        if window is None:
            raise ValueError("finish ends a window: call start before it")
        self._work(is_whole=True)
        self._held.clear(width=1, height=1)
        self._window = None
        normalise_inplace(self._out, self._spec, window.grid)
        out, self._out = self._out, np.empty(0, np.float32)
        return out

    def _work(self, *, is_whole: bool) -> None:
        """Judge and add what can be judged and added by now."""
        assert self._window is not None
        representation, held = self._spec.representation, self._held
        if representation.add is None and not is_whole:
            return
        ready, kept = len(held.events), None
        if self._spec.background_filter is not None:
            if len(self._kept) < ready:
                self._kept = np.empty(2 * ready, np.bool_)
            self._filter.judge(held.events, self._kept[:ready], is_whole=is_whole)
            ready = self._filter.judged
            kept = self._kept[:ready]
            self._filter.forget(ready)
        events = held.events[:ready]
        held.drop(ready)
        if representation.add is not None:
            representation.add(self._out, events, kept, self._window)
        else:
            representation.fill(self._out, events if kept is None else events[kept], self._window)


class _Held:
    """The events that are still needed, one after another in memory.

    A single part is held as it is. From the second on they are copied into room of their own, which
    grows and is used again.

    Attributes:
        events: all that are held.
    """

    def __init__(self) -> None:
        self._room = Columns.room(0)
        self.clear(width=1, height=1)

    def clear(self, *, width: int, height: int) -> None:
        """Forget all; a sensor of this size follows."""
        self.events = Events.empty(width, height)
        self._newest_us: int | None = None
        # Where the events held lie in the room; None: not there.
        self._first: int | None = None

    def append(self, events: Events, *, in_order: bool) -> None:
        """Hold more events; ``in_order`` refuses times that fall."""
        size, wanted = (events.width, events.height), (self.events.width, self.events.height)
        if size != wanted:
            raise ValueError(
                f"a window is of one sensor of {wanted[0]}x{wanted[1]} pixels, "
                f"got events of {size[0]}x{size[1]}"
            )
        if in_order:
            falls = self._newest_us is not None and events.t_us[0] < self._newest_us
            if falls or not never_falls(events.t_us):
                raise ValueError("events for the neighbour filter must be in the order of time")
            self._newest_us = int(events.t_us[-1])
        if len(self.events):
            self._copy(events)
        else:
            self.events, self._first = events, None

    def drop(self, count: int) -> None:
        """Hold the first ``count`` events no longer."""
        self.events = self.events[count:]
        if self._first is not None:
            self._first += count

    def _copy(self, events: Events) -> None:
        total = len(self.events) + len(events)
        if self._first is None or self._first + total > len(self._room.t_us):
            room = self._room
            # Inside the room events move to the front only over a gap as long as they are.
            if total > len(room.t_us) or (self._first is not None and self._first < total):
                room = Columns.room(2 * total)
            _write(room, 0, self.events)
            self._room, self._first = room, 0
        _write(self._room, self._first + len(self.events), events)
        end = self._first + total
        self.events = self._room.events(end, events.width, events.height)[self._first :]


def _write(room: Columns, start: int, events: Events) -> None:
    place = slice(start, start + len(events))
    room.x[place], room.y[place] = events.x, events.y
    room.t_us[place], room.p[place] = events.t_us, events.p


def check_window(t_start_us: int, t_end_us: int) -> None:
    """Refuse a window without duration.

    Raises:
        ValueError: the end is not above the start.
    """
    if t_end_us <= t_start_us:
        raise ValueError(f"a window ends after it starts, got [{t_start_us}, {t_end_us})")
