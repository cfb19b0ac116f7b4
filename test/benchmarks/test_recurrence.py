"""The benchmark of memory: its scenes say what they claim, and it runs to the end."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def recurrence(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import recurrence

    yield recurrence
    del sys.modules["recurrence"]


def test_a_thing_that_stood_still_sends_noise_alone(recurrence):
    spec = replace(recurrence.SPEC, sequence=recurrence.WINDOWS)
    scenes = recurrence.Scenes(12, spec, recurrence.WINDOWS, seed=0)
    while_moving, while_still = [], []
    for index in range(12):
        sample, things = scenes.scene(index)
        assert set(np.unique(sample.label)) <= {0, *(t.label for t in things)}
        for thing in things:
            inside = thing.cover(recurrence.WINDOWS * recurrence.WINDOW_US) > 0
            if len(things) > 1 or not inside.any():
                continue  # another one may pass over it
            lit = (sample.sequence[:, :, inside] != 0).mean((1, 2))
            first_still = recurrence.WINDOWS - thing.still
            while_still += list(lit[first_still:])
            while_moving += list(lit[first_still - 1 : first_still])
    assert np.mean(while_still) < 0.1 * np.mean(while_moving)


def test_it_runs_and_reports_every_student(recurrence):
    results = recurrence.measure(steps=2, seeds=[0], scenes=3, count=3)
    assert [r["student"] for r in results] == [row.name for row in recurrence.rows()]
    counts = [r["parameters"] for r in results]
    assert max(counts) < 1.05 * min(counts)
    for result in results:
        assert 0 <= result["iou_things"] <= 1
        assert len(result["found_by_windows_still"]) == recurrence.WINDOWS
    assert len(results[0]["twelve_windows"]["found_by_windows_still"]) == recurrence.LONG
