"""What every network promises, and what can be done to any of them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils.fusion import fuse_conv_bn_eval

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.models.task_name import TaskName

M = TypeVar("M", bound=nn.Module)


class InstanceMaps(NamedTuple):
    """What an instance head says, at the size of the logits.

    Attributes:
        centre: (B, 1, h, w) logits; their sigmoid is 1 at the centre of a thing.
        offset_px: (B, 2, h, w), x first: from a cell to the centre of its thing, in pixels of the
            network's input.
    """

    centre: torch.Tensor
    offset_px: torch.Tensor


class NetworkOutput(NamedTuple):
    """What a network says of a window.

    Attributes:
        logits: of the classes, (B, K, h, w), or (B, K) of recognition.
        instances: of networks with an instance head.
    """

    logits: torch.Tensor
    instances: InstanceMaps | None = None


class Seen(NamedTuple):
    """What a network says of a window, and a feature map behind it.

    Attributes:
        logits: see ``NetworkOutput``.
        features: (B, C, h, w), sizes are the network's own; None where a teacher has none.
        instances: of networks with an instance head.
    """

    logits: torch.Tensor
    features: torch.Tensor | None
    instances: InstanceMaps | None = None


def initialise_convolutions(network: nn.Module) -> None:
    """Draw the weights of all convolutions of a network, as He et al. (2015) do before a ReLU."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class StudentNetwork(nn.Module):
    """Base of all networks; derive from the one of your task, below.

    Write ``forward_with_features``, or ``forward`` alone where nothing is distilled with affinity.

    Attributes:
        task: what it is for.
        in_channels: channels of the input.
        num_classes: channels of the logits.
        size_multiple: H and W must be multiples of this.
        output_stride: s, input cells per logit and axis.
        state_channels: channels of the state; 0: there is none.
        state_stride: input cells per cell of the state and axis.
        has_instances: whether it has an instance head: ``forward`` then gives a ``NetworkOutput``
            where others give logits.
        added_parts: option by the name of the module that it adds. Weights of a network without it
            can be the start of one that has it (``checkpoint.start_weights``).
        folds_batch_norm: whether ``fold_batch_norm`` may look for batch norms after convolutions.
    """

    task: TaskName
    size_multiple: int
    output_stride: int
    state_channels: int = 0
    state_stride: int = 0
    has_instances: bool = False
    added_parts: Mapping[str, str] = MappingProxyType({})
    folds_batch_norm: bool = True

    def __init__(self, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.num_classes = num_classes

    def forward_with_features(
        self, x_BCHW: torch.Tensor
    ) -> tuple[torch.Tensor | NetworkOutput, torch.Tensor]:
        """Return what ``forward`` returns and a deep feature map (B, C, h, w).

        Affinity distillation compares the feature maps of two networks; C, h and w are theirs.
        """
        raise ConfigError(
            f"{type(self).__name__} has no forward_with_features, which distillation needs: return "
            "the logits and a deep feature map (docs/how-to/extending.md)"
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor | NetworkOutput:
        """Map (B, in_channels, H, W) to logits."""
        return self.forward_with_features(x_BCHW)[0]


class SegmentationNetwork(StudentNetwork):
    """Base of the segmentation networks: logits (B, num_classes, H / s, W / s).

    A recurrent one (``state_channels`` above 0) maps a window and the state after the window
    before to (logits, state): see ``output_of`` and ``zero_state``. One with an instance head
    (``has_instances``) gives a ``NetworkOutput`` in the place of its logits.
    """

    task: TaskName = "segmentation"


class ClassificationNetwork(StudentNetwork):
    """Base of the recognition networks: one set of logits a window, (B, num_classes)."""

    task: TaskName = "recognition"
    output_stride: int = 1


def output_of(
    network: nn.Module, x: torch.Tensor, weights: dict[str, torch.Tensor] | None = None
) -> NetworkOutput:
    """Return what a network says of the last window of a sequence, recurrent or not.

    Args:
        network: a ``StudentNetwork``.
        x: (B, C, H, W) single windows, or (B, T, C, H, W) windows in a row: a recurrent network is
            rolled over them from the zero state, another one sees the last.
        weights: by name, to be used instead of the network's own.

    Returns:
        What ``forward`` of the network gives, without the state.
    """
    run = network if weights is None else partial(functional_call, network, weights)
    if network.state_channels:
        given, _ = run(x)
    else:
        given = run(x[:, -1] if x.ndim == 5 else x)
    return given if isinstance(given, NetworkOutput) else NetworkOutput(given)


def logits_of(
    network: nn.Module, x: torch.Tensor, weights: dict[str, torch.Tensor] | None = None
) -> torch.Tensor:
    """Return the logits alone; see ``output_of``."""
    return output_of(network, x, weights).logits


def seen_by(network: StudentNetwork, x: torch.Tensor) -> Seen:
    """Return output and features of the last window; see ``output_of``."""
    if x.ndim == 5 and not network.state_channels:
        x = x[:, -1]
    given, features = network.forward_with_features(x)
    output = given if isinstance(given, NetworkOutput) else NetworkOutput(given)
    return Seen(output.logits, features, output.instances)


def zero_state(network: StudentNetwork, x_BCHW: torch.Tensor) -> torch.Tensor:
    """Return the state before the first window of a stream, (B, S, H / stride, W / stride)."""
    batch, _, height, width = x_BCHW.shape
    stride = network.state_stride
    return x_BCHW.new_zeros(batch, network.state_channels, height // stride, width // stride)


def parameter_count(network: nn.Module) -> int:
    """Return the number of learned values (batch-norm statistics are not among them)."""
    return sum(p.numel() for p in network.parameters())


def fold_batch_norm(network: M) -> M:
    """Return a copy in evaluation mode whose batch norms are part of the convolutions before them.

    A batch norm belongs to the convolution registered directly before it in the same module.
    Inference then costs no extra pass over the feature maps. Other batch norms stay. A network that
    registers them in another order than it calls them says ``folds_batch_norm = False``; export
    notices where it does not.

    Args:
        network: any module; not modified.
    """
    folded = copy.deepcopy(network).eval()
    for conv_name, norm_name in folded_pairs(network):
        conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        # Registered under its old name, so that Sequential and attributes both find it.
        _replace(folded, conv_name, fuse_conv_bn_eval(conv, norm))
        _replace(folded, norm_name, nn.Identity())
    for parameter in folded.parameters():
        parameter.requires_grad_(False)
    return folded


def folded_pairs(network: nn.Module) -> list[tuple[str, str]]:
    """Return the names of each convolution and batch norm that ``fold_batch_norm`` makes one.

    Args:
        network: any module, not folded yet; names are those of ``named_modules``.
    """
    pairs: list[tuple[str, str]] = []
    if not getattr(network, "folds_batch_norm", True):
        return pairs
    for prefix, module in network.named_modules():
        children = [
            (f"{prefix}.{name}" if prefix else name, m) for name, m in module.named_children()
        ]
        for (conv_name, conv), (norm_name, norm) in itertools.pairwise(children):
            if (
                isinstance(norm, nn.BatchNorm2d)
                and isinstance(conv, nn.Conv2d)
                and conv.out_channels == norm.num_features
            ):
                pairs.append((conv_name, norm_name))
    return pairs


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)


def check_input(network: StudentNetwork, shape: torch.Size | tuple[int, ...]) -> None:
    """Refuse an input that the network cannot take.

    Raises:
        ValueError: not (B, in_channels, H, W), or H or W no multiple of ``size_multiple``.
    """
    multiple = network.size_multiple
    if len(shape) != 4 or shape[1] != network.in_channels:
        raise ValueError(f"input must be (B, {network.in_channels}, H, W), got {tuple(shape)}")
    if shape[2] % multiple or shape[3] % multiple or min(shape[2:]) < multiple:
        raise ValueError(
            f"height and width must be multiples of {multiple}, got {shape[2]}x{shape[3]}; "
            "InputSpec.size_multiple pads windows to it"
        )
