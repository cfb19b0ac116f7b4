"""Which cell of the input a pixel of the sensor belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Grid:
    """How a sensor's pixels lie in the student's input.

    Attributes:
        height: rows of the input, a multiple of the spec's ``size_multiple``.
        width: columns of the input.
        factor: sensor pixels per input cell and axis; cell = coordinate // factor.
        used_height: rows that hold sensor pixels; the rows below are zero padding.
        used_width: columns that hold sensor pixels; those to the right are padding.
    """

    height: int
    width: int
    factor: int
    used_height: int
    used_width: int


def cell_tables(
    height: int, width: int, grid: Grid
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return cell column by x, (width,), and cell offset of the row by y, (height,)."""
    columns = (np.arange(width) // grid.factor).astype(np.int32)
    rows = (np.arange(height) // grid.factor * grid.width).astype(np.int32)
    return columns, rows
