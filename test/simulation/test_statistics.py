import numpy as np
import pytest

from evdistill_core.events.array import Events
from evdistill_core.simulation.statistics import window_statistics


def test_figures_of_a_known_window():
    # a bar of 3 x 10 pixels, each pixel brighter then darker 1 ms later, and one lonely event
    y, x = (a.ravel() for a in np.mgrid[5:15, 10:13])
    x, y = np.concatenate([x, x, [40]]), np.concatenate([y, y, [40]])
    t_us = np.concatenate([np.zeros(30), np.full(30, 1000), [40_000]])
    p = np.concatenate([np.ones(30), np.zeros(30), [1]])
    events = Events.from_columns(x, y, t_us, p, width=50, height=50)
    found = window_statistics(events, 50_000)
    assert found.rate_hz == pytest.approx(61 / 2500 / 0.05)
    assert found.on_fraction == pytest.approx(31 / 61)
    assert found.active_fraction == pytest.approx(31 / 2500)
    assert found.events_per_active == pytest.approx(61 / 31)
    assert found.lonely_hz == pytest.approx(1 / 2500 / 0.05)
    assert found.run_px == 3
    assert found.repeat_us == 1000
    assert found.same_polarity == 0


def test_an_empty_window_has_no_figures_but_rates():
    found = window_statistics(Events.empty(10, 10), 50_000)
    assert found.rate_hz == found.lonely_hz == found.active_fraction == 0
    assert np.isnan(found.on_fraction)
