"""The ingest side of the live pipeline: packets -> events -> windows with a host time.

Everything that must happen in the order of arrival happens here, in one thread: decoder state, the
sensor's clock, filters, and the cutting of windows. A window never spans a gap, a jump in time, or
a change of size or encoding. What was collected before a gap lacks events and is thrown away,
counted; what was collected before a jump or a change becomes a last, shorter window.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Literal

from evdistill_core.events.array import Events
from evdistill_core.events.clock import SensorClock
from evdistill_core.events.filters import EventFilters
from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import DecodedPacket, DecodedStretch, PacketDecoder
from evdistill_core.events.time_watch import TimeWatch
from evdistill_core.events.window import MAX_REORDER_US, Window, WindowAssembler, WindowSpec
from evdistill_core.foundation.worker import BoundedQueue
from evdistill_core.perception.ahead import make_ahead
from evdistill_core.perception.parameters import PerceptionParameters
from evdistill_core.representations import InputSpec
from evdistill_core.representations.representation import FloatArray

RestartReason = Literal["clock", "reset"]
"""Why a stream restarts from outside: the graph's clock jumped, or somebody asked for it."""
IDLE_CHECK_S = 0.005
WHOLE_BEFORE = {"time", "size", "encoding"}
"""Breaks before which no event is missing: what was collected becomes a last, shorter window."""
BEHIND_PACKETS = 32
"""With more waiting, live, inputs are left to the inference thread: a full queue loses packets, a
late network only windows."""
RUN_PACKETS, RUN_BYTES = 32, 1 << 18
"""Packets that wait are decoded together up to these limits; large packets gain hardly anything."""
MIN_REST_US, MAX_REST_US = 2_000, 8_000
"""Packets gather for half of the time until the open window's end, within these limits."""
SPEED_PACKETS = 32
"""The speed of sensor time is measured over so many packets."""
QUIET_US = 200_000
"""After a shorter silence, of a driver that was held up, nothing is guessed but a window's end."""


@dataclass(frozen=True, eq=False)
class Incoming:
    """One packet in the queue.

    Attributes:
        content: serialized, or decoded already.
        received_ns: monotonic time at which it came in.
    """

    content: Packet | DecodedPacket
    received_ns: int


@dataclass(frozen=True, eq=False)
class Job:
    """One window on its way to the network.

    Attributes:
        window: the events and their span.
        stamp_ns: host time of the window's end.
        frame_id: of the events.
        epoch: rises with every break after which tracks must not go on.
        stretch: rises with every break at all: a recurrent state must not go on after it.
        received_ns: monotonic time at which the packet with its last event came in.
        closed_ns: monotonic time at which the window was closed.
        input: (C, H, W), what the network is fed, where it was built while the window filled; None
            where not.
        represent_ms: time that the input took after the window was closed; 0 without one.
    """

    window: Window
    stamp_ns: int
    frame_id: str
    epoch: int
    stretch: int
    received_ns: int
    closed_ns: int
    input: FloatArray | None = None
    represent_ms: float = 0.0


