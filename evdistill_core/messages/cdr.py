"""Common Data Representation: the bytes of ROS 2 messages, field by field, bounds checked.

Plain CDR (XCDR1): a four byte header (``00 01 00 00`` little endian, ``00 00 00 00`` big endian),
then the fields, each aligned to its own size counted from the end of the header. Everything here
may come off a network, so a read outside the bytes raises and never guesses.

Source: OMG DDS-XTypes 1.3, section 7.4.3 (plain CDR), DDSI-RTPS 2.3, section 10.2.
"""

from __future__ import annotations

import struct

from evdistill_core.foundation.errors import MessageError

Buffer = bytes | bytearray | memoryview

HEADER_BYTES = 4
_LITTLE_ENDIAN = b"\x00\x01"
_BIG_ENDIAN = b"\x00\x00"
_PADDING = bytes(8)
# Beyond the last field stand at most the zeros that round the message up.
MAX_PADDING = 7
_STRUCTS = {
    order: {code: struct.Struct(order + code) for code in "?bBhHiIqQfd"} for order in ("<", ">")
}


class CdrReader:
    """Reads one message front to back.

    Attributes:
        little_endian: byte order of the message.
    """

    def __init__(self, data: Buffer, type_name: str) -> None:
        """Look at the encapsulation header.

        Args:
            data: the serialized message with its header; not copied.
            type_name: for error texts.

        Raises:
            MessageError: the header is missing or announces another representation.
        """
        self._data = memoryview(data).cast("B")
        self._type = type_name
        self._at = HEADER_BYTES
        kind = bytes(self._data[:2])
        if len(self._data) < HEADER_BYTES or kind not in (_LITTLE_ENDIAN, _BIG_ENDIAN):
            raise MessageError(
                f"{type_name}: the encapsulation header must be 00 00 or 00 01 (plain CDR), "
                f"got {bytes(self._data[:4]).hex(' ') or 'no bytes'}"
            )
        self.little_endian = kind == _LITTLE_ENDIAN
        self._structs = _STRUCTS["<" if self.little_endian else ">"]

    def scalar(self, code: str, field: str) -> int | float | bool:
        """Return one number; ``code`` is its letter in the ``struct`` module.

        Raises:
            MessageError: the message ends before it.
        """
        layout = self._structs[code]
        at = self._at
        at += -(at - HEADER_BYTES) % layout.size
        try:
            value: int | float | bool = layout.unpack_from(self._data, at)[0]
        except struct.error:
            raise self._too_short(layout.size, at, field) from None
        self._at = at + layout.size
        return value

    def scalars(self, code: str, count: int, field: str) -> tuple[int | float | bool, ...]:
        """Return ``count`` numbers of one kind.

        Raises:
            MessageError: the message ends before the last of them.
        """
        if count == 0:
            return ()
        size = self._structs[code].size
        at = self._claim(count * size, size, field)
        order = "<" if self.little_endian else ">"
        return struct.unpack_from(f"{order}{count}{code}", self._data, at)

    def count(self, field: str) -> int:
        """Return the element count that stands before a sequence."""
        return int(self.scalar("I", field))

    def octets(self, count: int, field: str) -> memoryview:
        """Return ``count`` bytes as a view, nothing copied.

        Raises:
            MessageError: the message ends before the last of them.
        """
        at = self._claim(count, 1, field)
        return self._data[at : at + count]

    def text(self, field: str) -> str:
        """Return a string; bytes that are not UTF-8 become replacement characters.

        Raises:
            MessageError: the message ends before the string does.
        """
        raw = bytes(self.octets(self.count(field), field))
        return raw.removesuffix(b"\0").decode("utf-8", errors="replace")

    def align(self, size: int) -> None:
        """Move forward to the next multiple of ``size``."""
        self._at += -(self._at - HEADER_BYTES) % size

    def finish(self) -> None:
        """Check that nothing but padding is left.

        Raises:
            MessageError: more bytes follow, so the layout is not that of the type.
        """
        left = len(self._data) - self._at
        if left > MAX_PADDING:
            raise MessageError(
                f"{self._type}: {left} bytes left over at offset {self._at}; "
                f"this is not the layout of {self._type}"
            )

    def _claim(self, size: int, alignment: int, field: str) -> int:
        self.align(alignment)
        at = self._at
        if size > len(self._data) - at:
            raise self._too_short(size, at, field)
        self._at = at + size
        return at

    def _too_short(self, size: int, at: int, field: str) -> MessageError:
        return MessageError(
            f"{self._type}.{field}: needs {size} bytes at offset {at}, "
            f"the message has {len(self._data)}"
        )


class CdrWriter:
    """Writes one message front to back, little endian."""

    def __init__(self, type_name: str) -> None:
        """Start with the encapsulation header; ``type_name`` is for error texts."""
        self._type = type_name
        self._parts: list[bytes | memoryview] = [_LITTLE_ENDIAN + b"\0\0"]
        self._size = 0

    def scalar(self, code: str, value: float, field: str) -> None:
        """Append one number; ``code`` is its letter in the ``struct`` module.

        Raises:
            MessageError: the value does not fit its type.
        """
        layout = _STRUCTS["<"][code]
        self.align(layout.size)
        try:
            self._append(layout.pack(value))
        except (struct.error, OverflowError, TypeError) as error:
            raise MessageError(f"{self._type}.{field}: cannot hold {value!r}: {error}") from error

    def octets(self, data: Buffer) -> None:
        """Append bytes; they are copied when the message is finished, not before."""
        self._append(memoryview(data).cast("B"))

    def text(self, value: str) -> None:
        """Append a string with its length and the closing zero."""
        raw = value.encode("utf-8", errors="replace") + b"\0"
        self.scalar("I", len(raw), "length")
        self._append(raw)

    def align(self, size: int) -> None:
        """Append zeros up to the next multiple of ``size``."""
        padding = -self._size % size
        if padding:
            self._append(_PADDING[:padding])

    def finish(self) -> bytes:
        """Round up to four bytes and return the whole message."""
        self.align(4)
        return b"".join(self._parts)

    def _append(self, data: bytes | memoryview) -> None:
        self._parts.append(data)
        self._size += len(data)
