"""Recordings labelled by a finished student: what it says becomes labels, and nothing else."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from evdistill_core.data.augment import AugmentConfig
from evdistill_core.data.build import DataConfig, EvaluationConfig, SourceConfig, build_source
from evdistill_core.data.pseudo_labelled import PseudoLabelled, PseudoLabelsConfig
from evdistill_core.data.unlabelled import RecordingsConfig, UnlabelledWindows
from evdistill_core.foundation.config import from_mapping, to_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import CAMVID_CLASSES, IGNORE, SIX_CLASSES
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import StudentFile, student_path
from evdistill_core.training.config import NetworkConfig, TrainConfig

DEMO = Path(__file__).resolve().parents[2] / "demo" / "davis346_street.mcap"
STREET = student_path("street6")
SPEC = StudentFile.open(STREET).info.input
VEHICLE = SIX_CLASSES.names.index("vehicle")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return RecordingsConfig(paths=(DEMO,), cache=cache, crop=(192, 256), flip=0.5, dropout=0.2)


def source_of(recordings, **changes):
    config = PseudoLabelsConfig(student="street6", recordings=recordings, **changes)
    return PseudoLabelled(config, SPEC, SIX_CLASSES, seed=4)


def test_labels_are_what_the_student_says_where_it_is_sure(recordings):
    """Slow reference: logits enlarged by torch, softmax, argmax."""
    source = source_of(recordings, min_confidence=0.6, min_score=0.0)
    runner = make_runner(StudentFile.open(STREET), runtime="onnxruntime", device="cpu")
    for index in (0, 11):
        sample = source.sample(index)
        logits = torch.from_numpy(runner.run(sample.input))[None]
        enlarged = nn.functional.interpolate(logits, size=(192, 256), mode="bilinear")
        confidence, mask = enlarged.softmax(1)[0].max(0)
        expected = np.where(confidence.numpy() < 0.6, IGNORE, mask.numpy())
        # Rounding at the threshold, and pixels of things that no centre takes.
        assert (sample.label != expected).mean() < 0.01
        assert set(np.unique(sample.label)) <= {*range(6), IGNORE}


def test_windows_are_those_of_the_recording(recordings):
    plain = UnlabelledWindows(recordings, SPEC, seed=4)
    source = source_of(recordings)
    assert len(source) == len(plain)
    for index in (0, 999):
        np.testing.assert_array_equal(source.sample(index).input, plain.sample(index).input)


def test_things_that_it_is_not_sure_of_have_no_label(recordings):
    """On the demo street the student sees cars; whatever is labelled so has a number."""
    sure, unsure = source_of(recordings, min_score=0.3), source_of(recordings, min_score=1.0)
    things = 0
    for index in range(6):
        sample = sure.sample(index)
        is_thing = np.isin(sample.label, SIX_CLASSES.thing_ids)
        assert (sample.instances[is_thing] > 0).all()
        things += (sample.label == VEHICLE).any()
        none = unsure.sample(index)
        assert not np.isin(none.label, SIX_CLASSES.thing_ids).any()
        assert not none.instances.any()
        # What is no thing keeps its label.
        np.testing.assert_array_equal(none.label == 0, sample.label == 0)
    assert things >= 4


def test_a_worker_gets_the_source_without_the_network(recordings):
    source = source_of(recordings)
    first = source.sample(3)
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.sample(3).label, first.label)


def test_padding_has_no_label(recordings):
    source = source_of(replace(recordings, crop=(288, 352)), min_confidence=0.0)
    label = source.sample(0).label
    assert (label[260:] == IGNORE).all()
    assert (label[:, 346:] == IGNORE).all()
    assert (label[:260, :346] != IGNORE).mean() > 0.8


def test_a_source_of_training(recordings):
    config = SourceConfig(
        name="street", pseudo_labels=PseudoLabelsConfig(student="street6", recordings=recordings)
    )
    assert from_mapping(SourceConfig, to_mapping(config)) == config
    assert "with labels by street6: davis346_street.mcap" in str(config.describe()["set"])
    assert isinstance(build_source(config, SPEC, SIX_CLASSES, seed=0), PseudoLabelled)


def test_what_is_wrong_is_named(recordings, tiny_recogniser):
    config = PseudoLabelsConfig(student="street6", recordings=recordings)
    for change, said in (
        ({"min_confidence": 1.5}, r"min_confidence must lie in 0\.\.1, got 1\.5"),
        ({"min_score": -0.1}, r"min_score must lie in 0\.\.1, got -0\.1"),
        ({"recordings": replace(recordings, frame_within_us=5)}, "frame_within_us out"),
    ):
        with pytest.raises(ConfigError, match=said):
            replace(config, **change)
    with pytest.raises(ConfigError, match=r"street6 says flat.*they must be the same"):
        PseudoLabelled(config, SPEC, CAMVID_CLASSES, seed=0)
    with pytest.raises(ConfigError, match=r"window_us=50000.*window_us=20000.*must be the same"):
        PseudoLabelled(config, replace(SPEC, window_us=20_000), SIX_CLASSES, seed=0)
    with pytest.raises(ConfigError, match=r"pseudo_labels\.student names no-such, which does not"):
        PseudoLabelled(replace(config, student="no-such"), SPEC, SIX_CLASSES, seed=0)
    with pytest.raises(ConfigError, match=r"tiny-cls\.evstudent is a student of recognition"):
        PseudoLabelled(replace(config, student=str(tiny_recogniser)), SPEC, SIX_CLASSES, seed=0)
    source = SourceConfig(name="street", pseudo_labels=config)
    with pytest.raises(ConfigError, match=r"has no augment.*pseudo_labels\.recordings"):
        replace(source, augment=AugmentConfig())
    with pytest.raises(ConfigError, match=r"'street'.*can choose no checkpoint"):
        DataConfig(train=(source,), validation=(source,))
    with pytest.raises(ConfigError, match=r"'street'.*not be scored on"):
        EvaluationConfig(sets=(source,))
    with pytest.raises(ConfigError, match=r"'street': pseudo_labels.*recognises whole windows"):
        TrainConfig(
            name="x", data=DataConfig(train=(source,)), network=NetworkConfig(name="onboard-cls")
        )
