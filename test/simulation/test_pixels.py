import math
from dataclasses import replace

import numpy as np
import pytest

from evdistill_core.foundation.config import from_mapping, to_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.simulation.pixels import PixelArray
from evdistill_core.simulation.sensor import SensorModel, SensorRanges

QUIET = {"mismatch": 0.0, "refractory_us": 0.0, "noise_hz": 0.0}


def run(model, images, times_us, seed=0):
    height, width = images[0].shape
    array = PixelArray(model, height=height, width=width, rng=np.random.default_rng(seed))
    array.start(images[0], times_us[0])
    for image, t_us in zip(images[1:], times_us[1:], strict=True):
        array.advance(image, t_us)
    return array, array.take_events()


def slow_pixel(levels, times_us, start, on, off, refractory_us):  # noqa: PLR0917
    """One pixel walked through in tiny steps of time: a reference that knows no formula."""
    events = []
    step_us = 0.25
    reference = levels[0] - start
    released_us = -np.inf
    t = float(times_us[0])
    while t < times_us[-1]:
        level = np.interp(t, times_us, levels)
        if t < released_us:
            reference = level
        elif level - reference >= on or reference - level >= off:
            events.append((t, int(level > reference)))
            # not the level of this step: its overshoot would add up
            reference += on if level > reference else -off
            released_us = t + refractory_us
        t += step_us
    return events


@pytest.mark.parametrize("refractory_us", [0.0, 700.0])
def test_equals_a_slow_walk_through_time(refractory_us):
    rng = np.random.default_rng(3)
    times_us = [0, 3000, 5000, 9000, 10_000]
    images = [rng.normal(0, 1, (3, 4)).astype(np.float32) for _ in times_us]
    model = SensorModel(
        threshold_on=0.3, threshold_off=0.4, mismatch=0.1, refractory_us=refractory_us, noise_hz=0
    )
    fresh = PixelArray(model, height=3, width=4, rng=np.random.default_rng(0))
    on, off, start = fresh._on.copy(), fresh._off.copy(), fresh._difference.copy()
    _, events = run(model, images, times_us)
    assert len(events) > 40
    for i in range(12):
        levels = [image.reshape(-1)[i] for image in images]
        expected = slow_pixel(levels, times_us, start[i], on[i], off[i], refractory_us)
        mine = events[(events.x == i % 4) & (events.y == i // 4)]
        assert mine.p.tolist() == [p for _, p in expected]
        np.testing.assert_allclose(mine.t_us, [t for t, _ in expected], atol=8)


def test_no_motion_and_no_noise_give_no_event():
    image = np.random.default_rng(0).normal(0, 1, (40, 50)).astype(np.float32)
    for seed in range(3):
        _, events = run(SensorModel(noise_hz=0), [image] * 4, [0, 10, 5000, 900_000], seed)
        assert len(events) == 0


@pytest.mark.parametrize(("sign", "polarity"), [(1, 1), (-1, 0)])
def test_brightening_gives_brighter_events_alone(sign, polarity):
    start = np.zeros((30, 30), np.float32)
    _, events = run(SensorModel(noise_hz=0), [start, start + np.float32(sign)], [0, 10_000])
    assert len(events) > 1000
    assert (events.p == polarity).all()
    assert (np.diff(events.t_us) >= 0).all()
    assert events.t_us.min() >= 0
    assert events.t_us.max() < 10_000


@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.4])
def test_events_are_the_change_over_the_threshold(threshold):
    start = np.zeros((100, 100), np.float32)
    model = SensorModel(threshold_on=threshold, **QUIET)
    _, events = run(model, [start, start + np.float32(1.0)], [0, 10_000])
    expected = mean_crossings(1.0, threshold, model.threshold_off)
    assert len(events) / 10_000 == pytest.approx(expected, rel=0.02)


def mean_crossings(change, on, off):
    start = np.linspace(-off, on, 100_001)[:-1]
    return np.maximum(0, np.floor((change + start) / on + 1e-9)).mean()


def test_refractory_time_limits_the_rate():
    start = np.zeros((10, 10), np.float32)
    model = SensorModel(threshold_on=0.01, mismatch=0, refractory_us=1000, noise_hz=0)
    _, events = run(model, [start, start + np.float32(5)], [0, 50_000])
    for i in range(10):
        t_us = events[(events.x == i) & (events.y == 0)].t_us
        assert np.diff(t_us).min() >= 999
        assert len(t_us) == pytest.approx(45, abs=5)


