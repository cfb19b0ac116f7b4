"""Samples of several windows in a row: one span cut up, changed alike, or refused."""

import numpy as np
import pytest

from evdistill_core.data.augment import AugmentConfig
from evdistill_core.data.batches import load_batches, stack
from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages
from evdistill_core.data.moving_stills import MovingStills, MovingStillsConfig
from evdistill_core.data.simulated import (
    SimulatedWindows,
    SimulationConfig,
    _Stopping,
    make_sample,
    represent_sequence,
    scene_factory,
)
from evdistill_core.data.unlabelled import RecordingsConfig, UnlabelledWindows, open_windows
from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.class_maps import named_classes
from evdistill_core.foundation.config import from_mapping, to_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.recordings.writers.npz import NpzWriter
from evdistill_core.representations import InputSpec, represent
from evdistill_core.simulation.factory import SceneRanges
from evdistill_core.simulation.sensor import SensorModel

ONE = InputSpec(bins=3, window_us=20_000, size_multiple=8)
THREE = InputSpec(bins=3, window_us=20_000, size_multiple=8, sequence=3)


def random_events(count=3000, span_us=60_000, *, start_us=500, width=40, height=24, seed=0):
    rng = np.random.default_rng(seed)
    return Events.from_columns(
        rng.integers(0, width, count),
        rng.integers(0, height, count),
        np.sort(rng.integers(start_us, start_us + span_us, count)),
        rng.integers(0, 2, count),
        width=width,
        height=height,
    )


