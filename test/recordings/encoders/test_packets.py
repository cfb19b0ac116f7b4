import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import PacketDecoder
from evdistill_core.foundation.errors import EncodingError
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import Header, Time
from evdistill_core.recordings.encoders import packets as packets_module
from evdistill_core.recordings.encoders.edge_queue import select
from evdistill_core.recordings.encoders.evt3 import SPAN_LIMIT_US as EVT3_SPAN_US
from evdistill_core.recordings.encoders.evt3 import encode_evt3
from evdistill_core.recordings.encoders.libcaer_cmp import SPAN_LIMIT_US, encode_libcaer_cmp
from evdistill_core.recordings.encoders.packets import (
    ENCODINGS,
    Packetizer,
    events_to_packets,
)


def decode_libcaer_cmp(payload, start_us):
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
            rows.append((start_us + (high << 12 | low), x, value & 0x7FF, value >> 11))
        elif code == 4:
            base, polarity = value & 0x7FF, value >> 11
        elif code == 5:
            for bit in range(8):
                if value >> bit & 1:
                    rows.append((start_us + (high << 12 | low), x, base + bit, polarity))
            base += 8
        else:
            raise AssertionError(f"code {code}")
    return rows


def decode_evt3(payload):
    """Return rows of (t_us modulo 2^24, x, y, p), word by word, nothing kept between packets.

    Edges come as (t_us modulo 2^24, channel, edge) among them.
    """
    high = low = y = base = polarity = None
    rows = []
    for word in np.frombuffer(payload, "<u2").tolist():
        code, value = word >> 12, word & 0xFFF
        if code == 0:
            y = value
        elif code == 2:
            rows.append((high << 12 | low, value & 0x7FF, y, value >> 11))
        elif code == 3:
            base, polarity = value & 0x7FF, value >> 11
        elif code == 4:
            rows += [(high << 12 | low, base + b, y, polarity) for b in range(12) if value >> b & 1]
            base += 12
        elif code == 6:
            low = value
        elif code == 8:
            high, low = value, None  # a sensor's new upper half is always followed by a lower one
        elif code == 10:
            assert value & 0x0FE == 0
            rows.append((high << 12 | low, value >> 8, value & 1))
        else:
            raise AssertionError(f"code {code}")
    return rows


def rows_of(events):
    columns = (events.t_us, events.x, events.y, events.p)
    return list(zip(*(c.tolist() for c in columns), strict=True))


def edges_of(rows):
    t, channel, edge = zip(*rows, strict=True) if rows else ((), (), ())
    return Triggers(np.array(t, np.int64), np.array(channel, np.uint8), np.array(edge, np.uint8))


def edge_rows(triggers):
    columns = (triggers.t_us, triggers.channel, triggers.edge)
    return list(zip(*(c.tolist() for c in columns), strict=True))


def split(rows):
    """Return events and edges of what ``decode_evt3`` gives."""
    return [r for r in rows if len(r) == 4], [r for r in rows if len(r) == 3]


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


@settings(deadline=None)
@given(st.lists(row, max_size=60), st.booleans(), st.integers(0, 2**50))
def test_evt3_means_the_events_modulo_its_clock(rows, is_sorted, base_us):
    rows = sorted(rows) if is_sorted else rows
    rows = [(base_us + t % EVT3_SPAN_US, x, y, p) for t, x, y, p in rows]
    payload = encode_evt3(events_of(rows), 0)
    assert decode_evt3(payload) == [(t % 2**24, x, y, p) for t, x, y, p in rows]


edge_row = st.tuples(
    st.one_of(st.integers(0, 20), st.integers(0, EVT3_SPAN_US - 1)),
    st.integers(0, 15),
    st.integers(0, 1),
)


