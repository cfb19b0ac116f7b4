"""Events to ``libcaer_cmp`` or ``evt3`` bytes, as drivers send them, cut into packets by time.

``libcaer_cmp`` (DAVIS, DVXplorer) is a stream of little-endian 16-bit words, code in bits 15..12:
0 time bits 23..12, 1 time bits 11..0 (microseconds after the packet's ``time_base``), 2 column,
3 row and polarity (emits an event), 4 base row and polarity, 5 mask of eight rows from the base
(emits an event a set bit). A decoder starts every packet with time 0 and no column, so packets
stand alone.

Source: event_camera_codecs, libcaer_cmp_types.h. Differs from the driver's encoder: one packet has
one ``time_base``, and the time is the whole difference to it, so a packet may span up to 2^24 us
(the driver's is wrong after 65.536 ms and for packets joined from two).

``evt3`` (Prophesee): rows and columns change places (0 row, 2 column and polarity, 3 base column
and polarity, 4 mask of twelve columns), 8 is the upper and 6 the lower half of the time. Time has
24 bits and no base: events come back with times that differ by a whole number of 2^24 us from those
encoded. Every packet starts with time and row, so that a lost one harms no other. Word 10 is an
edge on the trigger input: channel in bits 11..8, rising in bit 0. ``libcaer_cmp`` has no such word.

Source: openeb, evt3_event_types.h. Differs from a sensor: time words only where time changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import EncodingError
from evdistill_core.recordings.edge_queue import EdgeQueue, places, select

PACKET_US = 10_000
SPAN_LIMIT_US = 1 << 24
#: Decoders take the nearest turn of the 24-bit clock, so steps stay below half of it.
EVT3_SPAN_US = 1 << 23
COORDINATE_LIMIT = 1 << 11
CHANNEL_LIMIT = 1 << 4
#: Edges that may wait for events to come so far; then they go on without them.
WAITING_EDGES = 1 << 16

TIME_HIGH, TIME_LOW, ADDR_X, ADDR_Y, VECT_BASE_Y, VECT_8 = (code << 12 for code in range(6))
EVT3_ADDR_Y, EVT3_ADDR_X, EVT3_VECT_BASE_X, EVT3_VECT_12 = 0 << 12, 2 << 12, 3 << 12, 4 << 12
EVT3_TIME_LOW, EVT3_TIME_HIGH, EVT3_EXT_TRIGGER = 6 << 12, 8 << 12, 10 << 12
# Two words (base and mask) for up to eight (twelve) events: cheaper than single ones from three on.
VECTOR_WORTH = 3


@dataclass(frozen=True)
class EncodedPacket:
    """The events of one message.

    Attributes:
        payload: the encoded words.
        time_base_ns: what the message's ``time_base`` has to say (0 for ``evt3``).
        start_us: sensor time at which the packet's span begins.
        end_us: end of the packet's span, when a driver would send it.
        count: events in it.
        edges: trigger edges in it.
        width: columns of the sensor.
        height: rows of the sensor.
    """

    payload: bytes
    time_base_ns: int
    start_us: int
    end_us: int
    count: int
    edges: int
    width: int
    height: int


def encode_libcaer_cmp(events: Events, time_base_us: int) -> bytes:
    """Encode events so that a decoder gives back exactly these, in this order.

    Args:
        events: any order of times in ``[time_base_us, time_base_us + 2^24)``; coordinates below
            2048.
        time_base_us: what the message's ``time_base`` will say, microseconds.

    Raises:
        EncodingError: a time or coordinate does not fit into the format.
    """
    if not len(events):
        return b""
    first, last = int(events.t_us.min()), int(events.t_us.max())
    if first < time_base_us or last - time_base_us >= SPAN_LIMIT_US:
        raise EncodingError(
            f"libcaer_cmp holds times in [time_base, time_base + {SPAN_LIMIT_US} us); got "
            f"{first - time_base_us} .. {last - time_base_us} us after it: use shorter packets"
        )
    _check_coordinates(events, "libcaer_cmp")
    words = np.empty(4 * len(events), np.uint16)
    count = _encode(events.x, events.y, events.t_us, events.p, np.int64(time_base_us), words)
    return words[:count].astype("<u2", copy=False).tobytes()


@njit(nogil=True, cache=True, inline="always")
def _vector(  # noqa: PLR0913, PLR0917 - four columns, a place and a length
    along: npt.NDArray[np.uint16],
    across: npt.NDArray[np.uint16],
    t_us: npt.NDArray[np.int64],
    p: npt.NDArray[np.uint8],
    first: int,
    lanes: int,
) -> tuple[int, int]:
    """Return where the events end that one vector word can hold from ``first`` on, and its mask."""
    mask = 1
    end = first + 1
    while (
        end < len(t_us)
        and t_us[end] == t_us[first]
        and across[end] == across[first]
        and p[end] == p[first]
        and along[end] > along[end - 1]
        and along[end] < along[first] + lanes
    ):
        mask |= 1 << (along[end] - along[first])
        end += 1
    return end, mask


@njit(nogil=True, cache=True)
def _encode(  # noqa: PLR0913, PLR0917 - four columns, a base and the output
    x: npt.NDArray[np.uint16],
    y: npt.NDArray[np.uint16],
    t_us: npt.NDArray[np.int64],
    p: npt.NDArray[np.uint8],
    base_us: np.int64,
    words: npt.NDArray[np.uint16],
) -> int:
    """Write the words, at most four an event; return how many."""
    count = 0
    high = low = 0  # what a decoder assumes at the start of a packet
    column = -1
    i = 0
    while i < len(t_us):
        if x[i] != column:
            column = x[i]
            words[count] = ADDR_X | column
            count += 1
        dt = t_us[i] - base_us
        # After a high word always a low one: upstream's decodeUntil looks at its limit only there.
        is_new_high = dt >> 12 != high
        if is_new_high:
            high = dt >> 12
            words[count] = TIME_HIGH | high
            count += 1
        if is_new_high or dt & 0xFFF != low:
            low = dt & 0xFFF
            words[count] = TIME_LOW | low
            count += 1
        sign = np.int64(p[i]) << 11
        end, mask = _vector(y, x, t_us, p, i, 8)
        if end - i >= VECTOR_WORTH:
            words[count] = VECT_BASE_Y | sign | y[i]
            words[count + 1] = VECT_8 | mask
            count += 2
            i = end
        else:
            words[count] = ADDR_Y | sign | y[i]
            count += 1
            i += 1
    return count


def encode_evt3(events: Events, time_base_us: int, triggers: Triggers | None = None) -> bytes:
    """Encode events and edges so that a decoder gives back these, in this order, modulo 2^24 us.

    Args:
        events: times within 2^23 us of one another, in any order; coordinates below 2048.
        time_base_us: not used; for the same signature as ``encode_libcaer_cmp``.
        triggers: edges, laid between the events by their times, which must lie within 2^23 us of
            all others; channels 0 .. 15, edge 0 or 1.

    Raises:
        EncodingError: a time, coordinate or channel does not fit into the format.
    """
    del time_base_us
    edges = Triggers.empty() if triggers is None else triggers
    parts = [t for t in (events.t_us, edges.t_us) if len(t)]
    if not parts:
        return b""
    span_us = max(int(t.max()) for t in parts) - min(int(t.min()) for t in parts)
    if span_us >= EVT3_SPAN_US:
        raise EncodingError(
            f"one evt3 packet may span less than {EVT3_SPAN_US} us, got {span_us}: use shorter ones"
        )
    _check_coordinates(events, "evt3")
    if not holds_edges(edges, "evt3").all():
        raise EncodingError(
            f"evt3 holds edges 0 and 1 of channels 0 .. {CHANNEL_LIMIT - 1}, got edges up to "
            f"{int(edges.edge.max())} of channels up to {int(edges.channel.max())}"
        )
    words = np.empty(4 * len(events) + 3 * len(edges), np.uint16)
    columns = (events.x, events.y, events.t_us, events.p)
    if len(edges):
        count = _encode_evt3_with_edges(*columns, *_edge_words(events.t_us, edges), words)
    else:
        count, _, _ = _encode_evt3(*columns, -1, -1, words)
    return words[:count].astype("<u2", copy=False).tobytes()


def _edge_words(
    t_us: npt.NDArray[np.int64], edges: Triggers
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint16]]:
    """Return the edges' places between the events, their times and their words."""
    words = EVT3_EXT_TRIGGER | edges.channel.astype(np.uint16) << 8 | edges.edge
    return (
        places(t_us, edges.t_us),
        edges.t_us.astype(np.int64, copy=False),
        words.astype(np.uint16),
    )


