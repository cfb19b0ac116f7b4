import threading
import time

import numpy as np
import pytest

from evdistill_core.events.account import account_of_stream
from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import DecodedPacket, PacketDecoder
from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.foundation.worker import wait_until
from evdistill_core.perception import ingest as perception_ingest
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.perception.pipeline import STAGES, Perception

T0_NS = 1_700_000_000_000_000_000
FILTERS = ("hot_pixel", "refractory", "background", "rate_limit")


class Bench:
    """A pipeline with its results, stopped at the end of the test whatever happens."""

    def __init__(self, student, runner):
        self.student, self.runner = student, runner
        self.results = []
        self.pipeline = None

    def start(self, *, lossless=False, on_result=None, **parameters):
        self.pipeline = Perception(
            self.student,
            self.runner,
            SegmentationParameters(**parameters),
            on_result or self.results.append,
            lossless=lossless,
        )
        self.pipeline.start()
        return self.pipeline

    def counts(self):
        return self.pipeline.snapshot().counters

    def check_balance(self):
        c = self.counts()
        get = lambda name: c.get(name, 0)  # noqa: E731
        snapshot = self.pipeline.snapshot()
        assert get("messages_received") == (
            get("messages_used")
            + get("messages_damaged")
            + get("messages_lost_queue")
            + get("messages_discarded")
            + snapshot.queue_packets
        )
        assert get("windows") == (
            get("windows_done") + get("windows_dropped") + get("windows_discarded")
        )
        assert get("events") == (
            get("window_used")
            + get("window_late")
            + get("window_discarded")
            + get("window_pending")
            + sum(get(f"filter_{n}") for n in FILTERS)
        )


@pytest.fixture
def bench(stub_student, stub_runner):
    bench = Bench(stub_student, stub_runner)
    before = threading.active_count()
    yield bench
    if bench.pipeline is not None:
        bench.pipeline.stop(drain=False)
    assert threading.active_count() == before


def masks(results):
    return [r.prediction.mask for r in results]


def test_every_window_of_a_recording_is_computed(bench, scene):
    pipeline = bench.start(lossless=True)
    assert all(pipeline.push(scene.packet(i)) for i in range(50))
    pipeline.stop(drain=True)
    pipeline.check()
    assert [r.index for r in bench.results] == list(range(10))
    assert [r.t_end_us - r.t_start_us for r in bench.results] == [50_000] * 10
    counts = bench.counts()
    assert counts["messages_used"] == 50
    assert counts["windows_done"] == 10
    assert counts.get("windows_dropped", 0) == 0
    assert sum(len(r.events) for r in bench.results) == counts["events"] == 50 * 200
    bench.check_balance()


def test_a_result_is_stamped_with_the_host_time_of_its_windows_end(bench, scene):
    pipeline = bench.start(lossless=True)
    for i in range(25):
        pipeline.push(scene.packet(i))
    pipeline.stop(drain=True)
    for result in bench.results:
        # The first event of a packet lies up to 1 ms after the time that its stamp stands for.
        expected_ns = T0_NS + (result.t_end_us - 1_000_000) * 1000
        assert abs(result.stamp_ns - expected_ns) < 1_000_000
        assert result.frame_id == "camera"


def test_things_are_found_and_keep_their_id(bench, scene):
    pipeline = bench.start(lossless=True)
    for i in range(50):
        pipeline.push(scene.packet(i))
    pipeline.stop(drain=True)
    for result in bench.results:
        (thing,) = result.prediction.detections
        assert (thing.class_id, thing.track_id) == (1, 1)
        assert (result.prediction.mask == 255).any()


