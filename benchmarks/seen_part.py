"""What reduced inputs, tiles, a region and a turned camera cost in cars found.

    python benchmarks/seen_part.py [STUDENT] [--data DIR] [--windows 20] [--json FILE]

The street recording of ``real_recordings.py`` (346x260) is put into the middle of a frame of
1280x720 pixels, or turned by 90 degrees, and read with parameters of the node. A car in the
camera's own images counts as found when a vehicle's box overlaps it by IoU 0.25. Times are CPU
time of everything that a window takes, from events to boxes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from real_recordings import DEMO, FOUND_IOU, STREET, Box, frames_of, iou, moving_boxes, windows_of

from evdistill_core.events.array import Events
from evdistill_core.events.window import Window
from evdistill_core.perception.student import Student

HD = (1280, 720)


def in_frame(events: Events) -> tuple[Events, tuple[int, int]]:
    """Return the events in the middle of an HD frame, and the shift."""
    dx, dy = (HD[0] - events.width) // 2, (HD[1] - events.height) // 2
    moved = Events.from_columns(
        events.x.astype(int) + dx, events.y.astype(int) + dy, events.t_us, events.p,
        width=HD[0], height=HD[1],
    )  # fmt: skip
    return moved, (dx, dy)


def turned(events: Events) -> Events:
    """Return the events of a camera that is turned by 90 degrees counterclockwise."""
    return Events.from_columns(
        events.y, events.width - 1 - events.x.astype(int), events.t_us, events.p,
        width=events.height, height=events.width,
    )  # fmt: skip


def placed(box: Box, kind: str, width: int, shift: tuple[int, int]) -> Box:
    """Return a box of the recording where the changed events have it."""
    left, top, right, bottom = box
    if kind == "turned":
        return top, width - right, bottom, width - left
    if kind == "hd":
        return left + shift[0], top + shift[1], right + shift[0], bottom + shift[1]
    return box


def measure(
    student: Student, windows: list[tuple[Window, list[Box]]], kind: str
) -> dict[str, float]:
    """Return the cars found, all cars, all vehicle boxes, and the median CPU time of a window."""
    found = cars = boxes = 0
    times = []
    stream = student.stream()
    vehicle = student.classes.names.index("vehicle")
    for window, true in windows:
        events, shift = window.events, (0, 0)
        width = events.width
        if kind == "hd":
            events, shift = in_frame(events)
        elif kind == "turned":
            events = turned(events)
        started_ns = time.process_time_ns()
        result = stream.take_window(
            Window(events, window.t_start_us, window.t_end_us, window.index)
        )
        took_ns = time.process_time_ns()
        given = [d.box_xyxy for d in result.detections if d.class_id == vehicle]
        places = [placed(b, kind, width, shift) for b in true]
        found += sum(any(iou(p, g) >= FOUND_IOU for g in given) for p in places)
        cars, boxes = cars + len(true), boxes + len(given)
        times.append((took_ns - started_ns) / 1e6)
    return {"found": found, "cars": cars, "boxes": boxes, "cpu_ms": float(np.median(times))}


def main() -> None:
    """Print a table, and write it as JSON if asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("student", nargs="?")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = args.data or Path(os.environ.get("EVDISTILL_TEST_DATA", "data"))
    path = data / STREET if (data / STREET).exists() else DEMO
    frames = frames_of(path)
    times = np.array([f.t_us for f in frames])
    every = list(windows_of(path, Student.load(args.student).input.window_us))
    chosen = every[:: max(1, len(every) // args.windows)][: args.windows]
    windows = [(w, moving_boxes(frames, int(np.abs(times - w.t_end_us).argmin()))) for w in chosen]
    size = (chosen[0].events.width, chosen[0].events.height)
    roi = [(HD[0] - size[0]) // 2, (HD[1] - size[1]) // 2, *size]
    cases: list[tuple[str, str, dict[str, object]]] = [
        ("as recorded", "same", {}),
        ("in 1280x720, reduced", "hd", {}),
        ("in 1280x720, max_pixels 921600", "hd", {"max_pixels": 921_600}),
        ("in 1280x720, max_pixels -1 (measured)", "hd", {"max_pixels": -1}),
        ("in 1280x720, tiles 0, 0", "hd", {"tiles": [0, 0]}),
        (f"in 1280x720, roi {roi}", "hd", {"roi": roi}),
        ("turned by 90 degrees", "turned", {}),
        ("turned by 90 degrees, rotation_deg 90", "turned", {"rotation_deg": 90}),
    ]
    rows = []
    print("| input | cars found | vehicle boxes | CPU time a window, ms |\n|---|---|---|---|")
    for name, kind, parameters in cases:
        # Without neighbours in time nothing is tracked: each window stands for itself.
        student = Student.load(args.student, track_smooth_boxes=False, **parameters)
        row = measure(student, windows, kind)
        rows.append({"input": name, **row})
        print(
            f"| {name} | {row['found']:.0f}/{row['cars']:.0f} | {row['boxes']:.0f} | "
            f"{row['cpu_ms']:.1f} |",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
