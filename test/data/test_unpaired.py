"""Stills as samples, and both sides of the distillation in one batch."""

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from evdistill_core.data.augment import AugmentConfig
from evdistill_core.data.batches import load_batches, stack
from evdistill_core.data.build import SourceConfig
from evdistill_core.data.labelled_images import ImagesConfig
from evdistill_core.data.simulated import SimulationConfig
from evdistill_core.data.stills import Stills, StillsConfig
from evdistill_core.data.street_sets import StreetSetConfig
from evdistill_core.data.unlabelled import RecordingsConfig
from evdistill_core.data.unpaired import (
    DistillDataConfig,
    TeacherDataConfig,
    UnpairedSource,
    build_stills,
    stack_unpaired,
)
from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.config import from_mapping, to_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.recordings.writers.npz import NpzWriter
from evdistill_core.representations import InputSpec

SPEC = InputSpec(bins=2, window_us=10_000, size_multiple=8)


@pytest.fixture
def root(tmp_path, make_camvid):
    make_camvid(tmp_path / "camvid")
    return tmp_path


def stills(root, seed=0, **changes):
    return Stills(
        StillsConfig(images=ImagesConfig(root=root / "camvid"), **changes), SIX_CLASSES, seed=seed
    )


def recording(path, seed=0):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 200_000, 20_000))
    events = Events.from_columns(
        rng.integers(0, 48, len(t)),
        rng.integers(0, 40, len(t)),
        t,
        rng.integers(0, 2, len(t)),
        width=48,
        height=40,
    )
    with NpzWriter(path, width=48, height=40) as writer:
        writer.write(events, Triggers.empty())


def test_an_unchanged_still_is_the_image_itself(root):
    source = stills(root, multiple=8)
    path = root / "camvid" / "images" / "train" / "0001TP_006690.jpg"
    grey = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2GRAY)
    sample = source.sample(0)
    assert sample.input.shape == (1, 40, 48)
    np.testing.assert_allclose(sample.input[0, :36], grey / 127.5 - 1, atol=1e-5)
    assert (sample.label[36:] == 255).all()
    assert sample.active.sum() == 36 * 48
    assert not sample.input[0, 36:].any()
    assert np.array_equal(source.sample(2).input, sample.input)  # in turn
    assert len(source) == 2


def test_changed_stills_depend_on_seed_and_index_alone(root):
    changes = {"crop": (32, 32), "scale": (0.5, 2.0), "flip": 0.5, "jitter": 0.5, "noise": 5.0}
    one, two = stills(root, **changes), stills(root, **changes)
    for i in (9, 0, 4):
        a, b = one.sample(i), two.sample(i)
        assert np.array_equal(a.input, b.input)
        assert np.array_equal(a.label, b.label)
        assert a.input.shape == (1, 32, 32)
        assert a.label.shape == (32, 32)
        assert a.input.min() >= -1
        assert a.input.max() <= 1
    assert not np.array_equal(one.sample(0).input, one.sample(2).input)
    assert not np.array_equal(one.sample(0).input, stills(root, seed=1, **changes).sample(0).input)


def test_labels_move_with_the_image(root):
    # Grey values tell the classes apart, so a mirrored, scaled label must still fit its image.
    for i in range(6):
        sample = stills(root, crop=(24, 40), scale=(0.7, 1.5), flip=0.5).sample(i)
        grey = (sample.input[0] + 1) * 127.5
        car, flat = grey[sample.label == 5], grey[sample.label == 0]
        if len(car) > 20 and len(flat) > 20:
            assert np.median(car) > np.median(flat) + 60
    assert (sample.label[sample.active == 0] == 255).all()


def test_rare_classes_are_drawn_more_often(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind / "train").mkdir(parents=True)
    for k in range(10):
        label = np.full((40, 40), 3, np.uint8)
        if k == 7:
            label[:20, :20] = 9  # the only pedestrian
        cv2.imwrite(str(tmp_path / f"labels/train/{k}.png"), label)
        cv2.imwrite(str(tmp_path / f"images/train/{k}.png"), np.full((40, 40), k * 20, np.uint8))
    config = StillsConfig(images=ImagesConfig(root=tmp_path), rare_temperature=0.1, multiple=8)
    source = Stills(config, SIX_CLASSES, seed=0)
    drawn = [bool((source.sample(i).label == 4).any()) for i in range(60)]
    assert np.mean(drawn) > 0.8
    plain = Stills(
        StillsConfig(images=ImagesConfig(root=tmp_path), multiple=8), SIX_CLASSES, seed=0
    )
    assert np.mean([bool((plain.sample(i).label == 4).any()) for i in range(60)]) == 0.1


