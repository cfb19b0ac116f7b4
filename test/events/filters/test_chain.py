"""Every filter against its definition, written as a slow loop over dictionaries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.array import Events
from evdistill_core.events.filters import EventFilters, FilterConfig, HotPixels
from evdistill_core.events.filters.chain import SLICE_US
from evdistill_core.foundation.errors import ConfigError

WIDTH, HEIGHT = 9, 7
HOT = {(0, 0), (4, 3), (8, 6)}


def mask_of(pixels):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for x, y in pixels:
        mask[y, x] = True
    return HotPixels(mask)


def make(rows):
    """Events of (x, y, t, p)."""
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    return Events.from_columns(*columns, width=WIDTH, height=HEIGHT)


def rows(events):
    return list(
        zip(*(c.tolist() for c in (events.x, events.y, events.t_us, events.p)), strict=True)
    )


def mix(x, y, t, p, seed):
    """The limiter's hash in whole numbers of any length."""
    full = (1 << 64) - 1
    h = (t * 0x9E3779B97F4A7C15) & full
    h ^= x << 32 | y << 16 | p
    h = (h + seed * 0xD1342543DE82EF95) & full
    h = ((h ^ h >> 30) * 0xBF58476D1CE4E5B9) & full
    h = ((h ^ h >> 27) * 0x94D049BB133111EB) & full
    return h >> 32


def reference(events, config):
    """Return what passes, and what each stage removed."""
    kept, fired, seen = [], {}, {}
    removed = {"hot_pixel": 0, "refractory": 0, "background": 0, "rate_limit": 0}
    budget = -(-config.max_events_per_s * SLICE_US // 1_000_000)
    place = came = passed = None
    chance = 1.0
    for x, y, t, p in rows(events):
        if config.hot_pixels is not None and (x, y) in HOT:
            removed["hot_pixel"] += 1
            continue
        if config.refractory_us:
            if (x, y) in fired and abs(t - fired[x, y]) < config.refractory_us:
                removed["refractory"] += 1
                continue
            fired[x, y] = t
        if config.background_us:
            around = [(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
            vouched = any(n in seen and abs(t - seen[n]) <= config.background_us for n in around)
            seen[x, y] = t
            if not vouched:
                removed["background"] += 1
                continue
        if budget:
            if place is None or t // SLICE_US > place:
                before = came if place is not None and t // SLICE_US == place + 1 else 0
                chance = (budget << 32) // before if before > budget else 1 << 32
                place, came, passed = t // SLICE_US, 0, 0
            came += 1
            if mix(x, y, t, p, config.seed) >= chance or passed >= budget:
                removed["rate_limit"] += 1
                continue
            passed += 1
        kept.append((x, y, t, p))
    return kept, removed


@st.composite
def streams(draw):
    count = draw(st.integers(0, 120))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    steps = rng.integers(-20, draw(st.sampled_from([30, 300, 5000])), count)
    t = draw(st.sampled_from([0, 10**15, 2**61])) + np.cumsum(steps)
    columns = (rng.integers(0, WIDTH, count), rng.integers(0, HEIGHT, count), np.abs(t))
    return make(np.stack([*columns, rng.integers(0, 2, count)], 1))


CONFIGS = st.builds(
    FilterConfig,
    hot_pixels=st.sampled_from([None, mask_of(HOT)]),
    refractory_us=st.sampled_from([0, 1, 100, 10_000]),
    background_us=st.sampled_from([0, 1, 100, 10_000]),
    max_events_per_s=st.sampled_from([0, 1, 500, 2_000, 10**9]),
    seed=st.integers(0, 3),
)


@given(streams(), CONFIGS, st.data())
@settings(max_examples=300, deadline=None)
def test_any_split_gives_the_events_of_the_definition(events, config, data):
    expected, removed = reference(events, config)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=5)))
    filters, got = EventFilters(config), []
    for a, b in zip([0, *cuts], [*cuts, len(events)], strict=True):
        got += rows(filters(events[a:b]))
    assert got == expected
    if not config.is_off:
        counters = filters.counters.as_dict()
        assert {k: counters[k] for k in removed} == removed
        assert counters["pushed"] == len(events) == len(got) + sum(removed.values())


def test_nothing_on_is_the_same_object():
    events = make([(1, 1, 5, 0)])
    filters = EventFilters()
    assert filters(events) is events
    assert filters.counters.pushed == 0


def test_inputs_are_not_modified_and_few_survivors_keep_no_room():
    events = make([(i % WIDTH, i % HEIGHT, i, i % 2) for i in range(1000)])
    before = rows(events)
    passed = EventFilters(FilterConfig(refractory_us=10**6))(events)
    assert rows(events) == before
    assert len(passed) == WIDTH * HEIGHT
    assert passed.t_us.base.size == len(passed)


