"""Where a label may stand: near events, at sensor resolution and at that of the network's input.

Answers are worked out at the resolution of the network's input, where one pixel stands for
``factor`` x ``factor`` sensor pixels. The support is exact at sensor resolution. So it tells which
sensor pixels get a label when an answer is enlarged, how many of them a small pixel stands for, and
where exactly a thing ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numba
import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", np.uint8, np.uint16, np.float32)


@dataclass(frozen=True, eq=False)
class Support:
    """The pixels near events.

    Attributes:
        image: (H, W) uint8 at sensor resolution, 1 where a label may stand, else 0.
        counts: (h, w) uint32, how many such sensor pixels each small pixel has.
        factor: sensor pixels a small pixel and axis; h = ceil(H / factor).
    """

    image: npt.NDArray[np.uint8]
    counts: npt.NDArray[np.uint32]
    factor: int

    @staticmethod
    def of(image: npt.NDArray[np.uint8], factor: int = 1) -> Support:
        """Return the support of an image (H, W) uint8 of 0 and 1."""
        if factor == 1:
            return Support(image, image.astype(np.uint32), factor)
        height, width = image.shape
        counts = np.zeros((-(-height // factor), -(-width // factor)), np.uint32)
        _count(np.ascontiguousarray(image), factor, counts)
        return Support(image, counts, factor)

    def enlarge(self, small: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Return a small image at sensor resolution, 0 where nothing can be said."""
        whole = self._repeat(small)
        whole *= self.image
        return whole

    def enlarge_mask(self, small: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return a small mask at sensor resolution, 255 where nothing can be said."""
        whole = self._repeat(small)
        whole |= self.image - np.uint8(1)  # 255 where the support is 0
        return whole

    def boxes_px(
        self, ids: npt.NDArray[np.integer[Any]], boxes: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Return the boxes of things in sensor pixels, as tight as the support allows.

        Args:
            ids: (h, w), 1 + the row in ``boxes`` of the thing that a small pixel belongs to; 0:
                none.
            boxes: (N, 4) xyxy of these pixels, half open.

        Returns:
            (N, 4); of things without pixels it means nothing.
        """
        if self.factor == 1:
            return boxes
        tight = np.empty_like(boxes)
        tight[:, :2], tight[:, 2:] = 1 << 30, 0
        _tighten(ids, self.image, self.factor, boxes, tight)
        return tight

    def _repeat(self, small: npt.NDArray[Number]) -> npt.NDArray[Number]:
        if self.factor == 1:
            return small.copy()
        height, width = self.image.shape
        size = (small.shape[1] * self.factor, small.shape[0] * self.factor)
        whole = cv2.resize(small, size, interpolation=cv2.INTER_NEAREST_EXACT)
        return np.ascontiguousarray(whole[:height, :width]).astype(small.dtype, copy=False)


def middle(image: npt.NDArray[Number], factor: int) -> npt.NDArray[Number]:
    """Return an image reduced by a factor: the pixel in the middle of each square."""
    rows, columns = (
        np.minimum(np.arange(-(-n // factor)) * factor + factor // 2, n - 1) for n in image.shape
    )
    return np.ascontiguousarray(image[rows][:, columns])


@numba.njit(nogil=True, cache=True)
def _count(image: npt.NDArray[np.uint8], factor: int, counts: npt.NDArray[np.uint32]) -> None:
    height, width = image.shape
    for v in range(counts.shape[0]):
        for y in range(v * factor, min((v + 1) * factor, height)):
            for u in range(counts.shape[1]):
                total = np.uint32(0)
                for x in range(u * factor, min((u + 1) * factor, width)):
                    total += image[y, x]
                counts[v, u] += total


@numba.njit(nogil=True, cache=True)
def _tighten(
    ids: npt.NDArray[np.integer[Any]],
    image: npt.NDArray[np.uint8],
    factor: int,
    boxes: npt.NDArray[np.int64],
    tight: npt.NDArray[np.int64],
) -> None:
    height, width = image.shape
    for v in range(ids.shape[0]):
        for u in range(ids.shape[1]):
            i = np.int64(ids[v, u]) - 1
            if i < 0:
                continue
            left, top, right, bottom = boxes[i]
            if left < u < right - 1 and top < v < bottom - 1:
                continue  # only pixels at the edge of the box tell where the thing ends
            for y in range(v * factor, min((v + 1) * factor, height)):
                for x in range(u * factor, min((u + 1) * factor, width)):
                    if image[y, x]:
                        tight[i, 0] = min(tight[i, 0], x)
                        tight[i, 1] = min(tight[i, 1], y)
                        tight[i, 2] = max(tight[i, 2], x + 1)
                        tight[i, 3] = max(tight[i, 3], y + 1)
