"""A network of one's own."""

import torch
from torch import Tensor, nn

from evdistill_core.models.network import SegmentationNetwork


class TwoConvolutions(SegmentationNetwork):
    """Two convolutions and a classifier, at an eighth of the input's size."""

    size_multiple = 8
    output_stride = 8

    def __init__(self, *, in_channels: int, num_classes: int, width: int = 16) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes)
        self.first = nn.Conv2d(in_channels, width, 5, stride=4, padding=2)
        self.second = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.head = nn.Conv2d(2 * width, num_classes, 1)

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, num_classes, H / 8, W / 8) and the features before them."""
        features = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(features), features
