"""Two counts: how many brighter and how many darker events each cell had.

Source: the authors' published samples (a picture with one channel per polarity, each divided by
its own maximum, and an empty third). That the brighter events come first is our choice.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events
from evdistill_core.representations.spec import Grid
from evdistill_core.representations.voxel import cell_tables

LEVELS = 255
ROBUST_QUANTILE = 0.999


def fill_counts2(grid_out: npt.NDArray[np.float32], events: Events, grid: Grid) -> None:
    """Write the two event counts of a window over ``grid_out``.

    Args:
        grid_out: (3, grid.height, grid.width) float32, C-contiguous, overwritten: brighter counts,
            darker counts, zeros. Counts are exact up to 2**24 events in a cell.
        events: N >= 0 events in any order; time is not looked at, events outside the frame are
            left out (decoders count them).
        grid: from ``InputSpec.grid`` for the sensor's size.
    """
    grid_out.fill(0.0)
    columns, rows = cell_tables(events.height, events.width, grid)
    plane = grid.height * grid.width
    _count(grid_out.reshape(-1), plane, events.x, events.y, events.p, columns, rows)


def robust_maximum(counts: npt.NDArray[np.float32]) -> float:
    """Return the 99.9th percentile of all cells of one polarity, at least 1.

    The smallest count that at least 99.9 % of the cells do not exceed; no interpolation, so that
    every implementation finds the same whole number.
    """
    flat = counts.reshape(-1)
    rank = robust_rank(flat.size)
    return max(1.0, float(np.partition(flat, rank)[rank]))


def robust_rank(cells: int) -> int:
    """Return the position of the percentile among sorted counts."""
    return max(0, int(np.ceil(ROBUST_QUANTILE * cells)) - 1)


@njit(nogil=True, cache=True)
def _count(  # noqa: PLR0913, PLR0917 - a kernel takes bare arrays
    flat: npt.NDArray[np.float32],
    plane: int,
    x: npt.NDArray[np.uint16],
    y: npt.NDArray[np.uint16],
    p: npt.NDArray[np.uint8],
    columns: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int32],
) -> None:
    width, height = len(columns), len(rows)
    one = np.float32(1.0)
    for i in range(len(p)):
        if x[i] < width and y[i] < height:
            cell = rows[y[i]] + columns[x[i]]
            flat[cell if p[i] else cell + plane] += one
