import io
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from evdistill_core.events.array import Events
from evdistill_core.foundation.progress import ProgressView
from evdistill_core.perception import run_progress
from evdistill_core.perception.run_progress import RunProgress


class View(ProgressView):
    """Keeps what is shown."""

    def __init__(self):
        super().__init__("computing", console=Console(file=io.StringIO()), shown=False)
        self.shown = []

    def update(self, fraction, *facts):
        self.shown.append((fraction, *facts))


@pytest.fixture
def clock_ns(monkeypatch):
    now = SimpleNamespace(ns=0)
    monkeypatch.setattr(run_progress.time, "monotonic_ns", lambda: now.ns)
    return now


def events(start_us, end_us):
    t_us = np.array([start_us, end_us])
    return Events.from_columns([0, 0], [0, 0], t_us, [0, 0], width=1, height=1)


def result(received_ns, start_us, end_us):
    return SimpleNamespace(received_ns=received_ns, t_start_us=start_us, t_end_us=end_us)


def fractions(view):
    return [fraction for fraction, *_ in view.shown]


def test_what_is_read_ahead_does_not_count(clock_ns):
    view = View()
    progress = RunProgress(view)
    for i in range(1, 5):  # the whole recording is read at once
        clock_ns.ns = i
        progress.sent(i / 4)
    assert view.shown == []
    for i in range(1, 5):
        progress.computed(result(i, 50_000 * (i - 1), 50_000 * i))
    assert fractions(view) == [0.25, 0.5, 0.75, 1.0]
    assert view.shown[1][1] == "2 windows"
    assert progress.sensor_s == pytest.approx(0.2)


def test_windows_of_one_large_batch_move_the_bar_by_sensor_time(clock_ns):
    view = View()
    progress = RunProgress(view)
    clock_ns.ns = 1
    progress.sent(0.5, events(0, 1_000_000))
    clock_ns.ns = 2
    progress.sent(1.0, events(1_000_000, 2_000_000))
    for received_ns, end_us in ((1, 200_000), (1, 1_000_000), (2, 1_500_000), (2, 2_100_000)):
        progress.computed(result(received_ns, end_us - 50_000, end_us))
    assert fractions(view) == pytest.approx([0.1, 0.5, 0.75, 1.0])


def test_the_bar_never_goes_back(clock_ns):
    view = View()
    progress = RunProgress(view)
    for i, fraction in enumerate((0.4, 0.2, 0.6), start=1):
        clock_ns.ns = i
        progress.sent(fraction)
        progress.computed(result(i, 0, 50_000))
    assert fractions(view) == [0.4, 0.4, 0.6]


def test_a_recording_of_unknown_length_shows_windows_and_rate(clock_ns):
    view = View()
    progress = RunProgress(view)
    progress.sent(None)
    progress.computed(result(0, 0, 50_000))
    assert fractions(view) == [None]
    assert view.shown[0][1] == "1 window"
    progress.finish()
    assert view.shown[-1] == (1.0, "1 window", "finishing the files")


def test_time_of_overlapping_windows_counts_once(clock_ns):
    progress = RunProgress(View())
    for start_us in range(0, 200_000, 10_000):
        progress.computed(result(0, start_us, start_us + 50_000))
    progress.computed(result(0, 5_000, 55_000))  # sensor time restarted
    assert progress.sensor_s == pytest.approx(0.24 + 0.05)
