"""How far a run is: what is computed, not what is read."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from evdistill_core.events.array import Events
from evdistill_core.foundation.progress import ProgressView
from evdistill_core.perception.result import Result


@dataclass(frozen=True)
class _Mark:
    """What was sent at one moment: which part of the recording, and which span of sensor time."""

    sent_ns: int
    before: float
    after: float
    span_us: tuple[int, int] | None

    def fraction(self, t_us: int) -> float:
        if self.span_us is None or self.span_us[0] >= self.span_us[1]:
            return self.after
        start_us, end_us = self.span_us
        share = (t_us - start_us) / (end_us - start_us)
        return self.before + (self.after - self.before) * min(1.0, max(0.0, share))


class RunProgress:
    """Shows how far the computation is.

    Reading runs ahead by many windows. A result says when the packet with its last event was sent,
    and that packet's place in the recording is how far the computation is. ``sent`` is called in
    one thread and ``computed`` in another.

    Args:
        view: shows it.
    """

    def __init__(self, view: ProgressView) -> None:
        self._view = view
        self._marks: deque[_Mark] = deque()
        self._read = 0.0
        self._fraction: float | None = None
        self._windows = 0
        self._sensor_us = 0
        self._end_us: int | None = None

    @property
    def sensor_s(self) -> float:
        """Seconds of sensor time in the windows so far."""
        return self._sensor_us / 1e6

    def sent(self, fraction: float | None, events: Events | None = None) -> None:
        """Note what is about to be sent.

        Args:
            fraction: of the recording that ends with it, 0..1; None where nothing tells.
            events: those sent; None where they are not decoded yet.
        """
        if fraction is None:
            return
        span_us = None
        if events is not None and len(events):
            span_us = int(events.t_us[0]), int(events.t_us[-1])
        self._marks.append(_Mark(time.monotonic_ns(), self._read, fraction, span_us))
        self._read = fraction

    def computed(self, result: Result) -> None:
        """Show that a window is done."""
        while len(self._marks) > 1 and self._marks[1].sent_ns <= result.received_ns:
            self._marks.popleft()
        if self._marks:
            done = self._marks[0].fraction(result.t_end_us)
            self._fraction = max(self._fraction or 0.0, done)
        self._windows += 1
        self._sensor_us += self._new_us(result)
        self._view.update(self._fraction, *self._facts())

    def finish(self) -> None:
        """Show that every window is done and files are being finished."""
        self._view.update(1.0, self._facts()[0], "finishing the files")

    def _facts(self) -> tuple[str, str]:
        rate = self.sensor_s / max(self._view.elapsed_s, 1e-9)
        windows = f"{self._windows:,} window{'s' if self._windows != 1 else ''}"
        return windows, f"{rate:.1f} x real time"

    def _new_us(self, result: Result) -> int:
        """Return the sensor time of a window that no window before it had."""
        start_us, end_us = result.t_start_us, self._end_us
        self._end_us = result.t_end_us
        if end_us is not None and start_us < end_us <= result.t_end_us:
            start_us = end_us
        return max(0, result.t_end_us - start_us)
