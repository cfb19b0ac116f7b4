"""Affinity graphs against a slow double loop, and what they must not see."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.losses.affinity import (
    affinity_kd,
    batch_nodes,
    cosine_affinity,
    event_nodes,
    grid_nodes,
    scaled_nodes,
)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


@pytest.mark.parametrize(("norm", "power"), [("l1", 1), ("l2", 2)])
def test_affinity_equals_the_slow_double_loop(norm, power):
    student, teacher = noise(2, 3, 6), noise(2, 5, 6, seed=1)
    terms = []
    for b in range(2):
        s, t = student[b].double().T.tolist(), teacher[b].double().T.tolist()
        for i in range(6):
            for j in range(6):
                terms.append(abs(slow_cosine(s[i], s[j]) - slow_cosine(t[i], t[j])) ** power)
    got = affinity_kd(student, teacher, norm=norm)
    assert float(got) == pytest.approx(np.mean(terms), rel=1e-5)


def test_pool_scale_of_the_release_gives_two_by_two_nodes():
    for size in ((16, 16), (32, 43), (17, 22)):
        nodes = scaled_nodes(noise(1, 4, *size), 0.8)
        assert nodes.shape == (1, 4, 4)
    x = torch.zeros(1, 1, 10, 10)
    x[0, 0, 3, 3], x[0, 0, 3, 9], x[0, 0, 9, 9] = 1.0, 2.0, 3.0
    assert scaled_nodes(x, 0.8)[0, 0].tolist() == [1.0, 2.0, 0.0, 3.0]


def test_dense_nodes_and_batch_nodes():
    assert grid_nodes(noise(2, 4, 33, 44), 16).shape == (2, 4, 256)
    features = noise(5, 7)
    torch.testing.assert_close(
        cosine_affinity(batch_nodes(features))[0, 1, 3],
        torch.cosine_similarity(features[1], features[3], dim=0),
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 8), st.sampled_from(["l1", "l2"]))
def test_affinity_sees_neither_scale_nor_basis_of_the_features(seed, nodes, width, norm):
    teacher = noise(2, width, nodes, seed=seed)
    turn, _ = torch.linalg.qr(noise(width, width, seed=seed + 1))
    scale = torch.rand(2, 1, nodes, generator=torch.Generator().manual_seed(seed)) + 0.5
    student = (turn @ teacher) * scale
    assert float(affinity_kd(student, teacher, norm=norm)) == pytest.approx(0.0, abs=1e-5)
    other = affinity_kd(noise(2, 3, nodes, seed=seed + 2), teacher, norm=norm)
    assert 0.0 <= float(other) <= (2.0 if norm == "l1" else 4.0)


def test_affinity_moves_the_student_alone_and_one_node_says_nothing():
    student, teacher = noise(1, 3, 4).requires_grad_(), noise(1, 5, 4, seed=1).requires_grad_()
    affinity_kd(student, teacher).backward()
    assert teacher.grad is None
    assert float(student.grad.abs().sum()) > 0
    assert float(affinity_kd(noise(2, 3, 1), noise(2, 5, 1))) == pytest.approx(0.0, abs=1e-6)


def test_features_of_zeros_stay_finite():
    student = torch.zeros(1, 3, 4, requires_grad=True)
    value = affinity_kd(student, noise(1, 3, 4))
    value.backward()
    assert math.isfinite(float(value.detach()))
    assert torch.isfinite(student.grad).all()


def test_graphs_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="as many nodes"):
        affinity_kd(noise(1, 3, 4), noise(1, 3, 9))
    with pytest.raises(ConfigError, match="pool_scale"):
        scaled_nodes(noise(1, 3, 4, 4), 0.0)
    with pytest.raises(ConfigError, match="nodes"):
        grid_nodes(noise(1, 3, 4, 4), 0)


@pytest.mark.parametrize(("norm", "power"), [("l1", 1), ("l2", 2)])
def test_weighted_affinity_equals_the_slow_double_loop(norm, power):
    student, teacher = noise(2, 3, 5), noise(2, 4, 5, seed=1)
    weight = torch.tensor([[1.0, 0.0, 0.5, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 2.0]])
    total = counted = 0.0
    for b in range(2):
        s, t = student[b].double().T.tolist(), teacher[b].double().T.tolist()
        for i in range(5):
            for j in range(5):
                pair = float(weight[b, i] * weight[b, j])
                apart = abs(slow_cosine(s[i], s[j]) - slow_cosine(t[i], t[j]))
                total, counted = total + pair * apart**power, counted + pair
    got = affinity_kd(student, teacher, weight, norm=norm)
    assert float(got) == pytest.approx(total / counted, rel=1e-5)
    ones = affinity_kd(student, teacher, torch.ones(2, 5), norm=norm)
    assert float(ones) == pytest.approx(float(affinity_kd(student, teacher, norm=norm)), rel=1e-6)
    assert float(affinity_kd(student, teacher, torch.zeros(2, 5), norm=norm)) == 0.0


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 99), count=st.integers(1, 20), share=st.sampled_from([0.0, 0.01, 0.3]))
def test_event_nodes_are_the_same_cells_of_both_and_lit_ones_first(seed, count, share):
    torch.manual_seed(seed)
    student, teacher = noise(2, 3, 3, 4, seed=seed), noise(2, 5, 3, 4, seed=seed + 1)
    active = (torch.rand(2, 12, 16) < share).byte()
    mine, theirs, weight = event_nodes(student, teacher, active, count)
    nodes = min(count, 12)
    assert mine.shape == (2, 3, nodes)
    assert theirs.shape == (2, 5, nodes)
    for b in range(2):
        lit = [bool(active[b, 4 * (k // 4) :][:4, 4 * (k % 4) :][:, :4].any()) for k in range(12)]
        cells = []
        for n in range(nodes):
            (cell,) = [
                k for k in range(12) if torch.equal(student[b].flatten(1)[:, k], mine[b, :, n])
            ]
            assert torch.equal(teacher[b].flatten(1)[:, cell], theirs[b, :, n])
            assert float(weight[b, n]) == float(lit[cell])
            cells.append(cell)
        assert len(set(cells)) == nodes
        assert float(weight[b].sum()) == min(nodes, sum(lit))


def test_event_nodes_bring_the_teachers_map_to_the_students_size():
    flat = torch.full((1, 2, 6, 8), 3.0)
    student = noise(1, 3, 3, 4)
    _, theirs, _ = event_nodes(student, flat, torch.ones(1, 24, 32), 99)
    assert theirs.shape == (1, 2, 12)
    assert bool((theirs == 3).all())
    with pytest.raises(ConfigError, match="count"):
        event_nodes(student, flat, torch.ones(1, 24, 32), 0)


def test_only_the_student_learns_from_event_nodes():
    student, teacher = noise(1, 3, 3, 4).requires_grad_(), noise(1, 5, 3, 4, seed=1)
    teacher.requires_grad_()
    active = torch.zeros(1, 3, 4)
    active[0, 0] = 1  # the first row of cells alone
    mine, theirs, weight = event_nodes(student, teacher, active, 99)
    affinity_kd(mine, theirs, weight).backward()
    assert teacher.grad is None
    assert float(student.grad[0, :, 0].abs().min()) > 0
    assert float(student.grad[0, :, 1:].abs().max()) == 0
