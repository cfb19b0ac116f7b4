from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instance_heads import perfect_heads

from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.inference.grouping import (
    REACH_SHARE,
    GroupingConfig,
    find_centres,
    group,
)
from evdistill_core.inference.postprocess import segment
from evdistill_core.inference.prediction import InstanceOutput
from evdistill_core.simulation.factory import SceneFactory, SceneRanges
from evdistill_core.simulation.images import LabelledImage
from evdistill_core.simulation.sensor import SensorModel

HUMAN, VEHICLE = 4, 5
THINGS = np.isin(np.arange(256), (HUMAN, VEHICLE)).astype(np.uint8)


def grouped(labels, instances, *, stride=4, support=None, config=None, change=lambda head: head):
    """The mask and the instances of a perfect network."""
    logits, head = perfect_heads(labels, instances, stride=stride, num_classes=6)
    support = np.ones(labels.shape, np.uint8) if support is None else support
    mask, confidence, _ = segment(logits, support, stride=stride)
    found = group(
        mask, confidence, logits, change(head), THINGS, stride=stride, cell_px=stride,
        config=config or GroupingConfig(),
    )  # fmt: skip
    return mask, found


def boxes_scene(*boxes, size=(80, 120), class_id=VEHICLE):
    labels, instances = np.zeros(size, np.uint8), np.zeros(size, np.uint16)
    for number, (left, top, right, bottom) in enumerate(boxes, 1):
        labels[top:bottom, left:right] = class_id
        instances[top:bottom, left:right] = number
    return labels, instances


# Against slow references


def slow_centres(heat, min_score, radius):
    found = []
    height, width = heat.shape
    for y in range(height):
        for x in range(width):
            near = [
                (heat[v, u], (v, u))
                for v in range(max(0, y - radius), min(height, y + radius + 1))
                for u in range(max(0, x - radius), min(width, x + radius + 1))
            ]
            top = max(value for value, _ in near)
            first = min(place for value, place in near if value == top)
            if heat[y, x] >= min_score and first == (y, x):
                found.append((-heat[y, x], y, x))
    return sorted(found)


def reaches_higher(heat, place, valley):
    """Whether a higher cell is connected to a place by cells of a share of its heat."""
    reached, top = {place}, heat[place]
    while True:
        near = {
            (y + dy, x + dx) for y, x in reached for dy in (-1, 0, 1) for dx in (-1, 0, 1)
            if 0 <= y + dy < heat.shape[0] and 0 <= x + dx < heat.shape[1]
        }  # fmt: skip
        more = {cell for cell in near if heat[cell] >= valley * top}
        if any(heat[cell] > top for cell in more):
            return True
        if more <= reached:
            return False
        reached |= more


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    valley=st.floats(0, 0.999, allow_subnormal=False),
)
def test_a_maximum_without_a_valley_is_no_centre(seed, size, valley):
    logits = np.random.default_rng(seed).normal(0, 1.5, size).astype(np.float32)
    heat = 1 / (1 + np.exp(-logits.astype(float)))
    _, found = find_centres(logits, min_score=0.3, radius=1, valley=valley, limit=99)
    own = [e for e in slow_centres(heat, 0.3, 1) if not reaches_higher(heat, (e[1], e[2]), valley)]
    np.testing.assert_allclose(found, [-e[0] for e in own])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    levels=st.sampled_from([2, 4, 1000]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    radius=st.integers(1, 3),
    limit=st.integers(1, 6),
)
def test_centres_are_the_first_highest_cells_of_their_square(seed, levels, size, radius, limit):
    rng = np.random.default_rng(seed)
    logits = (rng.integers(0, levels, size) / levels * 8 - 4).astype(np.float32)
    places, heat = find_centres(logits, min_score=0.3, radius=radius, valley=1, limit=limit)
    expected = slow_centres(1 / (1 + np.exp(-logits.astype(float))), 0.3, radius)[:limit]
    np.testing.assert_allclose(heat, [-e[0] for e in expected])
    cells = np.array([(x, y) for _, y, x in expected]).reshape(-1, 2)
    assert np.abs(places - cells).max(initial=0) <= 0.5


def test_the_top_of_a_bell_is_found_between_cells():
    y, x = np.mgrid[:12, :15]
    heat = 0.9 * np.exp(-((x - 6.3) ** 2 + (y - 4.8) ** 2) / 4)
    places, scores = find_centres(
        np.log(heat / (1 - heat)).astype(np.float32), min_score=0.1, radius=2, valley=1, limit=5
    )
    np.testing.assert_allclose(places, [(6.3, 4.8)], atol=0.01)
    assert 0.8 < scores[0] <= 0.9