def test_the_same_packets_give_the_same_masks_live_and_offline(bench, scene):
    offline = bench.start(lossless=True)
    packets = [scene.packet(i) for i in range(40)]
    for packet in packets:
        offline.push(packet)
    offline.stop(drain=True)
    expected, bench.results = bench.results, []
    done = bench.start(deadline_ms=0.0)
    for i, packet in enumerate(packets):
        done.push(packet)
        assert wait_until(lambda full=i // 5: len(bench.results) >= full, timeout_s=30)
    done.stop(drain=True)
    assert bench.counts().get("windows_dropped", 0) == 0
    assert len(expected) == len(bench.results) == 8
    for a, b in zip(expected, bench.results, strict=True):
        assert (a.t_start_us, a.stamp_ns) == (b.t_start_us, b.stamp_ns)
        np.testing.assert_array_equal(a.prediction.mask, b.prediction.mask)
        assert a.prediction.detections == b.prediction.detections


def test_decoded_events_go_the_same_way_as_packets(bench, scene):
    decoder = PacketDecoder()
    packets = [scene.packet(i) for i in range(15)]
    one = bench.start(lossless=True)
    for packet in packets:
        one.push(packet)
    one.stop(drain=True)
    expected, bench.results = bench.results, []
    two = bench.start(lossless=True)
    for packet in packets:
        decoded = decoder.push(packet)
        assert isinstance(decoded, DecodedPacket)
        two.push_events(decoded)
    two.stop(drain=True)
    for a, b in zip(masks(expected), masks(bench.results), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_slow_network_drops_windows_and_counts_them(bench, scene):
    gate = threading.Event()
    bench.runner.before_run = gate.wait
    pipeline = bench.start(deadline_ms=0.0)
    for i in range(51):
        pipeline.push(scene.packet(i))
    assert wait_until(lambda: bench.counts().get("messages_used") == 51, timeout_s=30)
    gate.set()
    pipeline.stop(drain=True)
    counts = bench.counts()
    assert counts["windows_dropped"] > 0
    assert len(bench.results) == counts["windows_done"] < counts["windows"]
    assert bench.results[-1].index == counts["windows"] - 1
    bench.check_balance()
    account = account_of_stream(counts)
    assert account.used == sum(len(r.events) for r in bench.results)
    assert account.left_out["dropped"] > 0
    assert account.read == account.used + sum(account.left_out.values())


def test_a_full_queue_is_a_counted_gap_and_no_window_spans_it(bench, scene):
    gate = threading.Event()
    pipeline = bench.start(queue_packets=5, deadline_ms=0.0)
    ingest = pipeline._ingest
    take = ingest.take
    ingest.take = lambda *a: (gate.wait(), take(*a))
    packets = [scene.array_packet(i) for i in range(20)]
    pipeline.push(packets[0])
    assert wait_until(lambda: pipeline.snapshot().queue_packets == 0, timeout_s=30)
    for packet in packets[1:]:
        pipeline.push(packet)
    gate.set()
    pipeline.stop(drain=True)
    counts = bench.counts()
    assert counts["messages_lost_queue"] == 15
    assert counts["queue_overflows"] == 3
    assert counts["breaks_queue"] == 1
    bench.check_balance()
    # Packets 1..15 are lost: packet 0 must not share a window with packet 16 and later.
    for result in bench.results:
        t = result.events.t_us
        assert len(t) == 0 or t.max() < 1_010_000 or t.min() >= 1_160_000


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"index": 30}, "breaks_seq"),
        ({"index": 3, "seq": 25, "t0_us": 100_000}, "breaks_time"),
        ({"index": 3, "seq": 25, "t0_us": 90_000_000}, "breaks_time"),
    ],
)
def test_no_window_spans_a_break(bench, scene, second, reason):
    pipeline = bench.start(lossless=True)
    for i in range(23):
        pipeline.push(scene.packet(i))
    first = second.pop("index")
    seq = second.pop("seq", first)
    for k in range(12):
        pipeline.push(scene.packet(first + k, seq=seq + k, **second))
    pipeline.stop(drain=True)
    assert bench.counts()[reason] == 1
    boundary_us = second.get("t0_us", 1_000_000) + first * 10_000
    for result in bench.results:
        t = result.events.t_us
        before = t < 1_230_000 if boundary_us >= 1_230_000 else t >= 1_000_000
        assert before.all() or not before.any()
    bench.check_balance()


def test_a_jump_in_time_begins_new_tracks_with_new_ids(bench, scene):
    pipeline = bench.start(lossless=True)
    for i in range(20):
        pipeline.push(scene.packet(i))
    for i in range(20):
        pipeline.push(scene.packet(i, seq=20 + i, t0_us=90_000_000))
    pipeline.stop(drain=True)
    ids = [d.track_id for r in bench.results for d in r.prediction.detections]
    assert ids == sorted(ids)
    assert set(ids) == {1, 2}
    assert bench.counts()["stream_time_jumps"] == 1


