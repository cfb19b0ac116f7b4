"""Shapes of `lite-cls`."""

import pytest
import torch

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.models.registry import build_student


@pytest.mark.parametrize(("enlarge", "cells"), [(1, (2, 2)), (4, (5, 5))])
def test_small_sensors_are_enlarged(enlarge, cells):
    network = build_student("lite-cls", {"enlarge": enlarge}, in_channels=2, num_classes=10).eval()
    with torch.no_grad():
        logits, features = network.forward_with_features(torch.zeros(3, 2, 34, 34))
    assert logits.shape == (3, 10)
    assert tuple(features.shape) == (3, 320, *cells)


@pytest.mark.parametrize("options", [{"enlarge": 0}, {"encoder": "lite9"}, {"dropout": -0.1}])
def test_bad_options(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        build_student("lite-cls", options, in_channels=2, num_classes=10)