def slow_group(mask, logits, head, cells, *, stride, cell_px, reach_px):
    """Each pixel asks the four cells around it, by the definition."""
    _, rows, columns = logits.shape
    share = np.exp(logits.astype(float))
    share = share[THINGS[: len(logits)] > 0].sum(0) / share.sum(0)
    ids = np.zeros(mask.shape, int)
    for y, x in zip(*np.nonzero(THINGS[mask]), strict=True):
        v = min(max((y + 0.5) / stride - 0.5, 0), rows - 1)
        u = min(max((x + 0.5) / stride - 0.5, 0), columns - 1)
        weight = {}
        for r in {int(v), min(int(v) + 1, rows - 1)}:
            for c in {int(u), min(int(u) + 1, columns - 1)}:
                way = head.offset_px[:, r, c].astype(float) / cell_px
                away = np.hypot(*(cells - (way + np.array([c, r]))).T)
                near = int(away.argmin())
                limit = max(reach_px / stride, REACH_SHARE * np.hypot(*way))
                number = near + 1 if away[near] <= limit else 0
                part = max(0, 1 - abs(v - r)) * max(0, 1 - abs(u - c)) * share[r, c]
                weight[number] = weight.get(number, 0) + part
        ids[y, x] = max(weight, key=weight.get)
    return ids


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    stride=st.sampled_from([2, 4, 8]),
    cell_px=st.sampled_from([1.0, 4.0]),
    reach=st.floats(0, 40, allow_subnormal=False),
)
def test_pixels_go_to_the_instance_that_the_cells_around_name(seed, stride, cell_px, reach):
    rng = np.random.default_rng(seed)
    rows, columns = 5, 7
    logits = rng.normal(0, 2, (6, rows, columns)).astype(np.float32)
    head = InstanceOutput(
        rng.normal(0, 2, (rows, columns)).astype(np.float32),
        rng.normal(0, 2 * cell_px, (2, rows, columns)).astype(np.float32),
    )
    support = (rng.random((rows * stride - 1, columns * stride - 1)) < 0.7).astype(np.uint8)
    mask, confidence, _ = segment(logits, support, stride=stride)
    config = GroupingConfig(min_score=0.4, distance_px=0, valley=1, reach_px=reach)
    found = group(
        mask, confidence, logits, head, THINGS, stride=stride, cell_px=cell_px, config=config
    )
    cells, scores = find_centres(head.centre, min_score=0.4, radius=1, valley=1, limit=200)
    expected = np.zeros(mask.shape, int)
    if len(cells):
        expected = slow_group(
            mask, logits, head, cells, stride=stride, cell_px=cell_px, reach_px=reach
        )
    assert (found.ids == expected).mean() > 0.995  # rounding may decide between equal weights
    np.testing.assert_allclose(found.centres_px, (cells + 0.5) * stride)
    np.testing.assert_array_equal(found.centre_scores, scores)
    for i in range(len(scores)):
        y, x = np.nonzero(found.ids == i + 1)
        assert found.area_px[i] == len(y)
        votes = np.bincount(mask[y, x], confidence[y, x], minlength=256)
        np.testing.assert_allclose(found.votes[i], votes, rtol=1e-5)
        if len(y):
            box = (x.min(), y.min(), x.max() + 1, y.max() + 1)
            assert tuple(found.boxes_xyxy[i]) == box


# What instances are for


def test_things_that_touch_are_apart():
    labels, instances = boxes_scene((20, 30, 52, 46), (52, 28, 84, 46))
    _, found = grouped(labels, instances)
    assert len(found.centre_scores) == 2
    numbers = [found.ids[38, 25], found.ids[38, 80]]
    assert sorted(numbers) == [1, 2]
    # The border lies where it is, to half a cell.
    assert (found.ids[34:44, 20:50] == numbers[0]).all()
    assert (found.ids[34:44, 54:84] == numbers[1]).all()


def test_pieces_of_one_thing_belong_together_without_pixels_in_between():
    labels, instances = boxes_scene((30, 8, 46, 72), class_id=HUMAN)
    support = np.zeros(labels.shape, np.uint8)
    support[8:24], support[52:72] = 1, 1  # head and legs, 28 rows apart
    _, found = grouped(labels, instances, support=support)
    assert len(found.centre_scores) == 1
    assert set(np.unique(found.ids)) == {0, 1}
    left, top, right, bottom = found.boxes_xyxy[0]
    assert abs(left - 30) <= 2
    assert abs(right - 46) <= 2
    assert (top, bottom) == (8, 72) or (top <= 10 and bottom >= 70)


def test_a_vote_that_leads_nowhere_belongs_to_nothing():
    labels, instances = boxes_scene((10, 10, 30, 30), (80, 50, 100, 70))

    def forget_the_second(head):
        centre = head.centre.copy()
        centre[8:, 15:] = -10
        return head._replace(centre=centre)

    _, found = grouped(labels, instances, change=forget_the_second)
    assert len(found.centre_scores) == 1
    assert found.ids[20, 20] == 1
    assert not found.ids[50:70, 80:100].any()


