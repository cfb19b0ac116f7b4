"""EVT3: 16 bit words of Prophesee sensors, with state that crosses messages.

Every word changes the state (row, column base, time) or emits events. Decoded word by word:
incomplete vector groups occur, and a decoder that expects the full pattern swallows time words.

Time has 24 bits of microseconds and no epoch; it is unwrapped by the nearest value to the last
one (half-range rule), so a damaged time word moves a few events and heals with the next word. A
change of the upper half starts the lower half at zero, as the sensor does: keeping the old lower
half, as other decoders do, puts the events in between up to 4 ms into the future.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from evdistill_core.events.decoders.base import (
    FRESH,
    HIGH,
    HIGH_KNOWN,
    LAST_T,
    LOW,
    NO_TIME_YET,
    Columns,
    Decoded,
    DecodedRun,
    Edges,
    KernelArray,
    TimeHighDecoder,
    add_tally,
    fill_lanes,
    joined_words,
    popcount,
    put,
    put_edge,
)
from evdistill_core.messages.cdr import Buffer

ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8 = 0, 2, 3, 4, 5
TIME_LOW, TIME_HIGH, EXT_TRIGGER = 6, 8, 10
CONTINUED_4, IMU, OTHERS, CONTINUED_12 = 7, 13, 14, 15
PADDING_WORD = 0x9999  # sent by a Lucid camera to fill its buffers

# Places in the state array, behind those that TimeHighDecoder has.
TIME_KNOWN, Y, Y_KNOWN, BASE, BASE_KNOWN, POLARITY = range(5, 11)
# A vector word writes all its lanes and then moves on by those that are set: no branches inside.
_LANES = 12


class Evt3Decoder(TimeHighDecoder):
    """Decoder of ``evt3``; ignores ``time_base`` (the driver writes none)."""

    encoding = "evt3"
    low_bits = 12
    lost_in_a_gap = (HIGH_KNOWN, TIME_KNOWN, Y_KNOWN, BASE_KNOWN)
    state_size = 11

    def _decode(self, payload: Buffer, time_base_ns: int) -> Decoded:
        words = self._words(payload, np.uint16)
        event_bound, trigger_bound = _bounds(words)
        columns = Columns.room(event_bound + _LANES)
        edges = Edges.room(trigger_bound)
        count, edge_count = _decode(
            words, self._state, self._tally, self.width, self.height, columns, edges, 0, 0
        )
        return self._filled(columns, count, edges, edge_count)

    def _decode_run(
        self, payloads: Sequence[Buffer], time_bases_ns: Sequence[int]
    ) -> DecodedRun | None:
        words, ends = joined_words(payloads)
        event_bound, trigger_bound = _bounds(words)
        columns = Columns.room(event_bound + _LANES)
        edges = Edges.room(trigger_bound)
        counts, reached_us = np.empty(len(ends), np.int64), np.empty(len(ends), np.int64)
        triggers = _decode_all(
            words, ends, self._state, self._tally, self.width, self.height, columns, edges,
            counts, reached_us,
        )  # fmt: skip
        found: list[int] = counts.tolist()
        return DecodedRun(
            columns.events(found[-1], self.width, self.height),
            found,
            [t_us if t_us != NO_TIME_YET else None for t_us in reached_us.tolist()],
            int(triggers),
        )

    def _reached_us(self) -> int | None:
        return super()._reached_us() if self._state[TIME_KNOWN] else None


@njit(nogil=True, cache=True)
def _bounds(words: KernelArray) -> tuple[int, int]:
    """Return how many events and triggers there can be at most.

    Only vectors are told apart: the exact number takes three times as long, and room that is not
    written to is not taken from the machine.
    """
    vectors = 0
    triggers = 0
    for i in range(words.size):
        word: Any = np.int64(words[i])
        vectors += (word & 0xE000) == VECT_12 << 12
        triggers += (word & 0xF000) == EXT_TRIGGER << 12
    return words.size + (_LANES - 1) * vectors, triggers


@njit(nogil=True, cache=True)
def _decode_all(
    words: KernelArray,
    ends: KernelArray,
    state: KernelArray,
    tally: KernelArray,
    width: int,
    height: int,
    columns: Columns,
    edges: Edges,
    counts: KernelArray,
    reached_us: KernelArray,
) -> int:
    """Decode payload after payload; note events and time behind each, return the triggers."""
    start, count, edge_count = 0, 0, 0
    for k in range(len(ends)):
        part = words[start : ends[k]]
        count, edge_count = _decode(
            part, state, tally, width, height, columns, edges, count, edge_count
        )
        counts[k], start = count, ends[k]
        is_known = state[HIGH_KNOWN] and state[TIME_KNOWN]
        reached_us[k] = (state[HIGH] << 12) | state[LOW] if is_known else NO_TIME_YET
    return edge_count


@njit(nogil=True, cache=True)
def _decode(
    words: KernelArray,
    state: KernelArray,
    tally: KernelArray,
    width: int,
    height: int,
    columns: Columns,
    edges: Edges,
    count: Any,
    edge_count: Any,
) -> tuple[int, int]:
    """Decode a payload; its events and edges go to the places ``count`` and ``edge_count``."""
    high, low, row = state[HIGH], state[LOW], state[Y]
    high_known, time_known = state[HIGH_KNOWN], state[TIME_KNOWN]
    row_known, base_known = state[Y_KNOWN], state[BASE_KNOWN]
    base, polarity, last_t, fresh = state[BASE], state[POLARITY], state[LAST_T], state[FRESH]
    t = (high << 12) | low
    unknown: Any = 0
    backward: Any = 0
    outside: Any = 0
    unsynced: Any = 0
    for i in range(words.size):
        word: Any = np.int64(words[i])
        code = word >> 12
        if code == ADDR_X:
            column = word & 0x7FF
            if not (time_known and row_known):
                unsynced += 1
            elif column >= width or row >= height:
                outside += 1
            else:
                backward += t < last_t
                last_t = t
                put(columns, count, column, row, t, (word >> 11) & 1)
                count += 1
        elif code in (VECT_12, VECT_8):
            lanes = 12 if code == VECT_12 else 8
            mask = word & ((1 << lanes) - 1)
            if not (time_known and row_known and base_known):
                unsynced += popcount(mask)
            else:
                inside = min(max(width - base, 0), lanes) if row < height else 0
                kept = mask & ((1 << inside) - 1)
                outside += popcount(mask ^ kept)
                if kept:
                    backward += t < last_t
                    last_t = t
                    fill_lanes(columns, columns.y, count, _LANES, row, t, polarity)
                    for lane in range(_LANES):
                        columns.x[np.uintp(count)] = base + lane
                        count += (kept >> lane) & 1
            base += lanes
        elif code == ADDR_Y:
            row = word & 0x7FF
            row_known = 1
        elif code == TIME_LOW:
            low = word & 0xFFF
            time_known = high_known
            t = (high << 12) | low
        elif code == TIME_HIGH:
            step = word & 0xFFF
            if not fresh:
                step = ((step - high + 2048) & 0xFFF) - 2048
            if step != 0:
                high += step
                low = 0
                t = high << 12
            fresh = 0
            high_known = 1
        elif code == VECT_BASE_X:
            base = word & 0x7FF
            polarity = (word >> 11) & 1
            base_known = 1
        elif code == EXT_TRIGGER:
            if time_known:
                put_edge(edges, edge_count, t, (word >> 8) & 0xF, word & 1)
                edge_count += 1
            else:
                unsynced += 1
        elif code not in (OTHERS, CONTINUED_4, CONTINUED_12, IMU) and word != PADDING_WORD:
            unknown += 1
    state[HIGH], state[LOW], state[Y] = high, low, row
    state[HIGH_KNOWN], state[TIME_KNOWN] = high_known, time_known
    state[Y_KNOWN], state[BASE_KNOWN] = row_known, base_known
    state[BASE], state[POLARITY], state[LAST_T], state[FRESH] = base, polarity, last_t, fresh
    add_tally(tally, unknown, backward, outside, unsynced)
    return int(count), edge_count
