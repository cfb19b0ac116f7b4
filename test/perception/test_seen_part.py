"""Region, rotation, tiles and size through the whole pipeline: results in the sensor's pixels."""

import logging

import numpy as np
import pytest
from inference.instance_heads import perfect_heads

from evdistill_core.events.array import Events
from evdistill_core.events.window import Window
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.inference.prediction import InstanceOutput
from evdistill_core.inference.runner import Output
from evdistill_core.perception import predictor as predictor_module
from evdistill_core.perception.ingest import Job
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.perception.pipeline import Perception
from evdistill_core.perception.predictor import WindowPredictor


def window_of(events):
    return Window(events, 1_000_000, 1_050_000, 0)


def predict(student, runner, events, **parameters):
    counts = []
    predictor = WindowPredictor(
        student, runner, SegmentationParameters(**parameters), counts.append
    )
    job = Job(window_of(events), 1, "", 0, 0, 0, 0)
    return predictor, predictor(job)


@pytest.fixture
def square(scene):
    return scene.events(1_000_000, 1_050_000)


def turned(events, turns):
    """The same events as a camera sees them that is turned counterclockwise."""
    x, y, width, height = events.x, events.y, events.width, events.height
    for _ in range(turns):
        x, y, width, height = y, width - 1 - x.astype(int), height, width
    return Events.from_columns(x, y, events.t_us, events.p, width=width, height=height)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_camera_gives_the_turned_result(stub_student, stub_runner, square, turns):
    _, upright = predict(stub_student, stub_runner, square)
    events = turned(square, turns)
    predictor, found = predict(stub_student, stub_runner, events, rotation_deg=90 * turns)
    np.testing.assert_array_equal(found.mask, np.rot90(upright.mask, turns))
    np.testing.assert_array_equal(found.instances, np.rot90(upright.instances, turns))
    assert found.events is events
    (a,), (b,) = upright.detections, found.detections
    assert (a.area_px, a.score) == (b.area_px, b.score)
    left, top, right, bottom = b.box_xyxy
    assert (found.instances[top:bottom, left:right] == b.instance_id).sum() == b.area_px
    assert predictor.size.seen == (48, 64)


def test_results_of_a_region_are_in_the_sensors_pixels(stub_student, stub_runner, square):
    roi = (0, 4, 40, 32)
    _, found = predict(stub_student, stub_runner, square, roi=roi)
    inside = np.zeros((48, 64), bool)
    inside[4:36, 0:40] = True
    assert found.mask.shape == (48, 64)
    assert (found.mask[~inside] == 255).all()
    kept = square[inside[square.y, square.x]]
    moved = Events.from_columns(kept.x, kept.y - 4, kept.t_us, kept.p, width=40, height=32)
    _, alone = predict(stub_student, stub_runner, moved)
    np.testing.assert_array_equal(found.mask[4:36, :40], alone.mask)
    boxes = [tuple(np.add(d.box_xyxy, (0, 4, 0, 4))) for d in alone.detections]
    assert [d.box_xyxy for d in found.detections] == boxes
    assert boxes


def test_tiles_give_what_the_whole_gives(stub_student, stub_runner, scene_type):
    scene = scene_type(width=320, height=240)
    events = scene.events(1_000_000, 1_050_000)
    _, whole = predict(stub_student, stub_runner, events)
    runs = stub_runner.runs
    predictor, tiled = predict(stub_student, stub_runner, events, tiles=(3, 2))
    assert stub_runner.runs == runs + 6
    np.testing.assert_array_equal(tiled.mask, whole.mask)
    np.testing.assert_array_equal(tiled.confidence, whole.confidence)
    assert predictor.size.to_dict()["tiles"] == "3x2"


def test_a_reduced_input_is_told_once(stub_student, stub_runner, square, caplog):
    with caplog.at_level(logging.WARNING):
        predictor, _ = predict(stub_student, stub_runner, square, max_pixels=1000)
        predictor(Job(window_of(square), 1, "", 0, 0, 0, 0))
    (told,) = [r.getMessage() for r in caplog.records]
    assert "sees 64x48 pixels reduced to 32x24" in told
    assert predictor.size.to_dict()["factor"] == 2
    caplog.clear()
    predict(stub_student, stub_runner, square)
    assert not caplog.records


