"""`lite-cls`: the recogniser with ImageNet weights: EfficientNet-Lite, mean, one linear layer."""

# Shape letters: B batch, C channels, K classes, H and W of the feature map at hand.
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from evdistill_core.foundation.config import from_mapping
from evdistill_core.foundation.ranges import BELOW_ONE, check_ranges
from evdistill_core.models.efficientnet_lite import EfficientNetLite, Variant
from evdistill_core.models.network import (
    ClassificationNetwork,
    initialise_convolutions,
)


@dataclass(frozen=True, kw_only=True)
class LiteClsOptions:
    """Size of the network.

    Attributes:
        encoder: ``lite0``, ``lite1`` or ``lite2``, from small to large.
        enlarge: factor on the size of the input before the first layer, 1..8. Small sensors
            (34x34 of N-MNIST) need 3 or 4: the encoder divides the size by 32.
        dropout: share of pooled features that training silences, 0 <= dropout < 1.
    """

    encoder: Variant = "lite0"
    enlarge: int = 1
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Refuse sizes that are no network of ours."""
        check_ranges(self, enlarge=(1, 8), dropout=(0, BELOW_ONE))


class LiteCls(ClassificationNetwork):
    """The network; any size of at least 1x1 goes in."""

    size_multiple = 1

    def __init__(self, options: LiteClsOptions, *, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes)
        self._enlarge = options.enlarge
        self.encoder = EfficientNetLite(options.encoder, in_channels=in_channels)
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(self.encoder.channels[-1], num_classes)
        initialise_convolutions(self)

    def forward_with_features(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) and the last feature map (B, C, H, W)."""
        if self._enlarge > 1:
            x_BCHW = F.interpolate(x_BCHW, scale_factor=float(self._enlarge), mode="bilinear")
        features_BCHW = self.encoder(x_BCHW)[-1]
        logits_BK: Tensor = self.head(self.dropout(features_BCHW.mean((2, 3))))
        return logits_BK, features_BCHW


def build(options: Mapping[str, object], *, in_channels: int, num_classes: int) -> LiteCls:
    """Build the network (see ``registry.build_student``)."""
    typed = from_mapping(LiteClsOptions, options, "network options")
    return LiteCls(typed, in_channels=in_channels, num_classes=num_classes)
