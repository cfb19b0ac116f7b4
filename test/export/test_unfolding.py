"""Batch norms in exported models: there in the file, gone in the session."""

import collections

import numpy as np
import onnx
import onnxruntime
import safetensors.numpy
import torch
from torch import nn

from evdistill_core.export.onnx_model import to_onnx
from evdistill_core.inference.onnx_weights import take_out
from evdistill_core.models.network import SegmentationNetwork, folded_pairs


class Various(SegmentationNetwork):
    """Every way in which a batch norm follows a convolution, and one in which none does."""

    size_multiple, output_stride = 2, 1

    def __init__(self):
        super().__init__(in_channels=3, num_classes=4)
        self.plain = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24, eps=1e-3), nn.ReLU6()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(24, 24, 3, padding=1, groups=24, bias=False), nn.BatchNorm2d(24, eps=1e-3)
        )
        # Folded, its weights are zeros in two shapes, and those of `lonely` are the same bytes.
        self.silent = nn.Sequential(
            nn.Conv2d(24, 12, 1, bias=False),
            nn.BatchNorm2d(12),
            nn.Conv2d(12, 24, 1, bias=False),
            nn.BatchNorm2d(24),
        )
        self.lonely = nn.Conv2d(24, 12, 1)
        self.biased = nn.Conv2d(24, 24, 1)
        self.unlearned = nn.BatchNorm2d(24, affine=False)
        self.alone = nn.BatchNorm2d(24)
        self.head = nn.Conv2d(24, 4, 1)

    def forward(self, x_BCHW):
        x = self.plain(x_BCHW)
        x = torch.relu(x + self.depthwise(self.depthwise(x)))  # the same module twice
        x = x + self.silent(x) + self.lonely(x).mean()
        return self.head(self.alone(torch.relu(self.unlearned(self.biased(x)))))


def counts(model):
    return collections.Counter(node.op_type for node in model.graph.node)


def test_batch_norms_are_stored_as_trained_and_folded_at_load(tmp_path):
    torch.manual_seed(0)
    network = Various()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for _ in range(3):
            network(torch.randn(4, 3, 32, 32) + 0.3)
        for conv, norm in (network.silent[:2], network.silent[2:]):
            conv.weight.abs_()
            norm.weight.zero_()
            norm.bias.zero_()
        network.lonely.weight.zero_()
        network.depthwise[1].bias.zero_()
        network.depthwise[
            1
        ].running_mean.zero_()  # a folded bias of zeros, which the exporter removes
    network.eval()
    assert folded_pairs(network) == [
        ("biased", "unlearned"),
        ("plain.0", "plain.1"),
        ("depthwise.0", "depthwise.1"),
        ("silent.0", "silent.1"),
        ("silent.2", "silent.3"),
    ]
    content = to_onnx(network)
    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert counts(model)["BatchNormalization"] == 7  # twice that of `depthwise`

    # The numbers are those of the state_dict, under its names.
    state = {k: v.numpy() for k, v in network.state_dict().items()}
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    others = {k for k in state if k.endswith("num_batches_tracked")} | {"lonely.weight"}
    for name in state.keys() - others:
        value = stored.get(f"{name}_trained", stored[name])  # the name was taken by `lonely`
        np.testing.assert_array_equal(value, state[name], err_msg=name)
    weights = safetensors.numpy.save(state)
    outside = onnx.load_model_from_string(take_out(content, weights, "w")).graph.initializer
    inside = {t.name for t in outside if not t.external_data and len(t.raw_data) >= 64}
    assert inside == {"unlearned.weight"}  # ones, not trained

    # ONNX Runtime folds what follows a convolution and computes the same.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    assert counts(onnx.load(tmp_path / "optimised.onnx"))["BatchNormalization"] <= 1
    x = torch.randn(1, 3, 30, 46)
    with torch.no_grad():
        truth = network(x).numpy()
    np.testing.assert_allclose(session.run(None, {"input": x.numpy()})[0], truth, atol=1e-5)
    assert truth.std() > 0.1


def test_nothing_of_the_machine_is_left_in_the_model():
    class Tiny(SegmentationNetwork):
        size_multiple, output_stride = 1, 1

        def __init__(self):
            super().__init__(in_channels=1, num_classes=2)
            self.head = nn.Conv2d(1, 2, 1)

        def forward(self, x_BCHW):
            return self.head(x_BCHW)

    content = to_onnx(Tiny().eval())
    assert b"pkg.torch" not in content
    assert b".py" not in content
    assert len(content) < 1000
