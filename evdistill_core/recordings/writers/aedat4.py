"""Write AEDAT 4 without the vendor's library: events, images and one trigger input.

The layouts are those that ``aedat4_file`` reads. Flatbuffers are laid out by hand: each kind of
packet has one fixed form, so its bytes are a head that is always the same and the columns.
"""

from __future__ import annotations

import struct
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xml.sax.saxutils import escape

import lz4.frame
import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.files import FinishedBlock, atomic_path
from evdistill_core.recordings.base import Frame

PACKET_EVENTS = 16_384
LINE = b"#!AER-DAT4.0\r\n"
LZ4 = 1
EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "u1"), ("pad", "u1", 3)])
RISING, FALLING = 1, 2
#: OpenCV's numbers of grey and blue-green-red pixels of 8 bits
GREY, BGR = 0, 16
EVENTS, FRAMES, TRIGGERS = 0, 1, 2
#: number, name, four letters, width and height
_Stream = tuple[int, str, str, tuple[int, int] | None]
DESCRIPTIONS = {
    "EVTS": "Array of events (polarity ON/OFF).",
    "FRME": "Standard frame (8-bit image).",
    "TRIG": "External triggers and special signals.",
}


@dataclass(frozen=True)
class _Entry:
    """A line of the table of contents."""

    at: int
    stream: int
    size: int
    count: int
    first_us: int
    last_us: int


class Aedat4Writer(FinishedBlock):
    """Writes batches in order; the file appears only when the block ends well.

    Memory grows by 44 bytes a packet, for the table of contents.

    Args:
        path: the file to make.
        width: columns of the sensor.
        height: rows of the sensor.
        frame_size: width and height of the images; ``None`` writes none.
        salvage: where what was written goes when the disk is full, see ``atomic_path``.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        frame_size: tuple[int, int] | None = None,
        salvage: Path | None = None,
    ) -> None:
        self._path = path
        self._salvage = salvage
        streams: list[_Stream] = [(EVENTS, "events", "EVTS", (width, height))]
        if frame_size is not None:
            streams.append((FRAMES, "frames", "FRME", frame_size))
        streams.append((TRIGGERS, "triggers", "TRIG", None))
        self._description = _description(streams).encode()
        self._entries: list[_Entry] = []

    def __enter__(self) -> Aedat4Writer:
        self._stack = ExitStack()
        temporary = self._stack.enter_context(atomic_path(self._path, salvage=self._salvage))
        self._file: IO[bytes] = self._stack.enter_context(temporary.open("wb"))
        self._file.write(LINE + _header(self._description, -1))
        return self

    def write(self, events: Events, triggers: Triggers) -> None:
        """Append a batch; the trigger's channel has no place in the format."""
        for start in range(0, len(events), PACKET_EVENTS):
            part = events[start : start + PACKET_EVENTS]
            table = np.zeros(len(part), EVENT)
            table["t"], table["x"], table["y"], table["on"] = part.t_us, part.x, part.y, part.p
            payload = _vector_packet(b"EVTS", len(part), table.tobytes())
            self._packet(EVENTS, payload, part.t_us)
        if len(triggers):
            self._packet(TRIGGERS, _trigger_packet(triggers), triggers.t_us)

    def write_frame(self, frame: Frame, t_us: int) -> None:
        """Append an image with its sensor time."""
        self._packet(FRAMES, _frame_packet(frame.image, t_us), np.array([t_us], np.int64))

    @property
    def written_bytes(self) -> int:
        """Size of the file so far."""
        return self._file.tell()

    def _packet(self, stream: int, payload: bytes, t_us: npt.NDArray[np.int64]) -> None:
        packed = lz4.frame.compress(payload)
        self._file.write(struct.pack("<ii", stream, len(packed)))
        at = self._file.tell()
        self._file.write(packed)
        first_us, last_us = int(t_us[0]), int(t_us[-1])
        self._entries.append(_Entry(at, stream, len(packed), len(t_us), first_us, last_us))

    def _finish(self) -> None:
        table_at = self._file.tell()
        self._file.write(lz4.frame.compress(_contents(self._entries)))
        self._file.seek(len(LINE))
        self._file.write(_header(self._description, table_at))


def _prefixed(body: bytes) -> bytes:
    return struct.pack("<I", len(body)) + body


