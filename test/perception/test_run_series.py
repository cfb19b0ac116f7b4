"""Curves of a run: bounded memory, whatever its length, and no window is lost."""

import numpy as np
import pytest

from evdistill_core.events.array import Events
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.inference.prediction import Detection, Guess, Prediction, Recognition
from evdistill_core.perception.result import Result
from evdistill_core.perception.run_series import RunSeries


def events(count):
    zeros = np.zeros(count, np.uint16)
    return Events(zeros, zeros, np.zeros(count, np.int64), np.zeros(count, np.uint8), 8, 6)


def window(number, *, boxes=(), mask=None, guess=None, count=5):
    if guess is not None:
        answer = Recognition((Guess(0, 0.9, guess),))
    else:
        mask = np.full((6, 8), 255, np.uint8) if mask is None else mask
        found = tuple(Detection(0, 0.9, (0, 0, 2, 2), 4, 1, name) for name in boxes)
        answer = Prediction(mask, np.zeros((6, 8), np.float32), found)
    begin = number * 50_000
    return Result(number, begin, begin + 50_000, 0, "", events(count), answer, SIX_CLASSES)


def charts_of(series):
    return {chart.title: {line.name: line for line in chart.lines} for chart in series.charts()}


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9, 64, 65])
def test_parts_are_bounded_and_nothing_is_lost(count):
    series = RunSeries(parts=4)
    for i in range(count):
        series.add(window(i, boxes=["vehicle"] * (i % 3)), (i + 1) * 0.05)
    assert 1 <= len(series) <= 4
    rates = charts_of(series)["Events, million a second"]["events"]
    assert rates.x[-1] == pytest.approx(count * 0.05)
    assert list(rates.x) == sorted(rates.x)
    # 5 events in 50 ms, however many windows stand together.
    assert all(y == pytest.approx(1e-4) for y in rates.y)


def test_values_by_hand():
    series = RunSeries()
    mask = np.full((6, 8), 255, np.uint8)
    mask[0, :6], mask[1, :2] = 0, 5
    series.add(window(0, boxes=["vehicle", "vehicle", "human"], mask=mask), 0.05)
    series.add(window(1), 0.1)
    found = charts_of(series)
    assert found["Boxes a window"]["vehicle"].y == [2.0, 0.0]
    assert found["Boxes a window"]["human"].y == [1.0, 0.0]
    assert found["Share of the mask, %"]["flat"].y == [75.0, 0.0]
    assert found["Share of the mask, %"]["vehicle"].y == [25.0, 0.0]
    assert "nature" not in found["Share of the mask, %"]
    assert "Windows by class, %" not in found


def test_recognition_has_shares_of_windows():
    series = RunSeries(parts=2)
    for i, name in enumerate(["a", "b", "b", "b"]):
        series.add(window(i, guess=name), (i + 1) * 0.05)
    found = charts_of(series)
    assert found["Windows by class, %"]["b"].y == [50.0, 100.0]
    assert set(found) == {"Events, million a second", "Windows by class, %"}


def test_a_run_without_windows_has_no_curves():
    assert RunSeries().charts() == []
