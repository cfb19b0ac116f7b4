"""Pictures of simulated windows, for eyes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.foundation.labels import OTHER, OTHER_RGB, ClassTable
from evdistill_core.simulation.window import SimulatedWindow

Bgr = npt.NDArray[np.uint8]

BRIGHTER_BGR, DARKER_BGR = (40, 40, 220), (220, 90, 30)


def event_picture(events: Events) -> Bgr:
    """Return (H, W, 3) uint8 blue green red: red brighter, blue darker, white nothing.

    The last event of a pixel decides.
    """
    picture = np.full((events.height, events.width, 3), 255, np.uint8)
    colors = np.array([DARKER_BGR, BRIGHTER_BGR], np.uint8)
    picture[events.y, events.x] = colors[events.p]
    return picture


def preview(
    windows: Sequence[SimulatedWindow], classes: ClassTable | None, *, columns: int = 4
) -> Bgr:
    """Return a sheet: picture, events and labels of each window above one another.

    Args:
        windows: at least one, of one size.
        classes: give the colours; None: there are no labels to show.
        columns: windows side by side.
    """
    palette = None if classes is None else classes.palette_rgb()[:, ::-1].copy()
    if palette is not None:
        palette[OTHER] = OTHER_RGB[::-1]
    tiles = []
    for window in windows:
        events = event_picture(window.events)
        text = f"{len(window.events)} events"
        cv2.putText(events, text, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 110, 0), 1)
        picture = cv2.cvtColor(window.image, cv2.COLOR_GRAY2BGR)
        labels = [] if palette is None else [palette[window.labels]]
        tiles.append(np.vstack([picture, events, *labels]))
    while len(tiles) > columns and len(tiles) % columns:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return np.ascontiguousarray(np.vstack(rows), np.uint8)
