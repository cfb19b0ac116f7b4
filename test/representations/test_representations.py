from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.array import Events
from evdistill_core.representations import BackgroundFilter, InputSpec, represent
from evdistill_core.representations.background import supported_events
from evdistill_core.representations.on_torch import represent_batch, represent_torch

T0, T1 = 1_000_000, 1_050_000
SPECS = [
    InputSpec(),
    InputSpec(bins=1),
    InputSpec(bins=2, max_pixels=100),
    InputSpec(normalisation="nonzero"),
    InputSpec(kind="counts2"),
    InputSpec(kind="counts2", normalisation="robust"),
    InputSpec(kind="counts2", normalisation="fixed", scale=3.0, max_pixels=300),
    InputSpec(background_filter=BackgroundFilter(radius_px=2, dt_us=4000)),
    InputSpec(kind="histogram", bins=3, max_pixels=300),
    InputSpec(kind="histogram", normalisation="nonzero"),
]
ALL_SPECS = [*SPECS, InputSpec(kind="time_surface", max_pixels=300)]


def make(n, seed=0, height=21, width=33, spread=1.0):
    rng = np.random.default_rng(seed)
    span = T1 - T0
    return Events.from_columns(
        rng.integers(0, width, n),
        rng.integers(0, height, n),
        np.sort(T0 + (rng.random(n) * span * spread).astype(np.int64)),
        rng.random(n) > 0.4,
        width=width,
        height=height,
    )


def slow_counts(events, spec):
    """The definition, one event after another, in float64, without steps of 1/1024 where it can."""
    grid = spec.grid(height=events.height, width=events.width)
    out = np.zeros((spec.channels, grid.height, grid.width))
    for x, y, t, p in zip(events.x, events.y, events.t_us, events.p, strict=True):
        row, column = int(y) // grid.factor, int(x) // grid.factor
        if x >= events.width or y >= events.height:
            continue
        if spec.kind == "counts2":
            out[0 if p else 1, row, column] += 1
            continue
        inside = min(max(int(t), T0), T1 - 1)
        if spec.kind == "histogram":
            channel = (inside - T0) * spec.bins // (T1 - T0) + (0 if p else spec.bins)
            out[channel, row, column] += 1
            continue
        position = (inside - T0) / (T1 - T0) * (spec.bins - 1)
        if spec.normalisation == "nonzero":
            position = int(position * 1024) / 1024  # which cells are zero depends on the steps
        left = int(position)
        sign = 1 if p else -1
        out[left, row, column] += sign * (1 - (position - left))
        if position > left:
            out[left + 1, row, column] += sign * (position - left)
    return out, grid


