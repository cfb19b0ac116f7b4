import math
import random
from collections import defaultdict

import numpy as np
import pytest

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.inference.prediction import Detection
from evdistill_core.inference.tracking import Tracker, TrackerConfig, box_iou

STEP_US = 50_000
CAR, PERSON = 5, 4


def box(x, y, width=40, height=16, class_id=CAR, *, score=0.9):
    """A detection by its centre."""
    left, top = round(x - width / 2), round(y - height / 2)
    corners = (left, top, left + round(width), top + round(height))
    return Detection(class_id, score, corners, max(1, round(width * height)))


def around(*parts):
    """One detection over several, as a connected component would be."""
    corners = np.array([p.box_xyxy for p in parts])
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    area = sum(p.area_px for p in parts)
    first = parts[0]
    return Detection(first.class_id, first.score, (*map(int, low), *map(int, high)), area)


class Follower:
    """Feeds windows to a tracker, one after another in sensor time."""

    def __init__(self, step_us=STEP_US, **config):
        self.tracker = Tracker(TrackerConfig(**config))
        self.step_us = step_us
        self.now_us = 1_000_000

    def __call__(self, *detections, step_us=None, size=None):
        self.now_us += self.step_us if step_us is None else step_us
        return self.tracker.update(
            detections, t_start_us=self.now_us - self.step_us, t_end_us=self.now_us, size=size
        )

    def ids(self, *detections, **more):
        return [d.track_id for d in self(*detections, **more)]


def touch(a, b):
    return box_iou(a.box_xyxy, b.box_xyxy) > 0


def joined(parts):
    """What the components of these things are: those that touch are one."""
    groups = []
    for part in parts:
        near = [g for g in groups if any(touch(part, other) for other in g)]
        groups = [g for g in groups if g not in near] + [[part, *(p for g in near for p in g)]]
    return [around(*g) if len(g) > 1 else g[0] for g in groups]


# Ids


def test_ids_follow_overlapping_boxes_and_new_boxes_get_new_ids():
    follow = Follower()
    assert follow.ids(box(20, 20), box(90, 20)) == [1, 2]
    assert follow.ids(box(94, 20), box(24, 20), box(200, 20)) == [2, 1, 3]


def test_the_best_sum_of_overlaps_wins():
    follow = Follower()
    assert follow.ids(box(20, 20), box(40, 20)) == [1, 2]
    # The first box overlaps both; only if it gives way do both go on.
    assert follow.ids(box(33, 20), box(58, 20)) == [1, 2]


def test_the_order_of_detections_makes_no_difference():
    rng = random.Random(0)
    things = [(rng.uniform(20, 300), rng.uniform(20, 200), rng.uniform(-90, 90)) for _ in range(14)]
    windows = [
        [box(x + v * k * 0.05, y, score=0.35 if (i + k) % 5 == 0 else 0.8)
         for i, (x, y, v) in enumerate(things) if (i * 7 + k) % 6]
        for k in range(12)
    ]  # fmt: skip
    results = []
    for shuffle in (False, True, True):
        follow, said = Follower(), []
        for window in windows:
            shown = rng.sample(window, len(window)) if shuffle else window
            said.append(sorted((d.track_id, d.box_xyxy, d.velocity_px_s) for d in follow(*shown)))
        results.append(said)
    assert results[0] == results[1] == results[2]


def test_no_id_is_used_twice_even_after_a_break():
    follow = Follower()
    assert follow.ids(box(20, 20), box(90, 20)) == [1, 2]
    follow.tracker.reset()
    assert follow.ids(box(20, 20)) == [3]


@pytest.mark.parametrize("step_us", [-10_000_000, -1, 10_000_000])
def test_a_jump_of_time_ends_all_tracks(step_us):
    follow = Follower()
    follow(box(20, 20))
    assert follow.ids(box(20, 20), step_us=step_us) == [2]
    assert follow.ids(box(20, 20)) == [2]


def test_times_below_zero_are_times():
    follow = Follower()
    follow.now_us = -5_000_000
    assert [follow.ids(box(20 + 4 * k, 20)) for k in range(5)] == [[1]] * 5


def test_an_unsure_detection_goes_on_with_a_track_but_begins_none():
    follow = Follower(min_score=0.5)
    unsure = box(22, 20, score=0.45)
    assert follow(unsure) == ()
    assert follow.ids(box(20, 20)) == [1]
    assert follow.ids(unsure) == [1]


def test_sure_detections_choose_first():
    follow = Follower(min_score=0.5)
    follow(box(20, 20))
    sure, unsure = follow.ids(box(30, 20)), box(20, 20, score=0.45)
    assert sure == [1]
    follow = Follower(min_score=0.5)
    follow(box(20, 20))
    (only,) = follow(unsure, box(30, 20))
    assert (only.track_id, only.score) == (1, 0.9)


# Windows that are missing, or overlap


