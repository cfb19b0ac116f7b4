"""What the distillation losses share: class posteriors, their divergence, weighted means.

Shape letters: B batch, K classes, X any further axes (H, W for pixels, none for whole images).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import IGNORE
from evdistill_core.models.joined import joined_mean, joined_sums

SMALLEST_WEIGHT_SUM = 1e-6  # below it nothing counts, and the mean is 0 instead of 0 / 0


def log_posterior(logits_BKX: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return log softmax over axis 1 of ``logits / temperature``, float32.

    Raises:
        ConfigError: temperature is not above 0.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ConfigError(f"temperature must be above 0 and finite, got {temperature}")
    return (logits_BKX.float() / temperature).log_softmax(1)


def merge_log_posterior(log_p_BKX: Tensor, class_map: Sequence[int], *, num_classes: int) -> Tensor:
    """Return the log posterior over coarser classes: probabilities are summed, not arg-maxed.

    log q_j = log sum_{i: map(i) = j} p_i - log sum_{i: map(i) != 255} p_i

    Args:
        log_p_BKX: log probabilities over K classes, axis 1.
        class_map: K ids of the coarser classes below ``num_classes``; 255: the class has no
            counterpart, its mass is left out and the rest renormalised.
        num_classes: coarser classes; each needs a source class.

    Returns:
        (B, num_classes, X); the gradient flows.

    Raises:
        ConfigError: the map does not fit K, holds an id out of range, or leaves a class empty.

    Source:
        Ours: the way in which a 19-class teacher and a 6-class student are comparable without
        throwing the teacher's doubt away. The paper does not say how it maps classes.
    """
    check_class_map(class_map, source_classes=log_p_BKX.shape[1], num_classes=num_classes)
    merged = [
        log_p_BKX[:, [i for i, target in enumerate(class_map) if target == j]].logsumexp(1)
        for j in range(num_classes)
    ]
    return torch.stack(merged, 1).log_softmax(1)


def mean_log_posterior(first_log_BKX: Tensor, second_log_BKX: Tensor, share_BX: Tensor) -> Tensor:
    """Return log((1 - a) p + a q), the mean of two posteriors, a the share of the second.

    Args:
        first_log_BKX: log probabilities p over K classes, axis 1.
        second_log_BKX: log probabilities q, same shape.
        share_BX: a of every pixel, 0..1; 0: p alone.

    Returns:
        (B, K, X) log probabilities; the gradient flows.

    Raises:
        ConfigError: the shapes differ.

    Source:
        The linear opinion pool: of two judges who err in different places, the one that is sure
        decides. Not in the paper.
    """
    if first_log_BKX.shape != second_log_BKX.shape:
        raise ConfigError(
            f"two posteriors must have one shape, got {tuple(first_log_BKX.shape)} and "
            f"{tuple(second_log_BKX.shape)}"
        )
    # A share of exactly 0 or 1 would give log 0, and its gradient no number.
    share = share_BX.to(first_log_BKX.dtype).clamp(1e-12, 1 - 1e-6)[:, None]
    return torch.logaddexp(first_log_BKX + torch.log1p(-share), second_log_BKX + share.log())


def check_class_map(class_map: Sequence[int], *, source_classes: int, num_classes: int) -> None:
    """Refuse a class map that is not one.

    Raises:
        ConfigError: see ``merge_log_posterior``.
    """
    if len(class_map) != source_classes:
        raise ConfigError(
            f"a class map of {source_classes} classes needs {source_classes} ids, "
            f"got {len(class_map)}"
        )
    wrong = [i for i in class_map if i != IGNORE and not 0 <= i < num_classes]
    if wrong:
        raise ConfigError(
            f"class map ids must lie in 0..{num_classes - 1} or be {IGNORE}, got {wrong[0]}"
        )
    empty = sorted(set(range(num_classes)) - set(class_map))
    if empty:
        raise ConfigError(
            f"no source class maps to class {empty[0]}: a student cannot learn it from here"
        )


def kl_divergence(target_log_BKX: Tensor, log_BKX: Tensor) -> Tensor:
    """Return KL(target || other) = sum_k t_k (log t_k - log o_k) over axis 1, shape (B, X), nats.

    Zero exactly when both are equal, positive otherwise. The gradient flows into both arguments;
    detach the one that must not move.

    Raises:
        ConfigError: the shapes differ.
    """
    if target_log_BKX.shape != log_BKX.shape:
        raise ConfigError(
            f"two posteriors must have one shape, got {tuple(target_log_BKX.shape)} and "
            f"{tuple(log_BKX.shape)}"
        )
    return (target_log_BKX.exp() * (target_log_BKX - log_BKX)).sum(1)


def weighted_mean(value_X: Tensor, weight_X: Tensor | None = None) -> Tensor:
    """Return sum(weight value) / sum(weight); zero, with a gradient, where no weight is above 0.

    Both sums are over the joined batch where several processes train (``models.joined``).

    Args:
        value_X: any shape.
        weight_X: >= 0, same shape; None: all 1.

    Raises:
        ConfigError: the shapes differ.
    """
    if weight_X is None:
        return joined_mean(value_X)
    if weight_X.shape != value_X.shape:
        raise ConfigError(
            f"weights must have the shape {tuple(value_X.shape)} of what they weigh, "
            f"got {tuple(weight_X.shape)}"
        )
    weight = weight_X.to(value_X.dtype)
    value, total = joined_sums((value_X * weight).sum(), weight.sum())
    return value / total.clamp_min(SMALLEST_WEIGHT_SUM)


def confidence_weight(
    logits_BKX: Tensor, *, kind: Literal["none", "max", "entropy"] = "max", floor: float = 0.0
) -> Tensor:
    """Return how sure a teacher is of every pixel, (B, X) float32 in 0..1, without a gradient.

    ``max``: the largest probability. ``entropy``: 1 - H(p) / log K. Below ``floor`` it is 0.
    A teacher on a reconstructed image is over-confident where the generator invents; the weight
    does not cure that, it only keeps shrugs from being taught.

    Source:
        Ours (common practice in self-training); not in the paper.
    """
    log_p = log_posterior(logits_BKX.detach())
    if kind == "none":
        return torch.ones_like(log_p[:, 0])
    if kind == "max":
        sure = log_p.amax(1).exp()
    else:
        spread = -(log_p.exp() * log_p).sum(1)
        sure = 1 - spread / math.log(max(2, logits_BKX.shape[1]))
    sure = sure.clamp(0.0, 1.0)
    return torch.where(sure >= floor, sure, torch.zeros_like(sure))
