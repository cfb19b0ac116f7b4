"""The same representations with torch, on any device. The only module here that imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from evdistill_core.events.array import Events
from evdistill_core.representations.background import filter_background
from evdistill_core.representations.counts2 import LEVELS, robust_rank
from evdistill_core.representations.represent import check_window, fixed_factor, represent
from evdistill_core.representations.spec import Grid, InputSpec
from evdistill_core.representations.voxel import SHIFT, STEPS, steps_per_us

Window = tuple[Events, int, int]


def represent_torch(
    events: Events,
    spec: InputSpec,
    t_start_us: int,
    t_end_us: int,
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return what ``represent`` returns, accumulated and normalised by torch on ``device``.

    Equal to ``represent`` to the last bit, "nonzero" to float32 rounding. The neighbour filter
    runs on the CPU in either case, since it walks through the events in the order of time.

    Args:
        events: N >= 0 events of the window, in any order. Not modified.
        spec: kind, normalisation and size.
        t_start_us: start of the window, microseconds of sensor time.
        t_end_us: end of the window (exclusive), above the start.
        device: where the result lies.

    Returns:
        ``spec.shape(height, width)`` float32 on ``device``.

    Raises:
        ValueError: the window is empty or backwards.
    """
    check_window(t_start_us, t_end_us)
    grid = spec.grid(height=events.height, width=events.width)
    kept = _inside(filter_background(events, spec.background_filter))
    counts = _accumulate(kept, spec, grid, (t_start_us, t_end_us), torch.device(device))
    return _normalise(counts, spec, grid)


def represent_batch(
    windows: Sequence[Window], spec: InputSpec, *, device: torch.device | str = "cpu"
) -> Tensor:
    """Return the inputs of several windows of sensors of one size.

    Args:
        windows: (events, t_start_us, t_end_us) each; at least one.
        spec: kind, normalisation and size.
        device: where the result lies. On the CPU the numba kernels fill the batch in place.

    Returns:
        (B, C, H, W) float32; each item equals ``represent`` of its window.

    Raises:
        ValueError: no window, or sensors of different size.
    """
    sizes = {(events.height, events.width) for events, _, _ in windows}
    if len(sizes) != 1:
        raise ValueError(f"a batch needs windows of one sensor size, got {sorted(sizes)}")
    target = torch.device(device)
    if target.type != "cpu":
        return torch.stack([represent_torch(e, spec, a, b, device=target) for e, a, b in windows])
    ((height, width),) = sizes
    shape = spec.shape(height=height, width=width)
    batch = np.empty((len(windows), *shape), np.float32)
    for item, (events, t_start_us, t_end_us) in zip(batch, windows, strict=True):
        represent(events, spec, t_start_us, t_end_us, out=item)
    return torch.from_numpy(batch)


def _inside(events: Events) -> Events:
    outside = (events.x >= events.width) | (events.y >= events.height)
    return events[~outside] if outside.any() else events


def _accumulate(
    events: Events, spec: InputSpec, grid: Grid, interval_us: tuple[int, int], device: torch.device
) -> Tensor:
    plane = grid.height * grid.width

    def column(values: np.ndarray[tuple[int], np.dtype[np.generic]], dtype: torch.dtype) -> Tensor:
        # astype copies: torch does not take read-only arrays
        wide = torch.from_numpy(values.astype(np.int64))
        return wide.to(device, non_blocking=True).to(dtype)

    x, y = column(events.x, torch.int64), column(events.y, torch.int64)
    cell = (
        torch.div(y, grid.factor, rounding_mode="floor") * grid.width
        + torch.div(x, grid.factor, rounding_mode="floor")
    )  # fmt: skip
    flat = torch.zeros(spec.channels * plane, dtype=torch.float32, device=device)
    p = column(events.p, torch.int64)
    if spec.kind == "counts2":
        index = torch.where(p > 0, cell, cell + plane)
        flat.index_add_(0, index, torch.ones_like(index, dtype=torch.float32))
        return flat.view(spec.channels, grid.height, grid.width)
    t_start_us, t_end_us = interval_us
    last_step = max(0, (spec.bins - 1) * STEPS - 1)
    elapsed = column(events.t_us.clip(t_start_us, t_end_us - 1) - t_start_us, torch.float64)
    step = (elapsed * steps_per_us(spec.bins, t_end_us - t_start_us)).long().clamp_(max=last_step)
    right = step & (STEPS - 1)
    index = (step >> SHIFT) * plane + cell
    sign = torch.where(p > 0, 1.0 / STEPS, -1.0 / STEPS).to(torch.float32)
    flat.index_add_(0, index, sign * (STEPS - right))
    if spec.bins > 1:
        flat.index_add_(0, index + plane, sign * right)
    return flat.view(spec.channels, grid.height, grid.width)


def _normalise(counts: Tensor, spec: InputSpec, grid: Grid) -> Tensor:
    if spec.normalisation == "fixed":
        scaled = counts * torch.tensor(fixed_factor(spec, grid), device=counts.device)
        return scaled.clamp_(-spec.clip, spec.clip)
    if spec.normalisation == "nonzero":
        mask = counts != 0
        values = counts[mask].double()
        if values.numel() == 0:
            return counts
        deviation = values.std(correction=0)
        divisor = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        result = torch.zeros_like(counts)
        result[mask] = ((values - values.mean()) / divisor).float()
        return result
    used = counts[:2, : grid.used_height, : grid.used_width].flatten(1)
    if spec.normalisation == "maximum":
        top = used.amax(1)
    else:
        top = used.sort(1).values[:, robust_rank(used.shape[1])]
    limit = top.clamp(min=1.0).double()[:, None, None]
    limited = torch.minimum(counts[:2].double(), limit)
    levels = torch.floor((limited * (2 * LEVELS) + limit) / (2 * limit))
    result = torch.zeros_like(counts)
    result[:2] = (levels / LEVELS).float()
    return result
