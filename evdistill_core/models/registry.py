"""Networks by name, ours and those of plugins.

Importing this module does not import torch: the robot may not have it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast, get_args

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.plugins import Registry
from evdistill_core.models.task_name import TaskName

if TYPE_CHECKING:
    from evdistill_core.models.network import SegmentationNetwork, StudentNetwork

# What checkpoints put before the name of a network that looks at images: no student's name.
IMAGE_PREFIX = "image:"


class NetworkBuilder(Protocol):
    """Makes a network with fresh weights."""

    def __call__(
        self, options: Mapping[str, object], *, in_channels: int, num_classes: int
    ) -> StudentNetwork:
        """Return the network, in training mode, on the CPU."""
        ...


@dataclass(frozen=True)
class NetworkEntry:
    """A network by name.

    Attributes:
        task: what it is for.
        summary: one line for lists and model cards.
        build: makes it; imports torch.
    """

    task: TaskName
    summary: str
    build: NetworkBuilder


def _ours(task: TaskName, module: str, summary: str) -> NetworkEntry:
    """Return the entry of a module of ours that has ``build``; imported when it is built."""

    def build(
        options: Mapping[str, object], *, in_channels: int, num_classes: int
    ) -> StudentNetwork:
        home = importlib.import_module(f"evdistill_core.models.{module}")
        network: StudentNetwork = home.build(
            options, in_channels=in_channels, num_classes=num_classes
        )
        return network

    return NetworkEntry(task, summary, build)


def _guest(name: str, found: object) -> NetworkEntry:
    """Return the entry of what a plugin's name led to: a class, or a function that returns one."""
    if not callable(found):
        raise ConfigError(
            f"network {name!r} is {type(found).__name__}, no class or function that makes a "
            "network (docs/how-to/extending.md)"
        )
    task: TaskName = getattr(found, "task", "segmentation")
    if task not in get_args(TaskName):
        raise ConfigError(
            f"task of network {name!r} must be one of {', '.join(get_args(TaskName))}, got {task!r}"
        )

    def build(
        options: Mapping[str, object], *, in_channels: int, num_classes: int
    ) -> StudentNetwork:
        from evdistill_core.models.guest import build_guest  # noqa: PLC0415 - imports torch

        return build_guest(
            name, found, task, options, in_channels=in_channels, num_classes=num_classes
        )

    lines = (found.__doc__ or "").strip().splitlines()
    return NetworkEntry(task, lines[0] if lines else "a network of the user's own", build)


NETWORKS: Registry[NetworkEntry] = Registry(
    "network",
    "evdistill.networks",
    {
        "onboard-seg": _ours(
            "segmentation",
            "onboard_seg",
            "residual encoder to stride 32, pyramid decoder, logits at stride 4; real time on one "
            "core",
        ),
        "lite-seg": _ours(
            "segmentation",
            "lite_seg",
            "EfficientNet-Lite, also with ImageNet weights, pyramid decoder, logits at stride 4",
        ),
        "evdistill-2021": _ours(
            "segmentation",
            "deeplab_v3plus",
            "DeepLabV3+ with ResNet-101, the student of the paper; loads the authors' checkpoints",
        ),
        "onboard-cls": _ours(
            "recognition",
            "onboard_cls",
            "the stages of onboard-seg and one linear layer; recognition in real time on one core",
        ),
        "lite-cls": _ours(
            "recognition",
            "lite_cls",
            "EfficientNet-Lite, also with ImageNet weights, and one linear layer",
        ),
    },
    _guest,
)


def network_entry(name: str) -> NetworkEntry:
    """Return the entry of a network.

    Raises:
        ConfigError: no network has this name, or it is the name of a teacher.
    """
    if name.startswith(IMAGE_PREFIX):
        raise ConfigError(
            f"{name!r} is a teacher: it looks at images, not at events; train a student from it "
            "(stage: distill)"
        )
    return NETWORKS.get(name)


def network_task(name: str) -> TaskName:
    """Return the end task of a network.

    Raises:
        ConfigError: no network has this name.
    """
    return network_entry(name).task


def check_network_of_file(name: str, source: str) -> None:
    """Refuse the network of a checkpoint or student file that is code which nobody allowed.

    Args:
        name: a student's or a teacher's.
        source: what to call the file in the error.

    Raises:
        PluginError: see ``Registry.check_file_name``.
    """
    NETWORKS.check_file_name(name.removeprefix(IMAGE_PREFIX), source)


def build_student(
    name: str, options: Mapping[str, object] | None = None, *, in_channels: int, num_classes: int
) -> StudentNetwork:
    """Build a network of either task with fresh weights, in training mode, on the CPU.

    Args:
        name: one of ``NETWORKS``, an entry point, or ``package.module:function``.
        options: what the network takes; absent keys take their default.
        in_channels: channels of the input, 1..1024 (``InputSpec.channels``).
        num_classes: classes of the output, 1..255.

    Returns:
        A module that maps (B, in_channels, H, W) float to logits: (B, num_classes, H / s, W / s),
        s its ``output_stride``, or (B, num_classes) of recognition. H and W are multiples of its
        ``size_multiple``.

    Raises:
        ConfigError: an unknown name or option, a value out of range, or a network of a plugin that
            breaks the contract.
    """
    entry = network_entry(name)
    _check_sizes(in_channels, num_classes)
    return entry.build(dict(options or {}), in_channels=in_channels, num_classes=num_classes)


def build_network(
    name: str, options: Mapping[str, object] | None = None, *, in_channels: int, num_classes: int
) -> SegmentationNetwork:
    """Build a segmentation network (see ``build_student``).

    Raises:
        ConfigError: as ``build_student``, or the network is for recognition.
    """
    if network_task(name) != "segmentation":
        others = [n for n, e in NETWORKS.own.items() if e.task == "segmentation"]
        raise ConfigError(
            f"{name!r} recognises, it does not segment; take one of {', '.join(sorted(others))}"
        )
    network = build_student(name, options, in_channels=in_channels, num_classes=num_classes)
    return cast("SegmentationNetwork", network)


def _check_sizes(in_channels: int, num_classes: int) -> None:
    for label, value, high in (
        ("in_channels", in_channels, 1024),
        ("num_classes", num_classes, 255),
    ):
        if not 1 <= value <= high:
            raise ConfigError(f"{label} must lie in 1..{high}, got {value}")
