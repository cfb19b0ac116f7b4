"""Decoders against plain-Python readings of the formats, on any words and on real bags."""

import sqlite3
import struct
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader

from evdistill_core.events.decoders import KNOWN_ENCODINGS, make_decoder
from evdistill_core.events.decoders.event_array import decode_event_array
from evdistill_core.foundation.errors import EncodingError
from evdistill_core.messages.event_messages import EventArray, EventBlock, EventPacket

GOLDEN = Path(__file__).parents[1] / "golden" / "bags"
WIDTH, HEIGHT = 40, 30
COUNTS = ("unknown", "backward", "outside", "unsynced")


class Evt3Reference:
    """Word by word, as the format reads; one event or trigger a tuple."""

    def __init__(self, width, height):
        self.width, self.height = width, height
        self.counts = dict.fromkeys(COUNTS, 0)
        self.last = None
        self.reset()

    def reset(self):
        self.high = None
        self.low = 0
        self.invalidate()
        self.last = None

    def invalidate(self):
        self.high_seen = self.time_seen = False
        self.row = self.base = None

    def time(self):
        return self.high * 4096 + self.low

    def emit(self, x, p, found):
        if not (0 <= x < self.width and self.row < self.height):
            self.counts["outside"] += 1
            return
        t = self.time()
        if self.last is not None and t < self.last:
            self.counts["backward"] += 1
        self.last = t
        found.append((x, self.row, t, p))

    def feed(self, words):  # noqa: PLR0912
        events, triggers = [], []
        for word in words:
            code, low12 = word >> 12, word & 0xFFF
            if code == 0:
                self.row = word & 0x7FF
            elif code == 2:
                if self.time_seen and self.row is not None:
                    self.emit(word & 0x7FF, word >> 11 & 1, events)
                else:
                    self.counts["unsynced"] += 1
            elif code == 3:
                self.base, self.polarity = word & 0x7FF, word >> 11 & 1
            elif code in (4, 5):
                lanes = 12 if code == 4 else 8
                for lane in range(lanes):
                    if word >> lane & 1:
                        if self.time_seen and self.row is not None and self.base is not None:
                            self.emit(self.base + lane, self.polarity, events)
                        else:
                            self.counts["unsynced"] += 1
                if self.base is not None:
                    self.base += lanes
            elif code == 6:
                self.low = low12
                self.time_seen = self.high_seen
            elif code == 8:
                if self.high is None:
                    if low12:
                        self.low = 0
                    self.high = low12
                else:
                    near = min(
                        (self.high - self.high % 4096 + k * 4096 + low12 for k in (-1, 0, 1)),
                        key=lambda v: (abs(v - self.high), v),
                    )
                    if near != self.high:
                        self.high, self.low = near, 0
                self.high_seen = True
            elif code == 10:
                if self.time_seen:
                    triggers.append((self.time(), word >> 8 & 15, word & 1))
                else:
                    self.counts["unsynced"] += 1
            elif code not in (7, 13, 14, 15) and word != 0x9999:
                self.counts["unknown"] += 1
        return events, triggers


def cmp_reference(words, base_us, width, height, counts):  # noqa: PLR0912
    found, high, low, column, base, last = [], 0, 0, None, None, None

    def emit(y, p):
        nonlocal last
        if column >= width or y >= height:
            counts["outside"] += 1
            return
        t = base_us + high * 4096 + low
        counts["backward"] += last is not None and t < last
        last = t
        found.append((column, y, t, p))

    for word in words:
        code, low12 = word >> 12, word & 0xFFF
        if code == 0:
            high = low12
        elif code == 1:
            low = low12
        elif code == 2:
            column = word & 0x7FF
        elif code == 3:
            if column is None:
                counts["unsynced"] += 1
            else:
                emit(word & 0x7FF, word >> 11 & 1)
        elif code == 4:
            base, polarity = word & 0x7FF, word >> 11 & 1
        elif code == 5:
            for lane in range(8):
                if word >> lane & 1:
                    if column is None or base is None:
                        counts["unsynced"] += 1
                    else:
                        emit(base + lane, polarity)
            if base is not None:
                base += 8
        else:
            counts["unknown"] += 1
    return found