@pytest.mark.parametrize("rate", [1_000, 50_000, 333_333])
@pytest.mark.parametrize("burst", [False, True])
def test_no_slice_ever_holds_more_than_the_limit(rate, burst):
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 500_000, 400_000))
    if burst:
        t = np.where((t // 100_000) % 2 == 0, t // 100_000 * 100_000, t)
    count = len(t)
    events = Events.from_columns(
        rng.integers(0, WIDTH, count), rng.integers(0, HEIGHT, count), t,
        rng.integers(0, 2, count), width=WIDTH, height=HEIGHT,
    )  # fmt: skip
    passed = EventFilters(FilterConfig(max_events_per_s=rate))(events)
    per_slice = np.bincount(passed.t_us // SLICE_US)
    assert per_slice.max() <= rate * SLICE_US / 1e6 + 1
    if not burst:
        assert len(passed) > 0.9 * rate * 0.5


def test_thinning_is_uniform_over_the_frame_the_slice_and_polarity():
    rng = np.random.default_rng(1)
    count = 1_000_000
    t = np.arange(count)  # 1 Mev/s for a second
    events = Events.from_columns(
        rng.integers(0, 64, count), rng.integers(0, 48, count), t,
        rng.integers(0, 2, count), width=64, height=48,
    )  # fmt: skip
    passed = EventFilters(FilterConfig(max_events_per_s=200_000))(events)
    late = passed[passed.t_us >= SLICE_US]  # the first slice knows no rate yet
    expected = 0.2 * (count - SLICE_US)
    assert abs(len(late) - expected) < 0.01 * expected
    in_slice = late.t_us % SLICE_US // 500
    # The last twentieth of a slice pays when chance has kept a few too many before it.
    assert np.bincount(in_slice, minlength=20)[19] > 0.8 * expected / 20
    for column, bins in ((late.x, 64), (late.y, 48), (late.p, 2), (in_slice, 20)):
        seen = np.bincount(column, minlength=bins)
        if bins == 20:
            seen = seen[:19]
        spread = 5 * np.sqrt(expected / bins)
        assert np.abs(seen - expected / bins).max() < spread + 0.02 * expected / bins
    other = EventFilters(FilterConfig(max_events_per_s=200_000, seed=9))(events)
    assert not np.array_equal(other.t_us[:50_000], passed.t_us[:50_000])


def test_a_reset_forgets_times_but_not_what_is_hot():
    config = FilterConfig(
        mask_of(HOT), refractory_us=1000, background_us=1000, max_events_per_s=100
    )
    filters = EventFilters(config)
    assert rows(filters(make([(1, 1, 5, 0), (2, 1, 6, 0)]))) == [(2, 1, 6, 0)]
    filters.reset()
    later = make([(2, 1, 7, 0), (0, 0, 8, 0), (3, 1, 9, 0)])
    assert rows(filters(later)) == [(3, 1, 9, 0)]
    assert filters.counters.hot_pixel == 1
    assert filters.counters.refractory == 0


def test_settings_change_while_running():
    filters = EventFilters(FilterConfig(refractory_us=100))
    filters(make([(1, 1, 5, 0)]))
    filters.configure(FilterConfig(refractory_us=100, background_us=50))
    assert not len(filters(make([(1, 1, 6, 0), (5, 5, 7, 0)])))
    assert (filters.counters.refractory, filters.counters.background) == (1, 1)
    filters.configure(FilterConfig())
    assert len(filters(make([(1, 1, 8, 0)]))) == 1
    filters.configure(FilterConfig(refractory_us=100))
    assert len(filters(make([(1, 1, 9, 0)]))) == 1, "a map that was off holds old times"


def test_another_size_begins_anew_and_a_mask_of_the_wrong_size_is_counted():
    filters = EventFilters(FilterConfig(mask_of(HOT), refractory_us=100))
    assert not len(filters(make([(0, 0, 5, 0)])))
    assert filters.counters.hot_pixels == 3
    wide = Events.from_columns([0, 99], [0, 99], [6, 7], [0, 0], width=100, height=100)
    assert len(filters(wide)) == 2
    assert filters.counters.unusable_masks == 1
    assert filters.counters.hot_pixels == 0
    assert not len(filters(make([(0, 0, 8, 0)])))
    assert filters.counters.hot_pixels == 3


@pytest.mark.parametrize("name", ["hot_learn_ms", "hot_ratio", "refractory_us", "background_us"])
def test_settings_below_zero_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name} must be 0"):
        FilterConfig(**{name: -1})
