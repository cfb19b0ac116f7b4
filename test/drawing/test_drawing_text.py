import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.drawing.text import ink_on, place_labels, plate_size, write_on_plate

WIDTH, HEIGHT = 640, 480


def overlap(a, b):
    """Return the common area of two rectangles (x, y, width, height), by the definition."""
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0, wide) * max(0, high)


def placed(sizes, boxes):
    places = place_labels(sizes, boxes, (WIDTH, HEIGHT))
    return [(*p, *s) for p, s in zip(places, sizes, strict=True) if p is not None]


@st.composite
def crowds(draw):
    boxes, sizes = [], []
    for _ in range(draw(st.integers(0, 25))):
        left, top = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
        right, bottom = draw(st.integers(left + 1, WIDTH)), draw(st.integers(top + 1, HEIGHT))
        boxes.append((left, top, right, bottom))
        sizes.append((draw(st.integers(30, 160)), 18))
    return sizes, boxes


@settings(max_examples=80, deadline=None)
@given(crowd=crowds())
def test_labels_lie_in_the_picture_and_not_over_one_another(crowd):
    labels = placed(*crowd)
    for i, a in enumerate(labels):
        assert 0 <= a[0] <= a[0] + a[2] <= WIDTH
        assert 0 <= a[1] <= a[1] + a[3] <= HEIGHT
        for b in labels[:i]:
            assert overlap(a, b) == 0


def test_a_label_stands_above_its_box_and_below_where_there_is_no_room():
    size = (100, 18)
    assert place_labels([size], [(50, 100, 90, 130)], (WIDTH, HEIGHT)) == [(50, 82)]
    assert place_labels([size], [(50, 3, 90, 30)], (WIDTH, HEIGHT)) == [(50, 30)]
    # At the right edge it is moved to the left, and a box that fills the picture has it inside.
    assert place_labels([size], [(620, 100, 640, 130)], (WIDTH, HEIGHT)) == [(540, 82)]
    assert place_labels([size], [(0, 0, WIDTH, HEIGHT)], (WIDTH, HEIGHT)) == [(0, 0)]


def test_a_label_does_not_hide_another_box_where_it_can_stand_elsewhere():
    boxes = [(200, 200, 260, 240), (200, 150, 300, 199)]
    first, _ = placed([(100, 18), (100, 18)], boxes)
    left, top, right, bottom = boxes[1]
    assert overlap(first, (left, top, right - left, bottom - top)) == 0


def test_thirty_boxes_on_one_place_still_have_their_labels():
    boxes = [(300 + i, 200 + i, 340 + i, 240 + i) for i in range(30)]
    assert len(placed([(90, 18)] * 30, boxes)) == 30


def test_what_does_not_fit_into_the_picture_is_left_out():
    labels = placed([(300, 200)] * 9, [(10, 10, 20, 20)] * 9)
    assert 2 <= len(labels) <= 4


def test_nearly_all_of_a_hundred_labels_find_a_place():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, (WIDTH - 30, HEIGHT - 30), (100, 2))
    boxes = [(int(x), int(y), int(x) + 30, int(y) + 30) for x, y in corners]
    assert len(placed([(60, 14)] * 100, boxes)) > 90


def test_a_label_that_is_larger_than_the_picture_is_left_out():
    assert place_labels([(100, 50)], [(0, 0, 10, 10)], (20, 20)) == [None]


@pytest.mark.parametrize(
    ("plate", "ink"), [((142, 0, 0), 255), ((152, 251, 152), 0), ((30, 170, 250), 0)]
)
def test_ink_is_the_clearer_of_black_and_white(plate, ink):
    assert ink_on(plate) == (ink,) * 3


@pytest.mark.parametrize("height_px", [11, 16, 24])
def test_capital_letters_are_as_high_as_asked_and_stay_on_their_plate(height_px):
    width, height = plate_size("HEIGHT", height_px)
    image = np.full((100, width + 40, 3), 90, np.uint8)
    write_on_plate(image, "HEIGHT", (20, 30), height_px, (0, 0, 60))
    outside = image.copy()
    outside[30 : 30 + height, 20 : 20 + width] = 90
    assert (outside == 90).all()
    rows = np.flatnonzero((image[:, :, 1] > 128).any(axis=1))
    assert abs(len(rows) - height_px) <= 3  # the pen is up to 2 px thick
