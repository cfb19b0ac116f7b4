import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.perception import working_size as ws
from evdistill_core.perception.working_size import MEASURED, run_in_tiles, working_size
from evdistill_core.representations import InputSpec

SPEC = InputSpec(max_pixels=100_000, size_multiple=8)
HD = (720, 1280)


class TimedRunner:
    """Takes so many nanoseconds a pixel, by a clock that nobody waits for."""

    is_recurrent = False

    def __init__(self, ns_per_px=0.0, monkeypatch=None):
        self.now_ns = 0
        self.sizes = []
        self._ns_per_px = ns_per_px
        self.resets = 0
        if monkeypatch is not None:
            monkeypatch.setattr(ws.time, "perf_counter_ns", lambda: self.now_ns)

    def run(self, x):
        self.sizes.append(x.shape[1:])
        self.now_ns += round(self._ns_per_px * x.shape[1] * x.shape[2])
        return np.zeros((2, x.shape[1] // 4, x.shape[2] // 4), np.float32)

    def reset(self):
        self.resets += 1


def size_of(seen=HD, *, runner=None, max_pixels=0, tiles=(1, 1), step_us=50_000):
    return working_size(
        SPEC, runner or TimedRunner(), seen=seen, max_pixels=max_pixels, tiles=tiles,
        step_us=step_us,
    )  # fmt: skip


def test_the_student_says_up_to_where_nothing_is_reduced():
    small = size_of((260, 346))
    assert (small.factor, small.height, small.width) == (1, 264, 352)
    assert small.note() == ""
    large = size_of()
    assert (large.factor, large.height, large.width) == (4, 184, 320)
    assert "1280x720 pixels reduced to 320x180" in large.note()
    assert "max_pixels:=921600" in large.note()


def test_a_number_of_pixels_replaces_the_students():
    assert size_of(max_pixels=400_000).factor == 2
    whole = size_of(max_pixels=921_600)
    assert (whole.factor, whole.note()) == (1, "")


@pytest.mark.parametrize(
    ("ns_per_px", "factor"),
    [(1, 1), (100, 2), (350, 4), (800, 6), (100_000, 16)],
)
def test_the_finest_size_that_keeps_up_is_measured(monkeypatch, ns_per_px, factor):
    runner = TimedRunner(ns_per_px, monkeypatch)
    size = size_of(runner=runner, max_pixels=MEASURED)
    assert size.factor == factor
    assert size.run_ms == pytest.approx(ns_per_px * size.height * size.width / 1e6)
    if factor < 16:  # the coarsest is taken although it is too slow
        assert size.run_ms <= 25
    assert runner.resets == 1
    # What could not keep up by far was not tried.
    assert all(h * w * ns_per_px / 1e6 <= 25 * 1.6 or factor >= 5 for h, w in runner.sizes)


def test_tiles_are_at_full_resolution():
    size = size_of(tiles=(3, 2))
    assert (size.factor, size.tiles, size.note()) == (1, (3, 2), "")
    asked = size_of(tiles=(0, 0))
    assert asked.factor == 1
    columns, rows = asked.tiles
    assert columns * rows >= 10
    runner = TimedRunner()
    run_in_tiles(
        lambda x: (runner.run(x),), np.zeros((5, asked.height, asked.width), np.float32),
        asked.tiles, 8,
    )  # fmt: skip
    assert len(set(runner.sizes)) == 1
    assert runner.sizes[0][0] * runner.sizes[0][1] <= SPEC.max_pixels


def test_one_tile_is_enough_for_a_small_sensor():
    assert size_of((260, 346), tiles=(0, 0)).tiles == (1, 1)


def test_too_many_tiles_and_tiles_of_students_with_a_memory_are_refused():
    with pytest.raises(ConfigError, match="30 columns of tiles do not fit into 1280 pixels"):
        size_of(tiles=(30, 1))
    runner = TimedRunner()
    runner.is_recurrent = True
    with pytest.raises(ConfigError, match="without a memory"):
        size_of(tiles=(2, 2), runner=runner)


@settings(max_examples=60, deadline=None)
@given(
    columns=st.integers(1, 4),
    rows=st.integers(1, 4),
    height=st.integers(40, 100),
    width=st.integers(40, 100),
)
def test_tiles_of_a_network_that_sees_one_cell_give_the_whole(columns, rows, height, width):
    """Every cell comes from a tile, and from its own place."""
    rng = np.random.default_rng(columns + rows)
    x = rng.normal(size=(2, height * 8, width * 8)).astype(np.float32)

    def run(part):
        cells = part.reshape(2, part.shape[1] // 4, 4, part.shape[2] // 4, 4).mean((2, 4))
        return cells, cells[:1] * 2, cells[0]

    whole = run(x)
    for given_array, expected in zip(run_in_tiles(run, x, (columns, rows), 8), whole, strict=True):
        np.testing.assert_allclose(given_array, expected, rtol=1e-5)


def test_a_cell_is_taken_from_the_tile_in_which_it_lies_deepest():
    margins = []

    def run(part):
        """Each cell says how far it is from the border of its tile."""
        rows, columns = part.shape[1] // 4, part.shape[2] // 4
        v, u = np.mgrid[:rows, :columns]
        return (np.minimum.reduce([v, u, rows - 1 - v, columns - 1 - u]).astype(np.float32),)

    (depth,) = run_in_tiles(run, np.zeros((1, 256, 512), np.float32), (3, 2), 8)
    inner = depth[2:-2, 2:-2]
    margins.append(inner.min())
    # Away from the border of the image: half of what tiles share, less one multiple.
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]]
    far = np.minimum.reduce([v, u, depth.shape[0] - 1 - v, depth.shape[1] - 1 - u]) >= 8
    assert depth[far].min() >= (ws.OVERLAP_PX // 2 - 8) // 4 - 1