def test_rates_of_noise_hot_pixels_and_leak():
    still = np.zeros((100, 100), np.float32)
    seconds, pixels = 2.0, 10_000
    model = SensorModel(noise_hz=3.0, noise_on_fraction=0.8)
    _, noise = run(model, [still, still], [0, int(seconds * 1e6)])
    assert len(noise) == pytest.approx(3.0 * seconds * pixels, rel=0.02)
    assert noise.p.mean() == pytest.approx(0.8, abs=0.01)
    _, hot = run(
        SensorModel(noise_hz=0, hot_fraction=0.01, hot_hz=50.0), [still, still], [0, 2_000_000]
    )
    where = np.unique(hot.y.astype(int) * 100 + hot.x)
    assert len(where) == pytest.approx(100, rel=0.35)
    assert len(hot) / len(where) == pytest.approx(100, rel=0.1)
    model = SensorModel(noise_hz=0, leak_hz=5.0, refractory_us=0)
    _, leak = run(model, [still, still], [0, 2_000_000])
    assert (leak.p == 1).all()
    assert len(leak) == pytest.approx(5.0 * seconds * pixels, rel=0.06)


def test_noise_is_loudest_in_the_dark():
    image = np.zeros((100, 100), np.float32)
    image[:, 50:] = -2.0
    model = SensorModel(noise_hz=20.0, noise_darkness=0.5)
    _, noise = run(model, [image, image], [0, 1_000_000])
    assert len(noise) == pytest.approx(20.0 * 10_000, rel=0.02)
    dark = int((noise.x >= 50).sum())
    assert dark / (len(noise) - dark) == pytest.approx(np.exp(1.0), rel=0.03)


def test_noise_comes_in_pairs_of_both_polarities():
    still = np.zeros((200, 200), np.float32)
    model = SensorModel(noise_hz=0.5, noise_pairs=0.8, pair_us=2000.0, noise_on_fraction=0.0)
    _, noise = run(model, [still, still], [0, 500_000])
    assert len(noise) == pytest.approx(0.5 * 0.5 * 40_000, rel=0.05)
    assert noise.p.mean() == pytest.approx(0.8 / 1.8, abs=0.03)
    where = noise.y.astype(int) * 200 + noise.x
    order = np.argsort(where, kind="stable")
    again = np.diff(where[order]) == 0
    gaps_us = np.diff(noise.t_us[order])[again]
    assert np.median(gaps_us) == pytest.approx(2000 * np.log(2), rel=0.25)


def test_mismatch_has_the_asked_deviation():
    model = SensorModel(threshold_on=0.3, mismatch=0.1)
    array = PixelArray(model, height=200, width=200, rng=np.random.default_rng(0))
    assert array._on.mean() == pytest.approx(0.3, rel=0.01)
    assert array._on.std() == pytest.approx(0.03, rel=0.05)


def test_low_pass_delays_and_reaches_the_level():
    start = np.zeros((20, 20), np.float32)
    end = start + np.float32(1)
    times_us = [0, 100, *range(1000, 60_000, 1000)]
    images = [start, *[end] * (len(times_us) - 1)]
    _, fast = run(SensorModel(**QUIET), images, times_us)
    _, slow = run(SensorModel(cutoff_hz=20.0, **QUIET), images, times_us)
    assert fast.t_us.max() < 100
    assert np.median(slow.t_us) == pytest.approx(5000, rel=0.4)  # ln(2) / (2 pi 20 Hz) = 5.5 ms
    assert len(slow) == pytest.approx(len(fast), rel=0.05)


@pytest.mark.parametrize(("intensity", "corner_hz"), [(1.0, 200.0), (0.25, 50.0), (0.1, 20.0)])
def test_low_pass_is_slower_in_the_dark(intensity, corner_hz):
    end = np.full((20, 20), math.log(intensity), np.float32)
    times_us = [0, 10, *range(250, 60_000, 250)]
    images = [end - np.float32(1), *[end] * (len(times_us) - 1)]
    model = SensorModel(cutoff_hz=200.0, cutoff_brightness=1.0, **QUIET)
    _, events = run(model, images, times_us)
    alike = SensorModel(cutoff_hz=corner_hz, **QUIET)
    _, expected = run(alike, images, times_us)
    assert np.median(events.t_us) == pytest.approx(np.median(expected.t_us), rel=0.01)
    assert len(events) == pytest.approx(len(expected), rel=0.01)