def config_of(root, **changes):
    recording(root / "a.npz")
    return DistillDataConfig(
        stills=StillsConfig(images=ImagesConfig(root=root / "camvid"), crop=(32, 48)),
        **{
            "recordings": RecordingsConfig(
                paths=(root / "a.npz",), cache=root / "cache", crop=(32, 48)
            ),
            **changes,
        },
    )


def test_batches_hold_both_sides_and_go_on_where_they_stopped(root):
    source = UnpairedSource(config_of(root), SPEC, SIX_CLASSES, seed=3)
    size = {"batch_size": 2, "workers": 0}
    whole = list(load_batches(source, stack_unpaired, first_batch=0, last_batch=3, **size))
    rest = list(load_batches(source, stack_unpaired, first_batch=2, last_batch=3, **size))
    batch = whole[2]
    assert batch.first_index == rest[0].first_index == 4
    assert batch.input.shape == (2, 2, 32, 48)
    assert batch.image.shape == (2, 1, 32, 48)
    assert batch.image_label.shape == (2, 32, 48)
    assert (batch.label == 255).all()
    assert batch.has_frame.tolist() == [0.0, 0.0]
    assert batch.labelled is None
    for name in ("input", "image", "image_label", "valid", "frame"):
        assert getattr(batch, name).equal(getattr(rest[0], name))


def test_simulated_targets_come_without_their_labels(root):
    simulation = SimulationConfig(images=ImagesConfig(root=root / "camvid"), height=32, width=48)
    labelled = SourceConfig(name="sim", simulation=simulation)
    config = config_of(root, recordings=None, target=(labelled,), train=(labelled,))
    source = UnpairedSource(config, SPEC, SIX_CLASSES, seed=0)
    (batch,) = load_batches(
        source, stack_unpaired, batch_size=2, first_batch=0, last_batch=1, workers=0
    )
    assert (batch.label == 255).all()
    assert batch.labelled is not None
    assert (batch.labelled.label != 255).any()
    assert not batch.labelled.input.equal(batch.input)  # other seeds, other scenes


def test_a_target_is_needed_and_only_one(root):
    with pytest.raises(ConfigError, match="either"):
        config_of(root, recordings=None)
    with pytest.raises(ConfigError, match=r"learns from data\.stills"):
        TeacherDataConfig(
            stills=StillsConfig(images=ImagesConfig(root=Path("a"))),
            validation_stills={},
            train=(
                SourceConfig(
                    name="x", simulation=SimulationConfig(images=ImagesConfig(root=Path("a")))
                ),
            ),
        )


def test_configuration_round_trips(root):
    config = config_of(root)
    assert from_mapping(DistillDataConfig, json.loads(json.dumps(to_mapping(config)))) == config


@pytest.mark.parametrize(
    "changes", [{"crop": (0, 4)}, {"scale": (2.0, 1.0)}, {"jitter": 2.0}, {"multiple": 0}]
)
def test_bad_stills_are_refused(changes):
    with pytest.raises(ConfigError):
        StillsConfig(images=ImagesConfig(root=Path("a")), **changes)


@pytest.mark.slow
def test_batches_do_not_depend_on_workers(root, monkeypatch, recwarn):
    source = UnpairedSource(config_of(root), SPEC, SIX_CLASSES, seed=3)
    size = {"batch_size": 2, "first_batch": 0, "last_batch": 3}
    here = list(load_batches(source, stack_unpaired, workers=0, **size))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)  # one core
    there = list(load_batches(source, stack_unpaired, workers=2, **size))
    assert not [w for w in recwarn if "DataLoader" in str(w.message)]
    for a, b in zip(here, there, strict=True):
        assert a.input.equal(b.input)
        assert a.image.equal(b.image)
        assert a.image_label.equal(b.image_label)


