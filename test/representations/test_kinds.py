"""time_surface and histogram against their definitions, written down slowly, on any window."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evdistill_core.data.unlabelled import invert_polarity
from evdistill_core.events.array import Events
from evdistill_core.representations import InputSpec, represent
from evdistill_core.representations.on_torch import represent_torch

HEIGHT, WIDTH = 7, 9
FAR = 1 << 40

times = st.one_of(st.integers(-50, 150), st.integers(-FAR, FAR))
event = st.tuples(st.integers(0, WIDTH + 2), st.integers(0, HEIGHT + 2), times, st.booleans())
windows = st.tuples(
    st.lists(event, max_size=40),
    st.integers(-60, 60),  # start
    st.one_of(st.integers(1, 120), st.integers(1, FAR)),  # length
)
EQUAL_TIMES = ([(1, 2, 30, True), (1, 2, 30, True), (1, 2, 30, False), (0, 0, 30, True)], 0, 100)
ALL_OUTSIDE = ([(WIDTH, 0, 5, True), (0, HEIGHT, 5, False)], 0, 100)
UNSORTED = ([(3, 3, 90, True), (3, 3, 10, True), (3, 3, 50, True)], 0, 100)


def columns(rows):
    x, y, t_us, p = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Events(
        np.array(x, np.uint16),
        np.array(y, np.uint16),
        np.array(t_us, np.int64),
        np.array(p, np.uint8),
        WIDTH,
        HEIGHT,
    )


def slow_time_surface(rows, spec, start_us, span_us):
    """The definition: one number a cell and polarity, from the latest of its events."""
    grid = spec.grid(height=HEIGHT, width=WIDTH)
    out = np.zeros((2, grid.height, grid.width))
    for channel, polarity in enumerate((True, False)):
        for row in range(grid.height):
            for column in range(grid.width):
                ages_us = [
                    start_us + span_us - min(max(t_us, start_us), start_us + span_us - 1)
                    for x, y, t_us, p in rows
                    if p == polarity and x < WIDTH and y < HEIGHT
                    and (y // grid.factor, x // grid.factor) == (row, column)
                ]  # fmt: skip
                if ages_us:
                    out[channel, row, column] = math.exp(-min(ages_us) / spec.decay_us)
    return out


def slow_histogram(rows, spec, start_us, span_us):
    """The definition, with fractions: no rounding decides on a bin."""
    grid = spec.grid(height=HEIGHT, width=WIDTH)
    out = np.zeros((2 * spec.bins, grid.height, grid.width))
    for x, y, t_us, p in rows:
        if x < WIDTH and y < HEIGHT:
            inside_us = min(max(t_us, start_us), start_us + span_us - 1)
            b = math.floor(Fraction(spec.bins * (inside_us - start_us), span_us))
            out[b if p else spec.bins + b, y // grid.factor, x // grid.factor] += 1
    return np.clip(out / (spec.scale * grid.factor**2), -spec.clip, spec.clip)


@given(windows, st.integers(1, 1000), st.sampled_from([1 << 30, 20]))
@example(([], 0, 100), 10, 20)
@example(([(4, 4, 99, False)], 0, 100), 10, 1 << 30)
@example(EQUAL_TIMES, 10, 20)
@example(ALL_OUTSIDE, 10, 1 << 30)
@example(UNSORTED, 10, 20)
@settings(max_examples=150)
def test_time_surface_equals_its_definition(window, decay_us, max_pixels):
    rows, start_us, span_us = window
    spec = InputSpec(kind="time_surface", decay_us=decay_us, max_pixels=max_pixels, size_multiple=4)
    events = columns(rows)
    expected = slow_time_surface(rows, spec, start_us, span_us)
    fast = represent(events, spec, start_us, start_us + span_us)
    assert fast.dtype == np.float32
    np.testing.assert_allclose(fast, expected, rtol=1e-6, atol=1e-38)
    on_torch = represent_torch(events, spec, start_us, start_us + span_us).numpy()
    np.testing.assert_allclose(on_torch, fast, rtol=2e-7, atol=1e-38)


@given(windows, st.integers(1, 9), st.sampled_from([1 << 30, 20]), st.sampled_from([1e9, 1.0]))
@example(([], 0, 100), 3, 20, 1.0)
@example(([(4, 4, 99, False)], 0, 100), 3, 1 << 30, 1.0)
@example(EQUAL_TIMES, 4, 20, 1e9)
@example(ALL_OUTSIDE, 3, 1 << 30, 1e9)
@example(UNSORTED, 3, 20, 1e9)
@settings(max_examples=150)
def test_histogram_equals_its_definition(window, bins, max_pixels, clip):
    rows, start_us, span_us = window
    spec = InputSpec(
        kind="histogram", bins=bins, scale=1.0, clip=clip, max_pixels=max_pixels, size_multiple=4
    )
    events = columns(rows)
    fast = represent(events, spec, start_us, start_us + span_us)
    expected = slow_histogram(rows, spec, start_us, span_us)
    np.testing.assert_allclose(fast, expected, rtol=1e-6)
    on_torch = represent_torch(events, spec, start_us, start_us + span_us).numpy()
    np.testing.assert_array_equal(on_torch, fast)


def test_the_last_event_of_a_cell_decides_the_time_surface():
    rows = [(1, 1, 20, 1), (2, 1, 60, 1), (1, 1, 80, 0)]
    spec = InputSpec(kind="time_surface", decay_us=40, size_multiple=1)
    surface = represent(columns(rows), spec, 0, 100)
    assert surface[0, 1, 1] == np.float32(math.exp(-2))
    assert surface[0, 1, 2] == np.float32(math.exp(-1))
    assert surface[1, 1, 1] == np.float32(math.exp(-0.5))
    assert np.count_nonzero(surface) == 3


def test_a_bin_begins_with_its_first_microsecond():
    rows = [(0, 0, t_us, 1) for t_us in (0, 24, 25, 49, 50, 74, 75, 99)]
    spec = InputSpec(kind="histogram", bins=4, scale=1.0, clip=9.0, size_multiple=1)
    assert represent(columns(rows), spec, 0, 100)[:, 0, 0].tolist() == [2, 2, 2, 2, 0, 0, 0, 0]


def test_the_histogram_over_time_is_the_counts():
    rng = np.random.default_rng(0)
    n = 3000
    events = Events.from_columns(
        rng.integers(0, WIDTH, n), rng.integers(0, HEIGHT, n), rng.integers(0, 100, n),
        rng.random(n) > 0.3, width=WIDTH, height=HEIGHT,
    )  # fmt: skip
    sums = {"scale": 1.0, "clip": 1e9, "normalisation": "fixed"}
    binned = represent(events, InputSpec(kind="histogram", bins=6, **sums), 0, 100)
    counts = represent(events, InputSpec(kind="counts2", **sums), 0, 100)
    np.testing.assert_array_equal(binned.reshape(2, 6, *counts.shape[1:]).sum(1), counts[:2])


@pytest.mark.parametrize("kind", ["voxel", "counts2", "time_surface", "histogram"])
def test_inverted_polarity_is_the_input_of_inverted_events(kind):
    rng = np.random.default_rng(1)
    n = 400
    x, y, t_us = rng.integers(0, WIDTH, n), rng.integers(0, HEIGHT, n), rng.integers(0, 100, n)
    p = rng.random(n) > 0.3
    spec = InputSpec(kind=kind)
    given_, inverted = (
        represent(Events.from_columns(x, y, t_us, q, width=WIDTH, height=HEIGHT), spec, 0, 100)
        for q in (p, ~p)
    )
    np.testing.assert_array_equal(invert_polarity(given_, spec), inverted)
    np.testing.assert_array_equal(invert_polarity(inverted, spec), given_)


@pytest.mark.parametrize("kind", ["voxel", "counts2", "time_surface", "histogram"])
def test_polarities_tell_brighter_from_darker_in_numpy_and_torch(kind):
    rows = [(1, 1, 20, 1), (2, 1, 60, 0)]
    spec = InputSpec(kind=kind)
    x = represent(columns(rows), spec, 0, 100)
    brighter, darker = spec.representation.polarities(x)
    assert np.argwhere(brighter).tolist() == [[1, 1]]
    assert np.argwhere(darker).tolist() == [[1, 2]]
    batch = torch.from_numpy(np.stack([x, x]))
    for expected, got in zip(
        (brighter, darker), spec.representation.polarities(batch), strict=True
    ):
        np.testing.assert_array_equal(got[1].numpy(), expected)
