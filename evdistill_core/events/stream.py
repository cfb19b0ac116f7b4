"""One topic's messages to events: picks parser and decoder, notices everything that breaks.

What arrives may be damaged, lost, repeated from the start (a looped bag) or of another camera.
Nothing of that raises: it is counted, named in ``last_error``, and reported as a discontinuity, so
that windows never join what does not belong together.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
from numba import njit

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
)
from evdistill_core.messages.types import normal_type_name

# Sensors and networks step back by some milliseconds (2.7 ms reported from an EVK4, 65 ms from a
# mis-timed libcaer_cmp message); a longer step is a restart, a loop, or a damaged time word.
BACKWARD_JUMP_US = 200_000
# A longer step forward between messages is a jump too, unless the header stamps confirm it: an EVT3
# sensor that starts anew looks like one, unless it did so within this time of a wrap.
FORWARD_JUMP_US = 1_000_000
# Inside a message there are no stamps; no driver collects for so long.
FORWARD_JUMP_INSIDE_US = 5_000_000
# Drivers send at least ten messages a second; the time at the end of one moves by less than this.
END_STEP_US = 200_000
# EVT3 time wraps after 16.8 s; beyond a quarter of that the header stamps tell which turn it is.
PAUSE_US = 4_000_000
# A message this little behind, and sent about as late, was overtaken: no count that started anew.
MAX_OVERTAKEN = 16
OVERTAKEN_US = 1_000_000
# More messages missing than this means that the count started anew.
MAX_LOST = 1_000_000


@dataclass(frozen=True)
class DecodedPacket:
    """The events of one message.

    Attributes:
        events: in the order of the message, all inside the frame.
        triggers: edges on the external input.
        stamp_ns: host time of the message's header; its time of arrival if it has none.
        frame_id: of the header.
        discontinuity: why whatever was collected before must not be joined with these events:
            ``"size"``, ``"encoding"``, ``"time"``, ``"seq"``, or empty when it may.
        t_end_us: sensor time at the end of the message, where the encoding tells it even without
            events; None where not, and where it is not plausible after what came before.
    """

    events: Events
    triggers: Triggers
    stamp_ns: int
    frame_id: str
    discontinuity: str
    t_end_us: int | None = None


@dataclass
class StreamCounters:
    """Everything met since the start; only ever rises.

    Attributes:
        messages: pushed, damaged ones included.
        bytes: of all messages.
        events: given out.
        triggers: given out.
        lost_messages: missing by their sequence number (a damaged message counts here too).
        seq_gaps: times that the sequence number was not the next one.
        damaged_messages: dropped whole.
        unknown_words: skipped inside payloads.
        backward_time: events earlier than the one before them, inside what one decoder sees.
        out_of_frame: events dropped for lying outside width and height.
        discarded_before_sync: events dropped because their place or time was not known yet.
        discarded_at_jump: events dropped because sensor time jumped later in the same message.
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
        self._newest_us: int | None = None
        self._reached_us: int | None = None

    def reset(self) -> None:
        """Forget the stream, as if the next message were the first; the counters stay."""
        self._decoder = self._size = self._seq = None
        self._newest_us = self._reached_us = None
        self._encoding = ""
        self._stamp_ns = 0

    def push(self, packet: Packet) -> DecodedPacket | None:
        """Decode one message; None if it was damaged. Never raises on what a network sends."""
        self.counters.messages += 1
        self.counters.bytes += len(packet.data)
        try:
            message = _parse(packet)
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
        jumped, events = self._cut_at_jump(decoded.events, stamp_ns)
        if jumped:
            breaks.add("time")
        t_end_us = self._plausible_end(decoded.t_end_us, stamp_ns)
        self._stamp_ns = stamp_ns
        self.counters.events += len(events)
        self.counters.triggers += len(decoded.triggers)
        return DecodedPacket(
            events,
            decoded.triggers,
            stamp_ns,
            message.header.frame_id,
            next((b for b in ("size", "encoding", "time", "seq") if b in breaks), ""),
            t_end_us,
        )

    def pass_on(self, decoded: DecodedPacket) -> DecodedPacket:
        """Watch over the time of events that came decoded already; counts as ``push`` does."""
        jumped, events = self._cut_at_jump(decoded.events, decoded.stamp_ns)
        self._stamp_ns = decoded.stamp_ns
        self.counters.messages += 1
        self.counters.events += len(events)
        self.counters.triggers += len(decoded.triggers)
        why = decoded.discontinuity or ("time" if jumped else "")
        return replace(decoded, events=events, discontinuity=why)

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

    def _plausible_end(self, t_end_us: int | None, stamp_ns: int) -> int | None:
        """Refuse a time that one damaged word put far ahead: windows would be closed unfilled."""
        if t_end_us is None:
            return None
        confirmed_us = (stamp_ns - self._stamp_ns) // 1000 if self._stamp_ns > 0 else 0
        step_us = t_end_us - self._latest_us(t_end_us)
        if not 0 <= step_us <= max(END_STEP_US, 2 * confirmed_us):
            return None
        self._reached_us = t_end_us
        return t_end_us

    def _latest_us(self, otherwise_us: int) -> int:
        """Return the latest sensor time that was told, by an event or without one."""
        known = [t for t in (self._reached_us, self._newest_us) if t is not None]
        return max(known, default=otherwise_us)

    def _cut_at_jump(self, events: Events, stamp_ns: int) -> tuple[bool, Events]:
        """Drop what lies before the last backward jump; tell whether there was any jump."""
        if not len(events):
            return False, events
        first_us = int(events.t_us[0])
        start_us = self._latest_us(first_us)
        cut, newest = _last_jump(events.t_us, start_us, BACKWARD_JUMP_US, FORWARD_JUMP_INSIDE_US)
        self._newest_us = int(newest)
        forward_us = first_us - start_us
        confirmed_us = (stamp_ns - self._stamp_ns) // 1000 if self._stamp_ns > 0 else 0
        jumped = cut >= 0 or forward_us > max(FORWARD_JUMP_US, 2 * confirmed_us)
        if jumped:
            self.counters.time_jumps += 1
            self._reached_us = None
        if cut > 0:
            self.counters.discarded_at_jump += cut
            events = events[cut:]
        return jumped, events


def _parse(packet: Packet) -> EventPacket | EventArray:
    name = normal_type_name(packet.type_name)
    if name in EVENT_PACKET_TYPES:
        return EventPacket.parse(packet.data)
    if is_event_type(name):
        return EventArray.parse(packet.data)
    raise MessageError(
        f"{name[:80]} carries no events that we know; known: {', '.join(EVENT_TYPES)}"
    )


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
    """Tell a message that others came before from the first one of a driver that started anew."""
    return (
        behind <= MAX_OVERTAKEN
        and elapsed_us is not None
        and -OVERTAKEN_US <= elapsed_us <= OVERTAKEN_US
    )


@njit(nogil=True, cache=True)
def _last_jump(
    t_us: npt.NDArray[np.int64], newest_us: int, back_us: int, ahead_us: int
) -> tuple[int, int]:
    """Return where time last left the newest by more than the tolerances, and the newest.

    The place is -1 without such a jump; the first event may lie ahead as far as it likes.
    """
    place = -1
    for i in range(t_us.size):
        t = t_us[i]
        if t < newest_us - back_us or (i > 0 and t > newest_us + ahead_us):
            place = i
            newest_us = t
        elif t > newest_us:
            newest_us = t
    return place, newest_us
