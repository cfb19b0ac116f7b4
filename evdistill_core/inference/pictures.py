"""Pictures for people: coloured masks, overlays, contact sheets, films; all BGR uint8."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.foundation.files import atomic_path, write_bytes_atomic
from evdistill_core.foundation.labels import IGNORE, ClassTable
from evdistill_core.inference.prediction import Detection, Prediction

Image = npt.NDArray[np.uint8]

MAX_SIDE_PX = 960
"""Longest side of a picture for a video: larger ones cost seconds and show no more."""
SMALL_WIDTH_PX = 400
"""Pictures of up to so many columns are doubled in a video: they are small on a screen."""

_BACKGROUND = 96
_CAPTION_PX = 16
_LEGEND_ROW_PX = 22
_LABEL_PX = 192  # leaves most of the picture beside three lines of text


def color_mask(mask: Image, classes: ClassTable) -> Image:
    """Return the mask in the colours of its classes; 255 and unknown ids are black.

    Args:
        mask: (H, W) uint8.
        classes: the student's table.

    Returns:
        (H, W, 3) uint8, BGR.
    """
    palette_bgr = np.ascontiguousarray(classes.palette_rgb()[:, None, ::-1])
    return np.asarray(cv2.applyColorMap(np.ascontiguousarray(mask), palette_bgr), np.uint8)


def event_picture(events: Events, size: tuple[int, int] | None = None) -> Image:
    """Return one window's events on grey: the last polarity of each pixel, white or black.

    Args:
        events: of the window, inside the frame.
        size: (height, width) of the picture; None: of the sensor. A pixel that shows several
            sensor pixels has the last polarity of them all.

    Returns:
        (height, width, 3) uint8, BGR.
    """
    height, width = size or (events.height, events.width)
    grey = np.full((height, width), _BACKGROUND, np.uint8)
    y, x = events.y, events.x
    if (height, width) != (events.height, events.width):
        y = (y.astype(np.uint32) * height // events.height).astype(np.uint16)
        x = (x.astype(np.uint32) * width // events.width).astype(np.uint16)
    grey[y, x] = events.p * np.uint8(255)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)


def video_size(height: int, width: int) -> tuple[int, int]:
    """Return (height, width) at which a sensor's pictures are drawn for a video.

    That of the sensor; larger ones are shrunk to ``MAX_SIDE_PX`` on their longer side.
    """
    longest = max(height, width)
    if longest <= MAX_SIDE_PX:
        return height, width
    return max(1, height * MAX_SIDE_PX // longest), max(1, width * MAX_SIDE_PX // longest)


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


def overlay(
    background: Image, prediction: Prediction, classes: ClassTable, *, alpha: float = 0.5
) -> Image:
    """Return the background with the mask's colours over it and the detections framed.

    Args:
        background: (H, W, 3) uint8 BGR; another size than the mask's is fitted to it.
        prediction: mask and detections.
        classes: names and colours.
        alpha: weight of the colour, 0..1; unlabelled pixels keep the background.
    """
    height, width = prediction.mask.shape
    background = fit(background, (height, width))
    colors = color_mask(prediction.mask, classes)
    mixed = cv2.addWeighted(background, 1.0 - alpha, colors, alpha, 0.0)
    is_labelled = np.asarray(prediction.mask != IGNORE).view(np.uint8)
    picture = np.asarray(cv2.copyTo(mixed, is_labelled, background.copy()), np.uint8)
    palette = classes.palette_rgb()
    for d in prediction.detections:
        # Half way to white: class colours are dark (vehicle: 0, 0, 142) and a frame must be seen.
        color = tuple(int(c) // 2 + 127 for c in palette[d.class_id][::-1])
        left, top, right, bottom = d.box_xyxy
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), color, 1)
        text = f"{classes.names[d.class_id]} {d.track_id} {d.score:.2f}"
        left = max(0, min(left, width - 6 * len(text)))  # 6 px a letter: keep it in the picture
        _put_text(picture, text, (left, top - 3 if top > 12 else bottom + 10), color)
    return picture


def label_picture(background: Image, lines: Sequence[tuple[str, float]]) -> Image:
    """Return the background with guesses written on it, the first one brightest.

    Args:
        background: (H, W, 3) uint8 BGR; enlarged by a whole factor where letters would not fit.
        lines: what to write, and its score, 0..1, drawn as a bar below it.

    Returns:
        (f H, f W, 3) uint8 BGR, f = 1 from 192 pixels a side on; dimmed behind the text.
    """
    factor = -(-_LABEL_PX // min(_LABEL_PX, *background.shape[:2]))
    picture = background.repeat(factor, axis=0).repeat(factor, axis=1)
    lines = lines or [("?", 0.0)]
    width = 8 + max(64, 7 * max(len(text) for text, _ in lines))
    picture[: 4 + 17 * len(lines), :width] //= 4
    for i, (text, score) in enumerate(lines):
        bottom = 14 + 17 * i
        color = (90, 255, 255) if i == 0 else (200, 200, 200)
        _put_text(picture, text, (4, bottom), color)
        cv2.rectangle(picture, (4, bottom + 3), (4 + round(score * 60), bottom + 4), color, -1)
    return picture


def contact_sheet(
    images: Sequence[Image], captions: Sequence[str], *, columns: int = 4, gap_px: int = 4
) -> Image:
    """Return the images in rows with a line of text below each.

    Raises:
        ValueError: no image, or another number of captions.
    """
    if not images or len(images) != len(captions):
        raise ValueError(f"got {len(images)} images and {len(captions)} captions")
    cell_h = max(i.shape[0] for i in images) + _CAPTION_PX
    cell_w = max(i.shape[1] for i in images)
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    sheet = np.full(
        (rows * (cell_h + gap_px) + gap_px, columns * (cell_w + gap_px) + gap_px, 3), 32, np.uint8
    )
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        top = gap_px + (i // columns) * (cell_h + gap_px)
        left = gap_px + (i % columns) * (cell_w + gap_px)
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
        _put_text(sheet, caption, (left + 2, top + cell_h - 4), (220, 220, 220))
    return sheet


def legend(classes: ClassTable, *, width: int) -> Image:
    """Return a strip with the colour and name of each class, for the foot of a picture.

    Returns:
        (22 a row, width, 3) uint8, BGR; as many rows as the names need.
    """
    places: list[tuple[int, int]] = []
    x, row = 6, 0
    for info in classes.classes:
        step = 30 + 7 * len(info.name)
        if x + step > width and x > 6:
            x, row = 6, row + 1
        places.append((x, row * _LEGEND_ROW_PX))
        x += step
    strip = np.full(((row + 1) * _LEGEND_ROW_PX, width, 3), 32, np.uint8)
    for info, (left, top) in zip(classes.classes, places, strict=True):
        color = tuple(info.color_rgb[::-1])
        cv2.rectangle(strip, (left, top + 5), (left + 12, top + 17), color, -1)
        cv2.rectangle(strip, (left, top + 5), (left + 12, top + 17), (200, 200, 200), 1)
        _put_text(strip, info.name, (left + 17, top + 15), (220, 220, 220))
    return strip


def write_image(path: Path, image: Image) -> None:
    """Write a BGR image, atomically; the suffix chooses PNG or JPEG.

    Raises:
        OSError: the disk is full, or writing is refused.
    """
    # Not by OpenCV, which does not tell why it could not write.
    _, data = cv2.imencode(path.suffix.lower(), image)
    write_bytes_atomic(path, data.tobytes())


def write_npz(path: Path, content: Mapping[str, npt.ArrayLike]) -> None:
    """Write arrays by name as a compressed ``.npz``, atomically."""
    arrays = {name: np.asarray(value) for name, value in content.items()}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


class _NoFrames(Exception):  # noqa: N818 - never leaves this module
    """A film that nobody added a frame to."""


class FilmWriter:
    """An H.264 film in MP4: a context manager that moves it to its place when the block ends.

    Frames carry their own times, so a film of a stream with gaps keeps the stream's pace.
    A block that ends by an error or by Ctrl-C leaves no file, and so does one without frames.

    Args:
        path: the film, ending in .mp4.
        scale: whole factor of enlargement; None doubles pictures of up to ``SMALL_WIDTH_PX``.
    """

    def __init__(self, path: Path, *, scale: int | None = None) -> None:
        self._path = path
        self._wanted_scale = scale
        self._scale = 1
        self._files = ExitStack()
        self._container: Any = None
        self._stream: Any = None
        self._first_us = 0
        self._last_us = -1
        self._size = (0, 0)

    def __enter__(self) -> FilmWriter:
        self._temporary = self._files.enter_context(atomic_path(self._path))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._container is None:
            # Nothing to write: let the temporary file go the way of a failed one.
            self._files.__exit__(_NoFrames, _NoFrames(), None)
        elif kind is not None:
            with suppress(OSError):  # what came first is told
                self._container.close()
            self._files.__exit__(kind, error, trace)
        else:
            with self._files:
                try:
                    for packet in self._stream.encode(None):
                        self._container.mux(packet)
                finally:
                    self._container.close()

    def add(self, image: Image, t_us: int) -> None:
        """Append a frame; one that is not later than the last, or of another size, is fitted.

        Args:
            image: (H, W, 3) uint8 BGR.
            t_us: time of the frame on any clock; only differences count.
        """
        if self._container is None:
            self._open(image, t_us)
        width, height = self._size
        if image.shape[:2] != (height // self._scale, width // self._scale):
            image = fit(image, (height, width))
        elif self._scale > 1:
            image = np.asarray(
                cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8
            )
        self._encode(image, max(t_us - self._first_us, self._last_us + 1))

    def _open(self, image: Image, t_us: int) -> None:
        import av  # noqa: PLC0415 - 50 ms, and no robot needs it

        is_small = image.shape[1] <= SMALL_WIDTH_PX
        self._scale = self._wanted_scale or (2 if is_small else 1)
        # yuv420p wants even sizes.
        height, width = (s * self._scale // 2 * 2 for s in image.shape[:2])
        self._size = (width, height)
        self._container = av.open(str(self._temporary), "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=Fraction(1000, 1))
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = Fraction(1, 1_000_000)
        self._stream.codec_context.time_base = Fraction(1, 1_000_000)
        # A quarter of the time of "veryfast" for less than twice the bytes.
        self._stream.options = {"crf": "20", "preset": "ultrafast"}
        self._stream.codec_context.thread_count = 1
        self._first_us = t_us

    def _encode(self, image: Image, pts_us: int) -> None:
        import av  # noqa: PLC0415

        # OpenCV converts in half the time that libswscale takes.
        planes = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2YUV_I420)
        frame = av.VideoFrame.from_ndarray(np.asarray(planes, np.uint8), format="yuv420p")
        frame.pts = pts_us
        frame.time_base = Fraction(1, 1_000_000)
        self._last_us = pts_us
        for packet in self._stream.encode(frame):
            self._container.mux(packet)


def _put_text(image: Image, text: str, at: tuple[int, int], color: tuple[int, ...]) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.35, (0, 0, 0), 2, cv2.LINE_AA)
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.35, color, 1, cv2.LINE_AA)
