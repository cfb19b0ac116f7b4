"""What a detection says about itself."""

import pytest

from evdistill_core.inference.prediction import Detection


@pytest.mark.parametrize(
    ("detection", "line"),
    [
        (
            Detection(5, 0.43651, (220, 183, 248, 206), 285, track_id=3, class_name="vehicle"),
            "Detection(vehicle 3, score 0.44, box (220, 183, 248, 206))",
        ),
        (Detection(5, 0.4, (0, 1, 2, 3), 1), "Detection(class 5, score 0.40, box (0, 1, 2, 3))"),
    ],
)
def test_a_detection_shows_itself_in_one_short_line(detection, line):
    assert repr(detection) == line
