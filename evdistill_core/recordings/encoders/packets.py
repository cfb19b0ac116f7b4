"""A stream of events cut into packets by time, in the encodings that drivers send."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import EncodingError
from evdistill_core.recordings.encoders import evt3, libcaer_cmp
from evdistill_core.recordings.encoders.edge_queue import EdgeQueue, select

PACKET_US = 10_000
#: Edges that may wait for events to come so far; then they go on without them.
WAITING_EDGES = 1 << 16


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
    "libcaer_cmp": Encoding(
        libcaer_cmp.encode_libcaer_cmp, libcaer_cmp.SPAN_LIMIT_US, has_time_base=True
    ),
    "evt3": Encoding(
        evt3.encode_evt3, evt3.SPAN_LIMIT_US, has_time_base=False, encode_edges=evt3.encode_evt3
    ),
}


def holds_edges(triggers: Triggers, encoding: str) -> npt.NDArray[np.bool_]:
    """Tell of each edge whether an encoding has a word for it.

    ``evt3`` has for those of channels 0 .. 15, ``libcaer_cmp`` for none.
    """
    if ENCODINGS[encoding].encode_edges is None:
        return np.zeros(len(triggers), np.bool_)
    return evt3.has_word_for(triggers)


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
        """Return the last packet, if any; the grid restarts with the next event."""
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
