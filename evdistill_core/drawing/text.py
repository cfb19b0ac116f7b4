"""Text that can be read: its size follows the picture's, and a plate lies behind it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.drawing.colours import Bgr, Image

Box = tuple[int, int, int, int]
"""Left, top, right, bottom; right and bottom are outside."""

LEAST_LETTER_PX = 11
"""Height of a capital letter in pictures of up to 880 pixels a side."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_CAPITAL_PX = 21.0  # of that font at scale 1
_SHIFTS = 8  # how many plates above or below its box a label is looked for a place


def letter_px(side_px: int) -> int:
    """Return the height of a capital letter that suits a picture: an 80th of its longer side."""
    return max(LEAST_LETTER_PX, side_px // 80)


def plate_size(text: str, height_px: int) -> tuple[int, int]:
    """Return width and height of a text and the margin around it, pixels."""
    (width, height), baseline = cv2.getTextSize(text, _FONT, *_style(height_px))
    return width + 6, height + baseline + 3


def write_text(image: Image, text: str, at: tuple[int, int], height_px: int, ink: Bgr) -> None:
    """Write text whose plate has its upper left corner at ``at`` (x, y); the image changes."""
    scale, thickness = _style(height_px)
    (_, height), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    foot = at[0] + 3, at[1] + height + 2
    cv2.putText(image, text, foot, _FONT, scale, ink, thickness, cv2.LINE_AA)


def write_on_plate(
    image: Image, text: str, at: tuple[int, int], height_px: int, plate: Bgr
) -> None:
    """Write text on a plate of one colour, in black or white, whichever is clearer."""
    width, height = plate_size(text, height_px)
    corner = (at[0] + width - 1, at[1] + height - 1)
    cv2.rectangle(image, at, corner, plate, -1)
    write_text(image, text, at, height_px, ink_on(plate))


def ink_on(plate: Bgr) -> Bgr:
    """Return black or white, whichever is clearer on a colour."""
    blue, green, red = plate
    return (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else (255, 255, 255)


def place_labels(
    sizes: Sequence[tuple[int, int]], boxes: Sequence[Box], frame: tuple[int, int]
) -> list[tuple[int, int] | None]:
    """Find places for the labels of boxes: inside the frame, no two over one another.

    A label stands above its box if it can, else below or beside it, else further away. Among free
    places it takes one that is near and hides little of other boxes.

    Args:
        sizes: width and height of each label; earlier ones choose first.
        boxes: one for each label, inside the frame.
        frame: width and height of the picture.

    Returns:
        Upper left corners (x, y); None for a label that finds no free place: the
        picture is full.
    """
    all_boxes = np.asarray(boxes, np.int64).reshape(-1, 4)
    taken = np.empty((0, 4), np.int64)
    places: list[tuple[int, int] | None] = []
    for i, (size, box) in enumerate(zip(sizes, boxes, strict=True)):
        for candidates in (_near, _anywhere):
            tried = candidates(size, box, frame)
            is_free = ~(_overlap_px(tried, taken) > 0).any(axis=1)
            if is_free.any():
                break
        else:
            places.append(None)
            continue
        others = np.delete(all_boxes, i, axis=0)
        area_px = np.maximum((others[:, 2:] - others[:, :2]).prod(axis=1), 1)
        hidden = (_overlap_px(tried, others) / area_px).sum(axis=1)  # shares of the boxes
        # The order of the candidates is worth less than what they hide.
        cost = hidden + np.arange(len(tried)) * 0.03
        best = int(np.where(is_free, cost, np.inf).argmin())
        taken = np.concatenate([taken, tried[best : best + 1]])
        places.append((int(tried[best, 0]), int(tried[best, 1])))
    return places


def _near(size: tuple[int, int], box: Box, frame: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return plates near a box that lie inside the frame, the best ones first, (N, 4) xyxy."""
    width, height = size
    left, top, right, bottom = box
    last = max(0, frame[0] - width)
    over = [min(max(0, x), last) for x in (left, right - width)]  # columns above and below
    beside = [x for x in (right, left - width) if 0 <= x <= last]
    corners = [(x, y) for y in (top - height, bottom) for x in over]
    corners += [(x, top) for x in beside]
    corners += [(over[0], top), (over[0], bottom - height)]  # inside: hides the thing itself
    for k in range(1, _SHIFTS + 1):
        for y in (top - (k + 1) * height, bottom + k * height):
            corners += [(x, y) for x in (*over, *beside)]
    return _plates(np.array(corners, np.int64), size, frame)


def _anywhere(size: tuple[int, int], box: Box, frame: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return a grid of plates over the whole frame, those nearest to the box first."""
    x, y = np.meshgrid(np.arange(0, frame[0], size[0]), np.arange(0, frame[1], size[1]))
    corners = np.stack([x.ravel(), y.ravel()], axis=1)
    away = np.abs(corners + np.array(size) / 2 - (np.array(box[:2]) + box[2:]) / 2).sum(axis=1)
    return _plates(corners[np.argsort(away, kind="stable")], size, frame)


def _plates(
    corners: npt.NDArray[np.int64], size: tuple[int, int], frame: tuple[int, int]
) -> npt.NDArray[np.int64]:
    is_inside = (corners >= 0).all(axis=1) & (corners + np.array(size) <= frame).all(axis=1)
    at = corners[is_inside]
    return np.concatenate([at, at + np.array(size)], axis=1)


def _overlap_px(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the common area of each of (N, 4) boxes with each of (M, 4), (N, M)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2), np.int64)


def _style(height_px: int) -> tuple[float, int]:
    """Return scale and thickness of the font."""
    return height_px / _FONT_CAPITAL_PX, max(1, round(height_px / 11))
