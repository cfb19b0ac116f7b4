"""Losses against hand-written sums, and their limit cases."""

import math

import numpy as np
import pytest
import torch

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.losses.segmentation import (
    INSTANCE_LOSSES,
    LOSSES,
    SegmentationBatch,
    boundary,
    cross_entropy,
    dice,
    lovasz,
    weighted_sum,
)

# The losses of an instance head do not look at logits: see test_instance_losses.py.
LOGIT_LOSSES = sorted(set(LOSSES) - set(INSTANCE_LOSSES))


def batch_of(logits, target, weight=None, class_weight=None):
    logits = torch.as_tensor(logits, dtype=torch.float32)
    target = torch.as_tensor(target, dtype=torch.int64)
    weight = torch.ones(target.shape) if weight is None else torch.as_tensor(weight)
    k = logits.shape[1]
    class_weight = torch.ones(k) if class_weight is None else torch.as_tensor(class_weight)
    return SegmentationBatch(logits, target, weight, class_weight)


def random_batch(seed=0, k=4, size=(2, 6, 7)):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(size[0], k, *size[1:])).astype(np.float32)
    target = rng.integers(0, k, size)
    target[rng.random(size) < 0.2] = 255
    weight = rng.random(size).astype(np.float32)
    weight[rng.random(size) < 0.2] = 0
    return batch_of(logits, target, weight, rng.random(k).astype(np.float32) + 0.1)


def perfect_batch():
    target = np.random.default_rng(1).integers(0, 3, (1, 8, 8))
    logits = (np.arange(3)[None, :, None, None] == target[:, None]) * 60.0
    return batch_of(logits, target)


def test_cross_entropy_equals_the_slow_sum():
    b = random_batch()
    total, weights = 0.0, 0.0
    for n, y, x in np.ndindex(*b.target_BHW.shape):
        k = int(b.target_BHW[n, y, x])
        if k == 255:
            continue
        logits = b.logits_BKHW[n, :, y, x].double().tolist()
        log_p = logits[k] - math.log(sum(math.exp(v) for v in logits))
        w = float(b.weight_BHW[n, y, x]) * float(b.class_weight_K[k])
        total, weights = total - w * log_p, weights + w
    assert float(cross_entropy(b)) == pytest.approx(total / weights, rel=1e-5)


def test_dice_equals_the_slow_sum():
    b = random_batch(3)
    scores = []
    for k in range(4):
        overlap = p_sum = y_sum = 0.0
        for n, y, x in np.ndindex(*b.target_BHW.shape):
            if int(b.target_BHW[n, y, x]) == 255:
                continue
            w = float(b.weight_BHW[n, y, x])
            p = float(torch.softmax(b.logits_BKHW[n, :, y, x], 0)[k]) * w
            t = w if int(b.target_BHW[n, y, x]) == k else 0.0
            overlap, p_sum, y_sum = overlap + p * (t > 0) * w, p_sum + p, y_sum + t
        if y_sum > 0:
            scores.append((2 * overlap + 1) / (p_sum + y_sum + 1))
    assert float(dice(b)) == pytest.approx(1 - np.mean(scores), rel=1e-4)


def test_lovasz_of_hard_predictions_is_one_minus_miou():
    # On 0/1 errors the Lovasz extension is the Jaccard loss itself.
    rng = np.random.default_rng(5)
    target = rng.integers(0, 3, (2, 5, 5))
    guess = rng.integers(0, 3, (2, 5, 5))
    b = batch_of((np.arange(3)[None, :, None, None] == guess[:, None]) * 80.0, target)
    iou = [
        ((target == k) & (guess == k)).sum() / ((target == k) | (guess == k)).sum()
        for k in range(3)
    ]
    assert float(lovasz(b)) == pytest.approx(1 - np.mean(iou), abs=1e-5)


