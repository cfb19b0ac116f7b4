"""Events to ``libcaer_cmp`` bytes, as a DAVIS driver sends them, cut into packets by time.

The format is a stream of little-endian 16-bit words, code in bits 15..12: 0 time bits 23..12,
1 time bits 11..0 (microseconds after the packet's ``time_base``), 2 column, 3 row and polarity
(emits an event), 4 base row and polarity, 5 mask of eight rows from the base (emits an event a set
bit). A decoder starts every packet with time 0 and no column, so packets stand alone.

Source: event_camera_codecs, libcaer_cmp_types.h. Differs from the driver's encoder: one packet has
one ``time_base``, and the time is the whole difference to it, so a packet may span up to 2^24 us
(the driver's is wrong after 65.536 ms and for packets joined from two).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import EncodingError

PACKET_US = 10_000
SPAN_LIMIT_US = 1 << 24
COORDINATE_LIMIT = 1 << 11

TIME_HIGH, TIME_LOW, ADDR_X, ADDR_Y, VECT_BASE_Y, VECT_8 = (code << 12 for code in range(6))
# Two words (base and mask) for up to eight events: cheaper than single rows from the third on.
VECTOR_WORTH = 3


@dataclass(frozen=True)
class EncodedPacket:
    """The events of one message.

    Attributes:
        payload: ``libcaer_cmp`` words.
        time_base_us: sensor time that the words count from.
        end_us: end of the packet's span, when a driver would send it.
        count: events in it.
        width: columns of the sensor.
        height: rows of the sensor.
    """

    payload: bytes
    time_base_us: int
    end_us: int
    count: int
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
    largest = max(int(events.x.max()), int(events.y.max()))
    if largest >= COORDINATE_LIMIT:
        raise EncodingError(
            f"libcaer_cmp holds coordinates 0 .. {COORDINATE_LIMIT - 1}, got {largest}"
        )
    words = np.empty(4 * len(events), np.uint16)
    count = _encode(events.x, events.y, events.t_us, events.p, np.int64(time_base_us), words)
    return words[:count].astype("<u2", copy=False).tobytes()


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
        mask = 1
        end = i + 1
        while (
            end < len(t_us)
            and t_us[end] == t_us[i]
            and x[end] == x[i]
            and p[end] == p[i]
            and y[end] > y[end - 1]
            and y[end] < y[i] + 8
        ):
            mask |= 1 << (y[end] - y[i])
            end += 1
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


class Packetizer:
    """Cuts a stream of events into packets of equal duration, on a grid from its first event.

    A packet ends where the next event lies outside its span (also before it, when time steps
    back), so order is kept and every event is in exactly one packet. Spans without events give no
    packet, as a driver sends none.

    Args:
        packet_us: duration of a packet, 1 .. 2^24 microseconds.

    Raises:
        EncodingError: ``packet_us`` lies outside that.
    """

    def __init__(self, packet_us: int = PACKET_US) -> None:
        if not 0 < packet_us <= SPAN_LIMIT_US:
            raise EncodingError(f"packet_us must lie in 1 .. {SPAN_LIMIT_US}, got {packet_us}")
        self._packet_us = packet_us
        self._origin_us: int | None = None
        self._slot = 0
        self._held: list[Events] = []

    def push(self, events: Events) -> list[EncodedPacket]:
        """Take events and return the packets that they complete.

        Raises:
            EncodingError: a coordinate does not fit into the format.
            ValueError: the frame size differs from that of events held back; ``flush`` first.
        """
        if not len(events):
            return []
        if self._origin_us is None:
            self._origin_us = int(events.t_us[0])
        slots = (events.t_us - self._origin_us) // self._packet_us
        edges = [0, *(np.flatnonzero(np.diff(slots)) + 1).tolist(), len(events)]
        packets = []
        for start, end in pairwise(edges):
            if self._held and slots[start] != self._slot:
                packets.append(self._close())
            self._slot = int(slots[start])
            self._held.append(events[start:end])
        return packets

    def flush(self) -> list[EncodedPacket]:
        """Return the last packet, if any; the grid starts anew with the next event."""
        packets = [self._close()] if self._held else []
        self._origin_us = None
        return packets

    def _close(self) -> EncodedPacket:
        assert self._origin_us is not None
        events = Events.concatenate(self._held)
        self._held = []
        base_us = self._origin_us + self._slot * self._packet_us
        payload = encode_libcaer_cmp(events, base_us)
        end_us = base_us + self._packet_us
        return EncodedPacket(payload, base_us, end_us, len(events), events.width, events.height)


def events_to_packets(
    batches: Iterable[Events], *, packet_us: int = PACKET_US
) -> Iterator[EncodedPacket]:
    """Encode a whole stream of one sensor's events; see ``Packetizer``."""
    packetizer = Packetizer(packet_us)
    for events in batches:
        yield from packetizer.push(events)
    yield from packetizer.flush()
