"""The EventArray family: unpacks serialized ``Event[]`` elements without an object per event."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events
from evdistill_core.events.decoders.base import (
    NO_TIME_YET,
    Columns,
    KernelArray,
    add_tally,
    put,
)
from evdistill_core.messages.event_messages import EVENT_STRIDE, EventBlock

_BIG_ENDIAN_RECORD = np.dtype(
    {
        "names": ["x", "y", "sec", "nanosec", "polarity"],
        "formats": [">u2", ">u2", ">i4", ">u4", "u1"],
        "offsets": [0, 2, 6, 10, 14],
        "itemsize": EVENT_STRIDE,
    }
)


def decode_event_array(
    block: EventBlock, tally: npt.NDArray[np.int64], *, width: int, height: int
) -> Events:
    """Unpack the events of one EventArray.

    Args:
        block: as parsed; not modified.
        tally: (4,) counts as decoders keep them; out-of-frame events and backward times are added.
        width: columns of the sensor.
        height: rows of the sensor.
    """
    if block.count == 0:
        return Events.empty(width, height)
    data = block.data if block.little_endian else _swapped(block)
    octets = np.frombuffer(data, np.uint8)
    words = octets[: 4 * (len(octets) // 4)].view("<u4")
    if not words.flags.aligned:
        words = words.copy()
    words.flags.writeable = False
    columns = Columns.room(block.count)
    count = _unpack(words, int(octets[-1]), block.count, tally, width, height, columns)
    return columns.events(count, width, height)


def _swapped(block: EventBlock) -> memoryview:
    """Return big endian elements as little endian ones (rare, so plain NumPy)."""
    raw = np.zeros(EVENT_STRIDE * block.count, np.uint8)
    raw[2:-1] = np.frombuffer(block.data, np.uint8)
    records = raw.view(_BIG_ENDIAN_RECORD)
    first = np.frombuffer(block.data, ">u2", 2)
    x, y = records["x"].astype(np.uint16), records["y"].astype(np.uint16)
    x[0], y[0] = first
    t_ns = records["sec"].astype(np.int64) * 1_000_000_000 + records["nanosec"]
    return memoryview(EventBlock.pack(x, y, t_ns, records["polarity"]).data)


@njit(nogil=True, cache=True)
def _unpack(
    words: KernelArray,
    last_polarity: int,
    total: int,
    tally: KernelArray,
    width: int,
    height: int,
    columns: Columns,
) -> int:
    """Read 32 bit words: [x0 y0] sec nsec [p0 . x1] [y1 . .] sec nsec [p1 . x2] [y2 . .] ...

    Every event is stored and the place only moves on when it lies in the frame, so that nothing
    but the rare event outside costs a mispredicted branch.
    """
    last_t: Any = NO_TIME_YET
    backward = 0
    count: Any = np.uintp(0)
    column = words[0] & np.uint32(0xFFFF)
    row = words[0] >> np.uint32(16)
    for k in range(total):
        at = np.uintp(4 * k)
        seconds = np.int64(np.int32(words[at + np.uintp(1)]))
        t: Any = seconds * 1_000_000 + np.int64(words[at + np.uintp(2)] // np.uint32(1000))
        if k < total - 1:
            tail, following = words[at + np.uintp(3)], words[at + np.uintp(4)]
        else:
            tail, following = np.uint32(last_polarity), np.uint32(0)
        put(columns, count, column, row, t, (tail & np.uint32(0xFF)) != 0)
        if column < np.uint32(width) and row < np.uint32(height):
            backward += t < last_t
            last_t = t
            count += np.uintp(1)
        column = tail >> np.uint32(16)
        row = following & np.uint32(0xFFFF)
    add_tally(tally, 0, backward, total - int(count), 0)
    return int(count)
