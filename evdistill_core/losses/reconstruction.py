"""Reconstruction losses of the generators: cycle without pairs, direct with them.

Shape letters: B batch, C channels, H and W the image.
"""

from __future__ import annotations

from torch import Tensor

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.losses.divergence import weighted_mean


def reconstruction_l1(
    made_BCHW: Tensor, true_BCHW: Tensor, weight_BHW: Tensor | None = None
) -> Tensor:
    """Return the weighted mean of |made - true| over pixels and channels.

    Unpaired (cycle): made = G_ei(G_ie(x_i)), true = x_i, and the same the other way round.
    Paired: made = G_ei(x_e), true = the APS frame of the same instant.

    Args:
        made_BCHW: what the generators made; the gradient flows here only.
        true_BCHW: same shape; detached inside.
        weight_BHW: >= 0, what a pixel counts (padding and masked pixels 0); None: all 1.

    Returns:
        Scalar in units of the image. Zero when equal, zero with a gradient when no pixel counts.

    Raises:
        ConfigError: the shapes differ.

    Source:
        Paired L1 on APS frames: [note] on EvDistill's L_rec. The cycle for unpaired data is a
        [choice] after Zhu et al., ICCV 2017 (CycleGAN): an adversarial loss alone does not tie
        the translation to its input.
    """
    if made_BCHW.shape != true_BCHW.shape:
        raise ConfigError(
            f"what is made must have the shape {tuple(true_BCHW.shape)} of the truth, "
            f"got {tuple(made_BCHW.shape)}"
        )
    apart_BHW = (made_BCHW.float() - true_BCHW.detach().float()).abs().mean(1)
    return weighted_mean(apart_BHW, weight_BHW)
