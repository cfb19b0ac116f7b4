"""Several pictures on one, and files of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from evdistill_core.drawing.colours import Image
from evdistill_core.drawing.text import letter_px, plate_size, write_text
from evdistill_core.foundation.files import write_bytes_atomic

MAX_WIDTH_PX = 2200
"""A sheet has as many columns as fit, four at most."""


def contact_sheet(
    images: Sequence[Image], captions: Sequence[str], *, columns: int | None = None, gap_px: int = 4
) -> Image:
    """Return images in rows with a line of text below each.

    Args:
        images: (H, W, 3) uint8 BGR; cells have the size of the largest.
        captions: one for each.
        columns: None: as many as fit into ``MAX_WIDTH_PX``, one to four.
        gap_px: between the cells.

    Raises:
        ValueError: no image, or another number of captions.
    """
    if not images or len(images) != len(captions):
        raise ValueError(f"got {len(images)} images and {len(captions)} captions")
    cell_w = max(i.shape[1] for i in images)
    letters = letter_px(cell_w)
    line_px = plate_size("Ag", letters)[1] + 2
    cell_h = max(i.shape[0] for i in images) + line_px
    if columns is None:
        fitting = max(1, min(4, MAX_WIDTH_PX // cell_w))
        columns = math.ceil(len(images) / math.ceil(len(images) / fitting))  # rows alike
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    sheet = np.full(
        (rows * (cell_h + gap_px) + gap_px, columns * (cell_w + gap_px) + gap_px, 3), 24, np.uint8
    )
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        top = gap_px + (i // columns) * (cell_h + gap_px)
        left = gap_px + (i % columns) * (cell_w + gap_px)
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
        write_text(sheet, caption, (left, top + cell_h - line_px), letters, (220, 220, 220))
    return sheet


def write_image(path: Path, image: Image) -> None:
    """Write a BGR image, atomically; the suffix chooses PNG or JPEG.

    Raises:
        OSError: the disk is full, or writing is refused.
    """
    # Not by OpenCV, which does not tell why it could not write.
    _, data = cv2.imencode(path.suffix.lower(), image)
    write_bytes_atomic(path, data.tobytes())
