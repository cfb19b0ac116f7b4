"""Instances from a student with an instance head: which pixels are which thing.

Beside its class logits such a student gives a heat map of the centres of things, and for each pixel
the way to the centre of its thing (as Panoptic-DeepLab, Cheng et al., CVPR 2020). A cell of the
network votes for the place that its way leads to, and belongs to the centre nearest to that vote.
So pieces of one thing belong together without pixels in between, and things that touch are apart.

What differs from the paper: votes that lead to no centre belong to nothing; the answer is made at
the resolution of the network's input, where a pixel takes the thing that the four cells around it
name with most weight; and only the pixels near events are asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numba
import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import StudentError
from evdistill_core.foundation.ranges import Ranges, check_ranges
from evdistill_core.inference.prediction import InstanceOutput, refuse_unfinite
from evdistill_core.inference.support import Support

FloatArray = npt.NDArray[np.float32]
REACH_SHARE = 0.5
"""A vote may miss its centre by this share of its way, where that is more than ``reach_px``:
long ways, those of large things, are less exact."""


@dataclass(frozen=True, kw_only=True)
class GroupingConfig:
    """How centres and offsets become instances.

    Attributes:
        min_score: a maximum of the heat map (0..1) below this is no centre.
        distance_px: two centres are further apart than this in x or in y, sensor pixels; never
            less than one cell.
        valley: a maximum is no centre of its own if a higher place can be reached from it without
            the heat falling below this share of it: the heat of a long thing has several tops,
            and between two things lies a valley. 1: every maximum is a centre.
        reach_px: a vote at most this far from a centre belongs to it, sensor pixels.
        limit: at most so many centres, the highest.
    """

    min_score: float = 0.1
    distance_px: float = 6.0
    valley: float = 0.9
    reach_px: float = 24.0
    limit: int = 200

    RANGES: ClassVar[Ranges] = {
        "min_score": (0, 1),
        "distance_px": (0, 1000),
        "valley": (0, 1),
        "reach_px": (0, 10_000),
        "limit": (1, 10_000),
    }

    def __post_init__(self) -> None:
        """Refuse values that no instance could be found with."""
        check_ranges(self, **self.RANGES)


@dataclass(frozen=True, eq=False)
class Instances:
    """The instances of one window; number i + 1 in ``ids`` has row i of the columns.

    Attributes:
        ids: (H, W) uint16, the number of the instance; 0: none.
        area_px: (N,) int64, sensor pixels; may be 0.
        boxes_xyxy: (N, 4) int64, sensor pixels, half open; means nothing where the area is 0.
        votes: (N, 256) float64, by class id: the sum of the probability of its pixels.
        centre_scores: (N,) float64, the heat map's value at the centre.
        centres_px: (N, 2) float64, x and y of the centre, sensor pixels from the left and top
            edge of the image.
    """

    ids: npt.NDArray[np.uint16]
    area_px: npt.NDArray[np.int64]
    boxes_xyxy: npt.NDArray[np.int64]
    votes: npt.NDArray[np.float64]
    centre_scores: npt.NDArray[np.float64]
    centres_px: npt.NDArray[np.float64]


def group(  # noqa: PLR0913 - a mask with what it was made of
    mask: npt.NDArray[np.uint8],
    confidence: FloatArray,
    logits: FloatArray,
    head: InstanceOutput,
    is_thing: npt.NDArray[np.uint8],
    *,
    stride: float,
    cell_px: float,
    config: GroupingConfig,
    support: Support | None = None,
) -> Instances:
    """Return which thing each pixel of a thing class belongs to.

    Args:
        mask: (H, W) uint8 class ids, 255 where nothing can be said.
        confidence: (H, W) float32, probability of the class in ``mask``.
        logits: (K, h, w) float32 that the mask was made of.
        head: the maps of the same (h, w).
        is_thing: (256,) uint8, 1 for ids of thing classes; 0 for 255.
        stride: sensor pixels a cell and axis.
        cell_px: pixels of the network's input a cell and axis.
        config: limits.
        support: how the mask's pixels lie on the sensor; None: they are those of the sensor.

    Returns:
        One instance a centre, highest first; those without a pixel too. ``ids`` is as large as the
        mask; areas and boxes are in sensor pixels.

    Raises:
        StudentError: the maps and the logits differ in size, or are not finite.
    """
    size = logits.shape[1:]
    if head.centre.shape != size or head.offset_px.shape != (2, *size):
        raise StudentError(
            f"the instance head gives centre {head.centre.shape} and offset_px "
            f"{head.offset_px.shape}, the class logits have {size} cells"
        )
    refuse_unfinite(head.centre)
    refuse_unfinite(head.offset_px)
    cells, scores = find_centres(
        head.centre,
        min_score=config.min_score,
        radius=max(1, int(config.distance_px / stride)),
        valley=config.valley,
        limit=config.limit,
    )
    found = Instances(
        np.zeros(mask.shape, np.uint16),
        np.zeros(len(cells), np.int64),
        np.zeros((len(cells), 4), np.int64),
        np.zeros((len(cells), 256), np.float64),
        scores,
        (cells + 0.5) * stride,
    )
    if len(cells):
        if support is None:
            support = Support.of(np.ones(mask.shape, np.uint8))
        # Left, top, width and height of all that is a thing: most of a window is none.
        left, top, width, height = cv2.boundingRect(cv2.LUT(mask, is_thing))
        _group(
            mask, (left, top, width, height), confidence, support.counts,
            np.ascontiguousarray(logits, np.float32),
            np.ascontiguousarray(head.offset_px, np.float32), is_thing, cells,
            support.factor / stride, 1.0 / cell_px, config.reach_px / stride, found.ids,
            found.area_px, found.boxes_xyxy, found.votes,
        )  # fmt: skip
        found.boxes_xyxy[:] = support.boxes_px(found.ids, found.boxes_xyxy)
    return found


def find_centres(
    logits: FloatArray, *, min_score: float, radius: int, valley: float, limit: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the local maxima of a heat map.

    Args:
        logits: (h, w) float32, finite; the heat map is their sigmoid.
        min_score: lower maxima are left out.
        radius: no higher cell lies in the square of this radius; of equal cells in one the first
            by row and column is the maximum.
        valley: a maximum is left out if a higher cell can be reached from it over cells that have
            at least this share of its heat (eight neighbours), 0..1.
        limit: at most so many, the highest.

    Returns:
        (N, 2) float64 column and row, to fractions of a cell, and (N,) float64 heat, highest
        first; equal ones by row and column.
    """
    # The sigmoid rises, so it is needed at the maxima alone.
    least = _logit(min_score)
    logits = np.ascontiguousarray(logits, np.float32)
    rows, columns = _maxima(logits, least, radius)
    if valley < 1:
        floors = np.array([_logit(h) for h in valley * np.exp(_log_heat(logits[rows, columns]))])
        own = _has_valley(logits, rows, columns, floors)
        rows, columns = rows[own], columns[own]
    order = np.argsort(-logits[rows, columns], kind="stable")[:limit]
    rows, columns = rows[order], columns[order]
    places = np.empty((len(rows), 2))
    places[:, 0] = columns + _peak_shift(logits, rows, columns, 0, 1)
    places[:, 1] = rows + _peak_shift(logits, rows, columns, 1, 0)
    return places, np.exp(_log_heat(logits[rows, columns]))


