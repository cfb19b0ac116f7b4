"""A small student with random weights, written once per test session."""

from pathlib import Path

import torch

from evdistill_core.export.student import export_student
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.models.checkpoint import Checkpoint
from evdistill_core.models.registry import build_network
from evdistill_core.representations.spec import InputSpec


def random_checkpoint(*, recurrent: bool = False, instances: bool = False, **changes) -> Checkpoint:
    """A narrow `onboard-seg` whose batch norms have seen data."""
    torch.manual_seed(0)
    options = {"width": 0.25}
    options |= {"recurrent": True} if recurrent else {}
    options |= {"instances": True} if instances else {}
    network = build_network("onboard-seg", options, in_channels=3, num_classes=6)
    torch.nn.init.normal_(network.head.weight, std=0.5)
    if recurrent:
        torch.nn.init.normal_(network.recall.weight, std=0.5)
    if instances:
        torch.nn.init.normal_(network.instance_head.maps.weight, std=0.5)
    network.train()
    with torch.no_grad():
        for _ in range(5):
            network(torch.randn(2, 3, 32, 64) + 0.3)
    values = {
        "network": "onboard-seg",
        "options": options,
        "state_dict": network.state_dict(),
        "input": InputSpec(bins=3, size_multiple=8),
        "classes": SIX_CLASSES,
        "provenance": {"trained_on": "random numbers", "licence": "Apache-2.0"},
    }
    return Checkpoint(**{**values, **changes})


def write_random_student(path: Path, *, recurrent: bool = False) -> None:
    """Export it to a student file."""
    export_student(random_checkpoint(recurrent=recurrent), path)
