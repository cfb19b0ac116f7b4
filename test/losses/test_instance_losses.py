"""Targets and losses of the instance head."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.losses.instances import (
    HEAT_PX,
    HEAT_SHARE,
    SMALLEST_PX,
    centre,
    instance_kd,
    instance_targets,
    nearest,
    offset,
)
from evdistill_core.losses.segmentation import SegmentationBatch, weighted_sum
from evdistill_core.models.network import InstanceMaps

THINGS = (4, 5)


def scene(seed=0, batch=2, height=32, width=48, things=4):
    """Rectangles over one another, with labels of the two thing classes."""
    rng = np.random.default_rng(seed)
    instances = np.zeros((batch, height, width), np.int64)
    label = np.full((batch, height, width), 1, np.int64)
    for b in range(batch):
        for _ in range(rng.integers(0, things + 1)):
            top, left = rng.integers(0, height), rng.integers(0, width)
            part = (
                b,
                slice(top, top + rng.integers(1, 20)),
                slice(left, left + rng.integers(1, 20)),
            )
            instances[part] = rng.integers(1, 300)
            label[part] = rng.choice(THINGS)
    return torch.from_numpy(instances), torch.from_numpy(label)


def targets_of(instances, label, weight=None, size=None, **options):
    weight = torch.ones(label.shape) if weight is None else weight
    size = size or (label.shape[1] // 4, label.shape[2] // 4)
    return instance_targets(instances, label, weight, size=size, thing_ids=THINGS, **options)


def slowly(instances, size):
    """Reference: heat, offsets and sizes, cell by cell and thing by thing."""
    batch, height, _ = instances.shape
    stride = height // size[0]
    heat, away = np.zeros((batch, *size)), np.zeros((batch, 2, *size))
    extent = np.full((batch, *size), SMALLEST_PX)
    for b in range(batch):
        for number in set(instances[b].ravel().tolist()) - {0, -1}:
            rows, columns = np.nonzero(instances[b].numpy() == number)
            x, y, area = columns.mean(), rows.mean(), len(rows)
            px = max(SMALLEST_PX, math.sqrt(area))
            sigma = min(max(HEAT_SHARE * px, HEAT_PX[0]), HEAT_PX[1])
            home = (math.floor((y + 0.5) / stride), math.floor((x + 0.5) / stride))
            for i in range(size[0]):
                for j in range(size[1]):
                    square = stride**2 * ((i - home[0]) ** 2 + (j - home[1]) ** 2)
                    heat[b, i, j] = max(heat[b, i, j], math.exp(-square / (2 * sigma**2)))
                    if instances[b, i * stride + stride // 2, j * stride + stride // 2] == number:
                        middle = ((j + 0.5) * stride - 0.5, (i + 0.5) * stride - 0.5)
                        away[b, :, i, j] = (x - middle[0], y - middle[1])
                        extent[b, i, j] = px
    return heat, away, extent


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), stride=st.sampled_from([1, 2, 4, 8]))
def test_targets_are_those_of_the_slow_reference(seed, stride):
    instances, label = scene(seed)
    size = (32 // stride, 48 // stride)
    found = targets_of(instances, label, size=size)
    heat, away, extent = slowly(instances, size)
    np.testing.assert_allclose(found.heat_Bhw.numpy(), heat, atol=1e-5)
    np.testing.assert_allclose(found.offset_px_B2hw.numpy(), away, atol=1e-3)
    np.testing.assert_allclose(found.size_px_Bhw.numpy(), extent, rtol=1e-5)


def test_cells_plus_offsets_meet_at_the_mean_of_the_visible_pixels():
    instances = torch.zeros(1, 32, 32, dtype=torch.int64)
    instances[0, 4:20, 4:28] = 9
    instances[0, 4:20, 20:28] = 0  # hidden by something
    label = torch.where(instances > 0, 5, 0)
    found = targets_of(instances, label)
    for i, j in ((1, 1), (2, 4), (4, 2)):
        dx, dy = found.offset_px_B2hw[0, :, i, j].tolist()
        assert (4 * j + 1.5 + dx, 4 * i + 1.5 + dy) == pytest.approx((11.5, 11.5))
    assert found.heat_Bhw[0].argmax() == 3 * 8 + 3
    assert found.heat_Bhw.max() == 1


def test_what_nobody_knows_does_not_count():
    instances, label = scene(3)
    instances[1], label[0, :8, :8] = -1, 255
    label[0, 24:, 40:], instances[0, 24:, 40:] = 254, 0
    found = targets_of(instances, label)
    assert found.heat_weight_Bhw[1].max() == found.offset_weight_Bhw[1].max() == 0
    assert found.heat_weight_Bhw[0, :2, :2].max() == 0
    assert found.heat_weight_Bhw[0, 6:, 10:].max() == 0  # 254 without excluded classes
    assert found.heat_weight_Bhw[0, 3:5, 3:9].min() == 1
    # "None of human and vehicle" says that there is no thing; "no human" does not.
    excluded = torch.tensor([[False] * 4 + [True, True]] * 2)
    assert targets_of(instances, label, excluded_BK=excluded).heat_weight_Bhw[0, 6:, 10:].min() == 1
    excluded[:, 5] = False
    assert targets_of(instances, label, excluded_BK=excluded).heat_weight_Bhw[0, 6:, 10:].max() == 0


def test_the_inside_of_a_thing_that_is_seen_counts_for_the_heat_and_not_for_offsets():
    instances = torch.zeros(1, 32, 64, dtype=torch.int64)
    instances[0, :, :24], instances[0, :, 40:] = 1, 2
    label = torch.where(instances > 0, 4, 0)
    weight = torch.full((1, 32, 64), 0.1)
    weight[0, :, 20:24] = 1  # the edge of the first sends events, the second sends none
    found = targets_of(instances, label, weight)
    assert found.heat_weight_Bhw[0, :, :6].min() == 1
    torch.testing.assert_close(found.heat_weight_Bhw[0, :, 6:], torch.full((8, 10), 0.1))
    assert found.offset_weight_Bhw[0, 2, 5] == 1
    assert found.offset_weight_Bhw[0, 2, 2] == pytest.approx(0.1)
    assert found.offset_weight_Bhw[0, 2, 8] == 0


def maps_of(targets, *, heat=None, shift_px=0.0):
    heat = targets.heat_Bhw if heat is None else heat
    logit = torch.logit(heat.clamp(1e-6, 1 - 1e-6))
    return InstanceMaps(
        logit[:, None].clone().requires_grad_(),
        (targets.offset_px_B2hw + shift_px).clone().requires_grad_(),
    )


def test_right_maps_cost_nothing_and_wrong_ones_more_the_worse_they_are():
    targets = targets_of(*scene(1))
    sure = (targets.heat_Bhw >= 1).float()
    right = maps_of(targets, heat=sure)
    assert centre(right, targets) < 1e-3
    assert offset(right, targets) < 1e-6
    values = [
        centre(maps_of(targets, heat=torch.full_like(sure, p)), targets) for p in (0.1, 0.5, 0.9)
    ]
    assert 0.1 < values[0] < values[1] < values[2]
    near, far = (offset(maps_of(targets, shift_px=px), targets).item() for px in (1.0, 2.0))
    assert far == pytest.approx(2 * near, rel=1e-4)


def test_the_offset_loss_is_by_hand_the_error_in_sizes_of_the_thing():
    instances = torch.zeros(1, 32, 64, dtype=torch.int64)
    instances[0, 8:24, 8:24], instances[0, :32, 32:64] = 1, 2  # 16 and 32 pixels wide
    label = torch.where(instances > 0, 5, 0)
    targets = targets_of(instances, label)
    # 16 cells with an error of (3 + 3) / 16, and 64 with one of (3 + 3) / 32.
    expected = (16 * 6 / 16 + 64 * 6 / 32) / 80
    assert offset(maps_of(targets, shift_px=3.0), targets).item() == pytest.approx(
        expected, rel=1e-4
    )


def test_a_batch_without_anything_known_costs_nothing_and_has_a_gradient():
    label = torch.full((2, 16, 16), 255)
    targets = targets_of(torch.full_like(label, -1), label)
    maps = maps_of(targets, heat=torch.full((2, 4, 4), 0.5))
    total = centre(maps, targets) + offset(maps, targets)
    total.backward()
    assert total == 0
    assert maps.centre.grad.abs().max() == maps.offset_px.grad.abs().max() == 0


def test_a_window_without_things_teaches_that_there_are_none():
    label = torch.zeros(1, 16, 16, dtype=torch.int64)
    targets = targets_of(label, label)
    maps = maps_of(targets, heat=torch.full((1, 4, 4), 0.5))
    centre(maps, targets).backward()
    assert (maps.centre.grad > 0).all()


def test_descent_on_both_losses_finds_the_targets():
    targets = targets_of(*scene(5))
    maps = maps_of(targets, heat=torch.full_like(targets.heat_Bhw, 0.01), shift_px=20.0)
    optimiser = torch.optim.Adam(maps, lr=0.5)
    for _ in range(150):
        optimiser.zero_grad()
        (centre(maps, targets) + offset(maps, targets)).backward()
        optimiser.step()
    is_centre = targets.heat_Bhw >= 1
    assert maps.centre.sigmoid()[:, 0][is_centre].min() > 0.9
    assert maps.centre.sigmoid()[:, 0][targets.heat_Bhw < 0.1].max() < 0.2
    error = (maps.offset_px - targets.offset_px_B2hw).abs().sum(1)
    assert error[targets.offset_weight_Bhw > 0].max() < 2


def test_losses_by_name():
    targets = targets_of(*scene(1))
    maps = maps_of(targets, shift_px=1.0)
    logits, (_, label) = torch.randn(2, 6, 32, 48), scene(1)
    batch = SegmentationBatch(
        logits, label, torch.ones(2, 32, 48), torch.ones(6), None, (maps, targets)
    )
    weights = {"cross_entropy": 1.0, "centre": 0.1, "offset": 2.0}
    total, terms = weighted_sum(batch, weights)
    assert set(terms) == set(weights)
    assert terms["offset"] == offset(maps, targets)
    by_hand = sum(weights[n] * v.item() for n, v in terms.items())
    assert total.item() == pytest.approx(by_hand, rel=1e-5)
    bare = SegmentationBatch(logits, label, torch.ones(2, 32, 48), torch.ones(6))
    with pytest.raises(ConfigError, match="the loss centre needs a network with an instance head"):
        weighted_sum(bare, weights)
    assert set(weighted_sum(bare, {"cross_entropy": 1.0, "centre": 0.0})[1]) == {"cross_entropy"}


def test_imitation_of_a_teacher_is_zero_where_both_agree():
    targets = targets_of(*scene(1))
    student, teacher = maps_of(targets), maps_of(targets)
    weight, thing = torch.ones(2, 8, 12), torch.ones(2, 8, 12)
    assert instance_kd(student, teacher, weight, thing).item() == pytest.approx(0, abs=1e-6)
    apart = maps_of(targets, shift_px=16.0)
    value = instance_kd(apart, teacher, weight, thing)
    assert value.item() == pytest.approx(1.0, rel=1e-4)  # (16 + 16) px over 32
    value.backward()
    assert teacher.centre.grad is None
    assert apart.offset_px.grad.abs().max() > 0
    # Offsets count where the teacher sees things, heat everywhere.
    assert instance_kd(apart, teacher, weight, 0 * thing).item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ConfigError, match="one size"):
        instance_kd(InstanceMaps(apart.centre[:, :, 1:], apart.offset_px), teacher, weight, thing)


def test_weights_of_cells_are_those_of_the_pixels_in_their_middle():
    x = torch.arange(64.0).view(1, 8, 8)
    torch.testing.assert_close(nearest(x, (2, 2)), x[:, 2::4, 2::4])


@pytest.mark.parametrize("wrong", ["label", "weight", "size"])
def test_what_does_not_fit_is_refused(wrong):
    instances, label = scene()
    weight = torch.ones(label.shape)
    label = label[:, 1:] if wrong == "label" else label
    weight = weight[:1] if wrong == "weight" else weight
    with pytest.raises(ConfigError, match="must have one shape" if wrong != "size" else "divide"):
        targets_of(instances, label, weight, size=(5, 12) if wrong == "size" else (8, 12))
