"""The input built while events come in: equal to the definition however the window is cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.array import Events
from evdistill_core.representations import BackgroundFilter, InputBuilder, InputSpec, represent
from evdistill_core.representations.background import supported_events

HEIGHT, WIDTH = 12, 17
KINDS = [
    InputSpec(background_filter=BackgroundFilter(dt_us=300)),
    InputSpec(background_filter=BackgroundFilter(radius_px=3, dt_us=40), max_pixels=100),
    InputSpec(kind="histogram", bins=3, background_filter=BackgroundFilter(dt_us=300)),
    InputSpec(kind="counts2", normalisation="robust", background_filter=BackgroundFilter()),
    InputSpec(kind="time_surface", background_filter=BackgroundFilter(dt_us=300)),
    InputSpec(),
    InputSpec(kind="time_surface"),
    InputSpec(normalisation="nonzero", background_filter=BackgroundFilter(dt_us=100)),
]


def supported(events, spec):
    """The definition of the filter, every event with every other one."""
    # Python's whole numbers do not overflow; they are slow, so only few events have such times.
    t_us = events.t_us.astype(object if len(events) < 50 else np.int64)
    x, y = events.x.astype(np.int64), events.y.astype(np.int64)
    distance = np.maximum(abs(x[:, None] - x), abs(y[:, None] - y))
    near = (distance > 0) & (distance <= spec.radius_px)
    return (near & (abs(t_us[:, None] - t_us) <= spec.dt_us).astype(bool)).any(1)


def make(t_us, seed=0, height=HEIGHT, width=WIDTH):
    rng, n = np.random.default_rng(seed), len(t_us)
    return Events.from_columns(
        rng.integers(0, width, n), rng.integers(0, height, n), np.sort(t_us),
        rng.integers(0, 2, n), width=width, height=height,
    )  # fmt: skip


def build(builder, events, spec, cuts, t_end_us):
    builder.start(spec, height=events.height, width=events.width, t_start_us=0, t_end_us=t_end_us)
    for start, stop in zip([0, *cuts], [*cuts, len(events)], strict=True):
        builder.add(events[start:stop])
    return builder.finish()


@pytest.mark.parametrize("spec", KINDS, ids=str)
def test_parts_make_no_difference(spec):
    builder = InputBuilder()
    rng = np.random.default_rng(5)
    for count in (0, 1, 40, 1500):
        events = make(rng.integers(0, 3000, count), count)
        expected = represent(events, spec, 0, 3000)
        assert count < 40 or expected.any()
        for parts in (1, 2, 7, 60):
            cuts = np.sort(rng.integers(0, count + 1, parts - 1)).tolist()
            np.testing.assert_array_equal(build(builder, events, spec, cuts, 3000), expected)


@given(
    st.lists(st.integers(0, 400), max_size=60),
    st.lists(st.integers(0, 60), max_size=8),
    st.integers(1, 120),
    st.integers(1, 2),
)
@settings(max_examples=150)
def test_any_cut_of_any_times_gives_what_the_definition_says(times, cuts, dt_us, radius_px):
    events = make(np.array(times, np.int64), len(times), height=4, width=5)
    spec = InputSpec(
        kind="counts2", normalisation="fixed", scale=1.0, clip=1e6,
        background_filter=BackgroundFilter(radius_px=radius_px, dt_us=dt_us),
    )  # fmt: skip
    kept = events[supported(events, spec.background_filter)]
    expected = represent(kept, InputSpec(kind="counts2", normalisation="fixed", scale=1.0,
                                         clip=1e6), 0, 401)  # fmt: skip
    places = sorted(min(c, len(events)) for c in cuts)
    np.testing.assert_array_equal(build(InputBuilder(), events, spec, places, 401), expected)


@pytest.mark.parametrize(
    ("count", "span_us", "dt_us"),
    [
        (1200, 2000, 160),  # many blocks; several events in each microsecond
        (1500, 900_000, 10_000),  # longer than 16 bits: the map's base moves many times
        (1000, 900_000, 29_999),
        (1000, 900_000, 30_001),  # the map of 32 bits
        (1200, 20, 1),
        (1000, 10**9, 20_000_000),
    ],
)
def test_filter_equals_its_definition_in_long_windows(count, span_us, dt_us):
    rng = np.random.default_rng(count)
    events = make(rng.integers(0, span_us, count), 1, height=60, width=80)
    for radius_px in (1, 2):
        spec = BackgroundFilter(radius_px=radius_px, dt_us=dt_us)
        expected = supported(events, spec)
        assert 0 < expected.sum() < count or dt_us > 10_000
        np.testing.assert_array_equal(supported_events(events, spec), expected)


def test_events_that_hide_earlier_ones_of_their_pixel():
    """A neighbour fires in time, and again too late, within one block of the filter."""
    spec = BackgroundFilter(dt_us=1600)
    for late_us in (1690, 1700, 1701, 1750, 1801):
        t_us = [0, 100, 1650, 1690, late_us]
        x = [16, 1, 12, 2, 2]  # pixel 1 waits for pixel 2
        events = Events.from_columns(x, [3] * 5, t_us, [1] * 5, width=WIDTH, height=HEIGHT)
        np.testing.assert_array_equal(supported_events(events, spec), supported(events, spec))
        assert supported_events(events, spec)[1]


def test_an_event_at_the_very_time_that_the_map_begins_with_anew():
    # 60,000 lies beyond 16 bits; the base moves to 10,001 us before it.
    events = Events.from_columns([1, 9, 1], [1, 9, 1], [0, 49_999, 60_000], [1] * 3,
                                 width=WIDTH, height=HEIGHT)  # fmt: skip
    assert not supported_events(events, BackgroundFilter()).any()


def test_any_times_of_64_bits():
    lowest, highest = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    t_us = [lowest, lowest + 1, -5, 0, 3, 10**12, 10**12 + 4, highest - 2, highest]
    x = np.array([5, 6] * 4 + [7], np.uint16)
    y, p = np.zeros(9, np.uint16), np.ones(9, np.uint8)
    events = Events(x, y, np.array(t_us, np.int64), p, 9, 9)
    for dt_us in (1, 4, 10_000, 60_000_000):
        spec = BackgroundFilter(dt_us=dt_us)
        expected = supported(events, spec)
        np.testing.assert_array_equal(supported_events(events, spec), expected)
        whole = InputSpec(background_filter=spec)
        for cut in range(9):
            np.testing.assert_array_equal(
                build(InputBuilder(), events, whole, [cut], 10), represent(events, whole, 0, 10)
            )


def test_a_builder_remembers_nothing_of_windows_before():
    spec = KINDS[0]
    builder = InputBuilder()
    sizes = [(HEIGHT, WIDTH), (30, 40), (HEIGHT, WIDTH)]
    for seed, (height, width) in enumerate(sizes):
        events = make(np.arange(0, 3000, 5), seed, height=height, width=width)
        builder.start(spec, height=height, width=width, t_start_us=0, t_end_us=3000)
        builder.add(events[:100])  # never finished
        expected = represent(events, spec, 0, 3000)
        np.testing.assert_array_equal(build(builder, events, spec, [50, 400], 3000), expected)
    assert not build(builder, Events.empty(WIDTH, HEIGHT), spec, [], 3000).any()


def test_results_are_not_written_to_by_later_windows():
    builder, events = InputBuilder(), make(np.arange(500))
    first = build(builder, events, KINDS[0], [], 500)
    before = first.copy()
    build(builder, events[:5], KINDS[0], [], 500)
    np.testing.assert_array_equal(first, before)


def test_what_cannot_be_built_is_refused():
    builder, spec, events = InputBuilder(), KINDS[0], make(np.arange(10))
    for call in (builder.finish, lambda: builder.add(events)):
        with pytest.raises(ValueError, match="call start before"):
            call()
    with pytest.raises(ValueError, match="ends after it starts"):
        builder.start(spec, height=9, width=9, t_start_us=5, t_end_us=5)
    builder.start(spec, height=HEIGHT, width=WIDTH, t_start_us=0, t_end_us=10)
    with pytest.raises(ValueError, match="17x12 pixels, got events of 9x9"):
        builder.add(Events.from_columns([1], [1], [1], [1], width=9, height=9))
    builder.add(events[5:])
    with pytest.raises(ValueError, match="order of time"):
        builder.add(events[:5])
    with pytest.raises(ValueError, match="order of time"):
        builder.add(events[np.array([9, 8])])
