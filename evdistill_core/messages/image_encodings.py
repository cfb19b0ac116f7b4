"""Every encoding of sensor_msgs/Image that is a camera image, to grey or RGB.

Source:
    Names and layouts: sensor_msgs/image_encodings.hpp and the V4L2 pixel formats that it refers to.
    YUV is ITU-R BT.601 with Y in 16..235, as OpenCV and cv_bridge convert it. Mosaics are
    interpolated bilinearly. Differs from OpenCV: the border of a mosaic is interpolated from
    mirrored pixels instead of repeated, and images of any width are taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import MessageError
from evdistill_core.messages.standard import Image

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

MAX_PIXELS = 1 << 25
"""34 million: more than a camera beside an event sensor has, less than fills a memory."""
_NEUTRAL = 128  # chroma of grey


def decode_raw(message: Image) -> Pixels:
    """Return an uncompressed image, (H, W) grey or (H, W, 3) RGB, uint8 or native uint16.

    Raises:
        MessageError: an encoding that is none of ``ENCODINGS``, data and size that do not fit, or
            no pixels or too many.
    """
    return _decoder(message)(message)


def check_raw(message: Image) -> None:
    """Refuse what ``decode_raw`` would refuse, at little cost.

    Raises:
        MessageError: as ``decode_raw``.
    """
    _decoder(message)
    if message.encoding in _PLANES:
        _planes(message)
    else:
        message.check()


def check_size(width: int, height: int) -> None:
    """Refuse images without pixels, and those that damaged bytes make too large.

    Raises:
        MessageError: with the size.
    """
    if not 0 < width * height <= MAX_PIXELS:
        raise MessageError(f"an image of {width}x{height} pixels; expected 1 .. {MAX_PIXELS}")


def convert_colors(pixels: Any, code: str) -> Pixels:
    """Return ``pixels`` through cvtColor; the library is loaded when the first image needs it."""
    import cv2  # noqa: PLC0415

    try:
        converted: Pixels = np.asarray(cv2.cvtColor(pixels, getattr(cv2, f"COLOR_{code}")))
    except cv2.error as error:
        raise MessageError(f"the image cannot be converted: {error}") from error
    return converted


def demosaiced(mosaic: Any, order: str) -> Pixels:
    """Interpolate a Bayer mosaic; ``order`` is that of the first two rows, such as ``rggb``."""
    height, width = mosaic.shape
    if min(height, width) < 2:
        raise MessageError(f"a Bayer mosaic has at least 2x2 pixels, got {width}x{height}")
    # Mirrored by two, pixels keep their colour; OpenCV leaves the outermost ones to their
    # neighbours and takes nothing below 3x3.
    wide = np.pad(mosaic, 2, mode="reflect")
    # OpenCV calls a mosaic by the second pixel of its second row and what stands before that.
    code = {"rggb": "BG", "bggr": "RG", "gbrg": "GR", "grbg": "GB"}[order]
    return convert_colors(wide, f"Bayer{code}2RGB")[2:-2, 2:-2]


def _decoder(message: Image) -> Callable[[Image], Pixels]:
    if message.encoding not in _DECODERS:
        raise MessageError(
            f"image encoding {message.encoding[:40]!r} is no camera image or not known; known: "
            f"{', '.join(ENCODINGS)}"
        )
    check_size(message.width, message.height)
    return _DECODERS[message.encoding]


def _stored(message: Image) -> Pixels:
    """Return the numbers as stored, in this machine's byte order."""
    pixels: Any = message.to_array()
    native: Pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return native


def _colors(code: str, message: Image) -> Pixels:
    return convert_colors(_stored(message), code)


def _mosaic(order: str, message: Image) -> Pixels:
    return demosaiced(_stored(message), order)


def _packed_yuv(code: str, message: Image) -> Pixels:
    """Read 4:2:2, two pixels in four bytes; of an odd width the last pair may be cut in half."""
    width = message.width
    odd = width % 2
    if odd and message.step >= 2 * (width + 1):
        message = replace(message, width=width + 1)
    pairs: Any = message.to_array()
    if pairs.shape[1] % 2:
        missing = pairs[:, -2:-1] if width > 1 else np.full_like(pairs[:, :1], _NEUTRAL)
        pairs = np.concatenate([pairs, missing], axis=1)
    return convert_colors(pairs, code)[:, :width]


def _planar_yuv(code: str, message: Image) -> Pixels:
    """Read nv12 and nv21: Y, then pairs of chroma for every 2x2 pixels."""
    luma, chroma = _planes(message)
    return convert_colors(np.concatenate([luma, chroma]), code)


def _full_yuv(message: Image) -> Pixels:
    """Read nv24: Y, then a pair of chroma for every pixel.

    That is nv12 of an image that is twice as large, whose 2x2 pixels share one Y too.
    """
    luma, chroma = _planes(message)
    doubled = luma.repeat(2, axis=0).repeat(2, axis=1)
    return convert_colors(np.concatenate([doubled, chroma]), "YUV2RGB_NV12")[::2, ::2]


def _planes(message: Image) -> tuple[Any, Any]:
    """Return Y and chroma of a planar image, each (rows, bytes of a row)."""
    width, height, step = message.width, message.height, message.step
    is_full = message.encoding == "nv24"
    if not is_full and (width % 2 or height % 2):
        raise MessageError(f"{message.encoding} has even sides, got {width}x{height}")
    rows = height * 2 if is_full else height // 2  # of chroma, as wide as those of Y
    if len(message.data) == width * (height + rows):
        step = width  # tight, whatever step says: it has no one meaning for these
    if step < width or len(message.data) < step * (height + rows):
        raise MessageError(
            f"Image {width}x{height} {message.encoding}: step {step} (at least {width}) and "
            f"{len(message.data)} data bytes do not fit"
        )
    stored = np.frombuffer(message.data, np.uint8, step * (height + rows)).reshape(-1, step)
    luma, chroma = stored[:height, :width], stored[height:]
    if is_full:
        return luma, chroma.reshape(height, 2 * step)[:, : 2 * width]
    return luma, chroma[:, :width]


_PLANES = frozenset({"nv12", "nv21", "nv24"})
_DECODERS: dict[str, Callable[[Image], Pixels]] = {
    **dict.fromkeys(("mono8", "mono16", "8UC1", "16UC1", "rgb8", "rgb16"), _stored),
    **dict.fromkeys(("bgr8", "bgr16", "8UC3", "16UC3"), partial(_colors, "BGR2RGB")),
    **dict.fromkeys(("rgba8", "rgba16"), partial(_colors, "RGBA2RGB")),
    **dict.fromkeys(("bgra8", "bgra16", "8UC4", "16UC4"), partial(_colors, "BGRA2RGB")),
    **{
        f"bayer_{order}{bits}": partial(_mosaic, order)
        for order in ("rggb", "bggr", "gbrg", "grbg")
        for bits in (8, 16)
    },
    **dict.fromkeys(("yuv422", "uyvy"), partial(_packed_yuv, "YUV2RGB_UYVY")),
    **dict.fromkeys(("yuv422_yuy2", "yuyv"), partial(_packed_yuv, "YUV2RGB_YUY2")),
    "nv12": partial(_planar_yuv, "YUV2RGB_NV12"),
    "nv21": partial(_planar_yuv, "YUV2RGB_NV21"),
    "nv24": _full_yuv,
}
#: Encodings of sensor_msgs/Image that are camera images.
ENCODINGS = tuple(_DECODERS)
