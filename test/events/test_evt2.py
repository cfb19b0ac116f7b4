"""EVT2 and EVT2.1 against plain-Python readings, on any words, in any split, in both orders."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.decoders import make_decoder
from evdistill_core.events.decoders.evt21 import Evt21Decoder

WIDTH, HEIGHT = 70, 30
COUNTS = ("unknown", "backward", "outside", "unsynced")


class Reference:
    """One address word at a time; ``pixels`` is None for EVT2."""

    def __init__(self):
        self.high, self.known, self.low, self.last = None, False, 0, None
        self.counts = dict.fromkeys(COUNTS, 0)
        self.events, self.triggers = [], []

    def invalidate(self):
        self.known = False

    def feed(self, address, pixels=None):
        code, low = address >> 28, address >> 22 & 63
        columns = [0] if pixels is None else [i for i in range(32) if pixels >> i & 1]
        if code in (0, 1):
            if not self.known:
                self.counts["unsynced"] += len(columns)
                return
            self.low = low
            earlier = None
            for column in columns:
                x, y = (address >> 11 & 2047) + column, address & 2047
                if x >= WIDTH or y >= HEIGHT:
                    self.counts["outside"] += 1
                    continue
                t = self.high * 64 + low
                # All pixels of one word have one time: they step back together, once.
                if earlier is None and self.last is not None and t < self.last:
                    self.counts["backward"] += 1
                earlier = self.last = t
                self.events.append((x, y, t, code))
        elif code == 8:
            value = address & 0xFFFFFFF
            if self.high is not None:
                turns = self.high >> 28
                near = [((turns + k) << 28) + value for k in (-1, 0, 1)]
                value = min(near, key=lambda v: (abs(v - self.high), v))
            if value != self.high:
                self.high, self.low = value, 0
            self.known = True
        elif code == 10:
            if self.known:
                self.low = low
                self.triggers.append((self.high * 64 + low, address >> 8 & 31, address & 1))
            else:
                self.counts["unsynced"] += 1
        elif code not in (14, 15):
            self.counts["unknown"] += 1


def rows(events):
    assert (events.x < WIDTH).all()
    assert (events.y < HEIGHT).all()
    columns = (events.x, events.y, events.t_us, events.p)
    return list(zip(*(c.tolist() for c in columns), strict=True))


def edges(triggers):
    columns = (triggers.t_us, triggers.channel, triggers.edge)
    return list(zip(*(c.tolist() for c in columns), strict=True))


def damage(decoder):
    c = decoder.counters
    return (c.unknown_words, c.backward_time, c.out_of_frame, c.discarded_before_sync)


coordinate = st.one_of(st.integers(0, 80), st.sampled_from([28, 29, 30, 38, 64, 69, 70, 2047]))
addresses = st.one_of(
    st.builds(
        lambda p, t, x, y: p << 28 | t << 22 | x << 11 | y,
        st.integers(0, 1), st.integers(0, 63), coordinate, coordinate,
    ),
    st.builds(
        lambda t: 8 << 28 | t,
        st.one_of(st.integers(0, 40), st.sampled_from([2**27, 2**27 - 1, 2**28 - 1])),
    ),
    st.builds(lambda t, c, v: 10 << 28 | t << 22 | c << 8 | v,
              st.integers(0, 63), st.integers(0, 31), st.integers(0, 1)),
    st.sampled_from([14 << 28, 15 << 28 | 5, 9 << 28]),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
masks = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 1 << 31, 0xFF, 0xFFFFFFFF]))


def split(words, cuts, dtype):
    edges_ = [0, *sorted(min(c, len(words)) for c in cuts), len(words)]
    array = np.array(words, dtype)
    return [array[a:b].tobytes() for a, b in itertools.pairwise(edges_)]


@settings(max_examples=200, deadline=None)
@given(st.lists(addresses, max_size=150), st.lists(st.integers(0, 150), max_size=6), st.data())
def test_evt2_equals_the_reference_however_it_is_split(words, cuts, data):
    reference = Reference()
    decoder = make_decoder("evt2", width=WIDTH, height=HEIGHT)
    events, triggers = [], []
    start = 0
    for payload in split(words, cuts, "<u4"):
        if data.draw(st.booleans()):
            reference.invalidate()
            decoder.invalidate()
        for word in words[start : start + len(payload) // 4]:
            reference.feed(word)
        start += len(payload) // 4
        decoded = decoder.decode(payload, 0)
        events += rows(decoded.events)
        triggers += edges(decoded.triggers)
        expected = reference.high * 64 + reference.low if reference.known else None
        assert decoded.t_end_us == expected
    assert events == reference.events
    assert triggers == reference.triggers
    assert damage(decoder) == tuple(reference.counts[k] for k in COUNTS)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(addresses, masks), max_size=120),
    st.lists(st.integers(0, 120), max_size=6),
    st.sampled_from(["upper", "lower"]),
)
def test_evt21_equals_the_reference_however_it_is_split(pairs, cuts, order):
    reference = Reference()
    for address, pixels in pairs:
        reference.feed(address, pixels)
    words = [a << 32 | m if order == "upper" else m << 32 | a for a, m in pairs]
    decoder = Evt21Decoder(width=WIDTH, height=HEIGHT, half_order=order)
    decoded = [decoder.decode(payload, 0) for payload in split(words, cuts, "<u8")]
    assert [r for d in decoded for r in rows(d.events)] == reference.events
    assert [e for d in decoded for e in edges(d.triggers)] == reference.triggers
    assert damage(decoder) == tuple(reference.counts[k] for k in COUNTS)


def sensor_stream(rng, count, *, sparse):
    """Return (address, pixels) as a sensor sends them: time every 64 us, groups of 32 columns."""
    pairs = []
    t = int(rng.integers(0, 1 << 20))
    for i in range(count):
        if i % 5 == 0:
            t += 1
            pairs.append((8 << 28 | t, 0))
        column, row = int(rng.integers(0, WIDTH)) // 32 * 32, int(rng.integers(0, HEIGHT))
        bits = 1 << int(rng.integers(0, 6)) if sparse else int(rng.integers(1, 1 << 32))
        low = int(rng.integers(0, 64))
        pairs.append((int(rng.integers(0, 2)) << 28 | low << 22 | column << 11 | row, bits))
    return pairs


@pytest.mark.parametrize("order", ["upper", "lower"])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("start", range(5))
def test_evt21_finds_the_order_of_halves_and_loses_nothing(order, sparse, start):
    rng = np.random.default_rng(start)
    pairs = sensor_stream(rng, 400, sparse=sparse)[start:]
    words = [a << 32 | m if order == "upper" else m << 32 | a for a, m in pairs]
    told = Evt21Decoder(width=WIDTH, height=HEIGHT, half_order=order)
    expected = rows(told.decode(np.array(words, "<u8").tobytes(), 0).events)
    assert len(expected) > 300
    for cuts in ([], [1, 2, 3], [7, 200], list(range(len(words)))):
        found = make_decoder("evt21", width=WIDTH, height=HEIGHT)
        decoded = [found.decode(payload, 0) for payload in split(words, cuts, "<u8")]
        assert [r for d in decoded for r in rows(d.events)] == expected
        assert found.half_order == order
        assert damage(found) == damage(told)
        found.reset()
        assert found.half_order == "detect"


def test_one_damaged_word_does_not_settle_the_order():
    rng = np.random.default_rng(3)
    words = [a << 32 | m for a, m in sensor_stream(rng, 100, sparse=False)]
    damaged = 8 << 28 | 77  # reads as a time word in the other order
    decoder = make_decoder("evt21", width=WIDTH, height=HEIGHT)
    decoder.decode(np.array([damaged, *words], "<u8").tobytes(), 0)
    assert decoder.half_order == "upper"


def test_noise_is_not_held_back_for_ever():
    decoder = make_decoder("evt21", width=WIDTH, height=HEIGHT)
    for _ in range(20):
        decoder.decode(bytes(8 * 4096), 0)
        assert len(decoder._held) <= 65_536
    assert decoder.half_order != "detect"


@pytest.mark.parametrize("encoding", ["evt2", "evt21"])
def test_time_wraps_and_follows_a_gap(encoding):
    decoder = make_decoder(encoding, width=WIDTH, height=HEIGHT)
    pixels = 0 if encoding == "evt2" else 1

    def times(*addresses):
        words = (
            np.array(addresses, "<u4")
            if encoding == "evt2"
            else np.array([a << 32 | (0 if a >> 28 == 8 else pixels) for a in addresses], "<u8")
        )
        return decoder.decode(words.tobytes(), 0).events.t_us.tolist()

    last = 8 << 28 | (1 << 28) - 1
    assert times(last, last, 5 << 22) == [2**34 - 64 + 5]
    assert times(8 << 28, 7 << 22) == [2**34 + 7]  # wrapped
    decoder.invalidate(elapsed_us=2**33)
    assert times(3 << 22) == []
    assert times(8 << 28 | 1 << 27, 3 << 22) == [2**34 + 2**33 + 3]
    assert decoder.counters.discarded_before_sync == 1
