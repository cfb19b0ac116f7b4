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
    popcount,
    put,
    put_edge,
)
from evdistill_core.messages.cdr import Buffer

CD_OFF, CD_ON, TIME_HIGH, EXT_TRIGGER, OTHERS, CONTINUED = 0, 1, 8, 10, 14, 15
# Of EVT2.1: how many pixels a word has, and how many of them are written at once.
PIXELS, BYTE_LANES = 32, 8


class Evt2Decoder(TimeHighDecoder):
    """Decoder of ``evt2``; ignores ``time_base``."""

    encoding = "evt2"
    low_bits = 6

    def _decode(self, payload: Buffer, time_base_ns: int) -> Decoded:
        words = self._words(payload, np.uint32)
        columns = Columns.room(len(words))
        edges = Edges.room(_count_triggers(words))
        count, edge_count = decode_words(
            words, None, self._state, self._tally, self.width, self.height, columns, edges
        )
        return self._filled(columns, count, edges, edge_count)


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


@njit(nogil=True, cache=True, inline="always")
def split(word: int, swapped: bool) -> tuple[int, int]:
    """Return the two halves of a word of 64 bits: the address and the pixels."""
    whole: Any = np.uint64(word)
    upper: Any = np.int64(whole >> np.uint64(32))
    lower: Any = np.int64(whole & np.uint64(0xFFFFFFFF))
    return (lower, upper) if swapped else (upper, lower)


@njit(nogil=True, cache=True)
def decode_words(
    words: KernelArray,
    swapped: bool | None,
    state: KernelArray,
    tally: KernelArray,
    width: int,
    height: int,
    columns: Columns,
    edges: Edges,
) -> tuple[int, int]:
    """Decode EVT2 (words of 32 bits) or EVT2.1 (64 bits); return the counts of events and edges.

    An event of EVT2 is a word of EVT2.1 with one pixel. ``swapped`` is None for EVT2; numba then
    compiles a kernel of its own without the other branches, so neither pays for the other.
    """
    high, known, low = state[HIGH], state[HIGH_KNOWN], state[LOW]
    last_t, fresh = state[LAST_T], state[FRESH]
    unknown: Any = 0
    backward: Any = 0
    outside: Any = 0
    unsynced: Any = 0
    count: Any = 0
    edge_count = 0
    for i in range(words.size):
        if swapped is None:
            address: Any = np.int64(words[i])
            pixels: Any = 1
        else:
            address, pixels = split(words[i], swapped)
        code = address >> 28
        if code <= CD_ON:
            if not known:
                unsynced += popcount(pixels)
                continue
            low = (address >> 22) & 0x3F
            base = (address >> 11) & 0x7FF
            row = address & 0x7FF
            if base >= width or row >= height:
                outside += popcount(pixels)
                continue
            kept = pixels
            if swapped is not None:
                kept &= (1 << min(width - base, PIXELS)) - 1
                outside += popcount(pixels ^ kept)
                if kept == 0:
                    continue
            t = (high << 6) | low
            backward += t < last_t
            last_t = t
            if swapped is None:
                put(columns, count, base, row, t, code)
                count += 1
                continue
            while kept:
                # Eight lanes are written and those that are set are kept: no branches inside.
                if kept & 0xFF:
                    for lane in range(BYTE_LANES):
                        put(columns, count, base + lane, row, t, code)
                        count += (kept >> lane) & 1
                kept >>= BYTE_LANES
                base += BYTE_LANES
        elif code == TIME_HIGH:
            new = unwrapped(high, address & 0xFFFFFFF, fresh)
            if new != high:
                high = new
                low = 0
            fresh = 0
            known = 1
        elif code == EXT_TRIGGER:
            if known:
                low = (address >> 22) & 0x3F
                put_edge(edges, edge_count, (high << 6) | low, (address >> 8) & 0x1F, address & 1)
                edge_count += 1
            else:
                unsynced += 1
        elif code not in (OTHERS, CONTINUED):
            unknown += 1
    state[HIGH], state[HIGH_KNOWN], state[LOW] = high, known, low
    state[LAST_T], state[FRESH] = last_t, fresh
    add_tally(tally, unknown, backward, outside, unsynced)
    return int(count), edge_count
