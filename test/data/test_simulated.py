"""Simulated windows as samples: seeds, cache, the grid of the input."""

import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from evdistill_core.data.augment import AugmentConfig
from evdistill_core.data.batches import load_batches, stack
from evdistill_core.data.labelled_images import ImagesConfig
from evdistill_core.data.samples import Mixture
from evdistill_core.data.simulated import (
    KeptWindow,
    SimulatedWindows,
    SimulationConfig,
    StoredWindows,
    augmented_sample,
    make_sample,
)
from evdistill_core.data.simulated_sets import SimulateConfig, simulate_images
from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import ConfigError, DataError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.representations import InputSpec, represent
from evdistill_core.simulation.factory import SceneRanges

SPEC = InputSpec(bins=3, window_us=20_000)
# In a picture of this size a person or a vehicle is all that there is.
NOBODY = SceneRanges(
    moving_camera=1.0, vehicles=(0, 0), people=(0, 0), near_person=0.0, distractor_px=(4.0, 8.0)
)


@pytest.fixture
def camvid(tmp_path, make_camvid):
    make_camvid(tmp_path / "camvid", height=60, width=80)
    return ImagesConfig(root=tmp_path / "camvid")


def source(images, seed=0, **kwargs):
    config = SimulationConfig(images=images, height=32, width=48, **kwargs)
    augment = AugmentConfig(flip=0.5, dropout=0.5)
    return SimulatedWindows(config, SPEC, SIX_CLASSES, seed=seed, augmentation=augment)


def equal(a, b):
    return (
        np.array_equal(a.input, b.input)
        and np.array_equal(a.label, b.label)
        and np.array_equal(a.active, b.active)
        and np.array_equal(a.instances, b.instances)
    )


def test_same_index_same_sample(camvid):
    first, second = source(camvid), source(camvid)
    second.sample(3)
    assert equal(first.sample(1), second.sample(1))
    assert not equal(first.sample(1), first.sample(2))
    assert not equal(first.sample(1), source(camvid, seed=1).sample(1))


def test_shapes_and_types(camvid):
    sample = source(camvid).sample(0)
    assert sample.input.shape == (3, 32, 64)  # 48 columns are padded to the input's 64
    assert sample.label.shape == sample.active.shape == (32, 64)
    assert (sample.label[:, 48:] == 255).all()
    assert (sample.active[:, 48:] == 0).all()
    assert sample.input.dtype == np.float32
    assert sample.label.dtype == sample.active.dtype == np.uint8


def test_cache_gives_the_same_samples(camvid, tmp_path):
    plain = source(camvid, unique=3)
    kept = source(camvid, unique=3, cache=tmp_path / "cache")
    for i in (0, 4, 1, 3):  # 4 and 1 are the same window under two augmentations
        assert equal(plain.sample(i), kept.sample(i))
    files = sorted((tmp_path / "cache").rglob("*.npz"))
    assert len(files) == 2
    files[0].write_bytes(b"damaged")
    assert equal(plain.sample(0), kept.sample(0))
    other = source(camvid, seed=9, unique=3, cache=tmp_path / "cache")
    assert not equal(other.sample(0), plain.sample(0))


def test_unique_windows_come_again_changed(camvid):
    windows = source(camvid, unique=2)
    assert len(windows) == 2
    assert any(not equal(windows.sample(i), windows.sample(i + 2)) for i in range(4))


def test_travels_to_workers_without_its_images(camvid):
    windows = source(camvid)
    before = windows.sample(0)
    content = pickle.dumps(windows)
    assert len(content) < 20_000
    assert equal(pickle.loads(content).sample(0), before)


