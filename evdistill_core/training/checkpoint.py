"""Training state <-> checkpoint file.

The file is the one of ``models.checkpoint``: its weights are the averaged ones, which export and
evaluation read; its ``training`` part is everything that a run needs to go on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

from evdistill_core.foundation.config import from_mapping, to_mapping
from evdistill_core.foundation.errors import StudentError
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from evdistill_core.training.config import TrainConfig
from evdistill_core.training.tasks import task_of

T = TypeVar("T")


@dataclass(frozen=True)
class TrainingSnapshot:
    """What a run needs to go on.

    Attributes:
        config: of the run.
        classes: what the logits mean.
        step: steps done; the next batch is this number.
        network: state dict of the trained weights.
        average: averaged weights.
        average_updates: how often they were averaged.
        optimiser: state dict.
        torch_rng: state of torch's CPU generator (drop-out).
        best_score: highest validation score so far, or -1.
        scores: last validation, by set and region.
        device_rng: state of the GPU's generator, empty without one. All processes of a run draw
            alike, so there is one of each.
        scaler: of the gradients in float16, else empty.
        extra: what a stage beyond the student needs: tensors and plain data.
    """

    config: TrainConfig
    classes: ClassTable
    step: int
    network: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    average_updates: int
    optimiser: dict[str, object]
    torch_rng: torch.Tensor
    best_score: float
    scores: dict[str, object]
    device_rng: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    scaler: dict[str, object] = field(default_factory=dict)
    extra: dict[str, object] = field(default_factory=dict)


def save_snapshot(path: Path, snapshot: TrainingSnapshot) -> None:
    """Write a snapshot; a kill leaves the old file or the new one."""
    config = snapshot.config
    training = {
        "config": json.dumps(to_mapping(config)),
        "step": snapshot.step,
        "network": snapshot.network,
        "average_updates": snapshot.average_updates,
        "optimiser": snapshot.optimiser,
        "torch_rng": snapshot.torch_rng,
        "device_rng": snapshot.device_rng,
        "scaler": snapshot.scaler,
        "best_score": snapshot.best_score,
        "scores": json.dumps(snapshot.scores),
        "extra": snapshot.extra,
    }
    save_checkpoint(
        path,
        Checkpoint(
            network=config.checkpoint_network,
            options=config.network.options,
            state_dict=snapshot.average,
            input=config.input,
            classes=snapshot.classes,
            provenance=provenance(snapshot),
            training=training,
        ),
    )


def load_snapshot(path: Path, config_type: type[TrainConfig] = TrainConfig) -> TrainingSnapshot:
    """Read a snapshot (tensors and plain data only; nothing in it is executed).

    Args:
        path: of a checkpoint.
        config_type: configuration of the stage that wrote it.

    Raises:
        StudentError: the file is missing, damaged, no checkpoint, or one without training state.
        ConfigError: its configuration is not one that this version knows.
    """
    checkpoint = load_checkpoint(path)
    training = dict(checkpoint.training)
    try:
        return TrainingSnapshot(
            config=from_mapping(config_type, json.loads(_typed(training["config"], str))),
            classes=checkpoint.classes,
            step=_typed(training["step"], int),
            network=_typed(training["network"], dict),
            average=dict(checkpoint.state_dict),
            average_updates=_typed(training["average_updates"], int),
            optimiser=_typed(training["optimiser"], dict),
            torch_rng=_typed(training["torch_rng"], torch.Tensor),
            best_score=_typed(training["best_score"], float),
            scores=json.loads(_typed(training["scores"], str)),
            device_rng=_typed(training.get("device_rng", torch.empty(0)), torch.Tensor),
            scaler=_typed(training.get("scaler", {}), dict),
            extra=_typed(training.get("extra", {}), dict),
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise StudentError(
            f"{path} holds no training state to go on from ({error}); start a new run with "
            "network.start_from"
        ) from error


def provenance(snapshot: TrainingSnapshot) -> dict[str, object]:
    """Return where the weights come from, as plain data for the student file."""
    config = snapshot.config
    return {
        "name": config.name,
        "trained with": f"evdistill train, {snapshot.step} of {config.steps} steps of "
        f"{config.batch_size} windows, seed {config.seed}",
        "steps": snapshot.step,
        "training data": [f"{_described(source)}." for source in config.data.describe()],
        f"validation ({task_of(config.network.name).score_name})": _short_scores(snapshot.scores),
        "notes": list(config.notes),
        "config": to_mapping(config),
    }


def _described(source: Mapping[str, object]) -> str:
    total = ", ".join(f"{key} {value}" for key, value in source.items())
    return total[0].upper() + total[1:]


def _short_scores(scores: dict[str, object]) -> dict[str, object]:
    short: dict[str, object] = {}
    for name, regions in scores.items():
        known = regions if isinstance(regions, dict) else {}
        near = known.get("near_events")
        score = near.get("miou") if isinstance(near, dict) else known.get("top1")
        short[name] = round(score, 4) if isinstance(score, float) else None
    return short


def _typed(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value
