"""Dynamic semantic consistency: a translation must not change what is seen.

Shape letters: B batch, K classes, X any further axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from evdistill_core.losses.divergence import kl_divergence, weighted_mean


@contextmanager
def as_judge(network: nn.Module) -> Iterator[nn.Module]:
    """Let the network judge inside the block: gradients pass through it, none stay in it.

    Its parameters take no gradient, batch norms use and keep their running statistics, drop-out is
    off. Parameters that took none before take none after. Ours: with statistics of the batch, the
    judge would move with what it judges.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    modes = [(module, module.training) for module in network.modules()]
    statistics = [(norm, norm.running_mean, norm.running_var) for norm in _batch_norms(network)]
    for parameter in trained:
        parameter.requires_grad_(False)
    for norm, _, _ in statistics:
        _copy_statistics(norm)
    network.eval()
    try:
        yield network
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        for norm, mean, variance in statistics:
            norm.running_mean, norm.running_var = mean, variance
        for module, mode in modes:
            module.training = mode


@contextmanager
def normalised_as_in_use(network: nn.Module) -> Iterator[nn.Module]:
    """Let batch norms use and keep their running statistics inside the block; the rest trains.

    The network is then normalised as it will be in use, not by the batch that it sees. Gradients
    reach all parameters.
    """
    norms = _batch_norms(network)
    known = [(norm.training, norm.running_mean, norm.running_var) for norm in norms]
    for norm in norms:
        norm.training = False
        _copy_statistics(norm)
    try:
        yield network
    finally:
        for norm, (training, mean, variance) in zip(norms, known, strict=True):
            norm.training = training
            norm.running_mean, norm.running_var = mean, variance


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[nn.Module]:
    """Keep the running statistics of batch norms inside the block; all else stays as it is.

    In training they still normalise by the batch; what they will normalise by in evaluation does
    not move.
    """
    norms = _batch_norms(network)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield network
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _copy_statistics(norm: nn.modules.batchnorm._BatchNorm) -> None:
    # The backward pass reads the statistics again, and passes in training move them in place before
    # it comes: the graph gets copies of its own.
    mean, variance = norm.running_mean, norm.running_var
    norm.running_mean = None if mean is None else mean.clone()
    norm.running_var = None if variance is None else variance.clone()


def _batch_norms(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def semantic_consistency(
    before_log_BKX: Tensor, after_log_BKX: Tensor, weight_BX: Tensor | None = None
) -> Tensor:
    """Return KL(before || after) of the task predictions around a translation, mean over pixels.

    L_DSC = KL(T(x_i) || S(G_ie(x_i))) + KL(S(x_e) || T(G_ei(x_e))); one call is one summand.

    Args:
        before_log_BKX: log posterior of the original by the network of its modality (see
            ``log_posterior``, and ``merge_log_posterior`` for a teacher of more classes);
            detached inside.
        after_log_BKX: log posterior of the translation by the network of the other modality, made
            inside ``as_judge``: then the gradient reaches the generator and nothing else.
        weight_BX: >= 0, what a pixel counts; None: all 1.

    Returns:
        Scalar, nats. Zero when both agree, zero with a gradient when no pixel counts.

    Raises:
        ConfigError: the shapes differ.

    Source:
        L_DSC of EvDistill ([note]; [release]: an option of that name). "Dynamic" because the
        current task networks judge, not frozen ones. That the gradient stops at the generators,
        and the direction of the KL, are a [choice].
    """
    return weighted_mean(kl_divergence(before_log_BKX.detach(), after_log_BKX), weight_BX)
