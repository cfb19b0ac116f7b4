"""Order, mixture and workers: the same index gives the same sample, whoever asks."""

import numpy as np
import pytest
import torch

from evdistill_core.data.batches import load_batches, stack
from evdistill_core.data.samples import Mixture, Prefix, Sample, seed_of
from evdistill_core.foundation.errors import ConfigError


class Numbers:
    """Samples that carry their index and a random number of their own."""

    def __init__(self, tag):
        self.tag = tag

    def __len__(self):
        return 10

    def sample(self, index):
        rng = np.random.default_rng(seed_of(self.tag, index))
        values = np.array([index, self.tag, rng.random()], np.float32).reshape(3, 1, 1)
        return Sample(values, np.full((1, 1), index % 6, np.uint8), np.ones((1, 1), np.uint8))


def collect(source, **kwargs):
    return list(load_batches(source, stack, **kwargs))


def test_batches_hold_consecutive_indices():
    batches = collect(Numbers(0), batch_size=4, first_batch=2, last_batch=5, workers=0)
    assert [b.first_index for b in batches] == [8, 12, 16]
    assert batches[0].input[:, 0, 0, 0].tolist() == [8, 9, 10, 11]
    assert batches[0].label.dtype == torch.int64


def test_going_on_gives_what_would_have_come():
    mixture = Mixture([Numbers(1), Numbers(2)], [1, 1], seed=0)
    whole = collect(mixture, batch_size=2, first_batch=0, last_batch=6, workers=0)
    rest = collect(mixture, batch_size=2, first_batch=3, last_batch=6, workers=0)
    for a, b in zip(whole[3:], rest, strict=True):
        assert torch.equal(a.input, b.input)


def test_windows_of_different_sizes_in_one_batch_are_named():
    def sample(height, width):
        plane = np.zeros((height, width), np.uint8)
        return Sample(np.zeros((2, height, width), np.float32), plane, plane)

    with pytest.raises(
        ConfigError, match=r"\(192, 256\), \(192, 320\)\. .*recordings and stills have crop"
    ):
        stack(0, [sample(192, 320), sample(192, 256), sample(192, 320)])


def test_shares_are_kept():
    mixture = Mixture([Numbers(1), Numbers(2)], [1, 3], seed=0)
    tags = [int(mixture.sample(i).input[1, 0, 0]) for i in range(2000)]
    assert np.mean(np.array(tags) == 2) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("shares", [[], [1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_bad_shares_are_refused(shares):
    with pytest.raises(ConfigError):
        Mixture([Numbers(1), Numbers(2)], shares, seed=0)


def test_prefix_ends():
    prefix = Prefix(Numbers(0), 3)
    assert len(prefix) == 3
    with pytest.raises(IndexError):
        prefix.sample(3)
    with pytest.raises(ConfigError):
        Prefix(Numbers(0), 0)


def test_seeds_of_neighbours_differ():
    draws = {np.random.default_rng(seed_of(a, b)).random() for a in range(20) for b in range(20)}
    assert len(draws) == 400
