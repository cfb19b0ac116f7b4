import pytest
import torch
from torch import nn

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.models.network import check_input, fold_batch_norm, parameter_count
from evdistill_core.models.pyramid import _enlarge_onto
from evdistill_core.models.registry import build_network


def make(width=1.0, in_channels=5, num_classes=6):
    torch.manual_seed(0)
    return build_network(
        "onboard-seg", {"width": width}, in_channels=in_channels, num_classes=num_classes
    )


def make_recurrent(width=1.0):
    torch.manual_seed(0)
    options = {"width": width, "recurrent": True}
    return build_network("onboard-seg", options, in_channels=5, num_classes=6)


def test_fresh_weights_begin_as_the_network_without_memory():
    plain, recurrent = make(0.5).eval(), make_recurrent(0.5).eval()
    recurrent.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 3, 5, 40, 56)
    with torch.no_grad():
        torch.testing.assert_close(recurrent(x)[0], plain(x[:, -1]), atol=1e-5, rtol=1e-5)


def test_the_memory_is_small_and_adds_no_name_to_the_plain_network():
    plain, recurrent = make(), make_recurrent()
    assert parameter_count(recurrent) < 1.05 * parameter_count(plain)
    added = set(recurrent.state_dict()) - set(plain.state_dict())
    assert {name.split(".")[0] for name in added} == {"memory", "recall"}
    assert not set(plain.state_dict()) - set(recurrent.state_dict())


def test_the_gradient_reaches_the_first_window_through_the_state():
    network = make_recurrent(0.25)
    torch.nn.init.normal_(network.recall.weight)
    x = torch.randn(1, 4, 5, 32, 32, requires_grad=True)
    logits, state = network.eval()(x)
    assert state.shape == (1, network.state_channels, 4, 4)
    logits.square().sum().backward()
    assert (x.grad.abs().amax((0, 2, 3, 4)) > 0).all()


def unsettle(network):
    """Give batch norms statistics and gains that are not the initial ones."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
    with torch.no_grad():  # fresh heads are nearly silent
        network.head.weight.normal_(0, 0.3, generator=generator)
    return network.eval()


def test_size_of_the_robot_student():
    count = parameter_count(make())
    assert 0.6e6 < count < 0.95e6  # 4 bytes each: the student file stays below 4 MB


@pytest.mark.parametrize(("height", "width"), [(264, 352), (8, 8), (40, 24), (32, 64)])
@pytest.mark.parametrize(("in_channels", "num_classes"), [(5, 6), (3, 11)])
def test_shapes(height, width, in_channels, num_classes):
    network = make(0.25, in_channels, num_classes).eval()
    with torch.no_grad():
        logits = network(torch.zeros(2, in_channels, height, width))
    assert network.output_stride == 4
    assert logits.shape == (2, num_classes, height // 4, width // 4)


def test_batch_equals_single():
    network = unsettle(make(0.5))
    x = torch.randn(3, 5, 72, 104)
    with torch.no_grad():
        together = network(x)
        single = torch.cat([network(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, single, atol=1e-4, rtol=1e-4)


def test_folding_keeps_the_logits_and_the_original():
    network = unsettle(make())
    before = {k: v.clone() for k, v in network.state_dict().items()}
    folded = fold_batch_norm(network)
    x = torch.randn(1, 5, 56, 72)
    with torch.no_grad():
        eager = network(x)
        torch.testing.assert_close(folded(x), eager, atol=1e-4, rtol=1e-4)
    assert eager.std() > 0.1
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_batch_norm_without_its_convolution_stays():
    layers = [nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1)]
    network = nn.Sequential(*layers, nn.BatchNorm2d(5))
    network(torch.randn(8, 3, 8, 8))  # settles the statistics a little
    network.eval()
    folded = fold_batch_norm(network)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(folded(x), network(x), atol=1e-5, rtol=1e-5)
    assert [isinstance(m, nn.BatchNorm2d) for m in folded] == [False, False, True, False, False]


def test_gradients_reach_every_parameter():
    network = unsettle(make(0.5)).train()
    loss = network(torch.randn(2, 5, 64, 64)).square().mean()
    loss.backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_it_learns_to_tell_a_small_object_from_its_surroundings():
    """A 10x10 square of positive events on noise: found again after a few steps."""
    network = make(0.5, in_channels=2, num_classes=2)
    generator = torch.Generator().manual_seed(3)

    def sample():
        x = torch.randn(4, 2, 64, 64, generator=generator) * 0.2
        label = torch.zeros(4, 16, 16, dtype=torch.long)
        for i in range(4):
            row, column = (int(v) * 4 for v in torch.randint(0, 13, (2,), generator=generator))
            x[i, 0, row : row + 12, column : column + 12] += 1
            label[i, row // 4 : row // 4 + 3, column // 4 : column // 4 + 3] = 1
        return x, label

    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    weight = torch.tensor([1.0, 10.0])
    for _ in range(40):
        x, label = sample()
        loss = nn.functional.cross_entropy(network(x), label, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    x, label = sample()
    found = network(x).argmax(1)
    overlap = ((found == 1) & (label == 1)).sum() / ((found == 1) | (label == 1)).sum()
    assert overlap > 0.7


@pytest.mark.parametrize("size", [8, 9])
def test_stages_stay_aligned_also_where_sizes_are_odd(size):
    """Cells that hold their own position, enlarged, hold the position of the finer cells."""
    coarse_size = -(-size // 2)
    centre = torch.arange(coarse_size) * 2 + 0.5  # of a cell of stride 2, in cells of stride 1
    coarse = centre.repeat(coarse_size, 1)[None, None]
    enlarged = _enlarge_onto(coarse, torch.zeros(1, 1, size, size))
    expected = torch.arange(size).float()
    inner = slice(1, 2 * coarse_size - 1)  # the border repeats its outermost cell
    torch.testing.assert_close(enlarged[0, 0, 3, inner], expected[inner])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 9.0}, "width must lie in 0.25..4, got 9.0"),
        ({"dropout": 1.0}, "dropout must lie in"),
        ({"depth": 3}, "unknown key network options.depth"),
        ({"width": "wide"}, "network options.width must be a number"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ConfigError, match=message):
        build_network("onboard-seg", options, in_channels=5, num_classes=6)


def test_check_input():
    network = make(0.25)
    check_input(network, (1, 5, 264, 352))
    with pytest.raises(ValueError, match="multiples of 8, got 260x346"):
        check_input(network, (1, 5, 260, 346))
    with pytest.raises(ValueError, match=r"must be \(B, 5, H, W\)"):
        check_input(network, (1, 3, 264, 352))