def test_boundary_counts_only_pixels_that_touch_another_class():
    target = np.zeros((1, 4, 6), np.int64)
    target[:, :, 3:] = 1
    target[:, 3, :] = 255
    logits = torch.randn(1, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    edge = np.zeros((1, 4, 6), np.float32)
    edge[:, :3, 2:4] = 1
    expected = cross_entropy(batch_of(logits, target, edge))
    assert float(boundary(batch_of(logits, target))) == pytest.approx(float(expected), rel=1e-6)


def test_boundary_does_not_see_ignored_neighbours():
    target = np.zeros((1, 5, 5), np.int64)
    target[:, 2, 2] = 255
    assert float(boundary(batch_of(torch.randn(1, 2, 5, 5), target))) == 0.0


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_perfect_predictions_cost_nothing(name):
    assert float(LOSSES[name](perfect_batch())) == pytest.approx(0.0, abs=1e-2)


@pytest.mark.parametrize("name", LOGIT_LOSSES)
@pytest.mark.parametrize("how", ["ignored", "weightless"])
def test_nothing_to_learn_is_zero_with_a_gradient(name, how):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    target = torch.full((1, 4, 4), 255 if how == "ignored" else 1)
    weight = torch.ones(1, 4, 4) if how == "ignored" else torch.zeros(1, 4, 4)
    value = LOSSES[name](SegmentationBatch(logits, target, weight, torch.ones(3)))
    value.backward()
    assert float(value.detach()) == 0.0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_gradient_descent_on_the_logits_lowers_the_loss(name):
    b = random_batch(7)
    logits = b.logits_BKHW.clone().requires_grad_()
    before = LOSSES[name](SegmentationBatch(logits, b.target_BHW, b.weight_BHW, b.class_weight_K))
    before.backward()
    stepped = logits.detach() - 0.5 * logits.grad
    after = LOSSES[name](SegmentationBatch(stepped, b.target_BHW, b.weight_BHW, b.class_weight_K))
    assert float(after.detach()) < float(before.detach())


def test_weighted_sum_adds_by_weight():
    b = random_batch()
    total, terms = weighted_sum(b, {"cross_entropy": 2.0, "dice": 0.5, "lovasz": 0.0})
    assert set(terms) == {"cross_entropy", "dice"}
    assert float(total) == pytest.approx(2 * float(cross_entropy(b)) + 0.5 * float(dice(b)))


@pytest.mark.parametrize(
    "weights", [{"crossentropy": 1.0}, {}, {"dice": -1.0}, {"dice": float("nan")}, {"dice": 0.0}]
)
def test_bad_weights_are_refused(weights):
    with pytest.raises(ConfigError):
        weighted_sum(random_batch(), weights)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ConfigError, match="target"):
        SegmentationBatch(
            torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 5), torch.zeros(1, 4, 4), torch.ones(2)
        )


def partial_batch(seed=0, k=5, size=(3, 6, 7)):
    """Labels with pixels of 254; the samples exclude two classes, three classes, and none."""
    b = random_batch(seed, k, size)
    target = b.target_BHW.clone()
    target[torch.as_tensor(np.random.default_rng(seed + 9).random(size) < 0.4)] = 254
    excluded = torch.zeros(size[0], k, dtype=torch.bool)
    excluded[0, [3, 4]] = True
    excluded[1, [0, 2, 3]] = True
    return SegmentationBatch(b.logits_BKHW, target, b.weight_BHW, b.class_weight_K, excluded)


def test_cross_entropy_of_none_of_these_equals_the_slow_sum():
    b = partial_batch()
    total = weights = 0.0
    for n, y, x in np.ndindex(*b.target_BHW.shape):
        label, excluded = int(b.target_BHW[n, y, x]), b.excluded_BK[n].tolist()
        p = torch.softmax(b.logits_BKHW[n, :, y, x].double(), 0).tolist()
        possible = [k for k in range(5) if (not excluded[k] if label == 254 else k == label)]
        if label == 255 or (label == 254 and not any(excluded)):
            continue
        class_weight = np.mean([float(b.class_weight_K[k]) for k in possible])
        w = float(b.weight_BHW[n, y, x]) * class_weight
        total -= w * math.log(sum(p[k] for k in possible))
        weights += w
    assert float(cross_entropy(b)) == pytest.approx(total / weights, rel=1e-5)


