"""Pseudo-labels of two judges, and class-mix."""

import pytest
import torch

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.losses.pseudo_labels import class_mix, hybrid_pseudo_labels


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
