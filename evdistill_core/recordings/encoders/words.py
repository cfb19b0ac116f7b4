"""What the encoders of 16-bit words share: vector words and the limits of coordinates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import EncodingError

COORDINATE_LIMIT = 1 << 11
# Two words (base and mask) for up to eight (twelve) events: cheaper than single ones from three on.
VECTOR_WORTH = 3


def check_coordinates(events: Events, encoding: str) -> None:
    """Refuse columns and rows that have no room in a word.

    Raises:
        EncodingError: one is 2048 or more.
    """
    if not len(events):
        return
    largest = max(int(events.x.max()), int(events.y.max()))
    if largest >= COORDINATE_LIMIT:
        raise EncodingError(
            f"{encoding} holds coordinates 0 .. {COORDINATE_LIMIT - 1}, got {largest}"
        )


@njit(nogil=True, cache=True, inline="always")
def vector_of(  # noqa: PLR0913, PLR0917 - four columns, a place and a length
    along: npt.NDArray[np.uint16],
    across: npt.NDArray[np.uint16],
    t_us: npt.NDArray[np.int64],
    p: npt.NDArray[np.uint8],
    first: int,
    lanes: int,
) -> tuple[int, int]:
    """Return where the events end that one vector word can hold from ``first`` on, and its mask."""
    mask = 1
    end = first + 1
    while (
        end < len(t_us)
        and t_us[end] == t_us[first]
        and across[end] == across[first]
        and p[end] == p[first]
        and along[end] > along[end - 1]
        and along[end] < along[first] + lanes
    ):
        mask |= 1 << (along[end] - along[first])
        end += 1
    return end, mask