def libcaer_reference(words, base_us, width, height, counts):
    found, wraps, before, last = [], 0, None, None
    for data, stamp in words:
        if not data & 1 or stamp < 0:
            counts["unknown"] += 1
            continue
        if before is not None and before - stamp > 2**30:
            wraps += 1
        elif before is not None and stamp - before >= 2**30 and wraps:
            wraps -= 1
        before = stamp
        x, y, p = data >> 17, data >> 2 & 0x7FFF, data >> 1 & 1
        if x >= width or y >= height:
            counts["outside"] += 1
            continue
        t = base_us + wraps * 2**31 + stamp
        counts["backward"] += last is not None and t < last
        last = t
        found.append((x, y, t, p))
    return found


def mono_reference(words, base_ns, width, height, counts):
    found, last = [], None
    for offset_ns, x, y_p in words:
        y, p = y_p & 0x7FFF, y_p >> 15
        if x >= width or y >= height:
            counts["outside"] += 1
            continue
        t = (base_ns + offset_ns) // 1000
        counts["backward"] += last is not None and t < last
        last = t
        found.append((x, y, t, p))
    return found


def rows(events):
    """Return events as tuples; every coordinate lies in the frame, always."""
    assert (events.x < events.width).all()
    assert (events.y < events.height).all()
    assert (events.p <= 1).all()
    columns = (events.x, events.y, events.t_us, events.p)
    return list(zip(*(c.tolist() for c in columns), strict=True))


def edges(triggers):
    columns = (triggers.t_us, triggers.channel, triggers.edge)
    return list(zip(*(c.tolist() for c in columns), strict=True))


def check_counts(decoder, counts, events, triggers=0):
    c = decoder.counters
    assert (c.unknown_words, c.backward_time, c.out_of_frame, c.discarded_before_sync) == tuple(
        counts[k] for k in COUNTS
    )
    assert (c.events, c.triggers) == (events, triggers)


def pack16(words):
    return np.array(words, "<u2").tobytes()


def word_of(code, value):
    return code << 12 | value


# Words as a sensor sends them, with a little of everything, and the frame's borders hit often.
small = st.one_of(st.integers(0, 47), st.sampled_from([28, 29, 30, 31, 38, 39, 40, 41]))
stamps = st.one_of(
    st.integers(0, 1000), st.integers(-(2**31), 2**31 - 1),
    st.sampled_from([2**31 - 1, 2**31 - 2, 2**30, 2**30 - 1, 2**30 + 1]),
)  # fmt: skip
evt3_words = st.lists(
    st.one_of(
        st.builds(word_of, st.just(0), small.filter(lambda v: v < 36)),
        st.builds(lambda x, p: 0x2000 | p << 11 | x, small, st.integers(0, 1)),
        st.builds(lambda x, p: 0x3000 | p << 11 | x, small, st.integers(0, 1)),
        st.builds(word_of, st.just(4), st.integers(0, 4095)),
        st.builds(word_of, st.just(5), st.integers(0, 4095)),
        st.builds(word_of, st.just(6), st.integers(0, 4095)),
        st.builds(word_of, st.just(8), st.sampled_from([0, 1, 2, 2047, 2048, 4094, 4095])),
        st.builds(word_of, st.just(10), st.integers(0, 4095)),
        st.sampled_from([0x9999, 0x9000, 0x1234, 0xB000, 0xC001, 0xE000, 0x7000, 0xF123, 0xD000]),
        st.integers(0, 0xFFFF),
    ),
    max_size=120,
)


def near_borders(rng, n):
    """Coordinates around the frame's borders and all over, and lanes that cross them."""
    return np.where(rng.random(n) < 0.5, rng.integers(0, 48, n), rng.choice(BORDERS, n))


