from itertools import pairwise

import numpy as np
import pytest

from evdistill_core.events.array import Events
from evdistill_core.events.filters import (
    EventFilters,
    FilterConfig,
    HotPixelLearner,
    HotPixels,
)
from evdistill_core.foundation.errors import ConfigError

WIDTH, HEIGHT = 32, 24
HOT = [(0, 0), (31, 23), (10, 10), (11, 10)]


def scene(seconds=4.0, seed=0):
    """Noise everywhere, a lamp that flickers (5 x 5 pixels at 500 Hz), four hot pixels."""
    rng = np.random.default_rng(seed)
    span_us = int(seconds * 1e6)
    noise = int(2 * seconds * WIDTH * HEIGHT)
    parts = [np.stack([rng.integers(0, WIDTH, noise), rng.integers(0, HEIGHT, noise)])]
    lamp = [(x, y) for x in range(20, 25) for y in range(5, 10)]
    for pixels, rate_hz in ((lamp, 500), (HOT, 300)):
        for pixel in pixels:
            parts.append(np.repeat(np.array(pixel)[:, None], int(rate_hz * seconds), 1))
    x, y = np.concatenate(parts, 1)
    order = rng.permutation(len(x))
    t = np.sort(rng.integers(0, span_us, len(x)))
    return Events.from_columns(
        x[order], y[order], t, rng.integers(0, 2, len(x)), width=WIDTH, height=HEIGHT
    )


def pixels_of(mask):
    return sorted((x, y) for y, x in np.argwhere(mask).tolist())


def test_lonely_fast_pixels_are_found_and_lamps_are_not():
    filters = EventFilters(FilterConfig(hot_learn_ms=2000))
    events = scene()
    cuts = np.searchsorted(events.t_us, np.arange(0, 4_000_001, 10_000))
    passed = [filters(events[a:b]) for a, b in pairwise(cuts)]
    assert pixels_of(filters.hot_pixels.mask) == sorted(HOT)
    early = Events.concatenate([e for e in passed if len(e) and e.t_us[0] < 1_980_000])
    late = Events.concatenate([e for e in passed if len(e) and e.t_us[0] >= 2_020_000])
    assert np.count_nonzero((early.x == 10) & (early.y == 10)) > 400
    assert not any(np.any((late.x == x) & (late.y == y)) for x, y in HOT)
    assert np.count_nonzero((late.x == 22) & (late.y == 7)) > 800
    assert filters.counters.hot_pixel == len(events) - sum(map(len, passed))


@pytest.mark.parametrize("packets", [1, 7, 400])
def test_time_is_added_up_however_the_stream_is_split(packets):
    events = scene(2.0)
    learner = HotPixelLearner(WIDTH, HEIGHT)
    for part in np.array_split(np.arange(len(events)), packets):
        learner.add(events[part])
    assert learner.counts.sum() == len(events)
    if packets > 1:
        assert learner.span_us == events.t_us[-1] - events.t_us[0]
    np.testing.assert_array_equal(
        learner.counts, np.histogram2d(events.y, events.x, (range(25), range(33)))[0]
    )


def test_pauses_jumps_and_one_wild_time_do_not_count_as_time():
    def at(*t_us):
        n = len(t_us)
        return Events.from_columns([1] * n, [1] * n, t_us, [0] * n, width=WIDTH, height=HEIGHT)

    learner = HotPixelLearner(WIDTH, HEIGHT)
    learner.add(at(0, 1000))
    learner.add(at(2000, 9_000_000_000))
    assert learner.span_us == 2000 + 1_000_000
    learner.interrupt()
    learner.add(at(5, 15))
    assert learner.span_us == 1_002_010
    learner.add(at(3, 4))  # back in time
    assert learner.span_us == 1_002_010


def test_a_list_is_written_and_read_back(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for x, y in HOT:
        mask[y, x] = True
    HotPixels(mask).save(tmp_path / "hot.txt")
    again = HotPixels.load(tmp_path / "hot.txt")
    np.testing.assert_array_equal(again.mask, mask)
    assert again.count == len(HOT)
    by_hand = tmp_path / "hand.txt"
    by_hand.write_text("# mine\n4 3\n\n3 2 # the corner\n")
    assert pixels_of(HotPixels.load(by_hand).mask) == [(3, 2)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a line 'width height'"),
        (b"4 3 2\n", "expected a line 'width height'"),
        (b"4 3\nx y\n", "expected two whole numbers"),
        (b"\xff\xfe\x00", "expected two whole numbers"),
        (b"4 3\n4 0\n", r"pixel 4 0 lies outside 4x3"),
        (b"4 3\n-1 0\n", r"pixel -1 0 lies outside 4x3"),
        (b"99999999 99999999\n", r"width and height must be 1\.\.4096"),
        (b"0 0\n", r"width and height must be 1\.\.4096"),
    ],
)
def test_wrong_lists_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "hot.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        HotPixels.load(path)
    with pytest.raises(ConfigError, match="nowhere"):
        HotPixels.load(tmp_path / "nowhere.txt")


def test_masks_that_are_no_frame_are_refused():
    with pytest.raises(ConfigError, match=r"\(H, W\)"):
        HotPixels(np.zeros(5, bool))


def judged(counts, min_hz, ratio):
    """The rule, pixel by pixel, over one second."""
    height, width = counts.shape
    hot = np.zeros_like(counts, bool)
    for y, x in np.ndindex(height, width):
        around = [
            counts[v, u]
            for v in range(y - 2, y + 3)
            for u in range(x - 2, x + 3)
            if (v, u) != (y, x) and 0 <= v < height and 0 <= u < width
        ]
        fourth = sorted([*around, 0, 0, 0, 0], reverse=True)[3]
        own = counts[y, x]
        hot[y, x] = own > 0 and own >= min_hz and own > ratio * fourth
    return hot


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2), (16, 19)])
@pytest.mark.parametrize(("min_hz", "ratio"), [(0.0, 1.0), (20.0, 2.5), (50.0, 10.0)])
def test_the_rule_equals_its_definition(shape, min_hz, ratio):
    rng = np.random.default_rng(3)
    for top in (0, 1, 30, 2000):
        counts = (rng.random(shape) ** 6 * top).astype(np.int64)
        found = HotPixels.from_counts(counts, 1_000_000, min_hz=min_hz, ratio=ratio)
        np.testing.assert_array_equal(found.mask, judged(counts, min_hz, ratio))


def test_lines_and_corners_are_kept_and_clusters_of_four_are_found():
    counts = np.zeros((40, 40), np.int64)
    counts[5, 2:38] = 500  # a line one pixel wide; only its ends look like pixels on their own
    counts[20:30, 4:12] = 500
    counts[20:22, 30:32] = 500
    found = HotPixels.from_counts(counts, 1_000_000, min_hz=50.0, ratio=10.0)
    cluster = [(x, y) for x in (30, 31) for y in (20, 21)]
    ends = [(x, 5) for x in (2, 3, 36, 37)]
    assert pixels_of(found.mask) == sorted(cluster + ends)
