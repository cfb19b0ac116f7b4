"""Events of a window -> dense input of a network; without torch except in ``on_torch``."""

from evdistill_core.representations.represent import represent
from evdistill_core.representations.spec import BackgroundFilter, Grid, InputSpec

__all__ = ["BackgroundFilter", "Grid", "InputSpec", "represent"]
