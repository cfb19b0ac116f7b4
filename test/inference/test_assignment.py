from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.inference.assignment import best_pairs


def total(gains, pairs):
    return sum(gains[r, c] for r, c in pairs)


def best_of_all(gains):
    """Try every assignment of the smaller side."""
    gains = gains if gains.shape[0] <= gains.shape[1] else gains.T
    rows, columns = gains.shape
    return max(
        sum(gains[r, c] for r, c in enumerate(p)) for p in permutations(range(columns), rows)
    )


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 4), st.integers(1, 6), st.booleans(), st.integers(0, 2**32 - 1), st.booleans()
)
def test_the_sum_is_that_of_the_best_of_all_assignments(rows, columns, is_tall, seed, has_ties):
    gains = np.random.default_rng(seed).random((rows, columns))
    gains[gains < 0.4] = 0
    if has_ties:
        gains = np.round(gains * 4)
    gains = gains.T if is_tall else gains
    pairs = best_pairs(gains)
    assert total(gains, pairs) == pytest.approx(best_of_all(gains))
    assert all(gains[pair] > 0 for pair in pairs)
    assert len({r for r, _ in pairs}) == len({c for _, c in pairs}) == len(pairs)
    assert pairs == sorted(pairs)


@pytest.mark.parametrize("shape", [(100, 100), (30, 120), (120, 30)])
def test_large_ones_are_as_good_as_those_of_scipy(shape):
    optimize = pytest.importorskip("scipy.optimize")
    gains = np.random.default_rng(3).random(shape)
    gains[gains < 0.7] = 0
    rows, columns = optimize.linear_sum_assignment(gains, maximize=True)
    assert total(gains, best_pairs(gains)) == pytest.approx(gains[rows, columns].sum())


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 2)])
def test_without_gains_there_are_no_pairs(shape):
    assert best_pairs(np.zeros(shape)) == []


def test_a_larger_sum_wins_against_the_largest_pair():
    assert best_pairs(np.array([[0.9, 0.8], [0.8, 0.0]])) == [(0, 1), (1, 0)]
