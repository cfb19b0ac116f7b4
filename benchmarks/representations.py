"""Representations beside a plain copy, np.add.at and torch, on the same events.

Run: python benchmarks/representations.py [--repeats 30] [--json out.json]
         [--student [NAME] [--stride-us 25000 12500 10000]]

With ``--student`` only the input of a student is measured (the shipped one without a name): a
million events in its window at three sensor sizes, at random places and on moving edges with a
fifth of noise. The window is built in one go, and part by part as messages of 1.2 ms; "after the
last part" is what is left when the window has ended. Cases take turns, so that a busy machine slows
all of them alike; times are CPU time of the one thread.

With ``--stride-us`` windows overlap: a stream of a million events in each 50 ms gives a window each
stride, built from its events alone, and by ``InputSeries``, which shares work between windows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from evdistill_core.events.array import Events
from evdistill_core.inference.student import StudentFile, student_path
from evdistill_core.perception.front_end import SHIPPED_STUDENT
from evdistill_core.representations import (
    BackgroundFilter,
    InputBuilder,
    InputSeries,
    InputSpec,
    represent,
)
from evdistill_core.representations.background import supported_events
from evdistill_core.representations.voxel import STEPS, steps_per_us

T_END_US = 50_000
PARTS = 43


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


def make_edges(count: int, height: int, width: int) -> Events:
    """Return events of 20 vertical edges that move by one distance, and a fifth of noise."""
    rng = np.random.default_rng(0)
    t_us = np.sort(rng.integers(0, T_END_US, count))
    distance = width // 20
    edge = t_us * distance // T_END_US + rng.integers(0, 20, count) * distance
    x = np.where(rng.random(count) < 1 / 5, rng.integers(0, width, count),
                 (edge + rng.integers(0, 3, count)) % width)  # fmt: skip
    y, p = rng.integers(0, height, count), rng.random(count) > 0.5
    return Events.from_columns(x, y, t_us, p, width=width, height=height)


def measure_student(spec: InputSpec, events: Events, repeats: int) -> dict[str, dict[str, float]]:
    """Return percentiles of CPU time for each case, and the ratio of medians to a memcpy."""
    builder = InputBuilder()
    out = np.empty(spec.shape(height=events.height, width=events.width), np.float32)
    cuts = np.linspace(0, len(events), PARTS + 1).astype(int)
    parts = [events[a:b] for a, b in pairwise(cuts.tolist())]
    without = replace(spec, background_filter=None)

    def until_the_last() -> None:
        builder.start(spec, height=events.height, width=events.width,
                      t_start_us=0, t_end_us=T_END_US, out=out)  # fmt: skip
        for part in parts[:-1]:
            builder.add(part)

    def after_the_last() -> None:
        builder.add(parts[-1])
        builder.finish()

    columns = (events.x, events.y, events.t_us, events.p)
    cases: dict[str, Callable[[], object]] = {
        "memcpy of the events": lambda: [c.copy() for c in columns],
        "grid": lambda: represent(events, without, 0, T_END_US, out=out),
        "filter and grid, in one go": lambda: represent(events, spec, 0, T_END_US, out=out),
        "in parts, until the last": until_the_last,
        "in parts, after the last": after_the_last,
    }
    if spec.background_filter is not None:
        wanted = spec.background_filter
        cases["filter"] = lambda: supported_events(events, wanted)
    times_ms: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(repeats + 1):
        for name, work in cases.items():
            start = time.thread_time()
            work()
            if turn:  # the first one compiles
                times_ms[name].append((time.thread_time() - start) * 1e3)
    copied_ms = float(np.median(times_ms["memcpy of the events"]))
    return {
        name: {
            "min_ms": round(min(times), 2),
            **{f"p{q}_ms": round(float(np.percentile(times, q)), 2) for q in (50, 95)},
            "x_memcpy": round(float(np.median(times)) / copied_ms, 1),
        }
        for name, times in times_ms.items()
    }


def measure_overlap(
    spec: InputSpec, events: Events, stride_us: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Return percentiles of CPU time for one window of a stream that repeats the events."""
    windows = repeats + T_END_US // stride_us
    turns = -(-(windows * stride_us + T_END_US) // T_END_US)
    stream = Events.concatenate(
        [replace(events, t_us=events.t_us + turn * T_END_US) for turn in range(turns)]
    )
    series = InputSeries(
        spec, height=events.height, width=events.width, t_start_us=0,
        duration_us=T_END_US, stride_us=stride_us,
    )  # fmt: skip
    step_us = T_END_US // PARTS
    starts_us = range(0, windows * stride_us, stride_us)
    times_ms: dict[str, list[float]] = {
        "alone": [],
        "shared": [],
        "shared, after the last part": [],
    }
    found = []
    taken_us = 0
    for start_us in starts_us:
        end_us = start_us + T_END_US
        cuts_us = [*range(taken_us, end_us, step_us), end_us]
        cuts = np.searchsorted(stream.t_us, cuts_us).tolist()
        parts = [stream[a:b] for a, b in pairwise(cuts)]
        began = time.thread_time()
        for part in parts[:-1]:
            series.add(part)
        last = time.thread_time()
        series.add(parts[-1])
        found.append(series.input(start_us))
        ended = time.thread_time()
        times_ms["shared"].append((ended - began) * 1e3)
        times_ms["shared, after the last part"].append((ended - last) * 1e3)
        taken_us = end_us
    for start_us, shared in zip(starts_us, found, strict=True):
        first, end = np.searchsorted(stream.t_us, (start_us, start_us + T_END_US)).tolist()
        began = time.thread_time()
        alone = represent(stream[first:end], spec, start_us, start_us + T_END_US)
        times_ms["alone"].append((time.thread_time() - began) * 1e3)
        np.testing.assert_array_equal(shared, alone)
    skipped = T_END_US // stride_us  # those before the first window has slid out
    return {
        name: {f"p{q}_ms": round(float(np.percentile(times[skipped:], q)), 2) for q in (5, 50, 95)}
        for name, times in times_ms.items()
    }


def student_main(options: argparse.Namespace) -> None:
    """Measure the input of a student and print a table."""
    path = SHIPPED_STUDENT if options.student == "shipped" else student_path(options.student)
    spec = StudentFile.open(path).info.input
    report: list[dict[str, object]] = []
    for height, width in ((260, 346), (480, 640), (720, 1280)):
        for places, make in (("random places", make_events), ("edges", make_edges)):
            events = make(1_000_000, height, width)
            for stride_us in options.stride_us:
                results = measure_overlap(spec, events, stride_us, options.repeats)
                print(f"a window each {stride_us} us, {width}x{height}, {places}")
                for name, row in results.items():
                    print(f"  {name:28s} " + "  ".join(f"{k} {v:7.2f}" for k, v in row.items()))
                report.append({"size": f"{width}x{height}", "places": places,
                               "stride_us": stride_us, "results": results})  # fmt: skip
            if options.stride_us:
                continue
            results = measure_student(spec, events, options.repeats)
            report.append({"size": f"{width}x{height}", "places": places, "results": results})
            print(f"1,000,000 events, {width}x{height}, {places}")
            for name, row in results.items():
                print(f"  {name:26s} " + "  ".join(f"{k} {v:7.2f}" for k, v in row.items()))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--student", nargs="?", const="shipped")
    parser.add_argument("--stride-us", type=int, nargs="+", default=[],
                        help="with --student: overlapping windows")  # fmt: skip
    options = parser.parse_args()
    if options.student:
        student_main(options)
        return
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
