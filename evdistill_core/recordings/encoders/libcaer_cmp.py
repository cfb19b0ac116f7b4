"""Events to ``libcaer_cmp`` bytes, as the DAVIS and DVXplorer drivers send them.

A stream of little-endian 16-bit words, code in bits 15..12: 0 time bits 23..12, 1 time bits 11..0
(microseconds after the packet's ``time_base``), 2 column, 3 row and polarity (emits an event),
4 base row and polarity, 5 mask of eight rows from the base (emits an event a set bit). A decoder
starts every packet with time 0 and no column, so packets stand alone.

Source: event_camera_codecs, libcaer_cmp_types.h. Differs from the driver's encoder: one packet has
one ``time_base``, and the time is the whole difference to it, so a packet may span up to 2^24 us
(the driver's is wrong after 65.536 ms and for packets joined from two).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import EncodingError
from evdistill_core.recordings.encoders.words import VECTOR_WORTH, check_coordinates, vector_of

SPAN_LIMIT_US = 1 << 24
TIME_HIGH, TIME_LOW, ADDR_X, ADDR_Y, VECT_BASE_Y, VECT_8 = (code << 12 for code in range(6))


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
    check_coordinates(events, "libcaer_cmp")
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
        end, mask = vector_of(y, x, t_us, p, i, 8)
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
