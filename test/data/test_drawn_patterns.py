"""Drawn patterns are no things, and the simulator makes windows of them."""

import numpy as np
import pytest

from evdistill_core.data.drawn_patterns import KINDS, PATTERNS, draw_pattern
from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages
from evdistill_core.data.simulated import SimulatedWindows, SimulationConfig
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import OTHER, SIX_CLASSES, ClassInfo, ClassTable
from evdistill_core.representations.spec import InputSpec

WALLS = ClassTable((ClassInfo("wall", (9, 9, 9)), ClassInfo("floor", (8, 8, 8))))


def hard_steps(picture):
    """Return the share of neighbours in rows and columns that differ by more than 40."""
    grey = picture.astype(int)
    return np.mean([(np.abs(np.diff(grey, axis=k)) > 40).mean() for k in (0, 1)])


def test_every_kind_has_edges_and_every_picture_is_another():
    pictures = [draw_pattern(k) for k in range(2 * len(KINDS))]
    for picture in pictures:
        assert picture.shape == (360, 480)
        assert picture.dtype == np.uint8
    assert len({p.tobytes() for p in pictures}) == len(pictures)
    assert np.array_equal(draw_pattern(3), pictures[3])
    # The kinds take turns; a wall with nothing drawn on it has no step of 40 between neighbours.
    steps = np.array([hard_steps(draw_pattern(k)) for k in range(10 * len(KINDS))])
    assert (np.median(steps.reshape(-1, len(KINDS)), axis=0) > 0.003).all()


def test_they_say_what_they_are_not():
    images = LabelledImages(ImagesConfig(layout="patterns", root="."), SIX_CLASSES)
    assert len(images) == PATTERNS
    assert images.complete_for == ("human", "vehicle")
    assert (images[0].label == OTHER).all()
    named = ImagesConfig(layout="patterns", root=".", complete_for=("nature",))
    assert LabelledImages(named, SIX_CLASSES).complete_for == ("nature",)
    with pytest.raises(ConfigError, match=r"none of .*wall.* is one: name classes with"):
        LabelledImages(ImagesConfig(layout="patterns", root="."), WALLS)


def test_the_simulator_makes_windows_of_them():
    config = SimulationConfig(
        images=ImagesConfig(layout="patterns", root=".", limit=6), height=48, width=64
    )
    windows = SimulatedWindows(config, InputSpec(), SIX_CLASSES, seed=0)
    sample = windows.sample(0)
    assert (sample.label == OTHER).any()
    assert sample.excluded.tolist() == [False, False, False, False, True, True]
