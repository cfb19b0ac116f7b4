"""The second simulator does what was published about it."""

import sys
from pathlib import Path

import numpy as np
import pytest

from evdistill_core.data.samples import Sample
from evdistill_core.foundation.labels import IGNORE

HERE = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def second(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import second_simulator

    yield second_simulator
    del sys.modules["second_simulator"]


PLAIN = {
    "mismatch": 0.0,
    "cutoff_hz": 1e9,
    "leak_hz": 0.0,
    "shot_hz": 0.0,
    "refractory_us": 0.0,
}


def film_of(*greys, shape=(4, 6)):
    return iter([np.full(shape, float(g)) for g in greys])


def simulate(second, frames, **changes):
    pixels = second.Pixels(**PLAIN | changes)
    return second.events_of_frames(frames, pixels, np.random.default_rng(0), frame_us=2_000)


def test_a_step_makes_an_event_for_every_threshold_in_it(second):
    """From 50 to 100: ln 2 = 3.47 thresholds of 0.2; back again as many OFF events."""
    up = simulate(second, film_of(50, 100))
    assert len(up) == 3 * 24
    assert (up.p == 1).all()
    assert np.unique(up.t_us).tolist() == [665, 1332, 1999]
    both = simulate(second, film_of(50, 100, 50))
    assert (both.p == 0).sum() == 3 * 24
    assert (np.diff(both.t_us) >= 0).all()


def test_dark_pixels_are_linear(second):
    """From 10 to 5: 5 ln(20) / 20 = 0.75, three thresholds."""
    assert len(simulate(second, film_of(10, 5))) == 3 * 24
    assert len(simulate(second, film_of(0, 1))) == 0  # the logarithm would be infinite


def test_a_slow_pixel_sees_less_of_a_flash(second):
    fast = simulate(second, film_of(100, 200, 100))
    slow = simulate(second, film_of(100, 200, 100), cutoff_hz=30.0)
    assert len(slow) < len(fast)


def test_leaks_are_on_and_shot_noise_is_stronger_in_the_dark(second):
    leak = simulate(second, film_of(*[100] * 501), leak_hz=5.0)  # a second
    assert (leak.p == 1).all()
    assert abs(len(leak) / 24 - 5) <= 1
    rates = []
    for grey in (0, 255):
        noise = simulate(second, film_of(*[grey] * 501, shape=(20, 30)), shot_hz=5.0)
        rates.append(len(noise) / 600)
        assert 0.4 < (noise.p == 1).mean() < 0.6
    assert abs(rates[0] - 5.0) < 0.4
    assert abs(rates[1] - 5.0 * second.SHOT_IN_BRIGHT) < 0.3


def test_a_pixel_is_silent_after_an_event(second):
    assert len(simulate(second, film_of(50, 100), refractory_us=1_500.0)) == 24


def test_the_same_pixels_count_for_all(second):
    """Those near events of all windows of a scene; labels elsewhere do not count."""
    windows = []
    for column in (4, 8):
        active = np.zeros((16, 24), np.uint8)
        active[8, column] = 1
        label = np.full((16, 24), 2, np.uint8)
        windows.append(Sample(input=np.zeros((1, 16, 24), np.float32), label=label, active=active))
    same = second.on_the_same_pixels(windows)
    for window in same:
        rows, columns = np.nonzero(window.label != IGNORE)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 11, 5, 7)
        assert (window.label[rows, columns] == 2).all()
    assert (windows[0].label == 2).all()  # the scene itself stays as it is


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--size", "0", "256"], "--size must lie in 32..2048 px, got [0, 256]"),
        (["--windows", "0"], "--windows must be at least 1, got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(second, monkeypatch, capsys, wrong, said):
    monkeypatch.setattr(sys, "argv", ["second_simulator.py", "street6", *wrong])
    with pytest.raises(SystemExit):
        second.main()
    assert said in capsys.readouterr().err
