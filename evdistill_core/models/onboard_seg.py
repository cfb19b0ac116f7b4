"""`onboard-seg`: a segmenter that keeps real time on one CPU core.

Dense 3x3 convolutions of few channels instead of depthwise ones: on CPUs with wide vector units
they reach several times the multiply-adds per second, so a net of 0.7 GMACs runs in the time of a
depthwise one of 0.4, and trains faster too. Half of the work is spent at strides 4 and 8, where an
object of ten pixels still has cells of its own; the deep stages see the whole image. Nothing in it
depends on the input size, so one ONNX file serves every sensor.

With the option ``recurrent`` it remembers what stopped moving and so sends no events: a
convolutional GRU carries a state from window to window, see ``RecurrentOnboardSeg``.
"""

# Shape letters: B batch, T windows in a row, C channels, S of the state, K classes, H and W
# of the feature map at hand.
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from evdistill_core.foundation.config import from_mapping
from evdistill_core.foundation.ranges import BELOW_ONE, check_ranges
from evdistill_core.models.network import initialise_convolutions
from evdistill_core.models.pyramid import ConvNorm, PyramidSegmenter, RecurrentPyramid

_BASE_CHANNELS = (16, 32, 64, 80, 96)  # strides 2, 4, 8, 16, 32
_BLOCKS = (0, 1, 2, 2, 2)
_BASE_DECODER_CHANNELS = 48
_BASE_STATE_CHANNELS = 32


@dataclass(frozen=True, kw_only=True)
class OnboardSegOptions:
    """Size of the network.

    Attributes:
        width: factor on all channel counts, 0.25..4; they are rounded to multiples of 8. Time
            and parameters grow with its square.
        dropout: share of decoder channels that training silences, 0 <= dropout < 1.
        recurrent: whether it carries a state from window to window.
        instances: whether it has an instance head: things of one class are told apart.
    """

    width: float = 1.0
    dropout: float = 0.1
    recurrent: bool = False
    instances: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that are no network of ours."""
        check_ranges(self, width=(0.25, 4), dropout=(0, BELOW_ONE))

    def channels(self, base: int) -> int:
        """Return a channel count at this width: a multiple of 8, at least 8."""
        return max(8, round(base * self.width / 8) * 8)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; size and channels stay."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.second = ConvNorm(channels, channels, relu=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return F.relu(x_BCHW + self.second(self.first(x_BCHW)))


class GlobalContext(nn.Module):
    """Adds what the whole image looks like to every cell."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        mixed: Tensor = x_BCHW + self.mix(x_BCHW.mean((2, 3), keepdim=True))
        return mixed


class OnboardSeg(PyramidSegmenter):
    """The network; see the module's text."""

    def __init__(self, options: OnboardSegOptions, *, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes)
        channels = [options.channels(c) for c in _BASE_CHANNELS]
        decoder = options.channels(_BASE_DECODER_CHANNELS)
        self.stages = nn.ModuleList(
            nn.Sequential(
                ConvNorm(previous, current, stride=2),
                *[ResidualBlock(current) for _ in range(blocks)],
            )
            for previous, current, blocks in zip(
                [in_channels, *channels], channels, _BLOCKS, strict=False
            )
        )
        self.context = GlobalContext(channels[-1])
        self._add_decoder(channels[:0:-1], decoder, options.dropout, instances=options.instances)
        self._initialise()

    def _initialise(self) -> None:
        initialise_convolutions(self)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
            elif isinstance(module, ResidualBlock):
                # A block starts as the identity, which lets short trainings settle sooner.
                nn.init.zeros_(module.second[1].weight)  # type: ignore[arg-type]
        self._initialise_heads()

    def encode(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the features at strides 32, 16, 8 and 4."""
        features = []
        for stage in self.stages:
            x_BCHW = stage(x_BCHW)
            features.append(x_BCHW)
        features[-1] = self.context(features[-1])
        return features[:0:-1]


class RecurrentOnboardSeg(RecurrentPyramid, OnboardSeg):
    """The network with a memory."""

    def __init__(self, options: OnboardSegOptions, *, in_channels: int, num_classes: int) -> None:
        super().__init__(options, in_channels=in_channels, num_classes=num_classes)
        self._add_memory(
            options.channels(_BASE_DECODER_CHANNELS), options.channels(_BASE_STATE_CHANNELS)
        )


def build(options: Mapping[str, object], *, in_channels: int, num_classes: int) -> OnboardSeg:
    """Build the network (see ``registry.build_student``)."""
    typed = from_mapping(OnboardSegOptions, options, "network options")
    kind = RecurrentOnboardSeg if typed.recurrent else OnboardSeg
    return kind(typed, in_channels=in_channels, num_classes=num_classes)
