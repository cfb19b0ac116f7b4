"""The colours of events are told apart, also by colour-blind people, also beside the masks."""

import cv2
import numpy as np
import pytest

from evdistill_core.drawing.colours import BACKGROUND_BGR, BRIGHTER_BGR, DARKER_BGR, color_mask
from evdistill_core.foundation.class_maps import CLASS_SETS
from evdistill_core.foundation.labels import CAMVID_CLASSES, SIX_CLASSES

# How linear RGB is seen without one kind of cone, from: Machado, Oliveira, Fernandes, "A
# Physiologically-based Model for Simulation of Color Vision Deficiency", 2009, severity 1.
SEEN = {
    "all cones": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                            [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip
EASILY_TOLD_APART = 20.0  # CIE 1976 colour difference; 2.3 is just noticeable


def seen_lab(bgr, matrix):
    """Return CIE Lab of (N, 3) BGR 0..255 as it is seen."""
    rgb = np.atleast_2d(np.asarray(bgr, float))[:, ::-1] / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ matrix.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(np.float32(srgb)[None], cv2.COLOR_RGB2LAB)[0]


@pytest.mark.parametrize("kind", SEEN)
@pytest.mark.parametrize("classes", CLASS_SETS.values(), ids=CLASS_SETS)
def test_pixels_of_no_marked_class_have_a_colour_of_their_own(kind, classes):
    mask = np.array([[254, 255, *range(len(classes))]], np.uint8)
    other, *rest = seen_lab(color_mask(mask, classes)[0], SEEN[kind])
    assert np.linalg.norm(np.array(rest) - other, axis=1).min() > 12  # told apart side by side


@pytest.mark.parametrize("kind", SEEN)
def test_both_polarities_are_told_apart(kind):
    brighter, darker, ground = seen_lab([BRIGHTER_BGR, DARKER_BGR, BACKGROUND_BGR], SEEN[kind])
    assert np.linalg.norm(brighter - darker) > 2 * EASILY_TOLD_APART
    assert np.linalg.norm(brighter - ground) > 2 * EASILY_TOLD_APART
    assert np.linalg.norm(darker - ground) > 2 * EASILY_TOLD_APART


@pytest.mark.parametrize("kind", SEEN)
@pytest.mark.parametrize("classes", [SIX_CLASSES, CAMVID_CLASSES], ids=["six", "camvid"])
@pytest.mark.parametrize("grey", [BACKGROUND_BGR[0], 100, 160])
def test_events_are_told_apart_from_masks(kind, classes, grey):
    mask = np.arange(len(classes), dtype=np.uint8)[None]
    tinted = 0.5 * color_mask(mask, classes)[0] + 0.5 * grey
    events = seen_lab([BRIGHTER_BGR, DARKER_BGR], SEEN[kind])
    distances = np.linalg.norm(events[:, None] - seen_lab(tinted, SEEN[kind])[None], axis=2)
    assert distances.min() > EASILY_TOLD_APART
