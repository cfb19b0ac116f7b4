"""Events of one window -> the student's input, on the CPU without torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events
from evdistill_core.events.window import Window
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.representations.background import filter_background
from evdistill_core.representations.counts2 import LEVELS, robust_maximum
from evdistill_core.representations.grid import Grid
from evdistill_core.representations.representation import InputWindow
from evdistill_core.representations.spec import InputSpec


def represent(
    events: Events | Window,
    spec: InputSpec,
    t_start_us: int | None = None,
    t_end_us: int | None = None,
    *,
    out: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Return the input that a student is fed for one window.

    Args:
        events: a window, or N >= 0 events of it in any order. Not modified.
        spec: kind, normalisation and size.
        t_start_us: start of the window, microseconds of sensor time; None: that of the Window.
        t_end_us: end of the window (exclusive), above the start; None: that of the Window.
        out: where to write; (C, H, W) float32, C-contiguous. None: a new array.

    Returns:
        ``spec.shape(height, width)`` float32. Padding cells, and all cells of an empty window, are
        zero. "fixed": within -clip .. clip, and a cell that joins factor x factor sensor pixels
        holds their mean, so that the same scene looks alike to large and small sensors.
        "maximum", "robust": multiples of 1/255 in 0 .. 1. "nonzero": the non-zero cells have mean
        0 and deviation 1 (deviation 0, as for a single event: only the mean is taken off). "none":
        what the representation itself makes.

    Raises:
        ConfigError: ``spec`` is no InputSpec.
        ValueError: the window is empty or backwards, its times are not known, or ``out`` does not
            fit.
    """
    if not isinstance(spec, InputSpec):
        raise ConfigError(
            f"represent takes an InputSpec, for example student.input, got {type(spec).__name__}"
        )
    if isinstance(events, Window):
        t_start_us = events.t_start_us if t_start_us is None else t_start_us
        t_end_us = events.t_end_us if t_end_us is None else t_end_us
        events = events.events
    if t_start_us is None or t_end_us is None:
        raise ValueError("give t_start_us and t_end_us with Events, or a Window instead of them")
    check_window(t_start_us, t_end_us)
    shape = spec.shape(height=events.height, width=events.width)
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(f"out must be C-contiguous float32 {shape}, got {out.dtype} {out.shape}")
    grid = spec.grid(height=events.height, width=events.width)
    kept = filter_background(events, spec.background_filter)
    out.fill(0.0)
    spec.representation.fill(out, kept, InputWindow(spec, grid, t_start_us, t_end_us))
    _normalise_inplace(out, spec, grid)
    return out


def check_window(t_start_us: int, t_end_us: int) -> None:
    """Refuse a window without duration.

    Raises:
        ValueError: the end is not above the start.
    """
    if t_end_us <= t_start_us:
        raise ValueError(f"a window ends after it starts, got [{t_start_us}, {t_end_us})")


def fixed_factor(spec: InputSpec, grid: Grid) -> np.float32:
    """Return what "fixed" multiplies by; float32, the same number in every implementation."""
    return np.float32(1.0 / (spec.scale * grid.factor**2))


def _normalise_inplace(out: npt.NDArray[np.float32], spec: InputSpec, grid: Grid) -> None:
    if spec.normalisation == "fixed":
        _scale_and_clip(out.reshape(-1), fixed_factor(spec, grid), np.float32(spec.clip))
    elif spec.normalisation == "nonzero":
        mask = out != 0
        values = out[mask].astype(np.float64)
        if values.size:
            mean, deviation = values.mean(), values.std()
            out[mask] = (values - mean) / (deviation if deviation > 0 else 1.0)
    elif spec.normalisation != "none":
        for channel in out[: len(out) - spec.representation.empty_channels]:
            used = channel[: grid.used_height, : grid.used_width]
            top = float(used.max()) if spec.normalisation == "maximum" else robust_maximum(used)
            _quantise(channel.reshape(-1), max(1.0, top))


@njit(nogil=True, cache=True)
def _scale_and_clip(flat: npt.NDArray[np.float32], factor: np.float32, limit: np.float32) -> None:
    for i in range(len(flat)):
        flat[i] = min(max(flat[i] * factor, -limit), limit)


@njit(nogil=True, cache=True)
def _quantise(flat: npt.NDArray[np.float32], top: float) -> None:
    # Whole numbers up to 255 * 2**24 are exact in float64: rounding half up is the same everywhere.
    for i in range(len(flat)):
        if flat[i] > 0:
            count = min(float(flat[i]), top)
            flat[i] = np.floor((count * (2 * LEVELS) + top) / (2.0 * top)) / LEVELS
