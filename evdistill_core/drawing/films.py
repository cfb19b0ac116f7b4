"""Videos of pictures whose times are told."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from evdistill_core.drawing.colours import Image, fit
from evdistill_core.foundation.files import atomic_path


class _NoFrames(Exception):  # noqa: N818 - never leaves this module
    """A video that nobody added a frame to."""


class FilmWriter:
    """An H.264 video in MP4: a context manager that moves it to its place when the block ends.

    Frames carry their own times, so a video of a stream with gaps keeps the stream's pace.
    A block that ends by an error or by Ctrl-C leaves no file, and so does one without frames.

    Args:
        path: the video, ending in .mp4.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = ExitStack()
        self._container: Any = None
        self._stream: Any = None
        self._first_us = 0
        self._last_us = -1
        self._first_shape = self._size = (0, 0)

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
        if image.shape[:2] != self._first_shape:
            image = fit(image, self._first_shape)
        missing = height - image.shape[0], width - image.shape[1]
        if any(missing):
            padding = ((0, missing[0]), (0, missing[1]), (0, 0))
            image = np.pad(image, padding, mode="edge")
        self._encode(image, max(t_us - self._first_us, self._last_us + 1))

    def _open(self, image: Image, t_us: int) -> None:
        import av  # noqa: PLC0415 - 50 ms, and no robot needs it

        self._first_shape = image.shape[:2]
        # yuv420p wants even sizes: an odd picture gets its last row or column twice.
        height, width = (s + s % 2 for s in image.shape[:2])
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
