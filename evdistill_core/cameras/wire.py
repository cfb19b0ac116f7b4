"""What the camera's process says to ours: pieces of one head and a payload over a pipe.

The camera's process runs a library that damaged input can crash, so nothing that it says is
trusted: every length is checked before memory is taken.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

#: As dv-processing and AEDAT4 lay out events, 16 bytes each.
EVENT = np.dtype(
    {
        "names": ["t_us", "x", "y", "p"],
        "formats": ["<i8", "<i2", "<i2", "u1"],
        "offsets": [0, 8, 10, 12],
        "itemsize": 16,
    }
)
TRIGGER = np.dtype([("t_us", "<i8"), ("channel", "u1"), ("edge", "u1")])
PICTURE = struct.Struct("<qHHB")  # sensor time, rows, columns, channels (1 grey, 3 BGR)
HEAD = struct.Struct("<4sB3xIqqq")
MAGIC = b"evcm"
MAX_PAYLOAD = 64 << 20
EVENTS_A_PIECE = 1 << 20


class Kind(IntEnum):
    """What a piece holds.

    hello: JSON of name, size of the sensor, size of images (or null). events, triggers: records.
    frame: ``PICTURE`` and pixels. tick: nothing, the process is alive. end: why it ended, text
    ("" when asked to). error: JSON of ``kind`` and ``text``, instead of hello.
    """

    HELLO = 1
    EVENTS = 2
    TRIGGERS = 3
    FRAME = 4
    TICK = 5
    END = 6
    ERROR = 7


@dataclass(frozen=True)
class Piece:
    """One piece.

    Attributes:
        kind: what it holds.
        arrival_ns: host time at which the camera's process had it, nanoseconds since 1970.
        lost_events: events (and trigger edges) given up before it because we did not keep up.
        lost_frames: images given up likewise.
        payload: see ``Kind``.
    """

    kind: Kind
    payload: bytes = b""
    arrival_ns: int = 0
    lost_events: int = 0
    lost_frames: int = 0

    def head(self) -> bytes:
        """Return the bytes that go before the payload."""
        numbers = (self.arrival_ns, self.lost_events, self.lost_frames)
        return HEAD.pack(MAGIC, self.kind, len(self.payload), *numbers)


class DamagedPipeError(ValueError):
    """The other side does not speak this protocol, or not any more."""


def parse_head(data: bytes | bytearray) -> tuple[Piece, int]:
    """Return a piece that lacks its payload, and the payload's length.

    Raises:
        DamagedPipeError: no head, or one with an impossible length.
    """
    magic, kind, size, arrival_ns, lost_events, lost_frames = HEAD.unpack(data)
    if magic != MAGIC or kind not in set(Kind) or size > MAX_PAYLOAD:
        raise DamagedPipeError(f"a head of {bytes(data[:12]).hex()} is no piece")
    return Piece(Kind(kind), b"", arrival_ns, max(lost_events, 0), max(lost_frames, 0)), size
