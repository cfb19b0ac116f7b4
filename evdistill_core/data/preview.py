"""Pictures of simulated windows, for eyes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evdistill_core.drawing.colours import (
    Image,
    color_mask,
    enlarge,
    event_picture,
    screen_factor,
    to_bgr,
)
from evdistill_core.drawing.overlay import with_legend
from evdistill_core.drawing.text import LEAST_LETTER_PX, write_on_plate
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.simulation.window import SimulatedWindow


def preview(
    windows: Sequence[SimulatedWindow], classes: ClassTable | None, *, columns: int = 4
) -> Image:
    """Return a sheet: image, events and labels of each window above one another, and a legend.

    Args:
        windows: at least one, of one size.
        classes: give the colours; None: there are no labels to show.
        columns: windows side by side.

    Returns:
        (H, W, 3) uint8 BGR; small windows are enlarged by a whole factor.
    """
    columns = min(columns, len(windows))
    height, width = windows[0].image.shape
    factor = screen_factor(height, columns * width)
    tiles = []
    for window in windows:
        labels = [] if classes is None else [color_mask(window.labels, classes)]
        tile = np.vstack([to_bgr(window.image), event_picture(window.events), *labels])
        tile = np.ascontiguousarray(enlarge(tile, factor))
        text = f"{len(window.events)} events"
        write_on_plate(tile, text, (0, factor * height), LEAST_LETTER_PX, (24, 24, 24))
        tiles.append(tile)
    while len(tiles) % columns:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return with_legend(np.vstack(rows), classes)
