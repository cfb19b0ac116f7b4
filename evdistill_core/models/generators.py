"""Generators of the bidirectional modality reconstruction: event input <-> image.

They exist during training only; no student holds anything of them. Shape letters: B batch,
C channels, H and W the image.

Source:
    That both directions are learnt end to end is EvDistill's [abstract]; the architecture is a
    [choice]: the residual generator of CycleGAN (Zhu et al., ICCV 2017) with instance norm.
    Differs: enlarging by interpolation and a convolution instead of a transposed convolution,
    which leaves a checkerboard; and the head for events, below.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evdistill_core.foundation.config import LATER
from evdistill_core.foundation.ranges import check_ranges
from evdistill_core.models.joined import joined_draw
from evdistill_core.representations.spec import InputSpec

IMAGE_CHANNELS = 1  # grey, -1 .. 1: what an event camera's frames and every labelled set can give
_START_SHARE = 0.2  # of cells that a fresh generator lights: event inputs are mostly empty
_UNBOUNDED_LIMIT = 8.0  # deviations; "nonzero" inputs have no bound of their own


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions:
    """Size of a generator.

    Attributes:
        base_channels: after the first convolution; doubled by every halving of the size.
        halvings: how often height and width are halved before the blocks.
        fold: side of the square of cells that is folded into channels before the first
            convolution and unfolded after the last; 1: none, as in CycleGAN. At full size a
            convolution of few channels moves memory rather than computing: 2 takes a third of the
            time on a CPU.
        blocks: residual blocks in the middle; CycleGAN takes 9 for 256x256, 6 below.
    """

    base_channels: int = 64
    halvings: int = 2
    fold: int = field(default=1, metadata=LATER)
    blocks: int = 9

    def __post_init__(self) -> None:
        """Refuse sizes that are no generator."""
        check_ranges(self, base_channels=(1, 512), halvings=(0, 4), fold=(1, 4), blocks=(0, 32))


class _ConvNorm(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, size, stride, size // 2, padding_mode="reflect", bias=False),
            nn.InstanceNorm2d(outputs, affine=True),
            nn.ReLU(),
        )


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _ConvNorm(channels, channels, 3)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, padding_mode="reflect", bias=False),
            nn.InstanceNorm2d(channels, affine=True),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        moved: Tensor = x_BCHW + self.second(self.first(x_BCHW))
        return moved


def _outer_size(fold: int) -> int:
    """Return the side of the first and last kernels: about 7 cells of the unfolded image."""
    return 7 if fold == 1 else 3


class _Unfolded(nn.Module):
    """The last convolution, and its channels put back in their places."""

    def __init__(self, channels: int, outputs: int, fold: int) -> None:
        super().__init__()
        size = _outer_size(fold)
        self.fold = fold
        self.conv = nn.Conv2d(
            channels, outputs * fold**2, size, 1, size // 2, padding_mode="reflect"
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x_BCHW), self.fold)


class ImageHead(nn.Module):
    """Features -> grey image in -1 .. 1."""

    def __init__(self, options: GeneratorOptions) -> None:
        super().__init__()
        self.last = _Unfolded(options.base_channels, IMAGE_CHANNELS, options.fold)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, 1, H, W), both unfolded."""
        return torch.tanh(self.last(x_BCHW))