def test_events_outside_of_the_region_are_counted(stub_student, stub_runner, scene):
    results = []
    parameters = SegmentationParameters(roi=(20, 0, 20, 48))
    pipeline = Perception(stub_student, stub_runner, parameters, results.append, lossless=True)
    pipeline.start()
    for k in range(10):
        pipeline.push(scene.packet(k))
    pipeline.stop(timeout_s=150)
    pipeline.check()
    snapshot = pipeline.snapshot()
    outside = snapshot.counters["filter_outside_roi"]
    assert outside > 0
    assert snapshot.counters["events"] - outside == sum(len(r.events) for r in results)
    assert snapshot.input["seen"] == "20x48"
    assert snapshot.input_note == ""


class HeadRunner:
    """Says the same of every window: two cars that touch, told apart by a head."""

    is_recurrent = False

    def __init__(self):
        labels, numbers = np.zeros((80, 128), np.uint8), np.zeros((80, 128), np.uint16)
        labels[28:46, 20:84] = 1
        numbers[28:46, 20:52], numbers[28:46, 52:84] = 1, 2
        y, x = np.nonzero(numbers)
        self.events = Events.from_columns(
            x, y, np.full(len(x), 1_020_000), x % 2, width=128, height=80
        )
        self.output = Output(*perfect_heads(labels, numbers, stride=4, num_classes=2))

    def run_whole(self, x):
        """Cells of a tile are found by what only the whole input has: its ramp."""
        left, top = int(x[0, 0, 0]) // 4, int(x[1, 0, 0]) // 4
        rows, columns = x.shape[1] // 4, x.shape[2] // 4
        part = (..., slice(top, top + rows), slice(left, left + columns))
        logits, head = self.output
        return Output(logits[part], InstanceOutput(*(a[part] for a in head)))


@pytest.mark.parametrize(
    ("values", "count"), [({}, 2), ({"instances": "components"}, 1), ({"tiles": (2, 1)}, 2)]
)
def test_the_instance_head_reaches_detections_and_instances(
    stub_student, monkeypatch, values, count
):
    def ramp(window, spec, out):
        out[0] = np.arange(out.shape[2])
        out[1] = np.arange(out.shape[1])[:, None]
        return out

    monkeypatch.setattr(predictor_module, "represent", ramp)
    runner = HeadRunner()
    _, found = predict(stub_student, runner, runner.events, **values)
    assert len(found.detections) == count
    for d in found.detections:
        assert (found.instances == d.instance_id).sum() == d.area_px
    widths = [d.box_xyxy[2] - d.box_xyxy[0] for d in found.detections]
    assert np.abs(np.subtract(widths, 64 / count)).max() <= 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"roi": (0, 0, 5, 0)}, "both sizes above 0, or both 0"),
        ({"roi": (0, 0, -1, 5)}, r"roi must lie in 0\.\.65535 px, got \[0, 0, -1, 5\]"),
        ({"rotation_deg": 45}, "rotation_deg must be 0, 90, 180 or 270, got 45"),
        ({"rotation_deg": 360}, r"rotation_deg must lie in 0\.\.270"),
        ({"tiles": (0, 2)}, "both above 0, or both 0"),
        ({"max_pixels": -2}, r"max_pixels must lie in -1"),
    ],
)
def test_impossible_values_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        SegmentationParameters(**values)


def test_a_region_outside_of_the_sensor_is_refused(stub_student, stub_runner, square):
    with pytest.raises(ConfigError, match="lies outside of this sensor of 64x48"):
        predict(stub_student, stub_runner, square, roi=(100, 0, 10, 10))


def test_a_later_sensor_that_the_region_does_not_fit_is_seen_whole(
    stub_student, stub_runner, square, caplog
):
    predictor, _ = predict(stub_student, stub_runner, square, roi=(20, 10, 40, 30))
    small = Events.from_columns([3], [2], [1_000_100], [1], width=24, height=16)
    found = predictor(Job(window_of(small), 1, "", 0, 0, 0, 0))
    assert found.mask.shape == (16, 24)
    assert "this size is seen without a region" in caplog.text
