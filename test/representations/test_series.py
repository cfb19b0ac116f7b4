"""Inputs of overlapping windows that share their work: equal to the definition, to the last bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.array import Events
from evdistill_core.representations import (
    BackgroundFilter,
    InputSeries,
    InputSpec,
    represent,
    slices_of,
)

HEIGHT, WIDTH = 6, 7
SIZE = {"width": WIDTH, "height": HEIGHT}
FILTER = BackgroundFilter(dt_us=60)
KINDS = [
    InputSpec(background_filter=FILTER),  # 2 and 4 slices are summed
    InputSpec(bins=7, background_filter=BackgroundFilter(radius_px=2, dt_us=100), max_pixels=12),
    InputSpec(bins=1, background_filter=FILTER, normalisation="nonzero"),
    InputSpec(),
    InputSpec(kind="histogram", bins=3, background_filter=FILTER),
    InputSpec(kind="counts2", normalisation="robust", background_filter=FILTER),
    InputSpec(kind="time_surface", background_filter=FILTER),
]


def make(t_us, seed=0):
    rng, n = np.random.default_rng(seed), len(t_us)
    return Events.from_columns(
        rng.integers(0, WIDTH, n), rng.integers(0, HEIGHT, n), np.sort(t_us),
        rng.integers(0, 2, n), **SIZE,
    )  # fmt: skip


def check(events, spec, stride_us, slices, cuts, *, skipped=()):
    """Every window of a stream must be what its events alone give; return how many differ from 0.

    Events are taken in parts, and never beyond the end of the next window.
    """
    duration_us = slices * stride_us
    series = InputSeries(spec, **SIZE, t_start_us=0, duration_us=duration_us, stride_us=stride_us)
    taken = shown = 0
    last_us = int(events.t_us[-1]) if len(events) else 0
    for k, start_us in enumerate(range(0, last_us + 1, stride_us)):
        end = int(np.searchsorted(events.t_us, start_us + duration_us))
        for cut in [*(c for c in cuts if taken < c < end), end]:
            series.add(events[taken:cut])
            taken = cut
        if k in skipped:
            continue
        assert series.fits(start_us, start_us + duration_us, **SIZE)
        first = int(np.searchsorted(events.t_us, start_us))
        expected = represent(events[first:end], spec, start_us, start_us + duration_us)
        np.testing.assert_array_equal(series.input(start_us), expected)
        shown += bool(expected.any())
        assert not series.fits(start_us, start_us + duration_us, **SIZE)
    return shown


@pytest.mark.parametrize("spec", KINDS, ids=str)
@pytest.mark.parametrize("slices", [2, 3, 4])
def test_every_window_is_that_of_its_own_events(spec, slices):
    if slices_of(spec, slices * 100, 100) == 1:
        assert spec.background_filter is None
        assert slices == 3
        return
    rng = np.random.default_rng(slices)
    for count in (30, 300, 3000):
        events = make(rng.integers(0, 1500, count), count)
        for parts in (0, 3, 40):
            cuts = np.sort(rng.integers(0, count + 1, parts)).tolist()
            assert check(events, spec, 100, slices, cuts, skipped={3, 4, 9}) > 0


@given(
    st.lists(st.integers(0, 700), max_size=80),
    st.lists(st.integers(0, 80), max_size=8),
    st.sampled_from([(100, 2), (100, 4), (61, 3), (60, 2)]),
    st.sampled_from(KINDS[:1] + KINDS[4:6]),
    st.sets(st.integers(0, 8), max_size=4),
)
@settings(max_examples=120)
def test_any_times_and_cuts(times, cuts, windows, spec, skipped):
    events = make(np.array(times, np.int64), len(times))
    if spec.background_filter.dt_us <= windows[0]:
        check(events, spec, *windows, sorted(cuts), skipped=skipped)


def test_company_on_either_side_of_a_slice():
    """One event, with company before its slice, after it, on both sides, in it, or nowhere."""
    for company in ([], [95], [205], [95, 205], [150], [95, 150, 205]):
        times = np.array([*company, 149])
        order = np.argsort(times, kind="stable")
        x = np.array([3] * len(company) + [2])[order]
        y, p = np.full(len(x), 2), np.ones(len(x))
        events = Events.from_columns(x, y, times[order], p, **SIZE)
        for spec in KINDS:
            if spec.background_filter is not None:
                check(events, spec, 100, 2, [])
                check(events, spec, 100, 4, [1, 2])


def test_steps_of_time_do_not_depend_on_the_window():
    """Lengths at which the product of time and steps is rounded to below a whole number."""
    for stride_us in (98, 143, 1127, 12_500, 33_333):
        spec = InputSpec(bins=7)
        events = make(np.arange(0, 12 * stride_us, max(1, stride_us // 97)))
        assert check(events, spec, stride_us, 6, []) == 12
        assert check(events, spec, stride_us, 3, []) == 12


def test_what_shares_nothing():
    spec = KINDS[0]
    assert slices_of(spec, 1000, 250) == 4
    assert slices_of(spec, 1000, 100) == 10
    assert slices_of(spec, 1000, 300) == 1
    assert slices_of(spec, 1000, 50) == 1  # company may lie two slices away
    assert slices_of(InputSpec(), 1000, 250) == 4
    assert slices_of(InputSpec(), 1000, 200) == 1
    assert slices_of(InputSpec(kind="counts2"), 1000, 500) == 1
    with pytest.raises(ValueError, match="1000 us every 300 us share nothing"):
        InputSeries(spec, **SIZE, t_start_us=0, duration_us=1000, stride_us=300)


def test_windows_of_another_series_do_not_fit():
    series = InputSeries(KINDS[0], **SIZE, t_start_us=50, duration_us=400, stride_us=100)
    assert series.fits(150, 550, **SIZE)
    assert not series.fits(100, 500, **SIZE)
    assert not series.fits(150, 551, **SIZE)
    assert not series.fits(-50, 350, **SIZE)
    assert not series.fits(50, 450, width=WIDTH, height=HEIGHT + 1)
    series.add(make([60, 160, 470]))
    assert not series.fits(50, 450, **SIZE)  # events behind its end were taken already
    assert series.fits(150, 550, **SIZE)