class EventHead(nn.Module):
    """Features -> event input: how strong a cell is, and the chance that it is lit at all.

    Signed representations (``voxel``) lie in -limit .. limit, others in 0 .. limit. Channels that
    ``represent`` leaves empty (the third of ``counts2``) stay zero. Whether a cell is lit is drawn
    by its chance, so that what is empty is exactly empty, as in real inputs, and two windows of one
    image differ, as noise does. The gradient reaches the chance as if it had been multiplied
    (straight through); values below half a level become 0 as well.

    Source:
        Ours. A tanh, and a strength times a smooth gate too, light every cell a little: the pitfall
        of image-to-event GANs, and an image has no noise that the events could be made of.
        Straight-through gradient: Bengio et al., 2013.
    """

    def __init__(self, options: GeneratorOptions, spec: InputSpec) -> None:
        super().__init__()
        self.signed = spec.representation.polarity == "signed"
        self.outputs = spec.channels
        self.made = spec.channels - spec.representation.empty_channels
        bounded = {"fixed": spec.clip, "maximum": 1.0, "robust": 1.0, "none": 1.0}
        self.limit = bounded.get(spec.normalisation, _UNBOUNDED_LIMIT)
        self.smallest = 0.5 / 255 if spec.normalisation in ("maximum", "robust") else 1 / 64
        self.last = _Unfolded(options.base_channels, 2 * self.made, options.fold)
        bias = self.last.conv.bias
        assert bias is not None  # made with one above
        gates = bias.data[self.made * options.fold**2 :]
        nn.init.constant_(gates, math.log(_START_SHARE / (1 - _START_SHARE)))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, channels of the input, H, W)."""
        strength, gate = self.last(x_BCHW).split(self.made, 1)
        strength = torch.tanh(strength) if self.signed else torch.sigmoid(strength)
        chance = torch.sigmoid(gate)
        value = self.limit * strength * (_drawn(chance) + chance - chance.detach())
        quiet = value.detach().abs() < self.smallest
        value = value - (value * quiet).detach()
        if self.made == self.outputs:
            return value
        empty = value.new_zeros(len(value), self.outputs - self.made, *value.shape[2:])
        return torch.cat([value, empty], 1)


def _drawn(chance_BCHW: Tensor) -> Tensor:
    """Return 1 with this chance in every cell, else 0; without gradient."""
    shape = chance_BCHW.shape[1:]
    draw_BCHW = joined_draw(lambda n: torch.rand(n, *shape), len(chance_BCHW))
    return (draw_BCHW.to(chance_BCHW.device) < chance_BCHW.detach()).to(chance_BCHW.dtype)


class ResidualGenerator(nn.Module):
    """Halve, transform by residual blocks, enlarge; the head says what comes out.

    Attributes:
        size_multiple: H and W must be multiples of this and at least 4 times it.
    """

    def __init__(self, in_channels: int, options: GeneratorOptions, head: nn.Module) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.size_multiple = options.fold * 2**options.halvings
        widths = [options.base_channels * 2**i for i in range(options.halvings + 1)]
        layers: list[nn.Module] = [
            nn.PixelUnshuffle(options.fold),
            _ConvNorm(in_channels * options.fold**2, widths[0], _outer_size(options.fold)),
        ]
        for previous, current in itertools.pairwise(widths):
            layers.append(_ConvNorm(previous, current, 3, stride=2))
        layers += [_Block(widths[-1]) for _ in range(options.blocks)]
        for previous, current in zip(widths[::-1], widths[-2::-1], strict=False):
            layers.append(nn.Upsample(scale_factor=2.0, mode="nearest"))
            layers.append(_ConvNorm(previous, current, 3))
        self.body = nn.Sequential(*layers)
        self.head = head
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to what the head makes, same H and W.

        Raises:
            ValueError: H or W does not fit ``size_multiple``.
        """
        height, width = x_BCHW.shape[2:]
        multiple = self.size_multiple
        if height % multiple or width % multiple or min(height, width) < 4 * multiple:
            raise ValueError(
                f"a generator needs height and width that are multiples of {multiple} and at "
                f"least {4 * multiple}, got {height}x{width}"
            )
        made: Tensor = self.head(self.body(x_BCHW))
        return made


def event_to_image(spec: InputSpec, options: GeneratorOptions) -> ResidualGenerator:
    """Return G_ei: (B, spec.channels, H, W) event input -> (B, 1, H, W) grey image in -1 .. 1."""
    return ResidualGenerator(spec.channels, options, ImageHead(options))


def image_to_event(spec: InputSpec, options: GeneratorOptions) -> ResidualGenerator:
    """Return G_ie: (B, 1, H, W) grey image in -1 .. 1 -> (B, spec.channels, H, W) event input."""
    return ResidualGenerator(IMAGE_CHANNELS, options, EventHead(options, spec))
