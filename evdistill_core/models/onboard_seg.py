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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evdistill_core.foundation.config import from_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.models.network import SegmentationNetwork, zero_state

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
    """

    width: float = 1.0
    dropout: float = 0.1
    recurrent: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that are no network of ours."""
        if not 0.25 <= self.width <= 4:
            raise ConfigError(f"width must lie in 0.25..4, got {self.width}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be at least 0 and below 1, got {self.dropout}")

    def channels(self, base: int) -> int:
        """Return a channel count at this width: a multiple of 8, at least 8."""
        return max(8, round(base * self.width / 8) * 8)


class ConvNorm(nn.Sequential):
    """Convolution without bias and its batch norm; optionally a ReLU."""

    def __init__(
        self, inputs: int, outputs: int, size: int = 3, *, stride: int = 1, relu: bool = True
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        if relu:
            layers.append(nn.ReLU())
        super().__init__(*layers)


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


class OnboardSeg(SegmentationNetwork):
    """The network; see the module's text.

    Sizes need only be multiples of 8: deeper stages round up, and the decoder enlarges by exactly
    two and cuts the rest off, so that cells of all stages stay aligned.
    """

    size_multiple = 8
    output_stride = 4

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
        # From deep to shallow: strides 32, 16, 8, 4.
        self.laterals = nn.ModuleList(
            ConvNorm(c, decoder, 1, relu=False) for c in reversed(channels[1:])
        )
        self.smooth = nn.ModuleList(ConvNorm(decoder, decoder) for _ in range(2))
        self.dropout = nn.Dropout2d(options.dropout)
        self.head = nn.Conv2d(decoder, num_classes, 1)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, ResidualBlock):
                # A block starts as the identity, which lets short trainings settle sooner.
                nn.init.zeros_(module.second[1].weight)  # type: ignore[arg-type]
        nn.init.normal_(self.head.weight, std=0.01)

    def encode(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the features at strides 32, 16, 8 and 4."""
        features = []
        for stage in self.stages:
            x_BCHW = stage(x_BCHW)
            features.append(x_BCHW)
        features[-1] = self.context(features[-1])
        return features[:0:-1]

    def fuse(self, features: list[Tensor]) -> Tensor:
        """Return what strides 32, 16 and 8 say together, at stride 8."""
        y_BCHW = F.relu(self.laterals[0](features[0]))
        y_BCHW = F.relu(_enlarge_onto(y_BCHW, self.laterals[1](features[1])))
        joined = F.relu(_enlarge_onto(y_BCHW, self.laterals[2](features[2])))
        fused_BCHW: Tensor = self.smooth[0](joined)
        return fused_BCHW

    def finish(self, fused_BCHW: Tensor, fine_BCHW: Tensor) -> Tensor:
        """Return logits at stride 4 from ``fuse`` and the features of stride 4."""
        y_BCHW = F.relu(_enlarge_onto(fused_BCHW, self.laterals[3](fine_BCHW)))
        logits_BKHW: Tensor = self.head(self.dropout(self.smooth[1](y_BCHW)))
        return logits_BKHW

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return logits (B, K, H, W) at the size of the last, shallowest features."""
        return self.finish(self.fuse(features), features[3])

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to logits (B, num_classes, H / 4, W / 4)."""
        return self.decode(self.encode(x_BCHW))

    def forward_with_features(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and the features of stride 16."""
        features = self.encode(x_BCHW)
        return self.decode(features), features[1]


class ConvGru(nn.Module):
    """A gated recurrent unit whose state is a picture.

    The window enters through a 1x1 convolution (its features have seen their surroundings), the
    state through 3x3 ones: what it knows may move by a cell a window.

    Source:
        Ballas et al., ICLR 2016 (convolutional GRU); the 1x1 input is ours.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.inputs = nn.Conv2d(inputs, 3 * channels, 1)
        self.gates = nn.Conv2d(channels, 2 * channels, 3, 1, 1, bias=False)
        self.candidate = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)

    def forward(self, x_BCHW: Tensor, state_BSHW: Tensor) -> Tensor:
        """Return the state after a window."""
        update, reset, candidate = self.inputs(x_BCHW).chunk(3, 1)
        old_update, old_reset = self.gates(state_BSHW).chunk(2, 1)
        update, reset = torch.sigmoid(update + old_update), torch.sigmoid(reset + old_reset)
        candidate = torch.tanh(candidate + self.candidate(reset * state_BSHW))
        return state_BSHW + update * (candidate - state_BSHW)


class RecurrentOnboardSeg(OnboardSeg):
    """The network with a memory.

    The state sits where strides 32, 16 and 8 are joined: it has seen what the deepest stage saw,
    a thing of 20 pixels still has cells of its own in it, and its size is exactly an eighth of the
    input's. What it remembers is added to the features of the window, through a convolution that
    starts at zero: fresh weights begin as the network without memory.
    """

    state_stride = 8

    def __init__(self, options: OnboardSegOptions, *, in_channels: int, num_classes: int) -> None:
        super().__init__(options, in_channels=in_channels, num_classes=num_classes)
        self.state_channels = options.channels(_BASE_STATE_CHANNELS)
        decoder = options.channels(_BASE_DECODER_CHANNELS)
        self.memory = ConvGru(decoder, self.state_channels)
        self.recall = nn.Conv2d(self.state_channels, decoder, 1)
        for layer in (self.memory.inputs, self.memory.gates, self.memory.candidate):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.memory.inputs.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.recall.weight)
        nn.init.zeros_(self.recall.bias)  # type: ignore[arg-type]

    def forward(  # type: ignore[override]
        self, x: Tensor, state_BSHW: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, K, H / 4, W / 4) of the last window, and the state after it.

        Args:
            x: one window (B, C, H, W), or several in a row (B, T, C, H, W).
            state_BSHW: after the window before, (B, S, H / 8, W / 8); None: nothing was before.
        """
        logits_BKHW, _, state_BSHW = self._roll(x, state_BSHW)
        return logits_BKHW, state_BSHW

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the last window and the features of stride 8 with the memory."""
        return self._roll(x, None)[:2]

    def _roll(self, x: Tensor, state_BSHW: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        # All windows are encoded in one pass: batch norm sees them alike, and it is faster.
        features = self.encode(x if x.ndim == 4 else x.flatten(0, 1))
        fused, fine = self.fuse(features), features[3]
        windows = [fused]
        if x.ndim == 5:
            count = x.shape[1]
            windows = [fused[t::count] for t in range(count)]
            fine = fine[count - 1 :: count]
        if state_BSHW is None:
            state_BSHW = zero_state(self, x if x.ndim == 4 else x[:, -1])
        for window in windows:
            state_BSHW = self.memory(window, state_BSHW)
        y_BCHW = windows[-1] + self.recall(state_BSHW)
        return self.finish(y_BCHW, fine), y_BCHW, state_BSHW


def _enlarge_onto(coarse_BCHW: Tensor, fine_BCHW: Tensor) -> Tensor:
    """Return ``fine`` plus ``coarse`` enlarged by two and cut to its size."""
    height, width = fine_BCHW.shape[2:]
    large = F.interpolate(coarse_BCHW, scale_factor=2.0, mode="bilinear", align_corners=False)
    return fine_BCHW + large[:, :, :height, :width]


def build(options: Mapping[str, object], *, in_channels: int, num_classes: int) -> OnboardSeg:
    """Build the network (see ``registry.build_student``)."""
    typed = from_mapping(OnboardSegOptions, options, "network options")
    kind = RecurrentOnboardSeg if typed.recurrent else OnboardSeg
    return kind(typed, in_channels=in_channels, num_classes=num_classes)
