"""ECF, the compression of Prophesee's HDF5 files: one chunk of events to columns.

A chunk is a number of events and two flags, the times, and the places in one of three ways. All are
runs: a value, and how often it comes. Every read is inside the bytes, or the chunk is damaged.

- 4 bytes: number of events << 2, flag 2: rows, columns and polarities are packed together, flag 1:
  columns and polarities are.
- Times: 8 bytes of the first one, then bytes of a step (upper four bits) and a count (lower four).
  Count 15 is followed by 2 bytes of count. Step 15 is no event: its lower four bits are a part of a
  longer step, lowest part first, up to the next byte that has another step.
- Rows: words of row << 5 | count; count 31 is followed by a word of count.
- Columns: words of column << 5 | mask, of which bit 4 - j stands for an event at column + j + 1; or
  four of column << 1 | polarity, 12 bits each, in 3 words of 16 bits. Of a number that lies in two
  words the lower bits are at the end of the first, the upper ones at the beginning of the second.
- Polarities: bytes of polarity << 7 | count; count 127 is followed by 2 bytes of count.
- All together: four of row << 12 | column << 1 | polarity, 24 bits each, in 3 words of 32 bits,
  split in the same manner.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.decoders.base import KernelArray
from evdistill_core.foundation.errors import RecordingError

#: number of the filter in HDF5 files
ECF_FILTER = 0x8ECF
MAX_EVENTS = 65_535
#: a group of events may reach so far behind the last one
_SPARE = 6
_DAMAGED = -1
Array = npt.NDArray[Any]


def decode_ecf(data: bytes) -> tuple[Array, Array, Array, Array]:
    """Return t_us (int64), x, y (uint16) and p (uint8) of a chunk.

    Raises:
        RecordingError: it is damaged.
    """
    octets = np.frombuffer(data, np.uint8)
    head = int.from_bytes(data[:4], "little")
    count = head >> 2
    if len(data) < 4 or count > MAX_EVENTS:
        raise RecordingError(f"an ECF chunk claims {count} events in {len(data)} bytes: damaged")
    t_us = np.zeros(count, np.int64)
    x, y = np.zeros(count + _SPARE, np.uint16), np.zeros(count + _SPARE, np.uint16)
    p = np.zeros(count + _SPARE, np.uint8)
    at = _times(octets, 4, t_us) if count else 4
    if at > 0 and head & 2:
        at = _packed(octets, at, count, x, y, p)
    elif at > 0 and count:
        at = _rows(octets, at, count, y)
        if at > 0 and head & 1:
            at = _packed_columns(octets, at, count, x, p)
        elif at > 0:
            at = _columns(octets, at, count, x)
            at = _polarities(octets, at, count, p) if at > 0 else at
    if at == _DAMAGED:
        raise RecordingError(f"an ECF chunk of {count} events is damaged or cut off")
    return t_us, x[:count], y[:count], p[:count]


@njit(nogil=True, cache=True, inline="always")
def _word(data: KernelArray, at: int) -> int:
    word: Any = np.int64(data[at]) | np.int64(data[at + 1]) << 8
    return word  # type: ignore[no-any-return]


@njit(nogil=True, cache=True)
def _times(data: KernelArray, at: int, t_us: KernelArray) -> int:
    if at + 8 > data.size:
        return _DAMAGED
    t: Any = 0
    for j in range(8):
        t |= np.int64(data[at + j]) << (8 * j)
    at += 8
    done: Any = 0
    while done < t_us.size:
        if at >= data.size:
            return _DAMAGED
        step: Any = np.int64(data[at]) >> 4
        count: Any = np.int64(data[at]) & 15
        at += 1
        if step == 15:
            longer = count
            shift = 4
            while at < data.size and data[at] >> 4 == 15 and shift < 64:
                longer |= (np.int64(data[at]) & 15) << shift
                shift += 4
                at += 1
            t += longer
            continue
        if count == 15:
            if at + 2 > data.size:
                return _DAMAGED
            count = _word(data, at)
            at += 2
        t += step
        if done + count > t_us.size:
            return _DAMAGED
        t_us[done : done + count] = t
        done += count
    return at


@njit(nogil=True, cache=True)
def _rows(data: KernelArray, at: int, total: int, y: KernelArray) -> int:
    done: Any = 0
    while done < total:
        if at + 2 > data.size:
            return _DAMAGED
        row = _word(data, at) >> 5
        count: Any = _word(data, at) & 31
        at += 2
        if count == 31:
            if at + 2 > data.size:
                return _DAMAGED
            count = _word(data, at)
            at += 2
        if done + count > total:
            return _DAMAGED
        y[done : done + count] = row
        done += count
    return at


@njit(nogil=True, cache=True)
def _columns(data: KernelArray, at: int, total: int, x: KernelArray) -> int:
    done: Any = 0
    while done < total:
        if at + 2 > data.size:
            return _DAMAGED
        column = _word(data, at) >> 5
        mask = _word(data, at) & 31
        at += 2
        x[done] = column
        done += 1
        for j in range(5):
            if mask >> (4 - j) & 1:
                x[done] = column + j + 1
                done += 1
    return at


@njit(nogil=True, cache=True)
def _polarities(data: KernelArray, at: int, total: int, p: KernelArray) -> int:
    done: Any = 0
    while done < total:
        if at >= data.size:
            return _DAMAGED
        polarity = data[at] >> 7
        count: Any = np.int64(data[at]) & 127
        at += 1
        if count == 127:
            if at + 2 > data.size:
                return _DAMAGED
            count = _word(data, at)
            at += 2
        if done + count > total:
            return _DAMAGED
        p[done : done + count] = polarity
        done += count
    return at


@njit(nogil=True, cache=True)
def _packed_columns(data: KernelArray, at: int, total: int, x: KernelArray, p: KernelArray) -> int:
    for first in range(0, total, 4):
        if at + 6 > data.size:
            return _DAMAGED
        # The lowest bits of a number stand in the word before its highest ones.
        a, b, c = _word(data, at), _word(data, at + 2), _word(data, at + 4)
        four = (a >> 4, (a & 0xF) | (b >> 8) << 4, (b & 0xFF) | (c >> 12) << 8, c & 0xFFF)
        for j in range(4):
            x[first + j] = four[j] >> 1
            p[first + j] = four[j] & 1
        at += 6
    return at


@njit(nogil=True, cache=True)
def _packed(  # noqa: PLR0913, PLR0917 - bytes, a place and three outputs
    data: KernelArray, at: int, total: int, x: KernelArray, y: KernelArray, p: KernelArray
) -> int:
    for first in range(0, total, 4):
        if at + 12 > data.size:
            return _DAMAGED
        a = _word(data, at) | _word(data, at + 2) << 16
        b = _word(data, at + 4) | _word(data, at + 6) << 16
        c = _word(data, at + 8) | _word(data, at + 10) << 16
        four = (
            a >> 8,
            (a & 0xFF) | (b >> 16) << 8,
            (b & 0xFFFF) | (c >> 24) << 16,
            c & 0xFFFFFF,
        )
        for j in range(4):
            y[first + j] = four[j] >> 12 & 0x7FF
            x[first + j] = four[j] >> 1 & 0x7FF
            p[first + j] = four[j] & 1
        at += 12
    return at
