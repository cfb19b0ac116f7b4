"""COCO's average precision against its definition, point by point, and against counts by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evdistill_core.evaluation.average_precision import (
    AveragePrecision,
    box_overlaps,
    instance_overlaps,
)


def test_overlaps_of_boxes():
    boxes = [(0, 0, 10, 10), (20, 0, 30, 10)]
    found = [(0, 0, 10, 5), (5, 5, 15, 15), (40, 40, 40, 50)]
    expected = [[0.5, 25 / 175, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(box_overlaps(boxes, found), expected)
    assert box_overlaps([], found).shape == (0, 3)
    assert box_overlaps(boxes, []).shape == (2, 0)


def test_overlaps_of_maps_of_instances():
    a, b = np.zeros((4, 6), np.uint16), np.zeros((4, 6), np.uint16)
    a[0, :4], a[2:, :] = 9, 300
    b[0, 2:6], b[3, :] = 1, 2
    numbers_a, numbers_b, overlaps = instance_overlaps(a, b)
    assert (list(numbers_a), list(numbers_b)) == ([9, 300], [1, 2])
    np.testing.assert_allclose(overlaps, [[2 / 6, 0], [0, 0.5]])
    assert instance_overlaps(a, np.zeros_like(a))[2].shape == (2, 0)


def test_one_of_two_things_found_exactly_and_a_false_one_after_it():
    scorer = AveragePrecision()
    scorer.add(np.array([[1.0, 0.0], [0.0, 0.0]]), [0.9, 0.8])
    # Precision 1 at the 51 recalls up to 0.5, 0 at the other 50.
    assert scorer.to_dict() == {
        "ap50": pytest.approx(51 / 101), "ap50_95": pytest.approx(51 / 101),
    }  # fmt: skip


def test_an_overlap_counts_at_all_thresholds_up_to_it():
    scorer = AveragePrecision()
    scorer.add(np.array([[0.7]]), [0.3])
    assert scorer.to_dict() == {"ap50": pytest.approx(1), "ap50_95": pytest.approx(5 / 10)}


def test_the_surest_chooses_first_and_takes_the_largest_overlap():
    scorer = AveragePrecision()
    # The sure one takes the second thing; the other is left with the first.
    scorer.add(np.array([[0.6, 0.0], [0.6, 0.9]]), [0.2, 0.8])
    assert scorer.to_dict()["ap50"] == pytest.approx(1)
    twice = AveragePrecision()
    twice.add(np.array([[0.9], [0.95]]), [0.8, 0.7])
    twice.add(np.zeros((0, 1)), [])
    # Hit, miss; one of two true: precision 1 up to recall 0.5.
    assert twice.to_dict()["ap50"] == pytest.approx(51 / 101)


def test_nothing_true_has_no_score_and_nothing_found_scores_0():
    assert AveragePrecision().to_dict() == {"ap50": None, "ap50_95": None}
    missed = AveragePrecision()
    missed.add(np.zeros((0, 2)), [])
    assert missed.to_dict() == {"ap50": 0.0, "ap50_95": 0.0}


def slow_ap(images, least):
    """COCO's AP at one overlap, image by image and recall by recall."""
    ranked, true = [], 0
    for overlaps, scores in images:
        left = set(range(overlaps.shape[1]))
        true += len(left)
        for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
            rivals = [(overlaps[i, j], -j) for j in left if overlaps[i, j] >= least - 1e-9]
            if rivals:
                left.remove(-max(rivals)[1])
            ranked.append((scores[i], bool(rivals)))
    ranked.sort(key=lambda pair: -pair[0])
    total = 0.0
    for r in range(101):
        reached = []
        for n in range(1, len(ranked) + 1):
            right = sum(hit for _, hit in ranked[:n])
            if right * 100 >= r * true:
                reached.append(right / n)
        total += max(reached, default=0.0) / 101
    return total


@given(seed=st.integers(0, 10_000))
def test_average_precision_of_coco_is_that_of_its_definition(seed):
    rng = np.random.default_rng(seed)
    images = []
    scorer = AveragePrecision()
    scores = list(rng.permutation(100) / 100)  # all different: equal ones have no order
    for _ in range(rng.integers(1, 4)):
        found, true = rng.integers(0, 5, 2)
        overlaps = rng.random((found, true)).round(2)
        own = [scores.pop() for _ in range(found)]
        images.append((overlaps, own))
        scorer.add(overlaps, own)
    result = scorer.at_overlaps()
    if not sum(o.shape[1] for o, _ in images):
        assert result is None
        return
    for k, least in enumerate(np.linspace(0.5, 0.95, 10)):
        assert result[k] == pytest.approx(slow_ap(images, least))
