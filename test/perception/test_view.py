import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.inference.prediction import Detection, Prediction, Recognition
from evdistill_core.perception.view import View

HEIGHT, WIDTH = 12, 20
ALL = (0, 0, 0, 0)


def of(roi=ALL, rotation_deg=0):
    return View.of(height=HEIGHT, width=WIDTH, roi=roi, rotation_deg=rotation_deg)


def events_of(image):
    """One event for each pixel that is not 0; its time is the pixel's value."""
    y, x = np.nonzero(image)
    return Events.from_columns(
        x, y, image[y, x], np.ones(len(x)), width=image.shape[1], height=image.shape[0]
    )


def picture(events):
    image = np.zeros((events.height, events.width), int)
    image[events.y, events.x] = events.t_us
    return image


@st.composite
def regions_on_it(draw):
    x, y = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
    return x, y, draw(st.integers(1, WIDTH - x)), draw(st.integers(1, HEIGHT - y))


regions = st.one_of(st.just(ALL), regions_on_it())


@settings(max_examples=60, deadline=None)
@given(roi=regions, turns=st.integers(0, 3))
def test_events_are_cut_and_turned_as_an_image_is(roi, turns):
    image = np.arange(1, HEIGHT * WIDTH + 1).reshape(HEIGHT, WIDTH)
    x, y, wide, high = roi
    part = image[y : y + (high or HEIGHT), x : x + (wide or WIDTH)]
    view = of(roi, turns * 90)
    seen = view.events(events_of(image))
    np.testing.assert_array_equal(picture(seen), np.rot90(part, -turns))
    assert view.size == picture(seen).shape


@settings(max_examples=60, deadline=None)
@given(roi=regions, turns=st.integers(0, 3), seed=st.integers(0, 2**32 - 1))
def test_what_is_said_of_the_view_comes_back_to_its_place(roi, turns, seed):
    """A box is put back to where its own pixels are put back."""
    rng = np.random.default_rng(seed)
    view = of(roi, turns * 90)
    high, wide = view.size
    left, top = int(rng.integers(wide)), int(rng.integers(high))
    right, bottom = int(rng.integers(left, wide)) + 1, int(rng.integers(top, high)) + 1
    mask = np.zeros(view.size, np.uint8)
    mask[top:bottom, left:right] = 5
    found = Detection(5, 0.5, (left, top, right, bottom), 1)
    said = Prediction(mask, mask.astype(np.float32), (found,), mask.astype(np.uint16))
    placed = view.place(said)
    assert placed.mask.shape == (HEIGHT, WIDTH)
    y, x = np.nonzero(placed.mask == 5)
    assert placed.detections[0].box_xyxy == (x.min(), y.min(), x.max() + 1, y.max() + 1)
    assert len(y) == (right - left) * (bottom - top)
    np.testing.assert_array_equal(placed.instances == 5, placed.mask == 5)
    np.testing.assert_array_equal(placed.confidence == 5, placed.mask == 5)
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[view.top : view.bottom, view.left : view.right] = True
    assert (placed.mask[~inside] == 255).all()


@pytest.mark.parametrize("turns", range(4))
def test_velocity_and_covariance_turn_with_the_box(turns):
    view = of((2, 1, 9, 7), turns * 90)
    moved = []
    for shift in (0, 2):  # 2 px to the right in the view
        box = (1 + shift, 1, 3 + shift, 3)
        covariance = tuple(tuple(row) for row in np.diag([1.0, 2.0, 3.0, 4.0]).tolist())
        d = Detection(5, 0.5, box, 4, velocity_px_s=(2.0, 0.0), covariance=covariance)
        nothing = np.zeros(view.size, np.uint8)
        placed = view.place(Prediction(nothing, nothing.astype(np.float32), (d,)))
        moved.append(placed.detections[0])
    step = np.subtract(moved[1].box_xyxy, moved[0].box_xyxy)
    np.testing.assert_allclose(moved[0].velocity_px_s, step[:2])
    variances = np.diag(np.array(moved[0].covariance)).tolist()
    assert variances == ([1, 2, 3, 4] if turns % 2 == 0 else [2, 1, 4, 3])


def test_the_whole_sensor_is_not_copied():
    events = events_of(np.ones((HEIGHT, WIDTH), int))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    said = Prediction(mask, mask.astype(np.float32))
    assert of().events(events) is events
    assert of().place(said) is said
    assert of((0, 0, WIDTH, HEIGHT)).is_whole


def test_guesses_have_no_place():
    said = Recognition(())
    assert of((1, 1, 4, 4), 90).place(said) is said


@pytest.mark.parametrize("roi", [(20, 0, 5, 5), (16, 0, 5, 5), (0, 8, 5, 5)])
def test_a_region_that_is_not_wholly_on_the_sensor_is_refused(roi):
    with pytest.raises(ConfigError, match=r"roi \[\d+, \d, 5, 5\] lies outside.*20x12.*beyond"):
        of(roi)


def test_a_region_without_events_gives_none():
    seen = of((0, 0, 4, 4), 180).events(Events.empty(WIDTH, HEIGHT))
    assert (len(seen), seen.width, seen.height) == (0, 4, 4)
