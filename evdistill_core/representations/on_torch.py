"""The same representations with torch, on any device. The only module here that imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evdistill_core.events.array import Events
from evdistill_core.representations.background import filter_background
from evdistill_core.representations.building import check_window
from evdistill_core.representations.counts2 import LEVELS, robust_rank
from evdistill_core.representations.grid import Grid
from evdistill_core.representations.normalisation import fixed_factor
from evdistill_core.representations.registry import inside
from evdistill_core.representations.represent import represent
from evdistill_core.representations.representation import InputWindow
from evdistill_core.representations.spec import InputSpec

Window = tuple[Events, int, int]


class _EventTensors:
    """``TorchEvents``; each tensor is made when it is first asked for."""

    def __init__(self, events: Events, window: InputWindow, device: torch.device) -> None:
        self._events, self._window, self._device = events, window, device

    @cached_property
    def cell(self) -> Tensor:
        grid, x, y = self._window.grid, self._tensor(self._events.x), self._tensor(self._events.y)
        return y // grid.factor * grid.width + x // grid.factor

    @cached_property
    def p(self) -> Tensor:
        return self._tensor(self._events.p != 0)

    @cached_property
    def elapsed_us(self) -> Tensor:
        return self._tensor(self._window.elapsed_us(self._events))

    def _tensor(self, values: npt.NDArray[Any]) -> Tensor:
        # astype copies: torch does not take read-only arrays
        return torch.from_numpy(values.astype(np.int64)).to(self._device, non_blocking=True)


def represent_torch(
    events: Events,
    spec: InputSpec,
    t_start_us: int,
    t_end_us: int,
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return what ``represent`` returns, accumulated and normalised by torch on ``device``.

    Equal to ``represent`` to the last bit, "nonzero" and time_surface to float32 rounding. The
    neighbour filter runs on the CPU in either case, since it walks through the events in the order
    of time; so do representations of plugins that have no function for torch.

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
    fill = spec.representation.fill_torch
    if fill is None:
        return torch.from_numpy(represent(events, spec, t_start_us, t_end_us)).to(device)
    grid = spec.grid(height=events.height, width=events.width)
    kept = inside(filter_background(events, spec.background_filter))
    window = InputWindow(spec, grid, t_start_us, t_end_us)
    values = torch.zeros(spec.channels, grid.height, grid.width, device=device)
    fill(values, _EventTensors(kept, window, torch.device(device)), window)
    return _normalise(values, spec, grid)


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
    if spec.normalisation == "none":
        return counts
    some = len(counts) - spec.representation.empty_channels
    used = counts[:some, : grid.used_height, : grid.used_width].flatten(1)
    if spec.normalisation == "maximum":
        top = used.amax(1)
    else:
        top = used.sort(1).values[:, robust_rank(used.shape[1])]
    limit = top.clamp(min=1.0).double()[:, None, None]
    limited = torch.minimum(counts[:some].double(), limit)
    levels = torch.floor((limited * (2 * LEVELS) + limit) / (2 * limit))
    result = torch.zeros_like(counts)
    result[:some] = (levels / LEVELS).float()
    return result
