"""libcaer: the 64 bit events of iniVation's library, as they are.

Bit 0 valid, bit 1 polarity, y in bits 16..2, x in bits 31..17, then 31 bits of microseconds that
count from the message's ``time_base``. Messages stand alone; inside one the time may wrap once
(35 minutes), which the half-range rule tells from a step backwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from evdistill_core.events.array import Triggers
from evdistill_core.events.decoders.base import (
    NO_TIME_YET,
    Columns,
    Decoded,
    Decoder,
    KernelArray,
    add_tally,
    put,
)
from evdistill_core.messages.cdr import Buffer


class LibcaerDecoder(Decoder):
    """Decoder of ``libcaer``."""

    encoding = "libcaer"

    def _decode(self, payload: Buffer, time_base_ns: int) -> Decoded:
        words = self._words(payload, np.uint64)
        columns = Columns.room(len(words))
        count = _decode(words, time_base_ns // 1000, self._tally, self.width, self.height, columns)
        return Decoded(columns.events(count, self.width, self.height), Triggers.empty())


@njit(nogil=True, cache=True)
def _decode(
    words: KernelArray,
    time_base_us: int,
    tally: KernelArray,
    width: int,
    height: int,
    columns: Columns,
) -> int:
    wraps: Any = 0
    last_stamp: Any = np.int64(-1)
    last_t: Any = NO_TIME_YET
    unknown: Any = 0
    backward: Any = 0
    outside: Any = 0
    count: Any = 0
    for i in range(words.size):
        word: Any = np.int64(words[i])
        stamp = word >> 32
        if not word & 1 or stamp < 0:
            unknown += 1
            continue
        if last_stamp >= 0:
            step = stamp - last_stamp
            if step < -(1 << 30):
                wraps += 1
            elif step >= 1 << 30 and wraps > 0:
                wraps -= 1
        last_stamp = stamp
        column = (word >> 17) & 0x7FFF
        row = (word >> 2) & 0x7FFF
        if column >= width or row >= height:
            outside += 1
            continue
        t = time_base_us + (wraps << 31) + stamp
        backward += t < last_t
        last_t = t
        put(columns, count, column, row, t, (word >> 1) & 1)
        count += 1
    add_tally(tally, unknown, backward, outside, 0)
    return int(count)
