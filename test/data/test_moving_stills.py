"""Simulated recognition windows: what moves where, and that nothing is drawn twice alike."""

import cv2
import numpy as np
import pytest

from evdistill_core.data.labelled_images import ImagesConfig
from evdistill_core.data.moving_stills import MovingStills, MovingStillsConfig, _timetable
from evdistill_core.data.samples import Shuffle
from evdistill_core.foundation.class_maps import named_classes
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.representations import InputSpec
from evdistill_core.simulation.sensor import SensorRanges

CLASSES = named_classes(("dark", "light"))
SPEC = InputSpec(bins=3, window_us=90_000, size_multiple=2)
CLEAN = SensorRanges(
    threshold=(0.2, 0.2),
    on_off_ratio=(1.0, 1.0),
    mismatch=(0.0, 0.0),
    noise_hz=(1e-6, 1e-6),
    leak_hz=(1e-6, 1e-6),
    hot_fraction=(0.0, 0.0),
    cutoff_probability=0.0,
    refractory_us=(1.0, 1.0),
)


@pytest.fixture
def pictures(tmp_path):
    """A light square on dark ground, and the other way round."""
    for name, ground, thing in (("light", 30, 220), ("dark", 220, 30)):
        (tmp_path / name).mkdir()
        picture = np.full((20, 20), ground, np.uint8)
        picture[6:14, 6:14] = thing
        cv2.imwrite(str(tmp_path / name / "a.png"), picture)
    return ImagesConfig(root=tmp_path, layout="class-folders", split=".")


def make(pictures, *, seed=0, **changes):
    fixed = {"scale": (1.0, 1.0), "length": (1.0, 1.0), "settle": (1.0, 1.0), "sensor": CLEAN}
    return MovingStills(
        MovingStillsConfig(images=pictures, **(fixed | changes)), SPEC, CLASSES, seed=seed
    )


def by_class(source):
    windows = [source.window(i) for i in range(2)]
    return {CLASSES.names[int(w.labels[0, 0])]: w.events for w in windows}


def test_a_light_square_that_moves_right_is_on_ahead_and_off_behind(pictures):
    events = by_class(make(pictures, legs_px=((6.0, 0.0),)))
    for name, ahead in (("light", 1), ("dark", 0)):
        e = events[name]
        assert len(e) > 50
        front, back = e.x[e.p == ahead].astype(float), e.x[e.p != ahead].astype(float)
        assert front.mean() > back.mean() + 6
        assert (e.width, e.height) == (34, 34)
        assert e.t_us.min() >= 0
        assert e.t_us.max() < SPEC.window_us
        # The front edge itself moves right.
        late = e.t_us[e.p == ahead] > SPEC.window_us // 2
        assert front[late].mean() > front[~late].mean()


def test_the_three_saccades_go_down_right_up_right_left(pictures):
    e = by_class(make(pictures))["light"]
    third = SPEC.window_us // 3
    moves = []
    for k in range(3):
        part = (e.t_us >= k * third) & (e.t_us < (k + 1) * third)
        ahead, behind = part & (e.p == 1), part & (e.p == 0)
        moves.append(
            [e.x[ahead].mean() - e.x[behind].mean(), e.y[ahead].mean() - e.y[behind].mean()]
        )
    (x1, y1), (x2, y2), (x3, y3) = moves
    assert x1 > 1
    assert y1 > 1
    assert x2 > 1
    assert y2 < -1
    assert x3 < -1
    assert abs(y3) < 1


def test_samples_are_a_function_of_the_index(pictures):
    first, again, other = (make(pictures, seed=s, turn_deg=180.0) for s in (3, 3, 4))
    for i in range(5):
        a, b = first.sample(i), again.sample(i)
        np.testing.assert_array_equal(a.input, b.input)
        assert a.label.shape == (1, 1)
        assert a.label == b.label
        assert a.input.shape == (3, 34, 34)
    assert (first.sample(0).input != other.sample(0).input).any()
    assert (first.sample(0).input != first.sample(2).input).any()


def test_large_pictures_are_shrunk_into_the_sensor(tmp_path):
    (tmp_path / "light").mkdir()
    picture = np.full((300, 200, 3), 30, np.uint8)
    picture[100:200, 60:140] = 220
    cv2.imwrite(str(tmp_path / "light" / "a.png"), picture)
    images = ImagesConfig(root=tmp_path, layout="class-folders", split=".")
    events = make(images, height=60, width=80).window(0).events
    # 0.2 of its size: the square covers 16 x 20 pixels around the middle, and moves by 5.5.
    assert abs(events.x.mean() - 39.5) < 2
    assert abs(events.y.mean() - 29.5) < 2
    assert events.x.min() > 24
    assert events.x.max() < 55


@pytest.mark.parametrize("settle", [0.3, 1.0])
@pytest.mark.parametrize("window_us", [100, 312_000])
def test_timetable_rises_and_ends_with_the_window(settle, window_us):
    corners = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    times, places = _timetable(corners, window_us, settle)
    assert (np.diff(times) > 0).all()
    assert times[0] == 0
    assert times[-1] == window_us
    np.testing.assert_allclose(places[-1], corners[-1])
    assert len(times) == len(places)


def test_shuffle_names_everything_once_a_round():
    shuffle = Shuffle(7, seed=1)
    rounds = [[shuffle.at(r * 7 + i) for i in range(7)] for r in range(3)]
    assert all(sorted(r) == list(range(7)) for r in rounds)
    assert rounds[0] != rounds[1]
    assert [shuffle.at(i) for i in (20, 3)] == [rounds[2][6], rounds[0][3]]


def test_dense_layouts_and_wrong_numbers_are_refused(tmp_path, pictures):
    for changes, match in (
        ({"images": ImagesConfig(root=tmp_path)}, "dense labels"),
        ({"height": 4}, "8..2048"),
        ({"legs_px": ()}, "at least one leg"),
        ({"legs_px": ((float("nan"), 0.0),)}, "finite"),
        ({"settle": (0.5, 1.5)}, "settle"),
        ({"turn_deg": 200.0}, "turn_deg"),
    ):
        with pytest.raises(ConfigError, match=match):
            MovingStillsConfig(**({"images": pictures} | changes))