class Ingest:
    """Decodes packets in the order of their arrival and hands over windows.

    Args:
        spec: the student's input, for the length of windows.
        parameters: see ``PerceptionParameters``; the attribute may be replaced while running.
        hand_over: takes each finished window.
        count: adds to a named counter.
        record: adds latencies, stage to milliseconds.
        lossless: windows close by sensor time alone, so that results do not depend on the speed
            of the reader.
    """

    def __init__(  # noqa: PLR0913
        self,
        spec: InputSpec,
        parameters: PerceptionParameters,
        *,
        hand_over: Callable[[Job], None],
        count: Callable[[str, int], None],
        record: Callable[[dict[str, float]], None],
        lossless: bool,
    ) -> None:
        self._input = spec
        self.parameters = parameters
        self._hand_over = hand_over
        self._count = count
        self._record = record
        self._lossless = lossless
        self._decoder = PacketDecoder()
        self._watch = TimeWatch(self._decoder.counters)
        self._clock = SensorClock()
        self._filters = EventFilters(parameters.filter_config())
        self._filtered_by = parameters
        self._window_spec = self._wanted_spec()
        self._assembler = WindowAssembler(self._window_spec)
        self._ahead = make_ahead(spec, self._window_spec)
        self._is_behind = False
        self._handed_over = 0
        self._replaced: Counter[str] = Counter()
        self._arrivals = _Arrivals()
        self._epoch = 0
        self._stretch = 0
        self._index = 0
        self._has_guessed = False
        self._last_end_us: int | None = None
        self._restarts: SimpleQueue[RestartReason] = SimpleQueue()
        self._frame_id = ""
        self.size = (0, 0)

    def run(self, queue: BoundedQueue[Incoming]) -> None:
        """Work until the queue, where packets come from, is closed and empty."""
        while not queue.is_finished:
            items, after_loss = queue.get_all(
                IDLE_CHECK_S, max_items=RUN_PACKETS, max_bytes=RUN_BYTES
            )
            self._follow_restarts()
            if items:
                waiting = queue.fill[0]
                self.take_all(items, after_loss, waiting=waiting)
                if not waiting and not self._lossless:
                    self._rest()
            elif self._window_spec.deadline_ms is not None:
                self._close_overdue()

    def _rest(self) -> None:
        """Let packets gather while the open window has long to go.

        Who wakes for every small packet finds its code and data gone from the caches, and pays more
        for that than for the packet. Near the window's end each packet is taken at once.
        """
        window = self._assembler.open_window()
        reached_us = self._assembler.reached_us
        if window is None or reached_us is None:
            return
        left_us = (window.t_end_us - reached_us) / self._arrivals.speed
        rest_us = min(MAX_REST_US, left_us / 2)
        if rest_us >= MIN_REST_US:
            time.sleep(rest_us / 1e6)

    def start_anew(self, reason: RestartReason) -> None:
        """Break with everything before; may be called from any thread."""
        self._restarts.put(reason)

    def flush(self) -> None:
        """Hand over the last, incomplete window."""
        for part in self._watch.flush():
            self._use(part, time.monotonic_ns())
        self._emit(self._assembler.flush())

    def stream_counters(self) -> dict[str, int]:
        """Return all counters of the stages, under the prefixes stream, filter and window."""
        found = {f"stream_{k}": v for k, v in self._decoder.counters.as_dict().items()}
        found |= {f"filter_{k}": v for k, v in self._filters.counters.as_dict().items()}
        windows = self._replaced + Counter(self._assembler.counters.as_dict())
        return found | {f"window_{k}": v for k, v in windows.items()}

    @property
    def last_error(self) -> str:
        """Why the latest damaged message was dropped; empty if none was."""
        return self._decoder.last_error

    def _wanted_spec(self) -> WindowSpec:
        spec = self.parameters.window_spec(self._input)
        return replace(spec, deadline_ms=None) if self._lossless else spec

    def take_all(
        self, items: Sequence[Incoming], after_loss: bool = False, *, waiting: int = 0
    ) -> None:
        """Take several packets that wait: as ``take`` of one after the other, with less work.

        Args:
            items: the packets.
            after_loss: packets before the first one were lost.
            waiting: how many wait behind them.
        """
        done = 0
        while done < len(items):
            self._is_behind = waiting + len(items) - done - 1 > BEHIND_PACKETS
            taken = 0 if after_loss or len(items) - done < 2 else self._take_run(items[done:])
            if not taken:
                self.take(items[done], after_loss)
                after_loss, taken = False, 1
            done += taken

    def _take_run(self, items: Sequence[Incoming]) -> int:
        """Decode packets that follow each other in one call; return how many, maybe none."""
        taken_ns = time.monotonic_ns()
        self._follow_parameters()
        packets = []
        for item in items:
            if not isinstance(item.content, Packet):
                break
            packets.append(item.content)
        stretch = self._decoder.push_run(packets)
        if stretch is None:
            return 0
        count = len(stretch)
        decode_ms = (time.monotonic_ns() - taken_ns) / 1e6 / count
        for item in items[:count]:
            self._record({"queue": (taken_ns - item.received_ns) / 1e6, "decode": decode_ms})
        self._count("messages_used", count)
        self._use_stretch(stretch, [item.received_ns for item in items[:count]])
        return count

    def _use_stretch(self, stretch: DecodedStretch, received_ns: Sequence[int]) -> None:
        """Use packets together where it makes no difference, else one after the other.

        A run of packets ends with the one that completes a window. So the clock and the arrivals
        have seen the same packets whenever a window is closed.
        """
        first = 0
        # The mask of hot pixels comes into force between two packets, while it is learned.
        may_join = stretch.events.in_order and not self._filters.config.hot_learn_ms
        while first < len(stretch):
            stop = self._join(stretch, first, received_ns) if may_join else first
            if stop == first:
                for part in self._watch.split(stretch.packet(first)):
                    self._use(part, received_ns[first])
                stop = first + 1
            first = stop

    def _join(self, stretch: DecodedStretch, first: int, received_ns: Sequence[int]) -> int:
        """Use packets from one on, as far as they can be joined; return where they end."""
        window = self._assembler.open_window()
        if window is None or self._has_guessed or self.size != _size(stretch.events):
            return first
        t_us = stretch.events.t_us
        reached_us, t_end_us = self._assembler.reached_us, None
        stop = first
        while stop < len(stretch) and (reached_us is None or reached_us < window.t_end_us):
            begin, end = stretch.ends[stop - 1] if stop else 0, stretch.ends[stop]
            span_us = (int(t_us[begin]), int(t_us[end - 1])) if end > begin else None
            if span_us and reached_us is not None and span_us[0] < reached_us:
                break  # an event that lies before what was reached has its own rules
            stamp_ns = stretch.stamps_ns[stop]
            follows, told_us = self._watch.follow(span_us, stamp_ns, stretch.t_ends_us[stop])
            if not follows:
                break
            if span_us:
                self._clock.observe(span_us[0], stamp_ns)
                self._arrivals.add(span_us[1], received_ns[stop])
                reached_us = span_us[1]
            if told_us is not None:
                t_end_us = told_us
                reached_us = max(told_us, reached_us or told_us)
            stop += 1
        if stop > first:
            self._frame_id = stretch.frame_ids[stop - 1]
            self._push(stretch.part(first, stop), t_end_us)
        return stop

    def take(self, item: Incoming, after_loss: bool = False) -> None:
        """Decode one packet and hand over the windows that it completes.

        Args:
            item: the packet.
            after_loss: packets before it were lost.
        """
        taken_ns = time.monotonic_ns()
        self._follow_parameters()
        if after_loss:
            # Events of the lost packets are missing from whatever was being collected. EventPacket
            # tells its decoder by its sequence number; the other types have no state to lose.
            self._break("queue")
        if isinstance(item.content, Packet):
            decoded = self._decoder.push(item.content)
        else:
            decoded = self._decoder.pass_on(item.content)
        decoded_ns = time.monotonic_ns()
        self._record(
            {
                "queue": (taken_ns - item.received_ns) / 1e6,
                "decode": (decoded_ns - taken_ns) / 1e6,
            }
        )
        if decoded is None:
            self._count("messages_damaged", 1)
            return
        self._count("messages_used", 1)
        # Files may be put in order as far as it takes; live, and in replay, nothing waits.
        can_wait = self._lossless and not isinstance(item.content, Packet)
        for part in self._watch.split(decoded, can_wait=can_wait):
            self._use(part, item.received_ns)

    def _use(self, decoded: DecodedPacket, received_ns: int) -> None:
        events = decoded.events
        if decoded.discontinuity:
            self._break(decoded.discontinuity)
        self._frame_id = decoded.frame_id
        self.size = _size(events)
        if len(events):
            self._check_guess(int(events.t_us[0]))
            self._clock.observe(int(events.t_us[0]), decoded.stamp_ns)
            self._arrivals.add(int(events.t_us[-1]), received_ns)
        self._push(events, decoded.t_end_us)

    def _push(self, events: Events, t_end_us: int | None) -> None:
        """Filter events and cut windows; sensor time has reached ``t_end_us``."""
        windows: list[Window] = []
        if len(events):
            self._count("events", len(events))
            passed = self._filters(events)
            windows = self._assembler.push(passed)
            if len(passed) < len(events):
                # What was dropped has told the time all the same.
                windows += self._assembler.advance_to(int(events.t_us[-1]))
        if t_end_us is not None:
            windows += self._assembler.advance_to(t_end_us)
        self._emit(windows)
        self._build_ahead()

    def _build_ahead(self) -> None:
        """Build what can be built of the input of the open window."""
        if not self.parameters.sees_as_trained:
            return  # the network is fed something else
        held = self._assembler.counters
        if not self._ahead.is_due(held.used + held.discarded, held.pending):
            return
        if self._is_behind and not self._lossless:
            self._ahead.forget()
            return
        window = self._assembler.open_window()
        if window is not None and not self._is_too_soon(window.t_end_us):
            self._ahead.follow(window)

    def _break(self, reason: str) -> None:
        self._count(f"breaks_{reason}", 1)
        if reason in WHOLE_BEFORE:
            self._emit(self._assembler.flush())
        self._assembler.reset()
        self._ahead.forget()
        self._arrivals.reset()
        self._filters.reset()
        self._has_guessed = False
        self._last_end_us = None
        self._stretch += 1
        if reason in {"time", "size", "encoding", "clock", "reset"}:
            self._epoch += 1
        if reason not in {"seq", "queue"}:
            self._clock.reset()

    def _check_guess(self, first_us: int) -> None:
        """Break when sensor time stood still while windows were closed by the host's clock.

        So it is with a bag that was paused, or that plays slowly and in bursts: host time passed,
        sensor time did not. What comes now would be late for as long as the pause was.
        """
        reached_us = self._assembler.reached_us
        if self._has_guessed and reached_us is not None and first_us < reached_us - MAX_REORDER_US:
            self._break("pause")
        self._has_guessed = False

    def _follow_restarts(self) -> None:
        while not self._restarts.empty():
            reason = self._restarts.get()
            self._decoder.reset()
            self._watch.reset()
            self._break(reason)

    def _follow_parameters(self) -> None:
        if self.parameters is not self._filtered_by:
            self._filtered_by = parameters = self.parameters
            # The file is fixed, so its mask is not read again.
            mask = self._filters.config.hot_pixels
            config = replace(parameters, hot_pixels_file="").filter_config()
            self._filters.configure(replace(config, hot_pixels=mask))
        spec = self._wanted_spec()
        if spec != self._window_spec:
            self._window_spec = spec
            self._emit(self._assembler.flush())
            self._replaced += Counter(self._assembler.counters.as_dict())
            self._assembler = WindowAssembler(spec)
            self._ahead = make_ahead(self._input, spec)
            self._handed_over = 0

    def _close_overdue(self) -> None:
        """Close windows of a camera that sends nothing, by the host's clock."""
        latest, deadline_ms = self._arrivals.latest, self._window_spec.deadline_ms
        if latest is None or deadline_ms is None:
            return
        t_us, received_ns = latest
        silent_us = (time.monotonic_ns() - received_ns) // 1000
        # A driver that sends few large messages is not quiet between two of them.
        if silent_us <= 2 * self._arrivals.longest_gap_us:
            return
        reached_us = t_us + silent_us - int(deadline_ms * 1000)
        if silent_us < QUIET_US:
            # The windows that hold the latest event, and none after them.
            reached_us = min(reached_us, t_us + (self._window_spec.duration_us or 0))
        else:
            self._has_guessed = True
        self._emit(self._assembler.close(reached_us))

    def _emit(self, windows: list[Window]) -> None:
        closed_ns = time.monotonic_ns()
        for window in windows:
            if self._is_too_soon(window.t_end_us):
                self._count("windows_skipped", 1)
                continue
            self._last_end_us = window.t_end_us
            self._count_events(window)
            began_ns = time.monotonic_ns()
            made = self._ahead.finish(window)
            made_ns = time.monotonic_ns()
            last_us = int(window.events.t_us[-1]) if len(window.events) else window.t_start_us
            received_ns = self._arrivals.of(last_us, closed_ns)
            stamp_ns = self._clock.to_host_ns(window.t_end_us)
            self._hand_over(
                Job(
                    replace(window, index=self._index),
                    stamp_ns,
                    self._frame_id,
                    self._epoch,
                    self._stretch,
                    received_ns,
                    closed_ns,
                    made,
                    (made_ns - began_ns) / 1e6 if made is not None else 0.0,
                )
            )
            self._index += 1

    def _count_events(self, window: Window) -> None:
        """Count the events of a window that were in none before it."""
        end = window.first_event + len(window.events)
        new = end - max(window.first_event, self._handed_over)
        if new > 0:
            self._count("events_in_windows", new)
            self._handed_over = end

    def _is_too_soon(self, t_end_us: int) -> bool:
        """Tell whether ``max_rate_hz`` forbids a window that ends then, in sensor time."""
        rate_hz, last_us = self.parameters.max_rate_hz, self._last_end_us
        return bool(rate_hz) and last_us is not None and t_end_us - last_us < 1e6 / rate_hz


