"""Networks of a user's own: every way to get the contract wrong is one helpful line."""

import sys

import pytest
import torch

from evdistill_core.foundation.errors import ConfigError, PluginError
from evdistill_core.models.network import logits_of
from evdistill_core.models.registry import (
    NETWORKS,
    build_network,
    build_student,
    network_entry,
    network_task,
)

MODULE = '''
import torch
from torch import nn
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.models.network import ClassificationNetwork, SegmentationNetwork

class Seg(SegmentationNetwork):
    """Two convolutions."""
    size_multiple = 8
    output_stride = 4
    def __init__(self, *, in_channels, num_classes, width=4):
        super().__init__(in_channels=in_channels, num_classes=num_classes)
        if width > 64:
            raise ConfigError(f"width must be at most 64, got {width}")
        self.first = nn.Conv2d(in_channels, width, 3, stride=4, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Conv2d(width, num_classes, 1)
    def forward_with_features(self, x):
        features = torch.relu(self.norm(self.first(x)))
        return self.head(features), features

class Cls(ClassificationNetwork):
    size_multiple = 1
    def __init__(self, *, in_channels, num_classes):
        super().__init__(in_channels=in_channels, num_classes=num_classes)
        self.head = nn.Linear(in_channels, num_classes)
    def forward_with_features(self, x):
        return self.head(x.mean((2, 3))), x

class Remembering(Seg):
    state_channels = 2
    state_stride = 4
    def forward(self, x, state=None):
        if x.ndim == 5:
            x = x[:, -1]
        logits = super().forward(x)
        return logits, logits[:, :2]

def seg(*, in_channels, num_classes, **options):
    return Seg(in_channels=in_channels, num_classes=num_classes, **options)

def cls(**sizes):
    return Cls(**sizes)
cls.task = "recognition"

def undeclared_cls(**sizes):
    return Cls(**sizes)

def plain(**sizes):
    return nn.Conv2d(1, 1, 1)

class Bare(SegmentationNetwork):
    def __init__(self, *, in_channels, num_classes):
        nn.Module.__init__(self)

class NoMultiple(SegmentationNetwork):
    output_stride = 4
    def __init__(self, *, in_channels, num_classes):
        super().__init__(in_channels=in_channels, num_classes=num_classes)

class WrongStride(Seg):
    output_stride = 2

class Forgetful(Remembering):
    state_channels = 3

class Failing(Seg):
    def forward(self, x):
        return x.reshape(7, 7)

class Deep(Seg):
    def forward(self, x):
        y = self.first(x)
        return self.first(y)

class Silent(SegmentationNetwork):
    size_multiple = 8
    output_stride = 4

class Odd(Seg):
    task = "detection"

number = 3
'''


@pytest.fixture(autouse=True)
def guests(tmp_path, monkeypatch):
    (tmp_path / "guest_nets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(NETWORKS, "_found", {})
    yield
    sys.modules.pop("guest_nets", None)


def build(name, options=None):
    return build_student(f"guest_nets:{name}", options, in_channels=5, num_classes=6)


def test_a_class_and_a_function_are_networks():
    for name in ("Seg", "seg"):
        network = build(name, {"width": 8})
        assert network.training
        assert not network.norm.num_batches_tracked  # the trial run changed nothing
        assert network(torch.zeros(2, 5, 16, 24)).shape == (2, 6, 4, 6)
    assert network_entry("guest_nets:Seg").summary == "Two convolutions."


def test_the_task_is_that_of_the_class_or_said_by_the_function():
    assert network_task("guest_nets:Seg") == network_task("guest_nets:seg") == "segmentation"
    assert network_task("guest_nets:Cls") == network_task("guest_nets:cls") == "recognition"
    assert build("cls")(torch.zeros(2, 5, 9, 9)).shape == (2, 6)
    with pytest.raises(ConfigError, match="recognises"):
        build_network("guest_nets:Cls", in_channels=5, num_classes=6)


def test_a_recurrent_network_is_one_as_well():
    network = build("Remembering")
    assert logits_of(network, torch.zeros(2, 3, 5, 16, 24)).shape == (2, 6, 4, 6)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("number", {}, "is int, no class or function"),
        ("Odd", {}, "task of network .* must be one of segmentation, recognition, got 'detection'"),
        ("Seg", {"widht": 3}, "cannot be built with widht: 3: TypeError: .*'widht'$"),
        ("Seg", {"width": 99}, "^width must be at most 64, got 99$"),
        ("plain", {}, "is Conv2d: derive it from SegmentationNetwork"),
        ("undeclared_cls", {}, "is Cls: derive it from SegmentationNetwork.*task = 'recognition'"),
        ("Bare", {}, "does not say its in_channels: call super"),
        ("NoMultiple", {}, "needs a class attribute size_multiple.*got None"),
        ("WrongStride", {}, r"maps \(1, 5, 64, 96\) to \(1, 6, 16, 24\), .*\(1, 6, 32, 48\)"),
        ("Forgetful", {}, r"\(1, 2, 16, 24\), but .* and \(1, 3, 16, 24\)"),
        ("Failing", {}, r"fails on an input of \(1, 5, 64, 96\): RuntimeError: .*guest_nets.py, l"),
        ("Deep", {}, r"RuntimeError: .*\(\S*guest_nets.py, line \d+\)$"),
        ("Silent", {}, "Silent has no forward_with_features"),
    ],
)
def test_broken_promises_are_said(name, options, said):
    with pytest.raises(ConfigError, match=said) as caught:
        build(name, options)
    assert "\n" not in str(caught.value)


def test_names_that_lead_nowhere():
    with pytest.raises(PluginError, match=r"guest_nets has no 'seq'; did you mean 'seg'"):
        build("seq")
    with pytest.raises(ConfigError, match="is a teacher"):
        build_student("image:guest_nets:Seg", in_channels=5, num_classes=6)
