"""One weighted sum of terms by name.

A term is a function without arguments, so that one of weight 0 costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.suggestions import did_you_mean


@dataclass(frozen=True)
class TermSum:
    """A weighted sum and its parts.

    Attributes:
        total: scalar with a gradient.
        unscaled: every computed term by name, detached.
        scaled: the same times its weight; their sum is ``total``.
    """

    total: Tensor
    unscaled: dict[str, Tensor]
    scaled: dict[str, Tensor]


def check_weights(weights: Mapping[str, float], known: Collection[str], what: str = "term") -> None:
    """Refuse weights that do not name exactly the known terms.

    A name that is missing is as likely a slip as one that is unknown: switching a term off is
    written down as weight 0.

    Raises:
        ConfigError: an unknown or missing name, a weight that is negative or not finite.
    """
    unknown = sorted(set(weights) - set(known))
    if unknown:
        near = did_you_mean(unknown[0], known)
        raise ConfigError(f"unknown {what} {unknown[0]!r}; known: {', '.join(sorted(known))}{near}")
    missing = sorted(set(known) - set(weights))
    if missing:
        raise ConfigError(f"{what} {missing[0]!r} has no weight; write 0 to switch it off")
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ConfigError(f"the weight of {name} must be a number >= 0, got {weight}")


def sum_terms(terms: Mapping[str, Callable[[], Tensor]], weights: Mapping[str, float]) -> TermSum:
    """Return sum of weight x term over the terms with a weight above 0.

    Args:
        terms: name to a function that computes the scalar.
        weights: a weight for exactly these names.

    Returns:
        The sum and every computed term. The total is zero, without a gradient, when no weight is
        above 0.

    Raises:
        ConfigError: see ``check_weights``.
    """
    check_weights(weights, terms.keys())
    computed = {name: term() for name, term in terms.items() if weights[name] > 0}
    scaled = {name: weights[name] * term for name, term in computed.items()}
    total = torch.stack(list(scaled.values())).sum() if scaled else torch.zeros(())
    return TermSum(
        total,
        {name: term.detach() for name, term in computed.items()},
        {name: term.detach() for name, term in scaled.items()},
    )
