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
    matched: dict[str, tuple[str, str]] = {}  # by output, of which every operation has its own
    for node in graph.node:
        if node.op_type == "Conv":
            weight, bias = [*node.input[1:], ""][:2]
            key = (shapes.get(weight, ()), content.get(weight, b""), content.get(bias, b""))
            if key in pairs:
                matched[node.output[0]] = pairs[key]
    used = {name for n in graph.node if n.output[0] not in matched for name in n.input}
    folded_names = {name for n in graph.node if n.output[0] in matched for name in n.input[1:]}
    kept = [t for t in graph.initializer if t.name in used or t.name not in folded_names]
    nodes: list[onnx.NodeProto] = []
    added: dict[str, torch.Tensor] = {}
    taken = {t.name for t in kept}
    for node in graph.node:
        nodes.append(node)
        if node.output[0] in matched:
            nodes.append(_split(node, network, matched[node.output[0]], added, taken))
    for field, values in (("node", nodes), ("initializer", kept + _tensors(added))):
        graph.ClearField(field)
        getattr(graph, field).extend(values)


def _split(
    node: onnx.NodeProto,
    network: nn.Module,
    pair: tuple[str, str],
    added: dict[str, torch.Tensor],
    taken: set[str],
) -> onnx.NodeProto:
    """Make a folded ``node`` the trained convolution; return the batch norm that follows it.

    Args:
        node: changed in place.
        network: as trained.
        pair: names of the convolution and the batch norm in it.
        added: tensors by name; those of both operations are added.
        taken: names of tensors that stay in the model.
    """
    import onnx  # noqa: PLC0415 - not on the robot

    conv_name, norm_name = pair
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

    def named(owner: str, values: dict[str, torch.Tensor | None]) -> dict[str, torch.Tensor]:
        names = ((f"{owner}.{key}", value) for key, value in values.items() if value is not None)
        return {f"{n}_trained" if n in taken else n: value for n, value in names}

    norm_inputs = named(norm_name, values)
    assert len(norm_inputs) == 4  # folding refuses one without statistics
    conv_inputs = named(conv_name, {"weight": conv.weight, "bias": conv.bias})
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
