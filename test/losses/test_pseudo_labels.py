"""Pseudo-labels of two judges, mixtures of windows, and entropy."""

import math

import numpy as np
import pytest
import torch

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import IGNORE
from evdistill_core.losses.pseudo_labels import (
    averaged_pseudo_labels,
    changed_view,
    class_mix,
    density_mix,
    hybrid_pseudo_labels,
    weighted_entropy,
)


def test_agreement_or_certainty_keeps_a_pixel():
    teacher = torch.tensor([[0.6, 0.4], [0.6, 0.4], [0.99, 0.01]]).T[None]
    averaged = torch.tensor([[0.7, 0.3], [0.3, 0.7], [0.45, 0.55]]).T[None]
    label, weight = hybrid_pseudo_labels(teacher.log(), averaged.log(), threshold=0.7)
    assert label.tolist() == [[0, 255, 0]]
    assert weight[0].tolist() == pytest.approx([0.65, 0.0, 0.72])
    label, _ = hybrid_pseudo_labels(teacher.log(), averaged.log(), threshold=1.1)
    assert label.tolist() == [[0, 255, 255]]
    with pytest.raises(ConfigError, match="one shape"):
        hybrid_pseudo_labels(teacher.log(), averaged.log()[..., :1], threshold=0.5)


def test_class_mix_pastes_whole_classes_and_nothing_ignored():
    source_label = torch.tensor([[[0, 0, 1], [2, 255, 1]]])
    source, target = torch.ones(1, 2, 2, 3), torch.zeros(1, 2, 2, 3)
    labels, weights = torch.full((1, 2, 3), 3), torch.full((1, 2, 3), 0.25)
    mixed, label, weight = class_mix(
        (source, source_label), (target, labels, weights), torch.tensor([[0.1, 0.9, 0.4, 0.0]])
    )
    expected = torch.tensor([[[1, 1, 0], [1, 0, 0]]]).bool()
    assert (mixed[:, 0] == 1).equal(expected)
    assert (mixed[:, 1] == 1).equal(expected)
    assert label.tolist() == [[[0, 0, 3], [2, 3, 3]]]
    assert (weight == 1).equal(expected)


def test_class_mix_always_pastes_something_where_there_is_something():
    source_label = torch.tensor([[[1, 1]], [[255, 255]]])
    source, target = torch.ones(2, 1, 1, 2), torch.zeros(2, 1, 1, 2)
    mixed, _, _ = class_mix(
        (source, source_label),
        (target, torch.zeros(2, 1, 2, dtype=torch.long), torch.zeros(2, 1, 2)),
        torch.full((2, 3), 0.9),
    )
    assert mixed.flatten(1).tolist() == [[1, 1], [0, 0]]


def test_sizes_that_differ_are_refused():
    with pytest.raises(ConfigError, match="same crop"):
        class_mix(
            (torch.ones(1, 1, 2, 2), torch.zeros(1, 2, 2)),
            (torch.ones(1, 1, 2, 3), torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)),
            torch.zeros(1, 2),
        )


def test_the_averaged_student_alone_labels_what_it_is_sure_of():
    p = torch.tensor([[0.95, 0.05], [0.2, 0.8], [0.1, 0.9]])[:, :, None, None]
    label, weight = averaged_pseudo_labels(p.log().requires_grad_(), threshold=0.9)
    assert label.flatten().tolist() == [0, IGNORE, 1]
    assert weight.flatten().tolist() == [1.0, 0.0, 1.0]
    assert not weight.requires_grad


def test_a_view_without_changes_is_the_window():
    x = torch.randn(3, 2, 6, 7)
    assert torch.equal(changed_view(x, dropout=0.0, strength=(1.0, 1.0), shift_px=0), x)