@njit(nogil=True, cache=True)
def _encode_evt3(  # noqa: PLR0913, PLR0917 - four columns, where the decoder is, and the output
    x: npt.NDArray[np.uint16],
    y: npt.NDArray[np.uint16],
    t_us: npt.NDArray[np.int64],
    p: npt.NDArray[np.uint8],
    time: int,
    row: int,
    words: npt.NDArray[np.uint16],
) -> tuple[int, int, int]:
    """Write the words, at most four an event.

    Args:
        x: columns.
        y: rows.
        t_us: times.
        p: polarities.
        time: what a decoder has, 24 bits; -1 for nothing yet.
        row: the same.
        words: output.

    Returns:
        How many words, and the time and row after them.
    """
    count = 0
    i = 0
    while i < len(t_us):
        t = t_us[i] & 0xFFFFFF
        if time < 0 or t >> 12 != time >> 12:
            words[count] = EVT3_TIME_HIGH | (t >> 12)
            count += 1
            time = -1
        if t != time:
            words[count] = EVT3_TIME_LOW | (t & 0xFFF)
            count += 1
            time = t
        if y[i] != row:
            row = y[i]
            words[count] = EVT3_ADDR_Y | row
            count += 1
        sign = np.int64(p[i]) << 11
        end, mask = _vector(x, y, t_us, p, i, 12)
        if end - i >= VECTOR_WORTH:
            words[count] = EVT3_VECT_BASE_X | sign | x[i]
            words[count + 1] = EVT3_VECT_12 | mask
            count += 2
            i = end
        else:
            words[count] = EVT3_ADDR_X | sign | x[i]
            count += 1
            i += 1
    return count, time, row