def _logit(share: float) -> float:
    """Return the logit of a probability; infinite at 0 and 1."""
    if share <= 0:
        return -math.inf
    return math.inf if share >= 1 else math.log(share / (1 - share))


def _log_heat(logits: FloatArray) -> npt.NDArray[np.float64]:
    """Return the logarithm of the sigmoid, exact for large logits too."""
    found: npt.NDArray[np.float64] = -np.logaddexp(0.0, -logits.astype(np.float64))
    return found


def _peak_shift(
    logits: FloatArray,
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    step_row: int,
    step_column: int,
) -> npt.NDArray[np.float64]:
    """Return how far the top of a bell lies from its highest cell along one axis, -0.5..0.5."""
    height, width = logits.shape
    before = _log_heat(logits[np.maximum(rows - step_row, 0), np.maximum(columns - step_column, 0)])
    after = _log_heat(
        logits[
            np.minimum(rows + step_row, height - 1), np.minimum(columns + step_column, width - 1)
        ]
    )
    at = _log_heat(logits[rows, columns])
    bend = before - 2 * at + after
    # The logarithm of a Gaussian is a parabola, so three cells give its top.
    shift = np.where(bend < -1e-9, 0.5 * (before - after) / np.minimum(bend, -1e-9), 0.0)
    return np.clip(shift, -0.5, 0.5)


