"""A network as an ONNX model with free height and width."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from evdistill_core.export.unfolding import unfold_batch_norm
from evdistill_core.foundation.errors import StudentError
from evdistill_core.models.network import StudentNetwork, fold_batch_norm, zero_state

if TYPE_CHECKING:
    import onnx

OPSET = 18
INPUT_NAME = "input"
OUTPUT_NAME = "logits"
INSTANCE_NAMES = ("centre", "offset_px")
STATE_NAMES = ("state", "state_out")


def to_onnx(network: StudentNetwork) -> bytes:
    """Return the ONNX model of a network in evaluation mode.

    Args:
        network: as trained, on the CPU, fp32. Not modified.

    Returns:
        Serialized model: ``input`` (1, C, H, W) to ``logits`` (1, K, H / s, W / s), H and W any
        multiples of ``network.size_multiple``. Recognition: ``logits`` (1, K). Weights are inside,
        with the numbers of the ``state_dict``: batch norms are not folded.
        A network with an instance head also gives ``centre`` (1, 1, H / s, W / s) and ``offset_px``
        (1, 2, H / s, W / s), see ``models.network.InstanceMaps``.
        A recurrent network also takes ``state`` (1, S, H / r, W / r), zeros at the start of a
        stream, and gives ``state_out``, the state for the next window.

    Raises:
        StudentError: torch cannot express the network in ONNX.
    """
    multiple = network.size_multiple
    # The traced size is none of the special ones (no power of two, height unlike width).
    height, width = (-(-n // multiple) * multiple for n in (104, 136))
    example = torch.zeros(1, network.in_channels, height, width)
    low, high = max(1, -(-32 // multiple)), max(1, 8192 // multiple)
    cells = [torch.export.Dim(name, min=low, max=high) for name in ("h", "w")]
    inputs: tuple[torch.Tensor, ...] = (example,)
    shapes: tuple[dict[int, Any], ...] = (_sizes(cells, multiple),)
    taken, given = [INPUT_NAME], [OUTPUT_NAME]
    if getattr(network, "has_instances", False):
        given += INSTANCE_NAMES
    if getattr(network, "state_channels", 0):
        inputs += (zero_state(network, example),)
        shapes += (_sizes(cells, multiple // network.state_stride),)
        taken.append(STATE_NAMES[0])
        given.append(STATE_NAMES[1])
    folded = fold_batch_norm(network)
    with _quiet():
        try:
            program = torch.onnx.export(
                folded,
                inputs,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=taken,
                output_names=given,
                opset_version=OPSET,
                verbose=False,
            )
        except (torch.onnx.OnnxExporterError, torch._dynamo.exc.UserError) as error:
            reason = str(error).splitlines()[0]
            raise StudentError(f"torch cannot export this network to ONNX: {reason}") from error
    if program is None:
        raise StudentError("torch cannot export this network to ONNX")
    model = program.model_proto
    unfold_batch_norm(model, network, folded)
    _strip(model)
    content: bytes = model.SerializeToString()
    return content


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes on where each operation came from: 100 kB, paths among them."""
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info)
    for part in (graph, *graph.node, *graph.initializer, *values):
        part.ClearField("doc_string")
        if "metadata_props" in part.DESCRIPTOR.fields_by_name:  # onnx 1.16 and later
            part.ClearField("metadata_props")


def _sizes(cells: list[Any], factor: int) -> dict[int, Any]:
    return {2 + i: cell * factor if factor > 1 else cell for i, cell in enumerate(cells)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks on its own inner workings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