def test_pictures_of_a_stored_target_are_its_frames(root):
    from evdistill_core.data.simulated_sets import SimulateConfig, simulate_images
    from evdistill_core.simulation.dataset import SimulatedSet

    images = ImagesConfig(root=root / "camvid")
    size = SimulateConfig(height=30, width=44, window_us=10_000)
    simulate_images(images, root / "set", size, seed=0, count=3)
    target = SourceConfig(name="target", folder=root / "set")
    config = DistillDataConfig(
        stills=StillsConfig(images=images, crop=(32, 48)), target=(target,), target_frames=True
    )
    assert config.has_frames
    source = UnpairedSource(config, SPEC, SIX_CLASSES, seed=0)
    stored = SimulatedSet(root / "set")
    for index in range(4):
        window = source.sample(index).window
        assert window.has_frame
        image = stored[index % 3].image
        assert np.allclose(window.frame[0, :30, :44], image.astype(np.float32) / 127.5 - 1)
        assert not window.frame[0, 30:].any()
    mirrored = replace(target, augment=AugmentConfig(flip=1.0))
    other = UnpairedSource(replace(config, target=(mirrored,)), SPEC, SIX_CLASSES, seed=0)
    for index in range(3):
        straight, back = source.sample(index).window, other.sample(index).window
        assert np.array_equal(back.active[:30, :44], straight.active[:30, :44][:, ::-1])
        frames = back.frame[0, :30, :44], straight.frame[0, :30, :44][:, ::-1]
        assert np.allclose(*frames, atol=1 / 127)  # white comes back as the grey beside it
    recorded = SourceConfig(name="street", street=StreetSetConfig(layout="dsec", root=root))
    with pytest.raises(ConfigError, match="target_frames"):
        DistillDataConfig(stills=config.stills, target=(recorded,), target_frames=True)


def coco_root(root):
    """Write two images of COCO's numbers: one with a car in it, one with nothing that counts."""
    for kind in ("images", "labels"):
        (root / "coco" / kind / "train").mkdir(parents=True)
    for k, text in enumerate(["2 0.1 0.1 0.9 0.1 0.9 0.5 0.1 0.5", "56 0.1 0.1 0.9 0.1 0.9 0.5"]):
        picture = np.full((40, 48, 3), 60 + 90 * k, np.uint8)
        cv2.imwrite(str(root / "coco" / "images" / "train" / f"{k}.png"), picture)
        (root / "coco" / "labels" / "train" / f"{k}.txt").write_text(text, encoding="utf-8")
    return ImagesConfig(layout="coco-seg", root=root / "coco")


def test_stills_of_two_sets_stand_in_one_batch_each_with_what_it_excludes(root):
    crop = (32, 32)
    config = TeacherDataConfig(
        stills=StillsConfig(images=ImagesConfig(root=root / "camvid"), crop=crop),
        more_stills=(StillsConfig(images=coco_root(root), crop=crop, share=2.0),),
        validation_stills={},
    )
    assert from_mapping(TeacherDataConfig, to_mapping(config)) == config
    assert config.describe()[1] == {"name": "stills", "images": "coco-seg coco train", "share": 2.0}
    source = build_stills(config, SIX_CLASSES, seed=0)
    batch = stack(0, [source.sample(i) for i in range(30)])
    is_coco = batch.excluded.any(1)
    assert 12 <= int(is_coco.sum()) <= 28  # two thirds
    assert batch.excluded[is_coco].tolist() == [[False] * 4 + [True] * 2] * int(is_coco.sum())
    assert not (batch.label[~is_coco] == 254).any()
    assert (batch.label[is_coco] == 254).any()


def test_rare_classes_do_not_crowd_out_images_that_hold_none(root):
    images = coco_root(root)
    source = Stills(
        StillsConfig(images=images, crop=(40, 48), rare_temperature=0.1), SIX_CLASSES, seed=0
    )
    bright = [source.sample(i).input.max() > 0 for i in range(40)]
    assert 10 <= sum(bright) <= 30  # one of two images holds no class


def test_images_that_do_not_mix_are_refused(root):
    camvid = ImagesConfig(root=root / "camvid")
    with pytest.raises(ConfigError, match="the same crop above 0"):
        TeacherDataConfig(
            stills=StillsConfig(images=camvid, crop=(32, 32)),
            more_stills=(StillsConfig(images=camvid, crop=(32, 48)),),
            validation_stills={},
        )
    with pytest.raises(ConfigError, match="of one task"):
        TeacherDataConfig(
            stills=StillsConfig(images=camvid, crop=(32, 32)),
            more_stills=(
                StillsConfig(images=ImagesConfig(root=root, layout="mnist"), crop=(32, 32)),
            ),
            validation_stills={},
        )
    with pytest.raises(ConfigError, match="share must be above 0"):
        StillsConfig(images=camvid, share=0.0)
