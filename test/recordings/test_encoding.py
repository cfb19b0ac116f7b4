import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import EncodingError
from evdistill_core.recordings.encoding import (
    SPAN_LIMIT_US,
    Packetizer,
    encode_libcaer_cmp,
    events_to_packets,
)


def decode_libcaer_cmp(payload, time_base_us):
    """Return rows of (t_us, x, y, p), as the format's description says."""
    high = low = 0
    x = base = polarity = None
    rows = []
    for word in np.frombuffer(payload, "<u2").tolist():
        code, value = word >> 12, word & 0xFFF
        if code == 0:
            high = value
        elif code == 1:
            low = value
        elif code == 2:
            x = value & 0x7FF
        elif code == 3:
            rows.append((time_base_us + (high << 12 | low), x, value & 0x7FF, value >> 11))
        elif code == 4:
            base, polarity = value & 0x7FF, value >> 11
        elif code == 5:
            for bit in range(8):
                if value >> bit & 1:
                    rows.append((time_base_us + (high << 12 | low), x, base + bit, polarity))
            base += 8
        else:
            raise AssertionError(f"code {code}")
    return rows


def rows_of(events):
    columns = (events.t_us, events.x, events.y, events.p)
    return list(zip(*(c.tolist() for c in columns), strict=True))


row = st.tuples(
    st.one_of(st.integers(0, 20), st.integers(0, SPAN_LIMIT_US - 1)),
    st.integers(0, 3) | st.integers(0, 2047),
    st.integers(0, 30) | st.integers(0, 2047),
    st.integers(0, 1),
)


def events_of(rows):
    t, x, y, p = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Events.from_columns(x, y, t, p, width=2048, height=2048)


@settings(deadline=None)  # the first call compiles
@given(st.lists(row, max_size=60), st.booleans(), st.integers(0, 2**50))
def test_the_bytes_mean_exactly_the_events_in_their_order(rows, is_sorted, base_us):
    rows = [(base_us + t, x, y, p) for t, x, y, p in (sorted(rows) if is_sorted else rows)]
    payload = encode_libcaer_cmp(events_of(rows), base_us)
    assert decode_libcaer_cmp(payload, base_us) == rows


def test_golden_words():
    events = events_of([(100, 5, 7, 1), (100, 5, 9, 1), (100, 5, 14, 1), (5100, 5, 7, 0)])
    words = np.frombuffer(encode_libcaer_cmp(events, 100), "<u2").tolist()
    assert words == [
        0x2005,  # column 5
        0x4807, 0x5085,  # base row 7, on; rows +0 +2 +7
        0x0001, 0x1388 - 0x1000 | 0x1000, 0x3007,  # 5000 us = 1 << 12 | 904; row 7, off
    ]  # fmt: skip


def test_every_packet_starts_with_a_column_and_vectors_save_words(make_events):
    events = make_events(np.random.default_rng(0), 5000)
    packets = list(events_to_packets([events]))
    assert all(p.payload[1] >> 4 == 2 for p in packets)
    column = events_of([(0, 3, y, 1) for y in range(8)])
    assert len(encode_libcaer_cmp(column, 0)) == 2 * 3


@pytest.mark.parametrize("packet_us", [1, 999, 10_000, 65_537, SPAN_LIMIT_US])
@pytest.mark.parametrize("piece", [1, 37, 10_000])
def test_packets_hold_every_event_once_whatever_the_pieces(make_events, packet_us, piece):
    events = make_events(np.random.default_rng(1), 600)
    pieces = [events[i : i + piece] for i in range(0, len(events), piece)]
    packets = list(events_to_packets(pieces, packet_us=packet_us))
    rows = [r for p in packets for r in decode_libcaer_cmp(p.payload, p.time_base_us)]
    assert rows == rows_of(events)
    assert [p.count for p in packets] == [
        len(decode_libcaer_cmp(p.payload, p.time_base_us)) for p in packets
    ]
    assert all(p.end_us - p.time_base_us == packet_us for p in packets)
    for packet in packets:
        times = [r[0] for r in decode_libcaer_cmp(packet.payload, packet.time_base_us)]
        assert packet.time_base_us <= min(times) <= max(times) < packet.end_us
    assert packets[0].time_base_us == int(events.t_us[0])


def test_time_that_steps_back_starts_a_packet_and_keeps_the_order():
    events = events_of([(50_000, 1, 1, 1), (52_000, 2, 2, 0), (1_000, 3, 3, 1), (53_000, 4, 4, 1)])
    packets = list(events_to_packets([events]))
    assert [p.time_base_us for p in packets] == [50_000, 0, 50_000]
    rows = [r for p in packets for r in decode_libcaer_cmp(p.payload, p.time_base_us)]
    assert rows == rows_of(events)


def test_a_quiet_span_gives_no_packet_and_flush_starts_a_new_grid():
    packetizer = Packetizer(10)
    assert packetizer.flush() == []
    assert packetizer.push(events_of([(3, 1, 1, 1)])) == []
    (first,) = packetizer.push(events_of([(103, 1, 1, 1)]))
    assert (first.time_base_us, first.count) == (3, 1)
    assert [p.time_base_us for p in packetizer.flush()] == [103]
    packetizer.push(events_of([(110, 1, 1, 1)]))
    assert [p.time_base_us for p in packetizer.flush()] == [110]


def test_what_does_not_fit_is_refused():
    event = events_of([(10, 1, 1, 1)])
    assert encode_libcaer_cmp(event[:0], 0) == b""
    with pytest.raises(EncodingError, match="time_base"):
        encode_libcaer_cmp(event, 11)
    with pytest.raises(EncodingError, match="16777216"):
        encode_libcaer_cmp(event, 10 - SPAN_LIMIT_US)
    wide = Events.from_columns([2048], [0], [0], [1], width=4000, height=10)
    with pytest.raises(EncodingError, match=r"0 \.\. 2047, got 2048"):
        encode_libcaer_cmp(wide, 0)
    for packet_us in (0, -1, SPAN_LIMIT_US + 1):
        with pytest.raises(EncodingError, match="packet_us"):
            Packetizer(packet_us)
