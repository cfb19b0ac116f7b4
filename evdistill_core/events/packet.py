"""A message as it arrives: type name, bytes, and when. The same from a topic, a bag or DDS."""

from __future__ import annotations

from dataclasses import dataclass

from evdistill_core.messages.event_messages import EVENT_ARRAY_TYPES, EVENT_PACKET_TYPES

EVENT_TYPES = EVENT_PACKET_TYPES + EVENT_ARRAY_TYPES


@dataclass(frozen=True)
class Packet:
    """One serialized message.

    Attributes:
        type_name: as ROS writes it, ``event_camera_msgs/msg/EventPacket``.
        data: CDR with its four byte header; kept as it is, never copied.
        receive_time_ns: host time of arrival, or the log time in a bag.
        topic: where it came from; empty when that does not matter.
    """

    type_name: str
    data: bytes | bytearray | memoryview
    receive_time_ns: int
    topic: str = ""
