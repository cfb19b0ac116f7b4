"""Camera images: one way from every encoding to grey or RGB, for live topics and for bags.

``decode_image`` gives the image at the depth of its message, 8 or 16 bits a channel.
``EightBits`` brings the images of one stream to 8 bits; ``ImageReader`` does both for the messages
of a topic and counts what it leaves out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import MessageError
from evdistill_core.foundation.reasons import Reasons
from evdistill_core.messages.cdr import Buffer
from evdistill_core.messages.image_encodings import (
    ENCODINGS,
    Pixels,
    check_raw,
    convert_colors,
    decode_raw,
    demosaiced,
)
from evdistill_core.messages.standard import CompressedImage, Image
from evdistill_core.messages.stored_images import check_stored_file

AnyImage = Image | CompressedImage

#: Types of the messages that hold a camera image.
IMAGE_TYPES: dict[str, type[Image] | type[CompressedImage]] = {
    Image.TYPE: Image,
    CompressedImage.TYPE: CompressedImage,
}
#: Depths of the converters in cameras; an image is brought to 8 bits from one of these.
CONVERTER_BITS = (8, 10, 12, 14, 16)
#: The depth of a stream is that of its latest images, 10 s at 30 a second.
DEPTH_IMAGES = 300


def decode_image(message: AnyImage) -> Pixels:
    """Return a camera image at the depth of its message.

    Args:
        message: with an encoding of ``ENCODINGS``, or a JPEG or PNG. ``8UC3`` and its like are
            taken as BGR, as OpenCV orders them. Alpha is left out.

    Returns:
        (H, W) grey or (H, W, 3) RGB, uint8 or native uint16, read-only, at least one pixel.

    Raises:
        MessageError: an encoding that is no camera image or not known, data and size that do not
            fit, no pixels, or a file that is damaged.
    """
    if isinstance(message, CompressedImage):
        return _read_only(_decode_file(message))
    return _read_only(decode_raw(message))


def check_image(message: AnyImage) -> None:
    """Refuse what ``decode_image`` would refuse, as far as size and encoding tell, at little cost.

    Raises:
        MessageError: as ``decode_image``; damage inside a JPEG or PNG shows only there.
    """
    if isinstance(message, CompressedImage):
        check_stored_file(message.data, message.format)
    else:
        check_raw(message)


def to_grey(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the luma (ITU-R BT.601) of an (H, W, 3) RGB image; an (H, W) image as it is."""
    if image.ndim == 2:
        return image
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.asarray(np.rint(image.astype(np.float32) @ weights), np.uint8)


class EightBits:
    """Brings the images of one stream to 8 bits a channel.

    Drivers put 10, 12 or 14 bits into 16 in two ways. Shifted to the top (``mono16`` of
    libcaer_driver), the lowest bits are 0 in every pixel, and the upper 8 bits are the image. Not
    shifted, the upper 8 bits would be nearly black: then the image is taken from the top of the
    smallest converter of 8, 10, 12, 14 or 16 bits that holds the largest value of the latest 300
    images. So the depth rises at once, and falls only after 300 images that need less.
    """

    def __init__(self) -> None:
        self._latest: deque[int] = deque(maxlen=DEPTH_IMAGES)

    def __call__(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Return the next image of the stream, of the same shape, as uint8.

        Args:
            pixels: (H, W) or (H, W, 3), uint8 (returned as it is) or uint16. Not modified.

        Raises:
            MessageError: another dtype.
        """
        if pixels.dtype == np.uint8:
            return pixels
        if pixels.dtype.kind != "u" or pixels.dtype.itemsize != 2:
            raise MessageError(f"a camera image has 8 or 16 unsigned bits, got {pixels.dtype}")
        used = int(np.bitwise_or.reduce(pixels, axis=None))
        if used:
            self._latest.append(_depth(used))
        narrow = (pixels >> (max(self._latest, default=16) - 8)).astype(np.uint8)
        narrow.flags.writeable = False
        return narrow


def _depth(used: int) -> int:
    """Return the bits of the converter, from those that any pixel of an image has set."""
    if used > 255 and not used & 15:
        return 16  # shifted to the top: 12 bits leave the lowest four empty
    return next(bits for bits in CONVERTER_BITS if used < 1 << bits)


Converter = Callable[[Image], Pixels | None]
"""Another way from an Image to what ``decode_image`` returns; None where it knows no way."""


class ImageReader:
    """Makes 8-bit images of the messages of one topic, and counts those that it leaves out.

    Attributes:
        left_out: number of messages by reason.
        convert: is asked first for Images; None: ``decode_image`` is used for all.
    """

    def __init__(self) -> None:
        self.left_out = Reasons()
        self.convert: Converter | None = None
        self._to_eight_bits = EightBits()

    def parse(self, data: Buffer, type_name: str = Image.TYPE) -> AnyImage | None:
        """Return a serialized message whose size and encoding fit; None: it is left out, counted.

        Args:
            data: CDR bytes.
            type_name: one of ``IMAGE_TYPES``.
        """
        try:
            message = IMAGE_TYPES[type_name].parse(data)
            check_image(message)
        except MessageError as error:
            self.left_out.add(str(error))
            return None
        return message

    def decode(self, message: AnyImage) -> npt.NDArray[np.uint8] | None:
        """Return (H, W) grey or (H, W, 3) RGB uint8, read-only; None: it is left out, counted."""
        pixels = None
        if self.convert is not None and isinstance(message, Image):
            pixels = self.convert(message)
        try:
            return self._to_eight_bits(decode_image(message) if pixels is None else pixels)
        except MessageError as error:
            self.left_out.add(str(error))
            return None


def _read_only(pixels: Pixels) -> Pixels:
    view = pixels.view()
    view.flags.writeable = False
    return view


def _decode_file(message: CompressedImage) -> Pixels:
    check_stored_file(message.data, message.format)
    import cv2  # noqa: PLC0415

    try:
        found: Any = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise MessageError(f"a {message.format[:40]!r} image is damaged: {error}") from error
    if found is None or found.dtype not in (np.uint8, np.uint16):
        raise MessageError(f"a {message.format[:40]!r} image is damaged: it cannot be decoded")
    if found.ndim == 3:
        return convert_colors(found, "BGRA2RGB" if found.shape[2] == 4 else "BGR2RGB")
    # image_transport compresses a mosaic as grey.
    source = message.format.split(";")[0].strip()
    if source.startswith("bayer_") and source in ENCODINGS:
        return demosaiced(found, source.removeprefix("bayer_").rstrip("0123456789"))
    pixels: Pixels = found
    return pixels
