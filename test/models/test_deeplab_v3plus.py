import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from reference_deeplab import published_shapes, random_state, reference_forward

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.models.network import fold_batch_norm, parameter_count
from evdistill_core.models.registry import build_network


def build_on_meta():
    with torch.device("meta"):
        return build_network("evdistill-2021", in_channels=3, num_classes=6).eval()


@pytest.fixture(scope="module")
def loaded():
    """A network with random published weights, and these weights."""
    state = random_state(np.random.default_rng(5), published_shapes(6))
    network = build_network("evdistill-2021", in_channels=3, num_classes=6)
    network.load_state_dict(state, strict=True)
    return network.eval(), state


def count_multiply_adds(network, shape):
    """Sum of kernel size times outputs over all convolutions; batch norms are folded away."""
    total = 0

    def count(module, _inputs, output):
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    network(torch.empty(shape, device="meta"))
    return total


def test_keys_and_shapes_are_the_published_ones():
    ours = {key: tuple(value.shape) for key, value in build_on_meta().state_dict().items()}
    assert ours == published_shapes(6)


def test_parameter_count_of_the_release():
    assert parameter_count(build_on_meta()) / 1e6 == pytest.approx(59.34, abs=0.005)


@pytest.mark.parametrize(
    ("height", "width", "giga"), [(200, 346, 24.3), (256, 512, 44.3), (440, 640, 96.3)]
)
def test_multiply_adds_of_the_release(height, width, giga):
    counted = count_multiply_adds(build_on_meta(), (1, 3, height, width))
    assert counted / 1e9 == pytest.approx(giga, abs=0.06)


@pytest.mark.parametrize(("height", "width"), [(65, 97), (50, 86), (32, 48)])
def test_logits_are_those_of_the_reference(loaded, height, width):
    network, state = loaded
    rng = np.random.default_rng(height)
    x = torch.from_numpy(rng.uniform(0, 1, (2, 3, height, width)).astype(np.float32))
    with torch.no_grad():
        ours, reference = network(x), reference_forward(state, x)
    assert ours.shape == (2, 6, height, width)
    assert reference.std() > 0.05  # the comparison would mean nothing on constant logits
    assert (ours - reference).abs().max() / reference.abs().max() < 1e-4


def test_each_architectural_detail_shows_in_the_logits(loaded):
    """The reference would notice a wrong dilation, stride or corner rule: change one and look."""
    network, state = loaded
    x = torch.rand(1, 3, 96, 112, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        right = reference_forward(state, x)
        conv = network.backbone.layer4[2].conv2
        conv.dilation = conv.padding = (2, 2)  # multi-grid forgotten
        wrong = network(x)
        conv.dilation = conv.padding = (8, 8)
    assert (right - wrong).abs().max() / right.abs().max() > 1e-2


def test_folding_keeps_the_logits(loaded):
    network, _ = loaded
    folded = fold_batch_norm(network)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    x = torch.rand(1, 3, 40, 56)
    with torch.no_grad():
        eager, after = network(x), folded(x)
    assert (eager - after).abs().max() / eager.abs().max() < 1e-4


def test_encoder_stride_8_is_finer_and_16_the_default():
    with torch.device("meta"):
        fine = build_network(
            "evdistill-2021", {"encoder_stride": 8}, in_channels=3, num_classes=6
        ).eval()
    deep, low = fine.backbone(torch.empty(1, 3, 64, 96, device="meta"))
    assert deep.shape[2:] == (8, 12)
    assert low.shape[2:] == (16, 24)
    deep, _ = build_on_meta().backbone(torch.empty(1, 3, 64, 96, device="meta"))
    assert deep.shape[2:] == (4, 6)


def test_unknown_stride_is_refused():
    with pytest.raises(ConfigError, match=r"encoder_stride must be .*8.*16.*got 32"):
        build_network("evdistill-2021", {"encoder_stride": 32}, in_channels=3, num_classes=6)
