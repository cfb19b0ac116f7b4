"""Checkpoints of the authors' release: their ``state_dict`` as a checkpoint of ours.

The release saves the ``state_dict`` of ``DeepLab(backbone='resnet', num_classes=6,
output_stride=16)``; the network `evdistill-2021` has the same keys. Such a file says nothing about
its input, so the input is that of the release: `counts2` (per-polarity counts, each divided by
its maximum in the window, third channel zero) over 50 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from evdistill_core.foundation.errors import StudentError
from evdistill_core.foundation.labels import SIX_CLASSES, ClassTable
from evdistill_core.models.checkpoint import Checkpoint, check_weights, load_tensors
from evdistill_core.models.registry import build_network
from evdistill_core.representations.spec import InputSpec

NETWORK = "evdistill-2021"
RELEASED_INPUT = InputSpec(
    kind="counts2", normalisation="maximum", window_us=50_000, size_multiple=1
)
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "_orig_mod.")  # DataParallel, torch.compile
_HEAD = "decoder.last_conv.8.weight"
# A second classifier that the release can train with; nothing of the published logits needs it.
_TRAINING_ONLY = ("aux_logit.weight",)


def import_released(path: Path, classes: ClassTable | None = None) -> Checkpoint:
    """Read a checkpoint of the authors' release; nothing in it is executed.

    Args:
        path: the ``state_dict`` itself, or a dictionary that holds it under "state_dict"; keys may
            carry the prefix "module.".
        classes: what the outputs mean; None: the paper's six classes.

    Raises:
        StudentError: damaged, not such a ``state_dict``, its keys or shapes are not those of the
            release, or its number of classes differs from the table's.
    """
    state = unwrap(load_tensors(path), path)
    if _HEAD not in state or state[_HEAD].dim() != 4:
        raise StudentError(
            f"{path} is no checkpoint of the authors' DeepLab: key {_HEAD} is missing; it holds "
            f"{', '.join(list(state)[:4])} ... A checkpoint of `evdistill train` becomes a student "
            "by `evdistill export`"
        )
    table = classes or SIX_CLASSES
    outputs = state[_HEAD].shape[0]
    if outputs != len(table):
        raise StudentError(
            f"{path} has {outputs} classes, the class table has {len(table)} "
            f"({', '.join(table.names)}); give the right one with --classes FILE"
        )
    with torch.device("meta"):  # shapes without memory
        network = build_network(NETWORK, in_channels=RELEASED_INPUT.channels, num_classes=outputs)
    check_weights(network, state, str(path))
    return Checkpoint(
        network=NETWORK,
        options={},
        state_dict=state,
        input=RELEASED_INPUT,
        classes=table,
        provenance={"imported_from": path.name, "architecture": "DeepLabV3+ ResNet-101"},
    )


def unwrap(content: object, path: Path) -> Mapping[str, Tensor]:
    """Return the bare ``state_dict``: wrappers, prefixes and training-only weights taken off.

    Raises:
        StudentError: there is no dictionary of tensors inside.
    """
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise StudentError(
            f"{path} holds {type(content).__name__}, not a state_dict; save it with "
            "torch.save(model.state_dict(), path)"
        )
    state: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise StudentError(
                f"{path} is no state_dict: {key!r} is {type(value).__name__}, not a tensor"
            )
        name = str(key)
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        if name not in _TRAINING_ONLY:
            state[name] = value
    return state
