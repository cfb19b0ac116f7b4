"""One topic's messages to events: picks parser and decoder, notices everything that breaks.

What arrives may be damaged, lost or of another camera. Nothing of that raises: it is counted, named
in ``last_error``, and reported as a discontinuity, so that windows never join what does not belong
together. Times are given as they are; ``TimeWatch`` looks at them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.decoders import Decoded, Decoder, make_decoder
from evdistill_core.events.decoders.base import (
    BACKWARD,
    MAX_SIDE,
    MAX_TIME_BASE_NS,
    OUTSIDE,
    UNKNOWN,
    UNSYNCED,
)
from evdistill_core.events.decoders.event_array import decode_event_array
from evdistill_core.events.packet import EVENT_TYPES, Packet
from evdistill_core.foundation.errors import EncodingError, MessageError
from evdistill_core.messages.event_messages import (
    EVENT_PACKET_TYPES,
    EventArray,
    EventPacket,
    EventPacketParser,
)
from evdistill_core.messages.types import normal_type_name

# EVT3 time wraps after 16.8 s; beyond a quarter of that the header stamps tell which turn it is.
PAUSE_US = 4_000_000
# A message this little behind, and sent about as late, was overtaken: no count that restarted.
MAX_OVERTAKEN = 16
OVERTAKEN_US = 1_000_000
# More messages missing than this means that the count restarted.
MAX_LOST = 1_000_000


@dataclass(frozen=True)
class DecodedPacket:
    """The events of one message.

    Attributes:
        events: in the order of the message, all inside the frame.
        triggers: edges on the external input.
        stamp_ns: host time of the message's header; its time of arrival if it has none; 0 where
            there is no clock but the sensor's (files without messages).
        frame_id: of the header.
        discontinuity: why whatever was collected before must not be joined with these events:
            ``"size"``, ``"encoding"``, ``"time"`` (see ``TimeWatch``), ``"seq"``, or empty when it
            may.
        t_end_us: sensor time at the end of the message, where the encoding tells it even without
            events; None where not.
    """

    events: Events
    triggers: Triggers
    stamp_ns: int
    frame_id: str
    discontinuity: str
    t_end_us: int | None = None


@dataclass(frozen=True)
class DecodedStretch:
    """The events of several messages, none of which begins anything new.

    Attributes:
        events: of all messages, in their order.
        ends: place behind the last event of each message.
        stamps_ns: of each message, as in ``DecodedPacket``.
        t_ends_us: of each message.
        frame_ids: of each message.
    """

    events: Events
    ends: list[int]
    stamps_ns: list[int]
    t_ends_us: list[int | None]
    frame_ids: list[str]

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self.ends)

    def part(self, first: int, stop: int) -> Events:
        """Return the events of some messages."""
        return self.events[self.ends[first - 1] if first else 0 : self.ends[stop - 1]]

    def packet(self, place: int) -> DecodedPacket:
        """Return one message by itself, without its triggers."""
        return DecodedPacket(
            self.part(place, place + 1),
            Triggers.empty(),
            self.stamps_ns[place],
            self.frame_ids[place],
            "",
            self.t_ends_us[place],
        )


@dataclass
class StreamCounters:
    """Everything met since the start; only ever rises.

    Attributes:
        messages: pushed, damaged ones included.
        bytes: of all messages.
        events: given out, without those that are left out by their time.
        triggers: given out.
        lost_messages: missing by their sequence number (a damaged message counts here too).
        seq_gaps: times that the sequence number was not the next one.
        damaged_messages: dropped whole.
        unknown_words: skipped inside payloads.
        backward_time: events earlier than the one before them, inside what one decoder sees.
        out_of_frame: events dropped for lying outside width and height.
        discarded_before_sync: events dropped because their place or time was not known yet.
        discarded_at_jump: events left out because their time strays far from those around them.
        time_sorted: events whose place was changed because times fell by more than 10 ms.
        size_changes: of the frame, mid-stream.
        encoding_changes: mid-stream.
        time_jumps: of sensor time, backward or forward.
    """

    messages: int = 0
    bytes: int = 0
    events: int = 0
    triggers: int = 0
    lost_messages: int = 0
    seq_gaps: int = 0
    damaged_messages: int = 0
    unknown_words: int = 0
    backward_time: int = 0
    out_of_frame: int = 0
    discarded_before_sync: int = 0
    discarded_at_jump: int = 0
    time_sorted: int = 0
    size_changes: int = 0
    encoding_changes: int = 0
    time_jumps: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


def is_event_type(type_name: str) -> bool:
    """Tell whether messages of this type carry events that ``PacketDecoder`` reads.

    Known are the types in ``EVENT_TYPES`` and, by the layout that they all share, ``EventArray`` of
    any other package; with or without ``/msg/``.
    """
    try:
        name = normal_type_name(type_name)
    except MessageError:
        return False
    return name in EVENT_TYPES or name.endswith("/msg/EventArray")


class PacketDecoder:
    """Decodes the event messages of one topic, in the order of arrival.

    Attributes:
        counters: updated by every ``push``.
        last_error: why the latest damaged message was dropped; empty if none was.
    """

    def __init__(self) -> None:
        self.counters = StreamCounters()
        self.last_error = ""
        self._decoder: Decoder | None = None
        self._encoding = ""
        self._size: tuple[int, int] | None = None
        self._seq: int | None = None
        self._stamp_ns = 0
        self._parser = EventPacketParser()

    def reset(self) -> None:
        """Forget the stream, as if the next message were the first; the counters stay."""
        self._decoder = self._size = self._seq = None
        self._encoding = ""
        self._stamp_ns = 0

    def push(self, packet: Packet) -> DecodedPacket | None:
        """Decode one message; None if it was damaged. Never raises on what a network sends."""
        self.counters.messages += 1
        self.counters.bytes += len(packet.data)
        try:
            message = self._parse(packet)
            _check(message)
            if isinstance(message, EventPacket):
                breaks, decoded = self._decode_packet(message, packet.receive_time_ns)
            else:
                breaks, decoded = self._decode_array(message)
        except (MessageError, EncodingError) as error:
            self.counters.damaged_messages += 1
            self.last_error = str(error)
            return None
        stamp_ns = _stamp_ns(message, packet.receive_time_ns)
        self._stamp_ns = stamp_ns
        self.counters.events += len(decoded.events)
        self.counters.triggers += len(decoded.triggers)
        return DecodedPacket(
            decoded.events,
            decoded.triggers,
            stamp_ns,
            message.header.frame_id,
            next((b for b in ("size", "encoding", "seq") if b in breaks), ""),
            decoded.t_end_us,
        )

    def push_run(self, packets: Sequence[Packet]) -> DecodedStretch | None:
        """Decode messages that simply follow each other, in one call of the decoder.

        The first ones are taken, as far as they are EventPackets of one sensor, none is missing or
        damaged, and there was no pause; counters and state are those of ``push`` for each of them.

        Returns:
            None where the first one alone is not worth it, or anything but plain: ``push`` it.
        """
        decoder, seq, before_ns = self._decoder, self._seq, self._stamp_ns
        if decoder is None or seq is None or before_ns <= 0:
            return None
        messages: list[EventPacket] = []
        stamps_ns: list[int] = []
        for packet in packets:
            message = self._plain(packet)
            if message is None or message.seq != seq + 1:
                break
            stamp_ns = _stamp_ns(message, packet.receive_time_ns)
            if (stamp_ns - before_ns) // 1000 > PAUSE_US or stamp_ns <= 0:
                break
            seq, before_ns = message.seq, stamp_ns
            messages.append(message)
            stamps_ns.append(stamp_ns)
        if len(messages) < 2:
            return None
        self._seq, self._stamp_ns = seq, before_ns
        before = decoder.damage()
        run = decoder.decode_run([m.events for m in messages], [m.time_base for m in messages])
        self._note_damage(before, decoder.damage())
        self.counters.messages += len(messages)
        self.counters.bytes += sum(len(packet.data) for packet in packets[: len(messages)])
        self.counters.events += len(run.events)
        self.counters.triggers += run.triggers
        frame_ids = [message.header.frame_id for message in messages]
        return DecodedStretch(run.events, run.ends, stamps_ns, run.t_ends_us, frame_ids)

    def _plain(self, packet: Packet) -> EventPacket | None:
        """Return a message of the sensor and encoding that are known; None if it is not one."""
        if packet.type_name not in EVENT_PACKET_TYPES:
            return None
        try:
            message = self._parser(packet.data)
        except MessageError:
            return None
        is_known = (message.width, message.height) == self._size and (
            message.encoding == self._encoding
        )
        is_good = not message.is_bigendian and message.time_base < MAX_TIME_BASE_NS
        return message if is_known and is_good else None

    def pass_on(self, decoded: DecodedPacket) -> DecodedPacket:
        """Count events that came decoded already, as ``push`` counts those that it decodes.

        Returns:
            The same, with the discontinuity ``"size"`` if the frame has another size than before.
        """
        self.counters.messages += 1
        self.counters.events += len(decoded.events)
        self.counters.triggers += len(decoded.triggers)
        if self._note_size(decoded.events.width, decoded.events.height):
            return replace(decoded, discontinuity=decoded.discontinuity or "size")
        return decoded

    def _decode_packet(
        self, message: EventPacket, receive_time_ns: int
    ) -> tuple[set[str], Decoded]:
        breaks = self._note_size(message.width, message.height)
        if self._decoder is None or breaks or message.encoding != self._encoding:
            decoder = make_decoder(message.encoding, width=message.width, height=message.height)
            if self._encoding and message.encoding != self._encoding:
                self.counters.encoding_changes += 1
                breaks.add("encoding")
            self._decoder, self._encoding = decoder, message.encoding
        decoder = self._decoder
        elapsed_us = (_stamp_ns(message, receive_time_ns) - self._stamp_ns) // 1000
        known_us = elapsed_us if self._stamp_ns > 0 else None
        if self._seq is not None and message.seq != self._seq + 1:
            breaks.add("seq")
            self._note_gap(message.seq - self._seq - 1)
            if message.seq > self._seq or _is_overtaken(self._seq - message.seq, known_us):
                decoder.invalidate(known_us)
            else:
                decoder.reset()
        elif known_us is not None and known_us > PAUSE_US:
            decoder.invalidate(known_us)
        self._seq = message.seq
        before = decoder.damage()
        decoded = decoder.decode(message.events, message.time_base)
        self._note_damage(before, decoder.damage())
        return breaks, decoded

    def _parse(self, packet: Packet) -> EventPacket | EventArray:
        name = normal_type_name(packet.type_name)
        if name in EVENT_PACKET_TYPES:
            return self._parser(packet.data)
        if is_event_type(name):
            return EventArray.parse(packet.data)
        raise MessageError(
            f"{name[:80]} carries no events that we know; known: {', '.join(EVENT_TYPES)}"
        )

    def _decode_array(self, message: EventArray) -> tuple[set[str], Decoded]:
        breaks = self._note_size(message.width, message.height)
        tally = np.zeros(4, np.int64)
        events = decode_event_array(
            message.events, tally, width=message.width, height=message.height
        )
        self._note_damage([0] * len(tally), tally.tolist())
        return breaks, Decoded(events, Triggers.empty())

    def _note_size(self, width: int, height: int) -> set[str]:
        size, self._size = self._size, (width, height)
        if size is None or size == self._size:
            return set()
        self.counters.size_changes += 1
        return {"size"}

    def _note_damage(self, before: list[int], after: list[int]) -> None:
        if before != after:
            counters = self.counters
            counters.unknown_words += after[UNKNOWN] - before[UNKNOWN]
            counters.backward_time += after[BACKWARD] - before[BACKWARD]
            counters.out_of_frame += after[OUTSIDE] - before[OUTSIDE]
            counters.discarded_before_sync += after[UNSYNCED] - before[UNSYNCED]

    def _note_gap(self, missing: int) -> None:
        self.counters.seq_gaps += 1
        if 0 < missing <= MAX_LOST:
            self.counters.lost_messages += missing


def _check(message: EventPacket | EventArray) -> None:
    if not (1 <= message.width <= MAX_SIDE and 1 <= message.height <= MAX_SIDE):
        raise MessageError(
            f"{message.TYPE}: frame size must be 1..{MAX_SIDE} on both sides, "
            f"got {message.width}x{message.height} (width x height)"
        )
    if isinstance(message, EventPacket):
        if message.is_bigendian:
            raise MessageError(f"{message.TYPE}: events of a big endian machine are not read")
        if message.time_base >= MAX_TIME_BASE_NS:
            raise MessageError(
                f"{message.TYPE}: time_base must be below 2**62 ns, got {message.time_base}"
            )


def _stamp_ns(message: EventPacket | EventArray, receive_time_ns: int) -> int:
    return message.header.stamp.to_ns() or receive_time_ns


def _is_overtaken(behind: int, elapsed_us: int | None) -> bool:
    """Tell a message that others came before from the first one of a driver that restarted."""
    return (
        behind <= MAX_OVERTAKEN
        and elapsed_us is not None
        and -OVERTAKEN_US <= elapsed_us <= OVERTAKEN_US
    )
