"""Where the time of one window goes, at three sensor sizes: CPU time of one thread in ms.

    python benchmarks/window_cost.py [--events 1000000] [--repeats 15] [--json FILE]

A window of 50 ms holds moving edges and a fifth of noise, in 43 messages. ``postprocess`` is what
comes after the network, without an enlarged mask; ``enlarge`` is the mask at sensor resolution.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from evdistill_core.events.array import Events
from evdistill_core.events.window import WindowAssembler, WindowSpec
from evdistill_core.inference.postprocess import PostprocessConfig, Postprocessor
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import StudentFile
from evdistill_core.perception.front_end import SHIPPED_STUDENT
from evdistill_core.perception.predictor import sensor_stride
from evdistill_core.representations import represent
from evdistill_core.representations.background import supported_events

SIZES = ((260, 346), (480, 640), (720, 1280))
WINDOW_US, MESSAGES = 50_000, 43


def scene(events: int, height: int, width: int) -> Events:
    """Return 20 vertical edges that move by half their distance, and a fifth of noise."""
    rng = np.random.default_rng(0)
    t_us = np.sort(rng.integers(0, WINDOW_US, events))
    distance = width // 20
    edge = t_us * distance // (2 * WINDOW_US) + rng.integers(0, 20, events) * distance
    x = np.where(rng.random(events) < 1 / 5, rng.integers(0, width, events),
                 (edge + rng.integers(0, 3, events)) % width)  # fmt: skip
    y, p = rng.integers(0, height, events), rng.integers(0, 2, events)
    return Events.from_columns(x, y, t_us, p, width=width, height=height)


def cpu_ms(work: Callable[[], object], repeats: int) -> float:
    """Return the median CPU time of this thread."""
    work()
    taken = []
    for _ in range(repeats):
        began = time.thread_time()
        work()
        taken.append((time.thread_time() - began) * 1e3)
    return round(float(np.median(taken)), 2)


def measure(student: StudentFile, events: Events, repeats: int) -> dict[str, object]:
    """Return the row of one sensor size."""
    spec = student.info.input
    runner = make_runner(student, runtime="onnxruntime", device="cpu", threads=1)
    post = Postprocessor(PostprocessConfig(), student.classes.thing_ids, student.classes.names)
    network_input = represent(events, spec, 0, WINDOW_US)
    logits, head = runner.run_whole(network_input)
    stride = sensor_stride(spec, logits, events)
    factor = spec.grid(height=events.height, width=events.width).factor
    number = count()
    cuts = np.linspace(0, len(events), MESSAGES + 1).astype(int)
    parts = [events[a:b] for a, b in pairwise(cuts.tolist())]

    def answer() -> object:
        at = next(number)
        return post(logits, events, stride=stride, span_us=(at, at + 1), head=head, factor=factor)

    def assemble() -> None:
        assembler = WindowAssembler(WindowSpec(duration_us=WINDOW_US))
        for part in parts:
            assembler.push(part)
        assembler.flush()

    def enlarged() -> float:
        began = time.thread_time()
        _ = made.mask
        return time.thread_time() - began

    enlarging = []
    for _ in range(repeats):
        made = answer()
        enlarging.append(enlarged() * 1e3)
    without = replace(spec, background_filter=None)
    filters = spec.background_filter
    return {
        "sensor": f"{events.width}x{events.height}",
        "input": "x".join(map(str, network_input.shape[:0:-1])),
        "grid": cpu_ms(lambda: represent(events, without, 0, WINDOW_US), repeats),
        "filter": cpu_ms(lambda: supported_events(events, filters), repeats) if filters else 0.0,
        "filter and grid": cpu_ms(lambda: represent(events, spec, 0, WINDOW_US), repeats),
        "network": cpu_ms(lambda: runner.run_whole(network_input), repeats),
        "postprocess": cpu_ms(answer, repeats),
        "enlarge": round(float(np.median(enlarging)), 2),
        "window assembly": cpu_ms(assemble, repeats),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--student", default=str(SHIPPED_STUDENT))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    student = StudentFile.open(options.student)
    rows = [measure(student, scene(options.events, *size), options.repeats) for size in SIZES]
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=160).print(table)
    if options.json:
        report = {"load_average": os.getloadavg(), "events": options.events, "rows": rows}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
