"""mono and trigger: 64 bit words of older recordings, nanoseconds from ``time_base``.

Both hold the time in bits 31..0. ``mono``: x in bits 47..32, y in bits 62..48, polarity in bit 63.
``trigger``: id in bits 62..48, edge in bit 63. Messages stand alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.decoders.base import (
    NO_TIME_YET,
    UNKNOWN,
    Columns,
    Decoded,
    Decoder,
    KernelArray,
    add_tally,
    put,
)
from evdistill_core.messages.cdr import Buffer


class MonoDecoder(Decoder):
    """Decoder of ``mono``."""

    encoding = "mono"

    def _decode(self, payload: Buffer, time_base_ns: int) -> Decoded:
        words = self._words(payload, np.uint64)
        columns = Columns.room(len(words))
        count = _decode_mono(words, time_base_ns, self._tally, self.width, self.height, columns)
        return Decoded(columns.events(count, self.width, self.height), Triggers.empty())


class TriggerDecoder(Decoder):
    """Decoder of ``trigger``: messages with edges and no events."""

    encoding = "trigger"

    def _decode(self, payload: Buffer, time_base_ns: int) -> Decoded:
        words = np.asarray(self._words(payload, np.uint64), np.uint64)
        channel = (words >> np.uint64(48)) & np.uint64(0x7FFF)
        known = channel < 256
        self._tally[UNKNOWN] += np.count_nonzero(~known)
        words, channel = words[known], channel[known]
        t_us = (time_base_ns + (words & np.uint64(0xFFFFFFFF)).astype(np.int64)) // 1000
        edge = (words >> np.uint64(63)).astype(np.uint8)
        triggers = Triggers(t_us, channel.astype(np.uint8), edge)
        return Decoded(Events.empty(self.width, self.height), triggers)


@njit(nogil=True, cache=True)
def _decode_mono(
    words: KernelArray,
    time_base_ns: int,
    tally: KernelArray,
    width: int,
    height: int,
    columns: Columns,
) -> int:
    base_us = time_base_ns // 1000
    base_rest_ns = np.uint64(time_base_ns % 1000)
    last_t: Any = NO_TIME_YET
    backward: Any = 0
    outside: Any = 0
    count: Any = 0
    for i in range(words.size):
        word: Any = words[i]
        polarity: Any = np.int64(word >> np.uint64(63))
        column: Any = np.int64((word >> np.uint64(32)) & np.uint64(0xFFFF))
        row: Any = np.int64((word >> np.uint64(48)) & np.uint64(0x7FFF))
        if column >= width or row >= height:
            outside += 1
            continue
        # Unsigned, because the compiler divides those by a constant much faster.
        offset_ns = (word & np.uint64(0xFFFFFFFF)) + base_rest_ns
        t: Any = base_us + np.int64(offset_ns // np.uint64(1000))
        backward += t < last_t
        last_t = t
        put(columns, count, column, row, t, polarity)
        count += 1
    add_tally(tally, 0, backward, outside, 0)
    return int(count)
