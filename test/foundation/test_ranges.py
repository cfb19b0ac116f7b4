"""The check of numbers that configurations share."""

import math
from types import SimpleNamespace

import pytest

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.ranges import (
    check_above,
    check_at_least,
    check_crop,
    check_intervals,
    check_ranges,
)


@pytest.mark.parametrize("value", [-1, 0.5, 3])
def test_both_ends_of_a_range_are_allowed(value):
    check_ranges(SimpleNamespace(share=value), share=(-1, 3))


@pytest.mark.parametrize("value", [-2, 3.5, math.nan, math.inf, -math.inf])
def test_what_lies_outside_is_named_with_its_range(value):
    with pytest.raises(ConfigError, match=rf"share must lie in -1\.\.3, got {value}"):
        check_ranges(SimpleNamespace(other=0, share=value), other=(0, 0), share=(-1, 3))


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (check_at_least, [0, 5, 1e9], [-1, math.nan, math.inf]),
        (check_above, [1e-9, 5], [0, -1, math.nan, math.inf]),
    ],
)
def test_one_limit(check, good, bad):
    for value in good:
        check(SimpleNamespace(count=value), count=0)
    for value in bad:
        with pytest.raises(ConfigError, match=rf"count must be .* 0 and finite, got {value}"):
            check(SimpleNamespace(count=value), count=0)


@pytest.mark.parametrize("value", [None, (), (0, 1), ((0, 1), (1, 0)), {"a": 1}])
def test_every_number_of_a_value_is_checked_and_none_has_none(value):
    check_ranges(SimpleNamespace(share=value), share=(0, 1))


@pytest.mark.parametrize("value", [(0, 2), ((0, 1), (1, math.nan)), {"a": 1, "b": -1}])
def test_one_number_outside_is_enough(value):
    with pytest.raises(ConfigError, match=r"share must lie in 0\.\.1"):
        check_ranges(SimpleNamespace(share=value), share=(0, 1))


def test_pairs_rise_within_their_range():
    check_intervals(SimpleNamespace(zoom=(0.5, 0.5)), zoom=(0.1, 1))
    for wrong in ((0.6, 0.5), (0.05, 0.5), (0.5, 2), (math.nan, 1), (0.5, math.nan)):
        with pytest.raises(ConfigError, match=r"zoom must be \(low, high\) within 0\.1\.\.1, got"):
            check_intervals(SimpleNamespace(zoom=wrong), zoom=(0.1, 1))


@pytest.mark.parametrize("crop", [(0, 4), (4, 0), (-1, 4)])
def test_a_crop_has_two_sides_or_none(crop):
    check_crop((0, 0))
    check_crop((4, 5))
    with pytest.raises(ConfigError, match="crop must be"):
        check_crop(crop)
