"""Schedules by hand, averaged weights by a slow loop, parameter groups."""

import math

import pytest
import torch

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.training.config import OptimiserConfig
from evdistill_core.training.optimisation import (
    AveragedWeights,
    learning_rate,
    make_optimiser,
    swapped_weights,
)


def small_network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))


@pytest.mark.parametrize("schedule", ["poly", "cosine", "constant"])
def test_warm_up_is_a_line(schedule):
    config = OptimiserConfig(lr=2.0, schedule=schedule, warmup_steps=10, warmup_start=0.1)
    assert learning_rate(config, 0, 100) == pytest.approx(0.2)
    assert learning_rate(config, 5, 100) == pytest.approx(1.1)
    assert learning_rate(config, 10, 100) == pytest.approx(2.0)


def test_decay_by_hand():
    poly = OptimiserConfig(lr=1.0, schedule="poly", power=2.0, warmup_steps=0)
    assert learning_rate(poly, 30, 40) == pytest.approx(0.25**2)
    cosine = OptimiserConfig(lr=1.0, schedule="cosine", warmup_steps=0)
    assert learning_rate(cosine, 10, 40) == pytest.approx(0.5 * (1 + math.sqrt(0.5)))
    constant = OptimiserConfig(lr=1.0, schedule="constant", warmup_steps=0)
    assert learning_rate(constant, 39, 40) == 1.0
    rates = [learning_rate(poly, s, 40) for s in range(40)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0


def test_warm_up_longer_than_the_run_never_divides_by_zero():
    config = OptimiserConfig(warmup_steps=50)
    assert all(learning_rate(config, s, 20) > 0 for s in range(20))


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_norms_and_biases_do_not_decay(name):
    network = small_network()
    optimiser = make_optimiser(network, OptimiserConfig(name=name, weight_decay=0.5))
    decay = {p: g["weight_decay"] for g in optimiser.param_groups for p in g["params"]}
    assert decay[network[0].weight] == 0.5
    assert decay[network[0].bias] == decay[network[1].weight] == 0.0
    assert len(decay) == 4


def test_average_equals_the_slow_recursion():
    network = small_network()
    average = AveragedWeights(network, 0.9)
    expected = network[0].weight.detach().clone()
    for n in range(1, 15):
        with torch.no_grad():
            network[0].weight.add_(0.1 * n)
        network(torch.randn(2, 2, 5, 5))
        average.update(network)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * network[0].weight.detach()
    torch.testing.assert_close(average.weights()["0.weight"], expected)
    assert int(average.weights()["1.num_batches_tracked"]) == 14


def test_no_decay_follows_exactly():
    network = small_network()
    average = AveragedWeights(network, 0.0)
    with torch.no_grad():
        network[0].weight.fill_(3.0)
    average.update(network)
    assert torch.equal(average.weights()["0.weight"], network[0].weight)


def test_swapped_weights_come_back_even_after_an_error():
    network = small_network()
    own = network[0].weight.detach().clone()
    other = {k: torch.zeros_like(v) for k, v in network.state_dict().items()}

    def fail_inside():
        with swapped_weights(network, other):
            assert float(network[0].weight.detach().abs().sum()) == 0.0
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_inside()
    assert torch.equal(network[0].weight, own)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"lr": float("nan")}, {"ema_decay": 1.0}])
def test_bad_values_are_refused(bad):
    with pytest.raises(ConfigError):
        OptimiserConfig(**bad)
