"""Events of a window -> dense input of a network; without torch except in ``on_torch``."""

from evdistill_core.representations.building import InputBuilder
from evdistill_core.representations.grid import Grid
from evdistill_core.representations.represent import represent
from evdistill_core.representations.representation import InputWindow, Representation
from evdistill_core.representations.series import InputSeries, slices_of
from evdistill_core.representations.spec import BackgroundFilter, InputSpec

__all__ = [
    "BackgroundFilter",
    "Grid",
    "InputBuilder",
    "InputSeries",
    "InputSpec",
    "InputWindow",
    "Representation",
    "represent",
    "slices_of",
]
