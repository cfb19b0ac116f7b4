"""Camera images through cv_bridge, where it is installed and knows the encoding."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from evdistill_core.messages.image_encodings import Pixels
from evdistill_core.messages.standard import Image

_COLOUR_8 = ("rgb8", "bgr8", "rgba8", "bgra8", "yuv422", "yuv422_yuy2")
_COLOUR_16 = ("rgb16", "bgr16", "rgba16", "bgra16")
_MOSAICS = tuple(f"bayer_{order}" for order in ("rggb", "bggr", "gbrg", "grbg"))
TARGETS = {
    "mono8": "mono8",
    "mono16": "mono16",
    **dict.fromkeys(_COLOUR_8, "rgb8"),
    **dict.fromkeys(_COLOUR_16, "rgb16"),
    **{f"{mosaic}8": "rgb8" for mosaic in _MOSAICS},
}
"""Encoding of a camera image -> encoding that it is converted to. What is missing here is none
that cv_bridge of Jazzy converts to colours (``8UC3``, ``uyvy``, 16-bit mosaics)."""


# CvBridgeError is a TypeError; what another NumPy or OpenCV leads to is any of the others.
_FAILURES = (
    ImportError, AttributeError, SystemError, RuntimeError, TypeError, ValueError, KeyError,
)  # fmt: skip


class Bridge:
    """Converts Images by cv_bridge; None says that somebody else has to.

    A cv_bridge that was built for another NumPy or OpenCV fails, at its import or at its first
    image. That is a warning, once, and it is not asked again. One that fails at a later image is
    not asked for this one.

    Attributes:
        failed: images that it could not convert.

    Args:
        warn: told why it cannot be used, if it is there.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._bridge: Any = None
        self.failed = 0
        try:
            self._bridge = importlib.import_module("cv_bridge").CvBridge()
            self._convert(_SAMPLE)
        except ModuleNotFoundError as error:
            if error.name != "cv_bridge":
                self._give_up(error)
        except _FAILURES as error:
            self._give_up(error)

    @property
    def is_usable(self) -> bool:
        """Whether it is there and works."""
        return self._bridge is not None

    def __call__(self, message: Image) -> Pixels | None:
        """Return (H, W) grey or (H, W, 3) RGB of 8 or 16 bits; None: not an image for cv_bridge."""
        if self._bridge is None or message.encoding not in TARGETS:
            return None
        try:
            return self._convert(message)
        except _FAILURES:  # our own reader says what is wrong with the image, if anything is
            self.failed += 1
            return None

    def _convert(self, message: Image) -> Pixels:
        pixels = self._bridge.imgmsg_to_cv2(message, TARGETS[message.encoding])
        view: Pixels = np.asarray(pixels).view()
        view.flags.writeable = False
        return view

    def _give_up(self, error: Exception) -> None:
        self._bridge = None
        said = str(error).strip().splitlines() or [type(error).__name__]
        self._warn(f"cv_bridge does not work here, images are read without it: {said[-1]}")


_SAMPLE = Image(height=1, width=1, encoding="bgr8", step=3, data=bytes(3))