def test_ranges_with_slow_dark_pixels_leave_all_other_draws_as_they_were():
    ranges = SensorRanges(cutoff_brightness=(0.5, 1.0))
    plain = SensorModel.random(np.random.default_rng(3))
    slow = SensorModel.random(np.random.default_rng(3), ranges)
    assert 0.5 <= slow.cutoff_brightness <= 1.0
    assert plain == replace(slow, cutoff_brightness=0.0)


def test_same_seed_same_bytes_and_other_seed_other_events():
    rng = np.random.default_rng(0)
    images = [rng.normal(0, 1, (40, 50)).astype(np.float32) for _ in range(4)]
    model = SensorModel(noise_hz=5.0, hot_fraction=0.01)
    times_us = [0, 1000, 2500, 30_000]
    assert run(model, images, times_us, 1)[1].equals(run(model, images, times_us, 1)[1])
    assert not run(model, images, times_us, 1)[1].equals(run(model, images, times_us, 2)[1])


def test_more_events_than_the_first_buffer_holds():
    start = np.zeros((100, 100), np.float32)
    model = SensorModel(threshold_on=0.02, **QUIET)
    _, events = run(model, [start, start + np.float32(1)], [0, 10_000])
    # 50 crossings a pixel, less half of the start range (-0.25 .. 0.02)
    assert len(events) == pytest.approx(10_000 * mean_crossings(1.0, 0.02, 0.25), rel=0.02)


def test_taking_events_twice_splits_them():
    rng = np.random.default_rng(0)
    images = [rng.normal(0, 1, (30, 30)).astype(np.float32) for _ in range(3)]
    array, first = run(SensorModel(), images[:2], [1000, 5000])
    array.advance(images[2], 9000)
    second = array.take_events()
    assert first.t_us.max() < 5000 <= second.t_us.min()
    assert len(array.take_events()) == 0


def test_time_step_rounds_down():
    start = np.zeros((20, 20), np.float32)
    model = SensorModel(time_step_us=100, noise_hz=10)
    _, events = run(model, [start, start + np.float32(1)], [0, 10_000])
    assert (events.t_us % 100 == 0).all()


def test_wrong_use_is_refused():
    array = PixelArray(SensorModel(), height=4, width=5, rng=np.random.default_rng(0))
    image = np.zeros((4, 5), np.float32)
    with pytest.raises(ValueError, match="call start"):
        array.advance(image, 5)
    array.start(image, 5)
    with pytest.raises(ValueError, match="must rise"):
        array.advance(image, 5)
    with pytest.raises(ValueError, match="float32"):
        array.advance(image.astype(np.float64), 6)
    with pytest.raises(ValueError, match="float32"):
        array.advance(np.zeros((5, 4), np.float32), 6)


def test_response_rises_and_pictures_come_back():
    model = SensorModel(knee=0.05, gamma=2.2)
    response = model.response()
    assert (np.diff(response) >= 0).all()
    codes = np.arange(0, 256, dtype=np.uint16) * 257
    np.testing.assert_array_equal(model.picture(response[codes][None])[0], np.arange(256))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold_on": 0.0}, "threshold_on must be above 0"),
        ({"noise_hz": -1.0}, "noise_hz must be at least 0"),
        ({"hot_fraction": 2.0}, "hot_fraction must lie in 0..1"),
        ({"cutoff_hz": 0.0}, "cutoff_hz must be above 0"),
        ({"cutoff_brightness": -1.0}, "cutoff_brightness must be at least 0"),
        ({"threshold": 1.0}, "unknown key"),
    ],
)
def test_wrong_sensors_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(SensorModel, values)


def test_ranges_round_trip_and_backward_ones_are_refused():
    ranges = SensorRanges(threshold=(0.1, 0.2))
    assert from_mapping(SensorRanges, to_mapping(ranges)) == ranges
    with pytest.raises(
        ConfigError, match=r"noise_hz must be \(low, high\) within .* got \(2\.0, 1\.0\)"
    ):
        SensorRanges(noise_hz=(2.0, 1.0))
    with pytest.raises(ConfigError, match="noise_hz must be"):
        SensorRanges(noise_hz=(0.0, 1.0))


def test_random_sensors_stay_in_their_ranges():
    ranges = SensorRanges()
    for seed in range(50):
        sensor = SensorModel.random(np.random.default_rng(seed), ranges)
        mean = np.sqrt(sensor.threshold_on * sensor.threshold_off)
        assert ranges.threshold[0] * 0.999 <= mean <= ranges.threshold[1] * 1.001
        assert sensor == SensorModel.random(np.random.default_rng(seed), ranges)