def _header(description: bytes, table_at: int) -> bytes:
    """Compression, place of the table, XML; always of the same length."""
    text = struct.pack("<I", len(description)) + description + b"\0"
    # root at 24, name, padding, description of the root (3 fields), root: text, compression, place
    head = struct.pack("<I4s4xHHHHH2x", 24, b"IOHE", 10, 20, 8, 12, 4)
    root = struct.pack("<iIiq", len(head) - 12, 16, LZ4, table_at)
    return _prefixed(head + root + text)


def _vector_packet(kind: bytes, count: int, elements: bytes) -> bytes:
    """A root table whose only field is a vector of structs, aligned to eight bytes."""
    head = struct.pack("<I4sHHH2xiII", 16, kind, 6, 8, 4, 8, 4, count)
    return _prefixed(head + elements)


def _trigger_packet(triggers: Triggers) -> bytes:
    """A vector of tables of time and type."""
    rows = [
        struct.pack("<b3xq", RISING if edge else FALLING, t_us)
        for t_us, edge in zip(triggers.t_us.tolist(), triggers.edge.tolist(), strict=True)
    ]
    # Within a row: how far its description lies before it, type at 4, time at 8.
    return _tables_packet(b"TRIG", struct.pack("<HHHH", 8, 16, 8, 4), rows)


def _contents(entries: list[_Entry]) -> bytes:
    rows = [
        struct.pack("<4xqiiqqq", e.at, e.stream, e.size, e.count, e.first_us, e.last_us)
        for e in entries
    ]
    return _tables_packet(b"FTAB", struct.pack("<HHHHHHH2x", 14, 48, 8, 16, 24, 32, 40), rows)


def _tables_packet(kind: bytes, description: bytes, rows: list[bytes]) -> bytes:
    """A root table whose only field is a vector of tables, which share one description.

    Args:
        kind: four letters.
        description: sizes and places of the fields, a multiple of four bytes.
        rows: the tables without their first four bytes.
    """
    count = len(rows)
    offsets_at = 32  # places count from the size prefix
    description_at = offsets_at + 4 * count
    first_at = -(-(description_at + len(description)) // 8) * 8
    size = 4 + (len(rows[0]) if rows else 4)
    places = [first_at + i * size for i in range(count)]
    offsets = [at - (offsets_at + 4 * i) for i, at in enumerate(places)]
    vector = struct.pack(f"<{count}I", *offsets) + description
    vector += bytes(first_at - description_at - len(description))
    body = b"".join(
        struct.pack("<i", at - description_at) + row for at, row in zip(places, rows, strict=True)
    )
    return _vector_packet(kind, count, vector + body)


def _frame_packet(image: npt.NDArray[np.uint8], t_us: int) -> bytes:
    """Time (also as that of exposure), pixel format, size and pixels."""
    pixels = image if image.ndim == 2 else image[:, :, ::-1]
    height, width = pixels.shape[:2]
    kind = GREY if pixels.ndim == 2 else BGR
    # Fields: 0 time, 3 and 4 exposure, 5 format, 6 and 7 size, 10 pixels.
    places = (8, 0, 0, 16, 24, 32, 34, 36, 0, 0, 40)
    head = struct.pack("<I4s13H2x", 40, b"FRME", 26, 44, *places)
    root = struct.pack("<i4xqqqbxhh2xI", 40 - 8, t_us, t_us, t_us, kind, width, height, 4)
    head += bytes(40 - len(head))
    data = np.ascontiguousarray(pixels).tobytes()
    return _prefixed(head + root + struct.pack("<I", len(data)) + data)


def _description(streams: list[_Stream]) -> str:
    """Describe the streams in the XML of dv-processing."""
    nodes = []
    for number, name, kind, size in streams:
        path = f"/mainloop/Recorder/outInfo/{number}/"
        attributes = {
            "compression": "LZ4",
            "originalModuleName": "evdistill",
            "originalOutputName": name,
            "typeDescription": DESCRIPTIONS[kind],
            "typeIdentifier": kind,
        }
        lines = [f'<attr key="{k}" type="string">{escape(v)}</attr>' for k, v in attributes.items()]
        info = [f'<node name="info" path="{path}info/">']
        if size is not None:
            sides = zip(("sizeX", "sizeY"), size, strict=True)
            info += [f'<attr key="{k}" type="int">{v}</attr>' for k, v in sides]
        info += ['<attr key="source" type="string">evdistill</attr>']
        info += ['<attr key="tsOffset" type="long">0</attr>', "</node>"]
        nodes += [f'<node name="{number}" path="{path}">', *lines, *info, "</node>"]
    inner = "".join(nodes)
    return (
        '<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">'
        f"{inner}</node></dv>"
    )
