"""A network of one's own, named ``my_network:TinySeg`` by 04_own_network.py."""

import torch

from evdistill_core.models.network import SegmentationNetwork


class TinySeg(SegmentationNetwork):
    """Three convolutions; logits at a quarter of the input's size."""

    size_multiple = 8
    output_stride = 4

    def __init__(self, *, in_channels: int, num_classes: int, width: int = 16) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes)
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(in_channels, width, 5, stride=2, padding=2),
            torch.nn.ReLU(),
            torch.nn.Conv2d(width, width, 3, stride=2, padding=1),
            torch.nn.ReLU(),
        )
        self.head = torch.nn.Conv2d(width, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to logits (B, K, H / 4, W / 4)."""
        return self.head(self.body(x))
