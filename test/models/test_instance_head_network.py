"""The option ``instances`` of our segmenters."""

import numpy as np
import pytest
import torch

from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.models.checkpoint import start_weights
from evdistill_core.models.network import (
    NetworkOutput,
    SegmentationNetwork,
    fold_batch_norm,
    output_of,
    parameter_count,
    seen_by,
)
from evdistill_core.models.pyramid import OFFSET_SCALE_PX
from evdistill_core.models.registry import build_network

SMALL = {"onboard-seg": {"width": 0.25}, "lite-seg": {"decoder_channels": 16}}


def build(name="onboard-seg", **options):
    torch.manual_seed(0)
    return build_network(name, {**SMALL[name], **options}, in_channels=3, num_classes=6)


def stirred(network):
    """Give batch norms statistics that are not those of the start."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    return network.eval()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("recurrent", [False, True])
def test_maps_have_the_size_of_the_logits(name, recurrent):
    network = build(name, instances=True, recurrent=recurrent).eval()
    x = torch.randn(2, 2, 3, 40, 72)
    with torch.no_grad():
        logits, instances = output_of(network, x)
        seen = seen_by(network, x)
    assert logits.shape == (2, 6, 10, 18)
    assert instances.centre.shape == (2, 1, 10, 18)
    assert instances.offset_px.shape == (2, 2, 10, 18)
    torch.testing.assert_close(seen.logits, logits)
    torch.testing.assert_close(seen.instances.offset_px, instances.offset_px)
    assert seen.features.ndim == 4


@pytest.mark.parametrize("name", SMALL)
def test_the_head_changes_nothing_in_the_logits(name):
    """A network without the option gives what it gave before there was one."""
    plain, network = build(name).eval(), build(name, instances=True).eval()
    start_weights(network, plain.state_dict(), "the plain one")
    x = torch.randn(1, 3, 40, 72)
    with torch.no_grad():
        assert isinstance(plain(x), torch.Tensor)
        torch.testing.assert_close(network(x).logits, plain(x), rtol=0, atol=0)
    head = parameter_count(network) - parameter_count(plain)
    assert 0 < head < 5_000


def test_a_fresh_head_sees_no_centre_and_offsets_near_zero():
    network = stirred(build(instances=True))
    with torch.no_grad():
        _, instances = network(torch.randn(1, 3, 64, 64))
    assert instances.centre.sigmoid().max() < 0.1
    assert 0 < instances.offset_px.abs().max() < OFFSET_SCALE_PX


def test_folded_batch_norms_give_the_same_maps():
    network = stirred(build(instances=True))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        trained, folded = network(x), fold_batch_norm(network)(x)
    assert isinstance(folded, NetworkOutput)
    torch.testing.assert_close(folded.instances.centre, trained.instances.centre)
    torch.testing.assert_close(folded.instances.offset_px, trained.instances.offset_px)


def test_weights_without_a_head_or_a_memory_are_a_start():
    plain = build()
    network = build(instances=True, recurrent=True)
    before = network.state_dict()["instance_head.maps.weight"].clone()
    assert start_weights(network, plain.state_dict(), "plain.pt") == [
        "instance_head",
        "memory",
        "recall",
    ]
    state = network.state_dict()
    torch.testing.assert_close(state["head.weight"], plain.state_dict()["head.weight"])
    torch.testing.assert_close(state["instance_head.maps.weight"], before)
    assert start_weights(network, state, "itself") == []


def test_a_start_with_a_head_is_refused_by_a_network_without():
    with pytest.raises(StudentError, match=r"has the part instance_head.*add instances: true"):
        start_weights(build(), build(instances=True).state_dict(), "heads.pt")


def test_half_a_head_is_no_start():
    state = build(instances=True).state_dict()
    del state["instance_head.maps.bias"]
    with pytest.raises(StudentError, match="1 missing: instance_head"):
        start_weights(build(instances=True), state, "half.pt")


def test_a_network_of_another_width_is_no_start():
    with pytest.raises(StudentError, match="misshapen"):
        start_weights(build(instances=True), build(width=0.5).state_dict(), "wide.pt")


class Headed(SegmentationNetwork):
    """A network of a user with an instance head of its own."""

    size_multiple = 4
    output_stride = 4
    has_instances = True

    def __init__(self, *, in_channels, num_classes, offsets=2):
        super().__init__(in_channels=in_channels, num_classes=num_classes)
        self.maps = torch.nn.Conv2d(in_channels, num_classes + 1 + offsets, 4, 4)

    def forward(self, x):
        maps, k = self.maps(x), self.num_classes
        return NetworkOutput(maps[:, :k], (maps[:, k : k + 1], maps[:, k + 1 :]))


def test_networks_of_users_can_have_a_head():
    network = build_network(f"{__name__}:Headed", {}, in_channels=3, num_classes=6)
    assert output_of(network, torch.zeros(1, 3, 8, 8)).logits.shape == (1, 6, 2, 2)
    with pytest.raises(ConfigError, match=r"promise .*\(1, 1, 16, 24\) and \(1, 2, 16, 24\)"):
        build_network(f"{__name__}:Headed", {"offsets": 1}, in_channels=3, num_classes=6)


def test_a_sum_over_maps_reaches_every_weight_of_the_head():
    network = build(instances=True)
    _, instances = network(torch.randn(2, 3, 32, 32))
    (instances.centre.sum() + instances.offset_px.square().sum()).backward()
    for name, parameter in network.instance_head.named_parameters():
        assert np.isfinite(parameter.grad.numpy()).all(), name
        assert parameter.grad.abs().max() > 0, name
