"""Enter a bag in the middle: hop along it by receive times, and trust them only where they agree.

EVT3 tells its time modulo 16.8 s, so how often it has turned before a place is known only from what
lies before. A few messages every few seconds of receive time are enough: the decoder is told of
each gap by the header stamps, as where a driver lost messages, and takes the nearest turn. At every
hop sensor time, header stamps and receive times must have moved by the same; where they did not, or
anything else is odd, no place is given, and the bag is to be read from its start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice, pairwise

from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import DecodedPacket, PacketDecoder, StreamCounters
from evdistill_core.foundation.errors import MessageError
from evdistill_core.messages.event_messages import EVENT_PACKET_TYPES, EventPacket
from evdistill_core.recordings.base import REORDER_US

#: A span is entered this long before its start, and by this part of the way to it: the clocks of
#: sensor and host run side by side, but not exactly.
SLACK_US = 2_000_000
DRIFT = 0.001
#: Less than a quarter turn of EVT3's clock; longer hops only where there would be too many.
HOP_US = 4_000_000
MAX_HOPS = 256
#: Messages that are looked at after a hop, and for how many events are waited for. Of two runs that
#: were received at the same time, three may still be in order (271, 321, 322), four are not.
LOOK_AT = 4
MAX_LOOK_AT = 1000

#: Yields the messages of the event topic from a receive time in nanoseconds on.
PacketsFrom = Callable[[int], Iterator[Packet]]


@dataclass(frozen=True)
class _Place:
    """The first message with events after a hop: its number, and its time by three clocks."""

    seq: int
    t_us: int
    stamp_us: int
    receive_us: int
    decoded: DecodedPacket
    rest: Iterator[Packet]

    def follows(self, last: _Place) -> bool:
        """Tell whether messages were counted on and all clocks moved by the same."""
        steps = (
            self.t_us - last.t_us,
            self.stamp_us - last.stamp_us,
            self.receive_us - last.receive_us,
        )
        slack_us = REORDER_US + int(DRIFT * max(steps))
        return self.seq > last.seq and max(steps) - min(steps) <= slack_us


def enter(
    packets: PacketsFrom, start_us: int, *, self_contained: bool
) -> tuple[PacketDecoder, DecodedPacket, Iterator[Packet]] | None:
    """Find a place shortly before a sensor time.

    Args:
        packets: the bag; may ignore the receive time that it is asked for, which is noticed.
        start_us: sensor time, as a decoder that saw everything would tell it.
        self_contained: every message can be decoded without those before it, so one hop will do, of
            which only the end is checked.

    Returns:
        A decoder, what it made of the first message, and the messages after that one; None where
        the start of the bag is near, or receive times are of no use.
    """
    decoder = PacketDecoder()
    first = _place(decoder, packets(0))
    if first is None:
        return None
    way_us = start_us - first.t_us
    way_us -= SLACK_US + int(way_us * DRIFT)
    if way_us <= 0:
        return None
    hops = 1 if self_contained else min(-(-way_us // HOP_US), MAX_HOPS)
    last = first
    for hop in range(1, hops + 1):
        from_us = first.receive_us + way_us * hop // hops
        if from_us <= last.receive_us:
            continue  # the camera paused: the last hop went further already
        found = _after(decoder, packets, from_us)
        if found is None or not (self_contained or found.follows(last)):
            return None
        last = found
    if last is first or int(last.decoded.events.t_us.max()) > start_us - REORDER_US // 2:
        return None
    decoded = replace(last.decoded, discontinuity="")  # the gap is ours, not the stream's
    decoder.counters = StreamCounters(
        messages=1, events=len(decoded.events), triggers=len(decoded.triggers)
    )
    return decoder, decoded, last.rest


def _after(decoder: PacketDecoder, packets: PacketsFrom, from_us: int) -> _Place | None:
    """Hop to a receive time; None if nothing was received then, or something else was begun."""
    found = packets(from_us * 1000)
    head = list(islice(found, LOOK_AT))
    if not head or head[0].receive_time_ns < from_us * 1000:
        return None
    numbers = [_seq(packet) for packet in head]
    # Two runs of a driver that were received at the same time would be mixed.
    if any(b < a for a, b in pairwise(numbers)):
        return None
    place = _place(decoder, chain(head, found))
    if place is None or place.decoded.discontinuity not in {"", "seq"}:
        return None
    return place


def _place(decoder: PacketDecoder, packets: Iterator[Packet]) -> _Place | None:
    """Decode until there are events."""
    for packet in islice(packets, MAX_LOOK_AT):
        decoded = decoder.push(packet)
        if decoded is not None and len(decoded.events):
            return _Place(
                seq=_seq(packet),
                t_us=int(decoded.events.t_us[0]),
                stamp_us=decoded.stamp_ns // 1000,
                receive_us=packet.receive_time_ns // 1000,
                decoded=decoded,
                rest=packets,
            )
    return None


def _seq(packet: Packet) -> int:
    """Return the number of a message; 0 for those that have none or are damaged."""
    if packet.type_name not in EVENT_PACKET_TYPES:
        return 0
    try:
        return EventPacket.parse(packet.data).seq
    except MessageError:
        return 0
