"""Made-up events for the tests of this folder."""

import numpy as np
import pytest

from evdistill_core.events.array import Events
from evdistill_core.recordings.opening import open_recording


@pytest.fixture(scope="session")
def make_events():
    """Return a function that makes sorted events."""
    return _make_events


def _make_events(rng, count, *, width=346, height=260, span_us=50_000, t0_us=1_000_000):
    """Return events with runs of equal times and columns, so that every kind of word is used."""
    t = np.sort(rng.integers(0, max(1, span_us // 50), count)) * 50 + t0_us
    x = rng.integers(0, width, count) // 7 * 7
    y = rng.integers(0, height, count)
    p = rng.integers(0, 2, count)
    order = np.lexsort((y, p, x, t))
    return Events.from_columns(x[order], y[order], t[order], p[order], width=width, height=height)


@pytest.fixture(scope="session")
def read():
    """Return a function that reads the events of a file, or of a span of it."""
    return _read


def _read(path, *, topic=None, **span):
    with open_recording(path, topic=topic) as recording:
        size = recording.info.width, recording.info.height
        parts = [b.events for b in recording.batches(**span)]
    return Events.concatenate([Events.empty(*size), *parts])
