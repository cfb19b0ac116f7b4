"""Sensor time to host time.

A sensor counts microseconds from a moment of its own; results are stamped in host time. The only
link is the header stamp of a message: the host time at which its first piece arrived. Stamp minus
sensor time of the first event is the offset plus a delay (filling the packet, transfer, scheduling)
that is never below a constant of the driver and now and then far above it.
"""

from __future__ import annotations

from collections import deque
from statistics import median_low

BUCKET_US = 1_000_000
BUCKETS = 10
JUMP_NS = 500_000_000


class SensorClock:
    """Estimates the offset between sensor and host from message stamps.

    The least offset in each second of sensor time is free of scheduling delays; the median of the
    last ten of them is free of single wrong stamps and follows drift within five seconds (below
    0.5 ms at 100 ppm). The constant part of the delay stays in: a result may be stamped late by up
    to the length of a packet, as drivers themselves stamp.

    Attributes:
        jumps: times that the offset moved by more than half a second and was taken again.
    """

    def __init__(self) -> None:
        self.jumps = 0
        self._past: deque[int] = deque(maxlen=BUCKETS - 1)
        self._bucket_start_us = 0
        self._bucket_ns: int | None = None
        self._offset_ns: int | None = None

    @property
    def offset_ns(self) -> int | None:
        """Host minus sensor time; None before the first observation."""
        return self._offset_ns

    def observe(self, t_us: int, stamp_ns: int) -> None:
        """Take in one message.

        Args:
            t_us: sensor time of the first event of the message.
            stamp_ns: header stamp of the message, host time; 0 and less are ignored.
        """
        if stamp_ns <= 0:
            return
        sample_ns = stamp_ns - t_us * 1000
        if self._bucket_ns is None:
            self._bucket_start_us, self._bucket_ns = t_us, sample_ns
        elif 0 <= t_us - self._bucket_start_us < BUCKET_US:
            self._bucket_ns = min(self._bucket_ns, sample_ns)
        else:
            self._close(self._bucket_ns)
            self._bucket_start_us, self._bucket_ns = t_us, sample_ns
        self._offset_ns = median_low([*self._past, self._bucket_ns])

    def to_host_ns(self, t_us: int) -> int:
        """Return host time in nanoseconds; sensor time itself before the first observation."""
        return t_us * 1000 + (self._offset_ns or 0)

    def reset(self) -> None:
        """Forget the offset: sensor time jumped, or another sensor came."""
        self._past.clear()
        self._bucket_ns = None
        self._offset_ns = None

    def _close(self, least_ns: int) -> None:
        if self._past and abs(least_ns - median_low(self._past)) > JUMP_NS:
            self._past.clear()
            self.jumps += 1
        self._past.append(least_ns)