def test_dice_takes_none_of_these_as_certain_negatives():
    b = partial_batch(4)
    scores = []
    for k in range(5):
        overlap = p_sum = y_sum = 0.0
        for n, y, x in np.ndindex(*b.target_BHW.shape):
            label = int(b.target_BHW[n, y, x])
            if label == 255 or (label == 254 and not b.excluded_BK[n, k]):
                continue
            w = float(b.weight_BHW[n, y, x])
            p = float(torch.softmax(b.logits_BKHW[n, :, y, x], 0)[k]) * w
            t = w if label == k else 0.0
            overlap, p_sum, y_sum = overlap + p * t, p_sum + p, y_sum + t
        if y_sum > 0:
            scores.append((2 * overlap + 1) / (p_sum + y_sum + 1))
    assert float(dice(b)) == pytest.approx(1 - np.mean(scores), rel=1e-4)


@pytest.mark.parametrize("name", ["lovasz", "boundary"])
def test_losses_of_shape_ignore_none_of_these(name):
    b = partial_batch(2)
    ignored = torch.where(b.target_BHW == 254, 255, b.target_BHW)
    plain = SegmentationBatch(b.logits_BKHW, ignored, b.weight_BHW, b.class_weight_K)
    assert float(LOSSES[name](b)) == float(LOSSES[name](plain))


def test_none_of_these_pushes_the_excluded_down_and_does_not_choose_among_the_others():
    rng = np.random.default_rng(3)
    logits = torch.as_tensor(rng.normal(size=(1, 5, 1, 1)).astype(np.float32) * 3)
    excluded = torch.tensor([[False, True, False, True, False]])

    def loss(x_BKHW):
        return cross_entropy(
            SegmentationBatch(
                x_BKHW, torch.full((1, 1, 1), 254), torch.ones(1, 1, 1), torch.ones(5), excluded
            )
        )

    moved = logits.clone().requires_grad_()
    loss(moved).backward()
    slope = moved.grad[0, :, 0, 0]
    assert (slope[excluded[0]] > 0).all()
    assert (slope[~excluded[0]] < 0).all()
    assert float(slope.sum()) == pytest.approx(0, abs=1e-6)
    # Each possible class is moved by its own share of what is possible, so whatever the loss says
    # of one of them it says of all: their order among themselves costs nothing.
    p = logits.softmax(1)[0, :, 0, 0][~excluded[0]]
    torch.testing.assert_close(slope[~excluded[0]] / slope[~excluded[0]].sum(), p / p.sum())
    shuffled = logits[:, [4, 1, 0, 3, 2]]
    assert float(loss(shuffled)) == pytest.approx(float(loss(logits)), rel=1e-6)


@pytest.mark.parametrize("name", LOGIT_LOSSES)
@pytest.mark.parametrize("rows", ["no class", "all classes", "not given"])
def test_a_sample_that_excludes_nothing_ignores_these_pixels(name, rows):
    b = partial_batch(5)
    excluded = None if rows == "not given" else torch.full((3, 5), rows == "all classes")
    logits = b.logits_BKHW.clone().requires_grad_()
    b = SegmentationBatch(logits, b.target_BHW, b.weight_BHW, b.class_weight_K, excluded)
    ignored = torch.where(b.target_BHW == 254, 255, b.target_BHW)
    value = LOSSES[name](b)
    value.backward()
    assert torch.isfinite(logits.grad).all()
    plain = SegmentationBatch(logits.detach(), ignored, b.weight_BHW, b.class_weight_K)
    assert float(value.detach()) == pytest.approx(float(LOSSES[name](plain)), rel=1e-6)


def test_none_of_these_is_stable_where_the_network_is_sure():
    for sign in (80.0, -80.0):
        logits = torch.tensor([sign, 0.0, -sign]).view(1, 3, 1, 1).requires_grad_()
        excluded = torch.tensor([[True, False, False]])
        target, ones = torch.full((1, 1, 1), 254), torch.ones(1, 1, 1)
        value = cross_entropy(SegmentationBatch(logits, target, ones, torch.ones(3), excluded))
        value.backward()
        assert float(value.detach()) == pytest.approx(max(sign, 0.0), abs=1e-4)
        assert torch.isfinite(logits.grad).all()


def test_excluded_classes_of_another_shape_are_refused():
    b = random_batch()
    with pytest.raises(ConfigError, match=r"excluded classes must have shape \(2, 4\)"):
        SegmentationBatch(
            b.logits_BKHW, b.target_BHW, b.weight_BHW, b.class_weight_K, torch.ones(2, 3).bool()
        )
