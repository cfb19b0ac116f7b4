"""The time of the graph: ``/clock`` of a simulator or a bag player, for nodes without rclpy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from evdistill_core.events.packet import Packet
from evdistill_core.foundation.errors import MessageError
from evdistill_core.messages.standard import Clock
from evdistill_ros import qos
from evdistill_ros.dds.node import DdsNode

CLOCK_TOPIC = "/clock"
FORWARD_JUMP_NS = 5_000_000_000


class GraphClock:
    """Follows ``/clock``; before its first message the time is 0, as with ``use_sim_time``.

    Attributes:
        jumps: how often time went back (a bag that loops, a simulation that starts over), or
            forward by more than five seconds (a seek).
        damaged: messages that could not be read.

    Args:
        node: in the graph.
        on_jump: called in the node's thread with (time before, time after) in nanoseconds at
            each jump, before `now_ns` shows it.
    """

    def __init__(self, node: DdsNode, on_jump: Callable[[int, int], None] | None = None) -> None:
        self.jumps = 0
        self.damaged = 0
        self._now_ns = 0
        self._on_jump = on_jump
        self._changed = threading.Condition()
        self._subscription = node.create_subscription(
            CLOCK_TOPIC, Clock.TYPE, qos.CLOCK, self._take
        )

    def now_ns(self) -> int:
        """Return the latest time, nanoseconds; 0 before the first message."""
        return self._now_ns

    def wait_until_running(self, timeout_s: float) -> bool:
        """Wait for the first message; return whether one has come."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self._now_ns:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(left_s)
        return True

    def close(self) -> None:
        """Stop following."""
        self._subscription.close()

    def _take(self, packet: Packet) -> None:
        try:
            now_ns = Clock.parse(packet.data).clock.to_ns()
        except MessageError:
            self.damaged += 1
            return
        before_ns = self._now_ns
        if before_ns and not 0 <= now_ns - before_ns <= FORWARD_JUMP_NS:
            self.jumps += 1
            if self._on_jump is not None:
                self._on_jump(self._now_ns, now_ns)
        with self._changed:
            self._now_ns = now_ns
            self._changed.notify_all()
