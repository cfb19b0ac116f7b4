"""What a live view shows of a running pipeline: its results and its numbers."""

from __future__ import annotations

import threading
import time

from evdistill_core.perception.front_end import FrontEnd
from evdistill_core.perception.pipeline import Perception
from evdistill_core.perception.result import Result
from evdistill_core.viewing.live.feed import Feed
from evdistill_core.viewing.live.frames import Shot
from evdistill_core.viewing.live.live_view import STATUS_S, LiveView, Status


class PipelineStatus:
    """Counts of a pipeline as rates; from any thread.

    Args:
        perception: the pipeline.
    """

    def __init__(self, perception: Perception) -> None:
        self._perception = perception
        self._lock = threading.Lock()
        self._before = (time.monotonic(), perception.counters())
        self._status: Status | None = None

    def __call__(self) -> Status:
        """Return the numbers of this moment; rates are of the last half second or more."""
        with self._lock:
            began_s, before = self._before
            span_s = time.monotonic() - began_s
            if self._status is not None and span_s < 0.8 * STATUS_S:
                return self._status
            after = self._perception.counters()
            self._before = (began_s + span_s, after)

            def rate(name: str) -> float:
                return (after.get(name, 0) - before.get(name, 0)) / max(span_s, 1e-9)

            self._status = Status(
                events_per_s=rate("events"),
                windows_per_s=rate("windows_done"),
                windows=after.get("windows_done", 0),
                dropped=after.get("windows_dropped", 0),
                gaps=after.get("stream_seq_gaps", 0),
                silence_s=self._perception.silence_s,
            )
            return self._status


def offer_result(view: LiveView | Feed, front_end: FrontEnd, result: Result) -> None:
    """Show a result that was just published; returns at once."""
    if view.is_watched:
        messages = front_end.messages
        # The image is chosen now, while it is the one of this window, and decoded when it is drawn.
        image = messages.camera_image(result)
        view.offer(Shot.of(result, lambda: messages.background(image)))
