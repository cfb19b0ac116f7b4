"""Bounds on what a file may claim: how much it unpacks to, and where it really ends.

A few bytes may be gigabytes, packed. And a file whose recorder lost its power often ends in zeros.
"""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lz4.frame
import zstandard

from evdistill_core.foundation.errors import RecordingError

#: Larger than any packet, message or chunk of an event camera. No single piece of a file that is
#: read may take more, whatever its length fields say.
PIECE_LIMIT_BYTES = 1 << 28
_STEP_BYTES = 1 << 20
#: So many zeros at the end of a file are no data: file systems leave whole blocks of them.
ZERO_TAIL_BYTES = 512


def unzstd(data: bytes | memoryview, limit: int = PIECE_LIMIT_BYTES) -> bytes:
    """Return what a zstd frame holds.

    Raises:
        RecordingError: damaged, or more than ``limit`` bytes.
    """
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            return _collected(reader.read, limit, len(data))
    except zstandard.ZstdError as error:
        raise RecordingError(f"compressed bytes are damaged: {error}") from error


def unbz2(data: bytes | memoryview, limit: int = PIECE_LIMIT_BYTES) -> bytes:
    """Return what a bzip2 stream holds.

    Raises:
        RecordingError: damaged, cut off, or more than ``limit`` bytes.
    """
    return _unpacked(bz2.BZ2Decompressor(), bytes(data), limit, "bzip2 stream")


def unlz4(data: bytes | memoryview, limit: int = PIECE_LIMIT_BYTES) -> bytes:
    """Return what an LZ4 frame holds.

    Raises:
        RecordingError: damaged, cut off, or more than ``limit`` bytes.
    """
    return _unpacked(lz4.frame.LZ4FrameDecompressor(), bytes(data), limit, "LZ4 frame")


def unzlib(data: bytes | memoryview, limit: int = PIECE_LIMIT_BYTES) -> bytes:
    """Return what a zlib stream holds; one that is cut off gives what came before.

    Raises:
        RecordingError: damaged, or more than ``limit`` bytes.
    """
    decompressor = zlib.decompressobj()
    try:
        unpacked = decompressor.decompress(bytes(data), limit)
    except zlib.error as error:
        raise RecordingError(f"compressed bytes are damaged: {error}") from error
    if decompressor.unconsumed_tail:
        raise _too_much(len(data), limit)
    return unpacked


def _unpacked(decompressor: Any, data: bytes, limit: int, what: str) -> bytes:
    """Feed a decompressor that has ``eof`` and takes ``max_length``."""
    waiting = data

    def read(size: int) -> bytes:
        nonlocal waiting
        if decompressor.eof:
            return b""
        piece: bytes = decompressor.decompress(waiting, max_length=size)
        waiting = b""
        if not piece and not decompressor.eof:
            raise RecordingError(f"compressed bytes are damaged: the {what} is cut off")
        return piece

    try:
        return _collected(read, limit, len(data))
    except (RuntimeError, OSError) as error:
        raise RecordingError(f"compressed bytes are damaged: {error}") from error


def _too_much(size: int, limit: int) -> RecordingError:
    return RecordingError(
        f"{size} compressed bytes hold more than {limit >> 20} MB: they are damaged"
    )


def _collected(read: Callable[[int], bytes], limit: int, size: int) -> bytes:
    """Join pieces in steps: one large read would set aside its whole size for a frame of ten."""
    pieces: list[bytes] = []
    left = limit
    while piece := read(min(_STEP_BYTES, left + 1)):
        left -= len(piece)
        if left < 0:
            raise _too_much(size, limit)
        pieces.append(piece)
    return b"".join(pieces)


def zero_tail(path: Path, begin: int = 0) -> int:
    """Return how many zeros a file ends in; 0 if there are fewer than a power cut leaves.

    Args:
        path: the file.
        begin: where its data begin; zeros before it do not count.
    """
    size = path.stat().st_size
    zeros = 0
    with path.open("rb") as file:
        while size - zeros > begin:
            step = min(ZERO_TAIL_BYTES if not zeros else _STEP_BYTES, size - zeros - begin)
            file.seek(size - zeros - step)
            piece = file.read(step)
            kept = len(piece.rstrip(b"\0"))
            zeros += step - kept
            if kept:
                break
    return zeros if zeros >= ZERO_TAIL_BYTES else 0


def zeros_left_out(begin: int, end: int) -> str:
    """Return the warning for a file that is zeros from one byte to its end."""
    return (
        f"from byte {begin} to its end at {end} the file is zeros, as a power cut leaves it: "
        "left out"
    )
