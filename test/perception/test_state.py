"""A recurrent student's state in the pipeline: carried along a stream, never across a break."""

import numpy as np
import pytest

from evdistill_core.foundation.worker import wait_until
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import StudentFile
from evdistill_core.messages.standard import Image
from evdistill_core.perception.offline import run_recording
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.perception.pipeline import Perception
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.writers.mcap import McapWriter

BREAKS = {
    "breaks_time": [{"seq": 25, "t0_us": 90_000_000}, {"seq": 25, "t0_us": 100_000}],
    "breaks_seq": [{"seq": 60, "t0_us": 1_000_000 + 350_000}],
}
CASES = [(name, changes) for name, many in BREAKS.items() for changes in many]


@pytest.fixture
def path(recurrent_student):
    return recurrent_student


@pytest.fixture
def parameters(path):
    # Dense masks: what is remembered lies where no event is.
    return SegmentationParameters(student=str(path), unlabelled_radius_px=-1, deadline_ms=0.0)


def compute(path, parameters, packets, *, lossless, then=None, runner=None):
    """Return confidences and masks of every window in order, and the counters."""
    student = StudentFile.open(path)
    runner = runner or make_runner(student, device="cpu")
    results = []
    pipeline = Perception(student, runner, parameters, results.append, lossless=lossless)
    pipeline.start()
    try:
        for packet in packets:
            pipeline.push(packet)
            if not lossless:  # newest wins: let every window be computed
                assert wait_until(lambda: is_idle(pipeline), timeout_s=10)
        if then is not None:
            then(pipeline)
        pipeline.stop(drain=True)
        pipeline.check()
    finally:
        pipeline.stop(drain=False)
    return results, pipeline.snapshot().counters


def is_idle(pipeline):
    c = pipeline.snapshot().counters
    used = c.get("messages_used", 0) + c.get("messages_damaged", 0)
    done = c.get("windows_done", 0) + c.get("windows_dropped", 0)
    return used == c["messages_received"] and c.get("windows", 0) == done


def assert_same(left, right):
    assert len(left) == len(right) > 0
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a.prediction.mask, b.prediction.mask)
        np.testing.assert_array_equal(a.prediction.confidence, b.prediction.confidence)


@pytest.mark.parametrize("lossless", [True, False])
def test_the_state_is_carried_along_a_stream(path, parameters, scene, lossless):
    packets = [scene.packet(i) for i in range(20)]
    results, counts = compute(path, parameters, packets, lossless=lossless)
    fresh, _ = compute(path, parameters, packets[15:], lossless=lossless)
    assert len(results) == 4
    assert np.abs(results[3].prediction.confidence - fresh[0].prediction.confidence).max() > 1e-3
    assert "state_resets" not in counts


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize(("reason", "changes"), CASES)
def test_after_a_break_everything_is_as_in_a_fresh_run(  # noqa: PLR0917
    path, parameters, scene, reason, changes, lossless
):
    before = [scene.packet(i) for i in range(25)]
    first, t0_us = changes["seq"], changes["t0_us"]
    after = [scene.packet(i, seq=first + i, t0_us=t0_us) for i in range(20)]
    whole, counts = compute(path, parameters, before + after, lossless=lossless)
    fresh, fresh_counts = compute(path, parameters, after, lossless=lossless)
    assert counts[reason] == counts["state_resets"] == 1
    assert "state_resets" not in fresh_counts
    assert_same(whole[-len(fresh) :], fresh)
    assert whole[-len(fresh)].t_start_us == fresh[0].t_start_us


@pytest.mark.parametrize("reason", ["clock", "reset"])
def test_a_restart_from_outside_resets_the_state(path, parameters, scene, reason):
    packets = [scene.packet(i) for i in range(35)]

    def jump_then_go_on(pipeline):
        pipeline.start_anew(reason)
        for packet in packets[15:]:
            pipeline.push(packet)
            assert wait_until(lambda: is_idle(pipeline), timeout_s=10)

    whole, counts = compute(path, parameters, packets[:15], lossless=False, then=jump_then_go_on)
    fresh, _ = compute(path, parameters, packets[15:], lossless=False)
    assert counts[f"breaks_{reason}"] == counts["state_resets"] == 1
    assert_same(whole[-len(fresh) :], fresh)


def test_a_new_pipeline_begins_without_memory(path, parameters, scene):
    """Deactivate and activate: the loaded student stays, what it remembers does not."""
    runner = make_runner(StudentFile.open(path), device="cpu")
    packets = [scene.packet(i) for i in range(20)]
    first, _ = compute(path, parameters, packets, lossless=True, runner=runner)
    again, counts = compute(path, parameters, packets, lossless=True, runner=runner)
    assert_same(first, again)
    assert "state_resets" not in counts


def test_several_breaks_between_two_windows_are_one_reset(path, parameters, scene):
    packets = [scene.packet(i) for i in range(10)]
    packets += [scene.packet(10 + k, seq=20 * k) for k in range(2, 5)]
    packets += [scene.packet(14 + k, seq=80 + k) for k in range(1, 6)]
    _, counts = compute(path, parameters, packets, lossless=True)
    assert counts["breaks_seq"] == 3
    assert counts["state_resets"] == 1


def test_a_run_and_the_live_pipeline_agree_over_a_loop(path, parameters, scene, tmp_path):
    pytest.importorskip("av")
    looped = [scene.packet(i, seq=30 * turn + i) for turn in range(2) for i in range(30)]
    with McapWriter(tmp_path / "bag.mcap") as writer:
        for i, p in enumerate(looped):
            writer.write("/event_camera/events", p.type_name, p.data, p.receive_time_ns + i)
    report = run_recording(tmp_path / "bag.mcap", tmp_path / "out", parameters, show_progress=False)
    assert report["counters"]["state_resets"] == 1
    live, counts = compute(path, parameters, looped, lossless=False)
    assert counts["state_resets"] == 1
    with open_recording(tmp_path / "out" / "masks.mcap") as recording:
        packets = recording.packets(["/segmentation/mask"])
        masks = [np.array(Image.parse(p.data).to_array()) for p in packets]
    assert len(masks) == len(live) == 12  # the first turn ends in a shorter window
    for mask, result in zip(masks, live, strict=True):
        np.testing.assert_array_equal(mask, result.prediction.mask)
    # The second turn repeats the first, and a state that went on would have changed it.
    for a, b in zip(masks[:6], masks[6:], strict=True):
        np.testing.assert_array_equal(a, b)


def test_students_without_a_state_count_no_resets(tiny_student, scene):
    packets = [scene.packet(i) for i in range(10)]
    packets += [scene.packet(i, seq=10 + i, t0_us=90_000_000) for i in range(10)]
    given = SegmentationParameters(student=str(tiny_student))
    _, counts = compute(tiny_student, given, packets, lossless=True)
    assert counts["breaks_time"] == 1
    assert "state_resets" not in counts
