"""What a JPEG or PNG says of itself, read before a library unpacks it.

A few bytes can announce an image that fills the memory, and libraries hand out half an image of a
file that was cut off silently.
"""

from __future__ import annotations

import struct
import zlib

from evdistill_core.foundation.errors import MessageError
from evdistill_core.messages.cdr import Buffer
from evdistill_core.messages.image_encodings import check_size

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xDA)})  # markers that stand alone
_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame, with the size


def check_stored_file(data: Buffer, format_text: str) -> None:
    """Refuse what is neither a whole JPEG nor a whole PNG of a sensible size.

    Args:
        data: the file.
        format_text: as the message has it, for the error.

    Raises:
        MessageError: with what it is instead.
    """
    content = bytes(data)
    if "compressedDepth" in format_text:
        raise MessageError(f"{format_text[:60]!r} is a depth map, no camera image")
    if content.startswith(PNG_MAGIC):
        kind, size, is_whole = "PNG", _png_size(content), _is_whole_png(content)
    elif content.startswith(JPEG_MAGIC):
        kind, size, is_whole = "JPEG", _jpeg_size(content), _JPEG_END in content
    else:
        what = f"it starts with {content[:8]!r}" if content else "it is empty"
        raise MessageError(f"a {format_text[:40]!r} image is neither JPEG nor PNG: {what}")
    if size is None or not is_whole:
        raise MessageError(f"a {kind} is cut off or damaged")
    check_size(*size)


def _png_size(content: bytes) -> tuple[int, int] | None:
    if len(content) < 24 or content[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", content, 16)
    return width, height


def _is_whole_png(content: bytes) -> bool:
    """Walk along the chunks to the last one; every checksum must be right."""
    at = len(PNG_MAGIC)
    while at + 12 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        name = content[at + 4 : at + 8]
        if zlib.crc32(content[at + 4 : end - 4]).to_bytes(4, "big") != content[end - 4 : end]:
            return False
        if name == b"IEND":
            return True
        at = end
    return False


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Walk along the segments to the start of frame; None where there is none."""
    at = 2
    while at + 9 <= len(content):
        if content[at] != 0xFF:
            return None
        marker = content[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif marker in _NO_LENGTH:
            at += 2
        elif marker in _FRAME:
            height, width = struct.unpack_from(">HH", content, at + 5)
            return width, height
        else:
            at += 2 + max(2, struct.unpack_from(">H", content, at + 2)[0])
    return None
