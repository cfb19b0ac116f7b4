"""What the kernels of all representations are given: bare arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.representations.grid import cell_tables
from evdistill_core.representations.representation import BoolArray, InputWindow

# x, y, t_us, p
EventArrays = tuple[
    npt.NDArray[np.uint16], npt.NDArray[np.uint16], npt.NDArray[np.int64], npt.NDArray[np.uint8]
]
# which events count, (N,) 0 or 1; (0,): all of them
KeptArray = npt.NDArray[np.uint8]
# cell column by x, cell offset of the row by y
CellTables = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]


def bare(events: Events, window: InputWindow) -> tuple[EventArrays, CellTables, tuple[int, int]]:
    """Return what a kernel needs of events and window: (x, y, t_us, p), tables, interval."""
    return (
        (events.x, events.y, events.t_us, events.p),
        cell_tables(events.height, events.width, window.grid),
        (window.t_start_us, window.t_end_us),
    )


def bare_kept(kept: BoolArray | None) -> KeptArray:
    """Return what a kernel is told of the events that count."""
    return np.empty(0, np.uint8) if kept is None else kept.view(np.uint8)
