from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instance_heads import perfect_heads

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.inference import tracking
from evdistill_core.inference.postprocess import (
    PostprocessConfig,
    Postprocessor,
    event_support,
    find_components,
    segment,
)

DENSE = PostprocessConfig(unlabelled_radius_px=-1)
CARS = (np.arange(256) == 5).astype(np.uint8)
THINGS = np.isin(np.arange(256), (4, 5)).astype(np.uint8)


def events_at(points, *, width, height):
    x = [p[0] for p in points]
    y = [p[1] for p in points]
    n = len(points)
    return Events.from_columns(x, y, np.arange(n), np.ones(n), width=width, height=height)


def slow_segment(logits, height, width, stride):
    """Enlarge one value at a time, by the definition of half-pixel centres."""
    k, rows, columns = logits.shape
    big = np.zeros((k, height, width))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) / stride - 0.5, 0), rows - 1)
            u = min(max((x + 0.5) / stride - 0.5, 0), columns - 1)
            y0, x0 = int(np.floor(v)), int(np.floor(u))
            y1, x1 = min(y0 + 1, rows - 1), min(x0 + 1, columns - 1)
            b, a = v - y0, u - x0
            big[:, y, x] = (
                logits[:, y0, x0] * (1 - a) * (1 - b)
                + logits[:, y0, x1] * a * (1 - b)
                + logits[:, y1, x0] * (1 - a) * b
                + logits[:, y1, x1] * a * b
            )
    e = np.exp(big - big.max(0))
    return big, e / e.sum(0)


def slow_support(events, config):
    fired = np.zeros((events.height, events.width), bool)
    fired[events.y, events.x] = True

    def box(image, radius, reduce, outside):
        padded = np.pad(image, radius, constant_values=outside)
        size = 2 * radius + 1
        return reduce(np.lib.stride_tricks.sliding_window_view(padded, (size, size)), axis=(2, 3))

    neighbours = box(fired.astype(int), 1, np.sum, 0) - 1
    kept = fired & (neighbours >= config.min_neighbours)
    grown = box(kept, config.unlabelled_radius_px + config.closing_px, np.any, False)
    return box(grown, config.closing_px, np.all, True)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    stride=st.sampled_from([1, 2, 4, 8, 12]),
    cut=st.integers(0, 7),
)
def test_segment_equals_slow_resize_softmax_argmax(seed, rows, columns, stride, cut):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(4, rows, columns)).astype(np.float32) * 3
    height, width = max(1, rows * stride - cut), max(1, columns * stride - cut)
    support = np.ones((height, width), np.uint8)
    mask, confidence, counts = segment(logits, support, stride=stride)
    big, probability = slow_segment(logits.astype(np.float64), height, width, stride)
    top = np.sort(big, axis=0)
    clear = top[-1] - top[-2] > 1e-4  # rounding may swap equal logits
    np.testing.assert_array_equal(mask[clear], big.argmax(0)[clear])
    np.testing.assert_allclose(confidence, probability.max(0), atol=2e-6)
    assert counts.sum() == height * width
    np.testing.assert_array_equal(counts, np.bincount(mask.ravel(), minlength=4))


def test_segment_equals_opencv_resize_of_the_padded_input():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(3, 9, 11)).astype(np.float32)
    enlarged = cv2.resize(logits.transpose(1, 2, 0), (88, 72), interpolation=cv2.INTER_LINEAR)
    mask, _, _ = segment(logits, np.ones((65, 81), np.uint8), stride=8)
    agree = mask == enlarged.argmax(2)[:65, :81]
    assert agree.mean() > 0.9999


def test_segment_leaves_unsupported_pixels_unlabelled():
    support = np.zeros((4, 4), np.uint8)
    support[1, 2] = 1
    mask, confidence, counts = segment(np.zeros((2, 4, 4), np.float32), support, stride=1)
    assert mask[1, 2] == 0
    assert confidence[1, 2] == pytest.approx(0.5)
    assert (mask == 255).sum() == 15
    assert confidence.sum() == pytest.approx(0.5)
    assert counts.tolist() == [1, 0]


