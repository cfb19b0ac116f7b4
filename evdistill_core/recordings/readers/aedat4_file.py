"""The container of AEDAT 4: streams, packets, and the flatbuffers in them, bounds checked.

A file is a line, a size-prefixed flatbuffer (compression, place of the table of contents, XML
description of the streams), packets of (stream, size, payload), and the table. Payloads are
size-prefixed flatbuffers, whole LZ4 or zstd frames of them when compressed. The table is not
needed: reading goes from packet to packet, so a file that was cut off is read as far as it goes.

Source: AEDAT 4.0 file format (ioheader.fbs, events.fbs, frame.fbs, trigger.fbs). Differs from the
vendor's dv-processing, which needs the table to be whole, and on damaged files never returns or
brings the process down (docs/adr/0010).
"""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.readers.bounded import (
    PIECE_LIMIT_BYTES,
    unlz4,
    unzstd,
    zero_tail,
    zeros_left_out,
)

HEADER_AT = 14  # after the line "#!AER-DAT4.0"
NO_TABLE = -1
NO_COMPRESSION, LZ4, LZ4_HIGH, ZSTD, ZSTD_HIGH = range(5)
MAX_SIDE = 4096


@dataclass(frozen=True)
class Stream:
    """One stream of the file.

    Attributes:
        name: as the recorder called it, with ``:number`` behind it where that is not unique.
        number: by which its packets carry it.
        kind: four letters: ``EVTS``, ``FRME``, ``TRIG``, ``IMUS``, ...
        width: columns; 0 where the description does not tell.
        height: rows; 0 where the description does not tell.
        source: the camera, "" where the description does not tell.
    """

    name: str
    number: int
    kind: str
    width: int
    height: int
    source: str = ""


@dataclass(frozen=True)
class StoredPacket:
    """One packet, decompressed.

    Attributes:
        table: its flatbuffer's root.
        fraction: how much of the file lies before its end.
    """

    table: Table
    fraction: float


class Table:
    """A table of a flatbuffer; every access is inside the buffer or raises ``struct.error``."""

    def __init__(self, buffer: bytes, at: int) -> None:
        self._buffer = buffer
        self._at = at
        (back,) = struct.unpack_from("<i", buffer, at)
        self._vtable = at - back
        if not 0 <= self._vtable <= len(buffer) - 4:
            raise struct.error("a table's description lies outside the buffer")
        (self._vtable_bytes,) = struct.unpack_from("<H", buffer, self._vtable)

    @staticmethod
    def root(buffer: bytes) -> Table:
        """Return the outermost table of a buffer without its size prefix."""
        return Table(buffer, struct.unpack_from("<I", buffer, 0)[0])

    def _place(self, field: int) -> int:
        slot = 4 + 2 * field
        if slot + 2 > self._vtable_bytes:
            return 0
        (offset,) = struct.unpack_from("<H", self._buffer, self._vtable + slot)
        return self._at + offset if offset else 0

    def number(self, field: int, layout: str, default: int = 0) -> int:
        """Return an integer field; ``layout`` is its letter in the ``struct`` module."""
        place = self._place(field)
        return int(struct.unpack_from("<" + layout, self._buffer, place)[0]) if place else default

    def vector(self, field: int, element_bytes: int) -> memoryview:
        """Return the bytes of a vector field; empty when it is absent."""
        place = self._place(field)
        if not place:
            return memoryview(b"")
        at = place + struct.unpack_from("<I", self._buffer, place)[0]
        (count,) = struct.unpack_from("<I", self._buffer, at)
        if at + 4 + count * element_bytes > len(self._buffer):
            raise struct.error(f"{count} elements do not fit into the buffer")
        return memoryview(self._buffer)[at + 4 : at + 4 + count * element_bytes]

    def tables(self, field: int) -> Iterator[Table]:
        """Yield the elements of a field that is a vector of tables."""
        place = self._place(field)
        if not place:
            return
        offsets = self.vector(field, 4)
        first = place + struct.unpack_from("<I", self._buffer, place)[0] + 4
        places = (p for (p,) in struct.iter_unpack("<I", offsets))
        for i, place in enumerate(places):
            yield Table(self._buffer, first + 4 * i + place)


