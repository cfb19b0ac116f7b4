"""People that no image holds large enough: walkers with limbs, and near heads with shoulders.

Road scenes show people a few dozen pixels high; a robot indoors sees a head that fills half of the
frame. These figures are drawn from capsules and ellipses with random clothes, faces and light.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.simulation.motion import PARAMETERS, Motion
from evdistill_core.simulation.scene import Layer

FloatImage = npt.NDArray[np.float32]

MARGIN = 3


def texture(
    rng: np.random.Generator, height: int, width: int, contrast: float, *, pattern: bool = True
) -> FloatImage:
    """Return a random surface pattern, (height, width) float32, deviation about ``contrast``.

    Smooth shading and clouds; with ``pattern`` also stripes or hard-edged patches, as on cloth.
    """
    total = np.zeros((height, width), np.float32)
    for cells in (3, 8, 24):
        coarse = rng.standard_normal((cells, cells), np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * rng.random()
    kind = rng.random() if pattern else 1.0
    if kind < 0.25:
        total = np.where(total > 0.3, np.float32(1.0), np.float32(-0.5)) + 0.2 * total
    elif kind < 0.5:
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        angle, period = rng.uniform(0, math.pi), rng.uniform(3.0, 20.0)
        wave = np.sin((rows * math.sin(angle) + columns * math.cos(angle)) * 6.283 / period)
        total = 0.5 * total + np.sign(wave) * (rng.random() < 0.5) + wave
    deviation = float(total.std()) or 1.0
    result: FloatImage = (total * (contrast / deviation)).astype(np.float32)
    return result


def capsule(length: float, widths: tuple[float, float]) -> FloatImage:
    """Return the cover of an upright limb: two circles (top, bottom) and what is between them."""
    most = max(widths)
    height, width = int(length + most) + 2 * MARGIN, int(most) + 2 * MARGIN
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    columns -= (width - 1) / 2
    along = np.clip((rows - MARGIN - most / 2) / max(length, 1e-3), 0.0, 1.0)
    radius = (widths[0] * (1.0 - along) + widths[1] * along) / 2
    distance = np.hypot(columns, rows - MARGIN - most / 2 - along * length)
    return np.asarray(np.clip(radius - distance + 0.5, 0.0, 1.0), np.float32)


def _ellipse(
    shape: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float]
) -> FloatImage:
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    d = np.hypot((columns - centre[0]) / radii[0], (rows - centre[1]) / radii[1])
    return np.asarray(np.clip((1.0 - d) * min(radii) + 0.5, 0.0, 1.0), np.float32)


def _swing(amplitude: float, hz: float, phase: float) -> Motion:
    shake, phases = np.zeros(PARAMETERS), np.zeros(PARAMETERS)
    shake[2], phases[2] = amplitude, phase
    return Motion(shake=shake, shake_hz=hz, shake_phase=phases)


def walker(
    rng: np.random.Generator, height_px: float, motion: Motion, origin: tuple[float, float],
    label: int,
) -> list[Layer]:  # fmt: skip
    """Return the parts of a walking person, back to front.

    Args:
        rng: generator.
        height_px: from head to feet.
        motion: of the whole person.
        origin: (column, row) of the hip.
        label: class id.
    """
    h = height_px
    base = rng.uniform(-3.0, -0.5)
    top, trousers, skin, hair = base + rng.normal(0.0, 0.7, 4)
    hz = rng.uniform(0.6, 1.8)
    phase = rng.uniform(0.0, 2.0 * math.pi)
    reach = rng.uniform(0.05, 0.6)
    lean = 1.0 if rng.random() < 0.5 else rng.uniform(0.5, 0.9)  # seen from the front or the side
    half_hip, half_shoulder = 0.055 * h * lean, 0.12 * h * lean
    layers = []

    def part(  # noqa: PLR0913, PLR0917
        length: float, widths: tuple[float, float], joint: tuple[float, float], tone: float,
        swing: Motion, contrast: float,
    ) -> None:  # fmt: skip
        alpha = capsule(length * h, (widths[0] * h, widths[1] * h))
        shade = texture(rng, alpha.shape[0], alpha.shape[1], contrast)
        pivot = ((alpha.shape[1] - 1) / 2, MARGIN + max(widths) * h / 2)
        layers.append(
            Layer(
                (shade + np.float32(tone)).astype(np.float32), alpha, label, motion, origin,
                pivot=pivot, joint=joint, swing=swing,
            )
        )  # fmt: skip

    far, near = _swing(reach, hz, phase), _swing(reach, hz, phase + math.pi)
    arm_far, arm_near = _swing(0.6 * reach, hz, phase), _swing(0.6 * reach, hz, phase + math.pi)
    shoulder = -0.3 * h
    cloth = rng.uniform(0.05, 0.4)
    part(0.34, (0.07, 0.05), (half_shoulder, shoulder), top - 0.2, arm_near, cloth)
    part(0.45, (0.1, 0.06), (half_hip, 0.0), trousers - 0.2, far, cloth)
    part(0.45, (0.1, 0.06), (-half_hip, 0.0), trousers, near, cloth)
    part(0.28, (0.24 * lean, 0.17 * lean), (0.0, shoulder), top, _swing(0.03, hz, 0.0),
         cloth)  # fmt: skip
    nod = _swing(rng.uniform(0.0, 0.1), hz, phase)
    part(0.05, (0.11, 0.1), (0.0, shoulder - 0.13 * h), hair, nod, 0.1)
    part(0.03, (0.1, 0.09), (0.0, shoulder - 0.1 * h), skin, nod, 0.1)
    part(0.34, (0.07, 0.05), (-half_shoulder, shoulder), top + 0.1, arm_far, cloth)
    return layers


def bust(
    rng: np.random.Generator, head_px: float, motion: Motion, origin: tuple[float, float],
    label: int,
) -> list[Layer]:  # fmt: skip
    """Return body and head of a person near the camera.

    Args:
        rng: generator.
        head_px: height of the head.
        motion: of the whole person.
        origin: (column, row) of the neck.
        label: class id.
    """
    tone = rng.uniform(-2.5, -0.5)
    head = _head(rng, head_px, tone)
    body = _shoulders(rng, head_px, tone + rng.normal(0.0, 0.7))
    turn_rad, hz = abs(rng.normal(0.0, 0.15)), rng.uniform(0.5, 2.5)
    swing = _swing(turn_rad, hz, rng.uniform(0.0, 6.28))
    swing.shake[0] = head_px * abs(rng.normal(0.0, 0.08))
    swing.shake_phase[0] = rng.uniform(0.0, 6.28)
    body_pivot = ((body[0].shape[1] - 1) / 2, MARGIN + 0.15 * head_px)
    head_pivot = ((head[0].shape[1] - 1) / 2, MARGIN + 0.95 * head_px)
    return [
        Layer(*body, label, motion, origin, pivot=body_pivot),
        Layer(*head, label, motion, origin, pivot=head_pivot, swing=swing),
    ]


def _head(rng: np.random.Generator, size: float, tone: float) -> tuple[FloatImage, FloatImage]:
    height, width = int(1.05 * size) + 2 * MARGIN, int(0.95 * size) + 2 * MARGIN
    shape, middle = (height, width), (width - 1) / 2
    wide = size * rng.uniform(0.34, 0.42)
    centre = (middle, MARGIN + size / 2)
    alpha = _ellipse(shape, centre, (wide, size / 2))
    ear = size * 0.1
    for side in (-1, 1):
        at = (middle + side * wide, MARGIN + 0.55 * size)
        alpha = np.maximum(alpha, _ellipse(shape, at, (ear * 0.6, ear)))
    light_from = rng.uniform(-1.0, 1.0)
    slope = np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(light_from)
    skin = texture(rng, height, width, rng.uniform(0.02, 0.15), pattern=False)
    log = np.asarray(skin + np.float32(tone) + slope, np.float32)
    look = rng.uniform(-0.25, 0.25) * wide  # the face turned to one side
    features = [
        ((look - 0.4 * wide, 0.45), (0.1, 0.045), -0.9),
        ((look + 0.4 * wide, 0.45), (0.1, 0.045), -0.9),
        ((look - 0.4 * wide, 0.38), (0.13, 0.025), -0.8),
        ((look + 0.4 * wide, 0.38), (0.13, 0.025), -0.8),
        ((look, 0.6), (0.06, 0.05), -0.4),
        ((look, 0.76), (0.15, 0.03), -0.7),
    ]
    for (dx, row), (rx, ry), depth in features:
        at = (middle + dx, MARGIN + row * size)
        spot = _ellipse(shape, at, (max(rx * size, 0.6), max(ry * size, 0.6)))
        log += spot * np.float32(depth * rng.uniform(0.5, 1.3))
    hair_line = rng.uniform(0.1, 0.35)
    hair = _ellipse(shape, centre, (wide, size / 2)) * _ellipse(
        shape, (middle - look, MARGIN + (hair_line - 0.5) * size), (size, size / 2)
    )
    hair_log = texture(rng, height, width, 0.25, pattern=False) + np.float32(
        tone + rng.uniform(-1.8, 0.4)
    )
    log += hair * (hair_log - log)
    return log.astype(np.float32), alpha


def _shoulders(rng: np.random.Generator, size: float, tone: float) -> tuple[FloatImage, FloatImage]:
    wide = size * rng.uniform(0.85, 1.2)
    height, width = int(3.2 * size) + 2 * MARGIN, int(2.0 * wide) + 2 * MARGIN + int(0.5 * size)
    shape, middle = (height, width), (width - 1) / 2
    neck = _ellipse(shape, (middle, MARGIN + 0.2 * size), (0.24 * size, 0.5 * size))
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    top = MARGIN + 0.35 * size
    aside = np.abs(columns - middle) / wide
    # Shoulders fall off like a superellipse, the trunk goes straight down below them.
    outline = top + 0.9 * size * (1.0 - np.maximum(1.0 - aside**2.6, 0.0) ** 0.55)
    trunk = np.clip(rows - outline + 0.5, 0.0, 1.0) * np.clip((1.0 - aside) * wide + 0.5, 0.0, 1.0)
    alpha = np.maximum(neck, trunk).astype(np.float32)
    log = texture(rng, height, width, rng.uniform(0.05, 0.5)) + np.float32(tone)
    return log.astype(np.float32), alpha
