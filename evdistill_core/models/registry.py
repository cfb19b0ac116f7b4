"""Networks by name. Importing this module does not import torch: the robot may not have it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evdistill_core.foundation.errors import ConfigError

if TYPE_CHECKING:
    from evdistill_core.models.network import (
        ClassificationNetwork,
        SegmentationNetwork,
        StudentNetwork,
    )

TaskName = Literal["segmentation", "recognition"]


# What checkpoints put before the name of a network that looks at images: no student's name.
IMAGE_PREFIX = "image:"


@dataclass(frozen=True)
class NetworkEntry:
    """Where a network lives.

    Attributes:
        module: Python module that holds it; it has a function
            ``build(options, *, in_channels, num_classes)``.
        summary: one line for lists and model cards.
    """

    module: str
    summary: str


NETWORKS: Mapping[str, NetworkEntry] = {
    "onboard-seg": NetworkEntry(
        "evdistill_core.models.onboard_seg",
        "residual encoder to stride 32, pyramid decoder, logits at stride 4; real time on one core",
    ),
    "evdistill-2021": NetworkEntry(
        "evdistill_core.models.deeplab_v3plus",
        "DeepLabV3+ with ResNet-101, the student of the paper; loads the authors' checkpoints",
    ),
}

CLASSIFIERS: Mapping[str, NetworkEntry] = {
    "onboard-cls": NetworkEntry(
        "evdistill_core.models.onboard_cls",
        "the stages of onboard-seg and one linear layer; recognition in real time on one core",
    ),
}


def network_entry(name: str) -> NetworkEntry:
    """Return the entry of a network.

    Raises:
        ConfigError: no network has this name.
    """
    entry = NETWORKS.get(name) or CLASSIFIERS.get(name)
    if entry is None and name.startswith(IMAGE_PREFIX):
        raise ConfigError(
            f"{name!r} is a teacher: it looks at images, not at events; train a student from it "
            "(stage: distill)"
        )
    if entry is None:
        known = ", ".join(sorted({**NETWORKS, **CLASSIFIERS}))
        raise ConfigError(f"unknown network {name!r}; known: {known}")
    return entry


def network_task(name: str) -> TaskName:
    """Return the end task of a network.

    Raises:
        ConfigError: no network has this name.
    """
    network_entry(name)
    return "recognition" if name in CLASSIFIERS else "segmentation"


def build_student(
    name: str, options: Mapping[str, object] | None = None, *, in_channels: int, num_classes: int
) -> StudentNetwork:
    """Build a network of either task (see ``build_network`` and ``build_classifier``)."""
    build = build_classifier if network_task(name) == "recognition" else build_network
    return build(name, options, in_channels=in_channels, num_classes=num_classes)


def build_network(
    name: str, options: Mapping[str, object] | None = None, *, in_channels: int, num_classes: int
) -> SegmentationNetwork:
    """Build a network with fresh weights, in training mode, on the CPU.

    Args:
        name: one of ``NETWORKS``.
        options: what the network's options class takes; absent keys take their default.
        in_channels: channels of the input, 1..1024 (``InputSpec.channels``).
        num_classes: classes of the output, 1..255.

    Returns:
        A module that maps (B, in_channels, H, W) float to logits
        (B, num_classes, H / s, W / s), s its ``output_stride``; H and W are multiples of its
        ``size_multiple``.

    Raises:
        ConfigError: an unknown name or option, or a value out of range.
    """
    entry = network_entry(name)
    if name in CLASSIFIERS:
        raise ConfigError(f"{name!r} recognises, it does not segment; take one of {_listed()}")
    _check_sizes(in_channels, num_classes)
    module = importlib.import_module(entry.module)
    network: SegmentationNetwork = module.build(
        dict(options or {}), in_channels=in_channels, num_classes=num_classes
    )
    return network


def build_classifier(
    name: str, options: Mapping[str, object] | None = None, *, in_channels: int, num_classes: int
) -> ClassificationNetwork:
    """Build a recognition network: (B, in_channels, H, W) to logits (B, num_classes).

    Args:
        name: one of ``CLASSIFIERS``.
        options: what the network's options class takes; absent keys take their default.
        in_channels: channels of the input, 1..1024.
        num_classes: classes of the output, 1..255.

    Raises:
        ConfigError: an unknown name or option, or a value out of range.
    """
    entry = CLASSIFIERS.get(name)
    if entry is None:
        raise ConfigError(f"unknown classifier {name!r}; known: {', '.join(sorted(CLASSIFIERS))}")
    _check_sizes(in_channels, num_classes)
    module = importlib.import_module(entry.module)
    network: ClassificationNetwork = module.build(
        dict(options or {}), in_channels=in_channels, num_classes=num_classes
    )
    return network


def _listed() -> str:
    return ", ".join(sorted(NETWORKS))


def _check_sizes(in_channels: int, num_classes: int) -> None:
    for label, value, high in (
        ("in_channels", in_channels, 1024),
        ("num_classes", num_classes, 255),
    ):
        if not 1 <= value <= high:
            raise ConfigError(f"{label} must lie in 1..{high}, got {value}")
