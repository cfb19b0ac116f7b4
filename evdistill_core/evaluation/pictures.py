"""Pictures for reports: events, labels and predictions side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evdistill_core.drawing.colours import (
    BACKGROUND_BGR,
    Bgr,
    color_mask,
    enlarge,
    polarity_picture,
    screen_factor,
)
from evdistill_core.drawing.overlay import EVENT_COLOURS, legend
from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import OTHER_RGB, ClassTable
from evdistill_core.representations.registry import REPRESENTATIONS

Picture = npt.NDArray[np.uint8]
OTHER_LABELS: tuple[tuple[str, Bgr], ...] = (
    ("no label", (0, 0, 0)),
    ("none of the marked classes", OTHER_RGB[::-1]),
)
"""Colours in pictures of labels that are no class."""
LABEL_COLOURS: tuple[tuple[str, Bgr], ...] = (*OTHER_LABELS, *EVENT_COLOURS)
"""What pictures of labels show beside the classes, for legends."""


@dataclass(frozen=True)
class Panels:
    """Rows of pictures of one size.

    Attributes:
        title: what they show.
        heads: of the columns.
        rows: RGB pictures, as many a row as there are heads.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Picture]]


def input_picture(
    network_input: npt.NDArray[np.float32], kind: str = "voxel"
) -> npt.NDArray[np.uint8]:
    """Return what the network sees: brighter events yellow, darker ones blue, on a dark ground.

    Args:
        network_input: (C, H, W) float32; channels of one polarity are summed.
        kind: of the ``InputSpec``, or ``image``: grey in -1..1.

    Returns:
        (H, W, 3) uint8 RGB; full colour is reached at 1.0.
    """
    if kind == "image":
        grey = np.clip((network_input[0] + 1) * 127.5, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return polarity_picture(*REPRESENTATIONS.get(kind).polarities(network_input))[..., ::-1]


def label_picture(
    label: npt.NDArray[np.uint8],
    classes: ClassTable,
    where: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.uint8]:
    """Return the colours of a label image, (H, W, 3) uint8 RGB, dimmer where ``where`` is False."""
    colours = color_mask(label, classes)[..., ::-1]
    if where is None:
        return colours
    dim = (colours.astype(np.uint16) + 2 * np.array(BACKGROUND_BGR, np.uint16)) // 3
    return np.where(where[..., None], colours, dim).astype(np.uint8)


def panel_grid(
    rows: Sequence[Sequence[Picture]],
    classes: ClassTable | None,
    *,
    more: Sequence[tuple[str, Bgr]] = LABEL_COLOURS,
) -> Picture:
    """Return a grid of RGB pictures of one size, four pixels apart, with a legend below.

    Args:
        rows: of as many pictures each. Small pictures are enlarged by a whole factor.
        classes: whose colours the pictures have; None: no classes are shown.
        more: names and BGR colours beside the classes.

    Raises:
        DataError: no picture, or sizes differ.
    """
    if not rows or not rows[0]:
        raise DataError("a panel needs at least one picture")
    shapes = {p.shape for row in rows for p in row}
    if len(shapes) != 1:
        raise DataError(f"the pictures of a panel must have one size, got {sorted(shapes)}")
    grid = np.vstack([np.hstack([_framed(p) for p in row]) for row in rows])
    grid = enlarge(grid, screen_factor(grid.shape[1], grid.shape[1]))
    return np.vstack([grid, legend(classes, width=grid.shape[1], more=more)[..., ::-1]])


def _framed(picture: Picture) -> Picture:
    return np.pad(picture, ((2, 2), (2, 2), (0, 0)), constant_values=24)
