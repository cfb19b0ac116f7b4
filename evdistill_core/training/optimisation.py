"""Learning rate over steps, parameter groups, averaged weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping

import torch

from evdistill_core.training.config import OptimiserConfig


def learning_rate(config: OptimiserConfig, step: int, steps: int) -> float:
    """Return the learning rate of a step.

    Linear warm-up from ``lr * warmup_start``, then ``lr (1 - u)^power`` (poly),
    ``lr (1 + cos pi u) / 2`` (cosine) or ``lr`` (constant), where u runs from 0 at the end of the
    warm-up to 1 at the last step's end.

    Args:
        config: kind and numbers.
        step: 0 .. steps - 1.
        steps: length of the run.
    """
    if step < config.warmup_steps:
        share = step / config.warmup_steps
        return config.lr * (config.warmup_start + (1 - config.warmup_start) * share)
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    if config.schedule == "poly":
        return config.lr * float((1 - done) ** config.power)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * done))
    return config.lr


def make_optimiser(network: torch.nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Return the optimiser; one-dimensional parameters (biases, norms) do not decay."""
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0
        )
    return torch.optim.AdamW(groups, lr=config.lr)


class AveragedWeights:
    """Exponential moving average of a network's weights and buffers.

    The decay starts low, (1 + n) / (10 + n) after n updates, so that the random start is soon
    forgotten. Integer buffers (batch counters) are copied.

    Args:
        network: what is followed.
        decay: 0 follows the network exactly.
    """

    def __init__(self, network: torch.nn.Module, decay: float) -> None:
        self._decay = decay
        self.updates = 0
        self._average = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: torch.nn.Module) -> None:
        """Move the average towards the network."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        decay = decay if self._decay > 0 else 0.0
        floats, sources = [], []
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                floats.append(self._average[name])
                sources.append(value.detach())
            else:
                self._average[name].copy_(value)
        torch._foreach_lerp_(floats, sources, 1 - decay)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the averaged state dict (not a copy)."""
        return self._average

    def load(self, average: Mapping[str, torch.Tensor], updates: int) -> None:
        """Take the averaged weights and their number of updates from a checkpoint."""
        self.updates = updates
        for name, value in average.items():
            self._average[name].copy_(value)


@contextlib.contextmanager
def swapped_weights(
    network: torch.nn.Module, weights: dict[str, torch.Tensor]
) -> Iterator[torch.nn.Module]:
    """Give the network with other weights for a while ."""
    own = {k: v.detach().clone() for k, v in network.state_dict().items()}
    network.load_state_dict(weights)
    try:
        yield network
    finally:
        network.load_state_dict(own)
