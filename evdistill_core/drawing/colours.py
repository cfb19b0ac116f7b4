"""The colours of events and masks, and the sizes at which they are shown."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.foundation.labels import ClassTable

Image = npt.NDArray[np.uint8]
Bgr = tuple[int, int, int]

BRIGHTER_BGR: Bgr = (66, 228, 250)
"""Yellow. Yellow and sky blue are told apart with every kind of colour blindness, and beside the
colours of the preset classes (``test_drawing_colours.py`` measures both)."""
DARKER_BGR: Bgr = (255, 190, 80)
"""Sky blue."""
BACKGROUND_BGR: Bgr = (28, 28, 28)
"""Where there is neither an event nor a camera image."""

_EVENT_BGR = np.array([BACKGROUND_BGR, DARKER_BGR, BRIGHTER_BGR], np.uint8)  # by code, 0: none

SCREEN_SIDE_PX = 800
"""Small pictures are enlarged up to this length of their longer side."""
MAX_SIDE_PX = 960
"""Longest side of a picture for a video: larger ones cost seconds and show no more."""


def color_mask(mask: Image, classes: ClassTable) -> Image:
    """Return a mask or a label image in the colours of its classes.

    Args:
        mask: (H, W) uint8. 255 and ids without a class are black; 254 (none of some classes) is
            dark plum.
        classes: give the colours.

    Returns:
        (H, W, 3) uint8, BGR.
    """
    palette_bgr = np.ascontiguousarray(classes.palette_rgb()[:, None, ::-1])
    return np.asarray(cv2.applyColorMap(np.ascontiguousarray(mask), palette_bgr), np.uint8)


def blank(height: int, width: int) -> Image:
    """Return an empty picture, (height, width, 3) uint8 BGR."""
    return np.full((height, width, 3), BACKGROUND_BGR, np.uint8)


def event_picture(events: Events, size: tuple[int, int] | None = None) -> Image:
    """Return one window's events on a dark background: ON yellow, OFF blue.

    Args:
        events: of the window, inside the frame.
        size: (height, width) of the picture; None: of the sensor.

    Returns:
        (height, width, 3) uint8, BGR.
    """
    picture = blank(*(size or (events.height, events.width)))
    paint_events(picture, events)
    return picture


def paint_events(picture: Image, events: Events) -> None:
    """Paint each event into a picture of any size; the last event of a pixel decides.

    Args:
        picture: (height, width, 3) uint8 BGR; changed.
        events: of the window. A pixel that shows several sensor pixels shows the last event of
            them all.
    """
    height, width = picture.shape[:2]
    codes = np.zeros((height, width), np.uint8)
    y, x = events.y, events.x
    if (height, width) != (events.height, events.width):
        y = (y.astype(np.uint32) * height // events.height).astype(np.uint16)
        x = (x.astype(np.uint32) * width // events.width).astype(np.uint16)
    codes[y, x] = events.p + np.uint8(1)
    # Not cv2.copyTo: a Ctrl-C within it can end the process with a segmentation fault.
    lit = codes > 0
    picture[lit] = _EVENT_BGR[codes[lit]]


def polarity_picture(brighter: npt.NDArray[np.float32], darker: npt.NDArray[np.float32]) -> Image:
    """Return how strong the events of both polarities are at each pixel.

    Args:
        brighter: (H, W) float32, 0 or more; full colour is reached at 1.
        darker: likewise; the stronger of both gives the colour.

    Returns:
        (H, W, 3) uint8, BGR.
    """
    ink = np.clip(brighter + darker, 0, 1)[..., None]
    colour = np.where((brighter >= darker)[..., None], BRIGHTER_BGR, DARKER_BGR)
    mixed = np.asarray(BACKGROUND_BGR) * (1 - ink) + colour * ink
    return np.asarray(np.rint(mixed), np.uint8)


def screen_factor(height: int, width: int) -> int:
    """Return the whole factor by which a picture is enlarged to be seen well on a screen.

    The longer side becomes at most ``SCREEN_SIDE_PX``: 346x260 is doubled, 34x34 becomes 782x782,
    640x480 and larger pictures stay as they are.
    """
    return max(1, SCREEN_SIDE_PX // max(height, width, 1))


def enlarge(image: Image, factor: int) -> Image:
    """Return an image with every pixel as a square of ``factor`` pixels."""
    if factor == 1:
        return image
    size = (image.shape[1] * factor, image.shape[0] * factor)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def video_size(height: int, width: int) -> tuple[int, int]:
    """Return (height, width) at which a sensor's pictures are drawn for a video.

    That of the sensor; larger ones are shrunk to ``MAX_SIDE_PX`` on their longer side.
    """
    longest = max(height, width)
    if longest <= MAX_SIDE_PX:
        return height, width
    return max(1, height * MAX_SIDE_PX // longest), max(1, width * MAX_SIDE_PX // longest)


def to_bgr(image: Image) -> Image:
    """Return a camera image, (H, W) grey or (H, W, 3) RGB uint8, as (H, W, 3) uint8 BGR."""
    if image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    return np.ascontiguousarray(image[:, :, ::-1])


def fit(image: Image, size: tuple[int, int]) -> Image:
    """Return an image at another size (height, width); itself if it has that size."""
    if image.shape[:2] == size:
        return image
    return np.asarray(cv2.resize(image, (size[1], size[0])), np.uint8)
