"""The check of numbers that configurations share."""

import math
from types import SimpleNamespace

import pytest

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.ranges import check_ranges


@pytest.mark.parametrize("value", [-1, 0.5, 3])
def test_both_ends_of_a_range_are_allowed(value):
    check_ranges(SimpleNamespace(share=value), share=(-1, 3))


@pytest.mark.parametrize("value", [-2, 3.5, math.nan, math.inf, -math.inf])
def test_what_lies_outside_is_named_with_its_range(value):
    with pytest.raises(ConfigError, match=rf"share must lie in -1\.\.3, got {value}"):
        check_ranges(SimpleNamespace(other=0, share=value), other=(0, 0), share=(-1, 3))
