import numpy as np
import pytest

from evdistill_core.simulation import sampling
from evdistill_core.simulation.motion import PARAMETERS, Motion, apply, corners, shift, turn
from evdistill_core.simulation.scene import Gait, Layer


def random_matrix(rng, tilt=1e-3):
    matrix = shift(*rng.uniform(-5, 5, 2)) @ turn(rng.uniform(-1, 1), rng.uniform(0.5, 2))
    matrix[2, :2] = rng.uniform(-tilt, tilt, 2)
    return matrix


def random_motion(rng, size=1.0):
    draw = lambda: rng.normal(0, size, PARAMETERS) * (5, 5, 0.3, 0.2, 1e-3, 1e-3)  # noqa: E731
    return Motion(draw(), draw(), draw(), rng.uniform(1, 9), rng.uniform(0, 6, PARAMETERS))


def slow_sample(image, u, v, mode):
    """Bilinear by definition, on an array padded far beyond what is asked."""
    pad = 60
    padded = np.pad(image, pad, mode=mode)
    u, v = u + pad, v + pad
    left, top = int(np.floor(u)), int(np.floor(v))
    a, b = u - left, v - top
    block = padded[top : top + 2, left : left + 2].astype(float)
    return np.array([1 - b, b]) @ block @ np.array([1 - a, a])


@pytest.mark.parametrize("seed", range(3))
def test_warp_equals_its_definition(seed):
    rng = np.random.default_rng(seed)
    source = rng.normal(0, 1, (40, 50)).astype(np.float32)
    labels = rng.integers(0, 9, (40, 50)).astype(np.uint8)
    matrix = random_matrix(rng)
    out, warped = np.empty((12, 17), np.float32), np.empty((12, 17), np.uint8)
    sampling.warp_image(source, matrix, out)
    sampling.warp_labels(labels, matrix, 255, warped)
    for y in range(12):
        for x in range(17):
            u, v = apply(matrix, np.array([[x, y]], float))[0]
            assert out[y, x] == pytest.approx(slow_sample(source, u, v, "reflect"), abs=1e-4)
            row, column = int(np.floor(v + 0.5)), int(np.floor(u + 0.5))
            inside = 0 <= row < 40 and 0 <= column < 50
            assert warped[y, x] == (labels[row, column] if inside else 255)


@pytest.mark.parametrize("seed", range(4))
def test_layer_is_placed_as_the_matrices_say_and_drawn_inside_its_box(seed):
    rng = np.random.default_rng(seed)
    log = rng.normal(0, 1, (9, 13)).astype(np.float32)
    alpha = rng.random((9, 13)).astype(np.float32)
    layer = Layer(
        log, alpha, 3, random_motion(rng), (20.0, 15.0), pivot=(6.0, 4.0), joint=(2.0, -1.0),
        swing=random_motion(rng, 0.3),
    )  # fmt: skip
    view = random_matrix(rng, tilt=1e-4)
    matrix, box = sampling.place_layer(layer.place, view, 0.02, 30, 40)
    expected = np.linalg.inv(np.linalg.inv(view) @ layer.to_scene(0.02))
    np.testing.assert_allclose(
        apply(matrix, corners(30, 40)), apply(expected, corners(30, 40)), atol=1e-6
    )
    out = np.full((30, 40), -5, np.float32)
    still = np.zeros(1, np.float32)
    sampling.draw_layer(out, log, alpha, matrix, box, still, still)
    whole = np.full((30, 40), -5, np.float32)
    sampling.draw_layer(whole, log, alpha, matrix, (0, 30, 0, 40), still, still)
    np.testing.assert_array_equal(out, whole)  # nothing was cut off by the box
    assert (out != -5).any()
    for y in range(box[0], box[1]):
        for x in range(box[2], box[3]):
            u, v = apply(matrix, np.array([[x, y]], float))[0]
            if not (-1 < u < 13 and -1 < v < 9):
                continue
            cover = slow_sample(alpha, u, v, "constant")
            value = slow_sample(log, np.clip(u, 0, 12), np.clip(v, 0, 8), "edge")
            assert out[y, x] == pytest.approx(-5 + cover * (value + 5), abs=1e-3)
    labels = np.zeros((30, 40), np.uint8)
    sampling.draw_layer_labels(labels, 3, np.ones_like(alpha), matrix, box, still, still)
    assert set(np.unique(labels)) == {0, 3}


def test_gait_moves_the_weighted_end():
    sway, stride = Gait(sway_px=4, stride_px=2, hz=1, waves=0.0).tables(11, 0.25)
    assert sway[0] == 0
    assert sway[-1] == pytest.approx(4)
    assert stride[5] == pytest.approx(0)
    assert stride[-1] == pytest.approx(2)
    top, _ = Gait(sway_px=4, top_heavy=True, hz=1, waves=0.0).tables(11, 0.25)
    assert top[0] == pytest.approx(4)
    assert top[-1] == 0
    rigid, _ = Gait().tables(11, 0.3)
    assert not rigid.any()


def test_light_is_a_soft_spot():
    out = np.zeros((20, 30), np.float32)
    sampling.add_light(out, 12.0, 8.0, (5.0, 3.0), 0.7)
    assert out[8, 12] == pytest.approx(0.7)
    assert out[8, 17] == 0
    assert out[11, 12] == 0
    assert 0 < out[8, 14] < 0.7