@pytest.mark.parametrize("every", [1, 2, 3])
def test_dropped_windows_make_no_difference_to_ids_and_velocity(every):
    follow = Follower()
    for k in range(0, 30, every):
        step_us = every * STEP_US
        there, back = follow(box(20 + 5 * k, 40), box(300 - 5 * k, 100), step_us=step_us)
    assert (there.track_id, back.track_id) == (1, 2)
    assert there.velocity_px_s == pytest.approx((100, 0), abs=4)
    assert back.velocity_px_s == pytest.approx((-100, 0), abs=4)


def test_overlapping_windows_step_by_the_distance_of_their_ends():
    follow = Follower()
    for k in range(40):
        (car,) = follow(box(20 + k, 40), step_us=10_000)
    assert car.velocity_px_s == pytest.approx((100, 0), abs=5)
    assert car.age_s == pytest.approx(0.39)


# What is not seen for a while


@pytest.mark.parametrize(("missed", "expected"), [(10, 1), (11, 2)])
def test_an_id_survives_half_a_second_of_occlusion_and_no_more(missed, expected):
    follow = Follower()
    for k in range(10):
        follow(box(20 + 6 * k, 40))
    for _ in range(missed):
        assert follow() == ()
    (car,) = follow(box(20 + 6 * (9 + missed + 1), 40))
    assert car.track_id == expected


@pytest.mark.parametrize("speed_px", [0, 6])
def test_an_id_survives_standing_still(speed_px):
    # No events come from it, and it would be far away had it gone on.
    follow = Follower()
    for k in range(10):
        follow(box(100 + speed_px * k, 40, width=20))
    for _ in range(10):
        follow()
    place = 100 + speed_px * 9
    for k in range(1, 6):
        (car,) = follow(box(place + speed_px * k, 40, width=20))
        assert car.track_id == 1
    assert car.velocity_px_s[0] == pytest.approx(20 * speed_px, abs=15)


# Merges


def passing(windows=40):
    """Two cars that drive past one another; their boxes touch for 0.45 s and longer."""
    for k in range(windows):
        yield box(60 + 4.5 * k, 60), box(260 - 4.5 * k, 66, width=44, height=20)


def test_passing_cars_keep_their_ids_and_boxes_through_the_merge():
    follow, merged, ids = Follower(), 0, defaultdict(set)
    for cars in passing():
        seen = joined(cars)
        merged += len(seen) == 1
        said = follow(*seen)
        assert len(said) == 2
        for car in said:
            truth = max((0, 1), key=lambda i: box_iou(cars[i].box_xyxy, car.box_xyxy))
            near = box_iou(cars[truth].box_xyxy, car.box_xyxy)
            if len(seen) == 1:
                assert near > 0.3
            if car.age_s > 0:
                ids[car.track_id].add(int(np.sign(car.velocity_px_s[0])))
    assert merged >= 9
    assert ids == {1: {-1}, 2: {1}}  # the larger one is the first


def test_a_merge_of_half_a_second_in_which_all_windows_are_dropped_but_two():
    follow = Follower()
    windows = list(passing())
    shown = [k for k in range(40) if not 18 <= k <= 26 or k in {20, 24}]
    last = -1
    for k in shown:
        said = follow(*joined(windows[k]), step_us=(k - last) * STEP_US)
        last = k
    by_id = {d.track_id: d for d in said}
    assert sorted(by_id) == [1, 2]
    assert by_id[follow_first_id(windows)].velocity_px_s[0] > 0


def follow_first_id(windows):
    """The id that the car to the right gets in the first window."""
    there, _ = windows[0]
    return next(d.track_id for d in Follower()(*windows[0]) if d.box_xyxy == there.box_xyxy)


def test_things_that_move_alike_are_one_box_while_they_touch_and_two_ids_after():
    follow = Follower()
    for k in range(20):
        x = 40 + 3 * k
        gap = 44 if k < 8 or k > 14 else 40
        pair = box(x, 50), box(x + gap, 50)
        if 8 <= k <= 14:
            assert follow.ids(around(*pair)) == [1]
        else:
            assert sorted(follow.ids(*pair)) == [1, 2]


def test_what_stays_together_becomes_one_thing_with_the_older_id():
    follow = Follower(max_merged_s=0.5)
    for k in range(8):
        follow(box(40 + 3 * k, 50), box(84 + 3 * k, 50))
    for k in range(8, 40):
        said = follow(around(box(40 + 3 * k, 50), box(84 + 3 * k, 50)))
        assert [d.track_id for d in said] == [1]
    assert said[0].box_xyxy[2] - said[0].box_xyxy[0] == pytest.approx(84, abs=2)
    assert said[0].velocity_px_s == pytest.approx((60, 0), abs=5)


def test_a_person_crosses_behind_a_car():
    follow, ids = Follower(), defaultdict(set)
    for k in range(36):
        car, person = box(30 + 6 * k, 80), box(170 - 2 * k, 74, 12, 30, PERSON)
        for d in follow(*joined((car, person))):
            ids[d.track_id].add(d.class_id)
    assert ids == {1: {CAR}, 2: {PERSON}}


