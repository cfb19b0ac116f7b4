"""Discriminators: is this image, or this map of class posteriors, a real one?

They exist during training only. Shape letters: B batch, C channels, H and W the image.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from evdistill_core.foundation.ranges import check_ranges

OUTPUT_SIZE = 65  # side of the posteriors that the output discriminator sees


@dataclass(frozen=True, kw_only=True)
class DiscriminatorOptions:
    """Size of a discriminator.

    Attributes:
        base_channels: after the first convolution; doubled by each of the following, up to 8x.
        layers: strided convolutions; 3 give a view of 70x70 pixels, 1 of 16x16, 2 of 34x34.
    """

    base_channels: int = 64
    layers: int = 3

    def __post_init__(self) -> None:
        """Refuse sizes that are no discriminator."""
        check_ranges(self, base_channels=(1, 512), layers=(1, 6))


class PatchDiscriminator(nn.Module):
    """One score for every overlapping patch: (B, C, H, W) -> (B, 1, h, w), higher = real.

    Source:
        PatchGAN (Isola et al., CVPR 2017, appendix 6.1.2), the 70x70 discriminator of CycleGAN:
        4x4 convolutions, instance norm except in the first, leaky ReLU 0.2, no sigmoid (LSGAN).
        That EvDistill uses it is a [choice] of ours.
    """

    def __init__(self, in_channels: int, options: DiscriminatorOptions) -> None:
        super().__init__()
        widths = [options.base_channels * min(2**i, 8) for i in range(options.layers + 1)]
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, widths[0], 4, 2, 1),
            nn.LeakyReLU(0.2),
        ]
        for i, (previous, current) in enumerate(itertools.pairwise(widths)):
            stride = 2 if i + 1 < options.layers else 1
            layers += [
                nn.Conv2d(previous, current, 4, stride, 1, bias=False),
                nn.InstanceNorm2d(current, affine=True),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Conv2d(widths[-1], 1, 4, 1, 1))
        self.body = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to patch scores (B, 1, h, w)."""
        scores: Tensor = self.body(x_BCHW)
        return scores


class OutputDiscriminator(nn.Module):
    """Whole-image score of class posteriors: (B, K, H, W) -> (B,), higher = like the teacher's.

    The posteriors are resized to 65x65 first. No norm: a batch norm would join samples, which the
    gradient penalty forbids.

    Source:
        [release]: 65x65 input, WGAN-GP, off in the authors' configuration. Layers are ours.
    """

    def __init__(self, num_classes: int, options: DiscriminatorOptions) -> None:
        super().__init__()
        widths = [num_classes, *[options.base_channels * min(2**i, 8) for i in range(4)]]
        layers: list[nn.Module] = []
        for previous, current in itertools.pairwise(widths):
            layers += [nn.Conv2d(previous, current, 4, 2, 1), nn.LeakyReLU(0.2)]
        layers.append(nn.Conv2d(widths[-1], 1, 4))
        self.body = nn.Sequential(*layers)

    def forward(self, posterior_BKHW: Tensor) -> Tensor:
        """Map posteriors of any size to one score a sample."""
        seen = F.interpolate(
            posterior_BKHW.float(), size=OUTPUT_SIZE, mode="bilinear", align_corners=False
        )
        scores: Tensor = self.body(seen).flatten(1).mean(1)
        return scores
