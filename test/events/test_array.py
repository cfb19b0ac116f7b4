import numpy as np
import pytest

from evdistill_core.events.array import Events, Triggers


def make(n=5):
    rng = np.random.default_rng(0)
    return Events.from_columns(
        rng.integers(0, 8, n), rng.integers(0, 4, n), np.arange(n), rng.random(n) > 0.5,
        width=8, height=4,
    )  # fmt: skip


def test_columns_are_read_only_and_the_callers_stay_writable():
    x = np.zeros(3, np.uint16)
    events = Events(x, x, np.zeros(3, np.int64), np.zeros(3, np.uint8), 8, 4)
    with pytest.raises(ValueError, match="read-only"):
        events.x[0] = 1
    x[0] = 1


@pytest.mark.parametrize("p", [[True, False], [1, -1], [1, 0], [2.0, -3.0]])
def test_every_convention_of_polarity_becomes_zero_and_one(p):
    events = Events.from_columns([0, 1], [0, 1], [5, 6], p, width=8, height=4)
    assert events.p.tolist() == [1, 0]


def test_outside_coordinates_and_wrong_columns_are_refused():
    with pytest.raises(ValueError, match=r"x must lie in 0\.\.7, got 8\.\.8"):
        Events.from_columns([8], [0], [0], [1], width=8, height=4)
    with pytest.raises(ValueError, match=r"y must lie in 0\.\.3"):
        Events.from_columns([0], [-1], [0], [1], width=8, height=4)
    with pytest.raises(ValueError, match="shape"):
        Events.from_columns([0, 1], [0], [0], [1], width=8, height=4)
    with pytest.raises(ValueError, match="dtype"):
        Events(np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1), 8, 4)  # type: ignore[arg-type]


def test_slicing_and_joining_give_back_the_same():
    events = make(20)
    assert Events.concatenate([events[:7], events[7:7], events[7:]]).equals(events)
    assert len(events[events.p == 1]) == int(events.p.sum())
    assert len(Events.empty(8, 4)) == 0
    with pytest.raises(ValueError, match="different frame sizes"):
        Events.concatenate([events, Events.empty(9, 4)])
    with pytest.raises(ValueError, match="zero parts"):
        Events.concatenate([])
    assert len(Triggers.concatenate([])) == 0
