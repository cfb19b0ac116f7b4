"""How fast the filters are, beside those of dv-processing and a memcpy in the same run.

    python benchmarks/filters.py [--events 1000000] [--repeats 20] [--json FILE]

One stream of moving edges with a third of noise, in packets of 10,000 events, 640 x 480 pixels.
The background-activity filter of dv-processing has the same definition; the share of events in
which both agree is printed. dv-processing hands its result out lazily, so its time includes the
columns that a user would read from it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np

from evdistill_core.events.array import Events
from evdistill_core.events.filters import EventFilters, FilterConfig, HotPixels

WIDTH, HEIGHT = 640, 480
PACKET = 10_000
BYTES_PER_EVENT = 13


def stream(count: int, seed: int = 0) -> Events:
    """Three vertical edges that cross the frame in a second, and noise, at 1 Mev/s."""
    rng = np.random.default_rng(seed)
    t = np.arange(count, dtype=np.int64)
    edge = (
        t * WIDTH // 1_000_000 + rng.integers(0, 3, count) * 200 + rng.integers(0, 3, count)
    ) % WIDTH
    noise = rng.random(count) < 1 / 3
    x = np.where(noise, rng.integers(0, WIDTH, count), edge)
    return Events.from_columns(
        x, rng.integers(0, HEIGHT, count), t, rng.integers(0, 2, count), width=WIDTH, height=HEIGHT
    )


def packets(events: Events) -> list[Events]:
    """Cut the stream as a driver does."""
    return [events[i : i + PACKET] for i in range(0, len(events), PACKET)]


def ours(parts: list[Events], config: FilterConfig) -> Callable[[], int]:
    """Return what filters all packets afresh and counts what passes."""

    def run() -> int:
        filters = EventFilters(config)
        return sum(len(filters(part)) for part in parts)

    return run


def peers(events: Events, parts: list[Events], span_us: int) -> list[tuple[str, Callable[[], int]]]:
    """Return the filters of dv-processing, if it is installed."""
    try:
        import dv_processing as dv  # noqa: PLC0415
    except ImportError:
        return []
    stores = []
    for part in parts:
        store = dv.EventStore()
        for x, y, t, p in zip(part.x, part.y, part.t_us, part.p, strict=True):
            store.push_back(int(t), int(x), int(y), bool(p))
        stores.append(store)

    def run(make: Callable[[], object]) -> Callable[[], int]:
        def play() -> int:
            filters, passed = make(), 0
            for store in stores:
                filters.accept(store)  # type: ignore[attr-defined]
                passed += len(filters.generateEvents().numpy())  # type: ignore[attr-defined]
            return passed

        return play

    size, span = (WIDTH, HEIGHT), timedelta(microseconds=span_us)
    found = [("dv background activity", lambda: dv.noise.BackgroundActivityNoiseFilter(size, span))]
    found.append(("dv fast decay", lambda: dv.noise.FastDecayNoiseFilter(size)))
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[::50, ::50] = 0
    found.append(("dv mask", lambda: dv.EventMaskFilter(mask)))
    return [(name, run(make)) for name, make in found]


def agreement(parts: list[Events], span_us: int) -> float | None:
    """Return the share of events that our background filter and dv-processing's judge alike."""
    found = peers(parts[0], parts[:20], span_us)
    if not found:
        return None
    import dv_processing as dv  # noqa: PLC0415

    theirs = dv.noise.BackgroundActivityNoiseFilter(
        (WIDTH, HEIGHT), timedelta(microseconds=span_us)
    )
    filters = EventFilters(FilterConfig(background_us=span_us))
    alike = total = 0
    for part in parts[:20]:
        store = dv.EventStore()
        for x, y, t, p in zip(part.x, part.y, part.t_us, part.p, strict=True):
            store.push_back(int(t), int(x), int(y), bool(p))
        theirs.accept(store)
        kept = theirs.generateEvents().numpy()["timestamp"]
        differing = np.setxor1d(kept, filters(part).t_us)  # every event has a time of its own
        total += len(part)
        alike += len(part) - len(differing)
    return alike / total


def time_both(action: Callable[[], int], source: np.ndarray, repeats: int) -> tuple[float, float]:
    """Return the 5th percentile of the action and of a memcpy, in turn, in seconds."""
    action()
    taken, copied = [], []
    for _ in range(repeats):
        for work, times in ((action, taken), (source.copy, copied)):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    return float(np.percentile(taken, 5)), float(np.percentile(copied, 5))


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    events = stream(options.events)
    parts = packets(events)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[::50, ::50] = True
    hot, span_us = HotPixels(mask), 2000
    cases = [
        ("hot pixels", ours(parts, FilterConfig(hot))),
        ("refractory", ours(parts, FilterConfig(refractory_us=1000))),
        ("background activity", ours(parts, FilterConfig(background_us=span_us))),
        ("rate limit", ours(parts, FilterConfig(max_events_per_s=300_000))),
        ("all four", ours(parts, FilterConfig(hot, 0, 50.0, 10.0, 1000, span_us, 300_000))),
        *peers(events, parts, span_us),
    ]
    source = np.ones(len(events) * BYTES_PER_EVENT, np.uint8)
    rows = []
    print(f"{'filter':26} {'passed':>8} {'Mev/s':>8} {'x memcpy':>9}")
    for name, action in cases:
        taken_s, copied_s = time_both(action, source, options.repeats)
        passed = action() / len(events)
        rate = len(events) / taken_s / 1e6
        rows.append(
            {
                "filter": name,
                "passed": round(passed, 4),
                "mev_per_s": round(rate, 1),
                "ratio_to_memcpy": round(taken_s / copied_s, 2),
            }
        )
        print(f"{name:26} {passed:8.1%} {rate:8.1f} {taken_s / copied_s:9.2f}")
    alike = agreement(parts, span_us)
    if alike is not None:
        print(f"background activity judged as dv-processing does: {alike:.4%} of the events")
    if options.json:
        facts = {
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "agreement": alike,
            "rows": rows,
        }
        options.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
