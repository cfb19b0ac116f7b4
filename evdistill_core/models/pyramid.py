"""Segmenters with a pyramid decoder: what `onboard-seg` and `lite-seg` share.

The decoder joins features of strides 32, 16, 8 and 4 from deep to shallow. With a memory, a
convolutional GRU carries a state from window to window: what stopped moving sends no events, but is
still there. With an instance head, it also says where the centres of things are, and how far each
cell is from the centre of its thing (docs/adr/0028-instance-head.md).

Shape letters: B batch, T windows in a row, C channels, S of the state, K classes, H and W of the
feature map at hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evdistill_core.models.network import (
    InstanceMaps,
    NetworkOutput,
    SegmentationNetwork,
    zero_state,
)

HEAD_CHANNELS = 32
HEAD_KERNEL = 5
OFFSET_SCALE_PX = 32.0  # offsets of one in the last layer: weights stay of one size
CENTRE_PRIOR = 0.01  # heat that a fresh head gives everywhere: few cells are centres


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


class InstanceHead(nn.Module):
    """Says where things have their centres, from the features that the class logits come from.

    Source:
        Cheng et al., Panoptic-DeepLab, CVPR 2020: a centre heat map and offsets to the centre.
        Differs: one depthwise separable convolution serves both, so that it costs little.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread = nn.Sequential(
            nn.Conv2d(width, width, HEAD_KERNEL, 1, HEAD_KERNEL // 2, groups=width, bias=False),
            nn.BatchNorm2d(width),
        )
        self.mix = ConvNorm(width, HEAD_CHANNELS, 1)
        self.maps = nn.Conv2d(HEAD_CHANNELS, 3, 1)

    def initialise(self) -> None:
        """Set weights with which it begins: no centres, offsets near 0."""
        nn.init.kaiming_normal_(self.spread[0].weight, nonlinearity="linear")  # type: ignore[arg-type]
        nn.init.normal_(self.maps.weight, std=0.01)
        nn.init.zeros_(self.maps.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.maps.bias[0] = math.log(CENTRE_PRIOR / (1 - CENTRE_PRIOR))  # type: ignore[index]

    def forward(self, x_BCHW: Tensor) -> InstanceMaps:
        """Return the maps at the size of the features."""
        maps_B3HW = self.maps(self.mix(self.spread(x_BCHW)))
        return InstanceMaps(maps_B3HW[:, :1], maps_B3HW[:, 1:] * OFFSET_SCALE_PX)


class PyramidSegmenter(SegmentationNetwork):
    """Base of segmenters that see strides 32, 16, 8 and 4 and answer at stride 4.

    A subclass builds its encoder, calls ``_add_decoder`` and writes ``encode``.

    Sizes need only be multiples of 8: deeper stages round up, and the decoder enlarges by exactly
    two and cuts the rest off, so that cells of all stages stay aligned.
    """

    size_multiple = 8
    output_stride = 4
    added_parts = MappingProxyType(
        {"instance_head": "instances", "memory": "recurrent", "recall": "recurrent"}
    )

    def _add_decoder(
        self, channels: Sequence[int], width: int, dropout: float, *, instances: bool = False
    ) -> None:
        """Add the decoder.

        Args:
            channels: of the encoder's features at strides 32, 16, 8 and 4.
            width: channels of the decoder.
            dropout: share of its channels that training silences.
            instances: whether there is an instance head.
        """
        self.laterals = nn.ModuleList(ConvNorm(c, width, 1, relu=False) for c in channels)
        self.smooth = nn.ModuleList(ConvNorm(width, width) for _ in range(2))
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(width, self.num_classes, 1)
        self.has_instances = instances
        if instances:
            self.instance_head = InstanceHead(width)

    def _initialise_heads(self) -> None:
        """Set the weights of the last layers, once the others are drawn."""
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        if self.has_instances:
            self.instance_head.initialise()

    def encode(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the features at strides 32, 16, 8 and 4."""
        raise NotImplementedError

    def fuse(self, features: list[Tensor]) -> Tensor:
        """Return what strides 32, 16 and 8 say together, at stride 8."""
        y_BCHW = F.relu(self.laterals[0](features[0]))
        y_BCHW = F.relu(_enlarge_onto(y_BCHW, self.laterals[1](features[1])))
        joined = F.relu(_enlarge_onto(y_BCHW, self.laterals[2](features[2])))
        fused_BCHW: Tensor = self.smooth[0](joined)
        return fused_BCHW

    def finish(self, fused_BCHW: Tensor, fine_BCHW: Tensor) -> Tensor | NetworkOutput:
        """Return logits at stride 4 from ``fuse`` and the features of stride 4, see ``forward``."""
        y_BCHW = F.relu(_enlarge_onto(fused_BCHW, self.laterals[3](fine_BCHW)))
        y_BCHW = self.smooth[1](y_BCHW)
        logits_BKHW: Tensor = self.head(self.dropout(y_BCHW))
        if not self.has_instances:
            return logits_BKHW
        return NetworkOutput(logits_BKHW, self.instance_head(y_BCHW))

    def decode(self, features: list[Tensor]) -> Tensor | NetworkOutput:
        """Return logits (B, K, H, W) at the size of the last, shallowest features."""
        return self.finish(self.fuse(features), features[3])

    def forward(self, x_BCHW: Tensor) -> Tensor | NetworkOutput:
        """Map (B, in_channels, H, W) to logits (B, num_classes, H / 4, W / 4).

        With an instance head: logits and its maps.
        """
        return self.decode(self.encode(x_BCHW))

    def forward_with_features(self, x_BCHW: Tensor) -> tuple[Tensor | NetworkOutput, Tensor]:
        """Return what ``forward`` returns and the features of stride 16."""
        features = self.encode(x_BCHW)
        return self.decode(features), features[1]


class ConvGru(nn.Module):
    """A gated recurrent unit whose state is an image.

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


class RecurrentPyramid(PyramidSegmenter):
    """A pyramid segmenter with a memory; a subclass calls ``_add_memory`` after the decoder.

    The state sits where strides 32, 16 and 8 are joined: it has seen what the deepest stage saw,
    a thing of 20 pixels still has cells of its own in it, and its size is exactly an eighth of the
    input's. What it remembers is added to the features of the window, through a convolution that
    starts at zero: fresh weights begin as the network without memory.
    """

    state_stride = 8

    def _add_memory(self, width: int, state_channels: int) -> None:
        """Add the memory.

        Args:
            width: channels of the decoder.
            state_channels: of the state.
        """
        self.state_channels = state_channels
        self.memory = ConvGru(width, state_channels)
        self.recall = nn.Conv2d(state_channels, width, 1)
        for layer in (self.memory.inputs, self.memory.gates, self.memory.candidate):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.memory.inputs.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.recall.weight)
        nn.init.zeros_(self.recall.bias)  # type: ignore[arg-type]

    def forward(  # type: ignore[override]
        self, x: Tensor, state_BSHW: Tensor | None = None
    ) -> tuple[Tensor | NetworkOutput, Tensor]:
        """Return logits (B, K, H / 4, W / 4) of the last window, and the state after it.

        With an instance head: a ``NetworkOutput`` in the place of the logits.

        Args:
            x: one window (B, C, H, W), or several in a row (B, T, C, H, W).
            state_BSHW: after the window before, (B, S, H / 8, W / 8); None: nothing was before.
        """
        output, _, state_BSHW = self._roll(x, state_BSHW)
        return output, state_BSHW

    def forward_with_features(self, x: Tensor) -> tuple[Tensor | NetworkOutput, Tensor]:
        """Return the output of the last window and the features of stride 8 with the memory."""
        return self._roll(x, None)[:2]

    def _roll(
        self, x: Tensor, state_BSHW: Tensor | None
    ) -> tuple[Tensor | NetworkOutput, Tensor, Tensor]:
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
