"""What a memory is worth: things that stop moving, seen by students with and without a state.

    python benchmarks/recurrence.py [--steps 400] [--seeds 0 1] [--json FILE]

Bright and dark squares and discs move over a still, textured ground and stop; a window without
motion holds noise alone. Labels name them to the end. Three students of the same size learn the
same simulated spans (six windows of 50 ms): one is rolled over the windows, one sees the last
alone, one sees the span as a single window of 300 ms. Scored on scenes that none has seen: IoU of
both kinds of things, and the share of a thing's pixels that are found, by how many windows it has
stood still; the recurrent one also over twelve windows, twice what it was trained on. No file is
read: all is simulated.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.data.build import DataConfig, SourceConfig
from evdistill_core.data.samples import Sample, seed_of
from evdistill_core.data.simulated import make_sample
from evdistill_core.evaluation.segmentation import predict_mask
from evdistill_core.models.network import parameter_count
from evdistill_core.representations import InputSpec
from evdistill_core.simulation.pixels import PixelArray
from evdistill_core.simulation.sensor import SensorModel
from evdistill_core.training.config import LossConfig, NetworkConfig, OptimiserConfig, TrainConfig
from evdistill_core.training.loop import Trainer

SIZE = 64
WINDOWS, LONG = 6, 12
WINDOW_US, STEP_US = 50_000, 2_500
CLASSES = ("ground", "bright thing", "dark thing")
SPEC = InputSpec(bins=3, window_us=WINDOW_US, size_multiple=8, scale=1.0, clip=3.0)
SENSOR = SensorModel(noise_hz=0.5)
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Thing:
    """A square or disc that moves straight on and stops.

    Attributes:
        label: 1 brighter than the ground, 2 darker.
        is_disc: a disc, or a square.
        place: (column, row) where it stops.
        velocity: px a second until then.
        stop_us: when; after the span: it is still moving at the end.
        still: windows at the end in which it stands still.
        radius: half its size, px.
        contrast: added to the log intensity of the ground.
    """

    label: int
    is_disc: bool
    place: tuple[float, float]
    velocity: tuple[float, float]
    stop_us: float
    still: int
    radius: float
    contrast: float

    def cover(self, t_us: float) -> Array:
        """Return how far every pixel lies inside it, 0..1."""
        rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
        before_s = min(t_us - self.stop_us, 0.0) * 1e-6
        x = columns - (self.place[0] + self.velocity[0] * before_s)
        y = rows - (self.place[1] + self.velocity[1] * before_s)
        far = np.hypot(x, y) if self.is_disc else np.maximum(np.abs(x), np.abs(y))
        return np.clip(self.radius - far + 0.5, 0, 1).astype(np.float32)


def random_thing(rng: np.random.Generator, windows: int) -> Thing:
    """Draw a thing that moves for at least half a window and stands still for 0 .. windows - 1."""
    still = int(rng.integers(windows))
    is_bright = rng.random() < 0.5
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(60, 200)
    moving_us = (windows - still) * WINDOW_US
    return Thing(
        label=2 - int(is_bright),
        is_disc=bool(rng.random() < 0.5),
        place=(float(rng.uniform(10, SIZE - 10)), float(rng.uniform(10, SIZE - 10))),
        velocity=(float(np.cos(angle) * speed), float(np.sin(angle) * speed)),
        stop_us=moving_us - rng.uniform(0, WINDOW_US / 2) if still else float(moving_us),
        still=still,
        radius=float(rng.uniform(6, 11)),
        contrast=float(rng.uniform(0.7, 1.2)) * (1 if is_bright else -1),
    )


class Scenes:
    """Labelled spans by index, kept in memory; the same index always gives the same one."""

    def __init__(self, count: int, spec: InputSpec, windows: int, *, seed: int) -> None:
        self.count, self.spec, self.windows, self.seed = count, spec, windows, seed
        self._kept: dict[int, tuple[Sample, list[Thing]]] = {}

    def __len__(self) -> int:
        """Return how many different ones there are."""
        return self.count

    def sample(self, index: int) -> Sample:
        """Return the sample of this index."""
        return self.scene(index)[0]

    def scene(self, index: int) -> tuple[Sample, list[Thing]]:
        """Return the sample of this index, and the things in it, from back to front."""
        number = index % self.count
        if number not in self._kept:
            self._kept[number] = self._make(np.random.default_rng(seed_of(self.seed, number, 5)))
        return self._kept[number]

    def _make(self, rng: np.random.Generator) -> tuple[Sample, list[Thing]]:
        ground = cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE)), (0, 0), 2.0)
        ground = (0.15 * ground / ground.std()).astype(np.float32)
        things = [random_thing(rng, self.windows) for _ in range(rng.integers(1, 3))]
        pixels = PixelArray(SENSOR, height=SIZE, width=SIZE, rng=rng)
        span_us = self.windows * WINDOW_US
        for t_us in range(0, span_us + 1, STEP_US):
            image = ground.copy()
            for thing in things:
                image += thing.cover(t_us) * np.float32(thing.contrast)
            if t_us == 0:
                pixels.start(image, 0)
            else:
                pixels.advance(image, t_us)
        labels = np.zeros((SIZE, SIZE), np.uint8)
        for thing in things:
            labels[thing.cover(span_us) > 0.5] = thing.label
        return make_sample(pixels.take_events(), labels, self.spec, 0, span_us), things


class Run(Trainer):
    """The trainer of the project on these scenes."""

    scenes: Scenes

    def _build_data(self) -> None:
        self.training, self.validation = self.scenes, {}


@dataclass(frozen=True)
class Row:
    """A student that is compared.

    Attributes:
        name: in the table.
        spec: what it is fed.
        options: of its network.
    """

    name: str
    spec: InputSpec
    options: dict[str, object]


def rows() -> list[Row]:
    """Return the students, of one size and on the same spans."""
    sequence = replace(SPEC, sequence=WINDOWS)
    whole = replace(SPEC, window_us=WINDOWS * WINDOW_US, bins=SPEC.bins * 2)
    return [
        Row("recurrent", sequence, {"width": 0.5, "recurrent": True}),
        Row("last window alone", sequence, {"width": 0.5}),
        Row("one window of 300 ms", whole, {"width": 0.5}),
    ]


def train(row: Row, *, steps: int, seed: int, scenes: int, folder: Path) -> Trainer:
    """Return a trained student; the data comes from ``Scenes``, the configured source is unused."""
    config = TrainConfig(
        name="recurrence",
        seed=seed,
        steps=steps,
        classes=CLASSES,
        network=NetworkConfig(options=row.options),
        input=row.spec,
        data=DataConfig(train=(SourceConfig(name="scenes", folder=Path("scenes")),)),
        loss=LossConfig(
            weights={"cross_entropy": 1.0, "dice": 1.0},
            class_weights=(1.0, 4.0, 4.0),  # a tenth of the pixels are things
            activity_radius_px=-1,
        ),
        optimiser=OptimiserConfig(lr=8e-3, warmup_steps=20, ema_decay=0.98),
        device="cpu",
        threads=1,
        workers=0,
        validate_every=0,
        checkpoint_every=max(1, steps),
    )
    Run.scenes = Scenes(scenes, row.spec, WINDOWS, seed=1000 + seed)
    trainer = Run(config, folder)
    trainer.run()
    return trainer


def score(trainer: Trainer, spec: InputSpec, windows: int, *, count: int) -> dict[str, object]:
    """Return IoU of the things, and the share of their pixels found by windows standing still."""
    scenes = Scenes(count, spec, windows, seed=7)
    overlap, union = np.zeros(3), np.zeros(3)
    found, pixels = np.zeros(windows), np.zeros(windows)
    with trainer.evaluation_weights():
        for index in range(count):
            sample, things = scenes.scene(index)
            mask = predict_mask(trainer.predict(sample.sequence), height=SIZE, width=SIZE)
            for k in range(3):
                overlap[k] += ((mask == k) & (sample.label == k)).sum()
                union[k] += ((mask == k) | (sample.label == k)).sum()
            in_front = np.zeros(mask.shape, bool)
            for thing in reversed(things):
                own = (thing.cover(windows * WINDOW_US) > 0.5) & ~in_front
                in_front |= own
                found[thing.still] += (mask[own] == thing.label).sum()
                pixels[thing.still] += own.sum()
    share = found / np.maximum(pixels, 1)
    return {
        "iou_things": round(float((overlap / union)[1:].mean()), 4),
        "found_by_windows_still": [round(float(s), 3) for s in share],
    }


def measure(*, steps: int, seeds: list[int], scenes: int, count: int) -> list[dict[str, object]]:
    """Return a row of figures for every student and seed."""
    results = []
    for row in rows():
        for seed in seeds:
            began = time.perf_counter()
            with tempfile.TemporaryDirectory(prefix="evdistill-recurrence-") as folder:
                trainer = train(
                    row, steps=steps, seed=seed, scenes=scenes, folder=Path(folder) / "run"
                )
            result: dict[str, object] = {
                "student": row.name,
                "seed": seed,
                "parameters": parameter_count(trainer.state.network),
                "train_s": round(time.perf_counter() - began, 1),
                **score(trainer, row.spec, WINDOWS, count=count),
            }
            if row.spec.sequence > 1:
                long = replace(row.spec, sequence=LONG)
                result["twelve_windows"] = score(trainer, long, LONG, count=count)
            results.append(result)
            print(json.dumps(result), flush=True)
    return results


def main() -> None:
    """Run, print a line a row, and keep them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--scenes", type=int, default=300, help="different training scenes")
    parser.add_argument("--count", type=int, default=150, help="scenes that are scored")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results = measure(steps=given.steps, seeds=given.seeds, scenes=given.scenes, count=given.count)
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
