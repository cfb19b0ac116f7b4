"""The baseline of the recordings benchmark: clusters of events with ids, and no network."""

from pathlib import Path

import numpy as np

from evdistill_core.events.array import Events
from evdistill_core.events.window import Window
from evdistill_core.foundation.labels import SIX_CLASSES

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
VEHICLE = SIX_CLASSES.names.index("vehicle")


def _window(k, left, noise):
    """Return a window in which a block of 20x12 pixels fires, and single pixels far from it."""
    y, x = (a.ravel() for a in np.mgrid[30:42, left : left + 20])
    x, y = np.append(x, noise), np.append(y, [5] * len(noise))
    t = np.linspace(50_000 * k, 50_000 * k + 49_000, len(x)).astype(np.int64)
    return Window(
        Events.from_columns(x, y, t, x % 2, width=128, height=80), 50_000 * k, 50_000 * (k + 1), k
    )


def test_a_moving_cluster_is_one_vehicle_with_one_id(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from films import find_clusters

    windows = [_window(k, 20 + 2 * k, [3, 120]) for k in range(4)]
    found = list(find_clusters(iter(windows)))
    assert [end_us for end_us, _ in found] == [50_000, 100_000, 150_000, 200_000]
    assert [[d.class_id for d in boxes] for _, boxes in found] == [[VEHICLE]] * 4
    assert len({boxes[0].track_id for _, boxes in found}) == 1
    np.testing.assert_allclose(found[-1][1][0].box_xyxy, (26, 30, 46, 42), atol=2)