BORDERS = [0, 18, 22, 27, 28, 29, 30, 31, 32, 38, 39, 40, 41, 47]


@pytest.mark.parametrize("seed", range(8))
def test_evt3_equals_the_reference_on_long_streams(seed):
    rng = np.random.default_rng(seed)
    n = 4000
    code = rng.choice([0, 2, 2, 2, 3, 4, 4, 5, 5, 6, 6, 8, 10, 14, 9, 11], n)
    value = near_borders(rng, n) | rng.integers(0, 2, n) << 11
    free = rng.integers(0, 4096, n)
    high = rng.choice([0, 1, 2, 2047, 2048, 2049, 4095], n)
    value = np.where(np.isin(code, [0, 2, 3]), value, np.where(code == 8, high, free))
    words = (code << 12 | value).tolist()
    reference = Evt3Reference(WIDTH, HEIGHT)
    decoder = make_decoder("evt3", width=WIDTH, height=HEIGHT)
    for part in range(0, n, 400):
        events, triggers = reference.feed(words[part : part + 400])
        decoded = decoder.decode(pack16(words[part : part + 400]), 0)
        assert rows(decoded.events) == events
        assert edges(decoded.triggers) == triggers
        decoder.invalidate()
        reference.invalidate()
    c = decoder.counters
    check_counts(decoder, reference.counts, c.events, c.triggers)
    assert min(reference.counts.values()) > 10


@pytest.mark.parametrize("seed", range(4))
def test_libcaer_cmp_equals_the_reference_on_long_streams(seed):
    rng = np.random.default_rng(seed)
    n = 2000
    code = rng.choice([0, 1, 2, 3, 3, 4, 5, 5, 6, 15], n)
    value = near_borders(rng, n) | rng.integers(0, 2, n) << 11
    value = np.where(np.isin(code, [2, 3, 4]), value, rng.integers(0, 4096, n))
    words = (code << 12 | value).tolist()
    counts = dict.fromkeys(COUNTS, 0)
    decoder = make_decoder("libcaer_cmp", width=WIDTH, height=HEIGHT)
    total = 0
    for part in range(0, n, 200):
        expected = cmp_reference(words[part : part + 200], 7, WIDTH, HEIGHT, counts)
        assert rows(decoder.decode(pack16(words[part : part + 200]), 7999).events) == expected
        total += len(expected)
    check_counts(decoder, counts, total)
    assert min(counts.values()) > 10


@pytest.mark.parametrize("seed", range(4))
def test_wide_words_equal_the_reference_on_long_streams(seed):
    rng = np.random.default_rng(seed)
    n = 2000
    x, y, p = near_borders(rng, n), near_borders(rng, n), rng.integers(0, 2, n)
    turns = [0, 1, 5, 2**30 - 1, 2**30, 2**30 + 1, 2**31 - 1, -1]
    stamp = rng.choice(turns, n)
    data = x << 17 | y << 2 | p << 1 | (rng.random(n) < 0.9)
    words = list(zip(data.tolist(), stamp.tolist(), strict=True))
    counts = dict.fromkeys(COUNTS, 0)
    expected = libcaer_reference(words, 3, WIDTH, HEIGHT, counts)
    decoder = make_decoder("libcaer", width=WIDTH, height=HEIGHT)
    payload = b"".join(struct.pack("<Ii", *w) for w in words)
    assert rows(decoder.decode(payload, 3999).events) == expected
    check_counts(decoder, counts, len(expected))

    offset = rng.choice([0, 999, 1000, 1001, 2**32 - 1], n)
    words = list(zip(offset.tolist(), x.tolist(), (p << 15 | y).tolist(), strict=True))
    counts = dict.fromkeys(COUNTS, 0)
    expected = mono_reference(words, 12_345, WIDTH, HEIGHT, counts)
    decoder = make_decoder("mono", width=WIDTH, height=HEIGHT)
    payload = b"".join(struct.pack("<IHH", *w) for w in words)
    assert rows(decoder.decode(payload, 12_345).events) == expected
    check_counts(decoder, counts, len(expected))


