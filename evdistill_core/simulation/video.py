"""Frame sequences -> events: frames between the frames, then the pixel array."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import IGNORE
from evdistill_core.simulation.pixels import PixelArray
from evdistill_core.simulation.sensor import SensorModel
from evdistill_core.simulation.window import SimulatedWindow

_logger = logging.getLogger(__name__)

FloatImage = npt.NDArray[np.float32]
Grey = npt.NDArray[np.uint8]
Interpolation = Literal["flow", "linear"]

MAX_STEPS = 32
FAST_PIXELS = 0.99  # the step follows this part of the pixels; faster ones are too few to matter


def read_video(path: Path, *, height: int, width: int) -> Iterator[tuple[Grey, int]]:
    """Yield the frames of a video as a sensor of this size sees them.

    Args:
        path: anything that OpenCV reads.
        height: rows of the sensor.
        width: columns of the sensor. The middle of the frame with the sensor's proportions is
            scaled to it.

    Yields:
        (H, W) uint8 grey image, and its time in microseconds from the first frame. A video that
        ends before its header says is read as far as it goes, with a warning in the log.

    Raises:
        DataError: no video, or one without frames or frame rate.
    """
    capture = cv2.VideoCapture(str(path))
    rate_hz = capture.get(cv2.CAP_PROP_FPS)
    expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    if not capture.isOpened() or not rate_hz > 0:
        raise DataError(f"{path} is no video that OpenCV reads")
    number = 0
    try:
        while True:
            found, frame = capture.read()
            if not found:
                break
            yield _fitted(frame, height, width), round(number * 1e6 / rate_hz)
            number += 1
    finally:
        capture.release()
    if number == 0:
        raise DataError(f"{path} holds no frame")
    # Some containers give a duration instead, from which the last frame or two may be missing.
    if number < expected - 2:
        _logger.warning(
            "%s ends after %d of the %d frames that its header promises: it is cut or damaged",
            path, number, expected,
        )  # fmt: skip


def simulate_frames(
    frames: Iterable[tuple[Grey, int]],
    sensor: SensorModel,
    window_us: int,
    rng: np.random.Generator,
    *,
    interpolation: Interpolation = "flow",
) -> Iterator[SimulatedWindow]:
    """Yield the windows that a sensor sees of a frame sequence, one after another.

    The pixels keep their state from window to window; the last, incomplete window is left out.

    Args:
        frames: grey images of one size and their rising times in microseconds.
        sensor: the pixels.
        window_us: length of a window, at least 100.
        rng: the same generator state gives the same events.
        interpolation: "flow" moves images along the optical flow between them (DIS), "linear"
            fades one into the next, which blurs fast edges.

    Yields:
        Windows without labels (all 255).

    Raises:
        ValueError: ``window_us`` is too short, or times do not rise.
    """
    if window_us < 100:
        raise ValueError(f"window_us must be at least 100, got {window_us}")
    response = sensor.response()
    pixels: PixelArray | None = None
    last: tuple[Grey, int] | None = None
    start_us = 0
    for grey, t_us in frames:
        if pixels is None or last is None:
            pixels = PixelArray(sensor, height=grey.shape[0], width=grey.shape[1], rng=rng)
            pixels.start(_log(grey.astype(np.float32), response), t_us)
            start_us = t_us
        else:
            between = FramePair(last[0], grey, interpolation)
            for image, at_us in _timed(between, last[1], t_us, start_us, window_us):
                pixels.advance(_log(image, response), at_us)
                if at_us == start_us + window_us:
                    yield _window(pixels, image, start_us, at_us)
                    start_us = at_us
        last = grey, t_us


class FramePair:
    """The images between two frames.

    Args:
        first: (H, W) uint8.
        second: (H, W) uint8.
        interpolation: "flow" or "linear".

    Attributes:
        steps: into how many images the interval should be cut.
    """

    def __init__(self, first: Grey, second: Grey, interpolation: Interpolation) -> None:
        self._first, self._second = first.astype(np.float32), second.astype(np.float32)
        self._flows: tuple[FloatImage, FloatImage] | None = None
        self.steps = 4
        if interpolation == "flow":
            dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
            forth = np.asarray(dis.calc(first, second, None), np.float32)  # type: ignore[call-overload]
            back = np.asarray(dis.calc(second, first, None), np.float32)  # type: ignore[call-overload]
            self._flows = forth, back
            lengths = np.hypot(forth[..., 0], forth[..., 1])
            fast = float(np.quantile(lengths, FAST_PIXELS))
            self.steps = int(np.clip(math.ceil(fast), 1, MAX_STEPS))
        rows, columns = np.mgrid[0 : first.shape[0], 0 : first.shape[1]].astype(np.float32)
        self._grid = np.stack([columns, rows], axis=-1)

    def __call__(self, share: float) -> FloatImage:
        """Return the image at ``share`` (0 .. 1) of the interval, (H, W) float32, 0 .. 255."""
        first, second = self._first, self._second
        if self._flows is not None and 0.0 < share < 1.0:
            # The flow at a pixel of the image between is taken from the frames at that pixel:
            # right inside moving things, blurred by the fading at their borders.
            forth, back = self._flows
            first = self._moved(first, back * np.float32(share))
            second = self._moved(second, forth * np.float32(1.0 - share))
        return np.asarray(first * np.float32(1.0 - share) + second * np.float32(share), np.float32)

    def _moved(self, image: FloatImage, flow: FloatImage) -> FloatImage:
        where = self._grid + flow
        moved = cv2.remap(
            image, where, np.empty(0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(moved, np.float32)


def _timed(
    between: FramePair, from_us: int, to_us: int, start_us: int, window_us: int
) -> Iterator[tuple[FloatImage, int]]:
    """Yield images and times after ``from_us`` up to ``to_us``, window ends among them."""
    if to_us <= from_us:
        raise ValueError(f"frame times must rise: {to_us} after {from_us}")
    times = set(np.linspace(from_us, to_us, between.steps + 1).round().astype(int).tolist()[1:])
    end_us = start_us + window_us
    while end_us <= to_us:
        times.add(end_us)
        end_us += window_us
    for at_us in sorted(times):
        yield between((at_us - from_us) / (to_us - from_us)), at_us


def _window(pixels: PixelArray, image: FloatImage, start_us: int, end_us: int) -> SimulatedWindow:
    grey = np.rint(np.clip(image, 0, 255)).astype(np.uint8)
    return SimulatedWindow(
        pixels.take_events(), np.full(grey.shape, IGNORE, np.uint8), grey, start_us, end_us
    )


def _log(grey: FloatImage, response: FloatImage) -> FloatImage:
    codes = np.rint(np.clip(grey, 0.0, 255.0) * np.float32(257.0)).astype(np.uint16)
    return np.asarray(response[codes], np.float32)


def _fitted(frame: npt.NDArray[Any], height: int, width: int) -> Grey:
    rows, columns = frame.shape[:2]
    scale = min(rows / height, columns / width)
    high, wide = round(height * scale), round(width * scale)
    top, left = (rows - high) // 2, (columns - wide) // 2
    middle = frame[top : top + high, left : left + wide]
    way = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    grey = cv2.cvtColor(middle, cv2.COLOR_BGR2GRAY) if middle.ndim == 3 else middle
    return np.asarray(cv2.resize(grey, (width, height), interpolation=way), np.uint8)
