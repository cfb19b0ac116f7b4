"""How long a window takes after the network: grouping into instances, components, tracking.

    python benchmarks/tracking.py [--windows 200] [--things 1 10 100] [--json FILE]

Things of 20 to 60 pixels (smaller where they would not fit) drive through the image at up to 200
px/s and turn at its edges. Each is missed in one window of ten, and the boxes jitter by two
pixels. Class logits, centres and offsets are drawn from the true things at stride 4; every
pixel of a thing has events. Timed is the CPU time of the one thread that works, so that other
programs on the machine hardly count. A copy of one (H, W) float32 image is timed beside it, in the
same run. A short run, which compiles or loads the kernels, comes before.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from evdistill_core.inference.grouping import GroupingConfig, group
from evdistill_core.inference.postprocess import (
    PostprocessConfig,
    detections_of,
    find_components,
    segment,
)
from evdistill_core.inference.prediction import Detection, InstanceOutput
from evdistill_core.inference.tracking import Tracker

SIZES = ((346, 260), (640, 480), (1280, 720))
WINDOW_US = 50_000
STRIDE = 4
VEHICLE, CLASSES = 5, 6
STAGES = ("group", "components", "track", "group+track", "copy")


def places_of(things: int, count: int, size: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    """Return (things, 4) boxes xyxy of each window, as float64."""
    rng = np.random.default_rng(seed)
    limits = np.array(size)
    largest = min(60.0, 0.8 * float(np.sqrt(limits.prod() / things)))
    sides = rng.uniform(largest / 3, largest, (things, 2))
    place, speed = rng.random((things, 2)) * limits, rng.uniform(-200, 200, (things, 2))
    found = []
    for _ in range(count):
        place = place + speed * WINDOW_US / 1e6
        speed = np.where((place < 0) | (place > limits), -speed, speed)
        found.append(np.concatenate([place - sides / 2, place + sides / 2], axis=1))
    return found


def detections_at(boxes: np.ndarray, rng: np.random.Generator) -> list[Detection]:
    """Return the detections of a window: some missed, all jittered."""
    corners = np.rint(boxes + rng.normal(0, 2, boxes.shape)).astype(int).tolist()
    seen = rng.random(len(boxes)) >= 0.1
    return [
        Detection(5, float(rng.uniform(0.35, 0.9)), (a, b, max(c, a + 1), max(d, b + 1)), 400)
        for (a, b, c, d), is_seen in zip(corners, seen, strict=True)
        if is_seen
    ]


def heads_at(boxes: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, InstanceOutput]:
    """Return what a perfect network would say of these things; later ones are in front."""
    columns, rows = -(-size[0] // STRIDE), -(-size[1] // STRIDE)
    logits = np.zeros((CLASSES, rows, columns), np.float32)
    logits[0] = 4
    heat = np.full((rows, columns), 1e-6)
    offset = np.zeros((2, rows, columns), np.float32)
    v, u = np.mgrid[:rows, :columns]
    for left, top, right, bottom in boxes:
        x, y = (left + right) / 2, (top + bottom) / 2
        cells = (
            slice(max(0, round(top / STRIDE)), max(0, round(bottom / STRIDE))),
            slice(max(0, round(left / STRIDE)), max(0, round(right / STRIDE))),
        )
        logits[VEHICLE][cells] = 12
        offset[0][cells] = x - (u[cells] + 0.5) * STRIDE
        offset[1][cells] = y - (v[cells] + 0.5) * STRIDE
        # A bell of 1.5 cells, drawn as far as it can be seen.
        around = (
            slice(max(0, int(y / STRIDE) - 6), max(0, int(y / STRIDE) + 7)),
            slice(max(0, int(x / STRIDE) - 6), max(0, int(x / STRIDE) + 7)),
        )
        far = (u[around] + 0.5 - x / STRIDE) ** 2 + (v[around] + 0.5 - y / STRIDE) ** 2
        heat[around] = np.maximum(heat[around], np.exp(-far / 4.5))
    heat = np.clip(heat, 1e-6, 1 - 1e-6)
    return logits, InstanceOutput(np.log(heat / (1 - heat)).astype(np.float32), offset)


@contextmanager
def timed(taken_ms: list[float]) -> Iterator[None]:
    """Append the CPU time of the block."""
    started_ns = time.thread_time_ns()
    yield
    taken_ms.append((time.thread_time_ns() - started_ns) / 1e6)


def measure(things: int, count: int, size: tuple[int, int]) -> list[dict[str, object]]:
    """Return one row a stage: milliseconds a window, and its ratio to a copy of an image."""
    rng = np.random.default_rng(1)
    is_thing = (np.arange(256) == VEHICLE).astype(np.uint8)
    config, tracker = PostprocessConfig(), Tracker()
    support = np.ones(size[::-1], np.uint8)
    image = np.ones(size[::-1], np.float32)
    target = np.empty_like(image)
    taken: dict[str, list[float]] = {stage: [] for stage in STAGES}
    instances = []
    for k, boxes in enumerate(places_of(things, count, size)):
        logits, head = heads_at(boxes, size)
        mask, confidence, _ = segment(logits, support, stride=STRIDE)
        with timed(taken["group"]):
            given = group(
                mask, confidence, logits, head, is_thing, stride=STRIDE, cell_px=STRIDE,
                config=GroupingConfig(),
            )  # fmt: skip
            instances.append(len(detections_of(given, config)))
        with timed(taken["components"]):
            find_components(mask, confidence, is_thing, config, np.zeros(mask.shape, np.uint16))
        jittered = detections_at(boxes, rng)
        with timed(taken["track"]):
            tracker.update(
                jittered, t_start_us=k * WINDOW_US, t_end_us=(k + 1) * WINDOW_US, size=size[::-1]
            )
        taken["group+track"].append(taken["group"][-1] + taken["track"][-1])
        with timed(taken["copy"]):
            np.copyto(target, image)
    copy_ms = float(np.median(taken["copy"]))
    rows: list[dict[str, object]] = []
    for stage in STAGES:
        p50, p95, p99 = (float(v) for v in np.percentile(taken[stage], (50, 95, 99)))
        rows.append(
            {
                "size": f"{size[0]}x{size[1]}", "things": things, "stage": stage,
                "instances": float(np.mean(instances)), "p50_ms": p50, "p95_ms": p95,
                "p99_ms": p99, "copies": p50 / copy_ms,
            }
        )  # fmt: skip
    return rows


def main() -> None:
    """Print a table, and write it as JSON if asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--things", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    measure(10, 5, SIZES[0])
    print(f"{platform.processor() or platform.machine()}, {args.windows} windows, one thread")
    print("size      things instances stage         p50 ms   p95 ms   p99 ms   copies")
    rows = []
    for size in SIZES:
        for things in args.things:
            for row in measure(things, args.windows, size):
                rows.append(row)
                print(
                    f"{row['size']:9} {row['things']:6d} {row['instances']:9.1f} "
                    f"{row['stage']:12}{row['p50_ms']:8.2f} {row['p95_ms']:8.2f} "
                    f"{row['p99_ms']:8.2f} {row['copies']:8.1f}",
                    flush=True,
                )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
