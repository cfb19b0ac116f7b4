"""The benchmark of agreement on frames: its figures are what it says they are."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from evdistill_core.events.array import Events
from evdistill_core.inference.student import StudentFile
from evdistill_core.training.teacher import NetworkTeacher

HERE = Path(__file__).resolve().parents[2] / "benchmarks"
SHAPE = (40, 50)


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import aps_agreement

    yield aps_agreement
    for name in ("aps_agreement", "real_recordings"):
        del sys.modules[name]


def moment(bench, *, seed, teacher):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 50_000, 400))
    x, y = rng.integers(0, SHAPE[1], 400), rng.integers(0, SHAPE[0], 400)
    events = Events.from_columns(x, y, t, rng.integers(0, 2, 400), width=SHAPE[1], height=SHAPE[0])
    fired = np.zeros(SHAPE, np.uint8)
    fired[y, x] = 1
    cars = np.zeros(SHAPE, np.uint8)
    cars[:, :25] = 1
    frame = np.zeros(SHAPE, np.uint8)
    return bench.Moment(0.05, 50_000, events, fired, frame, teacher, cars)


def test_agreement_and_iou(bench):
    teacher = [np.array([[0, 0, 1, 1]], np.uint8)]
    student = [np.array([[0, 1, 1, 0]], np.uint8)]
    everywhere = [np.ones((1, 4), np.uint8)]
    counts = bench.counts_of(teacher, student, everywhere, 3)
    # One of three pixels that either calls a class is called so by both; class 2 is nowhere.
    assert bench.agreement(counts) == (0.5, pytest.approx(1 / 3))
    fired = [np.array([[1, 0, 1, 0]], np.uint8)]
    assert bench.agreement(bench.counts_of(teacher, student, fired, 3)) == (1.0, 1.0)


def test_intervals_hold_the_difference_and_are_wider_for_blocks(bench):
    rng = np.random.default_rng(0)
    share = np.repeat(rng.uniform(0.2, 0.8, 6), 5)  # frames in a row are alike
    before = np.array([[[50, 50], [0, 0]]] * 30)
    after = np.array([[[round(100 * s), 100 - round(100 * s)], [0, 0]] for s in share])
    difference = np.subtract(bench.agreement(after), bench.agreement(before))
    widths = []
    for block in (1, 5):
        spans = bench.interval(before, after, block=block)
        for (low, high), value in zip(spans, difference, strict=True):
            assert low < value < high
        widths.append(spans[0][1] - spans[0][0])
    assert widths[1] > 1.3 * widths[0]
    assert bench.interval(before, before, block=5) == [(0.0, 0.0)] * 2


class Bright(torch.nn.Module):
    """Bright pixels are class 5, dark ones class 0, at half the size."""

    def forward(self, x):
        x = torch.nn.functional.avg_pool2d(x, 2)
        return torch.cat([-x, *[torch.full_like(x, -9)] * 4, x], 1)


def test_a_teacher_is_asked_at_the_pixels_of_the_frame(bench):
    frame = np.zeros(SHAPE, np.uint8)
    frame[10:30, 20:44] = 255
    mask = bench.teacher_mask(NetworkTeacher(Bright(), None, 6), frame)
    assert mask.shape == SHAPE
    assert np.array_equal(mask == 5, frame == 255)
    assert set(np.unique(mask)) == {0, 5}


def test_a_student_agrees_with_itself_and_is_compared_with_the_first(bench, tiny_student):
    student = StudentFile.open(tiny_student)
    blank = np.zeros(SHAPE, np.uint8)
    seen = bench.student_masks(student, [moment(bench, seed=s, teacher=blank) for s in (0, 1)])
    own = [
        moment(bench, seed=s, teacher=np.where(m == 255, 0, m).astype(np.uint8))
        for s, m in enumerate(seen)
    ]
    first, second = bench.compare(own, [student, student], block=1)
    assert first["agreement"] == 1.0
    assert first["pixels"] == sum(int(m.fired.sum()) for m in own) > 500
    assert sum(row["both"] for row in first["classes"]) == first["pixels"]
    assert "difference" not in first
    assert second["difference"] == {"agreement": 0.0, "miou": 0.0}
    wrong = [
        moment(bench, seed=s, teacher=(m % 5 + 1).astype(np.uint8)) for s, m in enumerate(seen)
    ]
    assert bench.compare(wrong, [student], block=1)[0]["agreement"] < 1


def test_moments_are_the_frames_of_a_recording_with_a_whole_window_before(bench, tmp_path):
    demo = HERE.parent / "demo" / "davis346_street.mcap"
    teacher = NetworkTeacher(Bright(), None, 6)
    found = bench.moments(demo, teacher, window_us=50_000, cache=tmp_path)
    assert 20 <= len(found) <= 30  # the recording has 30 images
    for one in found:
        assert one.frame.shape == one.fired.shape == one.teacher.shape == (260, 346)
        assert one.fired.any()
        assert one.frame.max() > one.frame.min()
    assert any(one.cars.any() for one in found)
