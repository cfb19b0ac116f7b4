"""Recordings in which some classes do not occur: what their windows say, and what is learnt."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from evdistill_core.data.augment import AugmentConfig
from evdistill_core.data.batches import stack
from evdistill_core.data.build import (
    DataConfig,
    SourceConfig,
    build_evaluation_sets,
    build_source,
)
from evdistill_core.data.labelled_images import ImagesConfig
from evdistill_core.data.recordings_without import RecordingsWithout, RecordingsWithoutConfig
from evdistill_core.data.stills import StillsConfig
from evdistill_core.data.unlabelled import RecordingsConfig, UnlabelledWindows
from evdistill_core.data.unpaired import DistillDataConfig
from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.config import from_mapping, to_mapping
from evdistill_core.foundation.errors import ConfigError, RecordingError
from evdistill_core.foundation.labels import IGNORE, OTHER, SIX_CLASSES
from evdistill_core.losses.segmentation import SegmentationBatch, weighted_sum
from evdistill_core.recordings.writers.npz import NpzWriter
from evdistill_core.representations import InputSpec
from evdistill_core.training.config import NetworkConfig, TrainConfig
from evdistill_core.training.distill_config import TERMS, DistillConfig

SPEC = InputSpec(bins=2, window_us=10_000, size_multiple=8)
WIDTH, HEIGHT = 40, 30


@pytest.fixture
def hall(tmp_path):
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 200_000, 4000))
    x, y, p = (rng.integers(0, n, 4000) for n in (WIDTH, HEIGHT, 2))
    path = tmp_path / "hall.npz"
    with NpzWriter(path, width=WIDTH, height=HEIGHT) as writer:
        writer.write(Events.from_columns(x, y, t, p, width=WIDTH, height=HEIGHT), Triggers.empty())
    return path


def config_of(hall, *classes, **changes):
    recordings = RecordingsConfig(paths=(hall,), cache=hall.parent / "cache", **changes)
    return RecordingsWithoutConfig(classes=classes or ("vehicle",), recordings=recordings)


def test_every_pixel_of_the_sensor_is_none_of_the_classes(hall):
    source = RecordingsWithout(config_of(hall, "human", "vehicle"), SPEC, SIX_CLASSES, seed=3)
    sample = source.sample(5)
    assert sample.label.shape == (32, 40)
    assert (sample.label[:HEIGHT] == OTHER).all()
    assert (sample.label[HEIGHT:] == IGNORE).all()  # padding
    named = [n for n, no in zip(SIX_CLASSES.names, sample.excluded, strict=True) if no]
    assert named == ["human", "vehicle"]
    assert not sample.instances.any()


def test_windows_are_those_of_the_recording(hall):
    config = config_of(hall, crop=(16, 24))
    source = RecordingsWithout(config, SPEC, SIX_CLASSES, seed=7)
    plain = UnlabelledWindows(config.recordings, SPEC, seed=7)
    assert len(source) == len(plain)
    for index in (0, 9, 1000):
        np.testing.assert_array_equal(source.sample(index).input, plain.sample(index).input)
        assert source.sample(index).label.shape == (16, 24)


def test_it_teaches_what_is_not_there_and_nothing_else(hall):
    sample = RecordingsWithout(config_of(hall), SPEC, SIX_CLASSES, seed=0).sample(0)
    batch = stack(0, [sample])
    logits = torch.zeros(1, len(SIX_CLASSES), 32, 40, requires_grad=True)
    weight = torch.ones(1, 32, 40)
    part = SegmentationBatch(
        logits, batch.label, weight, torch.ones(len(SIX_CLASSES)), batch.excluded
    )
    loss, _ = weighted_sum(part, {"cross_entropy": 1.0})
    loss.backward()
    # -log of the share of all classes but the vehicle.
    assert loss.item() == pytest.approx(-np.log(5 / 6))
    pushed = logits.grad[0, :, :HEIGHT].sum((1, 2))
    vehicle = SIX_CLASSES.names.index("vehicle")
    others = [k for k in range(6) if k != vehicle]
    assert pushed[vehicle] > 0  # down
    assert torch.allclose(pushed[others], -pushed[vehicle] / 5)
    assert not logits.grad[0, :, HEIGHT:].any()


def test_a_source_of_training_and_a_set_of_scoring(hall, tmp_path):
    mapping = {
        "name": "hall",
        "without": {
            "classes": ["vehicle"],
            "recordings": {"paths": [str(hall)], "cache": str(tmp_path / "cache")},
        },
    }
    config = from_mapping(SourceConfig, mapping)
    assert config.describe()["set"] == "recordings without vehicle: hall.npz"
    assert from_mapping(SourceConfig, to_mapping(config)) == config
    assert isinstance(build_source(config, SPEC, SIX_CLASSES, seed=0), RecordingsWithout)
    sets = tmp_path / "sets.yaml"
    sets.write_text(json.dumps({"sets": [mapping]}))
    (name, windows), *none = build_evaluation_sets(sets, SPEC, SIX_CLASSES).items()
    assert (name, len(windows), none) == ("hall", 19, [])


def test_what_is_scored_is_not_changed(hall, tmp_path):
    sets = tmp_path / "sets.yaml"
    recordings = {"paths": [str(hall)], "cache": str(tmp_path / "cache"), "flip": 1.0}
    without = {"classes": ["vehicle"], "recordings": recordings | {"invert": 1.0, "dropout": 0.9}}
    sets.write_text(json.dumps({"sets": [{"name": "hall", "without": without}]}))
    scored = build_evaluation_sets(sets, SPEC, SIX_CLASSES)["hall"].sample(4)
    plain = config_of(hall, flip=0.0, min_events=0).recordings
    np.testing.assert_array_equal(
        scored.input, UnlabelledWindows(plain, SPEC, seed=0).sample(4).input
    )


def test_what_is_wrong_is_named(hall):
    with pytest.raises(ConfigError, match="at least one class that does not occur"):
        replace(config_of(hall), classes=())
    with pytest.raises(ConfigError, match=r"without\.classes names 'vehicel'.*did you mean"):
        RecordingsWithout(config_of(hall, "vehicel"), SPEC, SIX_CLASSES, seed=0)
    with pytest.raises(ConfigError, match=r"without\.classes names every class"):
        RecordingsWithout(config_of(hall, *SIX_CLASSES.names), SPEC, SIX_CLASSES, seed=0)
    with pytest.raises(ConfigError, match=r"without has no augment.*without\.recordings"):
        SourceConfig(name="hall", without=config_of(hall), augment=AugmentConfig())
    with pytest.raises(ConfigError, match="leave whole out"):
        config_of(hall, whole=True)
    with pytest.raises(ConfigError, match="leave frame_within_us out"):
        config_of(hall, frame_within_us=100_000)
    with pytest.raises(RecordingError, match="missing"):
        RecordingsWithout(config_of(hall.parent / "missing.npz"), SPEC, SIX_CLASSES, seed=0)


def experiment(hall, kind=TrainConfig, **changes):
    source = SourceConfig(name="hall", without=config_of(hall))
    stills = StillsConfig(images=ImagesConfig(root=hall.parent), crop=(32, 40))
    data = {"train": (source,)}
    if kind is DistillConfig:
        target = RecordingsConfig(paths=(hall,), cache=hall.parent / "cache")
        data |= {"stills": stills, "recordings": target}
        terms = dict.fromkeys(TERMS, 0.0) | {"task_events": 1.0} | changes.pop("terms", {})
        changes |= {"teacher": hall.parent / "teacher.pt", "terms": terms}
    of = DistillDataConfig if kind is DistillConfig else DataConfig
    return kind(name="x", data=of(**data | changes.pop("data", {})), **changes)


def test_an_experiment_is_refused_before_it_begins(hall):
    experiment(hall)
    with pytest.raises(ConfigError, match=r"'hall'.*recognises whole windows"):
        experiment(hall, network=NetworkConfig(name="onboard-cls"))
    with pytest.raises(
        ConfigError, match=r"hall: without\.classes names 'vehicle', which is none of"
    ):
        experiment(hall, classes="camvid11")
    scored = (SourceConfig(name="judge", without=config_of(hall)),)
    for kind in (TrainConfig, DistillConfig):
        with pytest.raises(ConfigError, match=r"'judge'.*can choose no checkpoint"):
            experiment(hall, kind, data={"validation": scored})
    experiment(hall, DistillConfig)
    with pytest.raises(ConfigError, match=r"paired_simulated need the image.*'hall' has none"):
        experiment(hall, DistillConfig, terms={"paired_simulated": 1.0})
