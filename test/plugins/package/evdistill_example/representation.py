"""A representation of one's own."""

import numpy as np

from evdistill_core.events.array import Events
from evdistill_core.representations import InputWindow, Representation


def fill(out: np.ndarray, events: Events, window: InputWindow) -> None:
    """Add the events of each polarity, the newest with weight 1, those at the start with 0."""
    weight = window.elapsed_us(events) / window.span_us
    channel = np.where(events.p > 0, 0, 1)
    np.add.at(out.reshape(2, -1), (channel, window.cells(events)), weight)


recent_counts = Representation(
    channels=lambda spec: 2,
    fill=fill,
    normalisations=("fixed",),  # divide by `scale`, limit to `clip`
    polarity="halves",  # the first channel is brighter, the second darker
)
