"""Two counts: how many brighter and how many darker events each cell had.

Source: the authors' published samples (an image with one channel per polarity, each divided by
its own maximum, and an empty third). That the brighter events come first is our choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events
from evdistill_core.representations.kernels import (
    CellTables,
    EventArrays,
    KeptArray,
    bare,
    bare_kept,
)
from evdistill_core.representations.representation import (
    BoolArray,
    FloatArray,
    InputWindow,
    Representation,
    TorchEvents,
)

if TYPE_CHECKING:
    from torch import Tensor

LEVELS = 255
ROBUST_QUANTILE = 0.999


def _fill(out: FloatArray, events: Events, window: InputWindow) -> None:
    _add(out, events, None, window)


def _add(out: FloatArray, events: Events, kept: BoolArray | None, window: InputWindow) -> None:
    """Add the two counts of some events of a window.

    Args:
        out: (3, H, W): brighter counts, darker counts, zeros. Counts are exact up to 2**24 events
            in a cell.
        events: N >= 0 events in any order; time is not looked at, events outside the frame are
            left out (decoders count them).
        kept: (N,), which of them count; None: all.
        window: where they go.
    """
    arrays, tables, _ = bare(events, window)
    _count(out.reshape(-1), window.plane, arrays, tables, bare_kept(kept))


def _fill_torch(out: Tensor, events: TorchEvents, window: InputWindow) -> None:
    index = events.cell + (1 - events.p) * window.plane
    out.view(-1).index_add_(0, index, out.new_ones(len(index)))


COUNTS2 = Representation(
    channels=lambda spec: 3,
    fill=_fill,
    fill_torch=_fill_torch,
    add=_add,
    normalisations=("maximum", "robust", "fixed"),
    polarity="halves",
    empty_channels=1,
)


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
def _count(
    flat: npt.NDArray[np.float32],
    plane: int,
    events: EventArrays,
    tables: CellTables,
    kept: KeptArray,
) -> None:
    x, y, _, p = events
    columns, rows = tables
    width, height = len(columns), len(rows)
    one = np.float32(1.0)
    for i in range(len(p)):
        if x[i] < width and y[i] < height and (not len(kept) or kept[i]):
            cell = rows[y[i]] + columns[x[i]]
            flat[cell if p[i] else cell + plane] += one
