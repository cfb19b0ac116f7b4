"""Inputs that are built while their windows fill are those of ``represent``."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.stream import DecodedPacket
from evdistill_core.foundation.worker import BoundedQueue
from evdistill_core.perception import ahead, ingest
from evdistill_core.perception.ingest import Incoming, Ingest
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.representations import BackgroundFilter, InputSpec, represent

WIDTH, HEIGHT = 9, 7
SPEC = InputSpec(window_us=1000, background_filter=BackgroundFilter(dt_us=120))


class Side:
    """The ingest side alone; every job's input must be what ``represent`` gives."""

    def __init__(self, *, lossless=True, **parameters):
        self.jobs = []
        self.ingest = Ingest(
            SPEC,
            SegmentationParameters(**{"window_us": 1000, **parameters}),
            hand_over=self.jobs.append,
            count=lambda name, amount: None,
            record=lambda latencies: None,
            lossless=lossless,
        )

    def run(self, parts):
        for part in parts:
            self.ingest.take(incoming(part))
        self.ingest.flush()
        return self.check()

    def check(self):
        """Return (windows, those that were built ahead)."""
        built = [job for job in self.jobs if job.input is not None]
        for job in built:
            assert job.represent_ms > 0
            np.testing.assert_array_equal(job.input, represent(job.window, SPEC))
        return len(self.jobs), len(built)


def incoming(events, discontinuity=""):
    return Incoming(DecodedPacket(events, Triggers.empty(), 10**18, "", discontinuity), 0)


def make(times, seed=0):
    rng, n = np.random.default_rng(seed), len(times)
    return Events.from_columns(
        rng.integers(0, WIDTH, n), rng.integers(0, HEIGHT, n), np.asarray(times, np.int64),
        rng.integers(0, 2, n), width=WIDTH, height=HEIGHT,
    )  # fmt: skip


def cut(events, places):
    places = sorted({min(p, len(events)) for p in places})
    return [events[a:b] for a, b in zip([0, *places], [*places, len(events)], strict=True) if a < b]


@pytest.fixture(autouse=True)
def every_event_counts(monkeypatch):
    monkeypatch.setattr(ahead, "MIN_EVENTS", 1)


