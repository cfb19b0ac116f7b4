"""From the bare sums of a window to what a student is fed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.representations.counts2 import LEVELS, robust_maximum
from evdistill_core.representations.grid import Grid
from evdistill_core.representations.spec import InputSpec


def fixed_factor(spec: InputSpec, grid: Grid) -> np.float32:
    """Return what "fixed" multiplies by; float32, the same number in every implementation."""
    return np.float32(1.0 / (spec.scale * grid.factor**2))


def normalise_inplace(out: npt.NDArray[np.float32], spec: InputSpec, grid: Grid) -> None:
    """Turn the bare values of a window into the input, as ``spec.normalisation`` says.

    Args:
        out: (C, H, W), what ``Representation.fill`` wrote; C-contiguous.
        spec: the input.
        grid: how the sensor lies in it.
    """
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