@pytest.mark.parametrize("length_us", [60_000, 60_001, 50_000])
def test_a_span_is_cut_into_windows_without_gap_or_overlap(length_us):
    events = random_events(span_us=length_us)
    windows = represent_sequence(events, THREE, 500, 500 + length_us)
    edges = [500 + length_us * k // 3 for k in range(4)]
    for k in range(3):
        inside = (events.t_us >= edges[k]) & (events.t_us < edges[k + 1])
        expected = represent(events[inside], ONE, edges[k], edges[k + 1])
        np.testing.assert_array_equal(windows[k], expected)


def test_the_last_window_is_the_sample_and_the_rest_its_past():
    events, labels = random_events(), np.full((24, 40), 2, np.uint8)
    sample = make_sample(events, labels, THREE, 500, 60_500)
    late = events[events.t_us >= 40_500]
    alone = make_sample(late, labels, ONE, 40_500, 60_500)
    np.testing.assert_array_equal(sample.input, alone.input)
    np.testing.assert_array_equal(sample.active, alone.active)
    assert alone.past is None
    assert alone.sequence is alone.input
    assert sample.past.shape == (2, 3, 24, 40)
    np.testing.assert_array_equal(sample.sequence[:2], sample.past)
    np.testing.assert_array_equal(sample.sequence[2], sample.input)


def test_a_batch_has_the_past_of_every_sample():
    labels = np.zeros((24, 40), np.uint8)
    samples = [make_sample(random_events(seed=s), labels, THREE, 500, 60_500) for s in range(2)]
    batch = stack(0, samples)
    assert batch.sequence.shape == (2, 3, 3, 24, 40)
    for i, sample in enumerate(samples):
        np.testing.assert_array_equal(batch.sequence[i].numpy(), sample.sequence)
    single = stack(0, [make_sample(random_events(), labels, ONE, 500, 60_500)])
    assert single.past is None
    assert single.sequence is single.input


def simulated(images, spec, **changes):
    config = SimulationConfig(images=images, height=24, width=40, **changes)
    augment = AugmentConfig(flip=0.5, dropout=0.5)
    return SimulatedWindows(config, spec, SIX_CLASSES, seed=3, augmentation=augment)


@pytest.fixture
def camvid(tmp_path, make_camvid):
    make_camvid(tmp_path / "camvid", height=60, width=80)
    return ImagesConfig(root=tmp_path / "camvid")


def test_a_simulated_sequence_is_one_long_window_cut_up(camvid):
    long = InputSpec(bins=3, window_us=60_000, size_multiple=8)
    cut, whole = simulated(camvid, THREE).sample(5), simulated(camvid, long).sample(5)
    np.testing.assert_array_equal(cut.label, whole.label)
    # Every event of the long window is in one of the three, mirrored and thinned alike.
    summed = cut.sequence.astype(np.float64).sum((0, 1))
    clipped = np.abs(whole.input).max() >= 1 or np.abs(cut.sequence).max() >= 1
    assert (cut.sequence != 0).any((0, 1))[whole.active > 0].all()
    assert clipped or np.allclose(summed, whole.input.sum(0), atol=1e-5)


def test_scenes_may_stop_and_keep_their_labels(camvid):
    files = LabelledImages(camvid, SIX_CLASSES)
    ranges = SceneRanges(moving_camera=1.0)
    factory = scene_factory(files, SIX_CLASSES, height=24, width=40, ranges=ranges)
    scene = factory.make(SensorModel(), np.random.default_rng(4))
    stopped = _Stopping(scene, 0.005)
    for t_s in (-0.02, 0.0, 0.005):
        np.testing.assert_array_equal(stopped.draw(t_s), scene.draw(t_s))
        np.testing.assert_array_equal(stopped.labels(t_s), scene.labels(t_s))
    np.testing.assert_array_equal(stopped.draw(0.03), scene.draw(0.005))
    np.testing.assert_array_equal(stopped.labels(0.03), scene.labels(0.005))
    assert not np.array_equal(scene.draw(0.03), scene.draw(0.005))


def test_what_stopped_sends_fewer_events_in_the_last_window(camvid):
    moves = {"scene": SceneRanges(moving_camera=1.0)}
    still, moving = (simulated(camvid, THREE, stops=s, **moves) for s in (1.0, 0.0))
    lit = [
        [float((source.sample(i).sequence[t] != 0).mean()) for i in range(6)]
        for source in (still, moving)
        for t in (0, 2)
    ]
    first_still, last_still, _, last_moving = np.mean(lit, 1)
    assert last_still < 0.7 * first_still
    assert last_still < 0.7 * last_moving
    assert "stops" not in to_mapping(moving._config)
    with pytest.raises(ConfigError, match=r"stops must lie in 0\.\.1, got 2"):
        simulated(camvid, THREE, stops=2)


def test_the_cache_knows_how_long_a_span_is(camvid, tmp_path):
    kept = {"unique": 2, "cache": tmp_path / "cache"}
    for spec in (ONE, THREE):
        first = simulated(camvid, spec, **kept).sample(1)
        again = simulated(camvid, spec, **kept).sample(1)
        plain = simulated(camvid, spec, unique=2).sample(1)
        for other in (again, plain):
            np.testing.assert_array_equal(first.sequence, other.sequence)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_loaded_batches_hold_sequences(camvid):
    (batch,) = load_batches(
        simulated(camvid, THREE), stack, batch_size=2, first_batch=1, last_batch=2, workers=0
    )
    assert batch.first_index == 2
    assert batch.sequence.shape == (2, 3, 3, 24, 40)


def unlabelled(folder, spec, **changes):
    if not (folder / "a.npz").exists():
        with NpzWriter(folder / "a.npz", width=40, height=24) as writer:
            writer.write(random_events(20_000, 300_000), Triggers.empty())
    values = {"paths": (folder / "a.npz",), "cache": folder / "cache", "flip": 0.0}
    return UnlabelledWindows(RecordingsConfig(**{**values, **changes}), spec, seed=0)


def test_unlabelled_sequences_are_the_windows_before(tmp_path):
    sample = unlabelled(tmp_path, THREE).sample(4)
    assert sample.past.shape == (2, *sample.input.shape)
    # A single long window drawn by the same seed covers the same span.
    long = InputSpec(bins=3, window_us=60_000, size_multiple=8)
    whole = unlabelled(tmp_path, long).sample(4)
    fired = (sample.input != 0).any(0) | (sample.past != 0).any((0, 1))
    np.testing.assert_array_equal(fired, whole.active > 0)
    np.testing.assert_array_equal((sample.input != 0).any(0), sample.active > 0)


def test_all_windows_of_a_sequence_are_changed_alike(tmp_path):
    plain = unlabelled(tmp_path, THREE).sample(2)
    turned = unlabelled(tmp_path, THREE, flip=1.0, invert=1.0).sample(2)
    np.testing.assert_array_equal(turned.past, -plain.past[..., ::-1])
    np.testing.assert_array_equal(turned.input, -plain.input[..., ::-1])
    cropped = unlabelled(tmp_path, THREE, crop=(16, 16)).sample(2)
    places = [
        (y, x)
        for y in range(9)
        for x in range(25)
        if np.array_equal(plain.input[:, y : y + 16, x : x + 16], cropped.input)
    ]
    ((y, x),) = places
    np.testing.assert_array_equal(cropped.past, plain.past[:, :, y : y + 16, x : x + 16])


def test_sources_of_single_windows_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"input.sequence is 3, but every whole file"):
        open_windows(RecordingsConfig(paths=(tmp_path,), whole=True), THREE, seed=0)
    folder = tmp_path / "shapes" / "train" / "cup"
    folder.mkdir(parents=True)
    images = ImagesConfig(root=tmp_path / "shapes", layout="class-folders")
    with pytest.raises(ConfigError, match="moving_stills makes one window"):
        MovingStills(MovingStillsConfig(images=images), THREE, named_classes(("cup",)), seed=0)


def test_single_windows_leave_no_trace_in_a_description():
    assert "sequence" not in to_mapping(ONE)
    assert to_mapping(THREE)["sequence"] == 3
    for spec in (ONE, THREE):
        assert from_mapping(InputSpec, to_mapping(spec)) == spec
    with pytest.raises(ConfigError, match=r"sequence must lie in 1\.\.256, got 0"):
        InputSpec(sequence=0)