def test_segment_is_stable_for_large_logits():
    logits = np.array([[[1000.0]], [[-1000.0]]], np.float32)
    mask, confidence, _ = segment(logits, np.ones((2, 2), np.uint8), stride=2)
    assert (mask == 0).all()
    np.testing.assert_array_equal(confidence, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_segment_refuses_logits_that_are_not_finite(bad):
    logits = np.zeros((2, 2, 2), np.float32)
    logits[1, 0, 1] = bad
    with pytest.raises(StudentError, match="not finite"):
        segment(logits, np.ones((2, 2), np.uint8), stride=1)


def test_segment_refuses_logits_that_do_not_cover_the_sensor():
    with pytest.raises(StudentError, match="do not cover"):
        segment(np.zeros((2, 8, 8), np.float32), np.ones((65, 64), np.uint8), stride=8)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 60),
    radius=st.integers(0, 4),
    neighbours=st.integers(0, 3),
    closing=st.integers(0, 4),
)
def test_support_equals_slow_reference(seed, count, radius, neighbours, closing):
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.integers(0, 31, count), rng.integers(0, 23, count)])
    events = events_at(points, width=31, height=23)
    config = PostprocessConfig(
        unlabelled_radius_px=radius, min_neighbours=neighbours, closing_px=closing
    )
    np.testing.assert_array_equal(
        event_support(events, config).astype(bool), slow_support(events, config)
    )


def test_support_of_no_events_is_nothing_and_dense_is_everything():
    empty = Events.empty(8, 6)
    assert not event_support(empty, PostprocessConfig()).any()
    assert event_support(empty, DENSE).all()


def two_blobs():
    mask = np.zeros((40, 60), np.uint8)
    mask[5:15, 10:30] = 5
    mask[20:36, 40:50] = 5
    mask[1, 1] = 5
    confidence = np.full(mask.shape, 0.9, np.float32)
    confidence[20:36, 40:50] = 0.6
    return mask, confidence


def test_components_have_the_box_area_and_score_of_their_own_pixels():
    mask, confidence = two_blobs()
    config = PostprocessConfig(min_area_px=50, min_score=0.1, join_px=2)
    first, second = find_components(mask, confidence, CARS, config)
    assert (first.box_xyxy, first.area_px) == ((10, 5, 30, 15), 200)
    assert first.score == pytest.approx(0.9)
    assert (second.box_xyxy, second.area_px) == ((40, 20, 50, 36), 160)
    assert second.score == pytest.approx(0.6)


def slow_components(mask, confidence, is_thing, config):
    """Over the whole picture, one component and one pixel at a time."""
    own = is_thing[mask].astype(bool)
    radius = config.join_px
    size = 2 * radius + 1

    def box(image, reduce, outside):
        padded = np.pad(image, radius, constant_values=outside)
        return reduce(np.lib.stride_tricks.sliding_window_view(padded, (size, size)), axis=(2, 3))

    joined = box(box(own, np.any, False), np.all, True) | own
    seen = np.zeros(joined.shape, bool)
    found = []
    for start in zip(*np.nonzero(joined), strict=True):
        if seen[start]:
            continue
        seen[start] = True
        part, rest = [], [start]
        while rest:
            y, x = rest.pop()
            part.append((y, x))
            for v in range(max(0, y - 1), min(joined.shape[0], y + 2)):
                for u in range(max(0, x - 1), min(joined.shape[1], x + 2)):
                    if joined[v, u] and not seen[v, u]:
                        seen[v, u] = True
                        rest.append((v, u))
        pixels = [p for p in part if own[p]]
        if len(pixels) < config.min_area_px:
            continue
        votes = np.zeros(256)
        for p in pixels:
            votes[mask[p]] += confidence[p]
        ys, xs = zip(*pixels, strict=True)
        score = votes.max() / len(pixels)
        if score >= min(config.min_score, config.keep_score):
            box_xyxy = (min(xs), min(ys), max(xs) + 1, max(ys) + 1)
            found.append((int(votes.argmax()), score, box_xyxy, len(pixels)))
    return sorted(found, key=lambda d: (-d[3], d[2]))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    join=st.integers(0, 4),
    share=st.sampled_from([0, 0.02, 0.1, 0.3]),
)
def test_components_equal_a_slow_reference(seed, join, share):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 40, 2)
    mask = rng.integers(0, 4, (height, width)).astype(np.uint8)
    mask[rng.random(mask.shape) > share] = 255
    things = rng.random(mask.shape) < share
    mask[things] = rng.integers(4, 6, things.sum())
    confidence = rng.random(mask.shape).astype(np.float32)
    config = PostprocessConfig(min_area_px=2, min_score=0.3, keep_score=0.2, join_px=join)
    found = find_components(mask, confidence, THINGS.astype(np.uint8), config)
    expected = slow_components(mask, confidence, THINGS.astype(np.uint8), config)
    # The sum over pixels in another order may round differently.
    assert [(d.class_id, d.box_xyxy, d.area_px) for d in found] == [
        (c, b, a) for c, _, b, a in expected
    ]
    assert [d.score for d in found] == pytest.approx([s for _, s, _, _ in expected], abs=1e-6)


