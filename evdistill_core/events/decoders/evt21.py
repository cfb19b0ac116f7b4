"""EVT2.1: 64 bit words of Prophesee sensors, up to 32 pixels of a row in one.

The upper half is a word of EVT2 (code, time, column, row), the lower half says which of the 32
pixels from that column on changed. Some sensors (IMX636) send the two halves exchanged, others
(GenX320) do not, and messages do not tell. Words without pixels (time, triggers) have a lower half
of zero, so the stream itself shows the order: until it has, its words are held back, not lost.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numba import njit

from evdistill_core.events.decoders.base import (
    UNSYNCED,
    Columns,
    Decoded,
    Edges,
    KernelArray,
    TimeHighDecoder,
    popcount,
)
from evdistill_core.events.decoders.evt2 import (
    BYTE_LANES,
    CD_ON,
    CONTINUED,
    EXT_TRIGGER,
    OTHERS,
    PIXELS,
    TIME_HIGH,
    decode_words,
    split,
)
from evdistill_core.messages.cdr import Buffer

#: ``upper``: the upper half of the 64 bits holds the address; ``lower``: exchanged ("legacy").
HalfOrder = Literal["detect", "upper", "lower"]
# Two time words, or some ten words of pixels, settle the order: no single damaged word can.
_DECIDED = 16
_TIME_VOTE = 8
# More undecided words than a millisecond of a sensor at full speed: noise, the better guess wins.
_MAX_HELD = 65_536


class Evt21Decoder(TimeHighDecoder):
    """Decoder of ``evt21``; ignores ``time_base``.

    Args:
        width: columns of the sensor, 1..4096.
        height: rows of the sensor, 1..4096.
        half_order: where the address lies; ``detect`` finds out from the stream.
    """

    encoding = "evt21"
    low_bits = 6

    def __init__(self, *, width: int, height: int, half_order: HalfOrder = "detect") -> None:
        self._told = half_order
        self._order: HalfOrder = half_order
        self._held = np.empty(0, np.uint64)
        self._votes = 0
        super().__init__(width=width, height=height)

    @property
    def half_order(self) -> HalfOrder:
        """What was told or found; ``detect`` while the stream has not shown it."""
        return self._order

    def finish(self) -> Decoded:
        """Decode what is held back, by the better guess: the stream has ended."""
        if self._order == "detect":
            self._order = "upper" if self._votes >= 0 else "lower"
        held, self._held = self._held, self._held[:0]
        return self.decode(held.astype("<u8").tobytes(), 0)

    def reset(self) -> None:
        """Forget the stream, its wraps and its order of halves (unless that was told)."""
        super().reset()
        self._order = self._told
        self._held = np.empty(0, np.uint64)
        self._votes = 0

    def invalidate(self, elapsed_us: int | None = None) -> None:
        """Wait for the upper half of the time again; what was held back is given up."""
        super().invalidate(elapsed_us)
        self._tally[UNSYNCED] += len(self._held)
        self._held = self._held[:0]

    def _decode(self, payload: Buffer, time_base_ns: int) -> Decoded:
        words = self._words(payload, np.uint64)
        if self._order == "detect":
            self._votes = _vote(words, self._votes, self.width, self.height)
            words = np.concatenate([self._held, words])
            if abs(self._votes) < _DECIDED and len(words) < _MAX_HELD:
                self._held = words
                words = words[:0]
            else:
                self._order = "upper" if self._votes >= 0 else "lower"
                self._held = words[:0]
        swapped = self._order == "lower"
        event_bound, trigger_bound = _bounds(words, swapped)
        columns = Columns.room(event_bound + BYTE_LANES)
        edges = Edges.room(trigger_bound)
        count, edge_count = decode_words(
            words, swapped, self._state, self._tally, self.width, self.height, columns, edges
        )
        return self._filled(columns, count, edges, edge_count)


@njit(nogil=True, cache=True, inline="always")
def _plausible(address: int, pixels: int, width: int, height: int) -> int:
    """Return how well a word reads in one order, below zero when it cannot be."""
    code = address >> 28
    if code <= CD_ON:
        column = (address >> 11) & 0x7FF
        if column >= width or (address & 0x7FF) >= height or pixels == 0:
            return -2
        return 2 if column % PIXELS == 0 else 1
    if code in (TIME_HIGH, EXT_TRIGGER):
        return 1
    return 0 if code in (OTHERS, CONTINUED) else -2


@njit(nogil=True, cache=True)
def _vote(words: KernelArray, votes: int, width: int, height: int) -> int:
    """Add up the evidence word by word until it decides; above zero speaks for ``upper``."""
    for i in range(words.size):
        upper, lower = split(words[i], False)
        if lower == 0 and upper >> 28 in (TIME_HIGH, EXT_TRIGGER):
            votes += _TIME_VOTE
        elif upper == 0 and lower >> 28 in (TIME_HIGH, EXT_TRIGGER):
            votes -= _TIME_VOTE
        else:
            votes += _plausible(upper, lower, width, height)
            votes -= _plausible(lower, upper, width, height)
        if abs(votes) >= _DECIDED:
            return votes
    return votes


@njit(nogil=True, cache=True)
def _bounds(words: KernelArray, swapped: bool) -> tuple[int, int]:
    """Count events and triggers as if none were dropped."""
    events = 0
    triggers = 0
    for i in range(words.size):
        address, pixels = split(words[i], swapped)
        code = address >> 28
        events += (code <= CD_ON) * popcount(pixels)
        triggers += code == EXT_TRIGGER
    return events, triggers
