"""Plays a recording into the graph in real time, as a camera driver would.

Bags are sent as they are, message by message at their receive times. Other recordings are turned
into EventPackets (``libcaer_cmp``) on the way. Unless told otherwise, header stamps become the time
of sending and ``seq`` counts on over the loops, as with a live camera; sensor time is never changed
(at a loop it jumps back, as with ``ros2 bag play --loop``).
"""

from __future__ import annotations

import contextlib
import json
import queue
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TextIO

from evdistill_core.events.account import EventAccount, account_of_reading
from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import PacketDecoder, is_event_type
from evdistill_core.foundation.errors import ConfigError, MessageError, RecordingError
from evdistill_core.messages.event_messages import EVENT_PACKET_TYPES
from evdistill_core.messages.images import IMAGE_TYPES
from evdistill_core.messages.standard import Image
from evdistill_core.perception.messages import COMPRESSED
from evdistill_core.recordings.base import Recording
from evdistill_core.recordings.convert import ConvertConfig, bag_messages
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode, Publisher

NS_PER_S = 1_000_000_000
LATE_NS = 2_000_000
"""A message sent later than this after its time counts as late."""

_AHEAD = 64  # messages read, encoded and decoded before their time
_STAMP_OFFSET = 4  # the header comes first in every message that we play
_LINK_SLICE_S = 0.2