def test_small_and_unsure_components_are_no_detections():
    mask, confidence = two_blobs()
    big = PostprocessConfig(min_area_px=180, min_score=0)
    sure = PostprocessConfig(min_area_px=2, min_score=0.7, keep_score=0.7)
    assert [d.area_px for d in find_components(mask, confidence, CARS, big)] == [200]
    assert [d.area_px for d in find_components(mask, confidence, CARS, sure)] == [200]
    people = np.arange(256) == 4
    assert find_components(mask, confidence, people.astype(np.uint8), sure) == []


def test_closing_joins_parts_of_one_thing():
    mask = np.zeros((20, 40), np.uint8)
    mask[5:15, 5:15] = 5
    mask[5:15, 18:28] = 5
    confidence = np.ones(mask.shape, np.float32)
    config = PostprocessConfig(min_area_px=1)
    apart = find_components(mask, confidence, CARS, PostprocessConfig(min_area_px=1, join_px=1))
    joined = find_components(mask, confidence, CARS, config)
    assert len(apart) == 2
    assert [(d.box_xyxy, d.area_px) for d in joined] == [((5, 5, 28, 15), 200)]


def test_one_thing_has_the_class_that_most_of_it_speaks_for():
    mask = np.full((20, 40), 255, np.uint8)
    mask[5:15, 5:25] = 5
    mask[5:15, 25:30] = 4
    confidence = np.where(mask == 255, 0, np.where(mask == 5, 0.6, 0.8)).astype(np.float32)
    config = PostprocessConfig(min_area_px=1)
    (found,) = find_components(mask, confidence, THINGS, config)
    assert (found.class_id, found.box_xyxy, found.area_px) == (5, (5, 5, 30, 15), 250)
    assert found.score == pytest.approx(0.6 * 200 / 250)
    (person,) = find_components(
        np.where(mask == 5, 4, mask).astype(np.uint8), confidence, THINGS, config
    )
    assert person.class_id == 4


def test_postprocessor_finds_a_thing_where_events_are_and_keeps_its_id():
    logits = np.zeros((2, 10, 10), np.float32)
    logits[1, 2:6, 2:6] = 8
    y, x = np.mgrid[8:24, 8:24]
    events = events_at(np.column_stack([x.ravel(), y.ravel()]), width=38, height=37)
    post = Postprocessor(PostprocessConfig(), thing_ids=(1,))
    first = post(logits, events, stride=4, span_us=(0, 50))
    second = post(logits, events, stride=4, span_us=(50, 100))
    (a,), (b,) = first.detections, second.detections
    assert a.track_id == b.track_id == 1
    assert a.score > 0.9
    assert first.mask.shape == (37, 38)
    assert first.mask[30, 30] == 255
    left, top, right, bottom = a.box_xyxy
    assert (left, top) <= (9, 9)
    assert (right, bottom) >= (22, 22)
    post(logits, Events.empty(38, 37), stride=4, span_us=(100, 150))
    post.reset()
    assert post(logits, events, stride=4, span_us=(150, 200)).detections[0].track_id == 2


TWO_CARS = ((20, 30, 52, 46), (52, 28, 84, 46))


def cars_in(boxes=TWO_CARS, size=(80, 120)):
    """The logits, the head and the events of cars; each box is one."""
    labels, numbers = np.zeros(size, np.uint8), np.zeros(size, np.uint16)
    for number, (left, top, right, bottom) in enumerate(boxes, 1):
        labels[top:bottom, left:right], numbers[top:bottom, left:right] = 5, number
    y, x = np.nonzero(numbers)
    events = events_at(np.column_stack([x, y]), width=size[1], height=size[0])
    return *perfect_heads(labels, numbers, stride=4, num_classes=6), events


def test_a_student_with_a_head_tells_things_apart_that_touch():
    logits, head, events = cars_in()
    for how, said, count in (("auto", head, 2), ("components", head, 1), ("auto", None, 1)):
        post = Postprocessor(PostprocessConfig(instances=how), (4, 5))
        for k in range(3):
            found = post(logits, events, stride=4, span_us=(k, k + 1), head=said)
            assert sorted(d.track_id for d in found.detections) == list(range(1, count + 1))
        assert set(np.unique(found.instances)) == {0, *(d.instance_id for d in found.detections)}
        for d in found.detections:
            assert (found.instances == d.instance_id).sum() == d.area_px
            assert d.class_id == 5