def test_sample_of_a_large_sensor_is_on_the_grid_of_the_input():
    spec = InputSpec(bins=2, window_us=1000, max_pixels=200)
    labels = np.zeros((32, 48), np.uint8)
    labels[:, 24:] = 5
    events = Events.from_columns([30], [10], [500], [1], width=48, height=32)
    sample = make_sample(events, labels, spec, 0, 1000)
    grid = spec.grid(height=32, width=48)
    assert grid.factor == 3
    np.testing.assert_array_equal(sample.input, represent(events, spec, 0, 1000))
    assert sample.active.sum() == sample.active[10 // 3, 30 // 3] == 1
    assert (sample.label[: grid.used_height, :8] == 0).all()
    assert (sample.label[: grid.used_height, 8 : grid.used_width] == 5).all()
    assert (sample.label[grid.used_height :] == 255).all()


def test_things_have_their_numbers_where_their_labels_are(camvid):
    things = SceneRanges(moving_things=1.0, vehicles=(2, 3), people=(1, 2))
    config = SimulationConfig(images=camvid, height=32, width=48, scene=things, stops=0.5)
    changes = AugmentConfig(flip=0.5, scale=(0.6, 1.0), crop=(28, 40))
    windows = SimulatedWindows(config, SPEC, SIX_CLASSES, seed=0, augmentation=changes)
    seen = 0
    for k in range(8):
        sample = windows.sample(k)
        assert sample.instances.dtype == np.uint16
        np.testing.assert_array_equal(sample.instances > 0, np.isin(sample.label, (4, 5)))
        seen += len(np.unique(sample.instances)) - 1
    assert seen > 8


def test_a_batch_says_where_nobody_knows_the_things(camvid):
    known = source(camvid).sample(0)
    unknown = replace(known, instances=None)
    assert stack(0, [unknown, unknown]).instances is None
    batch = stack(0, [known, unknown])
    assert batch.instances.dtype == torch.int64
    np.testing.assert_array_equal(batch.instances[0].numpy(), known.instances)
    assert (batch.instances[1] == -1).all()


def test_bad_sizes_are_refused(camvid):
    with pytest.raises(ConfigError):
        SimulationConfig(images=camvid, height=0)
    with pytest.raises(ConfigError):
        SimulationConfig(images=camvid, window_jitter=(2.0, 1.0))


def test_workers_change_nothing(camvid):
    mixture = Mixture([source(camvid), source(camvid, seed=7)], [1, 2], seed=5)
    alone, helped = (
        list(load_batches(mixture, stack, batch_size=3, first_batch=1, last_batch=4, workers=n))
        for n in (0, 2)
    )
    assert len(alone) == len(helped) == 3
    for a, b in zip(alone, helped, strict=True):
        assert torch.equal(a.input, b.input)
        assert torch.equal(a.label, b.label)
        assert torch.equal(a.active, b.active)
        assert a.first_index == b.first_index


@pytest.fixture
def coco(tmp_path):
    """One image of COCO's numbers: a car that nothing cuts, on ground that nobody names."""
    for kind in ("images", "labels"):
        (tmp_path / "coco" / kind / "train").mkdir(parents=True)
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "coco" / "images" / "train" / "a.png"), picture)
    text = "2 0.2 0.2 0.7 0.2 0.7 0.7 0.2 0.7"
    (tmp_path / "coco" / "labels" / "train" / "a.txt").write_text(text, encoding="utf-8")
    return ImagesConfig(layout="coco-seg", root=tmp_path / "coco")


def test_windows_of_partial_labels_say_of_what_they_are_none(coco, camvid, tmp_path):
    windows = source(coco, scene=NOBODY, unique=4, cache=tmp_path / "cache")
    for i in range(6):
        sample = windows.sample(i)
        assert sample.excluded.tolist() == [False] * 4 + [True] * 2
        assert set(np.unique(sample.label)) <= {2, 4, 5, 254, 255}
        assert (sample.label == 254).any()
    # Beside windows whose labels name everything, each keeps what it excludes.
    batch = stack(0, [windows.sample(0), source(camvid).sample(0)])
    assert batch.excluded.tolist() == [[False] * 4 + [True] * 2, [False] * 6]


def test_cached_windows_are_others_where_labels_mean_something_else(coco, tmp_path):
    cache = tmp_path / "cache"
    source(coco, unique=1, cache=cache).sample(0)
    ignoring = source(replace(coco, complete_for=()), unique=1, cache=cache).sample(0)
    assert not (ignoring.label == 254).any()
    assert ignoring.excluded is None
    one = source(replace(coco, complete_for=("human",)), unique=1, cache=cache).sample(0)
    assert one.excluded.tolist() == [False] * 4 + [True, False]
    assert len(list(cache.rglob("*.npz"))) == 3


def test_a_stored_set_of_partial_labels_is_read_with_what_they_exclude(coco, tmp_path):
    config = SimulateConfig(height=32, width=48, window_us=20_000, scene=NOBODY)
    simulate_images(coco, tmp_path / "set", config, seed=0, count=2)
    sample = StoredWindows(tmp_path / "set", SPEC, SIX_CLASSES).sample(1)
    assert sample.excluded.tolist() == [False] * 4 + [True] * 2
    assert (sample.label == 254).any()
    ignoring = replace(coco, complete_for=())
    with pytest.raises(DataError, match="differs in source"):
        simulate_images(ignoring, tmp_path / "set", config, seed=0, count=2)


def test_the_picture_moves_with_the_labels_and_is_grey_outside():
    white = np.full((24, 24), 255, np.uint8)
    window = KeptWindow(Events.empty(24, 24), np.zeros_like(white), 0, 50_000, white)
    made = augmented_sample(window, InputSpec(), AugmentConfig(crop=(32, 32)), (0, 0))
    inside = made.label == 0
    assert inside.sum() == 24 * 24
    np.testing.assert_array_equal(made.picture[0][inside], 1)
    np.testing.assert_allclose(made.picture[0][~inside], 0, atol=0.01)
