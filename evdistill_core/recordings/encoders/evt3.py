"""Events and trigger edges to ``evt3`` bytes, as Prophesee's sensors send them.

A stream of little-endian 16-bit words, code in bits 15..12: 0 row, 2 column and polarity (emits an
event), 3 base column and polarity, 4 mask of twelve columns (emits an event a set bit), 6 the lower
and 8 the upper half of the time, 10 an edge on the trigger input (channel in bits 11..8, rising in
bit 0). Time has 24 bits and no base: events come back with times that differ by a whole number of
2^24 us from those encoded. Every packet starts with time and row: a lost one harms no other.

Source: openeb, evt3_event_types.h. Differs from a sensor: time words only where time changes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import EncodingError
from evdistill_core.recordings.encoders.edge_queue import places
from evdistill_core.recordings.encoders.words import VECTOR_WORTH, check_coordinates, vector_of

#: Decoders take the nearest turn of the 24-bit clock, so steps stay below half of it.
SPAN_LIMIT_US = 1 << 23
CHANNEL_LIMIT = 1 << 4
ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12 = 0 << 12, 2 << 12, 3 << 12, 4 << 12
TIME_LOW, TIME_HIGH, EXT_TRIGGER = 6 << 12, 8 << 12, 10 << 12


def has_word_for(triggers: Triggers) -> npt.NDArray[np.bool_]:
    """Tell of each edge whether evt3 has a word for it: edges 0 and 1 of channels 0 .. 15."""
    return (triggers.channel < CHANNEL_LIMIT) & (triggers.edge <= 1)


def encode_evt3(events: Events, time_base_us: int, triggers: Triggers | None = None) -> bytes:
    """Encode events and edges so that a decoder gives back these, in this order, modulo 2^24 us.

    Args:
        events: times within 2^23 us of one another, in any order; coordinates below 2048.
        time_base_us: not used; for the same signature as ``encode_libcaer_cmp``.
        triggers: edges, laid between the events by their times, which must lie within 2^23 us of
            all others; channels 0 .. 15, edge 0 or 1.

    Raises:
        EncodingError: a time, coordinate or channel does not fit into the format.
    """
    del time_base_us
    edges = Triggers.empty() if triggers is None else triggers
    parts = [t for t in (events.t_us, edges.t_us) if len(t)]
    if not parts:
        return b""
    span_us = max(int(t.max()) for t in parts) - min(int(t.min()) for t in parts)
    if span_us >= SPAN_LIMIT_US:
        raise EncodingError(
            f"one evt3 packet spans less than {SPAN_LIMIT_US} us, got {span_us}: use shorter ones"
        )
    check_coordinates(events, "evt3")
    if not has_word_for(edges).all():
        raise EncodingError(
            f"evt3 holds edges 0 and 1 of channels 0 .. {CHANNEL_LIMIT - 1}, got edges up to "
            f"{int(edges.edge.max())} of channels up to {int(edges.channel.max())}"
        )
    words = np.empty(4 * len(events) + 3 * len(edges), np.uint16)
    columns = (events.x, events.y, events.t_us, events.p)
    if len(edges):
        count = _encode_evt3_with_edges(*columns, *_edge_words(events.t_us, edges), words)
    else:
        count, _, _ = _encode_evt3(*columns, -1, -1, words)
    return words[:count].astype("<u2", copy=False).tobytes()


def _edge_words(
    t_us: npt.NDArray[np.int64], edges: Triggers
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint16]]:
    """Return the edges' places between the events, their times and their words."""
    words = EXT_TRIGGER | edges.channel.astype(np.uint16) << 8 | edges.edge
    return (
        places(t_us, edges.t_us),
        edges.t_us.astype(np.int64, copy=False),
        words.astype(np.uint16),
    )


@njit(nogil=True, cache=True)
def _encode_evt3(  # noqa: PLR0913, PLR0917 - four columns, where the decoder is, and the output
    x: npt.NDArray[np.uint16],
    y: npt.NDArray[np.uint16],
    t_us: npt.NDArray[np.int64],
    p: npt.NDArray[np.uint8],
    time: int,
    row: int,
    words: npt.NDArray[np.uint16],
) -> tuple[int, int, int]:
    """Write the words, at most four an event.

    Args:
        x: columns.
        y: rows.
        t_us: times.
        p: polarities.
        time: what a decoder has, 24 bits; -1 for nothing yet.
        row: the same.
        words: output.

    Returns:
        How many words, and the time and row after them.
    """
    count = 0
    i = 0
    while i < len(t_us):
        t = t_us[i] & 0xFFFFFF
        if time < 0 or t >> 12 != time >> 12:
            words[count] = TIME_HIGH | (t >> 12)
            count += 1
            time = -1
        if t != time:
            words[count] = TIME_LOW | (t & 0xFFF)
            count += 1
            time = t
        if y[i] != row:
            row = y[i]
            words[count] = ADDR_Y | row
            count += 1
        sign = np.int64(p[i]) << 11
        end, mask = vector_of(x, y, t_us, p, i, 12)
        if end - i >= VECTOR_WORTH:
            words[count] = VECT_BASE_X | sign | x[i]
            words[count + 1] = VECT_12 | mask
            count += 2
            i = end
        else:
            words[count] = ADDR_X | sign | x[i]
            count += 1
            i += 1
    return count, time, row


@njit(nogil=True, cache=True)
def _encode_evt3_with_edges(  # noqa: PLR0913, PLR0917 - four columns, three of edges, the output
    x: npt.NDArray[np.uint16],
    y: npt.NDArray[np.uint16],
    t_us: npt.NDArray[np.int64],
    p: npt.NDArray[np.uint8],
    edge_at: npt.NDArray[np.int64],
    edge_us: npt.NDArray[np.int64],
    edge_words: npt.NDArray[np.uint16],
    words: npt.NDArray[np.uint16],
) -> int:
    """Write the words, at most four an event and three an edge; return how many."""
    count = begin = 0
    time = row = -1
    for edge in range(len(edge_at)):
        end = edge_at[edge]
        part = slice(begin, end)
        wrote, time, row = _encode_evt3(
            x[part], y[part], t_us[part], p[part], time, row, words[count:]
        )
        count += wrote
        begin = end
        t = edge_us[edge] & 0xFFFFFF
        if time < 0 or t >> 12 != time >> 12:
            words[count] = TIME_HIGH | (t >> 12)
            count += 1
            time = -1
        if t != time:
            words[count] = TIME_LOW | (t & 0xFFF)
            count += 1
            time = t
        words[count] = edge_words[edge]
        count += 1
    wrote, _, _ = _encode_evt3(
        x[begin:], y[begin:], t_us[begin:], p[begin:], time, row, words[count:]
    )
    return count + wrote
