"""One experiment as a configuration: what ``evdistill train`` reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from evdistill_core.data.build import DataConfig
from evdistill_core.foundation.class_file import Classes, table_of
from evdistill_core.foundation.config import LATER
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import ClassTable, excluded_mask
from evdistill_core.foundation.ranges import check_at_least, check_ranges
from evdistill_core.losses.segmentation import check_names
from evdistill_core.models.registry import network_task
from evdistill_core.representations.spec import InputSpec


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Which network.

    Attributes:
        name: ours, an entry point's, or ``package.module:function``; it decides the task.
        options: options of the network by name.
        pretrained: start of the encoder of ``lite-seg`` and ``lite-cls``: ``imagenet``
            (weights that the extra ``train`` installs), ``none`` (random), or a checkpoint with the
            same encoder, such as the teacher's.
        start_from: checkpoint or student file from which all weights start; empty: random.
    """

    name: str = "onboard-seg"
    options: dict[str, object] = field(default_factory=dict)
    pretrained: str = "none"
    start_from: str = ""

    def __post_init__(self) -> None:
        """Refuse two starts at once."""
        if self.start_from and self.pretrained != "none":
            raise ConfigError(
                "network.start_from sets all weights, the encoder's too: leave pretrained 'none'"
            )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised.

    Attributes:
        weights: loss name to weight.
        class_weights: one weight a class, in the order of the class table; empty: all 1.
        activity_radius_px: pixels with an event in the square of this radius count fully.
        inactive_weight: weight of all other pixels. A fixed camera sees only what moves, so nothing
            can be learnt from a silent pixel, and the live side reports it as unlabelled. A small
            weight above 0 keeps the network from wild guesses there.
        label_stride: losses use every Nth row and column of the labels (segmentation). Scores use
            all of them.
    """

    weights: dict[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})
    class_weights: tuple[float, ...] = ()
    activity_radius_px: int = 3
    inactive_weight: float = 0.1
    label_stride: Literal[1, 2, 4] = 1

    def __post_init__(self) -> None:
        """Refuse names and weights that make no loss."""
        check_names(self.weights)
        check_at_least(self, weights=0, class_weights=0)
        check_ranges(self, inactive_weight=(0, 1), activity_radius_px=(-1, 64))


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """How weights move.

    Attributes:
        name: ``adamw`` or ``sgd`` (Nesterov).
        lr: highest learning rate.
        weight_decay: decay of weights with two or more dimensions; biases and norms have none.
        momentum: momentum of SGD.
        schedule: ``poly``, ``cosine`` or ``constant`` after the warm-up.
        power: exponent of ``poly``.
        warmup_steps: steps of the linear rise from ``lr * warmup_start``.
        warmup_start: share of ``lr`` at step 0.
        clip_norm: largest gradient norm; 0 does not clip.
        ema_decay: decay of the averaged weights, which are evaluated and exported; 0: none.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = 2e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    power: float = 0.9
    warmup_steps: int = 100
    warmup_start: float = 0.01
    clip_norm: float = 5.0
    ema_decay: float = 0.998

    def __post_init__(self) -> None:
        """Refuse values under which nothing would be learnt."""
        check_ranges(
            self,
            lr=(1e-12, 100.0),
            weight_decay=(0.0, 10.0),
            momentum=(0.0, 0.9999),
            power=(0.0, 10.0),
            warmup_steps=(0, 10**9),
            warmup_start=(0.0, 1.0),
            clip_norm=(0.0, 1e9),
            ema_decay=(0.0, 0.999999),
        )


@dataclass(frozen=True, kw_only=True)
class LargerConfig:
    """A trained student of events that another one imitates.

    Attributes:
        student: checkpoint or student file; empty: none. Its input and classes must be those of
            the experiment.
        weight: weight of KL(larger || smaller) beside the supervised losses (stage ``student``; in
            the stage ``distill`` the term ``kd_ensemble`` has the weight).
        temperature: temperature that softens both distributions (stage ``student``).
        instances: weight of the distance of their instance maps, where both have an instance head
            (stage ``student``).
    """

    student: str = ""
    weight: float = 1.0
    temperature: float = 1.0
    instances: float = field(default=1.0, metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        check_ranges(self, weight=(0.0, 1e6), temperature=(1e-3, 1e3), instances=(0.0, 1e6))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that ``evdistill train`` can be told.

    Attributes:
        name: name of the run and of the student file.
        seed: seed of weights, data and drop-out.
        steps: optimiser steps.
        batch_size: windows a step, of all processes together; a multiple of their number.
        classes: a preset (``street6``, ``camvid11``, ``dsec11``, ``cityscapes19``, ``digits``), the
            path or the content of a class file, or a list of names (docs/how-to/classes.md). In a
            YAML file, the path counts from the folder of that file.
        network: the network.
        input: how events become its input; stored in the student file.
        data: windows for training and validation.
        loss: losses and their weights.
        larger: a trained student that this one imitates: a larger one in the stage ``student``, any
            in the term ``kd_ensemble`` of the stage ``distill``.
        optimiser: optimiser and schedule.
        device: ``auto`` takes CUDA where there is one.
        devices: processes on a machine, each with a GPU of its own (or its share of the CPU).
        nodes: machines; with more than one, start it on each (docs/how-to/large-trainings.md).
        precision: ``auto``: bfloat16 on a GPU that has it, else float32. ``bfloat16`` and
            ``float16`` run the network in mixed precision; the latter
            scales the loss so that small gradients do not vanish.
        threads: CPU threads of the network of a process; 0 leaves the library's choice.
        workers: processes that make samples, for each training process; 0: it makes its own.
        validate_every: steps between two validations; 0: only at the end.
        checkpoint_every: steps between two checkpoints.
        tensorboard: also write TensorBoard scalars (needs the tensorboard package).
        notes: lines for the model card: data, licence, limits.
    """

    name: str
    seed: int = 0
    steps: int = 1000
    batch_size: int = 8
    classes: Classes = "six"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    input: InputSpec = field(default_factory=InputSpec)
    data: DataConfig
    loss: LossConfig = field(default_factory=LossConfig)
    larger: LargerConfig = field(default_factory=LargerConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    threads: int = 0
    workers: int = 1
    validate_every: int = 500
    checkpoint_every: int = 200
    tensorboard: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse sizes below 1 and names that make no file name."""
        check_at_least(
            self,
            seed=0,
            steps=1,
            batch_size=1,
            devices=1,
            nodes=1,
            workers=0,
            validate_every=0,
            checkpoint_every=1,
        )
        check_ranges(self, threads=(0, 256))
        if not self.name or any(c in self.name for c in "/\\\0"):
            raise ConfigError(f"name must be usable as a file name, got {self.name!r}")

        table = self.class_table()
        for source in self.data.train:
            if source.is_own_unlabelled and network_task(self.network.name) == "recognition":
                raise ConfigError(
                    f"source {source.name!r}: {source.kind} has labels of pixels, and network "
                    f"{self.network.name} recognises whole windows"
                )
            if source.without is not None:
                excluded_mask(source.without.classes, table, key=f"{source.name}: without.classes")

    def class_table(self) -> ClassTable:
        """Return what the labels mean.

        Raises:
            ConfigError: an unknown set of classes, or names that make no table.
        """
        return table_of(self.classes)

    @property
    def checkpoint_network(self) -> str:
        """What a checkpoint calls its network; not that of a student where it is none."""
        return self.network.name
