"""The network's input of the window that is still being collected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from evdistill_core.events.array import Events
from evdistill_core.events.window import OpenWindow, Window, WindowSpec
from evdistill_core.representations import InputBuilder, InputSeries, InputSpec, slices_of
from evdistill_core.representations.representation import FloatArray

MIN_EVENTS = 1 << 14
"""Fewer new events are not worth a call; a window with fewer is built after its end, at once."""


class Ahead(Protocol):
    """Builds inputs while events come in."""

    def is_due(self, first_event: int, held: int) -> bool:
        """Tell whether there is work.

        Args:
            first_event: number of the open window's first event in the stream.
            held: events held for it so far.
        """

    def follow(self, window: OpenWindow) -> None:
        """Take the events that came in since the last call."""

    def finish(self, window: Window) -> FloatArray | None:
        """Return the input of a window that has ended; None if it was not built ahead."""

    def forget(self) -> None:
        """The window that was being collected will not come."""


def make_ahead(spec: InputSpec, windows: WindowSpec) -> Ahead:
    """Return what builds the inputs of such windows ahead."""
    duration_us, stride_us = windows.duration_us, windows.stride_us
    if duration_us is None or stride_us is None or stride_us == duration_us:
        return InputAhead(spec)
    if windows.count is None and slices_of(spec, duration_us, stride_us) > 1:
        return SeriesAhead(spec, stride_us)
    # With each event in many windows, those that are dropped cost nothing if they are built late.
    return InputAhead(spec, is_on=2 * stride_us >= duration_us)


class InputAhead:
    """Builds the input of one window while its events come in.

    The window's end must be known ahead: windows by time alone. Whatever was built is used only for
    the window that it was built for; for all others ``finish`` gives None.

    Args:
        spec: the student's input.
        is_on: False: nothing is built ahead.
    """

    def __init__(self, spec: InputSpec, *, is_on: bool = True) -> None:
        self._spec = spec
        self._is_on = is_on
        self._builder = InputBuilder()
        self._window: tuple[int, int, int] | None = None
        self._taken = 0

    def is_due(self, first_event: int, held: int) -> bool:
        """Tell whether there is work; see ``Ahead``."""
        return self._is_on and held - self._taken >= MIN_EVENTS

    def follow(self, window: OpenWindow) -> None:
        """Take the events that came in since the last call; another window restarts."""
        key = (window.t_start_us, window.t_end_us, window.first_event)
        if key != self._window:
            first = window.parts[0]
            self._builder.start(
                self._spec, height=first.height, width=first.width,
                t_start_us=window.t_start_us, t_end_us=window.t_end_us,
            )  # fmt: skip
            self._window, self._taken = key, 0
        for part in _behind(window.parts, self._taken):
            self._builder.add(part)
            self._taken += len(part)

    def finish(self, window: Window) -> FloatArray | None:
        """Return the input of a window that has ended; None if it was not built ahead."""
        key = (window.t_start_us, window.t_end_us, window.first_event)
        is_built, taken = key == self._window, self._taken
        self.forget()
        if not is_built:
            return None
        self._builder.add(window.events[taken:])
        return self._builder.finish()

    def forget(self) -> None:
        """The window that was being collected will not come."""
        self._window, self._taken = None, 0


class SeriesAhead:
    """Builds the inputs of windows that overlap; each event is judged once (``InputSeries``).

    Args:
        spec: the student's input.
        stride_us: time between the starts of windows.
    """

    def __init__(self, spec: InputSpec, stride_us: int) -> None:
        self._spec = spec
        self._stride_us = stride_us
        self._series: InputSeries | None = None
        # Number of the next event to be taken.
        self._next = 0

    def is_due(self, first_event: int, held: int) -> bool:
        """Tell whether there is work; see ``Ahead``."""
        taken = 0 if self._series is None else self._next - first_event
        return held - taken >= MIN_EVENTS

    def follow(self, window: OpenWindow) -> None:
        """Take the events that came in since the last call; a gap restarts."""
        series = self._series
        if series is None or not self._continues(series, window, window.parts[0]):
            first = window.parts[0]
            series = self._series = InputSeries(
                self._spec, height=first.height, width=first.width, t_start_us=window.t_start_us,
                duration_us=window.t_end_us - window.t_start_us, stride_us=self._stride_us,
            )  # fmt: skip
            self._next = window.first_event
        self._take(series, window.first_event, window.parts)

    def finish(self, window: Window) -> FloatArray | None:
        """Return the input of a window that has ended; None if the series does not lead to it."""
        series = self._series
        if series is None or not self._continues(series, window, window.events):
            self.forget()
            return None
        self._take(series, window.first_event, [window.events])
        return series.input(window.t_start_us)

    def forget(self) -> None:
        """The stream breaks off."""
        self._series = None

    def _continues(self, series: InputSeries, window: OpenWindow | Window, of: Events) -> bool:
        return window.first_event <= self._next and series.fits(
            window.t_start_us, window.t_end_us, width=of.width, height=of.height
        )

    def _take(self, series: InputSeries, first_event: int, parts: Sequence[Events]) -> None:
        for part in _behind(parts, self._next - first_event):
            series.add(part)
            self._next += len(part)


def _behind(parts: Sequence[Events], place: int) -> list[Events]:
    """Return what lies from a place on."""
    found, before = [], 0
    for part in parts:
        after = before + len(part)
        if after > place:
            found.append(part[max(place - before, 0) :])
        before = after
    return found
