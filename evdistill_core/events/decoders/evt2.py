"""EVT2: 32 bit words of Prophesee sensors, one event a word.

A word is an event (polarity in its code, the low 6 bits of the time, column, row), the upper 28
bits of the time, or an edge on the trigger input. The 34 bits of microseconds wrap after 4 h 46 min
and are unwrapped by the nearest value to the last one (half-range rule), as in EVT3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from evdistill_core.events.decoders.base import (
    FRESH,
    HIGH,
    HIGH_KNOWN,
    LAST_T,
    LOW,
    Columns,
    Decoded,
    Edges,
    KernelArray,
    TimeHighDecoder,
    add_tally,
    put,
    put_edge,
)
from evdistill_core.messages.cdr import Buffer

CD_OFF, CD_ON, TIME_HIGH, EXT_TRIGGER, OTHERS, CONTINUED = 0, 1, 8, 10, 14, 15


class Evt2Decoder(TimeHighDecoder):
    """Decoder of ``evt2``; ignores ``time_base``."""

    encoding = "evt2"
    low_bits = 6

    def _decode(self, payload: Buffer, time_base_ns: int) -> Decoded:
        words = self._words(payload, np.uint32)
        columns = Columns.room(len(words))
        edges = Edges.room(_count_triggers(words))
        count, edge_count = _decode(
            words, self._state, self._tally, self.width, self.height, columns, edges
        )
        return Decoded(
            columns.events(count, self.width, self.height),
            edges.triggers(edge_count),
            self._reached_us(),
        )


@njit(nogil=True, cache=True)
def _count_triggers(words: KernelArray) -> int:
    count = 0
    for i in range(words.size):
        count += (words[i] >> np.uint32(28)) == EXT_TRIGGER
    return count


@njit(nogil=True, cache=True, inline="always")
def unwrapped(high: int, word: int, fresh: int) -> int:
    """Return the 28 bit ``word`` with as many wraps as bring it nearest to ``high``."""
    if fresh:
        return word
    half = 1 << 27
    return high + ((word - high + half) & ((1 << 28) - 1)) - half


@njit(nogil=True, cache=True)
def _decode(
    words: KernelArray,
    state: KernelArray,
    tally: KernelArray,
    width: int,
    height: int,
    columns: Columns,
    edges: Edges,
) -> tuple[int, int]:
    high, known, low = state[HIGH], state[HIGH_KNOWN], state[LOW]
    last_t, fresh = state[LAST_T], state[FRESH]
    unknown: Any = 0
    backward: Any = 0
    outside: Any = 0
    unsynced: Any = 0
    count: Any = 0
    edge_count = 0
    for i in range(words.size):
        word: Any = np.int64(words[i])
        code = word >> 28
        if code <= CD_ON:
            column = (word >> 11) & 0x7FF
            row = word & 0x7FF
            if not known:
                unsynced += 1
                continue
            low = (word >> 22) & 0x3F
            if column >= width or row >= height:
                outside += 1
                continue
            t = (high << 6) | low
            backward += t < last_t
            last_t = t
            put(columns, count, column, row, t, code)
            count += 1
        elif code == TIME_HIGH:
            new = unwrapped(high, word & 0xFFFFFFF, fresh)
            if new != high:
                high = new
                low = 0
            fresh = 0
            known = 1
        elif code == EXT_TRIGGER:
            if known:
                low = (word >> 22) & 0x3F
                put_edge(edges, edge_count, (high << 6) | low, (word >> 8) & 0x1F, word & 1)
                edge_count += 1
            else:
                unsynced += 1
        elif code not in (OTHERS, CONTINUED):
            unknown += 1
    state[HIGH], state[HIGH_KNOWN], state[LOW] = high, known, low
    state[LAST_T], state[FRESH] = last_t, fresh
    add_tally(tally, unknown, backward, outside, unsynced)
    return int(count), edge_count