@njit(nogil=True, cache=True)
def _encode_evt3_with_edges(  # noqa: PLR0913, PLR0917 - four columns, three of edges, the output
    x: npt.NDArray[np.uint16],
    y: npt.NDArray[np.uint16],
    t_us: npt.NDArray[np.int64],
    p: npt.NDArray[np.uint8],
    edge_at: npt.NDArray[np.int64],
    edge_us: npt.NDArray[np.int64],
    edge_words: npt.NDArray[np.uint16],
    words: npt.NDArray[np.uint16],
) -> int:
    """Write the words, at most four an event and three an edge; return how many."""
    count = begin = 0
    time = row = -1
    for edge in range(len(edge_at)):
        end = edge_at[edge]
        part = slice(begin, end)
        wrote, time, row = _encode_evt3(
            x[part], y[part], t_us[part], p[part], time, row, words[count:]
        )
        count += wrote
        begin = end
        t = edge_us[edge] & 0xFFFFFF
        if time < 0 or t >> 12 != time >> 12:
            words[count] = EVT3_TIME_HIGH | (t >> 12)
            count += 1
            time = -1
        if t != time:
            words[count] = EVT3_TIME_LOW | (t & 0xFFF)
            count += 1
            time = t
        words[count] = edge_words[edge]
        count += 1
    wrote, _, _ = _encode_evt3(
        x[begin:], y[begin:], t_us[begin:], p[begin:], time, row, words[count:]
    )
    return count + wrote


