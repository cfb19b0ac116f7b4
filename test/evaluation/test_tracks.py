"""MOTA, IDF1 and HOTA against values that were worked out by hand."""

import math

import numpy as np
import pytest

from evdistill_core.evaluation.detections import ScoredBox
from evdistill_core.evaluation.tracks import TrackScorer

LEFT, RIGHT = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 60.0, 10.0)


def box(where, name, class_id=0):
    return ScoredBox(class_id, where, 1.0, name)


def score(*frames, num_classes=1):
    scorer = TrackScorer(num_classes)
    scorer.add_sequence(frames)
    return scorer.to_dict(["car", "human"][:num_classes])


def test_perfect_tracks_score_1():
    frames = [([box(LEFT, "a"), box(RIGHT, "b")], [box(LEFT, "7"), box(RIGHT, "9")])] * 4
    found = score(*frames)
    for name in ("mota", "idf1", "hota", "det_a", "ass_a"):
        assert found[name] == pytest.approx(1)
    assert found["id_switches"] == 0


def test_one_change_of_id_in_the_middle():
    # One thing for four images; found under id 1 for two of them, then under id 2.
    frames = [([box(LEFT, "a")], [box(LEFT, name)]) for name in "1122"]
    found = score(*frames)
    assert found["id_switches"] == 1
    assert found["mota"] == pytest.approx(1 - 1 / 4)
    assert found["idf1"] == pytest.approx(2 * 2 / (4 + 4))
    # Every pair: 2 of its own, 2 of the true track missed, none of the found one: 2 / 4.
    assert found["det_a"] == pytest.approx(1)
    assert found["ass_a"] == pytest.approx(0.5)
    assert found["hota"] == pytest.approx(math.sqrt(0.5))


def test_two_things_swap_their_ids():
    frames = [([box(LEFT, "a"), box(RIGHT, "b")], [box(LEFT, x), box(RIGHT, y)])
              for x, y in ("12", "12", "12", "21")]  # fmt: skip
    found = score(*frames)
    assert found["id_switches"] == 2
    assert found["mota"] == pytest.approx(1 - 2 / 8)
    assert found["idf1"] == pytest.approx(2 * 6 / 16)
    # Six pairs with 3 / (4 + 4 - 3), two with 1 / (4 + 4 - 1).
    association = (6 * 3 / 5 + 2 * 1 / 7) / 8
    assert found["ass_a"] == pytest.approx(association)
    assert found["hota"] == pytest.approx(math.sqrt(association))


def test_misses_and_false_boxes():
    frames = [
        ([box(LEFT, "a")], [box(LEFT, "1"), box(RIGHT, "2")]),
        ([box(LEFT, "a")], []),
        ([], [box(RIGHT, "2")]),
    ]
    found = score(*frames)
    assert found["mota"] == pytest.approx(1 - (1 + 2 + 0) / 2)  # below 0
    assert found["idf1"] == pytest.approx(2 * 1 / (2 + 3))
    assert found["det_a"] == pytest.approx(1 / 4)  # one pair, one miss, two false
    assert found["ass_a"] == pytest.approx(1 / 2)  # of two images of the true track
    assert found["hota"] == pytest.approx(math.sqrt(1 / 8))


def test_hota_counts_the_overlaps_that_a_pair_reaches():
    half = (0.0, 0.0, 10.0, 6.0)  # overlaps by 0.6: 12 of the 19 thresholds
    found = score(([box(LEFT, "a")], [box(half, "1")]))
    assert found["hota"] == pytest.approx(12 / 19)
    assert (found["mota"], found["idf1"]) == (1.0, 1.0)
    less = (0.0, 0.0, 10.0, 4.0)  # 0.4: no pair for MOTA and IDF1
    found = score(([box(LEFT, "a")], [box(less, "1")]))
    assert (found["mota"], found["idf1"]) == (-1.0, 0.0)
    assert found["hota"] == pytest.approx(8 / 19)


def test_a_pair_stays_a_pair_while_another_box_overlaps_more():
    near = (1.0, 0.0, 11.0, 10.0)
    frames = [
        ([box(LEFT, "a")], [box(LEFT, "1")]),
        ([box(LEFT, "a")], [box(near, "1"), box(LEFT, "2")]),
    ]
    assert score(*frames)["id_switches"] == 0


def test_an_id_that_comes_back_after_a_gap_is_no_switch():
    frames = [([box(LEFT, "a")], found) for found in ([box(LEFT, "1")], [], [box(LEFT, "1")])]
    found = score(*frames)
    assert found["id_switches"] == 0
    assert found["mota"] == pytest.approx(1 - 1 / 3)


def test_classes_and_sequences_are_apart_and_counted_together():
    scorer = TrackScorer(2)
    # The same id means other things in two sequences, and two classes make no pair.
    scorer.add_sequence([([box(LEFT, "a")], [box(LEFT, "1")])])
    scorer.add_sequence([([box(LEFT, "b")], [box(LEFT, "1", 1)])])
    found = scorer.to_dict(["car", "human"])
    assert found["classes"]["car"]["mota"] == pytest.approx(0.5)
    assert found["classes"]["car"]["ass_a"] == pytest.approx(1)
    assert found["classes"]["human"]["mota"] is None
    assert found["mota"] == pytest.approx(1 - 2 / 2)
    assert found["idf1"] == pytest.approx(2 / 4)
    assert found["det_a"] == pytest.approx(1 / 3)


def test_nothing_is_scored_of_nothing():
    found = score(([], []))
    assert found == {
        "mota": None, "idf1": None, "hota": None, "det_a": None, "ass_a": None, "id_switches": 0,
        "classes": {},
    }  # fmt: skip


def slow_hota(frames):
    """HOTA with the pairs of each image given by equal boxes, summed pair by pair."""
    pairs = [
        (t.track_id, f.track_id)
        for truth, found in frames for t in truth for f in found if t.box_xyxy == f.box_xyxy
    ]  # fmt: skip
    true = [b.track_id for truth, _ in frames for b in truth]
    other = [b.track_id for _, found in frames for b in found]
    if not pairs:
        return 0.0
    kept = 0.0
    for t, f in pairs:
        both = pairs.count((t, f))
        kept += both / (true.count(t) + other.count(f) - both)
    detected = len(pairs) / (len(true) + len(other) - len(pairs))
    return math.sqrt(detected * kept / len(pairs))


@pytest.mark.parametrize("seed", range(5))
def test_hota_is_that_of_its_definition_where_boxes_fit_exactly(seed):
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(12):
        places = [(100.0 * k, 0.0, 100.0 * k + 10, 10.0) for k in range(4)]
        truth = [box(p, f"t{k}") for k, p in enumerate(places) if rng.random() < 0.8]
        ids = rng.permutation(6)
        found = [box(p, f"f{ids[k]}") for k, p in enumerate(places) if rng.random() < 0.7]
        frames.append((truth, found))
    assert score(*frames)["hota"] == pytest.approx(slow_hota(frames))
