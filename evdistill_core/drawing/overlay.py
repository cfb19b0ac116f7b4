"""Masks, boxes with labels, guesses and legends on pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from evdistill_core.drawing.colours import (
    BRIGHTER_BGR,
    DARKER_BGR,
    Bgr,
    Image,
    color_mask,
    enlarge,
    fit,
    paint_events,
)
from evdistill_core.drawing.text import (
    letter_px,
    place_labels,
    plate_size,
    write_on_plate,
    write_text,
)
from evdistill_core.events.array import Events
from evdistill_core.foundation.labels import IGNORE, ClassTable
from evdistill_core.inference.prediction import Detection, Prediction

EVENT_COLOURS: tuple[tuple[str, Bgr], ...] = (("brighter", BRIGHTER_BGR), ("darker", DARKER_BGR))
"""Names and colours of the polarities, for legends."""

_STRIP = 24  # grey of legends and sheets
_STRIP_INK: Bgr = (220, 220, 220)


def overlay(  # noqa: PLR0913 - what a picture is made of
    background: Image,
    prediction: Prediction,
    classes: ClassTable,
    *,
    alpha: float = 0.5,
    events: Events | None = None,
    factor: int = 1,
) -> Image:
    """Return the background with the mask's colours, the events and the detections over it.

    Args:
        background: (h, w, 3) uint8 BGR; another size than the mask's is fitted to it.
        prediction: mask (H, W) and detections.
        classes: names and colours.
        alpha: weight of the mask's colours, 0..1; unlabelled pixels keep the background.
        events: drawn over the mask; None: there are none to draw.
        factor: whole factor of enlargement. Frames and letters are drawn after it.

    Returns:
        (factor * H, factor * W, 3) uint8 BGR.
    """
    background = fit(background, prediction.mask.shape)
    colors = color_mask(prediction.mask, classes)
    mixed = cv2.addWeighted(background, 1.0 - alpha, colors, alpha, 0.0)
    is_labelled = np.asarray(prediction.mask != IGNORE).view(np.uint8)
    picture = np.asarray(cv2.copyTo(mixed, is_labelled, background.copy()), np.uint8)
    if events is not None:
        paint_events(picture, events)
    picture = enlarge(picture, factor)
    draw_boxes(picture, prediction.detections, classes, factor=factor)
    return picture


def draw_boxes(
    picture: Image, detections: Sequence[Detection], classes: ClassTable, *, factor: int = 1
) -> None:
    """Draw detections into a picture: frames in their class's colour, and labels.

    A label has class, id of the track (if it is tracked) and score. No label covers another; one
    that finds no place is left out. Earlier tracks choose first, so that labels hold still.

    Args:
        picture: (factor * H, factor * W, 3) uint8 BGR; changed.
        detections: in pixels before the enlargement.
        classes: names and colours.
        factor: of enlargement.
    """
    found = sorted(detections, key=lambda d: (d.track_id, -d.area_px))
    height, width = picture.shape[:2]
    boxes = [_inside([v * factor for v in d.box_xyxy], width, height) for d in found]
    thickness = max(1, round(max(height, width) / 400))
    colors = [_class_bgr(classes, d.class_id) for d in found]
    for (left, top, right, bottom), color in zip(boxes, colors, strict=True):
        out = thickness // 2 + 1  # a dark line around it, for bright backgrounds
        cv2.rectangle(
            picture, (left - out, top - out), (right - 1 + out, bottom - 1 + out), (0, 0, 0)
        )
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), _lighter(color), thickness)
    letters = letter_px(max(height, width))
    texts = [_label(d, classes) for d in found]
    sizes = [plate_size(text, letters) for text in texts]
    # A pixel more: plates of one colour must not look like one.
    places = place_labels([(w + 1, h + 1) for w, h in sizes], boxes, (width, height))
    for text, place, size, box, color in zip(texts, places, sizes, boxes, colors, strict=True):
        if place is not None:
            _join(picture, place, size, box, _lighter(color))
            write_on_plate(picture, text, place, letters, color)


def _inside(box: Sequence[int], width: int, height: int) -> tuple[int, int, int, int]:
    """Return a box cut to the picture, at least a pixel wide and high."""
    left, top = (min(max(0, v), end - 1) for v, end in zip(box[:2], (width, height), strict=True))
    return left, top, min(max(box[2], left + 1), width), min(max(box[3], top + 1), height)


def _label(detection: Detection, classes: ClassTable) -> str:
    number = f" {detection.track_id}" if detection.track_id else ""
    return f"{classes.names[detection.class_id]}{number} {detection.score:.2f}"


def _join(
    picture: Image,
    place: tuple[int, int],
    size: tuple[int, int],
    box: tuple[int, int, int, int],
    color: Bgr,
) -> None:
    """Draw a line from a label to its box, where they do not touch."""
    ends = []
    for axis in (0, 1):
        low, high = place[axis], place[axis] + size[axis] - 1
        near, far = box[axis], box[axis + 2] - 1
        at = min(max((near + far) // 2, low), high)
        ends.append((at, min(max(at, near), far)))
    (x0, x1), (y0, y1) = ends
    if max(abs(x0 - x1), abs(y0 - y1)) > 1:
        cv2.line(picture, (x0, y0), (x1, y1), color, 1, cv2.LINE_AA)


def _class_bgr(classes: ClassTable, class_id: int) -> Bgr:
    red, green, blue = classes.classes[class_id].color_rgb
    return blue, green, red


def _lighter(color: Bgr) -> Bgr:
    # Half way to white: class colours are dark (vehicle: 0, 0, 142) and a frame must be seen.
    blue, green, red = (c // 2 + 127 for c in color)
    return blue, green, red


def shrink(prediction: Prediction, size: tuple[int, int]) -> Prediction:
    """Return a prediction for a picture of another size (height, width), without confidence.

    Each pixel has the class of the sensor pixel in its middle; boxes are rounded outwards.
    """
    height, width = size
    of_height, of_width = prediction.mask.shape
    if (height, width) == (of_height, of_width):
        return prediction
    mask = np.asarray(
        cv2.resize(prediction.mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT),
        np.uint8,
    )

    def moved(detection: Detection) -> Detection:
        left, top, right, bottom = detection.box_xyxy
        box = (
            left * width // of_width,
            top * height // of_height,
            -(-right * width // of_width),
            -(-bottom * height // of_height),
        )
        return replace(detection, box_xyxy=box)

    detections = tuple(moved(d) for d in prediction.detections)
    return Prediction(mask, np.broadcast_to(np.float32(0), size), detections)


def write_guesses(picture: Image, lines: Sequence[tuple[str, float]]) -> None:
    """Write guesses into the upper left corner of a picture, the first one brightest.

    Args:
        picture: (H, W, 3) uint8 BGR, large enough for letters; changed.
        lines: what to write, and its score, 0..1, drawn as a bar below it.
    """
    letters = letter_px(max(picture.shape[:2]))
    lines = lines or [("?", 0.0)]
    sizes = [plate_size(text, letters) for text, _ in lines]
    bar = 6 * letters
    width, step = max(bar + 6, *(w for w, _ in sizes)), sizes[0][1] + 5
    picture[: step * len(lines) + 2, : width + 2] //= 4
    for i, (text, score) in enumerate(lines):
        color = (255, 255, 255) if i == 0 else (170, 170, 170)
        write_text(picture, text, (1, i * step), letters, color)
        bottom = (i + 1) * step
        cv2.rectangle(picture, (4, bottom - 3), (4 + round(score * bar), bottom - 2), color, -1)


def legend(
    classes: ClassTable | None,
    *,
    width: int,
    more: Sequence[tuple[str, Bgr]] = EVENT_COLOURS,
) -> Image:
    """Return a strip with colours and their names, for the foot of a picture.

    Args:
        classes: to show; None: no classes.
        width: of the picture, pixels. Letters follow it as in the picture, up to 1280 pixels.
        more: names and BGR colours beside the classes.

    Returns:
        (H, width, 3) uint8, BGR; as many rows as the names need.
    """
    rows = [] if classes is None else [(c.name, c.color_rgb[::-1]) for c in classes.classes]
    entries = [*rows, *more]
    letters = letter_px(min(width, 1280))
    side, row_px = letters + 2, 2 * letters + 2
    places: list[tuple[int, int]] = []
    x, row = 6, 0
    for name, _ in entries:
        step = side + plate_size(name, letters)[0] + letters // 2
        if x + step > width and x > 6:
            x, row = 6, row + 1
        places.append((x, row * row_px))
        x += step
    strip = np.full(((row + 1) * row_px, width, 3), _STRIP, np.uint8)
    for (name, color), (left, top) in zip(entries, places, strict=True):
        upper, lower = (left, top + (row_px - side) // 2), (left + side, top + (row_px + side) // 2)
        cv2.rectangle(strip, upper, lower, tuple(color), -1)
        cv2.rectangle(strip, upper, lower, (200, 200, 200), 1)
        at = (left + side + 2, upper[1] - 2)
        write_text(strip, name, at, letters, _STRIP_INK)
    return strip


def with_legend(picture: Image, classes: ClassTable | None) -> Image:
    """Return a picture with the legend of its classes and events below it."""
    return np.concatenate([picture, legend(classes, width=picture.shape[1])])
