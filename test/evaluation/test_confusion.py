"""Scores against loops over pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.evaluation.confusion import Confusion
from evdistill_core.foundation.errors import DataError


def slow_iou(truth, prediction, k):
    inter = union = 0
    for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if t == 255:
            continue
        inter += t == k and p == k
        union += k in (t, p)
    return inter / union if union else float("nan")


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_iou_equals_the_slow_loop(seed, classes):
    rng = np.random.default_rng(seed)
    ids = np.append(np.arange(classes), 255).astype(np.uint8)
    truth, prediction = rng.choice(ids, (2, 3, 9, 7))
    confusion = Confusion(classes)
    for t, p in zip(truth, prediction, strict=True):
        confusion.add(t, p)
    scores = confusion.scores()
    expected = [slow_iou(truth, prediction, k) for k in range(classes)]
    np.testing.assert_allclose(scores.iou, expected)
    if not np.all(np.isnan(expected)):
        assert scores.miou == pytest.approx(np.nanmean(expected))
    valid = truth != 255
    if valid.any():
        assert scores.accuracy == pytest.approx(np.mean(truth[valid] == prediction[valid]))


def test_unlabelled_predictions_lower_recall():
    confusion = Confusion(2)
    confusion.add(np.array([0, 0, 1, 1]), np.array([0, 255, 1, 1]))
    assert confusion.scores().recall == (0.5, 1.0)
    assert confusion.counts[0, 2] == 1


def test_a_class_that_is_nowhere_does_not_count():
    confusion = Confusion(3)
    confusion.add(np.array([0, 1]), np.array([0, 1]))
    scores = confusion.scores()
    assert np.isnan(scores.iou[2])
    assert scores.miou == 1.0
    assert scores.to_dict(("a", "b", "c"))["classes"]["c"]["iou"] is None


def test_region_restricts_what_is_scored():
    confusion = Confusion(2)
    truth, prediction = np.array([0, 0, 1]), np.array([0, 1, 0])
    confusion.add(truth, prediction, np.array([True, False, False]))
    assert confusion.scores().accuracy == 1.0
    assert confusion.scores().pixels == 1


def test_nothing_counted_gives_nan():
    scores = Confusion(2).scores()
    assert np.isnan(scores.miou)
    assert np.isnan(scores.accuracy)


@pytest.mark.parametrize("bad", [np.array([2]), np.array([-1]), np.array([253])])
def test_unknown_ids_are_refused(bad):
    with pytest.raises(DataError):
        Confusion(2).add(bad, np.array([0]))
    with pytest.raises(DataError):
        Confusion(2).add(np.array([0]), bad)


def test_shapes_that_differ_are_refused():
    with pytest.raises(DataError):
        Confusion(2).add(np.zeros(3, int), np.zeros(4, int))


def test_what_is_none_of_some_classes_counts_where_one_of_these_is_predicted():
    truth = np.array([0, 254, 1, 254, 254, 2])
    prediction = np.array([0, 1, 1, 255, 2, 2])
    confusion = Confusion(3)
    confusion.add(truth, prediction, excluded=np.array([False, True, False]))
    assert confusion.counts.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert confusion.false_alarms.tolist() == [0, 1, 0]
    scores = confusion.scores()
    assert scores.false_alarms[1] == pytest.approx(1 / 3)
    assert (scores.precision[1], scores.iou[1]) == (0.5, 0.5)
    assert (scores.precision[2], scores.iou[2]) == (1.0, 1.0)  # it may be this: nobody knows
    assert scores.pixels == 3
    named = scores.to_dict(("a", "b", "c"))["classes"]
    assert [("false_alarms" in row) for row in named.values()] == [False, True, False]
    nowhere = Confusion(3)
    nowhere.add(truth, prediction, truth == 0, excluded=np.array([False, True, False]))
    assert not nowhere.outside.any()
    with pytest.raises(DataError, match="prediction holds ids"):
        confusion.add(np.array([0]), np.array([254]))


def test_without_excluded_classes_nothing_is_said_of_these_pixels():
    confusion = Confusion(3)
    confusion.add(np.array([0, 254]), np.array([0, 1]))
    assert confusion.scores().precision[0] == 1.0
    assert not confusion.false_alarms.any()
