"""Spans of EVT3 bags are entered near their start, and are exactly those of the whole."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.array import Events
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import Header, Time
from evdistill_core.recordings.base import cut
from evdistill_core.recordings.encoders.evt3 import encode_evt3
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.writers.mcap import McapWriter

STEP_US = 100_000
HOST_NS = 1_700_000_000_000_000_000
SIZE = {"width": 64, "height": 48}


@dataclasses.dataclass
class Message:
    """What a message of a made-up bag says, and when its events were seen."""

    t_us: int
    receive_ns: int
    stamp_ns: int
    seq: int
    payload: bytes


def camera(rng, count, *, origin_us=0, latency_us=3_000, jitter_us=0, every=1):
    """Return what a driver publishes: a few events every 100 ms, each known by its place."""
    messages = []
    for i in range(count):
        t_us = origin_us + i * every * STEP_US
        t = np.sort(rng.integers(0, STEP_US, 4)) + t_us
        x, y = rng.integers(0, 64, 4), rng.integers(0, 48, 4)
        events = Events.from_columns(x, y, t, np.zeros(4, np.uint8), **SIZE)
        late_us = latency_us + int(rng.integers(0, jitter_us + 1))
        host_ns = HOST_NS + (t_us - origin_us + STEP_US + late_us) * 1000
        messages.append(Message(t_us, host_ns, host_ns, i, encode_evt3(events, 0)))
    return messages


def write(path, messages):
    with McapWriter(path) as writer:
        for m in messages:
            packet = EventPacket(
                Header(Time.from_ns(m.stamp_ns), "cam"), 48, 64, m.seq, 0, "evt3", False, m.payload
            )
            writer.write("/events", EventPacket.TYPE, packet.serialize(), m.receive_ns)
    return path


def span_and_slice(path, start_us, end_us=None):
    """Return the span, the span cut out of the whole, and how many messages the first one took."""
    with open_recording(path) as recording:
        whole = [b.events for b in cut(recording.batches(), start_us, end_us)]
        parts = [b.events for b in recording.batches(start_us, end_us)]
        messages = recording.counters["messages"]
    none = Events.empty(64, 48)
    return Events.concatenate([none, *parts]), Events.concatenate([none, *whole]), messages


def shuffled(messages, rng):
    times = rng.permutation([m.receive_ns for m in messages])
    return [dataclasses.replace(m, receive_ns=int(t)) for m, t in zip(messages, times, strict=True)]


def with_receive(change):
    """Return a function that changes receive times alone; stamps stay."""

    def apply(messages, rng):
        return [
            dataclasses.replace(m, receive_ns=change(i, m.receive_ns))
            for i, m in enumerate(messages)
        ]

    return apply


def with_clock(change):
    """Return a function that changes the host's clock: receive times and stamps."""

    def apply(messages, rng):
        times = [change(i, m.receive_ns) for i, m in enumerate(messages)]
        return [
            dataclasses.replace(m, receive_ns=t, stamp_ns=t)
            for m, t in zip(messages, times, strict=True)
        ]

    return apply


def restarted(messages, rng):
    """Start the driver again somewhere: numbers from 0, the sensor's clock from anywhere."""
    at = int(rng.integers(1, len(messages)))
    again = camera(rng, len(messages) - at, origin_us=int(rng.integers(0, 1 << 24)))
    late_ns = at * STEP_US * 1000
    return messages[:at] + [
        dataclasses.replace(m, receive_ns=m.receive_ns + late_ns, stamp_ns=m.stamp_ns + late_ns)
        for m in again
    ]


def paused(messages, rng):
    """Nothing moved for up to 40 s, so nothing was sent."""
    at = int(rng.integers(0, len(messages)))
    return messages[:at] + messages[at + int(rng.integers(10, 400)) :]


def thinned(messages, rng):
    """Messages were lost."""
    return [m for m in messages if rng.random() < 0.8]


def sensor_reset(messages, rng):
    """Only the sensor's clock restarts; the driver counts on."""
    at = int(rng.integers(1, len(messages)))
    again = camera(rng, len(messages) - at, origin_us=int(rng.integers(0, 1 << 24)))
    return messages[:at] + [
        dataclasses.replace(m, payload=new.payload)
        for m, new in zip(messages[at:], again, strict=True)
    ]