def test_pieces_that_flicker_are_no_merge():
    follow = Follower()
    for k in range(20):
        whole = box(100 + 2 * k, 100, 30, 80, PERSON)
        pieces = box(100 + 2 * k, 75, 30, 30, PERSON), box(100 + 2 * k, 120, 24, 40, PERSON)
        said = follow(*(pieces if k % 4 == 3 else [whole]))
        assert len(said) == (2 if k % 4 == 3 else 1)


# Class, box and what else is told


def test_the_class_is_a_vote_over_the_life_and_flicker_is_no_new_id():
    follow = Follower()
    for k in range(20):
        flickers = k in {4, 5, 11}
        (car,) = follow(box(20 + 3 * k, 40, class_id=PERSON if flickers else CAR))
        assert (car.track_id, car.class_id) == (1, CAR)


def test_of_equal_overlaps_that_of_the_same_class_goes_on():
    follow = Follower()
    car, person = box(100, 40), box(100, 40, class_id=PERSON)
    follow(car)
    assert {d.class_id: d.track_id for d in follow(person, car)} == {CAR: 1, PERSON: 2}


def jitter_px(smooth):
    """95th percentile of the distance of box edges to those of a steady thing."""
    rng = np.random.default_rng(5)
    off = []
    for speed in (0.0, 1.5, 4.0):
        follow = Follower(smooth=smooth)
        for k in range(80):
            exact = np.array([50 + speed * k - 20, 42, 50 + speed * k + 20, 58])
            edges = np.rint(exact + rng.normal(0, 2, 4)).astype(int)
            (car,) = follow(Detection(CAR, 0.9, tuple(int(e) for e in edges), 600))
            if k >= 10:
                off.append(np.abs(np.array(car.box_xyxy) - exact))
    return float(np.percentile(off, 95))


def test_boxes_of_a_steady_thing_jitter_by_two_pixels_at_most():
    assert jitter_px(smooth=False) > 3.5
    assert jitter_px(smooth=True) <= 2


def test_a_detection_tells_age_velocity_and_covariance():
    follow = Follower()
    (new,) = follow(box(20, 40))
    assert (new.age_s, new.velocity_px_s) == (0, (0, 0))
    unknown = np.array(new.covariance)
    for k in range(1, 11):
        (car,) = follow(box(20 + 3 * k, 40 - k))
    assert car.age_s == pytest.approx(0.5)
    assert car.velocity_px_s == pytest.approx((60, -20), abs=3)
    known = np.array(car.covariance)
    assert known.shape == (4, 4)
    assert (known == known.T).all()
    assert (np.linalg.eigvalsh(known) > 0).all()
    assert known[2, 2] < unknown[2, 2] / 10


def test_smoothed_boxes_stay_in_the_image():
    follow = Follower()
    for k in range(20):
        left, right = max(0, 30 - 4 * k), max(2, 60 - 4 * k)
        (car,) = follow(Detection(CAR, 0.9, (left, 0, right, 12), 60), size=(100, 80))
        x0, y0, x1, y1 = car.box_xyxy
        assert 0 <= x0 < x1 <= 80
        assert 0 <= y0 < y1 <= 100


# Hostile


def test_a_hundred_things_keep_their_hundred_ids():
    follow = Follower()
    grid = [(40 + 60 * (i % 10), 30 + 45 * (i // 10)) for i in range(100)]
    rng = np.random.default_rng(1)
    for k in range(12):
        shift = rng.normal((1.5 * k, 0), 1, (100, 2))
        said = follow(*(box(x + dx, y + dy) for (x, y), (dx, dy) in zip(grid, shift, strict=True)))
        ids = [d.track_id for d in said]
        if k == 0:
            first = ids
        assert ids == first
    assert sorted(first) == list(range(1, 101))


def test_boxes_without_area_and_outside_of_the_image_give_finite_tracks():
    rng = np.random.default_rng(2)
    follow = Follower()
    for _ in range(60):
        corners = rng.integers(-50, 150, (rng.integers(0, 6), 2))
        sizes = rng.integers(0, 3, corners.shape) * rng.integers(0, 40, corners.shape)
        found = [
            Detection(int(rng.integers(0, 3)), float(rng.random()),
                      (int(x), int(y), int(x + w), int(y + h)), 1)
            for (x, y), (w, h) in zip(corners, sizes, strict=True)
        ]  # fmt: skip
        said = follow(*found, step_us=int(rng.integers(0, 300_000)), size=(100, 100))
        for d in said:
            numbers = [*d.velocity_px_s, d.age_s, *(v for row in d.covariance for v in row)]
            assert all(math.isfinite(v) for v in numbers)
            assert all(isinstance(v, int) for v in d.box_xyxy)
        assert len({d.track_id for d in said}) == len(said)


@pytest.mark.parametrize(
    ("name", "value"), [("min_iou", -0.1), ("max_missed_s", -1), ("noise_px", 0), ("agility", 0)]
)
def test_config_names_the_wrong_value_and_the_range(name, value):
    with pytest.raises(ConfigError, match=rf"{name} must lie in .*got {value}"):
        TrackerConfig(**{name: value})


def test_box_iou():
    assert box_iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert box_iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert box_iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
