"""Checkpoints: what training saves, what export and evaluation read.

A checkpoint is what ``torch.save`` makes of this plain dictionary; it is read with
``weights_only=True``, so a file from elsewhere cannot run code::

    {"format": "evdistill-checkpoint", "format_version": 1,
     "network": "onboard-seg", "options": {...}, "state_dict": {...},
     "input": InputSpec.to_mapping(), "classes": ClassTable.to_dict(),
     "provenance": {...},   # plain data: what it was trained on, with what, how it scored
     "training": {...}}     # optimizer, schedule, step, random states; absent in a final one
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from evdistill_core.foundation.errors import ConfigError, PluginError, StudentError
from evdistill_core.foundation.files import atomic_path
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.foundation.suggestions import near_path
from evdistill_core.models.network import StudentNetwork
from evdistill_core.models.registry import build_student, check_network_of_file
from evdistill_core.representations.spec import InputSpec

FORMAT = "evdistill-checkpoint"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network with its weights and everything that is needed to feed it.

    Attributes:
        network: name in ``registry.NETWORKS``, or of a plugin.
        options: the options it was built with, plain data.
        state_dict: its weights and batch-norm statistics, on the CPU.
        input: what it is fed.
        classes: what its output channels mean.
        provenance: plain data (JSON types) about where the weights come from.
        training: what the training loop needs to go on: tensors and plain data; empty: final.
    """

    network: str
    options: Mapping[str, object]
    state_dict: Mapping[str, Tensor]
    input: InputSpec
    classes: ClassTable
    provenance: Mapping[str, object] = field(default_factory=dict)
    training: Mapping[str, object] = field(default_factory=dict)

    def build(self) -> StudentNetwork:
        """Return the network with these weights, in evaluation mode, on the CPU.

        Raises:
            StudentError: the weights do not fit the network.
            ConfigError: the network or its options are unknown.
        """
        network = build_student(
            self.network,
            self.options,
            in_channels=self.input.channels,
            num_classes=len(self.classes),
        )
        check_input_size(self.input, network.size_multiple)
        load_weights(network, self.state_dict, f"checkpoint of {self.network}")
        return network.eval()


def check_input_size(spec: InputSpec, size_multiple: int) -> None:
    """Refuse an input description whose sizes the network cannot take.

    Raises:
        ConfigError: ``size_multiple`` of the description is no multiple of the network's.
    """
    if spec.size_multiple % size_multiple:
        raise ConfigError(
            f"size_multiple of the input must be a multiple of {size_multiple} for this network, "
            f"got {spec.size_multiple}"
        )


def load_weights(network: torch.nn.Module, state_dict: Mapping[str, Tensor], origin: str) -> None:
    """Load weights into a network, all of them and nothing else.

    Args:
        network: changed in place.
        state_dict: key to tensor; ``num_batches_tracked`` may be absent.
        origin: what to call the weights in an error.

    Raises:
        StudentError: see ``check_weights``.
    """
    check_weights(network, state_dict, origin)
    network.load_state_dict(dict(state_dict), strict=False)


def start_weights(
    network: StudentNetwork, state_dict: Mapping[str, Tensor], origin: str
) -> list[str]:
    """Load weights as the start of a training; parts that they lack keep their fresh weights.

    Args:
        network: changed in place.
        state_dict: of the same network, perhaps without the parts that an option adds
            (``StudentNetwork.added_parts``), or with parts that this one does not have.
        origin: what to call the weights in an error.

    Returns:
        Names of the parts that start fresh.

    Raises:
        StudentError: see ``check_weights``; or the weights have an added part, such as an instance
            head, that the network does not have.
    """
    fresh = network.state_dict()
    has = {part: bool(_keys_of(part, fresh)) for part in network.added_parts}
    given = {part: bool(_keys_of(part, state_dict)) for part in network.added_parts}
    for part, option in network.added_parts.items():
        if given[part] and not has[part]:
            raise StudentError(
                f"{origin} has the part {part}, and this network has not: add {option}: true to "
                "network.options"
            )
    lacking = [part for part in network.added_parts if has[part] and not given[part]]
    added = {key: fresh[key] for part in lacking for key in _keys_of(part, fresh)}
    load_weights(network, {**state_dict, **added}, origin)
    return lacking