class Aedat4File:
    """Header and packets of one file.

    Attributes:
        streams: what the header describes.

    Args:
        path: the file.
        warn: told about damage that is read around.

    Raises:
        RecordingError: the header is damaged.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self._path = path
        self._warn = warn
        self._size = path.stat().st_size
        self.streams: tuple[Stream, ...] = ()
        try:
            self._read_header()
        except (struct.error, UnicodeDecodeError, ET.ParseError, ValueError) as error:
            if isinstance(error, RecordingError):
                raise
            raise RecordingError(
                f"{path} is cut off or damaged: its header does not make sense ({error}). "
                "Was it copied completely?"
            ) from error

    def _read_header(self) -> None:
        with self._path.open("rb") as file:
            file.seek(HEADER_AT)
            (length,) = struct.unpack("<I", file.read(4))
            if length > self._size - file.tell():
                raise ValueError(f"it claims {length} bytes")
            header = Table.root(file.read(length))
            self._begin = file.tell()
        self._compression = header.number(0, "i")
        if not NO_COMPRESSION <= self._compression <= ZSTD_HIGH:
            raise ValueError(f"compression {self._compression} is none of 0 .. {ZSTD_HIGH}")
        table = header.number(1, "q", NO_TABLE)
        self.streams = _streams(bytes(header.vector(2, 1)).decode("utf-8"))
        self._end = self._size
        self._zeros_at = self._size - zero_tail(self._path, self._begin)
        if self._begin <= table < self._zeros_at:
            self._end = self._zeros_at = table
        elif self._zeros_at < self._size:
            self._warn(zeros_left_out(self._zeros_at, self._size))
        elif table != NO_TABLE:
            self._warn(f"the file ends before its table of contents, at byte {self._size}")

    def places(self, stream: Stream) -> npt.NDArray[np.int64]:
        """Return where the packets of a stream begin, as far as lengths make sense."""
        found = array("q")
        known = {s.number for s in self.streams}
        with self._path.open("rb") as file:
            at = self._begin
            while at < self._zeros_at:
                file.seek(at)
                head = file.read(8)
                number, length = struct.unpack("<ii", head) if len(head) == 8 else (-1, -1)
                if number not in known or not 0 <= length <= self._end - at - 8:
                    break
                if number == stream.number:
                    found.append(at)
                at += 8 + length
        return np.array(found, np.int64)

    def packets(
        self,
        stream: Stream,
        on_damage: Callable[[], None] | None = None,
        *,
        begin: int | None = None,
    ) -> Iterator[StoredPacket]:
        """Yield the packets of a stream in stored order, from one of its ``places`` on.

        A packet that does not decompress is left out and reported to ``on_damage``; the end tells
        how many there were. Where lengths do not make sense, reading ends and that is told. The
        packet in which the zeros of a power cut begin counts as damaged, their warning is told.
        """
        damaged: list[int] = []

        def report(at: int) -> None:
            if on_damage is not None:
                on_damage()
            if at + 8 < self._zeros_at <= at + 8 + length and self._zeros_at < self._end:
                return
            damaged.append(at)

        known = {s.number for s in self.streams}
        try:
            with self._path.open("rb") as file:
                at = self._begin if begin is None else begin
                while at < self._zeros_at:
                    file.seek(at)
                    head = file.read(8)
                    number, length = struct.unpack("<ii", head) if len(head) == 8 else (-1, -1)
                    left = min(PIECE_LIMIT_BYTES, self._end - at - 8)
                    if number not in known or not 0 <= length <= left:
                        self._warn_of_the_end(at)
                        return
                    if number == stream.number:
                        table = self._table(file.read(length), stream.kind)
                        if table is None:
                            report(at)
                        else:
                            yield StoredPacket(table, (at + 8 + length) / self._end)
                    at += 8 + length
        finally:
            if damaged:
                self._warn(
                    f"damaged packets of {stream.name} left out: {len(damaged)}, the first at byte "
                    f"{damaged[0]}"
                )

    def _warn_of_the_end(self, at: int) -> None:
        if self._zeros_at == self._end:  # else the zeros behind it are told already
            self._warn(f"the file is cut off or damaged from byte {at} of {self._end} on")

    def _table(self, payload: bytes, kind: str) -> Table | None:
        """Unpack a packet; ``None`` when its bytes do not make sense."""
        try:
            if self._compression in {LZ4, LZ4_HIGH}:
                payload = unlz4(payload)
            elif self._compression in {ZSTD, ZSTD_HIGH}:
                payload = unzstd(payload)
            if len(payload) < 12 or payload[8:12] != kind.encode():
                return None
            return Table.root(payload[4:])
        except (RecordingError, struct.error):
            return None


def _streams(description: str) -> tuple[Stream, ...]:
    """Read the streams out of the XML in the header.

    Raises:
        ValueError: a size or a number makes no sense.
    """
    nodes = [
        node
        for info in ET.fromstring(description.rstrip("\0")).iter("node")
        if info.get("name") == "outInfo"
        for node in info.findall("node")
    ]
    attributes = [{a.get("key"): a.text or "" for a in node.iter("attr")} for node in nodes]
    names = [a.get("originalOutputName") or a.get("typeIdentifier", "") for a in attributes]
    streams = []
    for node, name, values in zip(nodes, names, attributes, strict=True):
        number = int(node.get("name", ""))
        width, height = int(values.get("sizeX", 0)), int(values.get("sizeY", 0))
        if not (0 <= width <= MAX_SIDE and 0 <= height <= MAX_SIDE):
            raise ValueError(f"{width}x{height} pixels, expected at most {MAX_SIDE} each")
        unique = name if names.count(name) == 1 else f"{name}:{number}"
        kind, source = values.get("typeIdentifier", ""), values.get("source", "")
        streams.append(Stream(unique, number, kind, width, height, source))
    return tuple(streams)
