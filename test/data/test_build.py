"""Configured data: sources from stills and from sets on disk."""

import numpy as np
import pytest

from evdistill_core.data.augment import AugmentConfig
from evdistill_core.data.build import (
    DataConfig,
    SourceConfig,
    build_evaluation_sets,
    build_training_source,
    build_validation_sources,
)
from evdistill_core.data.labelled_images import ImagesConfig
from evdistill_core.data.simulated import SimulationConfig, StoredWindows
from evdistill_core.data.simulated_sets import SimulateConfig, simulate_images
from evdistill_core.foundation.errors import ConfigError, DataError
from evdistill_core.foundation.labels import SIX_CLASSES, ClassInfo, ClassTable
from evdistill_core.representations import InputSpec, represent
from evdistill_core.simulation.dataset import SimulatedSet

SPEC = InputSpec(bins=2, window_us=20_000)


@pytest.fixture
def stills(tmp_path, make_camvid):
    make_camvid(tmp_path / "camvid", height=72, width=96)
    return ImagesConfig(root=tmp_path / "camvid")


@pytest.fixture
def stored(stills, tmp_path):
    config = SimulateConfig(height=32, width=48, window_us=20_000, windows_per_shard=3)
    simulate_images(stills, tmp_path / "my set", config, seed=0, count=5)
    return tmp_path / "my set"


def source(stills, **kwargs):
    simulation = SimulationConfig(images=stills, height=32, width=48)
    return SourceConfig(**{"name": "a", "simulation": simulation} | kwargs)


def test_stored_windows_are_the_simulated_ones(stored):
    windows = StoredWindows(stored, SPEC, SIX_CLASSES)
    original = SimulatedSet(stored)
    assert len(windows) == 5
    for i in (0, 4, 2):
        sample, window = windows.sample(i), original[i]
        expected = represent(window.events, SPEC, window.t_start_us, window.t_end_us)
        np.testing.assert_array_equal(sample.input, expected)
        np.testing.assert_array_equal(sample.label[:32, :48], window.labels)
        np.testing.assert_array_equal(sample.input, windows.sample(i + 5).input)


def test_stored_windows_are_changed_anew(stored):
    augment = AugmentConfig(dropout=0.9)
    windows = StoredWindows(stored, SPEC, SIX_CLASSES, seed=1, augmentation=augment)
    assert not np.array_equal(windows.sample(1).input, windows.sample(6).input)
    np.testing.assert_array_equal(windows.sample(6).input, windows.sample(6).input)


def test_a_folder_is_one_set(stored):
    sets = build_evaluation_sets(stored, SPEC, SIX_CLASSES)
    assert {name: len(s) for name, s in sets.items()} == {"my_set": 5}
    assert len(build_evaluation_sets(stored, SPEC, SIX_CLASSES, limit=2)["my_set"]) == 2


def test_sets_of_other_classes_are_refused(stored, tmp_path):
    other = ClassTable((ClassInfo("a", (0, 0, 0)), ClassInfo("b", (1, 1, 1))))
    with pytest.raises(DataError, match="classes"):
        StoredWindows(stored, SPEC, other)
    with pytest.raises(DataError, match="no simulated set"):
        StoredWindows(tmp_path, SPEC, SIX_CLASSES)


def test_training_on_a_stored_set(stored, stills):
    config = DataConfig(
        train=(source(stills, share=1.0), SourceConfig(name="disk", folder=stored, share=1.0))
    )
    mixture = build_training_source(config, SPEC, SIX_CLASSES, seed=0)
    assert {mixture.sample(i).input.shape for i in range(6)} == {(2, 32, 64)}
    again = build_training_source(config, SPEC, SIX_CLASSES, seed=0)
    np.testing.assert_array_equal(mixture.sample(3).input, again.sample(3).input)


def test_two_sources_of_a_run_draw_other_scenes(stills):
    config = DataConfig(train=(source(stills, share=1e-9), source(stills, name="b")))
    only_second = build_training_source(config, SPEC, SIX_CLASSES, seed=0)
    config = DataConfig(train=(source(stills), source(stills, name="b", share=1e-9)))
    only_first = build_training_source(config, SPEC, SIX_CLASSES, seed=0)
    assert not np.array_equal(only_first.sample(0).input, only_second.sample(0).input)


def test_validation_sets_have_their_own_size(stills):
    config = DataConfig(train=(source(stills),), validation=(source(stills, count=3),))
    sets = build_validation_sources(config, SPEC, SIX_CLASSES)
    assert len(sets["a"]) == 3


def test_wrong_sources_are_refused(stills, tmp_path):
    for bad in (
        {"name": "a/b"},
        {"share": 0.0},
        {"count": -1},
        {"simulation": None},
        {"folder": tmp_path},
    ):
        with pytest.raises(ConfigError):
            source(stills, **bad)
    with pytest.raises(ConfigError, match="distinct"):
        DataConfig(train=(source(stills),), validation=(source(stills), source(stills)))
    with pytest.raises(ConfigError, match="at least one"):
        DataConfig(train=())
