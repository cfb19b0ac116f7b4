"""Adversarial losses: least squares for the modality generators, Wasserstein for class posteriors.

A discriminator is any module that maps (B, C, H, W) to scores of any shape, higher = real.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.models.joined import joined_mean


def lsgan_generator(fake_scores: Tensor) -> Tensor:
    """Return mean (D(G(x)) - 1)^2; zero when every patch passes for real.

    Source:
        Mao et al., ICCV 2017, eq. 9 with labels a = 0, b = c = 1, without the factor 1/2 (as
        CycleGAN does). [release]: LSGAN.
    """
    return joined_mean((fake_scores.float() - 1).square())


def lsgan_discriminator(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Return (mean (D(x) - 1)^2 + mean D(G(z))^2) / 2; zero when all are told apart.

    Args:
        real_scores: of real samples.
        fake_scores: of generated samples that were detached: the generator must not learn here.

    Source:
        Mao et al., ICCV 2017, eq. 9.
    """
    real = joined_mean((real_scores.float() - 1).square())
    return 0.5 * (real + joined_mean(fake_scores.float().square()))


def wgan_generator(fake_scores: Tensor) -> Tensor:
    """Return -mean D(fake): rises in the critic's eyes.

    Source:
        Arjovsky et al., ICML 2017; the output discriminator of [release], off there by default.
    """
    return -joined_mean(fake_scores.float())


def wgan_critic(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Return mean D(fake) - mean D(real), the negative Wasserstein estimate (see above)."""
    return joined_mean(fake_scores.float()) - joined_mean(real_scores.float())


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real_BCHW: Tensor, fake_BCHW: Tensor, mix_B: Tensor
) -> Tensor:
    """Return mean_b (||grad D(m_b)||_2 - 1)^2 at mixtures m = a real + (1 - a) fake.

    Args:
        critic: scores; batch statistics (batch norm) would join samples and are not allowed.
        real_BCHW: real samples, detached inside.
        fake_BCHW: generated ones, detached inside.
        mix_B: a in 0..1, one a sample (drawn by the caller: no random state is hidden here).

    Returns:
        Scalar with a gradient to the critic's parameters alone. Zero for a critic of slope 1.

    Raises:
        ConfigError: the shapes differ.

    Source:
        Gulrajani et al., NeurIPS 2017, eq. 3 (without lambda, which is a weight).
    """
    if real_BCHW.shape != fake_BCHW.shape or mix_B.shape != real_BCHW.shape[:1]:
        raise ConfigError(
            f"real, fake and mix must fit, got {tuple(real_BCHW.shape)}, "
            f"{tuple(fake_BCHW.shape)} and {tuple(mix_B.shape)}"
        )
    share = mix_B.view(-1, *[1] * (real_BCHW.ndim - 1)).to(real_BCHW)
    mixed = (share * real_BCHW.detach() + (1 - share) * fake_BCHW.detach()).requires_grad_()
    (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    # The norm's gradient is infinite at 0; the small number keeps a flat critic trainable.
    norm = (slope.flatten(1).square().sum(1) + 1e-12).sqrt()
    return joined_mean((norm - 1).square())
