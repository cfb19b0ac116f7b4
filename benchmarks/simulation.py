"""How long a simulated window takes, and how it compares with real recordings in numbers.

Run: python benchmarks/simulation.py CAMVID [--real FILE ...] [--windows 200]
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import cv2
import numpy as np

from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages
from evdistill_core.events.array import Events
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.recordings.opening import open_recording
from evdistill_core.simulation.factory import SceneFactory, SceneRanges
from evdistill_core.simulation.images import LabelledImage
from evdistill_core.simulation.sensor import SensorModel
from evdistill_core.simulation.statistics import WindowStatistics, window_statistics
from evdistill_core.simulation.window import simulate_window

WINDOW_US = 50_000
NAMES = tuple(field.name for field in dataclasses.fields(WindowStatistics))


def simulated(images: list[LabelledImage], ranges: SceneRanges, count: int) -> None:
    """Simulate windows of 346x260; print their figures and the processor time of each."""
    factory = SceneFactory(images, SIX_CLASSES, height=260, width=346, ranges=ranges)
    rows, times_ms = [], []
    for seed in range(count + 5):
        rng = np.random.default_rng(seed)
        start = time.process_time()
        sensor = SensorModel.random(rng)
        window = simulate_window(factory.make(sensor, rng), sensor, WINDOW_US, rng)
        times_ms.append((time.process_time() - start) * 1e3)
        rows.append(window_statistics(window.events, WINDOW_US))
    kind = "moving camera" if ranges.moving_camera else "fixed camera"
    show(f"simulated, {kind}", rows)
    kept = times_ms[5:]  # the first ones compile
    middle, most = np.median(kept), np.percentile(kept, 90)
    print(f"  processor ms a window: mean {np.mean(kept):.1f}  p50 {middle:.1f}  p90 {most:.1f}")


def recorded(path: Path) -> None:
    """Print the figures of a recording's windows."""
    with open_recording(path) as recording:
        events = Events.concatenate([batch.events for batch in recording.batches()])
    starts = range(int(events.t_us[0]), int(events.t_us[-1]) - WINDOW_US + 1, WINDOW_US)
    rows = []
    for start_us in starts:
        first, last = np.searchsorted(events.t_us, (start_us, start_us + WINDOW_US))
        rows.append(window_statistics(events[first:last], WINDOW_US))
    show(path.name, rows)


def show(title: str, rows: list[WindowStatistics]) -> None:
    """Print 5th, 50th and 95th percentile of every figure."""
    table = np.array([dataclasses.astuple(row) for row in rows])
    print(f"{title} ({len(rows)} windows of {WINDOW_US // 1000} ms)")
    for name, column in zip(NAMES, table.T, strict=True):
        low, middle, high = np.nanpercentile(column, (5, 50, 95))
        print(f"  {name:18s} p5 {low:9.4g}  p50 {middle:9.4g}  p95 {high:9.4g}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("camvid", type=Path)
    parser.add_argument("--real", type=Path, nargs="*", default=[])
    parser.add_argument("--windows", type=int, default=200)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    files = LabelledImages(ImagesConfig(root=options.camvid), SIX_CLASSES)
    stills = [files[i] for i in range(0, len(files), 3)]
    images = [LabelledImage.from_arrays(s.image, s.label, s.name) for s in stills]
    for path in options.real:
        recorded(path)
    for moving_camera in (0.0, 1.0):
        simulated(images, SceneRanges(moving_camera=moving_camera), options.windows)


if __name__ == "__main__":
    main()
