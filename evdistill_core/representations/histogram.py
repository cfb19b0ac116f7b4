"""Histogram: how many brighter and darker events each cell had in each time bin.

Source: the stacked event counts of Wang et al., CVPR 2019 (stacking based on time), per polarity as
in RVT (Gehrig and Scaramuzza, CVPR 2023). Differs: counts are floats and never wrap.
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


def _fill(out: FloatArray, events: Events, window: InputWindow) -> None:
    _add(out, events, None, window)


def _add(out: FloatArray, events: Events, kept: BoolArray | None, window: InputWindow) -> None:
    """Add the counts of some events of a window.

    Bin b holds the events with b <= bins * (t - t_start) / (t_end - t_start) < b + 1. Events before
    the window count in its first bin and events after it in its last. Events outside the frame are
    left out (decoders count them).

    Args:
        out: (2 * bins, H, W): brighter events by bin, then darker ones by bin. Counts are exact up
            to 2**24 events in a cell.
        events: N >= 0 events in any order.
        kept: (N,), which of them count; None: all.
        window: where they go.
    """
    _count(out.reshape(-1), window.plane, len(out) // 2, *bare(events, window), bare_kept(kept))


def _fill_torch(out: Tensor, events: TorchEvents, window: InputWindow) -> None:
    bins = len(out) // 2
    channel = events.elapsed_us * bins // window.span_us + (1 - events.p) * bins
    index = channel * window.plane + events.cell
    out.view(-1).index_add_(0, index, out.new_ones(len(index)))


HISTOGRAM = Representation(
    channels=lambda spec: 2 * spec.bins,
    fill=_fill,
    fill_torch=_fill_torch,
    add=_add,
    normalisations=("fixed", "nonzero"),
    polarity="halves",
)


@njit(nogil=True, cache=True)
def _count(  # noqa: PLR0913, PLR0917 - a kernel takes bare arrays
    flat: npt.NDArray[np.float32],
    plane: int,
    bins: int,
    events: EventArrays,
    tables: CellTables,
    interval_us: tuple[int, int],
    kept: KeptArray,
) -> None:
    x, y, t_us, p = events
    columns, rows = tables
    t_start_us, t_end_us = interval_us
    width, height, span_us = len(columns), len(rows), t_end_us - t_start_us
    one = np.float32(1.0)
    for i in range(len(t_us)):
        if x[i] < width and y[i] < height and (not len(kept) or kept[i]):
            elapsed_us = min(max(t_us[i], t_start_us), t_end_us - 1) - t_start_us
            channel = elapsed_us * bins // span_us + (0 if p[i] else bins)
            flat[channel * plane + rows[y[i]] + columns[x[i]]] += one
