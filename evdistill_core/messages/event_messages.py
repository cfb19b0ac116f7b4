"""Messages that carry events: EventPacket (encoded bytes) and the EventArray family."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import MessageError
from evdistill_core.messages.cdr import MAX_PADDING, Buffer, CdrReader, CdrWriter
from evdistill_core.messages.message import (
    Array,
    Bool,
    Bytes,
    Message,
    Nested,
    String,
    UInt16,
    UInt32,
    UInt64,
)
from evdistill_core.messages.standard import NO_HEADER, NO_TIME, NS_PER_S, Header, Time

EVENT_PACKET_TYPES = ("event_camera_msgs/msg/EventPacket", "event_array_msgs/msg/EventArray")
# Packages that define Event and EventArray with the same fields; ROS matches topics by the name.
EVENT_ARRAY_PACKAGES = ("dvs_msgs", "prophesee_event_msgs", "dv_ros2_msgs", "evk4_msg")
EVENT_ARRAY_TYPES = tuple(f"{package}/msg/EventArray" for package in EVENT_ARRAY_PACKAGES)

EVENT_STRIDE = 16
_RECORD = np.dtype(
    {
        "names": ["x", "y", "sec", "nanosec", "polarity"],
        "formats": ["<u2", "<u2", "<i4", "<u4", "u1"],
        "offsets": [0, 2, 6, 10, 14],
        "itemsize": EVENT_STRIDE,
    }
)


@dataclass(frozen=True)
class EventPacket(Message):
    """Events in the encoding of the sensor or of its driver.

    Attributes:
        header: the stamp is the arrival of the packet's first piece at the host.
        height: rows of the sensor.
        width: columns of the sensor.
        seq: counts the driver's messages; a gap means lost ones.
        time_base: nanoseconds that some encodings add to their times.
        encoding: for example ``evt3``.
        is_bigendian: byte order of the machine that wrote ``events``.
        events: the encoded bytes; a view of the message when parsed.
    """

    TYPE: ClassVar[str] = "event_camera_msgs/msg/EventPacket"

    header: Header = NO_HEADER
    height: UInt32 = 0
    width: UInt32 = 0
    seq: UInt64 = 0
    time_base: UInt64 = 0
    encoding: String = ""
    is_bigendian: Bool = False
    events: Bytes = b""


class EventPacketParser:
    """Parses the EventPackets of one stream, a few times as fast as ``EventPacket.parse``.

    Nearly all messages of a stream have the same frame_id and encoding, so their fields lie at
    the same places. Any other message is parsed field by field.
    """

    def __init__(self) -> None:
        self._frame = self._encoding = b""
        self._frame_id = self._encoding_name = ""
        self._size = _SIZE
        self._size_at = self._encoding_at = self._count_at = 0

    def __call__(self, data: Buffer) -> EventPacket:
        """Return the message; see ``Message.parse``."""
        if not self._size_at or not self._is_alike(data):
            message = EventPacket.parse(data)
            self._learn(data, message)
            return message
        sec, nanosec = _STAMP.unpack_from(data, _STAMP_AT)
        height, width, seq, time_base = self._size.unpack_from(data, self._size_at)
        (count,) = _COUNT.unpack_from(data, self._count_at)
        start = self._count_at + 4
        if not 0 <= len(data) - start - count <= MAX_PADDING:
            return EventPacket.parse(data)  # says what is wrong
        return EventPacket(
            Header(Time(sec, nanosec), self._frame_id), height, width, seq, time_base,
            self._encoding_name, bool(data[self._encoding_at + len(self._encoding)]),
            memoryview(data).cast("B")[start : start + count],
        )  # fmt: skip

    def _is_alike(self, data: Buffer) -> bool:
        frame, encoding, at = self._frame, self._encoding, self._encoding_at
        return (
            len(data) >= self._count_at + 4
            and data[:2] == _LITTLE_ENDIAN
            and data[_FRAME_AT : _FRAME_AT + len(frame)] == frame
            and data[at : at + len(encoding)] == encoding
        )

    def _learn(self, data: Buffer, message: EventPacket) -> None:
        """Remember where the fields lie, of a message that was parsed."""
        self._size_at = 0
        if bytes(data[:2]) != _LITTLE_ENDIAN:
            return
        frame_bytes = 4 + _COUNT.unpack_from(data, _FRAME_AT)[0]
        self._frame = bytes(data[_FRAME_AT : _FRAME_AT + frame_bytes])
        # Places count from behind the header of four bytes.
        size_at = 4 + _rounded_up(_FRAME_AT - 4 + frame_bytes, 4)
        # ``seq`` takes a place that is a multiple of eight.
        self._size = _SIZE_AND_GAP if (size_at - 4) % 8 else _SIZE
        self._encoding_at = at = size_at + self._size.size
        encoding_bytes = 4 + _COUNT.unpack_from(data, at)[0]
        self._encoding = bytes(data[at : at + encoding_bytes])
        self._count_at = 4 + _rounded_up(at - 4 + encoding_bytes + 1, 4)
        self._frame_id, self._encoding_name = message.header.frame_id, message.encoding
        self._size_at = size_at


_LITTLE_ENDIAN = b"\x00\x01"
_STAMP, _COUNT = struct.Struct("<iI"), struct.Struct("<I")
_SIZE, _SIZE_AND_GAP = struct.Struct("<IIQQ"), struct.Struct("<II4xQQ")
_STAMP_AT, _FRAME_AT = 4, 12


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


@dataclass(frozen=True)
class Event(Message):
    """One event, as the EventArray family defines it."""

    TYPE: ClassVar[str] = "dvs_msgs/msg/Event"

    x: UInt16 = 0
    y: UInt16 = 0
    ts: Time = NO_TIME
    polarity: Bool = False


@dataclass(frozen=True)
class EventBlock:
    """The serialized elements of an ``Event[]``, not unpacked.

    Event k has seconds at 16 k + 4, nanoseconds at 16 k + 8 and polarity at 16 k + 12; x and y
    stand at 0 and 2 for k = 0 and at 16 k - 2 and 16 k after that, because a two byte field needs
    less padding behind a one byte field than at the start.

    Attributes:
        count: number of events n.
        data: 16 n - 3 bytes (none when n is 0).
        little_endian: byte order of ``data``.
    """

    count: int = 0
    data: Buffer = b""
    little_endian: bool = True

    @staticmethod
    def pack(
        x: npt.NDArray[np.uint16],
        y: npt.NDArray[np.uint16],
        t_ns: npt.NDArray[np.int64],
        p: npt.NDArray[np.uint8],
    ) -> EventBlock:
        """Serialize columns of equal length; times are nanoseconds, 0 to 2**31 seconds."""
        count = len(x)
        if count == 0:
            return EventBlock()
        # Records of 16 bytes that begin two bytes before the block: right for all but the first.
        records = np.zeros(count, _RECORD)
        records["x"], records["y"], records["polarity"] = x, y, p
        records["sec"], records["nanosec"] = t_ns // NS_PER_S, t_ns % NS_PER_S
        raw = records.view(np.uint8)
        raw[2:6] = np.array([x[0], y[0]], "<u2").view(np.uint8)
        return EventBlock(count, raw[2:-1].data)


class _EventSequence(Array):
    def read(self, reader: CdrReader, field: str) -> object:
        count = reader.count(field)
        size = EVENT_STRIDE * count - 3 if count else 0
        return EventBlock(count, reader.octets(size, field), reader.little_endian)

    def write(self, writer: CdrWriter, value: Any, field: str) -> None:
        if not value.little_endian:
            raise MessageError(f"{field}: big endian events cannot be written")
        writer.scalar("I", value.count, field)
        writer.octets(value.data)


@dataclass(frozen=True)
class EventArray(Message):
    """Events one by one, with a ROS time each; the same bytes under every package's name."""

    TYPE: ClassVar[str] = "dvs_msgs/msg/EventArray"

    header: Header = NO_HEADER
    height: UInt32 = 0
    width: UInt32 = 0
    events: Annotated[EventBlock, _EventSequence(Nested(Event))] = EventBlock()
