"""Voxel grid: the sign of each event, spread over its two nearest time bins.

The two weights of an event are whole multiples of 1/1024. Their float32 sums are exact (below
2**14 events in a cell), so the result depends neither on the order of the events nor on the
device or the number of threads: numba, torch and the slow reference agree to the last bit.

Source: Zhu et al., CVPR 2019 (event volume). Differs: the bins span the window, not first to last
event, so events of one timestamp never divide by zero and time means the same in every window.
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
    Described,
    FloatArray,
    InputWindow,
    Representation,
    TorchEvents,
)

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 1024  # time steps per bin distance: 12 us for 5 bins over 50 ms
SHIFT = 10


def steps_per_us(bins: int, span_us: int) -> float:
    """Return the time steps per microsecond; every implementation multiplies by this number.

    It is the next number above the true ratio. So a product never lies below a whole number that
    it should reach, and the steps of an event in two windows differ by a whole number of bins where
    their starts do.
    """
    return float(np.nextafter((bins - 1) * STEPS / span_us, np.inf))


def _fill(out: FloatArray, events: Events, window: InputWindow) -> None:
    _add(out, events, None, window)


def _add(out: FloatArray, events: Events, kept: BoolArray | None, window: InputWindow) -> None:
    """Add the voxel grid of some events of a window.

    Bin b stands for the time t_start_us + b * (t_end_us - t_start_us) / (bins - 1); one bin takes
    all. Events before the window count as at its start and events after it as at its end: a late
    event is blurred in time, not lost. Events outside the frame are left out (decoders count them).

    Args:
        out: (bins, H, W). The sum over all cells becomes brighter minus darker events.
        events: N >= 0 events in any order.
        kept: (N,), which of them count; None: all.
        window: where they go.
    """
    bins = len(out)
    per_us = steps_per_us(bins, window.span_us)
    _scatter(out.reshape(-1), window.plane, bins, *bare(events, window), bare_kept(kept), per_us)


def _fill_torch(out: Tensor, events: TorchEvents, window: InputWindow) -> None:
    bins, flat = len(out), out.view(-1)
    last_step = max(0, (bins - 1) * STEPS - 1)
    step = (events.elapsed_us.double() * steps_per_us(bins, window.span_us)).long()
    step.clamp_(max=last_step)
    right = step & (STEPS - 1)
    index = (step >> SHIFT) * window.plane + events.cell
    sign = (events.p * 2 - 1).float() / STEPS
    flat.index_add_(0, index, sign * (STEPS - right))
    if bins > 1:
        flat.index_add_(0, index + window.plane, sign * right)


def _slice_channels(spec: Described, slices: int) -> int | None:
    distances, rest = divmod(spec.bins - 1, slices)
    return None if rest else distances + 1


VOXEL = Representation(
    channels=lambda spec: spec.bins,
    fill=_fill,
    fill_torch=_fill_torch,
    add=_add,
    slice_channels=_slice_channels,
    normalisations=("fixed", "nonzero"),
    polarity="signed",
)


@njit(nogil=True, cache=True)
def _scatter(  # noqa: PLR0913, PLR0917 - a kernel takes bare arrays
    flat: npt.NDArray[np.float32],
    plane: int,
    bins: int,
    events: EventArrays,
    tables: CellTables,
    interval_us: tuple[int, int],
    kept: KeptArray,
    per_us: float,
) -> None:
    x, y, t_us, p = events
    columns, rows = tables
    t_start_us, t_end_us = interval_us
    width, height = len(columns), len(rows)
    last_step = max(0, (bins - 1) * STEPS - 1)  # keeps bin + 1 inside the grid
    unit = np.float32(1.0 / STEPS)
    for i in range(len(t_us)):
        if x[i] >= width or y[i] >= height or (len(kept) and not kept[i]):
            continue
        t = min(max(t_us[i], t_start_us), t_end_us - 1)
        step = min(int((t - t_start_us) * per_us), last_step)
        right = step & (STEPS - 1)
        place = (step >> SHIFT) * plane + rows[y[i]] + columns[x[i]]
        sign = unit if p[i] else -unit
        flat[place] += sign * np.float32(STEPS - right)
        if right:
            flat[place + plane] += sign * np.float32(right)
