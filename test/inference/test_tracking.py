from dataclasses import replace

import pytest

from evdistill_core.inference.prediction import Detection
from evdistill_core.inference.tracking import Tracker, box_iou


def car(left, top=0, size=10, class_id=5):
    return Detection(class_id, 0.9, (left, top, left + size, top + size), size * size)


def ids(tracker, *detections):
    return [d.track_id for d in tracker.update(detections)]


def test_ids_follow_overlapping_boxes_and_new_boxes_get_new_ids():
    tracker = Tracker()
    assert ids(tracker, car(0), car(50)) == [1, 2]
    assert ids(tracker, car(53), car(3), car(100)) == [2, 1, 3]


def test_the_larger_overlap_wins():
    tracker = Tracker()
    assert ids(tracker, car(0)) == [1]
    assert ids(tracker, car(4), car(1)) == [2, 1]


def test_classes_are_never_mixed():
    tracker = Tracker()
    assert ids(tracker, car(0)) == [1]
    assert ids(tracker, car(0, class_id=4)) == [2]


def test_an_id_survives_a_gap_of_max_missed_windows_and_no_more():
    tracker = Tracker(max_missed=2)
    assert ids(tracker, car(0)) == [1]
    assert ids(tracker) == []
    assert ids(tracker) == []
    assert ids(tracker, car(0)) == [1]
    for _ in range(3):
        tracker.update([])
    assert ids(tracker, car(0)) == [2]


def test_reset_starts_ids_anew():
    tracker = Tracker()
    ids(tracker, car(0), car(50))
    tracker.reset()
    assert ids(tracker, car(50)) == [1]


def test_box_iou():
    assert box_iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert box_iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert box_iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)


def test_an_unsure_detection_goes_on_with_a_track_but_begins_none():

    tracker = Tracker()
    unsure = replace(car(2), score=0.25)
    assert tracker.update([unsure], min_score=0.3) == ()
    assert [d.track_id for d in tracker.update([car(0)], min_score=0.3)] == [1]
    assert [d.track_id for d in tracker.update([unsure], min_score=0.3)] == [1]