def test_a_new_sensor_size_goes_on_with_masks_of_that_size(bench, scene, scene_type):
    other = scene_type(width=96, height=64)
    pipeline = bench.start(lossless=True)
    for i in range(12):
        pipeline.push(scene.packet(i))
    for i in range(12, 24):
        pipeline.push(other.packet(i))
    pipeline.stop(drain=True)
    sizes = [r.prediction.mask.shape for r in bench.results]
    assert sizes == [(48, 64)] * 3 + [(64, 96)] * 3  # the third is short
    assert bench.counts()["breaks_size"] == 1
    snapshot = bench.pipeline.snapshot()
    assert (snapshot.width, snapshot.height) == (96, 64)


@pytest.mark.parametrize("size", [0, 3, 40, 200])
def test_damaged_packets_are_counted_and_the_rest_goes_on(bench, scene, size):
    pipeline = bench.start(lossless=True)
    for i in range(20):
        packet = scene.packet(i)
        if i == 7:
            packet = Packet(packet.type_name, packet.data[:size], packet.receive_time_ns)
        pipeline.push(packet)
    pipeline.stop(drain=True)
    pipeline.check()
    counts = bench.counts()
    assert counts["messages_damaged"] == 1
    assert counts["messages_used"] == 19
    assert len(bench.results) >= 3
    bench.check_balance()


def test_random_bytes_never_end_the_pipeline(bench, scene):
    rng = np.random.default_rng(1)
    pipeline = bench.start(lossless=True)
    for i in range(60):
        data = bytearray(scene.packet(i).data)
        for _ in range(rng.integers(0, 20)):
            data[rng.integers(4, len(data))] = rng.integers(0, 256)
        pipeline.push(Packet("event_camera_msgs/msg/EventPacket", bytes(data), T0_NS))
    pipeline.stop(drain=True)
    pipeline.check()
    assert bench.counts()["messages_received"] == 60
    bench.check_balance()


def test_a_quiet_camera_still_gets_its_last_window(bench, scene):
    pipeline = bench.start(deadline_ms=20.0)
    for i in range(5):
        pipeline.push(scene.packet(i))
    assert wait_until(lambda: len(bench.results) >= 1, timeout_s=30)
    first = bench.results[0]
    assert first.t_end_us - first.t_start_us == 50_000
    assert len(first.events) == 1000
    pipeline.stop(drain=True)
    bench.check_balance()


def test_a_driver_that_was_held_up_moves_no_window(bench, scene, monkeypatch):
    monkeypatch.setattr(perception_ingest, "QUIET_US", 60_000_000)
    pipeline = bench.start(deadline_ms=20.0, window_us=50_000, keep_windows=True)
    for i in range(23):
        pipeline.push(scene.packet(i))
    assert wait_until(lambda: len(bench.results) == 5, timeout_s=30)
    time.sleep(0.3)
    assert len(bench.results) == 5, "only the window that had events is closed"
    for i in range(23, 50):
        pipeline.push(scene.packet(i))
    pipeline.stop(drain=True)
    ends_us = np.array([r.t_end_us for r in bench.results])
    assert (np.diff(ends_us) == 50_000).all()
    assert len(ends_us) == 10
    counts = bench.counts()
    assert counts.get("breaks_pause", 0) == 0
    # Two packets came when their window was closed; the last 10 ms of it went to the next one.
    assert 190 <= counts["window_late"] <= 210
    bench.check_balance()