def holds_edges(triggers: Triggers, encoding: str) -> npt.NDArray[np.bool_]:
    """Tell of each edge whether an encoding has a word for it.

    ``evt3`` has for those of channels 0 .. 15, ``libcaer_cmp`` for none.
    """
    if ENCODINGS[encoding].encode_edges is None:
        return np.zeros(len(triggers), np.bool_)
    return (triggers.channel < CHANNEL_LIMIT) & (triggers.edge <= 1)


def _check_coordinates(events: Events, encoding: str) -> None:
    if not len(events):
        return
    largest = max(int(events.x.max()), int(events.y.max()))
    if largest >= COORDINATE_LIMIT:
        raise EncodingError(
            f"{encoding} holds coordinates 0 .. {COORDINATE_LIMIT - 1}, got {largest}"
        )


@dataclass(frozen=True)
class Encoding:
    """How to write one encoding.

    Attributes:
        encode: events and the packet's start to bytes.
        span_limit_us: longest packet.
        has_time_base: whether the message's ``time_base`` carries the packet's start.
        encode_edges: the same with trigger edges; None where the encoding has no word for them.
    """

    encode: Callable[[Events, int], bytes]
    span_limit_us: int
    has_time_base: bool
    encode_edges: Callable[[Events, int, Triggers], bytes] | None = None


ENCODINGS: Mapping[str, Encoding] = {
    "libcaer_cmp": Encoding(encode_libcaer_cmp, SPAN_LIMIT_US, has_time_base=True),
    "evt3": Encoding(encode_evt3, EVT3_SPAN_US, has_time_base=False, encode_edges=encode_evt3),
}


