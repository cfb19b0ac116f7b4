"""How long the tracker takes for a window with 1, 10 and 100 things.

    python benchmarks/tracking.py [--windows 400] [--things 1 10 100] [--json FILE]

Things of 20 to 60 pixels drive through 1280 x 720 pixels at up to 200 px/s and turn at its edges;
each is missed in one window of ten, and the boxes jitter by two pixels. Timed is the CPU time of
the one thread that works, so that other programs on the machine hardly count. A short run,
which compiles or loads the kernel, comes before.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np

from evdistill_core.inference.prediction import Detection
from evdistill_core.inference.tracking import Tracker

HEIGHT, WIDTH = 720, 1280
WINDOW_US = 50_000


def windows_of(things: int, count: int, seed: int = 0) -> list[list[Detection]]:
    """Return the detections of each window."""
    rng = np.random.default_rng(seed)
    limits = np.array([WIDTH, HEIGHT])
    size = rng.uniform(20, 60, (things, 2))
    place, speed = rng.random((things, 2)) * limits, rng.uniform(-200, 200, (things, 2))
    found = []
    for _ in range(count):
        place = place + speed * WINDOW_US / 1e6
        speed = np.where((place < 0) | (place > limits), -speed, speed)
        corners = np.concatenate([place - size / 2, place + size / 2], axis=1)
        corners = np.rint(corners + rng.normal(0, 2, corners.shape)).astype(int).tolist()
        seen = rng.random(things) >= 0.1
        found.append([
            Detection(5, float(rng.uniform(0.35, 0.9)), (a, b, max(c, a + 1), max(d, b + 1)), 400)
            for (a, b, c, d), is_seen in zip(corners, seen, strict=True)
            if is_seen
        ])  # fmt: skip
    return found


def measure(things: int, count: int) -> dict[str, float]:
    """Return milliseconds a window: median, 95th and 99th percentile, and the ids given out."""
    tracker, taken_ms, last_id = Tracker(), [], 0
    for k, found in enumerate(windows_of(things, count)):
        started_ns = time.thread_time_ns()
        said = tracker.update(
            found, t_start_us=k * WINDOW_US, t_end_us=(k + 1) * WINDOW_US, size=(HEIGHT, WIDTH)
        )
        taken_ms.append((time.thread_time_ns() - started_ns) / 1e6)
        last_id = max([last_id, *(d.track_id for d in said)])
    p50, p95, p99 = np.percentile(taken_ms, (50, 95, 99))
    return {"things": things, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "ids": last_id}


def main() -> None:
    """Print a table, and write it as JSON if asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--windows", type=int, default=400)
    parser.add_argument("--things", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    measure(10, 20)
    rows = [measure(things, args.windows) for things in args.things]
    print(f"{platform.processor() or platform.machine()}, {args.windows} windows, one thread")
    print("things   p50 ms   p95 ms   p99 ms   ids given")
    for row in rows:
        times = "".join(f"{row[name]:9.2f}" for name in ("p50_ms", "p95_ms", "p99_ms"))
        print(f"{row['things']:6d}{times}{row['ids']:12d}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
