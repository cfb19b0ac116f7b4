"""Variables of Matlab files of version 5 to 7: numbers, and structs of numbers, bounds checked.

A file is a header of 128 bytes and elements: a tag (type, bytes), then data, rounded up to 8 bytes.
A variable is an element of elements (flags, dimensions, name, numbers), often packed by zlib.
Whatever is no number (cells, text, objects) is stepped over.

Source: MathWorks, "MAT-File Format". Differs from scipy, whose reader brings the process down on
some damaged files.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.readers.bounded import PIECE_LIMIT_BYTES, unzlib

Array = npt.NDArray[Any]
HEADER_BYTES = 128
MATRIX, COMPRESSED = 14, 15
STRUCT = 2
#: type of the stored numbers, and class of the variable, to NumPy's letter
STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8",
           15: "u8"}  # fmt: skip
MAX_FIELDS = 1000


def load_variables(path: Path) -> dict[str, Array | dict[str, Array]]:
    """Return arrays by name; a struct of size one is a mapping of its fields that are numbers.

    Raises:
        RecordingError: damaged, or a variable of more than 256 MB.
    """
    data = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise RecordingError(f"{path} is cut off or damaged: its header has no byte order")
    found: dict[str, Array | dict[str, Array]] = {}
    try:
        for outer in _elements(memoryview(data)[HEADER_BYTES:], order):
            kind, body = _unpacked(outer, order)
            if kind == MATRIX:
                name, value = _variable(body, order)
                if value is not None:
                    found[name] = value
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path} is cut off or damaged: {error}") from error
    return found


def _unpacked(element: tuple[int, memoryview], order: str) -> tuple[int, memoryview]:
    """Return the element inside a compressed one; others as they are."""
    kind, body = element
    if kind != COMPRESSED:
        return element
    return next(_elements(memoryview(unzlib(body)), order), (0, body))


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield type and bytes of the elements that lie one behind the other."""
    at = 0
    while at < len(data):
        (first,) = struct.unpack_from(order + "I", data, at)
        if first >> 16:  # a small element: up to four bytes stand in the tag itself
            kind, size, begin, step = first & 0xFFFF, first >> 16, at + 4, 8
        else:
            kind, (size,), begin = first, struct.unpack_from(order + "I", data, at + 4), at + 8
            step = 8 + (size if kind == COMPRESSED else -(-size // 8) * 8)
        if begin + size > len(data) or (first >> 16 and size > 4):
            raise ValueError(f"an element claims {size} bytes where {len(data) - begin} are left")
        yield kind, data[begin : begin + size]
        at += step


def _variable(body: memoryview, order: str) -> tuple[str, Array | dict[str, Array] | None]:
    """Return name and value; None for what holds no numbers."""
    parts = list(_elements(body, order))
    if len(parts) < 3:
        return "", None
    (flags,) = struct.unpack_from(order + "I", parts[0][1])
    shape = tuple(int(n) for n in np.frombuffer(parts[1][1], order + "i4"))
    name = bytes(parts[2][1]).decode("latin-1")
    if not 1 <= len(shape) <= 32 or any(side < 0 for side in shape):
        raise ValueError(f"variable {name[:40]!r} has the shape {shape}")
    kind = flags & 0xFF
    if kind == STRUCT:
        return name, _struct(parts[3:], order) if math.prod(shape) == 1 else None
    if kind in CLASSES and len(parts) > 3:
        return name, _numbers(*parts[3], shape, kind, order)
    return name, None


def _struct(parts: list[tuple[int, memoryview]], order: str) -> dict[str, Array]:
    (length,) = struct.unpack_from(order + "i", parts[0][1]) if parts else (0,)
    names = bytes(parts[1][1]) if len(parts) > 1 else b""
    if not 1 <= length <= 256 or len(names) // length > MAX_FIELDS:
        raise ValueError(f"a struct with names of {length} bytes")
    fields = [names[i : i + length].split(b"\0")[0] for i in range(0, len(names), length)]
    found = {}
    for name, (_, body) in zip(fields, parts[2:], strict=False):
        value = _variable(body, order)[1]
        if isinstance(value, np.ndarray):
            found[name.decode("latin-1")] = value.reshape(-1)
    return found


def _numbers(kind: int, body: memoryview, shape: tuple[int, ...], wanted: int, order: str) -> Array:
    if kind not in STORED:
        raise ValueError(f"numbers of the unknown type {kind}")
    stored = np.frombuffer(body, order + STORED[kind])
    if stored.size != math.prod(shape):
        raise ValueError(f"{stored.size} numbers for the shape {shape}")
    target = np.dtype(CLASSES[wanted])
    if stored.size * target.itemsize > PIECE_LIMIT_BYTES:
        raise ValueError(f"a variable of {stored.size} numbers is too large to be read whole")
    # Whole numbers are stored narrow; what they are is the class of the variable.
    return stored.astype(target).reshape(shape, order="F")