def test_a_view_empties_scales_and_moves():
    torch.manual_seed(0)
    x = torch.ones(64, 2, 12, 12)
    emptied = changed_view(x, dropout=0.25, strength=(1.0, 1.0), shift_px=0)
    assert (emptied[:, 0] == emptied[:, 1]).all()  # all bins of a cell
    assert float((emptied == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    scaled = changed_view(x, dropout=0.0, strength=(0.5, 2.0), shift_px=0).flatten(1)
    assert torch.equal(scaled.amin(1), scaled.amax(1))
    assert 0.5 <= float(scaled.min()) < 0.7
    assert 1.7 < float(scaled.max()) <= 2.0

    dot = torch.zeros(64, 1, 9, 9)
    dot[:, :, 4, 4] = 1.0
    moved = changed_view(dot, dropout=0.0, strength=(1.0, 1.0), shift_px=2)
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(64))
    places = {tuple(p) for p in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert {y for y, _ in places} == {x for _, x in places} == {2, 3, 4, 5, 6}
    edge = torch.zeros(64, 1, 3, 3)
    edge[:, :, 0, 0] = 1.0
    left = changed_view(edge, dropout=0.0, strength=(1.0, 1.0), shift_px=1).sum((1, 2, 3))
    assert set(left.tolist()) == {0.0, 1.0}  # what leaves does not come in at the other side


def slow_density_mix(source, target, active, regions):
    """One window; rectangles, densities and the median in plain loops."""
    (x, label), (y, other, weight) = source, target
    mixed, labels, weights = y.copy(), other.copy(), weight.copy()
    height, width = label.shape
    boxes = [
        (
            slice(r * height // regions, (r + 1) * height // regions),
            slice(c * width // regions, (c + 1) * width // regions),
        )
        for r in range(regions)
        for c in range(regions)
    ]
    apart = [abs(np.mean(active[0][b] > 0) - np.mean(active[1][b] > 0)) for b in boxes]
    middle = sorted(apart)[(len(apart) - 1) // 2]
    for box, difference in zip(boxes, apart, strict=True):
        if difference > middle + 1e-6:
            mixed[(slice(None), *box)] = x[(slice(None), *box)]
            labels[box], weights[box] = label[box], 1.0
    return mixed, labels, weights


@pytest.mark.parametrize("regions", [2, 4])
def test_density_mix_equals_the_slow_loop(regions):
    rng = np.random.default_rng(regions)
    size = (8, 12)
    x, y = rng.normal(size=(2, 3, 2, *size)).astype(np.float32)
    label, other = rng.integers(0, 5, (2, 3, *size))
    weight = rng.random((3, *size)).astype(np.float32)
    # Density falls from left to right in one and is even in the other.
    active = np.stack(
        [rng.random((3, *size)) < np.linspace(0.9, 0.0, 12), rng.random((3, *size)) < 0.3]
    ).astype(np.uint8)
    tensors = [torch.from_numpy(a) for a in (x, label, y, other, weight, *active)]
    got = density_mix(
        (tensors[0], tensors[1]), tuple(tensors[2:5]), tuple(tensors[5:]), regions=regions
    )
    changed = 0
    for b in range(3):
        expected = slow_density_mix(
            (x[b], label[b]), (y[b], other[b], weight[b]), active[:, b], regions
        )
        for one, two in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one[b].numpy(), two)
        changed += int((expected[2] == 1).sum())
    assert 0 < changed <= 3 * 8 * 12 // 2


def test_windows_of_one_density_are_not_mixed():
    source, target = torch.ones(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    active = torch.ones(1, 8, 8)
    mixed, _, weight = density_mix(
        (source, labels), (target, labels, torch.zeros(1, 8, 8)), (active, active), regions=4
    )
    assert float(mixed.max()) == 0
    assert float(weight.max()) == 0
    with pytest.raises(ConfigError, match="at least 2"):
        density_mix((source, labels), (target, labels, active), (active, active), regions=1)
    with pytest.raises(ConfigError, match="same crop"):
        density_mix(
            (source[..., :4], labels), (target, labels, active), (active, active), regions=4
        )


def test_entropy_is_that_of_the_slow_sum_and_falls_when_it_is_followed():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 3, generator=generator).requires_grad_()
    weight = torch.rand(2, 3, 3, generator=generator)
    total = 0.0
    for b, i, j in np.ndindex(2, 3, 3):
        e = [math.exp(v) for v in logits[b, :, i, j].tolist()]
        p = [v / sum(e) for v in e]
        total += float(weight[b, i, j]) * -sum(v * math.log(v) for v in p) / math.log(4)
    value = weighted_entropy(logits, weight)
    assert float(value.detach()) == pytest.approx(total / float(weight.sum()), rel=1e-5)
    value.backward()
    with torch.no_grad():
        assert float(weighted_entropy(logits - 0.1 * logits.grad, weight)) < float(value)
    flat = torch.zeros(1, 4, 2, 2)
    assert float(weighted_entropy(flat, torch.ones(1, 2, 2))) == pytest.approx(1.0)
    assert float(weighted_entropy(flat, torch.zeros(1, 2, 2))) == 0.0
