"""`onboard-cls`: the recogniser: residual stages, mean over the image, one linear layer.

The stages are those of `onboard-seg`, so it folds and exports the same way. Shape letters: B
batch, C channels, K classes, H and W of the feature map at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from evdistill_core.foundation.config import from_mapping
from evdistill_core.foundation.ranges import BELOW_ONE, check_ranges
from evdistill_core.models.network import (
    ClassificationNetwork,
    initialise_convolutions,
)
from evdistill_core.models.onboard_seg import ResidualBlock
from evdistill_core.models.pyramid import ConvNorm


@dataclass(frozen=True, kw_only=True)
class OnboardClsOptions:
    """Size of the network.

    Attributes:
        width: factor on all channel counts, 0.25..4; they are rounded to multiples of 8.
        stages: how often the size is halved, 2..5; 3 for images of 34x34 (N-MNIST), 5 for
            240x180 (N-Caltech101).
        blocks: residual blocks a stage, the first stage (half size) has none.
        dropout: share of pooled features that training silences, 0 <= dropout < 1.
    """

    width: float = 1.0
    stages: int = 3
    blocks: int = 1
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Refuse sizes that are no network of ours."""
        check_ranges(self, width=(0.25, 4), dropout=(0, BELOW_ONE))
        check_ranges(self, stages=(2, 5), blocks=(0, 8))


class OnboardCls(ClassificationNetwork):
    """The network; any size of at least 1x1 goes in."""

    size_multiple = 1

    def __init__(self, options: OnboardClsOptions, *, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes)
        widths = [max(8, round(c * options.width / 8) * 8) for c in (16, 32, 64, 96, 128)]
        stages: list[nn.Module] = []
        previous = in_channels
        for i, current in enumerate(widths[: options.stages]):
            blocks = options.blocks if i else 0
            stages.append(ConvNorm(previous, current, stride=2))
            stages += [ResidualBlock(current) for _ in range(blocks)]
            previous = current
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(previous, num_classes)
        initialise_convolutions(self)

    def forward_with_features(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) and the last feature map (B, C, H, W)."""
        features_BCHW = self.stages(x_BCHW)
        logits_BK: Tensor = self.head(self.dropout(features_BCHW.mean((2, 3))))
        return logits_BK, features_BCHW


def build(options: Mapping[str, object], *, in_channels: int, num_classes: int) -> OnboardCls:
    """Build the network (see ``registry.build_student``)."""
    typed = from_mapping(OnboardClsOptions, options, "network options")
    return OnboardCls(typed, in_channels=in_channels, num_classes=num_classes)
