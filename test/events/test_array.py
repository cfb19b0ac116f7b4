import numpy as np
import pytest

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import EventsError


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


@pytest.mark.parametrize("p", [[True, False], [1, -1], [1, 0], [1.0, -1.0]])
def test_every_convention_of_polarity_becomes_zero_and_one(p):
    events = Events.from_columns([0, 1], [0, 1], [5, 6], p, width=8, height=4)
    assert events.p.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x": [np.nan]}, "x must lie in 0..7, got nan"),
        ({"y": [1.5]}, "y must hold whole numbers, got 1.5"),
        ({"t_us": [np.nan]}, "t_us must lie in"),
        ({"t_us": [np.inf]}, "t_us must lie in"),
        ({"t_us": [0.25]}, r"whole numbers, got 0.25: seconds become .* np.rint\(t \* 1e6\)"),
        ({"p": [7]}, r"p must lie in -1..1, got 7..7: write p > 0"),
        ({"p": [np.nan]}, "p must lie in"),
        ({"p": [0.5]}, "p must hold whole numbers"),
        ({"x": ["a"]}, "x must hold numbers, got the dtype <U1"),
        ({"width": np.nan}, "width must be a whole number of pixels, .*got nan"),
        ({"height": 3.5}, "height must be a whole number of pixels, .*got 3.5"),
        ({"width": 70_000}, "width must be a whole number of pixels, 0..65536, got 70000"),
        ({"height": -1}, "height must be a whole number of pixels, .*got -1"),
    ],
)
def test_what_no_event_can_be_is_refused_and_not_rounded(wrong, message):
    good = {"x": [1], "y": [1], "t_us": [5], "p": [1], "width": 8, "height": 4}
    with pytest.raises(EventsError, match=message):
        Events.from_columns(**good | wrong)


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


@pytest.mark.parametrize(
    "names", [("t", "x", "y", "p"), ("timestamp", "x", "y", "polarity"), ("ts", "x", "y", "pol")]
)
def test_structured_arrays_of_other_libraries(names):
    dtype = [(names[0], "<i8"), (names[1], "<i2"), (names[2], "<i2"), (names[3], "?")]
    array = np.array([(5, 1, 2, True), (6, 3, 0, False)], dtype)
    events = Events.from_structured(array)
    assert (events.width, events.height) == (4, 3)
    assert events.p.tolist() == [1, 0]
    again = Events.from_structured(events.to_structured(), width=10, height=9)
    assert (again.width, again.height) == (10, 9)
    assert again.t_us.tolist() == [5, 6]
    assert Events.from_structured(array[:0]).width == 1


@pytest.mark.parametrize("dtype", [[("t", "i8"), ("x", "i2"), ("p", "?")], "i8"])
def test_a_structured_array_without_a_field_is_refused(dtype):
    with pytest.raises(ValueError, match="needs a field"):
        Events.from_structured(np.zeros(3, dtype))


def test_a_line_about_events():
    events = Events.from_columns(
        [1, 2], [3, 4], [1_000_000, 2_500_000], [1, 0], width=346, height=260
    )
    assert repr(events) == "Events(2 events, 346x260, 1.000000 .. 2.500000 s, 50% ON)"
    assert repr(events[:0]) == "Events(0 events, 346x260)"


def test_what_is_in_order_is_known_of_parts_too():
    events = make(6)
    assert events.in_order
    assert events[2:5].in_order
    assert make(0).in_order
    t_us = np.array([1, 5, 4, 9])
    mixed = Events.from_columns([0] * 4, [0] * 4, t_us, [1] * 4, width=8, height=4)
    assert not mixed.in_order
    assert mixed[2:].in_order  # a part may be, where the whole is not
    assert mixed[np.argsort(t_us)].in_order
    assert not events[::-1].in_order
    assert not Events.concatenate([events[3:], events[:3]]).in_order
    assert Events.concatenate([events[:3], events[3:]]).in_order


def test_parts_of_views_are_read_only():
    for part in (make()[1:3], Events.concatenate([make(), make()])):
        with pytest.raises(ValueError, match="read-only"):
            part.t_us[0] = 3
