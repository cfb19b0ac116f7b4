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


def test_a_part_of_a_recording_is_counted_and_all_of_it_is_seen(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from real_recordings import CLUSTERS, DEMO, ClusterMethod, measure

    def counted(*span_s):
        seen = []
        method = ClusterMethod(SIX_CLASSES, CLUSTERS)

        class Watched:
            name, classes = method.name, method.classes

            def __call__(self, window):
                seen.append(window)
                return method(window)

        return measure(DEMO, Watched(), 50_000, tmp_path / "sheet.png", *span_s), len(seen)

    whole, windows = counted()
    early, late = counted((0.0, 1.2)), counted((1.2, 99.0))
    assert early[0].windows == 24
    assert early[0].windows + late[0].windows == whole.windows == windows
    assert early[0].vehicle_boxes + late[0].vehicle_boxes == whole.vehicle_boxes
    assert early[1] == late[1] == windows
    assert counted((60.0, 90.0))[0].windows == 0
