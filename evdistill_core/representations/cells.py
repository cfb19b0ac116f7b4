"""Which cell of the input a pixel of the sensor belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from evdistill_core.representations.spec import Grid


def cell_tables(
    height: int, width: int, grid: Grid
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return cell column by x, (width,), and cell offset of the row by y, (height,)."""
    columns = (np.arange(width) // grid.factor).astype(np.int32)
    rows = (np.arange(height) // grid.factor * grid.width).astype(np.int32)
    return columns, rows
