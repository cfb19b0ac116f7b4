"""libcaer_cmp: 16 bit words that libcaer_driver packs DAVIS and DVXplorer events into.

Built like EVT3 with rows and columns exchanged, but every message stands alone: the time words
count from the message's ``time_base`` and start at zero.

The driver mis-times two cases (a message made of two packets of the sensor, a message longer than
65.5 ms): the times inside such a message run backwards by multiples of 4096 us. Nothing in the
bytes says by how much, so the events are given out as they are and every step back is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from evdistill_core.events.array import Triggers
from evdistill_core.events.decoders.base import (
    NO_TIME_YET,
    Columns,
    Decoded,
    DecodedRun,
    Decoder,
    KernelArray,
    add_tally,
    fill_lanes,
    joined_words,
    popcount,
    put,
)
from evdistill_core.messages.cdr import Buffer

TIME_HIGH, TIME_LOW, ADDR_X, ADDR_Y, VECT_BASE_Y, VECT_8 = range(6)
# A vector word writes all its lanes and then moves on by those that are set: no branches inside.
_LANES = 8


class LibcaerCmpDecoder(Decoder):
    """Decoder of ``libcaer_cmp``."""

    encoding = "libcaer_cmp"

    def _decode(self, payload: Buffer, time_base_ns: int) -> Decoded:
        words = self._words(payload, np.uint16)
        columns = Columns.room(_bound(words) + _LANES)
        count = _decode(
            words, time_base_ns // 1000, self._tally, self.width, self.height, columns, 0
        )
        return Decoded(columns.events(count, self.width, self.height), Triggers.empty())

    def _decode_run(
        self, payloads: Sequence[Buffer], time_bases_ns: Sequence[int]
    ) -> DecodedRun | None:
        words, ends = joined_words(payloads)
        columns = Columns.room(_bound(words) + _LANES)
        counts = np.empty(len(ends), np.int64)
        bases_us = np.array(time_bases_ns, np.int64) // 1000
        _decode_all(words, ends, bases_us, self._tally, self.width, self.height, columns, counts)
        found: list[int] = counts.tolist()
        events = columns.events(found[-1], self.width, self.height)
        return DecodedRun(events, found, [None] * len(found), 0)


@njit(nogil=True, cache=True)
def _bound(words: KernelArray) -> int:
    """Count events as if none were dropped."""
    events = 0
    for i in range(words.size):
        word: Any = np.int64(words[i])
        code = word >> 12
        events += (code == ADDR_Y) + (code == VECT_8) * popcount(word & 0xFF)
    return events


@njit(nogil=True, cache=True)
def _decode_all(
    words: KernelArray,
    ends: KernelArray,
    bases_us: KernelArray,
    tally: KernelArray,
    width: int,
    height: int,
    columns: Columns,
    counts: KernelArray,
) -> None:
    """Decode payload after payload; note how many events there are behind each."""
    start, count = 0, 0
    for k in range(len(ends)):
        part = words[start : ends[k]]
        count = _decode(part, bases_us[k], tally, width, height, columns, count)
        counts[k], start = count, ends[k]


@njit(nogil=True, cache=True)
def _decode(
    words: KernelArray,
    time_base_us: int,
    tally: KernelArray,
    width: int,
    height: int,
    columns: Columns,
    count: Any,
) -> int:
    """Decode a payload; its first event goes to place ``count``."""
    high: Any = 0
    low: Any = 0
    column: Any = 0
    base: Any = 0
    polarity: Any = 0
    column_known = False
    base_known = False
    t: Any = time_base_us
    last_t: Any = NO_TIME_YET
    unknown: Any = 0
    backward: Any = 0
    outside: Any = 0
    unsynced: Any = 0
    for i in range(words.size):
        word: Any = np.int64(words[i])
        code = word >> 12
        if code == ADDR_Y:
            row = word & 0x7FF
            if not column_known:
                unsynced += 1
            elif column >= width or row >= height:
                outside += 1
            else:
                backward += t < last_t
                last_t = t
                put(columns, count, column, row, t, (word >> 11) & 1)
                count += 1
        elif code == ADDR_X:
            column = word & 0x7FF
            column_known = True
        elif code == TIME_LOW:
            low = word & 0xFFF
            t = time_base_us + ((high << 12) | low)
        elif code == TIME_HIGH:
            high = word & 0xFFF
            t = time_base_us + ((high << 12) | low)
        elif code == VECT_BASE_Y:
            base = word & 0x7FF
            polarity = (word >> 11) & 1
            base_known = True
        elif code == VECT_8:
            mask = word & 0xFF
            if not (column_known and base_known):
                unsynced += popcount(mask)
            else:
                inside = min(max(height - base, 0), _LANES) if column < width else 0
                kept = mask & ((1 << inside) - 1)
                outside += popcount(mask ^ kept)
                if kept:
                    backward += t < last_t
                    last_t = t
                    fill_lanes(columns, columns.x, count, _LANES, column, t, polarity)
                    for lane in range(_LANES):
                        columns.y[np.uintp(count)] = base + lane
                        count += (kept >> lane) & 1
            base += _LANES
        else:
            unknown += 1
    add_tally(tally, unknown, backward, outside, unsynced)
    return int(count)
