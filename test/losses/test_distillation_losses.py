"""Distillation terms against slow sums, and their limit cases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.foundation.class_maps import (
    CITYSCAPES_CLASSES,
    ELEVEN_CLASSES,
    ELEVEN_TO_SIX,
    NINETEEN_TO_ELEVEN,
    NINETEEN_TO_SIX,
    class_map_between,
    known_class_map,
)
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import CAMVID_CLASSES, SIX_CLASSES
from evdistill_core.losses.distillation import (
    distribution_matching,
    mutual_distillation,
    posterior_kd,
)
from evdistill_core.losses.divergence import (
    confidence_weight,
    kl_divergence,
    log_posterior,
    mean_log_posterior,
    merge_log_posterior,
    weighted_mean,
)


def noise(*shape, seed=0, scale=2.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def softmax(values):
    top = max(values)
    e = [math.exp(v - top) for v in values]
    return [v / sum(e) for v in e]


def slow_kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def pixels(logits):
    b, _, h, w = logits.shape
    for n, y, x in np.ndindex(b, h, w):
        yield (n, y, x), logits[n, :, y, x].double().tolist()


def test_pixel_kd_equals_the_slow_sum():
    student, teacher = noise(2, 4, 3, 5), noise(2, 4, 3, 5, seed=1)
    weight = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(2))
    weight[0, 0] = 0
    tau = 2.5
    total = 0.0
    for (at, s), (_, t) in zip(pixels(student), pixels(teacher), strict=True):
        p, q = softmax([v / tau for v in t]), softmax([v / tau for v in s])
        total += float(weight[at]) * slow_kl(p, q)
    expected = tau**2 * total / float(weight.sum())
    got = posterior_kd(student, teacher, weight, temperature=tau)
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_pixel_kd_is_the_same_for_one_batch_and_its_double():
    # Averaged, not summed: the weight of the term does not depend on the batch size.
    student, teacher = noise(3, 4, 3, 5), noise(3, 4, 3, 5, seed=1)
    one = posterior_kd(student, teacher)
    two = posterior_kd(student.repeat(2, 1, 1, 1), teacher.repeat(2, 1, 1, 1))
    assert float(one) == pytest.approx(float(two), rel=1e-6)


def test_recognition_kd_is_pixel_kd_of_one_pixel():
    student, teacher = noise(5, 10), noise(5, 10, seed=1)
    assert float(posterior_kd(student, teacher)) == pytest.approx(
        float(posterior_kd(student[..., None, None], teacher[..., None, None])), rel=1e-6
    )


def test_the_gradient_of_kd_is_student_minus_teacher():
    student, teacher = noise(1, 3, 2, 2).requires_grad_(), noise(1, 3, 2, 2, seed=1)
    posterior_kd(student, teacher).backward()
    expected = (student.detach().softmax(1) - teacher.softmax(1)) / 4
    torch.testing.assert_close(student.grad, expected, rtol=1e-5, atol=1e-7)


def test_distribution_matching_equals_the_slow_sum():
    student, teacher = noise(2, 3, 4, 6), noise(2, 3, 4, 6, seed=1)
    weight = torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(2))
    weight[1, :2, :3] = 0  # a region without weight is left out
    terms = []
    for n in range(2):
        for top, left in ((0, 0), (0, 3), (2, 0), (2, 3)):
            mass, p, q = 0.0, np.zeros(3), np.zeros(3)
            for y in range(top, top + 2):
                for x in range(left, left + 3):
                    w = float(weight[n, y, x])
                    mass += w
                    p += w * np.array(softmax(teacher[n, :, y, x].double().tolist()))
                    q += w * np.array(softmax(student[n, :, y, x].double().tolist()))
            if mass > 0:
                terms.append(slow_kl(p / mass, q / mass))
    assert len(terms) == 7
    got = distribution_matching(student, teacher, weight, cells=2)
    assert float(got) == pytest.approx(np.mean(terms), rel=1e-5)


def test_distribution_matching_does_not_see_where_a_class_is():
    teacher = noise(1, 4, 4, 4)
    moved = teacher.flip(3)
    assert float(distribution_matching(moved, teacher)) == pytest.approx(0.0, abs=1e-6)
    assert float(distribution_matching(moved, teacher, cells=2)) > 1e-3
    assert float(posterior_kd(moved, teacher)) > 1e-2


def test_mutual_distillation_moves_each_side_by_its_own_term():
    event, frame = noise(1, 3, 2, 2).requires_grad_(), noise(1, 3, 2, 2, seed=1).requires_grad_()
    mutual_distillation(event, frame).backward()
    alone = event.detach().clone().requires_grad_()
    kl_divergence(log_posterior(alone), log_posterior(frame.detach())).mean().backward()
    torch.testing.assert_close(event.grad, alone.grad)
    assert frame.grad.abs().sum() > 0


PIXEL_TERMS = {
    "kd": posterior_kd,
    "kd_soft": lambda s, t, w: posterior_kd(s, t, w, temperature=4.0),
    "matching": distribution_matching,
    "matching_cells": lambda s, t, w: distribution_matching(s, t, w, cells=2),
    "mutual": mutual_distillation,
}


@pytest.mark.parametrize("name", sorted(PIXEL_TERMS))
def test_equal_posteriors_cost_nothing(name):
    logits = noise(2, 5, 4, 4)
    shifted = logits + noise(2, 1, 4, 4, seed=3)  # softmax does not see a shift
    value = PIXEL_TERMS[name](logits, shifted, torch.ones(2, 4, 4))
    assert float(value) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("name", sorted(PIXEL_TERMS))
def test_no_valid_pixel_is_zero_with_a_gradient(name):
    student = noise(2, 5, 4, 4).requires_grad_()
    value = PIXEL_TERMS[name](student, noise(2, 5, 4, 4, seed=1), torch.zeros(2, 4, 4))
    value.backward()
    assert float(value.detach()) == 0.0
    assert student.grad is not None
    assert float(student.grad.abs().sum()) == 0.0


@pytest.mark.parametrize("name", sorted(PIXEL_TERMS))
def test_ignored_pixels_neither_count_nor_move(name):
    student, teacher = noise(1, 5, 4, 4).requires_grad_(), noise(1, 5, 4, 4, seed=1)
    weight = torch.ones(1, 4, 4)
    weight[:, :, 2:] = 0
    other = teacher.clone()
    other[..., 2:] = 7 * noise(1, 5, 4, 2, seed=9)
    value = PIXEL_TERMS[name](student, teacher, weight)
    value.backward()
    assert float(student.grad[..., 2:].abs().sum()) == 0.0
    assert float(student.grad[..., :2].abs().sum()) > 0.0
    again = PIXEL_TERMS[name](student.detach(), other, weight)
    assert float(again) == pytest.approx(float(value.detach()), rel=1e-6)


@pytest.mark.parametrize("name", ["kd", "kd_soft", "matching", "matching_cells"])
def test_the_teacher_never_moves(name):
    student = noise(1, 5, 4, 4).requires_grad_()
    teacher = noise(1, 5, 4, 4, seed=1).requires_grad_()
    PIXEL_TERMS[name](student, teacher, torch.ones(1, 4, 4)).backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("name", sorted(PIXEL_TERMS))
def test_a_sure_teacher_of_one_class_gives_finite_losses(name):
    teacher = torch.zeros(1, 5, 4, 4)
    teacher[:, 2] = 200.0
    student = -teacher.clone().requires_grad_()
    student.retain_grad()
    value = PIXEL_TERMS[name](student, teacher, torch.ones(1, 4, 4))
    value.backward()
    assert math.isfinite(value.item())
    assert torch.isfinite(student.grad).all()
    assert value.item() > 1.0


@pytest.mark.parametrize("name", sorted(PIXEL_TERMS))
def test_half_precision_logits_give_float32_losses(name):
    s, t = noise(1, 5, 4, 4), noise(1, 5, 4, 4, seed=1)
    low = PIXEL_TERMS[name](s.bfloat16(), t.bfloat16(), torch.ones(1, 4, 4))
    assert low.dtype == torch.float32
    assert float(low) == pytest.approx(float(PIXEL_TERMS[name](s, t, torch.ones(1, 4, 4))), rel=0.1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.5, 8))
def test_merging_classes_never_raises_the_divergence(seed, scale):
    # The data-processing inequality: coarser classes can only hide a disagreement.
    fine_s, fine_t = noise(2, 19, 2, 2, seed=seed, scale=scale), noise(2, 19, 2, 2, seed=seed + 1)
    merged = [
        merge_log_posterior(log_posterior(x), NINETEEN_TO_SIX, num_classes=6)
        for x in (fine_t, fine_s)
    ]
    fine = kl_divergence(log_posterior(fine_t), log_posterior(fine_s))
    coarse = kl_divergence(*merged)
    assert (coarse <= fine + 1e-4).all()
    assert (coarse >= -1e-5).all()


def test_merging_sums_probabilities():
    p = torch.tensor([[0.5, 0.2, 0.3]])
    merged = merge_log_posterior(p.log(), (1, 0, 1), num_classes=2).exp()
    torch.testing.assert_close(merged, torch.tensor([[0.2, 0.8]]))
    without = merge_log_posterior(p.log(), (0, 255, 1), num_classes=2).exp()
    torch.testing.assert_close(without, torch.tensor([[0.625, 0.375]]))


def test_a_doubtful_teacher_keeps_its_doubt_when_classes_merge():
    # Arg-max first would call this "vehicle" for sure: the reason to sum and then compare.
    p = torch.full((1, 19), 0.01)
    p[0, 13], p[0, 0], p[0, 1] = 0.30, 0.28, 0.25
    merged = merge_log_posterior(p.log(), NINETEEN_TO_SIX, num_classes=6).exp()
    assert int(p.argmax()) == 13
    assert int(merged.argmax()) == 0


def test_class_maps_agree_with_each_other():
    assert tuple(ELEVEN_TO_SIX[i] for i in NINETEEN_TO_ELEVEN) == NINETEEN_TO_SIX
    assert (len(CITYSCAPES_CLASSES), len(ELEVEN_CLASSES)) == (19, 11)
    assert class_map_between(19, 11) == NINETEEN_TO_ELEVEN
    assert class_map_between(6, 6) is None
    # By names: CamVid has eleven classes too, in another order than DSEC.
    for table in (CITYSCAPES_CLASSES, ELEVEN_CLASSES, CAMVID_CLASSES):
        to_six = known_class_map(table.names, SIX_CLASSES)
        assert set(to_six) == set(table.names)
        assert to_six["road"] == "flat"
    assert known_class_map(CITYSCAPES_CLASSES.names, ELEVEN_CLASSES)["rider"] == "person"
    assert known_class_map(("other", *SIX_CLASSES.names), SIX_CLASSES)["flat"] == "flat"
    assert known_class_map(SIX_CLASSES.names, CITYSCAPES_CLASSES) == {}
    groups = {
        c: SIX_CLASSES.names[NINETEEN_TO_SIX[i]] for i, c in enumerate(CITYSCAPES_CLASSES.names)
    }
    assert groups["traffic light"] == "object"
    assert groups["sky"] == "construction+sky"
    assert groups["rider"] == "human"
    assert groups["bicycle"] == "vehicle"


def test_kd_between_class_sets_equals_merging_first():
    student, teacher = noise(1, 6, 3, 3), noise(1, 19, 3, 3, seed=1)
    merged = merge_log_posterior(log_posterior(teacher), NINETEEN_TO_SIX, num_classes=6)
    expected = kl_divergence(merged, log_posterior(student)).mean()
    got = posterior_kd(student, teacher, class_map=NINETEEN_TO_SIX)
    assert float(got) == pytest.approx(float(expected), rel=1e-6)
    assert float(distribution_matching(student, teacher, class_map=NINETEEN_TO_SIX)) > 0


@pytest.mark.parametrize(
    ("class_map", "message"),
    [((0, 1), "needs 3 ids"), ((0, 1, 2), "must lie in 0..1"), ((0, 0, 255), "maps to class 1")],
)
def test_bad_class_maps_are_refused(class_map, message):
    with pytest.raises(ConfigError, match=message):
        merge_log_posterior(torch.zeros(1, 3), class_map, num_classes=2)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_temperatures_are_refused(temperature):
    with pytest.raises(ConfigError, match="temperature"):
        posterior_kd(torch.zeros(1, 3), torch.zeros(1, 3), temperature=temperature)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ConfigError, match="one shape"):
        posterior_kd(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))
    with pytest.raises(ConfigError, match="weights"):
        posterior_kd(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), torch.ones(1, 4, 5))
    with pytest.raises(ConfigError, match="one shape"):
        distribution_matching(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, 4))
    with pytest.raises(ConfigError, match="cells"):
        distribution_matching(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), cells=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 6))
def test_divergence_is_never_negative_and_the_mean_lies_between(seed, classes, size):
    s, t = noise(2, classes, size, size, seed=seed), noise(2, classes, size, size, seed=seed + 1)
    values = kl_divergence(log_posterior(t), log_posterior(s))
    assert (values >= -1e-6).all()
    weight = torch.rand(values.shape, generator=torch.Generator().manual_seed(seed)) + 0.01
    mean = float(weighted_mean(values, weight))
    assert float(values.min()) - 1e-6 <= mean <= float(values.max()) + 1e-6


def test_confidence_weight_of_sure_and_unsure_pixels():
    logits = torch.zeros(1, 4, 1, 2, requires_grad=True)
    with torch.no_grad():
        logits[0, 1, 0, 1] = 50.0
    for kind, unsure in (("max", 0.25), ("entropy", 0.0), ("none", 1.0)):
        weight = confidence_weight(logits, kind=kind)
        assert not weight.requires_grad
        assert weight[0, 0].tolist() == pytest.approx([unsure, 1.0], abs=1e-5)
    assert confidence_weight(logits, floor=0.968)[0, 0].tolist() == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_mean_of_two_posteriors_is_that_of_probabilities(share):
    first, second = (log_posterior(noise(2, 3, 4, seed=s)).requires_grad_() for s in (1, 2))
    mean = mean_log_posterior(first, second, torch.full((2, 4), share))
    wanted = (1 - share) * first.exp() + share * second.exp()
    torch.testing.assert_close(mean.exp(), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mean.exp().sum(1), torch.ones(2, 4))
    mean.sum().backward()
    assert torch.isfinite(first.grad).all()
    assert torch.isfinite(second.grad).all()


def test_the_mean_of_a_posterior_that_excludes_a_class_is_finite():
    first, second = torch.tensor([[0.0, -200.0]]), torch.tensor([[-200.0, 0.0]])
    mean = mean_log_posterior(first, second, torch.tensor([0.5]))
    torch.testing.assert_close(mean, torch.full((1, 2), math.log(0.5)))


def test_posteriors_of_two_shapes_have_no_mean():
    with pytest.raises(ConfigError, match="must have one shape"):
        mean_log_posterior(torch.zeros(1, 3), torch.zeros(1, 4), torch.zeros(1))
