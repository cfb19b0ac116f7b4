"""Representations by name, ours and those of plugins."""

from __future__ import annotations

from dataclasses import replace

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.plugins import Registry
from evdistill_core.representations.counts2 import COUNTS2
from evdistill_core.representations.histogram import HISTOGRAM
from evdistill_core.representations.representation import (
    FloatArray,
    InputWindow,
    Representation,
)
from evdistill_core.representations.time_surface import TIME_SURFACE
from evdistill_core.representations.voxel import VOXEL


def inside(events: Events) -> Events:
    """Return the events that lie inside the frame."""
    outside = (events.x >= events.width) | (events.y >= events.height)
    return events[~outside] if outside.any() else events


def _adapt(name: str, found: object) -> Representation:
    """Return the representation that a plugin's name led to: itself, or what a function makes."""
    made = found() if callable(found) and not isinstance(found, Representation) else found
    if not isinstance(made, Representation):
        raise ConfigError(
            f"representation {name!r} is {type(made).__name__}, neither a Representation nor a "
            "function without arguments that returns one (docs/how-to/extending.md)"
        )
    fill = made.fill

    def fill_inside(out: FloatArray, events: Events, window: InputWindow) -> None:
        fill(out, inside(events), window)

    return replace(made, fill=fill_inside, add=None)


REPRESENTATIONS: Registry[Representation] = Registry(
    "representation",
    "evdistill.representations",
    {
        "voxel": VOXEL,
        "counts2": COUNTS2,
        "time_surface": TIME_SURFACE,
        "histogram": HISTOGRAM,
    },
    _adapt,
)