def slow(events, spec):
    if spec.background_filter is not None:
        events = events[slow_supported(events, spec.background_filter)]
    out, grid = slow_counts(events, spec)
    if spec.normalisation == "fixed":
        return np.clip(out / spec.scale / grid.factor**2, -spec.clip, spec.clip)
    if spec.normalisation == "nonzero":
        mask = np.abs(out) > 1e-9
        if mask.any():
            values = out[mask]
            out[mask] = (values - values.mean()) / (values.std() or 1.0)
        return out
    for c in range(2):
        used = np.sort(out[c, : grid.used_height, : grid.used_width].ravel())
        rank = len(used) - 1 if spec.normalisation == "maximum" else -(-999 * len(used) // 1000) - 1
        top = max(1.0, used[rank])
        out[c] = np.floor(np.minimum(out[c], top) / top * 255 + 0.5) / 255
    return out


def slow_supported(events, spec):
    kept = np.zeros(len(events), bool)
    for i in range(len(events)):
        for j in range(len(events)):
            dx = abs(int(events.x[i]) - int(events.x[j]))
            dy = abs(int(events.y[i]) - int(events.y[j]))
            near = max(dx, dy) <= spec.radius_px and max(dx, dy) > 0
            if near and abs(int(events.t_us[i]) - int(events.t_us[j])) <= spec.dt_us:
                kept[i] = True
    return kept


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("count", [0, 1, 2, 700])
def test_all_implementations_equal_the_slow_reference(spec, count):
    events = make(count)
    fast = represent(events, spec, T0, T1)
    assert fast.dtype == np.float32
    assert fast.shape == spec.shape(height=21, width=33)
    # a time step is 1/1024 of a bin: at most that much of each event is in the other bin
    tolerance = 1e-5 if spec.normalisation == "nonzero" else 12 / 1024
    assert np.abs(fast - slow(events, spec)).max() <= tolerance
    on_torch = represent_torch(events, spec, T0, T1).numpy()
    if spec.normalisation == "nonzero":
        np.testing.assert_allclose(on_torch, fast, atol=1e-5)
    else:
        np.testing.assert_array_equal(on_torch, fast)


@pytest.mark.parametrize("spec", ALL_SPECS, ids=str)
def test_order_does_not_matter_to_the_last_bit(spec):
    events = make(2000)
    shuffled = events[np.random.default_rng(3).permutation(2000)]
    np.testing.assert_array_equal(
        represent(events, spec, T0, T1), represent(shuffled, spec, T0, T1)
    )


def raw_voxels(bins=5):
    # scale 1 and a clip that nothing reaches: the bare sums
    return InputSpec(bins=bins, scale=1.0, clip=1e6)


@given(st.integers(0, 300), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=40)
def test_sum_of_voxels_is_brighter_minus_darker(count, bins, seed):
    events = make(count, seed, spread=1.5)  # a third of the events lie after the window
    total = represent(events, raw_voxels(bins), T0, T1).sum(dtype=np.float64)
    assert total == int(events.p.sum()) * 2 - count


def test_sum_of_counts_is_the_number_of_events():
    events = make(5000)
    spec = InputSpec(kind="counts2", normalisation="fixed", scale=1.0, clip=1e6)
    counts = represent(events, spec, T0, T1)
    assert counts[0].sum() == events.p.sum()
    assert counts[1].sum() == 5000 - events.p.sum()
    assert not counts[2].any()


def test_counts_do_not_wrap():
    n = 70_000
    events = Events.from_columns(
        np.full(n, 3), np.full(n, 2), np.full(n, T0), np.ones(n), width=8, height=8
    )
    spec = InputSpec(kind="counts2", normalisation="fixed", scale=1.0, clip=1e9)
    assert represent(events, spec, T0, T1)[0, 2, 3] == n
    assert represent(events, raw_voxels(), T0, T1)[0, 2, 3] == n


def test_time_bins_span_the_window_and_late_events_are_kept_at_its_ends():
    t_us = [T0 - 5_000_000, T0, (T0 + T1) // 2, T1 - 1, T1 + 7_000_000]
    events = Events.from_columns([0, 1, 2, 3, 4], [0] * 5, t_us, [1] * 5, width=8, height=8)
    voxels = represent(events, raw_voxels(), T0, T1)[:, 0, :5]
    assert voxels[0, 0] == 1
    assert voxels[0, 1] == 1
    assert voxels[2, 2] == 1
    assert voxels[4, 3] > 0.99
    assert voxels[4, 4] == voxels[4, 3]


def test_extreme_times_and_coordinates_do_no_harm():
    lowest, highest = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    t_us = np.array([lowest, highest, T0], np.int64)
    x = np.array([1, 2, 60_000], np.uint16)
    events = Events(x, np.zeros(3, np.uint16), t_us, np.ones(3, np.uint8), 8, 8)
    for spec in (raw_voxels(), InputSpec(background_filter=BackgroundFilter())):
        voxels = represent(events, spec, T0, T1)
        np.testing.assert_array_equal(voxels, represent_torch(events, spec, T0, T1).numpy())
    assert represent(events, raw_voxels(), T0, T1).sum() == 2  # the one outside is left out


def test_window_without_duration_and_wrong_output_are_refused():
    events = make(3)
    with pytest.raises(ValueError, match="ends after it starts"):
        represent(events, InputSpec(), T0, T0)
    with pytest.raises(ValueError, match="out must be"):
        represent(events, InputSpec(), T0, T1, out=np.zeros((5, 32, 32), np.float32))


@pytest.mark.parametrize("spec", ALL_SPECS, ids=str)
def test_batch_equals_single_windows(spec):
    windows = [(make(n, n), T0, T1) for n in (0, 1, 500)]
    batch = represent_batch(windows, spec).numpy()
    for item, (events, a, b) in zip(batch, windows, strict=True):
        np.testing.assert_array_equal(item, represent(events, spec, a, b))
    with pytest.raises(ValueError, match="one sensor size"):
        represent_batch([*windows, (Events.empty(9, 9), T0, T1)], spec)
    with pytest.raises(ValueError, match="one sensor size"):
        represent_batch([], spec)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("spec", ALL_SPECS, ids=str)
def test_cuda_equals_numba(spec):
    events = make(5000)
    on_cuda = represent_batch([(events, T0, T1)], spec, device="cuda")[0].cpu().numpy()
    np.testing.assert_allclose(on_cuda, represent(events, spec, T0, T1), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_neighbour_filter_equals_its_definition(seed):
    events = make(400, seed, height=40, width=50)
    spec = BackgroundFilter(radius_px=1 + seed % 3, dt_us=900 * (seed + 1))
    expected = slow_supported(events, spec)
    assert expected.any()
    assert not expected.all()
    np.testing.assert_array_equal(supported_events(events, spec), expected)
    order = np.random.default_rng(seed).permutation(len(events))
    np.testing.assert_array_equal(supported_events(events[order], spec), expected[order])


def test_windows_leave_nothing_behind_in_the_neighbour_filter():
    """The map of times is used again: by windows in turn, of any size, and in other threads."""
    spec = BackgroundFilter(radius_px=1, dt_us=900)
    sizes = [(40, 50), (40, 50), (20, 30), (40, 50)]
    windows = [make(300, i, height=h, width=w) for i, (h, w) in enumerate(sizes)]
    outside = Events(
        np.r_[windows[0].x, [60]].astype(np.uint16), np.r_[windows[0].y, [70]].astype(np.uint16),
        np.r_[windows[0].t_us, [T0]], np.r_[windows[0].p, [1]].astype(np.uint8), 50, 40,
    )  # fmt: skip
    windows.insert(1, outside)
    expected = [slow_supported(e, spec) for e in (windows[0], *windows[2:])]
    expected.insert(1, np.r_[expected[0], [False]])
    with ThreadPoolExecutor(2) as pool:
        rounds = [[pool.submit(supported_events, e, spec) for e in windows] for _ in range(5)]
        for futures in rounds:
            for future, wanted in zip(futures, expected, strict=True):
                np.testing.assert_array_equal(future.result(), wanted)


def test_neighbour_filter_survives_times_far_apart():
    """Hours between events, and times whose difference does not fit in 64 bits."""
    lowest, highest = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    t_us = np.array([lowest, 0, 5, 10**12, 10**12 + 3, highest], np.int64)
    x = np.array([5, 5, 6, 5, 6, 5], np.uint16)
    events = Events(x, np.zeros(6, np.uint16), t_us, np.ones(6, np.uint8), 9, 9)
    kept = supported_events(events[1:5], BackgroundFilter())
    assert kept.tolist() == [True] * 4
    assert len(supported_events(events, BackgroundFilter())) == 6
    apart = Events.from_columns([5, 6], [0, 0], [0, 10**12], [1, 1], width=9, height=9)
    assert not supported_events(apart, BackgroundFilter()).any()


def test_neighbour_filter_drops_a_hot_pixel():
    events = Events.from_columns(
        [5] * 50, [5] * 50, T0 + np.arange(50), [1] * 50, width=10, height=10
    )
    assert not supported_events(events, BackgroundFilter()).any()


def test_a_shrunk_sensor_sees_the_same_values():
    """Every pixel of a 2x2 block fires once: the mean is what one large pixel would have given."""
    y, x = np.mgrid[0:20, 0:40].reshape(2, -1)
    large = Events.from_columns(x, y, np.full(800, T0), np.ones(800), width=40, height=20)
    y, x = np.mgrid[0:10, 0:20].reshape(2, -1)
    small = Events.from_columns(x, y, np.full(200, T0), np.ones(200), width=20, height=10)
    spec = InputSpec(max_pixels=200)
    assert spec.grid(height=20, width=40).factor == 2
    np.testing.assert_array_equal(represent(large, spec, T0, T1), represent(small, spec, T0, T1))
