import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.representations import BackgroundFilter, InputSpec


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec(),
        InputSpec(kind="counts2"),
        InputSpec(kind="counts2", normalisation="robust", window_count=5000),
        InputSpec(bins=9, scale=1.5, background_filter=BackgroundFilter(radius_px=2, dt_us=5)),
        InputSpec(kind="histogram", bins=3, normalisation="nonzero"),
        InputSpec(kind="time_surface", decay_us=7_000),
    ],
    ids=str,
)
def test_round_trip(spec):
    assert InputSpec.from_mapping(spec.to_mapping()) == spec


def test_defaults_follow_the_kind():
    assert InputSpec().normalisation == "fixed"
    assert InputSpec(kind="counts2").normalisation == "maximum"
    assert InputSpec(kind="counts2").channels == 3
    assert InputSpec(bins=7).channels == 7
    assert InputSpec(kind="histogram", bins=7).channels == 14
    assert InputSpec(kind="histogram").normalisation == "fixed"
    assert InputSpec(kind="time_surface").channels == 2
    assert InputSpec(kind="time_surface").normalisation == "none"


def test_what_came_later_is_not_written_where_it_is_not_used():
    """Files without it can be read by older versions, and keys made of it stay the same."""
    later = {"sequence", "decay_us", "options"}
    assert not later & set(InputSpec().to_mapping())
    assert later - set(InputSpec(kind="time_surface", decay_us=9).to_mapping()) == {
        "sequence",
        "options",
    }
    assert hash(InputSpec()) == hash(InputSpec())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "surface"}, "unknown representation 'surface'.*did you mean 'time_surface'"),
        ({"kind": "time_surface", "normalisation": "fixed"}, "must be one of none, got 'fixed'"),
        ({"kind": "histogram", "normalisation": "robust"}, "one of fixed, nonzero, got 'robust'"),
        ({"kind": "time_surface", "decay_us": 0}, "decay_us must lie in"),
        ({"options": {"decay": 3}}, "representation voxel has no option 'decay'; it has none"),
        ({"kind": "os:system"}, "the description names the representation 'os:system'"),
        ({"kind": "counts2", "normalisation": "nonzero"}, "normalisation of counts2"),
        ({"normalisation": "maximum"}, "normalisation of voxel"),
        ({"bins": 0}, "bins must lie in 1..256, got 0"),
        ({"window_us": 0}, "window_us must lie in"),
        ({"window_count": 0}, "window_count must be at least 1"),
        ({"scale": 0.0}, "scale must be above 0"),
        ({"clip": float("nan")}, "clip must be above 0"),
        ({"background_filter": {"radius_px": 0}}, "radius_px must lie in"),
        ({"background_filter": {"dt_us": 0}}, "dt_us must lie in 1"),
        ({"bin": 5}, "unknown key bin"),
    ],
)
def test_wrong_values_are_refused_by_name(values, message):
    with pytest.raises(ConfigError, match=message):
        InputSpec.from_mapping(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bins": "x"}, "bins must be a whole number, got 'x'"),
        ({"bins": 1.5}, "bins must be a whole number, got 1.5"),
        ({"window_us": None}, "window_us must be a whole number, got None"),
        ({"kind": 3}, "kind must be text, got 3"),
        ({"scale": "1"}, "scale must be a number, got '1'"),
    ],
)
def test_wrong_types_in_python_are_refused_by_name(values, message):
    with pytest.raises(ConfigError, match=message):
        InputSpec(**values)


def test_numbers_of_numpy_become_plain_ones():
    spec = InputSpec(bins=np.int64(3), scale=np.float32(0.5), background_filter=BackgroundFilter())
    assert (type(spec.bins), type(spec.scale)) == (int, float)
    assert spec == InputSpec(bins=3, scale=0.5, background_filter=BackgroundFilter())


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(260, 346, (288, 352, 1)), (480, 640, (256, 320, 2)), (720, 1280, (256, 448, 3))],
)
def test_common_sensors(height, width, expected):
    grid = InputSpec().grid(height=height, width=width)
    assert (grid.height, grid.width, grid.factor) == expected


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 400_000), st.integers(1, 64))
def test_grid_is_the_smallest_that_fits(height, width, max_pixels, multiple):
    spec = InputSpec(max_pixels=max_pixels, size_multiple=multiple)
    grid = spec.grid(height=height, width=width)
    assert grid.used_height * grid.used_width <= max_pixels
    assert (height - 1) // grid.factor == grid.used_height - 1
    assert (width - 1) // grid.factor == grid.used_width - 1
    if grid.factor > 1:
        f = grid.factor - 1
        assert -(-height // f) * -(-width // f) > max_pixels
    assert 0 <= grid.height - grid.used_height < multiple
    assert 0 <= grid.width - grid.used_width < multiple
    assert grid.height % multiple == grid.width % multiple == 0


def test_a_sensor_without_pixels_is_refused():
    with pytest.raises(ConfigError, match="at least 1x1"):
        InputSpec().grid(height=0, width=5)
