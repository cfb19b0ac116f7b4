"""Simulated recognition windows: what moves where, and that nothing is drawn twice alike."""

import cv2
import numpy as np
import pytest

from evdistill_core.data.labelled_images import ImagesConfig
from evdistill_core.data.moving_stills import (
    STEP_PX,
    MovingStills,
    MovingStillsConfig,
    _timetable,
)
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


@pytest.mark.parametrize("is_smooth", [False, True])
@pytest.mark.parametrize("delay", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("settle", [0.3, 1.0])
@pytest.mark.parametrize("window_us", [100, 312_000])
def test_timetable_rises_and_ends_with_the_window(window_us, settle, delay, is_smooth):
    corners = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    delays = np.full(2, delay)
    times, places = _timetable(corners, window_us, settle, delays, is_smooth=is_smooth)
    assert (np.diff(times) > 0).all()
    assert times[0] == 0
    assert times[-1] == window_us
    np.testing.assert_allclose(places[0], corners[0])
    np.testing.assert_allclose(places[-1], corners[-1])
    assert len(times) == len(places)
    steps_px = np.hypot(*np.diff(places, axis=0).T)
    if window_us > 100:  # enough microseconds for every picture
        assert steps_px.max() <= STEP_PX + 1e-9


def test_a_leg_stands_moves_and_stands():
    corners = np.array([[0.0, 0.0], [10.0, 0.0]])
    times, places = _timetable(corners, 100_000, 0.5, np.array([0.4]), is_smooth=True)

    def at(t_us):
        return np.interp(t_us, times, places[:, 0])

    # Half of 100 ms in motion, 0.4 of the rest before it: from 20 to 70 ms.
    assert (at(0), at(20_000), at(70_000), at(100_000)) == (0, 0, 10, 10)
    assert at(45_000) == pytest.approx(5)
    # From rest to rest: the first tenth of the time takes (1 - cos(pi / 10)) / 2 of the way.
    assert at(25_000) == pytest.approx(10 * (1 - np.cos(np.pi / 10)) / 2, abs=0.02)
    constant, places = _timetable(corners, 100_000, 0.5, np.array([0.4]), is_smooth=False)
    assert np.interp(25_000, constant, places[:, 0]) == pytest.approx(1)


def test_the_path_is_shifted_at_random(pictures):
    still = {"legs_px": ((6.0, 0.0), (-6.0, 0.0))}
    middles = {}
    for shift_px in (0.0, 5.0):
        source = make(pictures, shift_px=shift_px, **still)
        windows = [source.window(i).events for i in range(12)]
        middles[shift_px] = np.array([[e.x.mean(), e.y.mean()] for e in windows])
    assert middles[0.0].std(0).max() < 0.5
    assert middles[5.0].std(0).min() > 1.5
    assert np.abs(middles[5.0] - 16.5).max() < 6


def test_unique_windows_are_kept_on_disk_for_all_seeds(pictures, tmp_path_factory, monkeypatch):
    cache = tmp_path_factory.mktemp("cache")
    kept = {"unique": 5, "cache": cache}
    first = [make(pictures, **kept).sample(i) for i in range(10)]
    plain = [make(pictures, unique=5).sample(i) for i in range(10)]
    (folder,) = cache.iterdir()
    assert len(list(folder.iterdir())) == 5

    def never(self, index):
        raise AssertionError("made again")

    monkeypatch.setattr(MovingStills, "window", never)
    source, other = make(pictures, **kept), make(pictures, seed=1, **kept)
    same, others = ([s.sample(i).input for i in range(10)] for s in (source, other))
    for i in range(10):
        for again in (first[i], plain[i]):
            np.testing.assert_array_equal(again.input, same[i])
        assert first[i].label == plain[i].label
    # Every round has the same five windows, in orders of its own and of the seed.
    rounds = [sorted(x.tobytes() for x in r) for r in (same[:5], same[5:], others[:5])]
    assert rounds[0] == rounds[1] == rounds[2]
    assert len(set(rounds[0])) == 5
    assert [x.tobytes() for x in same] != [x.tobytes() for x in others]
    with pytest.raises(AssertionError, match="made again"):
        make(pictures, turn_deg=5.0, **kept).sample(0)


def test_shuffle_names_everything_once_a_round():
    shuffle = Shuffle(7, seed=1)
    rounds = [[shuffle.at(r * 7 + i) for i in range(7)] for r in range(3)]
    assert all(sorted(r) == list(range(7)) for r in rounds)
    assert rounds[0] != rounds[1]
    assert [shuffle.at(i) for i in (20, 3)] == [rounds[2][6], rounds[0][3]]


def test_dense_layouts_and_wrong_numbers_are_refused(tmp_path, pictures):
    for changes, match in (
        ({"images": ImagesConfig(root=tmp_path)}, "dense labels"),
        ({"height": 4}, "height must lie in 8..2048"),
        ({"legs_px": ()}, "at least one leg"),
        ({"legs_px": ((float("nan"), 0.0),)}, "legs_px must lie in"),
        ({"settle": (0.5, 1.5)}, "settle"),
        ({"turn_deg": 200.0}, "turn_deg"),
        ({"delay": (0.5, 0.2)}, "delay"),
        ({"shift_px": -1.0}, "shift_px"),
        ({"unique": -1}, "unique"),
    ):
        with pytest.raises(ConfigError, match=match):
            MovingStillsConfig(**({"images": pictures} | changes))