def test_the_score_of_an_instance_is_the_mean_of_its_class_and_its_centre():
    logits, head, events = cars_in(TWO_CARS[:1])
    post = Postprocessor(PostprocessConfig(min_score=0.5, keep_score=0.5), (5,))
    (sure,) = post(logits, events, stride=4, span_us=(0, 1), head=head).detections
    assert sure.score > 0.9
    lower = head._replace(centre=np.minimum(head.centre, np.float32(np.log(0.49 / 0.51))))
    (unsure,) = post(logits, events, stride=4, span_us=(1, 2), head=lower).detections
    assert unsure.score == pytest.approx(sure.score * 0.7, rel=0.06)
    assert unsure.track_id == sure.track_id
    lowest = head._replace(centre=np.minimum(head.centre, np.float32(np.log(0.22 / 0.78))))
    last = post(logits, events, stride=4, span_us=(2, 3), head=lowest)
    assert last.detections == ()
    assert not last.instances.any()


def test_a_detection_that_is_not_given_out_has_no_pixels_in_the_map():
    logits, head, events = cars_in()
    # Enough to go on with an id, too little for a new one; the second car is surer.
    weak = head._replace(
        centre=np.where(np.arange(30) < 13, np.minimum(head.centre, -2.0), head.centre).astype(
            np.float32
        )
    )
    config = PostprocessConfig(min_score=0.6, keep_score=0.1, centre_min_score=0.05)
    found = Postprocessor(config, (5,))(logits, events, stride=4, span_us=(0, 1), head=weak)
    (d,) = found.detections
    assert d.box_xyxy[0] > 45
    assert set(np.unique(found.instances)) == {0, d.instance_id}


def test_components_are_numbered_from_the_largest():
    mask = np.zeros((40, 60), np.uint8)
    mask[2:12, 2:12], mask[20:38, 5:40], mask[5:7, 50:52] = 5, 5, 5
    numbers = np.zeros(mask.shape, np.uint16)
    found = find_components(
        mask, np.ones(mask.shape, np.float32), CARS, PostprocessConfig(join_px=1), numbers
    )
    assert [d.instance_id for d in found] == [1, 2]
    np.testing.assert_array_equal(numbers == 1, (mask == 5) & (np.arange(40) >= 20)[:, None])
    assert (numbers == 2).sum() == 100
    assert numbers[5, 50] == 0  # too small


def test_a_shrunken_input_needs_the_factor_for_its_offsets():
    logits, head, events = cars_in()
    big = Events.from_columns(
        events.x * 2, events.y * 2, events.t_us, events.p, width=240, height=160
    )
    post = Postprocessor(PostprocessConfig(min_neighbours=0), (5,))
    found = post(logits, big, stride=8, span_us=(0, 1), head=head, factor=2)
    boxes = sorted(d.box_xyxy for d in found.detections)
    assert np.abs(np.array(boxes) - 2 * np.array(TWO_CARS)).max() <= 8


def test_unknown_ways_to_tell_things_apart_are_refused():
    with pytest.raises(ConfigError, match="instances must be one of auto, components, got 'no'"):
        PostprocessConfig(instances="no")


def test_unknown_thing_ids_are_ignored():
    post = Postprocessor(DENSE, thing_ids=(4, 5))
    assert (
        post(
            np.zeros((2, 2, 2), np.float32), Events.empty(4, 4), stride=2, span_us=(0, 1)
        ).detections
        == ()
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("unlabelled_radius_px", -2), ("min_score", 1.5), ("min_area_px", 0), ("closing_px", -1)],
)
def test_config_names_the_wrong_value_and_the_range(name, value):
    with pytest.raises(ConfigError, match=rf"{name} must lie in .*got {value}"):
        PostprocessConfig(**{name: value})


def test_the_tracker_takes_its_parameters():
    names = {"min_score": "min_score", "track_smooth_boxes": "smooth"}
    for field in fields(PostprocessConfig):
        name = names.get(field.name, field.name.removeprefix("track_"))
        if field.name not in names and not field.name.startswith("track_"):
            continue
        other = not field.default if isinstance(field.default, bool) else field.default / 2
        changed = PostprocessConfig(**{field.name: other}).tracker()
        assert changed == replace(tracking.TrackerConfig(), **{name: other})


