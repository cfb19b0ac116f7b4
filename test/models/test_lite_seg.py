"""Shapes, memory and gradients of `lite-seg`."""

import pytest
import torch

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.models.network import fold_batch_norm, logits_of, parameter_count, seen_by
from evdistill_core.models.registry import build_network


def make(in_channels=5, num_classes=6, **options):
    torch.manual_seed(0)
    return build_network("lite-seg", options, in_channels=in_channels, num_classes=num_classes)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (8, 8), (40, 24)])
@pytest.mark.parametrize("in_channels", [1, 3, 10])
def test_any_size_and_any_number_of_channels(height, width, in_channels):
    network = make(in_channels, 11).eval()
    with torch.no_grad():
        logits, features = network.forward_with_features(torch.zeros(2, in_channels, height, width))
    assert logits.shape == (2, 11, height // 4, width // 4)
    assert features.shape[:2] == (2, 112)  # stride 16


def test_size_of_the_default_student():
    assert parameter_count(make()) < 3.1e6  # float32 weights below 12.5 MB


def test_gradients_reach_every_parameter():
    network = make()
    torch.nn.init.normal_(network.head.weight)
    network(torch.randn(2, 5, 64, 64)).square().mean().backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_with_memory_it_begins_as_without():
    plain, recurrent = make().eval(), make(recurrent=True).eval()
    recurrent.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 3, 5, 40, 56)
    with torch.no_grad():
        torch.testing.assert_close(recurrent(x)[0], plain(x[:, -1]), atol=1e-5, rtol=1e-5)
        logits, features, _ = seen_by(recurrent, x)
        torch.testing.assert_close(logits, logits_of(recurrent, x))
    assert features.shape == (2, 48, 5, 7)
    assert recurrent.state_stride == 8


def test_folding_keeps_the_logits():
    network = make()
    network(torch.randn(4, 5, 64, 64))  # settles the statistics a little
    torch.nn.init.normal_(network.head.weight)
    network.eval()
    x = torch.randn(1, 5, 56, 72)
    with torch.no_grad():
        torch.testing.assert_close(fold_batch_norm(network)(x), network(x), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoder": "lite4"}, "lite0"),
        ({"decoder_channels": 50}, "multiple of 8, got 50"),
        ({"decoder_channels": 512}, r"decoder_channels must lie in 8\.\.256"),
        ({"dropout": 1.0}, r"dropout must lie in 0\.\.0\.999999, got 1\.0"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(ConfigError, match=words):
        make(**options)
