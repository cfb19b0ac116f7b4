"""How far the edges of boxes jump on things that move steadily.

    python benchmarks/box_jitter.py [RECORDING ...] [--student FILE] [--json FILE]

The jitter of an edge is its distance from the straight line that fits its places in seven
successive windows best, in the middle one of them. Tracks that miss a window are cut there.
Measured are:

* a made-up thing of 40 x 20 pixels that drives at 100 px/s and whose measured edges are off by a
  normal error of 1, 2 and 3 pixels (standard deviation), through the tracker alone;
* the tracks of a student on recordings whose things move steadily (by default the street recording
  of ``EVDISTILL_TEST_DATA``), with and without ``track_smooth_boxes``.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import evdistill_core as evdistill
from evdistill_core.inference.prediction import Detection
from evdistill_core.inference.tracking import Tracker, TrackerConfig

WINDOW_US = 50_000
FITTED = 7
STREET = "recordings/davis346_street_frames.aedat4"
ROOT = Path(__file__).resolve().parent.parent

Boxes = list[tuple[int, int, int, int, int]]  # window, then left, top, right, bottom


@dataclass(frozen=True)
class Row:
    """Jitter of the edges of all tracks of a source, in pixels."""

    source: str
    smooth: bool
    edges: int
    p50_px: float
    p95_px: float


def jitter_px(tracks: Iterable[Boxes]) -> npt.NDArray[np.float64]:
    """Return the jitter of every edge that has three windows before and after it."""
    times = np.arange(FITTED) - FITTED // 2
    found = [np.empty(0)]
    for boxes in tracks:
        rows = np.array(boxes, float)
        for i in range(len(rows) - FITTED + 1):
            part = rows[i : i + FITTED]
            if part[-1, 0] - part[0, 0] == FITTED - 1:
                fits = np.polyfit(times, part[:, 1:], 1)  # slope and value in the middle
                found.append(np.abs(part[FITTED // 2, 1:] - fits[1]))
    return np.concatenate(found)


def made_up(noise_px: float, *, smooth: bool) -> list[Boxes]:
    """Return what the tracker says of a steady thing with an error of measurement."""
    rng = np.random.default_rng(0)
    tracker = Tracker(TrackerConfig(smooth=smooth))
    tracks: dict[int, Boxes] = defaultdict(list)
    for k in range(400):
        left = 30 + 5.0 * k
        corners = np.array([left, 200, left + 40, 220]) + rng.normal(0, noise_px, 4)
        a, b, c, d = np.rint(corners).astype(int).tolist()
        said = tracker.update(
            [Detection(5, 0.9, (a, b, max(c, a + 1), max(d, b + 1)), 400)],
            t_start_us=k * WINDOW_US,
            t_end_us=(k + 1) * WINDOW_US,
            size=(480, 2200),
        )
        for d in said:
            tracks[d.track_id].append((k, *d.box_xyxy))
    return list(tracks.values())


def of_recording(path: Path, student: str | Path | None, *, smooth: bool) -> list[Boxes]:
    """Return the tracks of a student on a recording."""
    loaded = evdistill.Student.load(student, track_smooth_boxes=smooth)
    tracks: dict[int, Boxes] = defaultdict(list)
    for result in loaded.predict(path):
        for d in result.detections:
            tracks[d.track_id].append((result.index, *d.box_xyxy))
    return list(tracks.values())


def main() -> None:
    """Print a table, and write it as JSON if asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("recordings", type=Path, nargs="*")
    parser.add_argument("--student", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = os.environ.get("EVDISTILL_TEST_DATA", ROOT.parent / "shared" / "data")
    rows = []
    for smooth in (False, True):
        sources = {f"made up, error {n} px": made_up(n, smooth=smooth) for n in (1, 2, 3)}
        for path in args.recordings or [Path(data) / STREET]:
            sources[path.stem] = of_recording(path, args.student, smooth=smooth)
        for name, tracks in sources.items():
            found = jitter_px(tracks)
            p50, p95 = np.percentile(found, (50, 95)) if len(found) else (np.nan, np.nan)
            rows.append(Row(name, smooth, len(found), round(float(p50), 2), round(float(p95), 2)))
    print(f"{'source':32s}{'smoothed':>10s}{'edges':>8s}{'p50 px':>8s}{'p95 px':>8s}")
    for r in rows:
        smoothed = "yes" if r.smooth else "no"
        print(f"{r.source:32s}{smoothed:>10s}{r.edges:8d}{r.p50_px:8.2f}{r.p95_px:8.2f}")
    if args.json:
        args.json.write_text(json.dumps([asdict(r) for r in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