@settings(deadline=None)
@given(
    st.lists(row, max_size=40), st.lists(edge_row, max_size=20), st.booleans(),
    st.integers(0, 2**50),
)  # fmt: skip
def test_evt3_holds_edges_among_the_events(rows, edges, is_sorted, base_us):
    rows = [(base_us + t % EVT3_SPAN_US, x, y, p) for t, x, y, p in rows]
    edges = [(base_us + t, channel, edge) for t, channel, edge in edges]
    if is_sorted:
        rows, edges = sorted(rows), sorted(edges)
    words = decode_evt3(encode_evt3(events_of(rows), 0, edges_of(edges)))
    found, found_edges = split(words)
    assert found == [(t % 2**24, x, y, p) for t, x, y, p in rows]
    assert found_edges == [(t % 2**24, channel, edge) for t, channel, edge in edges]
    if is_sorted:
        times = [(word[0] - base_us) % 2**24 for word in words]
        assert times == sorted(times)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 3), st.just(1), st.just(1)), min_size=1),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 15), st.integers(0, 1))),
    st.lists(st.integers(0, 300), max_size=5),
    st.sampled_from([0, 0, 150, -150]),
    st.sampled_from([1, 7, 50]),
    st.sampled_from([2, 1 << 16]),
)
def test_packets_hold_every_edge_once_and_events_as_without(  # noqa: PLR0917 - drawn
    rows, edges, cuts_us, off_us, packet_us, most
):
    """Edges come beside their events, too early or too late, and in pieces of any size."""
    events, edges = events_of(sorted(rows)), edges_of(sorted(edges))
    parts = []
    for start_us, end_us in zip([0, *sorted(cuts_us)], [*sorted(cuts_us), 1000], strict=True):
        inside = events[(events.t_us >= start_us) & (events.t_us < end_us)]
        due_us = np.clip(edges.t_us + off_us, 0, 999)
        parts.append((inside, select(edges, (due_us >= start_us) & (due_us < end_us))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packets_module, "WAITING_EDGES", most)
        packetizer = Packetizer(packet_us, "evt3")
        packets = [p for part in parts for p in packetizer.push(*part)] + packetizer.flush()
    found, found_edges = split([word for p in packets for word in decode_evt3(p.payload)])
    assert (found, found_edges) == (rows_of(events), edge_rows(edges))
    assert [(p.count, p.edges) for p in packets] == [
        tuple(map(len, split(decode_evt3(p.payload)))) for p in packets
    ]
    if most == 2:
        return
    without = list(events_to_packets([events], packet_us=packet_us, encoding="evt3"))
    assert [(p.start_us, p.count) for p in packets if p.count] == [
        (p.start_us, p.count) for p in without
    ]
    assert [p.start_us for p in packets] == sorted({p.start_us for p in packets})
    if off_us == 0:
        for packet in packets:
            times = [word[0] for word in decode_evt3(packet.payload)]
            assert packet.start_us <= min(times) <= max(times) < packet.end_us


def test_an_edge_that_is_too_late_for_any_packet_has_its_own():
    packetizer = Packetizer(10, "evt3")
    packetizer.push(events_of([(0, 1, 1, 1), (5, 1, 1, 1)]))
    later = 3 * EVT3_SPAN_US
    packets = packetizer.push(events_of([(later, 2, 2, 1)]))
    packets += packetizer.push(
        events_of([]), edges_of([(later, 1, 1), (3, 2, 0), (later + 1, 3, 1)])
    )
    packets += packetizer.flush()
    words = [word for p in packets for word in decode_evt3(p.payload)]
    assert split(words)[1] == [(later % 2**24, 1, 1), (3, 2, 0), (later % 2**24 + 1, 3, 1)]


def test_edges_alone_wait_for_the_first_event_or_the_end():
    packetizer = Packetizer(10, "evt3")
    assert packetizer.push(events_of([]), edges_of([(7, 0, 1), (9, 0, 0)])) == []
    (packet,) = packetizer.flush()
    assert (packet.start_us, packet.count, packet.edges) == (7, 0, 2)
    assert (packet.width, packet.height) == (2048, 2048)
    assert packetizer.flush() == []


def test_our_own_decoder_gives_edges_back_across_turns_of_the_clock(make_events):
    rng = np.random.default_rng(4)
    events = [make_events(rng, 500, span_us=200_000, t0_us=t) for t in (2**24 - 90_000, 3 * 2**24)]
    # Between the two only edges: every 50 ms for two turns of the clock.
    t_us = np.arange(2**24 - 200_000, 3 * 2**24 + 150_000, 50_000)
    edges = edges_of([(int(t), i % 16, i & 1) for i, t in enumerate(t_us)])
    packetizer = Packetizer(10_000, "evt3")
    packets = packetizer.push(events[0], edges) + packetizer.push(events[1]) + packetizer.flush()
    decoder = PacketDecoder()
    found = []
    for seq, packet in enumerate(packets):
        header = Header(Time.from_ns(10**18 + packet.end_us * 1000), "")
        message = EventPacket(header, 260, 346, seq, 0, "evt3", False, packet.payload)
        found.append(decoder.push(Packet(EventPacket.TYPE, message.serialize(), 0)))
    assert Events.concatenate([f.events for f in found]).equals(Events.concatenate(events))
    assert edge_rows(Triggers.concatenate([f.triggers for f in found])) == edge_rows(edges)
    assert decoder.counters.time_jumps == decoder.counters.discarded_before_sync == 0


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_our_own_decoders_give_the_events_back(make_events, encoding):
    rng = np.random.default_rng(2)
    # Across a wrap of the 24-bit clock, with a pause of two wraps in the stream.
    early = make_events(rng, 3000, span_us=200_000, t0_us=2**24 - 100_000)
    late = make_events(rng, 3000, span_us=200_000, t0_us=3 * 2**24 + 5_000)
    decoder = PacketDecoder()
    parts = []
    for seq, packet in enumerate(events_to_packets([early, late], encoding=encoding)):
        header = Header(Time.from_ns(10**18 + packet.end_us * 1000), "")
        message = EventPacket(
            header, 260, 346, seq, packet.time_base_ns, encoding, False, packet.payload
        )
        parts.append(decoder.push(Packet(EventPacket.TYPE, message.serialize(), 0)).events)
    decoded, events = Events.concatenate(parts), Events.concatenate([early, late])
    offset_us = int(decoded.t_us[0]) - int(events.t_us[0])
    assert offset_us % 2**24 == 0
    assert (offset_us == 0) == (encoding == "libcaer_cmp" or int(events.t_us[0]) < 2**24)
    shifted = Events(decoded.x, decoded.y, decoded.t_us - offset_us, decoded.p, 346, 260)
    assert shifted.equals(events)
    assert decoder.counters.unknown_words == decoder.counters.discarded_before_sync == 0


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
    rows = [r for p in packets for r in decode_libcaer_cmp(p.payload, p.start_us)]
    assert rows == rows_of(events)
    assert [p.count for p in packets] == [
        len(decode_libcaer_cmp(p.payload, p.start_us)) for p in packets
    ]
    assert all(p.end_us - p.start_us == packet_us for p in packets)
    for packet in packets:
        times = [r[0] for r in decode_libcaer_cmp(packet.payload, packet.start_us)]
        assert packet.start_us <= min(times) <= max(times) < packet.end_us
    assert packets[0].start_us == int(events.t_us[0])


def test_time_that_steps_back_starts_a_packet_and_keeps_the_order():
    events = events_of([(50_000, 1, 1, 1), (52_000, 2, 2, 0), (1_000, 3, 3, 1), (53_000, 4, 4, 1)])
    packets = list(events_to_packets([events]))
    assert [p.start_us for p in packets] == [50_000, 0, 50_000]
    rows = [r for p in packets for r in decode_libcaer_cmp(p.payload, p.start_us)]
    assert rows == rows_of(events)


def test_a_quiet_span_gives_no_packet_and_flush_starts_a_new_grid():
    packetizer = Packetizer(10)
    assert packetizer.flush() == []
    assert packetizer.push(events_of([(3, 1, 1, 1)])) == []
    (first,) = packetizer.push(events_of([(103, 1, 1, 1)]))
    assert (first.start_us, first.count) == (3, 1)
    assert [p.start_us for p in packetizer.flush()] == [103]
    packetizer.push(events_of([(110, 1, 1, 1)]))
    assert [p.start_us for p in packetizer.flush()] == [110]


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
    with pytest.raises(EncodingError, match=r"0 \.\. 2047, got 2048"):
        encode_evt3(wide, 0)
    far = events_of([(0, 1, 1, 1), (EVT3_SPAN_US, 1, 1, 1)])
    with pytest.raises(EncodingError, match="8388608"):
        encode_evt3(far, 0)
    assert encode_evt3(far[:0], 0) == b""
    with pytest.raises(EncodingError, match="8388608"):
        encode_evt3(event, 0, edges_of([(10 + EVT3_SPAN_US, 0, 0)]))
    for channel, edge in ((16, 0), (0, 2)):
        with pytest.raises(EncodingError, match=r"channels 0 \.\. 15"):
            encode_evt3(event, 0, edges_of([(10, channel, edge)]))
    with pytest.raises(EncodingError, match="no word for trigger edges"):
        Packetizer(10).push(event, edges_of([(10, 0, 0)]))
    with pytest.raises(EncodingError, match="'evt99'; available: libcaer_cmp, evt3"):
        Packetizer(10, "evt99")
    with pytest.raises(EncodingError, match="8388608 for evt3"):
        Packetizer(SPAN_LIMIT_US, "evt3")
    for packet_us in (0, -1, SPAN_LIMIT_US + 1):
        with pytest.raises(EncodingError, match="packet_us"):
            Packetizer(packet_us)
