import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.inference.prediction import Detection, Maps, Prediction
from evdistill_core.inference.support import Support, middle


def slow_counts(image, factor):
    height, width = image.shape
    rows, columns = -(-height // factor), -(-width // factor)
    counts = np.zeros((rows, columns), int)
    for y in range(height):
        for x in range(width):
            counts[y // factor, x // factor] += image[y, x]
    return counts


def slow_enlarge(small, image, factor, outside):
    whole = np.full(image.shape, outside, small.dtype)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if image[y, x]:
                whole[y, x] = small[y // factor, x // factor]
    return whole


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 23), st.integers(1, 23)),
    factor=st.integers(1, 7),
    share=st.sampled_from([0.0, 0.2, 0.9, 1.0]),
)
def test_support_at_both_resolutions_equals_the_slow_reference(seed, size, factor, share):
    rng = np.random.default_rng(seed)
    image = (rng.random(size) < share).astype(np.uint8)
    support = Support.of(image, factor)
    np.testing.assert_array_equal(support.counts, slow_counts(image, factor))
    shape = support.counts.shape
    mask = rng.integers(0, 7, shape).astype(np.uint8)
    confidence = rng.random(shape).astype(np.float32)
    ids = rng.integers(0, 4, shape).astype(np.uint16)
    mask[support.counts == 0], confidence[support.counts == 0] = 255, 0
    ids[support.counts == 0] = 0
    made = Prediction.of_maps(Maps(mask, confidence, ids), support, ())
    np.testing.assert_array_equal(made.mask, slow_enlarge(mask, image, factor, 255))
    np.testing.assert_array_equal(made.confidence, slow_enlarge(confidence, image, factor, 0))
    np.testing.assert_array_equal(made.instances, slow_enlarge(ids, image, factor, 0))
    assert (made.mask.dtype, made.confidence.dtype, made.instances.dtype) == (
        np.uint8, np.float32, np.uint16,
    )  # fmt: skip
    assert made.size == size
    assert made.factor == factor
    assert made.small.mask is mask
    # Boxes are those of the enlarged map.
    boxes = np.zeros((3, 4), np.int64)
    for i in range(3):
        v, u = np.nonzero(ids == i + 1)
        if len(v):
            boxes[i] = u.min(), v.min(), u.max() + 1, v.max() + 1
    tight = support.boxes_px(ids, boxes)
    for i in range(3):
        y, x = np.nonzero(made.instances == i + 1)
        if len(y):
            assert tight[i].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_a_prediction_of_a_turned_view_is_reduced_to_the_middle_pixels():
    mask = np.arange(7 * 5, dtype=np.uint8).reshape(7, 5)
    confidence = mask.astype(np.float32)
    ids = mask.astype(np.uint16)
    found = Prediction(mask, confidence, (Detection(1, 0.5, (0, 0, 1, 1), 1),), ids, factor=3)
    small = found.small
    np.testing.assert_array_equal(small.mask, mask[[1, 4, 6]][:, [1, 4]])
    np.testing.assert_array_equal(small.confidence, small.mask)
    np.testing.assert_array_equal(small.instances, small.mask)
    assert found.size == (7, 5)
    np.testing.assert_array_equal(middle(mask, 1), mask)


def test_a_prediction_at_full_resolution_is_its_own_small_one():
    found = Prediction(np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.float32))
    assert found.small.mask is found.mask
    assert found.instances is None
    assert found.small.instances is None


@pytest.mark.parametrize(
    ("mask", "confidence", "ids"),
    [
        (np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32), None),
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.float32), None),
        (np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.float32), np.zeros((2, 3), np.int64)),
    ],
)
def test_maps_that_do_not_belong_together_are_refused(mask, confidence, ids):
    with pytest.raises(ValueError, match="must be"):
        Maps(mask, confidence, ids)
    with pytest.raises(ValueError, match="must be"):
        Prediction(mask, confidence, (), ids)


def test_maps_of_another_size_than_the_support_are_refused():
    maps = Maps(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.float32))
    with pytest.raises(ValueError, match="maps must be"):
        Prediction.of_maps(maps, Support.of(np.ones((4, 4), np.uint8), 2), ())