def _keys_of(part: str, state_dict: Mapping[str, Tensor]) -> list[str]:
    return [key for key in state_dict if key.startswith(f"{part}.")]


def check_weights(network: torch.nn.Module, state_dict: Mapping[str, Tensor], origin: str) -> None:
    """Refuse weights that are not those of this network.

    ``num_batches_tracked`` may be absent: old releases of torch did not write it, and it does not
    enter the logits.

    Args:
        network: on any device, "meta" included; not modified.
        state_dict: key to tensor.
        origin: what to call the weights in an error.

    Raises:
        StudentError: keys are missing or unexpected, shapes differ, or a value is not finite.
    """
    expected = network.state_dict()
    missing = [k for k in expected if k not in state_dict and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state_dict if k not in expected]
    wrong = [
        f"{k} is {_shape(v)}, not {_shape(expected[k])}"
        for k, v in state_dict.items()
        if k in expected and (not isinstance(v, Tensor) or v.shape != expected[k].shape)
    ]
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:4])}{' ...' if len(keys) > 4 else ''}"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("misshapen", wrong))
        if keys
    ]
    if problems:
        raise StudentError(f"the weights of {origin} do not fit the network: {'; '.join(problems)}")
    broken = [
        k for k, v in state_dict.items() if v.is_floating_point() and not torch.isfinite(v).all()
    ]
    if broken:
        raise StudentError(
            f"the weights of {origin} hold values that are not finite, first in {broken[0]}; "
            "the training that wrote them diverged"
        )


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in one step; tensors are moved to the CPU.

    Args:
        path: usually ``*.pt``; an older file is replaced once the new one is whole.
        checkpoint: what to write.
    """
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "network": checkpoint.network,
        "options": dict(checkpoint.options),
        "state_dict": {k: v.detach().cpu() for k, v in checkpoint.state_dict.items()},
        "input": checkpoint.input.to_mapping(),
        "classes": checkpoint.classes.to_dict(),
        "provenance": dict(checkpoint.provenance),
        "training": dict(checkpoint.training),
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of ours; nothing in it is executed.

    Raises:
        StudentError: missing, damaged, or not a checkpoint of this format.
        PluginError: its network or its input is code which nobody allowed.
    """
    content = load_tensors(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise StudentError(
            f"{path} is no evdistill checkpoint; weights of the authors' release are read by "
            "`evdistill import-checkpoint`"
        )
    if content.get("format_version") != FORMAT_VERSION:
        raise StudentError(
            f"{path} has checkpoint format {content.get('format_version')!r}, this version reads "
            f"{FORMAT_VERSION}; use the version of evdistill that wrote it"
        )
    for key, kind in _CONTENT_TYPES.items():
        if not isinstance(content.get(key), kind):
            raise StudentError(f"{path} is damaged: {key} is {type(content.get(key)).__name__}")
    check_network_of_file(content["network"], str(path))
    try:
        spec = InputSpec.from_mapping(content["input"], "input", source=str(path))
        classes = ClassTable.from_dict(content["classes"])
    except PluginError:
        raise
    except ConfigError as error:
        raise StudentError(f"{path} is damaged: {error}") from error
    return Checkpoint(
        network=content["network"],
        options=content["options"],
        state_dict=content["state_dict"],
        input=spec,
        classes=classes,
        provenance=content["provenance"],
        training=content["training"],
    )


# What torch's restricted unpickler raises on bytes that are no pickle at all.
_DAMAGE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)

_CONTENT_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "network": str,
    "options": dict,
    "state_dict": dict,
    "input": dict,
    "classes": (list, dict),
    "provenance": dict,
    "training": dict,
}


def load_tensors(path: Path) -> object:
    """Return what ``torch.save`` wrote, on the CPU: tensors, containers, numbers and text only.

    Raises:
        StudentError: the file is missing, damaged, or holds Python objects (which could run code).
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise StudentError(f"no checkpoint at {path}{near_path(path)}") from error
    except UnpicklingError as error:
        raise StudentError(
            f"{path} is no checkpoint of plain tensors: it is damaged, or it holds Python objects, "
            "which are not loaded because they can run code; save the state_dict alone "
            "(torch.save(model.state_dict(), path))"
        ) from error
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StudentError(f"cannot read checkpoint {path}: {reason}") from error
