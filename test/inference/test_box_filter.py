import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.inference import box_filter
from evdistill_core.inference.box_filter import BoxFilter

NOISE_PX, AGILITY = 2.5, 1.3


class SlowFilter:
    """The same filter of one box as the textbook has it: six states, matrices, an inverse.

    State: x, y, velocity x and y, width, height.
    """

    def __init__(self, centre, size):
        self.mean = np.array([*centre, 0, 0, *size], float)
        speed = box_filter.NEW_SPEED**2 * size[0] * size[1]
        self.covariance = np.diag([NOISE_PX**2] * 2 + [speed] * 2 + [NOISE_PX**2] * 2)

    def predict(self, dt_s):
        side_squared = self.mean[4] * self.mean[5]
        move = np.eye(6)
        move[0, 2] = move[1, 3] = dt_s
        noise = np.zeros((6, 6))
        q = AGILITY**2 * side_squared
        for place, velocity in ((0, 2), (1, 3)):
            noise[place, place] = q * dt_s**3 / 3
            noise[place, velocity] = noise[velocity, place] = q * dt_s**2 / 2
            noise[velocity, velocity] = q * dt_s
        noise[4, 4] = noise[5, 5] = box_filter.SIZE_CHANGE**2 * side_squared * dt_s
        self.mean = move @ self.mean
        self.covariance = move @ self.covariance @ move.T + noise

    def correct(self, centre, size):
        look = np.eye(6)[[0, 1, 4, 5]]
        total = look @ self.covariance @ look.T + np.eye(4) * NOISE_PX**2
        gain = self.covariance @ look.T @ np.linalg.inv(total)
        self.mean = self.mean + gain @ (np.array([*centre, *size]) - look @ self.mean)
        self.covariance = (np.eye(6) - gain @ look) @ self.covariance


def state(boxes, row):
    mean = np.concatenate([boxes.centre[row], boxes.velocity[row], boxes.size[row]])
    covariance = np.diag(
        np.concatenate([boxes.centre_var[row], boxes.velocity_var[row], boxes.size_var[row]])
    )
    for axis in (0, 1):
        covariance[axis, axis + 2] = covariance[axis + 2, axis] = boxes.cross_cov[row, axis]
    return mean, covariance


def started(centre, size):
    boxes = BoxFilter(noise_px=NOISE_PX, agility=AGILITY)
    boxes.add(np.array(centre, float), np.array(size, float))
    return boxes


def test_it_is_the_filter_in_matrix_form():
    rng = np.random.default_rng(0)
    centres, sizes = rng.uniform(0, 300, (3, 2)), rng.uniform(10, 60, (3, 2))
    boxes = started(centres, sizes)
    slow = [SlowFilter(c, s) for c, s in zip(centres, sizes, strict=True)]
    for step in range(12):
        dt_s = rng.uniform(0.01, 0.2)
        boxes.predict(dt_s)
        rows = np.flatnonzero(rng.random(3) < 0.7)
        measured = rng.uniform(0, 300, (3, 2)), rng.uniform(10, 60, (3, 2))
        boxes.correct(rows, measured[0][rows], measured[1][rows])
        for row, one in enumerate(slow):
            one.predict(dt_s)
            if row in rows:
                one.correct(measured[0][row], measured[1][row])
            mean, covariance = state(boxes, row)
            np.testing.assert_allclose(mean, one.mean, rtol=1e-9, err_msg=f"step {step}")
            np.testing.assert_allclose(covariance, one.covariance, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 0.5, allow_subnormal=False), min_size=1, max_size=6))
def test_many_steps_are_one_step_of_the_same_time(steps_s):
    one, many = (started([[50, 40]], [[20, 30]]) for _ in range(2))
    for boxes in (one, many):
        boxes.predict(0.05)
        boxes.correct(np.array([0]), np.array([[54.0, 41.0]]), np.array([[22.0, 30.0]]))
    one.predict(sum(steps_s))
    for dt_s in steps_s:
        many.predict(dt_s)
    for a, b in zip(state(one, 0), state(many, 0), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_a_steady_box_gives_its_velocity():
    boxes = started([[100, 50]], [[40, 20]])
    for k in range(1, 20):
        boxes.predict(0.05)
        boxes.correct(np.array([0]), np.array([[100 + 4.0 * k, 50]]), np.array([[40.0, 20.0]]))
    assert boxes.velocity[0] == pytest.approx([80, 0], abs=0.5)
    assert boxes.velocity_var[0, 0] < 20**2


def test_boxes_without_area_stay_finite_and_at_least_one_pixel():
    boxes = started([[0, 0], [5, 5]], [[0, 0], [0, 7]])
    for _ in range(50):
        boxes.predict(0.05)
        boxes.correct(np.array([0, 1]), np.array([[1.0, 1], [5, 5]]), np.zeros((2, 2)))
    for row in range(2):
        mean, covariance = state(boxes, row)
        assert np.isfinite(mean).all()
        assert np.linalg.eigvalsh(covariance).min() > 0
    assert (boxes.size >= 1).all()


def test_keep_and_add_leave_the_other_boxes_as_they_are():
    boxes = started([[1, 1], [2, 2], [3, 3]], [[10, 10]] * 3)
    boxes.keep(np.array([2, 0]))
    boxes.add(np.array([[9.0, 9.0]]), np.array([[4.0, 4.0]]))
    assert boxes.centre.tolist() == [[3, 3], [1, 1], [9, 9]]
    assert boxes.corners()[2].tolist() == [7, 7, 11, 11]
