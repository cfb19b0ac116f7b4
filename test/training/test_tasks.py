"""What labels are compared with what logits."""

import numpy as np
import pytest
import torch

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.training.config import LossConfig
from evdistill_core.training.tasks import task_of


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_labels_weights_and_logits_meet_in_the_same_places(stride):
    task = task_of("onboard-seg", label_stride=stride)
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing="ij")
    # Logits that say where they are, at a quarter of the size.
    coarse = torch.stack([rows, columns])[None].unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5))
    logits = task.at_labels(coarse, (16, 24))
    for k, place in enumerate((rows, columns)):
        label = task.labels(place[None])
        assert label.shape == logits[:, 0].shape == (1, 16 // stride, 24 // stride)
        inner = (..., slice(4 // stride, -4 // stride), slice(4 // stride, -4 // stride))
        # The middle of an even square lies between cells: half a cell is the most.
        assert (logits[:, k] - label)[inner].abs().max() <= 0.5


def test_weights_are_picked_as_labels_are():
    task = task_of("onboard-seg", label_stride=2)
    active = torch.from_numpy((np.random.default_rng(0).random((2, 8, 12)) < 0.1).astype(np.uint8))
    config = LossConfig(activity_radius_px=0, inactive_weight=0.25)
    whole = task_of("onboard-seg").label_weights(active, config)
    assert torch.equal(task.label_weights(active, config), whole[:, 1::2, 1::2])
    assert torch.equal(task.at_label_size(whole), whole[:, 1::2, 1::2])


def test_a_window_has_one_label_whatever_the_stride():
    with pytest.raises(ConfigError, match="label_stride"):
        task_of("onboard-cls", label_stride=2)
    task = task_of("onboard-cls")
    label = torch.ones(3, 1, 1, dtype=torch.int64)
    assert task.labels(label) is label