def test_slow_packets_are_not_taken_for_silence(bench, scene_type):
    scene = scene_type()
    pipeline = bench.start(deadline_ms=1.0, window_us=20_000)
    for i in range(0, 40, 4):
        pipeline.push(scene.packet(i, seq=i // 4))
        time.sleep(0.04)
    pipeline.stop(drain=True)
    assert bench.counts().get("window_late", 0) == 0


def test_latencies_are_measured_for_every_stage(bench, scene):
    pipeline = bench.start(lossless=True)
    for i in range(30):
        pipeline.push(scene.packet(i))
    pipeline.stop(drain=True)
    latency = pipeline.snapshot().latency_ms
    assert set(latency) == set(STAGES)
    assert latency["decode"].count == 30
    assert latency["total"].count == 6
    for stage in ("infer", "represent", "postprocess", "total"):
        assert 0 < latency[stage].p50 <= latency[stage].p95 <= latency[stage].p99
    assert latency["total"].p50 >= latency["infer"].p50


def test_a_mistake_of_ours_is_reported_and_stops_everything(bench, scene):
    def fail():
        raise KeyError("oops")

    bench.runner.before_run = fail
    pipeline = bench.start(lossless=True)
    pushed = [pipeline.push(scene.packet(i)) for i in range(200)]
    assert not pushed[-1]
    pipeline.stop(drain=True, timeout_s=30)
    assert pipeline.has_failed
    with pytest.raises(RuntimeError, match="inference failed: KeyError: 'oops'"):
        pipeline.check()


def test_a_damaged_student_ends_the_pipeline_with_its_own_error(bench, scene):
    bench.runner.run = lambda _: np.full((2, 12, 16), np.nan, np.float32)
    pipeline = bench.start()
    for i in range(20):
        pipeline.push(scene.packet(i))
    assert wait_until(lambda: pipeline.has_failed, timeout_s=30)
    pipeline.stop()
    with pytest.raises(StudentError, match="not finite"):
        pipeline.check()


def test_a_failing_callback_is_reported(bench, scene):
    def on_result(result):
        raise OSError("disk full")

    pipeline = bench.start(lossless=True, on_result=on_result)
    for i in range(20):
        pipeline.push(scene.packet(i))
    pipeline.stop()
    with pytest.raises(OSError, match="disk full"):
        pipeline.check()


def test_stop_without_drain_throws_away_and_counts(bench, scene):
    gate = threading.Event()
    bench.runner.before_run = gate.wait
    pipeline = bench.start(deadline_ms=0.0)
    for i in range(30):
        pipeline.push(scene.packet(i))
    stopper = threading.Thread(target=lambda: pipeline.stop(drain=False))
    stopper.start()
    gate.set()
    stopper.join(10)
    pipeline.stop(drain=False)
    pipeline.stop(drain=True)
    assert not pipeline.push(scene.packet(31))
    bench.check_balance()


def test_stop_before_start_and_twice(stub_student, stub_runner):
    pipeline = Perception(stub_student, stub_runner, SegmentationParameters(), print)
    pipeline.stop()
    pipeline.stop()


def test_parameters_change_from_the_next_window_on(bench, scene):
    pipeline = bench.start(lossless=True)
    for i in range(15):
        pipeline.push(scene.packet(i))
    assert wait_until(lambda: len(bench.results) >= 2, timeout_s=30)
    pipeline.reconfigure(SegmentationParameters(unlabelled_radius_px=-1, window_us=20_000))
    for i in range(15, 25):
        pipeline.push(scene.packet(i))
    pipeline.stop(drain=True)
    last = bench.results[-1]
    assert last.t_end_us - last.t_start_us == 20_000
    assert (last.prediction.mask != 255).all()
    assert (bench.results[0].prediction.mask == 255).any()
    assert [r.index for r in bench.results] == list(range(len(bench.results)))
    bench.check_balance()


def test_overlapping_windows(bench, scene):
    pipeline = bench.start(lossless=True, stride_us=25_000)
    for i in range(20):
        pipeline.push(scene.packet(i))
    pipeline.stop(drain=True)
    starts = np.diff([r.t_start_us for r in bench.results])
    assert (starts == 25_000).all()
    assert len(bench.results) >= 6


def test_filters_work_between_decoding_and_windows_and_count(bench, scene):
    bench.start(
        lossless=True,
        hot_pixels_learn_ms=100,
        hot_pixels_min_hz=0.0,
        refractory_us=500,
        background_us=5_000,
        max_events_per_s=10_000,
    )
    for i in range(40):
        bench.pipeline.push(scene.packet(i))
    bench.pipeline.stop()
    bench.check_balance()
    counts = bench.counts()
    assert counts["filter_pushed"] == counts["events"] == 8000
    for name in ("refractory", "background", "rate_limit"):
        assert counts[f"filter_{name}"] > 0, name
    left = sum(len(r.events) for r in bench.results)
    assert left == 8000 - sum(counts[f"filter_{n}"] for n in FILTERS)
    assert all(len(r.events) <= 500 for r in bench.results)  # 10 kev/s for 50 ms


def test_windows_go_on_when_a_filter_drops_everything(bench, scene, tmp_path):
    path = tmp_path / "hot.txt"
    pixels = [f"{x} {y}" for x in range(64) for y in range(48)]
    path.write_text("\n".join(["64 48", *pixels]))
    bench.start(lossless=True, hot_pixels_file=str(path))
    for i in range(20):
        bench.pipeline.push(scene.packet(i))
    bench.pipeline.stop()
    bench.check_balance()
    assert bench.counts()["filter_hot_pixel"] == 4000
    assert not bench.results, "no event, no grid"


def test_a_quiet_filtered_stream_closes_its_windows_by_the_time_of_what_was_dropped(bench, scene):
    bench.start(lossless=True)
    for i in range(6):
        bench.pipeline.push(scene.packet(i))
    wait_until(lambda: bench.counts().get("messages_used", 0) == 6, timeout_s=10)
    before = len(bench.results)
    # From now on nothing has a neighbour within no time at all.
    bench.pipeline.reconfigure(SegmentationParameters(refractory_us=10_000_000))
    for i in range(6, 20):
        bench.pipeline.push(scene.packet(i))
    bench.pipeline.stop()
    bench.check_balance()
    assert len(bench.results) > before
    assert bench.counts()["filter_refractory"] > 0


def test_a_list_of_hot_pixels_that_cannot_be_read_is_refused_at_the_start(bench):
    with pytest.raises(ConfigError, match="nowhere"):
        bench.start(hot_pixels_file="nowhere.txt")
    bench.start()


def test_a_paused_bag_goes_on_where_it_was(bench, scene):
    # A deadline that a busy machine does not miss by itself.
    pipeline = bench.start(deadline_ms=300.0, window_us=50_000)
    for i in range(23):
        pipeline.push(scene.packet(i))
        time.sleep(0.005)
    assert wait_until(lambda: len(bench.results) >= 5, timeout_s=30)
    time.sleep(1.0)  # host time passes, sensor time does not
    before = len(bench.results)
    for i in range(23, 50):
        pipeline.push(scene.packet(i))
        time.sleep(0.005)
    pipeline.stop(drain=True)
    counts = bench.counts()
    assert counts["breaks_pause"] == 1
    assert counts.get("window_late", 0) == 0
    after = [r for r in bench.results[before:] if len(r.events)]
    assert sum(len(r.events) for r in after) == 27 * 200
    bench.check_balance()


@pytest.mark.parametrize("reason", ["clock", "reset"])
def test_a_restart_from_outside_forgets_everything(bench, scene, stub_runner, reason):
    pipeline = bench.start()
    for i in range(12):
        pipeline.push(scene.packet(i))
    assert wait_until(lambda: bench.counts().get("messages_used") == 12, timeout_s=30)
    pipeline.start_anew(reason)
    # The same sensor time, stamps and seq go on: only the clock knows that it is another turn.
    for i in range(12, 30):
        pipeline.push(scene.packet(i))
    pipeline.stop(drain=True)
    counts = bench.counts()
    assert counts[f"breaks_{reason}"] == 1
    assert counts["window_discarded"] == 400
    for r in bench.results:
        assert (r.events.t_us < 1_120_000).all() or (r.events.t_us >= 1_120_000).all()
    bench.check_balance()


def test_the_rate_of_windows_can_be_limited(bench, scene):
    pipeline = bench.start(lossless=True, window_us=20_000, max_rate_hz=10.0)
    for i in range(100):
        pipeline.push(scene.packet(i))
    pipeline.stop(drain=True)
    ends = np.array([r.t_end_us for r in bench.results])
    assert (np.diff(ends) == 100_000).all()
    assert len(ends) == 10
    assert bench.counts()["windows_skipped"] == 40
    bench.check_balance()
