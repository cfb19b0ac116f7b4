"""The network's input of the window that is still being collected."""

from __future__ import annotations

from evdistill_core.events.window import OpenWindow, Window
from evdistill_core.representations import InputBuilder, InputSpec
from evdistill_core.representations.representation import FloatArray

MIN_EVENTS = 1 << 14
"""Fewer new events are not worth a call; a window with fewer is built after its end, at once."""


class InputAhead:
    """Builds the input of one window while its events come in.

    The window's end must be known ahead: windows by time alone. Whatever was built is used only for
    the window that it was built for; for all others ``finish`` gives None.

    Args:
        spec: the student's input.
    """

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self._builder = InputBuilder()
        self._window: tuple[int, int, int] | None = None
        self._taken = 0

    def is_due(self, events: int) -> bool:
        """Tell whether there is work, with so many events held for the open window."""
        return events - self._taken >= MIN_EVENTS

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
        before = 0
        for part in window.parts:
            after = before + len(part)
            if after > self._taken:
                self._builder.add(part[max(self._taken - before, 0) :])
                self._taken = after
            before = after

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
