"""`evdistill-2021`: DeepLabV3+ with ResNet-101, the student of the EvDistill release.

Sources: Chen et al., ECCV 2018 (DeepLabV3+); He et al., CVPR 2016 (ResNet-101); Chen et al., 2017
(multi-grid in the last stage, rates 1, 2, 4); Wang et al., CVPR 2021 (EvDistill), whose release
uses it with output stride 16 and six classes. Module names are those of the published checkpoints,
so that their ``state_dict`` loads as it is.

Differs from the paper's DeepLabV3+: no depthwise separable convolutions, bilinear enlargement with
aligned corners, logits at the size of the input (the release's choices).
"""

# Shape letters: B batch, C channels, K classes, H and W of the feature map at hand.
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evdistill_core.foundation.config import from_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.models.network import SegmentationNetwork

_BLOCKS = (3, 4, 23, 3)  # ResNet-101
_MULTI_GRID = (1, 2, 4)
# Output stride -> stride and dilation of the four stages, and the rates of the three wide branches.
_LAYOUTS: Mapping[int, tuple[tuple[int, ...], tuple[int, ...], tuple[int, int, int]]] = {
    16: ((1, 2, 2, 1), (1, 1, 1, 2), (6, 12, 18)),
    8: ((1, 2, 1, 1), (1, 1, 2, 4), (12, 24, 36)),
}


@dataclass(frozen=True, kw_only=True)
class DeepLabOptions:
    """What can be chosen.

    Attributes:
        encoder_stride: input cells per cell of the deepest features, 16 (the release) or 8.
    """

    encoder_stride: Literal[8, 16] = 16

    def __post_init__(self) -> None:
        """Refuse strides that the published layout does not have."""
        if self.encoder_stride not in _LAYOUTS:
            raise ConfigError(f"encoder_stride must be 8 or 16, got {self.encoder_stride}")


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution beside a shortcut; four times as many channels come out."""

    expansion = 4

    def __init__(
        self, inputs: int, planes: int, *, stride: int, dilation: int, project: bool
    ) -> None:
        super().__init__()
        outputs = planes * self.expansion
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
            if project
            else nn.Identity()
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 4 * planes, H / stride, W / stride), rounded up."""
        y = F.relu(self.bn1(self.conv1(x_BCHW)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x_BCHW))


def _stage(inputs: int, planes: int, stride: int, dilations: list[int]) -> nn.Sequential:
    """Return a ResNet stage: the first block strides and projects, one block per dilation."""
    outputs = planes * Bottleneck.expansion
    first = Bottleneck(inputs, planes, stride=stride, dilation=dilations[0], project=True)
    rest = [Bottleneck(outputs, planes, stride=1, dilation=d, project=False) for d in dilations[1:]]
    return nn.Sequential(first, *rest)


class Backbone(nn.Module):
    """ResNet-101 whose last stage widens its view by dilation instead of striding."""

    def __init__(self, in_channels: int, encoder_stride: int) -> None:
        super().__init__()
        strides, dilations, _ = _LAYOUTS[encoder_stride]
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(64, 64, strides[0], [dilations[0]] * _BLOCKS[0])
        self.layer2 = _stage(256, 128, strides[1], [dilations[1]] * _BLOCKS[1])
        self.layer3 = _stage(512, 256, strides[2], [dilations[2]] * _BLOCKS[2])
        self.layer4 = _stage(1024, 512, strides[3], [dilations[3] * g for g in _MULTI_GRID])

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the deepest features (2048 channels) and those of stride 4 (256 channels)."""
        stem = F.relu(self.bn1(self.conv1(x_BCHW)))
        low = self.layer1(F.max_pool2d(stem, 3, 2, 1))
        return self.layer4(self.layer3(self.layer2(low))), low


class AtrousBranch(nn.Module):
    """One branch of the pyramid: dilated convolution, batch norm, ReLU."""

    def __init__(self, size: int, rate: int) -> None:
        super().__init__()
        self.atrous_conv = nn.Conv2d(
            2048, 256, size, padding=rate * (size // 2), dilation=rate, bias=False
        )
        self.bn = nn.BatchNorm2d(256)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, 2048, H, W) to (B, 256, H, W)."""
        return F.relu(self.bn(self.atrous_conv(x_BCHW)))


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling: four rates and the image mean, 256 channels each."""

    def __init__(self, rates: tuple[int, int, int]) -> None:
        super().__init__()
        self.aspp1 = AtrousBranch(1, 1)
        self.aspp2 = AtrousBranch(3, rates[0])
        self.aspp3 = AtrousBranch(3, rates[1])
        self.aspp4 = AtrousBranch(3, rates[2])
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(2048, 256, 1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
        )
        self.conv1 = nn.Conv2d(5 * 256, 256, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(256)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, 2048, H, W) to (B, 256, H, W)."""
        mean = self.global_avg_pool(x_BCHW).expand(-1, -1, x_BCHW.shape[2], x_BCHW.shape[3])
        branches = [self.aspp1(x_BCHW), self.aspp2(x_BCHW), self.aspp3(x_BCHW), self.aspp4(x_BCHW)]
        y = F.relu(self.bn1(self.conv1(torch.cat([*branches, mean], 1))))
        dropped: Tensor = self.dropout(y)
        return dropped


class Decoder(nn.Module):
    """Joins the pyramid with the features of stride 4."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(256, 48, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(48)
        self.last_conv = nn.Sequential(
            nn.Conv2d(256 + 48, 256, 3, padding=1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(256, num_classes, 1),
        )

    def forward(self, deep_BCHW: Tensor, low_BCHW: Tensor) -> Tensor:
        """Return logits at the size of ``low``."""
        low = F.relu(self.bn1(self.conv1(low_BCHW)))
        deep = _resize(deep_BCHW, low)
        logits: Tensor = self.last_conv(torch.cat([deep, low], 1))
        return logits


class EvDistill2021(SegmentationNetwork):
    """The network; any size of at least 1x1 goes in, logits of the same size come out."""

    size_multiple = 1
    output_stride = 1

    def __init__(self, options: DeepLabOptions, *, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes)
        self.backbone = Backbone(in_channels, options.encoder_stride)
        self.aspp = AtrousPyramid(_LAYOUTS[options.encoder_stride][2])
        self.decoder = Decoder(num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to logits (B, num_classes, H, W)."""
        return self.forward_with_features(x_BCHW)[0]

    def forward_with_features(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and the deepest features (2048 channels)."""
        deep, low = self.backbone(x_BCHW)
        return _resize(self.decoder(self.aspp(deep), low), x_BCHW), deep


def _resize(x_BCHW: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x_BCHW, size=like.shape[2:], mode="bilinear", align_corners=True)


def build(options: Mapping[str, object], *, in_channels: int, num_classes: int) -> EvDistill2021:
    """Build the network (see ``registry.build_student``)."""
    typed = from_mapping(DeepLabOptions, options, "network options")
    return EvDistill2021(typed, in_channels=in_channels, num_classes=num_classes)