def test_offsets_are_in_pixels_of_the_input():
    """A sensor that is shrunk by two: the same cells, twice the pixels."""
    labels, instances = boxes_scene((20, 30, 52, 46), (52, 28, 84, 46))
    logits, head = perfect_heads(labels, instances, stride=4, num_classes=6)
    ids = []
    for factor in (1, 2):
        support = np.ones((80 * factor, 120 * factor), np.uint8)
        mask, confidence, _ = segment(logits, support, stride=4 * factor)
        config = GroupingConfig(distance_px=6 * factor, reach_px=16 * factor)
        found = group(
            mask, confidence, logits, head, THINGS, stride=4 * factor, cell_px=4, config=config
        )
        ids.append(found.ids[factor // 2 :: factor, factor // 2 :: factor])
    assert (ids[0] == ids[1]).mean() > 0.995


def example_images(count=4):
    images = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        picture = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        labels = np.zeros(picture.shape[:2], np.uint8)
        labels[50:90, 40 : 90 + 10 * seed] = VEHICLE
        labels[50:110, 200 : 215 + seed] = HUMAN
        images.append(LabelledImage.from_arrays(picture, labels))
    return images


def test_simulated_things_are_given_back():
    """Heads drawn from the simulator's numbers give the numbers back, overlaps included."""
    ranges = SceneRanges(overlap=0.3, crossing=0.3, partly_out=0.2, group=0.5)
    factory = SceneFactory(example_images(), SIX_CLASSES, height=180, width=240, ranges=ranges)
    right = pixels = kept = things = 0
    for seed in range(12):
        scene = factory.make(SensorModel(), np.random.default_rng([5, seed]))
        labels, instances = scene.labels(0.0), scene.instances(0.0)
        mask, found = grouped(labels, instances)
        own = (THINGS[mask] > 0) & (instances > 0)
        for number in np.unique(instances[own]):
            true = own & (instances == number)
            if true.sum() < 60:
                continue
            ids, counts = np.unique(found.ids[true], return_counts=True)
            best = ids[counts.argmax()]
            given = own & (found.ids == best)
            things += 1
            kept += best > 0 and (true & given).sum() / (true | given).sum() >= 0.5
            right += (true & given).sum() if best else 0
            pixels += true.sum()
    assert things > 20
    assert kept / things >= 0.95
    assert right / pixels >= 0.97


# Hostile input


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["centre", "offset_px"])
def test_maps_that_are_not_finite_are_refused(bad, part):
    labels, instances = boxes_scene((20, 30, 52, 46))

    def spoil(head):
        array = getattr(head, part).copy()
        array[..., 2, 3] = bad
        return head._replace(**{part: array})

    with pytest.raises(StudentError, match="not finite"):
        grouped(labels, instances, change=spoil)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda head: head._replace(centre=head.centre[1:]),
        lambda head: head._replace(offset_px=head.offset_px[:1]),
        lambda head: head._replace(centre=head.centre[None]),
    ],
)
def test_maps_of_another_size_are_refused(spoil):
    labels, instances = boxes_scene((20, 30, 52, 46))
    with pytest.raises(StudentError, match="instance head gives centre"):
        grouped(labels, instances, change=spoil)


def test_no_centres_and_no_things_give_no_instances():
    labels, instances = boxes_scene((20, 30, 52, 46))
    _, found = grouped(
        labels, instances, change=lambda head: head._replace(centre=np.full_like(head.centre, -9))
    )
    assert not found.ids.any()
    assert len(found.area_px) == 0
    _, found = grouped(np.zeros_like(labels), np.zeros_like(instances))
    assert not found.ids.any()


def test_one_class_everywhere_and_one_centre_everywhere():
    """A network that says the same of every cell: one centre, and everything near it."""
    size = (80, 120)
    labels, instances = np.full(size, VEHICLE, np.uint8), np.ones(size, np.uint16)
    _, found = grouped(
        labels,
        instances,
        change=lambda head: InstanceOutput(
            np.full_like(head.centre, 50.0), np.zeros_like(head.offset_px)
        ),
    )
    assert len(found.area_px) == 1  # a plateau has one maximum
    assert found.area_px[0] == (found.ids == 1).sum()
    # As far as a vote may miss, and no further.
    y, x = np.nonzero(found.ids)
    assert np.hypot(x - 2, y - 2).max() <= GroupingConfig().reach_px + 8


def test_arrays_are_not_written_to():
    labels, instances = boxes_scene((20, 30, 52, 46))
    logits, head = perfect_heads(labels, instances, stride=4, num_classes=6)
    mask, confidence, _ = segment(logits, np.ones_like(labels), stride=4)
    for array in (mask, confidence, logits, head.centre, head.offset_px, THINGS):
        array.flags.writeable = False
    found = group(
        mask, confidence, logits, head, THINGS, stride=4, cell_px=4, config=GroupingConfig()
    )
    assert found.ids.any()


@pytest.mark.parametrize(
    ("name", "value"),
    [("min_score", 1.5), ("min_score", float("nan")), ("reach_px", -1), ("limit", 0)],
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} must lie in"):
        replace(GroupingConfig(), **{name: value})
