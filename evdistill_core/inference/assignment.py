"""The exact assignment: pairs of rows and columns with the largest sum of gains."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt


def best_pairs(gains: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the pairs whose gains have the largest possible sum.

    Args:
        gains: (N, M) float64, finite, at least 0; 0 means that the two must not be paired.

    Returns:
        (row, column) of every pair with a gain above 0, by row. No row and no column occurs twice.
    """
    if not gains.size or not gains.any():
        return []
    is_tall = gains.shape[0] > gains.shape[1]
    wide = np.ascontiguousarray(gains.T if is_tall else gains)
    columns = _columns_of_rows(wide.max() - wide)
    pairs = ((int(c), r) if is_tall else (r, int(c)) for r, c in enumerate(columns))
    return sorted(pair for pair in pairs if gains[pair] > 0)


@numba.njit(nogil=True, cache=True)
def _columns_of_rows(cost: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return for each row its column in the cheapest assignment of all rows; rows <= columns.

    Rows enter one after the other. A row that enters takes the cheapest alternating path to a free
    column (Dijkstra on reduced costs); the prices of rows and columns keep those at 0 or above.
    """
    rows, columns = cost.shape
    row_price = np.zeros(rows)
    column_price = np.zeros(columns)
    row_of = np.full(columns, -1, np.int64)
    column_of = np.full(rows, -1, np.int64)
    length = np.empty(columns)
    came_from = np.empty(columns, np.int64)
    is_done = np.empty(columns, np.bool_)
    for entering in range(rows):
        length[:] = np.inf
        is_done[:] = False
        row = entering
        reached = 0.0
        free = -1
        while free < 0:
            nearest = -1
            for c in range(columns):
                if is_done[c]:
                    continue
                through = reached + cost[row, c] - row_price[row] - column_price[c]
                if through < length[c]:
                    length[c] = through
                    came_from[c] = row
                if nearest < 0 or length[c] < length[nearest]:
                    nearest = c
            reached = length[nearest]
            is_done[nearest] = True
            if row_of[nearest] < 0:
                free = nearest
            else:
                row = row_of[nearest]
        row_price[entering] += reached
        for c in range(columns):
            if is_done[c] and c != free:
                row_price[row_of[c]] += reached - length[c]
                column_price[c] -= reached - length[c]
        column = free
        while True:
            row = came_from[column]
            row_of[column] = row
            column, column_of[row] = column_of[row], column
            if row == entering:
                break
    return column_of
