"""What event windows look like in numbers: to compare simulated sensors with real ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.representations.background import supported_events
from evdistill_core.representations.spec import BackgroundFilter

COMPANY = BackgroundFilter(radius_px=1, dt_us=10_000)


@dataclass(frozen=True)
class WindowStatistics:
    """Figures of one window; NaN where there is nothing to count.

    Attributes:
        rate_hz: events per pixel and second.
        on_fraction: brighter events among all.
        active_fraction: pixels with at least one event.
        events_per_active: events per such pixel.
        lonely_hz: events without company (no other pixel within 1 px and 10 ms), per pixel and
            second: mostly noise.
        run_px: mean run of adjacent active pixels, the shorter of along rows and along columns,
            noise left out: how thick edges are.
        repeat_us: median time between two events of one pixel.
        same_polarity: part of those pairs that have one polarity.
    """

    rate_hz: float
    on_fraction: float
    active_fraction: float
    events_per_active: float
    lonely_hz: float
    run_px: float
    repeat_us: float
    same_polarity: float


def window_statistics(events: Events, duration_us: int) -> WindowStatistics:
    """Return the figures of one window.

    Args:
        events: of the window, sorted by time.
        duration_us: its length, above 0.
    """
    pixels = events.height * events.width
    per_hz = 1.0 / (pixels * duration_us * 1e-6)
    count = len(events)
    nan = float("nan")
    if count == 0:
        return WindowStatistics(0.0, nan, 0.0, nan, 0.0, nan, nan, nan)
    company = supported_events(events, COMPANY)
    where = events.y.astype(np.int64) * events.width + events.x
    active = int(np.unique(where).size)
    shown = np.zeros(pixels, np.bool_)
    shown[where[company]] = True
    grid = shown.reshape(events.height, events.width)
    order = np.argsort(where, kind="stable")
    again = np.diff(where[order]) == 0
    gaps_us = np.diff(events.t_us[order])[again]
    same = (np.diff(events.p[order].astype(np.int8)) == 0)[again]
    return WindowStatistics(
        rate_hz=count * per_hz,
        on_fraction=float(events.p.mean()),
        active_fraction=active / pixels,
        events_per_active=count / active,
        lonely_hz=float((~company).sum()) * per_hz,
        run_px=min(_mean_run(grid), _mean_run(grid.T)) if company.any() else nan,
        repeat_us=float(np.median(gaps_us)) if gaps_us.size else nan,
        same_polarity=float(same.mean()) if same.size else nan,
    )


def _mean_run(shown: npt.NDArray[np.bool_]) -> float:
    starts = int(shown[:, 0].sum()) + int((shown[:, 1:] & ~shown[:, :-1]).sum())
    return float(shown.sum()) / max(starts, 1)
