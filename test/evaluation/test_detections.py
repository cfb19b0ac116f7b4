import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evdistill_core.evaluation.detections import DetectionScorer, ScoredBox
from evdistill_core.foundation.errors import DataError

A, B = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0)


def test_a_true_box_is_found_once_and_by_the_surest():
    scorer = DetectionScorer(2)
    scorer.add([ScoredBox(0, A), ScoredBox(1, B)], [ScoredBox(0, A, 0.5), ScoredBox(0, A, 0.9)])
    found = scorer.to_dict(["car", "human"])
    assert found["classes"] == {
        "car": {"true": 1, "found": 2, "right": 1, "ap": 1.0},
        "human": {"true": 1, "found": 0, "right": 0, "ap": 0.0},
    }
    assert (found["precision"], found["recall"], found["map"]) == (0.5, 0.5, 0.5)


def test_overlap_class_and_image_must_fit():
    scorer = DetectionScorer(2)
    half = (0.0, 0.0, 10.0, 5.0)  # overlaps by exactly one half
    less = (0.0, 0.0, 10.0, 4.9)
    scorer.add([ScoredBox(0, A)], [ScoredBox(0, half, 0.3)])
    scorer.add([ScoredBox(0, A)], [ScoredBox(0, less, 0.8), ScoredBox(1, A, 0.9)])
    scorer.add([], [ScoredBox(0, A, 0.7)])
    found = scorer.to_dict(["car", "human"])
    assert found["classes"]["car"] == {
        "true": 2,
        "found": 3,
        "right": 1,
        "ap": pytest.approx(1 / 6),
    }
    # Nothing says how precise a class is that is nowhere.
    assert found["classes"]["human"]["ap"] is None
    assert found["map"] == pytest.approx(1 / 6)


def test_nothing_at_all_has_no_score():
    assert DetectionScorer(3).to_dict("abc") == {
        "min_iou": 0.5,
        "map": None,
        "precision": None,
        "recall": None,
        "classes": {},
    }


def test_unknown_classes_are_refused():
    with pytest.raises(DataError, match=r"the class 2; classes are 0\.\.1"):
        DetectionScorer(2).add([], [ScoredBox(2, A)])


def slow_average_precision(hits, true):
    """Area below the curve of the best precision at each recall, point by point."""
    area = 0.0
    for k in range(1, true + 1):  # recall k / true
        reached = [sum(hits[:n]) / n for n in range(1, len(hits) + 1) if sum(hits[:n]) >= k]
        area += max(reached, default=0.0) / true
    return area


@given(
    hits=st.lists(st.booleans(), max_size=12),
    missed=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_average_precision_is_that_of_its_definition(hits, missed, seed):
    true = sum(hits) + missed
    scorer = DetectionScorer(1)
    scores = np.linspace(1, 0.1, len(hits)) if hits else []
    images = [([ScoredBox(0, A)] if hit else [], s) for hit, s in zip(hits, scores, strict=True)]
    for i in np.random.default_rng(seed).permutation(len(images)):
        truth, score = images[i]
        scorer.add(truth, [ScoredBox(0, A, float(score))])
    for _ in range(missed):
        scorer.add([ScoredBox(0, A)], [])
    found = scorer.average_precision(0)
    if not true:
        assert found is None
    else:
        assert found == pytest.approx(slow_average_precision(hits, true))
