"""Changes of windows: geometry against painted pictures, counts, seeds."""

import numpy as np
import pytest

from evdistill_core.data.augment import (
    AugmentConfig,
    add_clutter,
    augment,
    augment_with,
    crop,
    drop_events,
    flip,
    shrink,
)
from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import ConfigError

SPAN = (1000, 51_000)


def window(seed=0, height=20, width=30, count=400):
    rng = np.random.default_rng(seed)
    events = Events.from_columns(
        rng.integers(0, width, count),
        rng.integers(0, height, count),
        np.sort(rng.integers(*SPAN, count)),
        rng.integers(0, 2, count),
        width=width,
        height=height,
    )
    return events, rng.integers(0, 6, (height, width)).astype(np.uint8)


def painted(events):
    picture = np.zeros((events.height, events.width), np.int64)
    np.add.at(picture, (events.y, events.x), 1)
    return picture


def test_flip_mirrors_events_and_labels_alike():
    events, labels = window()
    mirrored, mirrored_labels = flip(events, labels)
    np.testing.assert_array_equal(painted(mirrored), painted(events)[:, ::-1])
    np.testing.assert_array_equal(mirrored_labels, labels[:, ::-1])
    back, back_labels = flip(mirrored, mirrored_labels)
    assert back.equals(events)
    np.testing.assert_array_equal(back_labels, labels)


@pytest.mark.parametrize("place", [(0.0, 0.0), (0.5, 0.3), (0.999, 0.999)])
def test_crop_cuts_events_and_labels_alike(place):
    events, labels = window()
    cut, cut_labels = crop(events, labels, (8, 12), place)
    assert cut_labels.shape == (8, 12)
    top, left = int(place[0] * 13), int(place[1] * 19)
    np.testing.assert_array_equal(painted(cut), painted(events)[top : top + 8, left : left + 12])
    np.testing.assert_array_equal(cut_labels, labels[top : top + 8, left : left + 12])


def test_crop_of_a_small_window_is_padded_with_ignore():
    events, labels = window()
    padded, padded_labels = crop(events, labels, (24, 32), (0.9, 0.9))
    assert (padded.height, padded.width) == (24, 32)
    np.testing.assert_array_equal(painted(padded)[:20, :30], painted(events))
    np.testing.assert_array_equal(padded_labels[:20, :30], labels)
    assert (padded_labels[20:] == 255).all()
    assert (padded_labels[:, 30:] == 255).all()


def test_shrink_keeps_every_event_and_the_place_of_labels():
    events, _ = window()
    labels = np.zeros((20, 30), np.uint8)
    labels[:, 15:] = 5
    smaller, smaller_labels = shrink(events, labels, 0.5)
    assert (smaller.height, smaller.width) == smaller_labels.shape == (10, 15)
    np.testing.assert_array_equal(
        painted(smaller), painted(events).reshape(10, 2, 15, 2).sum((1, 3))
    )
    assert set(smaller_labels[:, 8:].ravel()) == {5}


def test_dropout_keeps_about_its_share():
    events, _ = window(count=5000)
    kept = drop_events(events, 0.3, np.random.default_rng(0))
    assert len(kept) == pytest.approx(3500, abs=150)
    assert drop_events(events, 0.0, np.random.default_rng(0)).equals(events)


def test_clutter_adds_events_inside_the_window_only():
    events, _ = window()
    more = add_clutter(events, (50.0, 60.0), SPAN, np.random.default_rng(3))
    assert len(more) > len(events)
    assert (np.diff(more.t_us) >= 0).all()
    assert more.t_us.min() >= SPAN[0]
    assert more.t_us.max() < SPAN[1]


def test_same_seed_same_window_and_inputs_untouched():
    events, labels = window()
    for column in (events.x, events.y, events.t_us, events.p, labels):
        column.setflags(write=False)
    config = AugmentConfig(
        flip=0.5, invert=0.5, clutter=0.5, dropout=0.5, scale=(0.5, 1.0), crop=(16, 16)
    )
    results = [
        augment(events, labels, config, np.random.default_rng(s), span_us=SPAN) for s in (1, 1, 2)
    ]
    assert results[0][0].equals(results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert not results[0][0].equals(results[2][0])
    assert results[0][1].shape == (16, 16)


def test_a_picture_and_numbers_of_things_move_as_the_labels_do():
    events, labels = window()
    config = AugmentConfig(
        flip=0.5, invert=0.5, clutter=0.5, dropout=0.5, scale=(0.5, 1.0), crop=(16, 48)
    )
    for seed in range(12):
        alone, moved = augment(events, labels, config, np.random.default_rng(seed), span_us=SPAN)
        numbers = labels.astype(np.uint16) + 1000
        rng = np.random.default_rng(seed)
        maps = [(labels, 255), (numbers, 0), (labels // 2, 127)]
        together, found = augment_with(events, maps, config, rng, span_us=SPAN)
        labels_again, things, picture = found
        assert together.equals(alone)
        np.testing.assert_array_equal(labels_again, moved)
        np.testing.assert_array_equal(picture, np.where(moved == 255, 127, moved // 2))
        assert (moved == 255).any()
        assert things.dtype == np.uint16
        np.testing.assert_array_equal(things, np.where(moved == 255, 0, moved + np.uint16(1000)))


def test_nothing_asked_changes_nothing():
    events, labels = window()
    same, same_labels = augment(
        events, labels, AugmentConfig(), np.random.default_rng(0), span_us=SPAN
    )
    assert same.equals(events)
    np.testing.assert_array_equal(same_labels, labels)


def test_empty_window():
    events = Events.empty(30, 20)
    config = AugmentConfig(flip=1.0, invert=1.0, dropout=0.5, scale=(0.5, 0.6), crop=(8, 8))
    out, _ = augment(
        events, np.zeros((20, 30), np.uint8), config, np.random.default_rng(0), span_us=SPAN
    )
    assert len(out) == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"flip": 1.5},
        {"dropout": -0.1},
        {"scale": (0.0, 1.0)},
        {"scale": (0.9, 0.5)},
        {"crop": (10, 0)},
        {"clutter_hz": (5.0, 1.0)},
    ],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ConfigError):
        AugmentConfig(**bad)
