"""How fast recordings become events, and events bytes: one thread, best of several passes.

Run from the repository root: ``python benchmarks/read_recordings.py [folder of recordings]``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from evdistill_core.events.array import Events
from evdistill_core.recordings.encoders.packets import ENCODINGS, events_to_packets
from evdistill_core.recordings.opening import open_recording

RECORDINGS = (
    "bags/evt3_vga_person",
    "bags/libcaer_cmp_davis346_tags",
    "recordings/davis346_robot_arm.aedat4",
    "recordings/davis346_street_frames.aedat4",
    "recordings/imx636_evt3.raw",
    "recordings/gen3_evt2.raw",
    "recordings/imx636_same_stream.dat",
    "recordings/atis_plane.es",
    "recordings/ncaltech101_faces_easy_0001.bin",
    "recordings/davis240_slider_50k.txt",
    "recordings/davis240_poster.npz",
)
PASSES = 9


def best_s(work: Callable[[], object]) -> float:
    """Return the shortest of several passes; one more before warms caches and compiles."""
    work()
    times = []
    for _ in range(PASSES):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print a table."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("../shared/data")
    for name in RECORDINGS:
        with open_recording(data / name) as recording:
            events = Events.concatenate([b.events for b in recording.batches()])
            seconds = best_s(lambda r=recording: [len(b.events) for b in r.batches()])
        print(f"read {name}: {len(events) / seconds / 1e6:.1f} Mev/s")
    for encoding in ENCODINGS:
        packets = list(events_to_packets([events], encoding=encoding))
        seconds = best_s(lambda e=encoding: list(events_to_packets([events], encoding=e)))
        size = sum(len(p.payload) for p in packets) / len(events)
        print(f"write {encoding}: {len(events) / seconds / 1e6:.1f} Mev/s, {size:.2f} B/event")


if __name__ == "__main__":
    main()
