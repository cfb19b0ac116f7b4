"""Peak memory of ``info``, ``convert``, ``cut`` and ``run`` on a recording of a gigabyte.

    python benchmarks/large_recording.py [--megabytes 100 1000] [--folder /tmp] [--no-run]

Makes bags of synthetic events (a noisy edge on a DAVIS346, libcaer_cmp, 2.5 million events a
second) of each size, passes each through the commands as a user would start them, and prints wall
time and the largest resident memory of each process. Memory that is the same for both sizes does
not grow with the recording.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evdistill_core.events.array import Events
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import Header, Time
from evdistill_core.recordings.encoders.packets import Packetizer
from evdistill_core.recordings.writers.mcap import McapWriter

WIDTH, HEIGHT = 346, 260
RATE_HZ = 2_500_000
PIECE_US = 100_000
PATTERNS = 16
STUDENT = Path(__file__).parents[1] / "evdistill_core" / "assets" / "street6.evstudent"


def patterns() -> list[Events]:
    """Return pieces of 100 ms that are repeated: making each again would take most of the time."""
    rng = np.random.default_rng(0)
    count = RATE_HZ * PIECE_US // 1_000_000
    pieces = []
    for i in range(PATTERNS):
        t_us = np.sort(rng.integers(0, PIECE_US, count))
        edge = (i * WIDTH // PATTERNS + t_us * WIDTH // (PATTERNS * PIECE_US)) % WIDTH
        noise = rng.random(count) < 0.3
        x = np.where(noise, rng.integers(0, WIDTH, count), edge)
        y, p = rng.integers(0, HEIGHT, count), rng.integers(0, 2, count)
        pieces.append(Events.from_columns(x, y, t_us, p, width=WIDTH, height=HEIGHT))
    return pieces


def stream() -> Iterator[Events]:
    """Yield events without end."""
    pieces = patterns()
    start_us = 1_000_000
    while True:
        for piece in pieces:
            t_us = piece.t_us + start_us
            yield Events(piece.x, piece.y, t_us, piece.p, WIDTH, HEIGHT)
            start_us += PIECE_US


def make(path: Path, size_bytes: int) -> int:
    """Write a bag of at least this size; return its number of events."""
    count = payload = seq = 0
    packetizer = Packetizer(10_000, "libcaer_cmp")
    with McapWriter(path) as writer:
        for events in stream():
            for packet in packetizer.push(events):
                stamp_ns = packet.end_us * 1000
                message = EventPacket(
                    header=Header(Time.from_ns(stamp_ns), "camera"),
                    height=packet.height,
                    width=packet.width,
                    seq=seq,
                    time_base=packet.time_base_ns,
                    encoding="libcaer_cmp",
                    events=packet.payload,
                ).serialize()
                writer.write("/event_camera/events", EventPacket.TYPE, message, stamp_ns)
                payload += len(message)
                seq += 1
            count += len(events)
            # Noise hardly compresses; the file is looked at for its real size.
            if payload >= size_bytes and _written(path) >= size_bytes:
                return count
    return count


def _written(path: Path) -> int:
    return max((p.stat().st_size for p in path.parent.glob(f".{path.stem}.*")), default=0)


def measure(arguments: list[str]) -> tuple[float, float]:
    """Run the command; return its wall time in seconds and its peak memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "evdistill_core", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {errors.decode()}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def commands(source: Path, folder: Path, with_run: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield name and arguments of what is measured."""
    yield "info", ["info", str(source), "--json"]
    for suffix in (".h5", ".npz", ".mcap"):
        yield f"convert to {suffix}", ["convert", str(source), str(folder / f"out{suffix}")]
    yield "cut one second", ["cut", str(source), str(folder / "cut.mcap"), "--end", "1"]
    if with_run and STUDENT.exists():
        out = str(folder / "run")
        yield "run", ["run", str(source), "--out", out, "--student", str(STUDENT), "--quiet"]


def main() -> None:
    """Print a table, and JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--no-run", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(f"{'command':22} {'MB':>6} {'events':>12} {'wall s':>8} {'peak MB':>8}", flush=True)
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            source = folder / "in.mcap"
            events = make(source, megabytes * 1_000_000)
            size_mb = source.stat().st_size / 1e6
            for command, arguments in commands(source, folder, not options.no_run):
                wall_s, peak_mb = measure(arguments)
                for made in folder.glob("out.*"):
                    made.unlink()
                rows.append(
                    {
                        "command": command,
                        "size_mb": round(size_mb),
                        "events": events,
                        "wall_s": round(wall_s, 1),
                        "peak_mb": round(peak_mb),
                    }
                )
                print(
                    f"{command:22} {size_mb:6.0f} {events:12,} {wall_s:8.1f} {peak_mb:8.0f}",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