@dataclass(frozen=True, kw_only=True)
class PlayConfig:
    """How to play.

    Attributes:
        rate: speed, above 0; 2 is twice real time.
        loops: how often; 0 is for ever.
        start_us: begin so long after the start of the recording.
        end_us: stop so long after the start of the recording; ``None`` plays all.
        events_topic: where events are published.
        image_topic: where images are published; "" leaves them out. A compressed topic of a bag
            goes to ``image_topic`` + ``/compressed``.
        packet_us: duration of the event messages made of recordings that are no bags.
        keep_stamps: leave header stamps and ``seq`` as recorded.
    """

    rate: float = 1.0
    loops: int = 1
    start_us: int = 0
    end_us: int | None = None
    events_topic: str = "/event_camera/events"
    image_topic: str = "/event_camera/image_raw"
    packet_us: int = 10_000
    keep_stamps: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be played."""
        if not 0 < self.rate <= 1000:
            raise ConfigError(f"rate must be above 0 and at most 1000, got {self.rate}")
        if self.loops < 0:
            raise ConfigError(f"loops must be at least 0 (for ever), got {self.loops}")
        if self.start_us < 0:
            raise ConfigError(f"start must be at least 0, got {self.start_us} us")
        if self.end_us is not None and self.end_us <= self.start_us:
            raise ConfigError(f"end must lie after start, got {self.start_us} .. {self.end_us} us")


@dataclass
class PlayResult:
    """What was played.

    Attributes:
        packets: event messages sent.
        images: images sent.
        sent_bytes: bytes of both.
        late: messages sent more than `LATE_NS` after their time.
        worst_late_ms: the latest of them.
        damaged: messages of the recording that are no messages, left out.
        dropped: images given up because a reliable subscriber did not keep up.
        elapsed_s: wall time of playing.
        finished: False when it was stopped.
        account: what became of the recording's events in the latest pass, as far as it was read;
            None: a bag whose messages are sent as they are, undecoded.
    """

    packets: int = 0
    images: int = 0
    sent_bytes: int = 0
    late: int = 0
    worst_late_ms: float = 0.0
    damaged: int = 0
    dropped: int = 0
    elapsed_s: float = 0.0
    finished: bool = False
    account: EventAccount | None = None


@dataclass(frozen=True)
class _Timed:
    """A message and its time, nanoseconds from the start of the recording."""

    due_ns: int
    packet: Packet
    last_event_us: int | None
    events: int


class Player:
    """Plays one open recording through a node; the node stays the caller's.

    Args:
        node: in the graph.
        recording: open.
        config: how to play.
        send_log: gets one JSON line an event message: ``seq``, ``events``, ``bytes``,
            ``last_event_us`` (sensor time of the last event), ``sent_ns`` (CLOCK_REALTIME before
            sending) and ``sent_monotonic_ns``.
        on_sent: gets each message as it was sent, events and images.
    """

    def __init__(
        self,
        node: DdsNode,
        recording: Recording,
        config: PlayConfig,
        send_log: TextIO | None = None,
        *,
        on_sent: Callable[[Packet], None] | None = None,
    ) -> None:
        self.result = PlayResult()
        self._on_sent = on_sent
        self._recording = recording
        self._config = config
        self._send_log = send_log
        self._stop = threading.Event()
        self._seq = _Sequence()
        self._is_bag = recording.info.format.startswith("rosbag2")
        self._events = 0  # taken from a recording that is no bag, in this pass
        self._event_type = _event_type(recording)
        self.events = node.create_publisher(config.events_topic, self._event_type, qos.EVENTS)
        self.images: Publisher | None = None
        if config.image_topic and recording.info.frame_topic:
            type_name = _image_type(recording)
            # As image_transport names it: viewers look for the compressed copy there.
            is_raw = type_name == Image.TYPE or config.image_topic.endswith(COMPRESSED)
            topic = config.image_topic if is_raw else config.image_topic + COMPRESSED
            self.images = node.create_publisher(topic, type_name, qos.DEFAULT)

    def stop(self) -> None:
        """End `play` soon; from any thread, of signals see ``StopSignals``."""
        self._stop.set()

    def wait_for_subscriber(self, timeout_s: float | None = None) -> bool:
        """Wait until somebody receives the events; return whether somebody does."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._stop.is_set():
            left = _LINK_SLICE_S if deadline is None else deadline - time.monotonic()
            if self.events.wait_for_subscriber(min(_LINK_SLICE_S, max(left, 0.0))):
                return True
            if left <= 0:
                break
        return False

    def play(self, progress: Callable[[PlayResult], None] | None = None) -> PlayResult:
        """Send everything at its time; return what was sent.

        Args:
            progress: called after each message.

        Raises:
            RecordingError: the recording is damaged or holds no events.
        """
        begin_ns = time.monotonic_ns()
        turn = 0
        try:
            while not self._stop.is_set() and (turn < self._config.loops or not self._config.loops):
                self._play_once(progress)
                turn += 1
            self.result.finished = not self._stop.is_set()
        finally:
            self.result.elapsed_s = (time.monotonic_ns() - begin_ns) / NS_PER_S
        if not self._is_bag:
            self.result.account = account_of_reading(self._recording.counters, self._events)
        if self.images is not None:
            self.images.wait_for_acks(1.0)
        return self.result

    def _play_once(self, progress: Callable[[PlayResult], None] | None) -> None:
        self._seq.start_pass()
        sent = 0
        with _Ahead(self._messages()) as messages:
            begin_ns = time.monotonic_ns()
            for message in messages:
                if not self._wait_until(begin_ns + round(message.due_ns / self._config.rate)):
                    return
                self._send(message)
                sent += 1
                if progress is not None:
                    progress(self.result)
        if not sent:
            raise RecordingError(
                f"{self._recording.info.path} holds nothing between start and end: nothing to play"
            )

    def _wait_until(self, due_ns: int) -> bool:
        """Sleep until the time has come; return False when stopped."""
        early_ns = due_ns - time.monotonic_ns()
        while early_ns > 0:
            if self._stop.wait(min(early_ns / NS_PER_S, _LINK_SLICE_S)):
                return False
            early_ns = due_ns - time.monotonic_ns()
        if -early_ns > LATE_NS:
            self.result.late += 1
            self.result.worst_late_ms = max(self.result.worst_late_ms, -early_ns / 1e6)
        return not self._stop.is_set()

    def _send(self, message: _Timed) -> None:
        is_events = message.packet.type_name == self._event_type
        publisher = self.events if is_events else self.images
        if publisher is None:
            return
        data = bytearray(message.packet.data)
        sent_ns, sent_monotonic_ns = time.time_ns(), time.monotonic_ns()
        try:
            seq = self._number(data) if message.packet.type_name in EVENT_PACKET_TYPES else None
            if not self._config.keep_stamps:
                struct.pack_into("<iI", data, _STAMP_OFFSET, *divmod(sent_ns, NS_PER_S))
            sent = publisher.publish(data)
        except (MessageError, struct.error):
            self.result.damaged += 1  # a recording may hold a broken message; the rest is played
            return
        if not sent:
            self.result.dropped += 1
            return
        if self._on_sent is not None:
            self._on_sent(Packet(message.packet.type_name, data, sent_ns, publisher.topic))
        self.result.sent_bytes += len(data)
        self.result.packets += is_events
        self.result.images += not is_events
        if is_events and self._send_log is not None:
            line = {
                "seq": seq,
                "events": message.events,
                "bytes": len(data),
                "last_event_us": message.last_event_us,
                "sent_ns": sent_ns,
                "sent_monotonic_ns": sent_monotonic_ns,
            }
            self._send_log.write(json.dumps(line) + "\n")

    def _number(self, data: bytearray) -> int:
        """Let ``seq`` count on, unless it is kept; return it."""
        offset = _seq_offset(data)
        (seq,) = struct.unpack_from("<Q", data, offset)
        if not self._config.keep_stamps:
            seq = self._seq.next(seq)
            struct.pack_into("<Q", data, offset, seq)
        return int(seq)

    def _messages(self) -> Iterator[_Timed]:
        packets = self._bag_packets() if self._is_bag else self._made_packets()
        decoder = PacketDecoder() if self._send_log is not None else None
        for due_ns, packet in packets:
            yield _describe(due_ns, packet, decoder)

    def _bag_packets(self) -> Iterator[tuple[int, Packet]]:
        config, info = self._config, self._recording.info
        wanted = [info.topic] + ([info.frame_topic] if self.images is not None else [])
        origin_ns: int | None = None
        for packet in self._recording.packets(wanted):
            if origin_ns is None:
                origin_ns = packet.receive_time_ns
            due_ns = packet.receive_time_ns - origin_ns
            if config.end_us is not None and due_ns >= config.end_us * 1000:
                return
            if due_ns >= config.start_us * 1000:
                yield due_ns - config.start_us * 1000, packet

    def _made_packets(self) -> Iterator[tuple[int, Packet]]:
        config = ConvertConfig(
            start_us=self._config.start_us,
            end_us=self._config.end_us,
            packet_us=self._config.packet_us,
            frame_step=1 if self.images is not None else 0,
        )
        origin_ns: int | None = None
        for stamp_ns, topic, type_name, data in bag_messages(
            self._recording, config, self._count_events
        ):
            if origin_ns is None:
                origin_ns = stamp_ns
            yield stamp_ns - origin_ns, Packet(type_name, data, stamp_ns, topic)

    def _count_events(self, events: int) -> None:
        self._events = events


