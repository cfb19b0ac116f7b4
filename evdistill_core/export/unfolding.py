"""Batch norms put back into an ONNX model, so that its weights are those that were trained.

A batch norm folded into the convolution before it leaves other numbers than the trained ones, which
would have to be stored beside them. ONNX Runtime folds batch norms itself when it loads a model, so
a model that has them runs as fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from evdistill_core.models.network import folded_pairs

if TYPE_CHECKING:
    import onnx


def unfold_batch_norm(model: onnx.ModelProto, network: nn.Module, folded: nn.Module) -> None:
    """Replace each folded convolution by the trained convolution and its batch norm.

    A convolution is recognised by its folded weight and bias, bit for bit: the exporter gives equal
    tensors one name. Others stay as they are.

    Args:
        model: ONNX model of ``folded``; changed in place. The new tensors have the names that they
            have in the ``state_dict`` of ``network``.
        network: as trained, on the CPU.
        folded: what ``fold_batch_norm`` made of it.
    """
    pairs = {}
    for conv_name, norm_name in folded_pairs(network):
        conv = folded.get_submodule(conv_name)
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None  # folding adds one
        # The exporter removes a bias that is zero everywhere.
        bias = _raw(conv.bias) if conv.bias.any() else b""
        pairs[tuple(conv.weight.shape), _raw(conv.weight), bias] = (conv_name, norm_name)
    graph = model.graph
    shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    content = {t.name: t.raw_data for t in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    added: dict[str, torch.Tensor] = {}
    for node in graph.node:
        nodes.append(node)
        if node.op_type == "Conv":
            weight, bias = [*node.input[1:], ""][:2]
            pair = pairs.get(
                (shapes.get(weight, ()), content.get(weight, b""), content.get(bias, b""))
            )
            if pair is not None:
                nodes.append(_split(node, network, *pair, added))
    used = {name for node in nodes for name in node.input} - added.keys()
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    for field, values in (("node", nodes), ("initializer", kept + _tensors(added))):
        graph.ClearField(field)
        getattr(graph, field).extend(values)


def _split(
    node: onnx.NodeProto,
    network: nn.Module,
    conv_name: str,
    norm_name: str,
    added: dict[str, torch.Tensor],
) -> onnx.NodeProto:
    """Make a folded ``node`` the trained convolution; return the batch norm that follows it."""
    import onnx  # noqa: PLC0415 - not on the robot

    conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    ones = torch.ones(norm.num_features)  # of a batch norm without learned values
    convolved = f"{node.output[0]}_convolved"
    values = {
        "weight": ones if norm.weight is None else norm.weight,
        "bias": 0 * ones if norm.bias is None else norm.bias,
        "running_mean": norm.running_mean,
        "running_var": norm.running_var,
    }
    norm_inputs = {f"{norm_name}.{key}": v for key, v in values.items() if v is not None}
    assert len(norm_inputs) == 4  # folding refuses one without statistics
    conv_inputs = {f"{conv_name}.weight": conv.weight}
    if conv.bias is not None:
        conv_inputs[f"{conv_name}.bias"] = conv.bias
    added.update(conv_inputs | norm_inputs)
    after = onnx.helper.make_node(
        "BatchNormalization",
        [convolved, *norm_inputs],
        [node.output[0]],
        name=f"{node.name}_norm",
        epsilon=norm.eps,
    )
    inputs = [node.input[0], *conv_inputs]
    node.ClearField("input")
    node.input.extend(inputs)
    node.output[0] = convolved
    return after


def _tensors(values: dict[str, torch.Tensor]) -> list[onnx.TensorProto]:
    import onnx  # noqa: PLC0415 - not on the robot

    return [
        onnx.helper.make_tensor(
            name, onnx.TensorProto.FLOAT, list(value.shape), _raw(value), raw=True
        )
        for name, value in values.items()
    ]


def _raw(value: torch.Tensor) -> bytes:
    return value.detach().numpy().astype("<f4").tobytes()