@settings(max_examples=200, deadline=None)
@given(words=evt3_words, data=st.data())
def test_evt3_equals_the_reference_however_it_is_split(words, data):
    head = [0x8001, 0x6005, 0x0003] if data.draw(st.booleans()) else []
    words = head + words
    reference, counts = Evt3Reference(WIDTH, HEIGHT), None
    cuts = sorted(data.draw(st.lists(st.integers(0, len(words)), max_size=6)))
    lost = data.draw(st.lists(st.booleans(), min_size=7, max_size=7))
    decoder = make_decoder("evt3", width=WIDTH, height=HEIGHT)
    expected, expected_edges, found, found_edges = [], [], [], []
    for i, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(words)], strict=True)):
        if lost[i]:
            decoder.invalidate()
            reference.invalidate()
        events, triggers = reference.feed(words[a:b])
        expected += events
        expected_edges += triggers
        decoded = decoder.decode(pack16(words[a:b]), 0)
        found += rows(decoded.events)
        found_edges += edges(decoded.triggers)
        known = reference.time() if reference.time_seen else None
        assert decoded.t_end_us == known
    assert found == expected
    assert found_edges == expected_edges
    counts = reference.counts
    check_counts(decoder, counts, len(expected), len(expected_edges))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.builds(lambda v, p: 0x2000 | p << 11 | v, small, st.integers(0, 1)),
            st.builds(lambda v, p: 0x3000 | p << 11 | v, small, st.integers(0, 1)),
            st.builds(lambda v, p: 0x4000 | p << 11 | v, small, st.integers(0, 1)),
            st.builds(word_of, st.just(5), st.integers(0, 4095)),
            st.builds(word_of, st.integers(0, 1), st.integers(0, 4095)),
            st.integers(0, 0xFFFF),
        ),
        max_size=120,
    ),
    st.integers(0, 2**60),
)
def test_libcaer_cmp_equals_the_reference(words, base_ns):
    counts = dict.fromkeys(COUNTS, 0)
    expected = cmp_reference(words, base_ns // 1000, WIDTH, HEIGHT, counts)
    decoder = make_decoder("libcaer_cmp", width=WIDTH, height=HEIGHT)
    decoded = decoder.decode(pack16(words), base_ns)
    assert rows(decoded.events) == expected
    check_counts(decoder, counts, len(expected))
    # A second message starts from nothing: no column, no time, no base left over.
    again = decoder.decode(pack16(words), base_ns)
    assert rows(again.events) == expected


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.builds(
                    lambda x, y, low: x << 17 | y << 2 | low, small, small, st.integers(0, 3)
                ),
                st.integers(0, 2**32 - 1),
            ),
            stamps,
        ),
        max_size=60,
    ),
    st.integers(0, 2**60),
)
def test_libcaer_equals_the_reference(words, base_ns):
    counts = dict.fromkeys(COUNTS, 0)
    expected = libcaer_reference(words, base_ns // 1000, WIDTH, HEIGHT, counts)
    decoder = make_decoder("libcaer", width=WIDTH, height=HEIGHT)
    payload = b"".join(struct.pack("<Ii", *w) for w in words)
    assert rows(decoder.decode(payload, base_ns).events) == expected
    check_counts(decoder, counts, len(expected))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**32 - 1), small | st.integers(0, 65535),
            st.builds(lambda y, p: p << 15 | y, small | st.integers(0, 0x7FFF), st.integers(0, 1)),
        ),
        max_size=60,
    ),
    st.integers(0, 2**60),
)  # fmt: skip
def test_mono_equals_the_reference(words, base_ns):
    counts = dict.fromkeys(COUNTS, 0)
    expected = mono_reference(words, base_ns, WIDTH, HEIGHT, counts)
    decoder = make_decoder("mono", width=WIDTH, height=HEIGHT)
    payload = b"".join(struct.pack("<IHH", *w) for w in words)
    assert rows(decoder.decode(payload, base_ns).events) == expected
    check_counts(decoder, counts, len(expected))