class _Sequence:
    """Message numbers that go on over loops and keep the gaps of the recording."""

    def __init__(self) -> None:
        self._shift = 0
        self._next = 0
        self._fresh = True

    def start_pass(self) -> None:
        self._fresh = True

    def next(self, recorded: int) -> int:
        if self._fresh or recorded + self._shift < self._next:
            self._shift = self._next - recorded
            self._fresh = False
        number = recorded + self._shift
        self._next = number + 1
        return number


class _Ahead:
    """Runs an iterator in a thread, a bounded number of items ahead; errors come through."""

    def __init__(self, source: Iterator[_Timed]) -> None:
        self._source = source
        self._queue: queue.Queue[_Timed | BaseException | None] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="play reader", daemon=True)

    def __enter__(self) -> Iterator[_Timed]:
        self._thread.start()
        return self._items()

    def __exit__(self, *details: object) -> None:
        self._stop.set()
        while self._thread.is_alive():
            self._drain()  # a reader that waits for room must see the stop
            self._thread.join(0.01)

    def _items(self) -> Iterator[_Timed]:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def _run(self) -> None:
        last: BaseException | None = None
        try:
            for item in self._source:
                if self._stop.is_set():
                    return
                self._queue.put(item)
        except (ValueError, OSError) as error:
            last = error
        except BaseException as error:
            self._queue.put(error)
            raise
        self._queue.put(last)

    def _drain(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()


def _event_type(recording: Recording) -> str:
    info = recording.info
    for topic in info.topics:
        if topic.name == info.topic and is_event_type(topic.type_name):
            return topic.type_name
    return EVENT_PACKET_TYPES[0]


def _image_type(recording: Recording) -> str:
    """Return the type of the images; those of files that are no bags are made as raw ones."""
    info = recording.info
    found = (t.type_name for t in info.topics if t.name == info.frame_topic)
    return next((name for name in found if name in IMAGE_TYPES), Image.TYPE)


def _describe(due_ns: int, packet: Packet, decoder: PacketDecoder | None) -> _Timed:
    """Add what the send log says of the events; decoding is only paid for when it is written."""
    if decoder is None or not is_event_type(packet.type_name):
        return _Timed(due_ns, packet, None, 0)
    # The decoder keeps no bytes, but a bag's may be a view that the next message overwrites.
    decoded = decoder.push(replace(packet, data=bytes(packet.data)))
    if decoded is None or not len(decoded.events):
        return _Timed(due_ns, packet, None, 0)
    return _Timed(due_ns, packet, int(decoded.events.t_us[-1]), len(decoded.events))


def _seq_offset(data: bytes | bytearray) -> int:
    """Return where ``seq`` stands: behind stamp, frame_id, height and width."""
    if len(data) < 16:
        raise MessageError(f"an EventPacket of {len(data)} bytes is no message")
    length: int = struct.unpack_from("<I", data, 12)[0]
    sizes = 12 + length + (-length % 4)  # after the CDR header; height and width take 8
    offset = 4 + (sizes + 8 + 7) // 8 * 8
    if offset + 8 > len(data):
        raise MessageError(f"an EventPacket of {len(data)} bytes ends before its seq")
    return offset
