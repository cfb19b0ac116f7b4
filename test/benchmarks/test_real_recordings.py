"""The benchmark on real recordings takes the instances of a student that has a head."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from inference.instance_heads import perfect_heads

from evdistill_core.events.array import Events
from evdistill_core.events.window import Window
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.inference.postprocess import PostprocessConfig
from evdistill_core.inference.runner import Output
from evdistill_core.representations import InputSpec

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
VEHICLE = SIX_CLASSES.names.index("vehicle")


@pytest.mark.parametrize(("how", "count"), [("auto", 2), ("components", 1)])
def test_cars_that_touch_are_two_boxes_for_a_student_with_a_head(how, count, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from real_recordings import StudentMethod

    labels, numbers = np.zeros((80, 128), np.uint8), np.zeros((80, 128), np.uint16)
    labels[28:46, 20:84] = VEHICLE
    numbers[28:46, 20:52], numbers[28:46, 52:84] = 1, 2
    said = Output(*perfect_heads(labels, numbers, stride=4, num_classes=6))
    y, x = np.nonzero(numbers)
    events = Events.from_columns(x, y, np.arange(len(x)), x % 2, width=128, height=80)
    info = SimpleNamespace(input=InputSpec(size_multiple=8), classes=SIX_CLASSES)
    method = StudentMethod(
        SimpleNamespace(info=info, path=Path("head.evstudent")),
        SimpleNamespace(run_whole=lambda x: said, output_stride=4),
        PostprocessConfig(instances=how),
    )
    boxes = method(Window(events, 0, 50_000, 0)).detections
    assert [d.class_id for d in boxes] == [VEHICLE] * count


def test_a_part_of_a_recording_is_left_out(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from real_recordings import DEMO, windows_of

    whole = [w.t_start_us for w in windows_of(DEMO, 50_000)]
    early, late = (
        [w.t_start_us for w in windows_of(DEMO, 50_000, span_s)]
        for span_s in ((0.0, 1.2), (1.2, 9.0))
    )
    assert early + late == whole
    assert late[0] - whole[0] >= 1_200_000 > early[-1] - whole[0]
    assert not list(windows_of(DEMO, 50_000, (60.0, 90.0)))