HARMLESS = {
    "as they are": lambda messages, rng: messages,
    "no stamps": lambda messages, rng: [dataclasses.replace(m, stamp_ns=0) for m in messages],
    "lost": thinned,
    "host clock 1e-4 fast": with_clock(lambda i, t: t + (t - HOST_NS) // 10_000),
}
USELESS = {
    "receive times zero": with_receive(lambda i, t: 0),
    "receive times constant": with_receive(lambda i, t: HOST_NS),
    "receive times shuffled": shuffled,
    "played at half speed": with_receive(lambda i, t: 2 * t - HOST_NS),
    "played at 10 times the speed": with_receive(lambda i, t: HOST_NS + (t - HOST_NS) // 10),
    "stamps constant": lambda messages, rng: [
        dataclasses.replace(m, stamp_ns=HOST_NS) for m in messages
    ],
    "recorder's clock set a turn ahead": with_receive(
        lambda i, t: t + (i > 300) * (1 << 24) * 1000
    ),
    "host clock set a turn ahead": with_clock(lambda i, t: t + (i > 300) * (1 << 24) * 1000),
    "host clock set a turn back": with_clock(lambda i, t: t - (i > 300) * (1 << 24) * 1000),
    "host clock set back": with_clock(lambda i, t: t - (i > 300) * 5_000_000_000),
    "driver restarted": restarted,
    "sensor restarted": sensor_reset,
    "pause": paused,
}


@pytest.mark.parametrize("seed", [2, 40])
def test_two_runs_that_were_received_at_once_are_not_entered(tmp_path, seed):
    """Three of their messages may be in order by chance: the span came out empty."""
    rng = np.random.default_rng(seed)
    messages = USELESS["host clock set back"](camera(rng, 900, jitter_us=20_000), rng)
    path = write(tmp_path / "a.mcap", messages)
    for start_us in (28_000_000, 29_187_500):
        span, expected, _ = span_and_slice(path, start_us, start_us + 500_000)
        assert span.equals(expected)


@pytest.mark.parametrize("case", [*HARMLESS, *USELESS])
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    origin_us=st.integers(0, (1 << 24) - 1),
    jitter_us=st.sampled_from([0, 20_000, 400_000]),
    start_s=st.floats(0, 95, allow_subnormal=False),
    length_s=st.sampled_from([0.5, 10.0, None]),
)
def test_span_is_the_slice_of_the_whole(  # noqa: PLR0917 - drawn by hypothesis
    tmp_path_factory, case, seed, origin_us, jitter_us, start_s, length_s
):
    rng = np.random.default_rng(seed)
    messages = camera(rng, 900, origin_us=origin_us, jitter_us=jitter_us)
    messages = {**HARMLESS, **USELESS}[case](messages, rng)
    path = write(tmp_path_factory.mktemp("bag") / "a.mcap", messages)
    start_us = origin_us + int(start_s * 1e6)
    end_us = None if length_s is None else start_us + int(length_s * 1e6)
    span, expected, taken = span_and_slice(path, start_us, end_us)
    assert span.equals(expected)
    # Without its first message a recording's time may begin a turn of EVT3 later, and the span lie
    # behind its end, which only reading all of it can tell.
    if case in HARMLESS and 10 < start_s < 80 and jitter_us == 0 and len(expected):
        assert taken <= len(messages) - (start_s - 5) * 10 * 0.7


@pytest.mark.parametrize("case", ["as they are", "no stamps"])
@pytest.mark.parametrize("end_s", [70, None, 1000])
def test_the_fraction_of_a_span_is_that_of_its_length(tmp_path, case, end_s):
    rng = np.random.default_rng(8)
    path = write(tmp_path / "a.mcap", HARMLESS[case](camera(rng, 900), rng))
    end_us = None if end_s is None else end_s * 1_000_000
    with open_recording(path) as recording:
        done = [
            (int(batch.events.t_us[-1]), recording.fraction_read)
            for batch in recording.batches(60_000_000, end_us)
        ]
        assert recording.counters["messages"] < 450
        assert recording.fraction_read == 1.0
        assert len(list(recording.batches())) == 900
        assert recording.fraction_read == 1.0
    assert len(done) == (100 if end_s == 70 else 300)
    # The bag is entered some 2 s before, which is part of the way.
    length_us = 10_000_000 if end_s == 70 else 30_000_000
    for t_us, fraction in done:
        assert fraction == pytest.approx((t_us - 60_000_000) / length_us, abs=0.3)
    fractions = [fraction for _, fraction in done]
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.25
    assert fractions[len(done) // 2] == pytest.approx(0.55, abs=0.07)
    assert fractions[-1] > 0.97


def test_a_long_bag_is_entered(tmp_path):
    """Two hours: more hops than are made, 430 turns of the clock in between."""
    path = write(tmp_path / "a.mcap", camera(np.random.default_rng(3), 3600, every=20))
    span, expected, taken = span_and_slice(path, 7_150_000_000, 7_160_000_000)
    assert len(span) == 20
    assert span.equals(expected)
    assert taken < 50


def test_a_bag_without_an_index_is_read_from_its_start(tmp_path):
    messages = camera(np.random.default_rng(5), 600, origin_us=16_000_000)
    path = write(tmp_path / "a.mcap", messages)
    path.write_bytes(path.read_bytes()[:-200])
    span, expected, taken = span_and_slice(path, 60_000_000)
    assert len(span) == 640
    assert span.equals(expected)
    assert taken > 500


def test_a_damaged_time_where_the_bag_is_entered_is_noticed(tmp_path):
    messages = camera(np.random.default_rng(6), 600)
    damaged = bytearray(messages[460].payload)
    damaged[:2] = (0x8000 | 0x7AB).to_bytes(2, "little")
    for i in range(430, 480):  # wherever the way ends
        messages[i] = dataclasses.replace(messages[i], payload=bytes(damaged))
    path = write(tmp_path / "a.mcap", messages)
    span, expected, _ = span_and_slice(path, 50_000_000)
    assert span.equals(expected)