def _size(events: Events) -> tuple[int, int]:
    return events.width, events.height


class _Arrivals:
    """When the packets came in that the windows in the making are made of."""

    def __init__(self) -> None:
        self._packets: deque[tuple[int, int]] = deque(maxlen=4096)
        self._gaps_us: deque[int] = deque(maxlen=32)

    @property
    def latest(self) -> tuple[int, int] | None:
        """Last event's sensor time and arrival of the newest packet."""
        return self._packets[-1] if self._packets else None

    @property
    def speed(self) -> float:
        """Sensor time that passes in a unit of host time; 1 or more (a bag may play fast)."""
        (first_us, first_ns), (last_us, last_ns) = self._packets[0], self._packets[-1]
        if len(self._packets) > SPEED_PACKETS:
            first_us, first_ns = self._packets[-SPEED_PACKETS]
        return max(1.0, 1e3 * (last_us - first_us) / max(1, last_ns - first_ns))

    @property
    def longest_gap_us(self) -> int:
        """Longest time between two of the latest packets."""
        return max(self._gaps_us, default=0)

    def add(self, t_us: int, received_ns: int) -> None:
        """Remember a packet by the sensor time of its last event."""
        if self._packets:
            self._gaps_us.append((received_ns - self._packets[-1][1]) // 1000)
        self._packets.append((t_us, received_ns))

    def of(self, t_us: int, otherwise_ns: int) -> int:
        """Return the arrival of the first packet that reaches this sensor time.

        Windows end in order, so what ends before is not needed again.
        """
        while len(self._packets) > 1 and self._packets[0][0] < t_us:
            self._packets.popleft()
        if self._packets and self._packets[0][0] >= t_us:
            return self._packets[0][1]
        return otherwise_ns

    def reset(self) -> None:
        """Forget all."""
        self._packets.clear()
        self._gaps_us.clear()
