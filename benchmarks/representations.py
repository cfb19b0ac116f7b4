"""Representations beside a plain copy, np.add.at and torch, on the same events.

Run: python benchmarks/representations.py [--repeats 30] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from evdistill_core.events.array import Events
from evdistill_core.representations import BackgroundFilter, InputSpec, represent
from evdistill_core.representations.voxel import STEPS, steps_per_us

T_END_US = 50_000


def make_events(count: int, height: int, width: int) -> Events:
    """Return events at random places; real events lie closer together and are kinder to caches."""
    rng = np.random.default_rng(0)
    return Events.from_columns(
        rng.integers(0, width, count),
        rng.integers(0, height, count),
        np.sort(rng.integers(0, T_END_US, count)),
        rng.random(count) > 0.5,
        width=width,
        height=height,
    )


def with_add_at(events: Events, spec: InputSpec) -> np.ndarray:
    """Return the bare voxel sums with NumPy's unbuffered add, as most published code does it."""
    grid = spec.grid(height=events.height, width=events.width)
    out = np.zeros(spec.channels * grid.height * grid.width, np.float32)
    cell = events.y.astype(np.int64) * grid.width + events.x
    step = (events.t_us * steps_per_us(spec.bins, T_END_US)).astype(np.int64)
    right = (step % STEPS).astype(np.float32) / STEPS
    index = step // STEPS * grid.height * grid.width + cell
    sign = events.p.astype(np.float32) * 2 - 1
    np.add.at(out, index, sign * (1 - right))
    np.add.at(out, index + grid.height * grid.width, sign * right)
    return out.reshape(spec.shape(height=events.height, width=events.width))


def milliseconds(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Return the least processor time and the median time by the clock."""
    work()
    busy, wall = [], []
    for _ in range(repeats):
        start, start_busy = time.perf_counter(), time.process_time()
        work()
        busy.append((time.process_time() - start_busy) * 1e3)
        wall.append((time.perf_counter() - start) * 1e3)
    return {"cpu_min_ms": round(min(busy), 3), "p50_ms": round(float(np.median(wall)), 3)}


def measure(count: int, height: int, width: int, bins: int, repeats: int) -> dict[str, object]:
    """Return the figures of one size."""
    import torch  # noqa: PLC0415 - the first figures are without torch in the process

    from evdistill_core.representations.on_torch import represent_torch  # noqa: PLC0415

    events = make_events(count, height, width)
    spec = InputSpec(bins=bins, max_pixels=height * width, scale=1.0, clip=1e9)
    plain = represent(events, spec, 0, T_END_US)
    np.testing.assert_allclose(with_add_at(events, spec), plain, atol=1e-3)
    out = np.empty_like(plain)
    columns = (events.x, events.y, events.t_us, events.p)
    filtered = InputSpec(bins=bins, max_pixels=height * width, background_filter=BackgroundFilter())
    counts = InputSpec(kind="counts2", max_pixels=height * width)
    histogram = InputSpec(kind="histogram", bins=bins, max_pixels=height * width)
    surface = InputSpec(kind="time_surface", max_pixels=height * width)
    torch.set_num_threads(1)
    cases: dict[str, Callable[[], object]] = {
        "memcpy of the events": lambda: [c.copy() for c in columns],
        "memcpy of the grid": lambda: np.copyto(out, plain),
        "voxel": lambda: represent(events, spec, 0, T_END_US, out=out),
        "voxel, neighbour filter": lambda: represent(events, filtered, 0, T_END_US, out=out),
        "counts2": lambda: represent(events, counts, 0, T_END_US),
        "histogram": lambda: represent(events, histogram, 0, T_END_US),
        "time_surface": lambda: represent(events, surface, 0, T_END_US),
        "voxel, torch, 1 thread": lambda: represent_torch(events, spec, 0, T_END_US),
    }
    for name, spec_ in (("histogram", histogram), ("time_surface", surface)):
        cases[f"{name}, torch, 1 thread"] = partial(represent_torch, events, spec_, 0, T_END_US)
    results = {name: milliseconds(work, repeats) for name, work in cases.items()}
    results["voxel, np.add.at"] = milliseconds(lambda: with_add_at(events, spec), 3)
    if torch.cuda.is_available():

        def on_cuda() -> None:
            represent_torch(events, spec, 0, T_END_US, device="cuda")
            torch.cuda.synchronize()

        results["voxel, torch, CUDA"] = milliseconds(on_cuda, repeats)
    return {"events": count, "size": f"{width}x{height}", "bins": bins, "results": results}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = [
        measure(*case, options.repeats)
        for case in (
            (1_000_000, 260, 346, 5),
            (1_000_000, 720, 1280, 10),
            (10_000, 260, 346, 5),
        )
    ]
    for part in report:
        print(f"{part['events']:,} events, {part['size']}, {part['bins']} bins")
        for name, figures in part["results"].items():  # type: ignore[attr-defined]
            cpu, wall = figures["cpu_min_ms"], figures["p50_ms"]
            print(f"  {name:26s} processor, least {cpu:8.3f}  clock, median {wall:8.3f} ms")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
