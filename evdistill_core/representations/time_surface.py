"""Time surface: how recently each cell saw a brighter and a darker event.

Source: Lagorce et al., TPAMI 2017 (HOTS), equation 2: exp(-(t - t_last) / tau). Differs: t is the
end of the window, once for all cells, and the memory does not reach back before the window, so the
same window always gives the same input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events
from evdistill_core.representations.kernels import CellTables, EventArrays, bare
from evdistill_core.representations.representation import (
    FloatArray,
    InputWindow,
    Representation,
    TorchEvents,
)

if TYPE_CHECKING:
    from torch import Tensor

NEVER = -1


def _fill(out: FloatArray, events: Events, window: InputWindow) -> None:
    """Write exp(-(t_end - t_last) / decay) where a cell has events of a polarity.

    t_last is the latest time among the events of the cell, whatever their order; events of equal
    time are one. A cell that joins several pixels holds the latest of them all. Events before the
    window count as at its start and events after it as at its end. Events outside the frame are
    left out (decoders count them).

    Args:
        out: (2, H, W): brighter, darker. Values lie in 0 .. 1; cells without an event stay 0.
        events: N >= 0 events in any order.
        window: where they go; its description has ``decay_us``.
    """
    latest_us = np.full(2 * window.plane, NEVER, np.int64)
    _keep_latest(latest_us, window.plane, *bare(events, window))
    _decay(out.reshape(-1), latest_us, window.span_us, window.spec.decay_us)


def _fill_torch(out: Tensor, events: TorchEvents, window: InputWindow) -> None:
    index = events.cell + (1 - events.p) * window.plane
    latest_us = index.new_full((2 * window.plane,), NEVER)
    latest_us.scatter_reduce_(0, index, events.elapsed_us, "amax")
    values = ((latest_us - window.span_us).double() / window.spec.decay_us).exp().float()
    out.view(-1).copy_(values.masked_fill_(latest_us == NEVER, 0.0))


TIME_SURFACE = Representation(
    channels=lambda spec: 2,
    fill=_fill,
    fill_torch=_fill_torch,
    normalisations=("none",),
    polarity="halves",
)


@njit(nogil=True, cache=True)
def _keep_latest(
    latest_us: npt.NDArray[np.int64],
    plane: int,
    events: EventArrays,
    tables: CellTables,
    interval_us: tuple[int, int],
) -> None:
    x, y, t_us, p = events
    columns, rows = tables
    t_start_us, t_end_us = interval_us
    width, height = len(columns), len(rows)
    for i in range(len(t_us)):
        if x[i] < width and y[i] < height:
            elapsed_us = min(max(t_us[i], t_start_us), t_end_us - 1) - t_start_us
            cell = rows[y[i]] + columns[x[i]]
            place = cell if p[i] else cell + plane
            latest_us[place] = max(latest_us[place], elapsed_us)


@njit(nogil=True, cache=True)
def _decay(
    flat: npt.NDArray[np.float32], latest_us: npt.NDArray[np.int64], span_us: int, decay_us: int
) -> None:
    for i in range(len(latest_us)):
        if latest_us[i] != NEVER:
            flat[i] = np.exp((latest_us[i] - span_us) / decay_us)
