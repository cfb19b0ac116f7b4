"""Sensor time of every encoding from packets to windows: wraps, gaps, restarts, loops.

Each event carries the number of its segment in its column; segments are separated by what breaks a
stream. A window must never hold events of two segments, and within one, times are what they were.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.clock import SensorClock
from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import PacketDecoder
from evdistill_core.events.time_watch import TimeWatch
from evdistill_core.events.window import WindowAssembler, WindowSpec
from evdistill_core.messages.event_messages import EventArray, EventBlock, EventPacket
from evdistill_core.messages.standard import Header, Time

WIDTH, HEIGHT = 64, 48
STAMP_NS = 1_700_000_000_000_000_000
ROW = 3
WRAP_US = {"evt3": 1 << 24}


def evt3(times, column):
    """Words as the sensor sends them; its clock has 24 bits."""
    words = []
    for t in times:
        words += [0x8000 | t >> 12 & 0xFFF, 0x6000 | t & 0xFFF, ROW, 0x2000 | column]
    return np.array(words, "<u2").tobytes(), 0


def evt2(times, column):
    words = []
    for t in times:
        words.append(8 << 28 | t >> 6 & 0xFFFFFFF)
        words.append(1 << 28 | (t & 63) << 22 | column << 11 | ROW)
    return np.array(words, "<u4").tobytes(), 0


def evt21(times, column):
    words = []
    for t in times:
        words.append((8 << 28 | t >> 6 & 0xFFFFFFF) << 32)
        words.append((1 << 28 | (t & 63) << 22 | column << 11 | ROW) << 32 | 1)
    return np.array(words, "<u8").tobytes(), 0


def libcaer(times, column):
    """31 bits count from a base that holds the bits above, as the driver sends it."""
    high = times[0] >> 31 << 31 if times else 0
    stamps = [t & 0x7FFFFFFF for t in times]
    words = [s << 32 | column << 17 | ROW << 2 | 1 for s in stamps]
    return np.array(words, "<u8").tobytes(), high * 1000


def libcaer_cmp(times, column):
    words = [0x2000 | column]
    base = times[0] if times else 0
    for t in times:
        words += [(t - base) >> 12 & 0xFFF, 0x1000 | (t - base) & 0xFFF, 0x3000 | ROW]
    return np.array(words, "<u2").tobytes(), base * 1000


def mono(times, column):
    base = times[0] if times else 0
    words = [ROW << 48 | column << 32 | (t - base) * 1000 for t in times]
    return np.array(words, "<u8").tobytes(), base * 1000


ENCODERS = {f.__name__: f for f in (evt3, evt2, evt21, libcaer, libcaer_cmp, mono)}
KINDS = [*ENCODERS, "array"]


class Camera:
    """A driver: sensor time, stamps that follow host time, and a count of messages."""

    def __init__(self, kind):
        self.kind = kind
        self.seq = 7
        self.host_us = 0

    def message(self, times, column, *, elapsed_us):
        """The next packet; ``elapsed_us`` of host time have passed since the last."""
        self.host_us += elapsed_us
        stamp_ns = STAMP_NS + self.host_us * 1000
        header = Header(Time.from_ns(stamp_ns), "camera")
        if self.kind == "array":
            n = len(times)
            place = np.full(n, column, np.uint16), np.full(n, ROW, np.uint16)
            t_ns = np.array(times, np.int64) * 1000
            block = EventBlock.pack(*place, t_ns, np.ones(n, np.uint8))
            message = EventArray(header, HEIGHT, WIDTH, block)
        else:
            payload, base = ENCODERS[self.kind](times, column)
            message = EventPacket(header, HEIGHT, WIDTH, self.seq, base, self.kind, False, payload)
        self.seq += 1
        return Packet(message.TYPE, message.serialize(), stamp_ns)


class Reader:
    """What the live pipeline does with packets, as far as time goes."""

    def __init__(self, **spec):
        self.decoder, self.clock = PacketDecoder(), SensorClock()
        self.watch = TimeWatch(self.decoder.counters)
        self.assembler = WindowAssembler(WindowSpec(**spec))
        self.windows, self.breaks, self.events = [], [], []

    def push(self, packet):
        decoded = self.decoder.push(packet)
        assert decoded is not None, self.decoder.last_error
        for part in self.watch.split(decoded):
            self.take(part)

    def take(self, decoded):
        if decoded.discontinuity:
            if decoded.discontinuity != "seq":
                self.windows += self.assembler.flush()
            self.breaks.append(decoded.discontinuity)
            self.assembler.reset()
            if decoded.discontinuity != "seq":
                self.clock.reset()
        if len(decoded.events):
            self.events += decoded.events.t_us.tolist()
            self.clock.observe(int(decoded.events.t_us[0]), decoded.stamp_ns)
            self.windows += self.assembler.push(decoded.events)
        if decoded.t_end_us is not None:
            self.windows += self.assembler.advance_to(decoded.t_end_us)

    def finish(self):
        for part in self.watch.flush():
            self.take(part)
        self.windows += self.assembler.flush()
        for window in self.windows:
            assert len(set(window.events.x.tolist())) <= 1, "a window spans a break"
        return self.windows


def packets_of(camera, start_us, column, *, count=20, step_us=5_000, first_elapsed_us=None):
    """``count`` packets of ten events each from ``start_us`` on; the times that went in too."""
    made, times = [], []
    for k in range(count):
        base = start_us + k * step_us
        here = [base + i * (step_us // 10) for i in range(10)]
        elapsed = step_us if first_elapsed_us is None or k else first_elapsed_us
        made.append(camera.message(here, column, elapsed_us=elapsed))
        times += here
    return made, times


def relative(times):
    return [t - times[0] for t in times]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before_us", [52_000, 50_000, 47_503, 1])
def test_a_wrap_inside_a_packet_or_between_two(kind, before_us):
    """Times go on through 2**24, 2**31 and 2**34 microseconds as if nothing had been."""
    for wrap_us in (1 << 24, 1 << 31, 1 << 34):
        if kind == "array" and wrap_us > 1 << 31:
            continue
        camera, reader = Camera(kind), Reader(duration_us=10_000)
        made, times = packets_of(camera, wrap_us - before_us, 1)
        for packet in made:
            reader.push(packet)
        reader.finish()
        assert relative(reader.events) == relative(times)
        assert reader.breaks == []
        assert reader.decoder.counters.backward_time == 0
        assert sum(len(w.events) for w in reader.windows) == len(times)


@pytest.mark.parametrize("kind", KINDS)
def test_many_wraps_one_after_another(kind):
    """Three minutes with a packet every 0.9 s: eleven turns of EVT3's clock."""
    camera, reader = Camera(kind), Reader(duration_us=50_000)
    made, times = packets_of(camera, 123, 1, count=200, step_us=900_000)
    if kind == "libcaer_cmp":  # its times reach 16.8 s from the base of a message
        assert max(times) - min(times) > 100_000_000
    for packet in made:
        reader.push(packet)
    reader.finish()
    assert relative(reader.events) == relative(times)
    assert reader.breaks == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gap_us", [50_000, 3_000_000, 16_700_000, 40_000_000, 300_000_000])