@numba.njit(nogil=True, cache=True)
def _maxima(
    logits: npt.NDArray[np.float32], least: float, radius: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    height, width = logits.shape
    rows = np.empty(height * width, np.int64)
    columns = np.empty(height * width, np.int64)
    count = 0
    for y in range(height):
        for x in range(width):
            value = logits[y, x]
            if value < least:
                continue
            is_maximum = True
            for v in range(max(0, y - radius), min(height, y + radius + 1)):
                for u in range(max(0, x - radius), min(width, x + radius + 1)):
                    is_before = v < y or (v == y and u < x)
                    if logits[v, u] > value or (is_before and logits[v, u] == value):
                        is_maximum = False
                        break
                if not is_maximum:
                    break
            if is_maximum:
                rows[count] = y
                columns[count] = x
                count += 1
    return rows[:count].copy(), columns[:count].copy()


@numba.njit(nogil=True, cache=True)
def _has_valley(
    logits: FloatArray,
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    floors: npt.NDArray[np.float64],
) -> npt.NDArray[np.bool_]:
    """Return which maxima have no higher cell behind cells of at least their floor."""
    height, width = logits.shape
    own = np.ones(len(rows), np.bool_)
    seen = np.full((height, width), -1, np.int32)
    queue = np.empty(height * width, np.int64)
    for i in range(len(rows)):
        top = logits[rows[i], columns[i]]
        seen[rows[i], columns[i]] = i
        queue[0] = rows[i] * width + columns[i]
        first, last = 0, 1
        while first < last and own[i]:
            y, x = queue[first] // width, queue[first] % width
            first += 1
            for v in range(max(0, y - 1), min(height, y + 2)):
                for u in range(max(0, x - 1), min(width, x + 2)):
                    if seen[v, u] == i or logits[v, u] < floors[i]:
                        continue
                    if logits[v, u] > top:
                        own[i] = False
                    seen[v, u] = i
                    queue[last] = v * width + u
                    last += 1
    return own


@numba.njit(nogil=True, cache=True)
def _nearest(  # noqa: PLR0913, PLR0917 - numbers of one cell
    c: int, r: int, dx: float, dy: float, centres: npt.NDArray[np.float64], reach: float
) -> int:
    """Return 1 + the centre nearest to a cell's vote, of equal ones the first; 0: none in reach."""
    u, v = c + dx, r + dy
    limit = max(reach, REACH_SHARE * np.sqrt(dx * dx + dy * dy))
    best = 0
    least = limit * limit
    for i in range(centres.shape[0]):
        distance = (centres[i, 0] - u) ** 2 + (centres[i, 1] - v) ** 2
        if distance < least or (best == 0 and distance == least):
            best = i + 1
            least = distance
    return best


@numba.njit(nogil=True, cache=True)
def _thing_share(
    logits: npt.NDArray[np.float32], is_thing: npt.NDArray[np.uint8], r: int, c: int
) -> float:
    """Return the probability of all thing classes together in a cell."""
    top = logits[0, r, c]
    for k in range(logits.shape[0]):
        top = max(top, logits[k, r, c])
    total = 0.0
    things = 0.0
    for k in range(logits.shape[0]):
        value = np.exp(logits[k, r, c] - top)
        total += value
        if is_thing[k]:
            things += value
    return things / total


@numba.njit(nogil=True, cache=True)
def _heaviest(said: npt.NDArray[np.int64], share: npt.NDArray[np.float64]) -> int:
    """Return the number with the largest sum of shares, of equal ones the lowest."""
    best = 0
    most = -1.0
    for n in range(said.size):
        total = 0.0
        for m in range(said.size):
            if said[m] == said[n]:
                total += share[m]
        if total > most or (total == most and said[n] < best):
            best = said[n]
            most = total
    return best


@numba.njit(nogil=True, cache=True)
def _group(  # noqa: PLR0913, PLR0917 - a kernel writes into what it is given
    mask: npt.NDArray[np.uint8],
    rectangle: tuple[int, int, int, int],
    confidence: npt.NDArray[np.float32],
    counts: npt.NDArray[np.uint32],
    logits: npt.NDArray[np.float32],
    offset_px: npt.NDArray[np.float32],
    is_thing: npt.NDArray[np.uint8],
    centres: npt.NDArray[np.float64],
    step: float,
    cells_a_px: float,
    reach: float,
    ids: npt.NDArray[np.uint16],
    area: npt.NDArray[np.int64],
    boxes: npt.NDArray[np.int64],
    votes: npt.NDArray[np.float64],
) -> None:
    _, rows, columns = logits.shape
    # What a cell says is worked out when the first pixel asks: most cells see no event.
    cell_id = np.full((rows, columns), -1, np.int32)
    cell_weight = np.zeros((rows, columns), np.float64)
    boxes[:, :2] = 1 << 30
    said = np.empty(4, np.int64)
    weight = np.empty(4, np.float64)
    share = np.empty(4, np.float64)
    for y in range(rectangle[1], rectangle[1] + rectangle[3]):
        at_y = max((y + 0.5) * step - 0.5, 0.0)
        top = min(int(at_y), rows - 1)
        bottom = min(top + 1, rows - 1)
        weight_y = at_y - top
        asked = -1
        agree = False
        for x in range(rectangle[0], rectangle[0] + rectangle[2]):
            if is_thing[mask[y, x]] == 0:
                continue
            at_x = max((x + 0.5) * step - 0.5, 0.0)
            left = min(int(at_x), columns - 1)
            if left != asked:
                asked = left
                right = min(left + 1, columns - 1)
                for n in range(4):
                    r = top if n < 2 else bottom
                    c = left if n % 2 == 0 else right
                    if cell_id[r, c] < 0:
                        dx = offset_px[0, r, c] * cells_a_px
                        dy = offset_px[1, r, c] * cells_a_px
                        cell_id[r, c] = _nearest(c, r, dx, dy, centres, reach)
                        cell_weight[r, c] = _thing_share(logits, is_thing, r, c)
                    said[n] = cell_id[r, c]
                    weight[n] = cell_weight[r, c]
                agree = said[0] == said[1] and said[0] == said[2] and said[0] == said[3]
            best = said[0]
            if not agree:
                for n in range(4):
                    down = weight_y if n >= 2 else 1 - weight_y
                    share[n] = weight[n] * down * (at_x - left if n % 2 else 1 - (at_x - left))
                best = _heaviest(said, share)
            if best == 0:
                continue
            i = best - 1
            ids[y, x] = best
            area[i] += counts[y, x]
            votes[i, mask[y, x]] += confidence[y, x] * counts[y, x]
            boxes[i, 0] = min(boxes[i, 0], x)
            boxes[i, 1] = min(boxes[i, 1], y)
            boxes[i, 2] = max(boxes[i, 2], x + 1)
            boxes[i, 3] = max(boxes[i, 3], y + 1)