class Packetizer:
    """Cuts a stream of events into packets of equal duration, on a grid from its first event.

    A packet ends where the next event lies outside its span (also before it, when time steps
    back), so order is kept and every event is in exactly one packet. Spans without events give no
    packet, as a driver sends none.

    Trigger edges go into the packet of their time and change nothing for the events; those of a
    span without events have a packet of their own, and late ones go with the next packet.

    Args:
        packet_us: duration of a packet, 1 .. 2^24 microseconds (2^23 for ``evt3``).
        encoding: one of ``ENCODINGS``.

    Raises:
        EncodingError: unknown encoding, or ``packet_us`` lies outside its range.
    """

    def __init__(self, packet_us: int = PACKET_US, encoding: str = "libcaer_cmp") -> None:
        if encoding not in ENCODINGS:
            raise EncodingError(
                f"cannot write encoding '{encoding}'; available: {', '.join(ENCODINGS)}"
            )
        self._encoding = ENCODINGS[encoding]
        limit_us = self._encoding.span_limit_us
        if not 0 < packet_us <= limit_us:
            raise EncodingError(
                f"packet_us must lie in 1 .. {limit_us} for {encoding}, got {packet_us}"
            )
        self._packet_us = packet_us
        self._origin_us: int | None = None
        self._slot = 0
        self._held: list[Events] = []
        self._edges = EdgeQueue()
        self._sent_slot: int | None = None
        self._none = Events.empty(1, 1)

    def push(self, events: Events, triggers: Triggers | None = None) -> list[EncodedPacket]:
        """Take events and return the packets that they complete.

        Args:
            events: the next ones; may be empty.
            triggers: edges that came beside them, all of which ``holds_edges`` is true for.

        Raises:
            EncodingError: a coordinate or an edge does not fit into the format.
            ValueError: the frame size differs from that of events held back; ``flush`` first.
        """
        if triggers is not None and len(triggers):
            if self._encoding.encode_edges is None:
                raise EncodingError("this encoding has no word for trigger edges: leave them out")
            self._edges.put(triggers)
            self._none = events[:0]
        packets = self._push_events(events) if len(events) else []
        if len(self._edges) > WAITING_EDGES:
            packets += self._close_all()
        return packets

    def _push_events(self, events: Events) -> list[EncodedPacket]:
        if self._origin_us is None:
            self._origin_us = int(events.t_us[0])
        slots = self._slots(events.t_us)
        cuts = [0, *(np.flatnonzero(np.diff(slots)) + 1).tolist(), len(events)]
        packets = []
        for start, end in pairwise(cuts):
            if self._held and slots[start] != self._slot:
                packets += self._close()
            self._slot = int(slots[start])
            self._held.append(events[start:end])
        return packets

    def flush(self) -> list[EncodedPacket]:
        """Return the last packet, if any; the grid starts anew with the next event."""
        packets = self._close_all()
        self._origin_us = self._sent_slot = None
        return packets

    def _close_all(self) -> list[EncodedPacket]:
        packets = self._close() if self._held else []
        edges = self._edges.take_all()
        if len(edges):
            packets += self._alone(edges, self._target_slots(edges))
        return packets

    def _close(self) -> list[EncodedPacket]:
        """Encode the events held, and before them the edges that are due."""
        events = Events.concatenate(self._held)
        self._held = []
        slot = self._slot
        edges = self._edges.take_before(self._start_us(slot + 1)) if self._edges else None
        if edges is None or not len(edges):
            return [self._encoded(slot, events, Triggers.empty())]
        targets = self._target_slots(edges, slot)
        apart = np.flatnonzero(targets != slot)
        first = int(apart[-1]) + 1 if len(apart) else 0
        before = self._alone(select(edges, slice(first)), targets[:first])
        return [*before, self._encoded(slot, events, select(edges, slice(first, None)))]

    def _target_slots(self, edges: Triggers, last: int | None = None) -> npt.NDArray[np.int64]:
        """Choose slots that never fall, after what was sent, up to ``last``."""
        if self._origin_us is None:
            self._origin_us = int(edges.t_us[0])
        own = self._slots(edges.t_us)
        targets = np.maximum.accumulate(own)
        if self._sent_slot is not None:
            targets = np.maximum(targets, self._sent_slot + 1)
        if last is not None:
            targets = np.minimum(targets, last)
        # So late that no packet would hold it together with others: sent out of order.
        first_us = self._start_us(targets + 1) - self._encoding.span_limit_us
        return np.where(edges.t_us < first_us, own, targets)

    def _alone(self, edges: Triggers, slots: npt.NDArray[np.int64]) -> list[EncodedPacket]:
        """Encode edges of spans without events."""
        if not len(edges):
            return []
        cuts = [0, *(np.flatnonzero(np.diff(slots)) + 1).tolist(), len(edges)]
        return [
            self._encoded(int(slots[start]), self._none, select(edges, slice(start, end)))
            for start, end in pairwise(cuts)
        ]

    def _slots(self, t_us: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        assert self._origin_us is not None
        slots: npt.NDArray[np.int64] = (t_us - self._origin_us) // self._packet_us
        return slots

    def _start_us(self, slot: Any) -> Any:
        """Return when slots, one or an array of them, begin."""
        return self._origin_us + slot * self._packet_us

    def _encoded(self, slot: int, events: Events, edges: Triggers) -> EncodedPacket:
        start_us = int(self._start_us(slot))
        encode_edges = self._encoding.encode_edges
        if len(edges) and encode_edges is not None:
            payload = encode_edges(events, start_us, edges)
        else:
            payload = self._encoding.encode(events, start_us)
        self._sent_slot = slot
        return EncodedPacket(
            payload=payload,
            time_base_ns=start_us * 1000 if self._encoding.has_time_base else 0,
            start_us=start_us,
            end_us=start_us + self._packet_us,
            count=len(events),
            edges=len(edges),
            width=events.width,
            height=events.height,
        )


def events_to_packets(
    batches: Iterable[Events], *, packet_us: int = PACKET_US, encoding: str = "libcaer_cmp"
) -> Iterator[EncodedPacket]:
    """Encode a whole stream of one sensor's events; see ``Packetizer``."""
    packetizer = Packetizer(packet_us, encoding)
    for events in batches:
        yield from packetizer.push(events)
    yield from packetizer.flush()
