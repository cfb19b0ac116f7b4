"""Words for the log when events begin to come, stop, and come back."""

from __future__ import annotations

import logging

from evdistill_core.perception.pipeline import Snapshot

News = tuple[int, str]
"""Level of the ``logging`` module, and a line of text."""


class StreamNews:
    """Compares one snapshot after the other; one instance for each stream."""

    def __init__(self) -> None:
        self._began = False
        self._last_before_stop_ns = 0

    def __call__(self, now: Snapshot, *, silent_after_ms: float) -> News | None:
        """Return what has changed since the last call, ``None`` when nothing has.

        Args:
            now: latest state of the pipeline.
            silent_after_ms: age of the latest packet from which events have stopped.
        """
        if not now.last_message_ns:
            return None
        silent_s = (now.time_ns - now.last_message_ns) / 1e9
        is_silent = silent_s * 1e3 >= silent_after_ms
        if self._last_before_stop_ns:
            if is_silent:
                return None
            away_s = (now.time_ns - self._last_before_stop_ns) / 1e9
            self._last_before_stop_ns = 0
            return logging.INFO, f"events are back after {away_s:.1f} s"
        if is_silent:
            self._began = True
            self._last_before_stop_ns = now.last_message_ns
            return logging.WARNING, f"events have stopped: no packet for {silent_s:.1f} s"
        if self._began:
            return None
        self._began = True
        return logging.INFO, f"events arrive{_size(now)}"

    def forget(self) -> None:
        """Begin again: what comes next is a first packet again."""
        self._began = False
        self._last_before_stop_ns = 0


def _size(now: Snapshot) -> str:
    return f", sensor {now.width}x{now.height}" if now.width else ""