@given(
    st.lists(st.sampled_from([0, 1, 3, 20, 90, 400, 1500, -200]), max_size=60),
    st.lists(st.integers(0, 60), max_size=12),
    st.sampled_from([
        {}, {"stride_us": 500}, {"stride_us": 700}, {"stride_us": 200}, {"stride_us": 250},
        {"stride_us": 250, "max_rate_hz": 900.0}, {"stride_us": 100}, {"max_rate_hz": 500.0},
        {"background_us": 100}, {"refractory_us": 30},
    ]),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_inputs_do_not_depend_on_the_packets(steps, places, parameters):
    events = make(5_000_000 + np.cumsum(np.array(steps, np.int64)))
    Side(**parameters).run(cut(events, places))


def test_windows_by_time_are_built_ahead():
    events = make(np.arange(0, 20_000, 2))
    parts = cut(events, range(0, 10_000, 130))
    assert Side().run(parts) == (20, 20)
    assert Side(stride_us=500).run(parts) == (39, 39)
    assert Side(stride_us=250).run(parts) == (77, 77)
    assert Side(stride_us=200).run(parts) == (96, 96)
    # Every event would be in ten windows that share nothing: company may lie two strides away.
    assert Side(stride_us=100).run(parts)[1] == 0
    # Nobody knows where the window will end.
    windows, built = Side(window_count=300).run(parts)
    assert windows > 30
    assert built == 0


def test_few_events_are_left_to_the_end(monkeypatch):
    monkeypatch.setattr(ahead, "MIN_EVENTS", 501)
    assert Side().run(cut(make(np.arange(0, 20_000, 2)), range(0, 10_000, 130)))[1] == 0


def test_a_break_takes_what_was_built_with_it():
    side = Side()
    parts = cut(make(np.arange(0, 3000, 2)), range(0, 1500, 100))
    for i, part in enumerate(parts):
        side.ingest.take(incoming(part, "seq" if i == 7 else ""))
    side.ingest.flush()
    # 0 .. 1000, then 1400 .. 2400 and what follows; 1000 .. 1400 was thrown away.
    assert side.check() == (3, 3)
    assert [job.window.t_start_us for job in side.jobs] == [0, 1400, 2400]


@pytest.mark.parametrize("why", ["seq", "time", "size"])
def test_overlapping_windows_share_nothing_over_a_break(why):
    side = Side(stride_us=250)
    parts = cut(make(np.arange(0, 6000, 2)), range(0, 3000, 100))
    wider = [Events(p.x, p.y, p.t_us, p.p, WIDTH + (why == "size"), HEIGHT) for p in parts[15:]]
    for i, part in enumerate([*parts[:15], *wider]):
        side.ingest.take(incoming(part, why if i == 15 else ""))
    side.ingest.flush()
    windows, built = side.check()
    assert windows > 15
    assert built == windows


def test_overlapping_windows_after_new_parameters():
    side = Side(stride_us=250)
    strides = [250, 500, 1000, 200, 300]
    for i, part in enumerate(cut(make(np.arange(0, 20_000, 2)), range(0, 10_000, 100))):
        if i % 20 == 0:
            side.ingest.parameters = SegmentationParameters(
                window_us=1000, stride_us=strides[i // 20]
            )
        side.ingest.take(incoming(part))
    side.ingest.flush()
    windows, built = side.check()
    assert windows > 40
    assert built > windows - 20  # 300 us: each event is in four windows that share nothing


def test_a_side_that_is_behind_leaves_inputs_to_the_network_thread(monkeypatch):
    monkeypatch.setattr(ingest, "BEHIND_PACKETS", 5)
    parts = cut(make(np.arange(0, 20_000, 2)), range(0, 10_000, 500))
    for lossless, expected in ((True, 20), (False, 5)):
        side = Side(lossless=lossless)
        queue = BoundedQueue(max_items=100, max_bytes=1 << 30)
        for part in parts:
            queue.offer(incoming(part), 1)
        queue.close()
        side.ingest.run(queue)
        side.ingest.flush()
        windows, built = side.check()
        assert windows == 20
        assert built == pytest.approx(expected, abs=1)


def rests(monkeypatch, times_us, *, packet_ns, lossless=False, **parameters):
    """How long the ingest side rests after each packet of one event, in ms."""
    slept = []
    monkeypatch.setattr(ingest.time, "sleep", lambda s: slept.append(round(s * 1e3, 3)))
    side = Side(lossless=lossless, **parameters)
    found = []
    for i, t_us in enumerate(times_us):
        queue = BoundedQueue(max_items=9, max_bytes=1 << 20)
        event = Events.from_columns([1], [1], [t_us], [1], width=WIDTH, height=HEIGHT)
        whole = DecodedPacket(event, Triggers.empty(), 10**18, "", "")
        queue.put(Incoming(whole, i * packet_ns), 1)
        queue.close()
        slept.clear()
        side.ingest.run(queue)
        found.append(sum(slept))
    return found


def test_packets_gather_only_while_the_windows_end_is_far(monkeypatch):
    times = [0, 2_000, 20_000, 40_000, 46_000, 48_000, 49_000, 51_000]
    # Half of what is left of 50 ms, 8 ms at most; not worth it below 2 ms.
    wanted = [8, 8, 8, 5, 2, 0, 0, 8]
    args = {"window_us": 50_000, "packet_ns": 10**9}
    assert rests(monkeypatch, times, **args) == wanted
    assert rests(monkeypatch, times, **args, lossless=True) == [0] * 8
    # By count nobody knows when a window ends.
    assert rests(monkeypatch, times, **args, window_count=3) == [0] * 8


def test_packets_of_a_bag_that_plays_fast_gather_for_less_time(monkeypatch):
    # Ten times as fast: 1 ms of the host is 10 ms of the sensor.
    times = [0, 10_000, 20_000, 30_000]
    assert rests(monkeypatch, times, window_us=100_000, packet_ns=10**6) == [8, 4.5, 4.0, 3.5]