def test_warming_up_runs_the_assignment_of_the_tracker_too(monkeypatch):
    gains = []
    monkeypatch.setattr(tracking, "best_pairs", lambda given: gains.append(given) or [])
    logits = np.zeros((2, 10, 10), np.float32)
    post = Postprocessor(PostprocessConfig(), thing_ids=())
    post.warm_up(logits, events_at(np.array([[5, 5]]), width=38, height=37), stride=4)
    assert any((given > 0).any() for given in gains)


# At the resolution of the network's input


def slow_answer(logits, events, config, *, cell, factor):
    """Class and score of each sensor pixel, and its things, by the definition."""
    support = slow_support(events, config)
    height, width = support.shape
    rows, columns = -(-height // factor), -(-width // factor)
    big, probability = slow_segment(logits.astype(np.float64), rows, columns, cell)
    repeat = np.ix_(np.arange(height) // factor, np.arange(width) // factor)
    mask = np.where(support, big.argmax(0)[repeat], 255)
    confidence = np.where(support, probability.max(0)[repeat], 0)
    seen = np.array(
        [[support[v * factor : (v + 1) * factor, u * factor : (u + 1) * factor].any()
          for u in range(columns)] for v in range(rows)]
    )  # fmt: skip
    small = np.where(seen, big.argmax(0), 255).astype(np.uint8)
    count, labels = cv2.connectedComponents(THINGS[small], connectivity=8)
    return mask, confidence, [labels[repeat] * support == i for i in range(1, count)]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    factor=st.integers(1, 5),
    cut=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    count=st.integers(0, 400),
)
def test_answers_of_a_reduced_input_equal_the_slow_reference(seed, factor, cut, count):
    rng = np.random.default_rng(seed)
    cell = 4
    logits = (rng.normal(size=(6, 4, 5)) * 3).astype(np.float32)
    height, width = 4 * cell * factor - cut[0], 5 * cell * factor - cut[1]
    points = np.column_stack([rng.integers(0, width, count), rng.integers(0, height, count)])
    events = events_at(points, width=width, height=height)
    config = PostprocessConfig(
        unlabelled_radius_px=1, closing_px=1, min_area_px=1, min_score=0, keep_score=0, join_px=0
    )
    post = Postprocessor(config, (4, 5))
    found = post(logits, events, stride=cell * factor, span_us=(0, 1), factor=factor)
    mask, confidence, things = slow_answer(logits, events, config, cell=cell, factor=factor)
    np.testing.assert_allclose(found.confidence, confidence, atol=1e-5)
    np.testing.assert_array_equal(found.mask, mask)  # random logits are never equal
    expected = []
    for thing in things:
        y, x = np.nonzero(thing)
        votes = [confidence[thing & (mask == k)].sum() for k in (4, 5)]
        box = (x.min(), y.min(), x.max() + 1, y.max() + 1)
        expected.append((-len(y), box, 4 + int(np.argmax(votes)), max(votes) / len(y)))
    assert len(found.detections) == len(expected)
    for thing, (area, box, class_id, score) in zip(found.detections, sorted(expected), strict=True):
        assert (-thing.area_px, thing.box_xyxy, thing.class_id) == (area, box, class_id)
        assert thing.score == pytest.approx(score, abs=1e-4)
        assert (found.instances == thing.instance_id).sum() == thing.area_px


def test_instances_of_a_reduced_input_have_tight_boxes_and_areas_in_sensor_pixels():
    """The same scene on a sensor with thrice as many pixels: boxes and areas grow with it."""
    labels, instances = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint16)
    labels[10:26, 12:36], instances[10:26, 12:36] = 5, 1
    logits, head = perfect_heads(labels, instances, stride=4, num_classes=6)
    found = []
    for factor in (1, 3):
        y, x = np.mgrid[: 40 * factor, : 60 * factor].reshape(2, -1)
        events = events_at(np.column_stack([x, y])[::2], width=60 * factor, height=40 * factor)
        config = PostprocessConfig(min_area_px=1, vote_reach_px=24 * factor)
        post = Postprocessor(config, (4, 5))
        made = post(logits, events, stride=4 * factor, span_us=(0, 1), head=head, factor=factor)
        (thing,) = made.detections
        assert (made.instances > 0).sum() == thing.area_px
        found.append(thing)
    one, three = found
    assert three.area_px == 9 * one.area_px
    assert three.box_xyxy == tuple(3 * edge for edge in one.box_xyxy)
    assert three.score == pytest.approx(one.score, abs=1e-6)
