"""The input of one window, built while its events come in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.representations.background import Late, NeighbourFilter
from evdistill_core.representations.normalisation import normalise_inplace
from evdistill_core.representations.representation import FloatArray, InputWindow
from evdistill_core.representations.spec import InputSpec


class InputBuilder:
    """Builds what a student is fed, from the parts of a window in the order of time.

    ``start``, then ``add`` for each part, then ``finish``. How the events are cut into parts makes
    no difference: the result is the one of a single part. After the last ``add`` only those events
    are left that still wait for a neighbour (see ``NeighbourFilter``), and the normalisation.

    Representations that need all events at once (``Representation.add`` is None) are filled by
    ``finish``. Not safe to share between threads; may be used again for any number of windows.
    """

    def __init__(self) -> None:
        self._filter = NeighbourFilter()
        self._kept: npt.NDArray[np.bool_] = np.empty(0, np.bool_)
        # Of representations that are filled at once.
        self._parts: list[Events] = []
        self._count = 0
        self._size = (1, 1)
        self._newest_us: int | None = None
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
        self._parts, self._count = [], 0
        self._size, self._newest_us = (width, height), None
        if spec.background_filter is not None:
            self._filter.start(spec.background_filter, height=height, width=width)

    def add(self, events: Events) -> None:
        """Take the next events of the window.

        Args:
            events: of the sensor that ``start`` was told about. With a filter their times never
                fall, neither among them nor from part to part. They must not change before
                ``finish``: they may be read then.

        Raises:
            ValueError: no window was begun, a time falls, or the frame has another size.
        """
        window = self._window
        if window is None:
            raise ValueError("add takes events of a window: call start before it")
        if not len(events):
            return
        self._check(events)
        count = len(events)
        representation, has_filter = self._spec.representation, self._spec.background_filter
        if representation.add is not None:
            if has_filter is None:
                representation.add(self._out, events, None, window)
                return
            kept = self._room(0, count)
            late = self._filter.judge(events, kept)
            representation.add(self._out, events, kept, window)
            self._add_late(late)
            return
        self._parts.append(events)
        if has_filter is not None:
            late = self._filter.judge(events, self._room(self._count, count))
            self._kept[late.number] = True
        self._count += count

    def finish(self) -> FloatArray:
        """Return the input, (C, H, W) float32: what ``represent`` returns for all these events."""
        window = self._window
        if window is None:
            raise ValueError("finish ends a window: call start before it")
        has_filter = self._spec.background_filter is not None
        if self._spec.representation.add is None:
            events = Events.concatenate(self._parts or [Events.empty(*self._size)])
            if has_filter:
                self._kept[self._filter.finish().number] = True
                events = events[self._kept[: self._count]]
            self._spec.representation.fill(self._out, events, window)
        elif has_filter:
            self._add_late(self._filter.finish())
        self._window, self._parts = None, []
        normalise_inplace(self._out, self._spec, window.grid)
        out, self._out = self._out, np.empty(0, np.float32)
        return out

    def _add_late(self, late: Late) -> None:
        """Add events that waited for company."""
        representation, window = self._spec.representation, self._window
        if len(late.number) and representation.add is not None and window is not None:
            representation.add(self._out, late.events, None, window)

    def _room(self, start: int, count: int) -> npt.NDArray[np.bool_]:
        """Return places for what the filter says of ``count`` events, behind the first ones."""
        if len(self._kept) < start + count:
            kept = np.empty(2 * (start + count), np.bool_)
            kept[:start] = self._kept[:start]
            self._kept = kept
        return self._kept[start : start + count]

    def _check(self, events: Events) -> None:
        if (events.width, events.height) != self._size:
            raise ValueError(
                f"a window is of one sensor of {self._size[0]}x{self._size[1]} pixels, "
                f"got events of {events.width}x{events.height}"
            )
        if self._spec.background_filter is not None:
            falls = self._newest_us is not None and events.t_us[0] < self._newest_us
            if falls or not events.in_order:
                raise ValueError("events for the neighbour filter must be in the order of time")
            self._newest_us = int(events.t_us[-1])


def check_window(t_start_us: int, t_end_us: int) -> None:
    """Refuse a window without duration.

    Raises:
        ValueError: the end is not above the start.
    """
    if t_end_us <= t_start_us:
        raise ValueError(f"a window ends after it starts, got [{t_start_us}, {t_end_us})")
