"""The weighted sum by name."""

import pytest
import torch

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.losses.terms import check_weights, sum_terms


def never():
    raise AssertionError("a term of weight 0 was computed")


def test_the_sum_and_both_tables():
    x = torch.tensor(3.0, requires_grad=True)
    result = sum_terms(
        {"a": lambda: x * 2, "b": lambda: x**2, "c": never}, {"a": 0.5, "b": 2.0, "c": 0}
    )
    result.total.backward()
    assert float(result.total) == pytest.approx(3.0 + 18.0)
    assert float(x.grad) == pytest.approx(1.0 + 12.0)
    assert {k: float(v) for k, v in result.unscaled.items()} == {"a": 6.0, "b": 9.0}
    assert {k: float(v) for k, v in result.scaled.items()} == {"a": 3.0, "b": 18.0}
    assert not any(v.requires_grad for v in [*result.unscaled.values(), *result.scaled.values()])
    assert float(sum(result.scaled.values())) == pytest.approx(float(result.total))


def test_no_weight_above_zero_gives_zero():
    assert float(sum_terms({"a": never}, {"a": 0.0}).total) == 0.0


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1.0, "b": 1.0, "kd": 1.0}, "unknown term 'kd'; known: a, b"),
        ({"a": 1.0}, "term 'b' has no weight; write 0"),
        ({"a": 1.0, "b": -1.0}, "must be a number >= 0"),
        ({"a": 1.0, "b": float("nan")}, "must be a number >= 0"),
        ({"a": 1.0, "b": float("inf")}, "must be a number >= 0"),
    ],
)
def test_bad_weights_are_refused(weights, message):
    with pytest.raises(ConfigError, match=message):
        check_weights(weights, ["a", "b"])
    with pytest.raises(ConfigError, match=message):
        sum_terms({"a": lambda: torch.ones(()), "b": lambda: torch.ones(())}, weights)