def test_trigger_messages():
    words = [(5_999, 3, 1), (2_000_000_000, 255, 0), (7, 256, 1)]
    payload = b"".join(struct.pack("<IHH", t, 0, e << 15 | c) for t, c, e in words)
    decoder = make_decoder("trigger", width=WIDTH, height=HEIGHT)
    decoded = decoder.decode(payload, 10_000)
    assert edges(decoded.triggers) == [(15, 3, 1), (2_000_010, 255, 0)]
    assert len(decoded.events) == 0
    assert decoder.counters.unknown_words == 1
    assert decoder.counters.triggers == 2


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(0, 30), st.booleans())
def test_event_arrays_equal_a_reading_field_by_field(data, count, little):
    draw = data.draw
    fields = [
        (
            draw(small), draw(small), draw(st.integers(-5, 2**31 - 1)),
            draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0, 1, 255])),
        )
        for _ in range(count)
    ]  # fmt: skip
    order = "<" if little else ">"
    raw = b""
    for x, y, sec, nanosec, p in fields:
        raw += bytes(-len(raw) % 2) + struct.pack(order + "HH", x, y)
        raw += bytes(-len(raw) % 4) + struct.pack(order + "iIB", sec, nanosec, p)
    expected = [
        (x, y, s * 10**6 + n // 1000, int(p > 0))
        for x, y, s, n, p in fields
        if x < WIDTH and y < HEIGHT
    ]
    tally = np.zeros(4, np.int64)
    block = EventBlock(count, raw, little)
    events = decode_event_array(block, tally, width=WIDTH, height=HEIGHT)
    assert tally[2] == count - len(expected)
    # A second holds 10**9 ns; what more makes of a time is only fixed for little endian.
    if little or all(n < 10**9 for _, _, _, n, _ in fields):
        assert rows(events) == expected
        assert tally[1] == sum(b[2] < a[2] for a, b in pairwise(expected))


def test_event_arrays_at_odd_addresses():
    block = EventBlock.pack(
        np.arange(9, dtype=np.uint16), np.arange(9, dtype=np.uint16),
        np.arange(9) * 10**6, np.ones(9, np.uint8),
    )  # fmt: skip
    for shift in range(4):
        moved = memoryview(bytes(shift) + bytes(block.data))[shift:]
        events = decode_event_array(
            EventBlock(9, moved), np.zeros(4, np.int64), width=WIDTH, height=HEIGHT
        )
        assert events.t_us.tolist() == [1000 * k for k in range(9)]


def test_evt3_time_wraps_and_glitches_heal():
    decoder = make_decoder("evt3", width=WIDTH, height=HEIGHT)

    def times(*words):
        return decoder.decode(pack16(words), 0).events.t_us.tolist()

    assert times(0x8000 | 4095, 0x6FFF, 0, 0x2000) == [2**24 - 1]
    assert times(0x8000, 0x6001, 0x2000) == [2**24 + 1]  # wrapped
    assert times(0x8000 | 4095, 0x6001, 0x2000) == [2**24 - 4095]  # a glitch back over the wrap
    assert times(0x8001, 0x6002, 0x2000) == [2**24 + 4098]  # and no wrap counted twice
    assert times(0x8000 | 1500, 0x6000, 0x2000) == [2**24 + 1500 * 4096]  # a damaged word
    assert times(0x8001, 0x6003, 0x2000) == [2**24 + 4099]  # heals
    assert decoder.counters.backward_time == 2
    # The upper half alone starts the lower half again instead of 4 ms in the future.
    assert times(0x8001, 0x6FFF, 0x2000, 0x8002, 0x2000) == [2**24 + 8191, 2**24 + 8192]


def test_evt3_gap_of_known_length_counts_the_wraps_missed():
    decoder = make_decoder("evt3", width=WIDTH, height=HEIGHT)
    decoder.decode(pack16([0x8010, 0x6000, 0, 0x2000]), 0)
    elapsed_us = 3 * 2**24 + 5 * 4096
    decoder.invalidate(elapsed_us + 300_000)  # the host clock need not be exact
    events = decoder.decode(pack16([0x8010 + 5, 0x6000, 0, 0x2000]), 0).events
    assert events.t_us.tolist() == [0x10 * 4096 + elapsed_us]
    decoder.reset()
    events = decoder.decode(pack16([0x8010, 0x6000, 0, 0x2000]), 0).events
    assert events.t_us.tolist() == [0x10 * 4096]


def test_libcaer_cmp_messages_that_the_driver_mis_timed_are_counted():
    # A second sensor packet inside the message starts 4.2 ms after the first, and the driver
    # writes its low time without a new high one.
    words = [0x2001, 0x1000 | 4000, 0x3001, 0x1000 | 104, 0x3002]
    decoder = make_decoder("libcaer_cmp", width=WIDTH, height=HEIGHT)
    events = decoder.decode(pack16(words), 0).events
    assert events.t_us.tolist() == [4000, 104]
    assert decoder.counters.backward_time == 1


@pytest.mark.parametrize("encoding", KNOWN_ENCODINGS)
@settings(max_examples=80, deadline=None)
@given(payload=st.binary(max_size=400), base=st.integers(-(2**70), 2**70), shift=st.integers(0, 7))
def test_any_bytes_give_events_in_the_frame_and_counters(encoding, payload, base, shift):
    decoder = make_decoder(encoding, width=WIDTH, height=HEIGHT)
    for data in (payload, memoryview(bytes(shift) + payload)[shift:], bytearray(payload)):
        decoded = decoder.decode(data, base)
        assert len(decoded.events) <= 6 * len(payload)
        rows(decoded.events)
        decoder.invalidate(base)
    decoder.reset()


@pytest.mark.parametrize("encoding", KNOWN_ENCODINGS)
def test_no_bytes_and_cut_words(encoding):
    decoder = make_decoder(encoding, width=WIDTH, height=HEIGHT)
    assert len(decoder.decode(b"", 0).events) == 0
    assert decoder.counters.unknown_words == 0
    assert len(decoder.decode(b"\0", 0).events) == 0
    assert decoder.counters.unknown_words == 1


def test_payloads_are_not_modified():
    payload = bytearray(pack16([0x8001, 0x6000, 0x0001, 0x2001, 0x3000, 0x4FFF]))
    before = bytes(payload)
    make_decoder("evt3", width=WIDTH, height=HEIGHT).decode(payload, 0)
    assert payload == before
    payload[0] = 7  # and no view of ours forbids the owner to write


def test_unknown_encodings_and_sizes_are_refused():
    with pytest.raises(EncodingError, match=r"unknown event encoding 'evt4'; known: evt3, evt2"):
        make_decoder("evt4", width=4, height=4)
    with pytest.raises(ValueError, match=r"width must be 1\.\.4096, got 0"):
        make_decoder("evt3", width=0, height=4)
    with pytest.raises(ValueError, match=r"height must be 1\.\.4096, got 5000"):
        make_decoder("evt3", width=4, height=5000)


def sqlite_messages(path):
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as bag:
        return [row[0] for row in bag.execute("SELECT data FROM messages ORDER BY timestamp, id")]


def mcap_messages(path):
    with path.open("rb") as file:
        return [message.data for _, _, message in make_reader(file).iter_messages()]


def decode_all(messages):
    decoder, events, triggers = None, [], []
    for data in messages:
        packet = EventPacket.parse(data)
        decoder = decoder or make_decoder(packet.encoding, width=packet.width, height=packet.height)
        decoded = decoder.decode(packet.events, packet.time_base)
        events.append(decoded.events)
        triggers.append(decoded.triggers)
    return decoder, events, triggers


def sums(events):
    return tuple(
        sum(int(getattr(e, c).astype(np.int64).sum()) for e in events) for c in ("x", "y", "p")
    )


def test_a_piece_of_a_real_evt3_bag_equals_the_reference():
    messages = sqlite_messages(GOLDEN / "evt3_vga_person" / "test_events_1.db3")
    reference, expected, expected_edges = Evt3Reference(640, 480), [], []
    for data in messages:
        words = np.frombuffer(EventPacket.parse(data).events, "<u2").tolist()
        events, triggers = reference.feed(words)
        expected += events
        expected_edges += triggers
    decoder, events, triggers = decode_all(messages)
    assert [r for e in events for r in rows(e)] == expected
    assert [r for t in triggers for r in edges(t)] == expected_edges
    check_counts(decoder, reference.counts, len(expected), len(expected_edges))
    assert reference.counts == dict.fromkeys(COUNTS, 0)
    assert len(messages) == 40
    assert len(expected) > 10_000


def test_a_piece_of_a_real_libcaer_cmp_bag_equals_the_reference():
    messages = mcap_messages(GOLDEN / "libcaer_cmp_davis346_tags" / "test_events_2_0.mcap")
    counts, expected = dict.fromkeys(COUNTS, 0), []
    for data in messages:
        packet = EventPacket.parse(data)
        words = np.frombuffer(packet.events, "<u2").tolist()
        expected += cmp_reference(words, packet.time_base // 1000, 346, 260, counts)
    decoder, events, _ = decode_all(messages)
    assert [r for e in events for r in rows(e)] == expected
    check_counts(decoder, counts, len(expected))
    assert counts == dict.fromkeys(COUNTS, 0)
    assert expected[0][2] == 1744227144732712


def test_real_bags_give_the_published_sums(shared_data):
    bags = shared_data / "bags"
    decoder, events, triggers = decode_all(
        sqlite_messages(bags / "evt3_hd_trigger" / "test_data_evt3_trigger_0.db3")
    )
    assert sums(events) == (42078718, 31656267, 41439)
    assert sum(int(e.t_us.sum()) for e in events) * 1000 == 1222326831810000
    assert decoder.counters.events == 82469

    decoder, events, triggers = decode_all(
        sqlite_messages(bags / "evt3_vga_person" / "test_events_1.db3")
    )
    on = sums(events)[2]
    assert (on, decoder.counters.events - on) == (125183, 218291)
    assert sum(map(len, triggers)) == 4157

    decoder, events, _ = decode_all(
        mcap_messages(bags / "libcaer_cmp_davis346_tags" / "test_events_2_0.mcap")
    )
    on = sums(events)[2]
    assert (on, decoder.counters.events - on) == (211043, 360223)
    assert events[0].t_us[0] == 1744227144732712

    decoder, events, _ = decode_all(
        sqlite_messages(bags / "mono_legacy" / "test_data_mono_cd_0.db3")
    )
    assert sums(events) == (34450, 26450, 50)
    assert sum(int(e.t_us.sum()) for e in events) * 1000 == 4950000


def test_an_event_array_message_of_a_million_events_is_read_without_objects():
    count = 1_000_000
    index = np.arange(count)
    x, y = (index % 346).astype(np.uint16), (index % 260).astype(np.uint16)
    t_ns, p = 10**18 + index * 1000, (index % 2).astype(np.uint8)
    message = EventArray(height=260, width=346, events=EventBlock.pack(x, y, t_ns, p))
    block = EventArray.parse(message.serialize()).events
    tally = np.zeros(4, np.int64)
    events = decode_event_array(block, tally, width=346, height=260)
    np.testing.assert_array_equal(events.x, x)
    np.testing.assert_array_equal(events.y, y)
    np.testing.assert_array_equal(events.t_us, t_ns // 1000)
    np.testing.assert_array_equal(events.p, p)
    assert not tally.any()
