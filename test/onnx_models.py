"""Models of "another library" for tests of ONNX teachers: exported by torch, or written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

FREE = ("batch", 3, "height", "width")


class Segmenter(nn.Module):
    """A few convolutions of rgb images to 19 classes at half the size, and their features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, 1, 1)
        )
        self.head = nn.Conv2d(12, 19, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.relu(self.body(image))
        return 16 * self.head(features), features


class Classifier(nn.Module):
    """Probabilities of five classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 5, 3))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (5 * self.body(image)).mean((2, 3)).softmax(1)


def export_segmenter(path: Path) -> Segmenter:
    """Write a segmenter as its owner would, by torch's exporter, and return it."""
    torch.manual_seed(0)
    model = Segmenter().eval()
    free = torch.export.Dim.DYNAMIC
    torch.onnx.export(
        model,
        (torch.rand(2, 3, 64, 96),),
        path,
        input_names=["image"],
        output_names=["logits", "features"],
        dynamic_shapes=({0: free, 2: free, 3: free},),
        verbose=False,
    )
    return model


def export_classifier(path: Path) -> Classifier:
    """Write a classifier of grey images of 24x24, one at a time, and return it."""
    torch.manual_seed(1)
    model = Classifier().eval()
    torch.onnx.export(model, (torch.rand(1, 1, 24, 24),), path, verbose=False)
    return model


def write_model(
    path: Path,
    nodes: Sequence[tuple[str, Sequence[str], str, Mapping[str, object]]] = (),
    *,
    shape: Sequence[int | str] = FREE,
    dtype: int = TensorProto.FLOAT,
    outputs: Mapping[str, tuple[int, Sequence[int | str | None] | None]] | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
    inputs: Sequence[str] = ("image",),
) -> Path:
    """Write a graph by hand; without nodes it gives back its image.

    Args:
        path: of the file.
        nodes: operator, inputs, output and attributes of each.
        shape: of every input.
        dtype: of every input.
        outputs: type and shape by name.
        constants: by name.
        inputs: their names.
    """
    nodes = nodes or [("Identity", ["image"], "logits", {})]
    outputs = outputs or {"logits": (dtype, None)}
    graph = helper.make_graph(
        [helper.make_node(op, list(given), [made], **more) for op, given, made, more in nodes],
        "test",
        [helper.make_tensor_value_info(name, dtype, list(shape)) for name in inputs],
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in outputs.items()],
        [numpy_helper.from_array(v, n) for n, v in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
