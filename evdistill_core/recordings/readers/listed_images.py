"""Images beside a text file of events: ``images.txt`` of times and names, as the IJRR data set has.

The list, the images and ``events.txt`` lie in one folder, or in one folder of an archive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from evdistill_core.foundation.errors import MessageError, RecordingError
from evdistill_core.foundation.reasons import Reasons
from evdistill_core.messages.images import EightBits, decode_image
from evdistill_core.messages.standard import CompressedImage, Header, Time
from evdistill_core.recordings.base import Frame
from evdistill_core.recordings.readers.time_unit import microseconds

IMAGE_LIST = "images.txt"
#: One image, packed; 64 million pixels as PNG are smaller.
MAX_IMAGE_BYTES = 1 << 28


def listed_frames(
    lines: Iterable[bytes], read: Callable[[str], bytes], unit: str, left_out: Reasons
) -> Iterator[Frame]:
    """Yield the images of a list in its order.

    Args:
        lines: of the list, ``time name``; ``#`` starts a comment.
        read: returns the bytes of an image by its name in the list; raises ``MessageError`` where
            it cannot be read.
        unit: of times that are whole numbers, ``ns``, ``us``, ``ms`` or ``s``; "": microseconds.
            Times with a fraction are seconds.
        left_out: gets the images that cannot be read, with the reason.
    """
    to_eight_bits = EightBits()
    for line in lines:
        words = line.split(b"#")[0].split(maxsplit=1)
        if not words:
            continue
        try:
            t_us = _time_us(words[0], unit)
            name = words[1].decode("utf-8").strip() if len(words) > 1 else ""
            if not name:
                raise MessageError(f"a line of {IMAGE_LIST} has no name of an image")
            stored = CompressedImage(Header(Time(0, 0), ""), name[-60:], read(name))
            image = to_eight_bits(decode_image(stored))
        except (MessageError, UnicodeDecodeError) as error:
            left_out.add(str(error))
            continue
        yield Frame(image, t_us, t_us * 1000)


def _time_us(word: bytes, unit: str) -> int:
    try:
        is_whole = word.lstrip(b"+-").isdigit()
        stored = np.array([int(word) if is_whole else float(word)])
        return int(microseconds(stored, unit if is_whole else "s")[0])
    except (ValueError, OverflowError, RecordingError) as error:
        raise MessageError(f"a line of {IMAGE_LIST} begins with no time") from error