@pytest.mark.parametrize("lost", [0, 3])
def test_a_gap_of_any_length_counts_the_turns_missed(kind, gap_us, lost):
    """Quiet (no packet is missing) or lost: the stamps tell how often the clock went round."""
    camera, reader = Camera(kind), Reader(duration_us=10_000)
    first, early = packets_of(camera, 1 << 23, 1)
    camera.seq += lost
    start_us = early[-1] + gap_us
    second, late = packets_of(camera, start_us, 2, first_elapsed_us=gap_us)
    for packet in first + second:
        reader.push(packet)
    reader.finish()
    assert relative(reader.events) == relative(early + late)
    assert reader.breaks == (["seq"] if lost and kind != "array" else [])
    assert reader.decoder.counters.lost_messages == (lost if kind != "array" else 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reached_us", [2_000_000, 7_000_000, 12_000_000, 3_000_000_000])
@pytest.mark.parametrize("spec", [{"duration_us": 10_000}, {"duration_us": None, "count": 7}])
def test_a_sensor_that_starts_anew(kind, reached_us, spec):
    """Time falls to zero while the count of messages goes on, as two seconds after a start."""
    if kind == "array" and reached_us > 1 << 31:
        pytest.skip("an EventArray counts seconds since 1970")
    camera, reader = Camera(kind), Reader(**spec)
    first, early = packets_of(camera, reached_us, 1)
    second, late = packets_of(camera, 5, 2)
    for packet in first + second:
        reader.push(packet)
    reader.finish()
    assert reader.breaks == ["time"]
    assert reader.decoder.counters.time_jumps == 1
    assert relative(reader.events[: len(early)]) == relative(early)
    assert relative(reader.events[len(early) :]) == relative(late)
    # Results are stamped in host time again at once.
    stamp_ns = reader.clock.to_host_ns(reader.events[-1])
    assert abs(stamp_ns - STAMP_NS - camera.host_us * 1000) < 6_000_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start_us", [400, 20_000_000, (1 << 24) - 50_000])
def test_a_bag_that_loops(kind, start_us):
    reader = Reader(duration_us=None, count=7)
    for turn in range(3):
        made, _ = packets_of(Camera(kind), start_us, turn, count=60)
        for packet in made:
            reader.push(packet)
    reader.finish()
    assert len(reader.breaks) == 2
    assert set(reader.breaks) <= {"seq", "time"}
    assert len(reader.events) == 3 * 600


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_window_never_spans_a_break(kind, data):
    """Any chain of restarts, losses, leaps and loops, any window."""
    count = data.draw(st.sampled_from([None, 3, 25]))
    duration = data.draw(st.sampled_from([2_000, 30_000] if count is None else [None, 30_000]))
    camera, reader = Camera(kind), Reader(duration_us=duration, count=count)
    start_us, reached_us = 1_000_000, 0
    for column in range(data.draw(st.integers(2, 5))):
        made, times = packets_of(camera, start_us, column, count=data.draw(st.integers(1, 8)))
        for packet in made:
            reader.push(packet)
        reached_us = times[-1]
        what = data.draw(st.sampled_from(["restart", "loss", "leap", "loop"]))
        if kind == "array" and what == "loss":
            what = "restart"  # nothing in an EventArray tells that one is missing
        if what in {"restart", "loop"} and reached_us < 250_000:
            what = "leap"  # a fall of less than 200 ms is what networks do
        if what == "restart":
            start_us = data.draw(st.integers(0, reached_us - 250_000))
            if kind == "evt3" and (start_us - reached_us) % WRAP_US["evt3"] < 1_500_000:
                start_us = reached_us + 2_000_000  # just before a wrap a restart cannot be told
        elif what == "loss":
            camera.seq += data.draw(st.integers(1, 50))
            start_us = reached_us + data.draw(st.integers(1, 2_000_000))
        elif what == "leap":
            start_us = reached_us + data.draw(st.integers(1_500_000, 6_000_000))
        else:
            camera.seq = 7
            start_us = max(0, reached_us - data.draw(st.integers(250_000, 900_000)))
    windows = reader.finish()
    for window in windows:
        t = window.events.t_us
        assert np.all(np.diff(t) >= 0)
        assert len(t) == 0 or window.t_start_us <= t[0] <= t[-1] < window.t_end_us


@pytest.mark.parametrize("ppm", [-200, 50, 200])
def test_the_offset_follows_a_clock_that_drifts_over_wraps(ppm):
    """Ten minutes of EVT3, 36 turns: windows are stamped within a millisecond of the truth."""
    camera, reader = Camera("evt3"), Reader(duration_us=100_000)
    worst = 0
    rng = np.random.default_rng(0)
    for k in range(6000):
        t = 1000 + k * 100_000
        host_us = int(t * (1 + ppm * 1e-6))
        camera.host_us = host_us + int(rng.exponential(300))  # delays of the network
        reader.push(camera.message([t, t + 50_000], 1, elapsed_us=0))
        if k > 100:
            offset_us = reader.events[0] - 1000
            estimate_us = (reader.clock.to_host_ns(t + offset_us) - STAMP_NS) / 1000
            worst = max(worst, abs(estimate_us - host_us))
    assert worst < 1_500
