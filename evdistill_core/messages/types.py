"""Everything about a message type but its bytes: schema for bags, hash and name for DDS."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from evdistill_core.foundation.errors import MessageError
from evdistill_core.messages.discovery import ParticipantEntitiesInfo
from evdistill_core.messages.event_messages import (
    EVENT_ARRAY_PACKAGES,
    EVENT_PACKET_TYPES,
    EventArray,
    EventPacket,
)
from evdistill_core.messages.message import Message, schema
from evdistill_core.messages.standard import (
    CameraInfo,
    Clock,
    CompressedImage,
    DiagnosticArray,
    Header,
    Image,
    Log,
    StringMessage,
    Time,
)
from evdistill_core.messages.vision import Classification, Detection2DArray, LabelInfo


@dataclass(frozen=True)
class MessageType:
    """One ROS 2 message type.

    Attributes:
        name: as ROS writes it, ``std_msgs/msg/Header``.
        message: the class that reads and writes it.
        schema: ``ros2msg`` text with every nested type, as MCAP and rosbag2 store it.
        type_hash: RIHS01 hash, the same that ROS computes (REP 2016).
    """

    name: str
    message: type[Message]
    schema: str
    type_hash: str

    @property
    def dds_name(self) -> str:
        """Name of the type on the wire, ``std_msgs::msg::dds_::Header_``."""
        return dds_type_name(self.name)


def dds_type_name(name: str) -> str:
    """Return the DDS name of a ROS type name, with or without ``/msg/``.

    Raises:
        MessageError: the name is not of the form ``package/msg/Type``.
    """
    package, _, kind = normal_type_name(name).split("/")
    return f"{package}::msg::dds_::{kind}_"


@functools.lru_cache(maxsize=64)
def normal_type_name(name: str) -> str:
    """Return ``package/msg/Type``, also for the short form ``package/Type``.

    Raises:
        MessageError: the name has another form.
    """
    parts = name.split("/")
    if len(parts) == 2:
        parts.insert(1, "msg")
    if len(parts) != 3 or parts[1] != "msg" or not all(parts):
        raise MessageError(f"a message type is written package/msg/Type, got {name!r}")
    return "/".join(parts)


def message_type(name: str) -> MessageType:
    """Return what is known of a type, by its ROS name.

    Raises:
        MessageError: we neither read nor write this type.
    """
    try:
        return MESSAGE_TYPES[normal_type_name(name)]
    except KeyError:
        raise MessageError(
            f"unknown message type {name!r}; known: {', '.join(sorted(MESSAGE_TYPES))}"
        ) from None


# Computed once from the schemas (a test computes them again); those that ROS Jazzy ships agree.
_HASHES = dict(
    line.split()
    for line in """
builtin_interfaces/msg/Time RIHS01_b106235e25a4c5ed35098aa0a61a3ee9c9b18d197f398b0e4206cea9acf9c197
std_msgs/msg/Header RIHS01_f49fb3ae2cf070f793645ff749683ac6b06203e41c891e17701b1cb597ce6a01
std_msgs/msg/String RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18
rosgraph_msgs/msg/Clock RIHS01_692f7a66e93a3c83e71765d033b60349ba68023a8c689a79e48078bcb5c58564
sensor_msgs/msg/Image RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47
sensor_msgs/msg/CompressedImage RIHS01_15640771531571185e2efc8a100baf923961a4d15d5569652e6cb6691e8e371a
sensor_msgs/msg/CameraInfo RIHS01_b3dfd68ff46c9d56c80fd3bd4ed22c7a4ddce8c8348f2f59c299e73118e7e275
diagnostic_msgs/msg/DiagnosticArray RIHS01_5a8a36efb05fb25070fa0fb3810290c0e6cd4862b54a8fb975a1ee8dc55a333e
rcl_interfaces/msg/Log RIHS01_e28ce254ca8abc06abf92773b74602cdbf116ed34fbaf294fb9f81da9f318eac
vision_msgs/msg/Detection2DArray RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968
vision_msgs/msg/Classification RIHS01_f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143
vision_msgs/msg/LabelInfo RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783
rmw_dds_common/msg/ParticipantEntitiesInfo RIHS01_91a0593bacdcc50ea9bdcf849a938b128412cc1ea821245c663bcd26f83c295e
event_camera_msgs/msg/EventPacket RIHS01_d6fa176260b1f37e5a40845305315e150a0f18191241eb64f407442aa29844aa
event_array_msgs/msg/EventArray RIHS01_4d9e7f80b4b36e539f2691dbbc8066ff7d58d64981df6cb2b04fd305ee436030
dvs_msgs/msg/EventArray RIHS01_0ea4aa5f4670adab1336550158b2e3c9bf60fe515a284c4215ed605bd559c995
prophesee_event_msgs/msg/EventArray RIHS01_9581cad55eb44695901e91e5b4483e859f082498085746d6dfb2a8f3bac7ce18
dv_ros2_msgs/msg/EventArray RIHS01_7229a714a38d8734ad1b620630deffc4e56cd8335ca90dac2aa5d0251f78178c
evk4_msg/msg/EventArray RIHS01_757c2eb3915bd49b047577d6a8d77d9ad9a2423b67c6a4f4dd3f32874e394a0c
""".strip().splitlines()  # noqa: E501 - a hash has no place to break
)


def _table() -> Mapping[str, MessageType]:
    messages: list[type[Message]] = [
        Time,
        Header,
        StringMessage,
        Clock,
        Image,
        CompressedImage,
        CameraInfo,
        DiagnosticArray,
        Log,
        Detection2DArray,
        Classification,
        LabelInfo,
        ParticipantEntitiesInfo,
        EventPacket,
    ]
    entries = [(m.TYPE, m, schema(m)) for m in messages]
    entries += [(EVENT_PACKET_TYPES[1], EventPacket, schema(EventPacket))]
    entries += [
        (f"{p}/msg/EventArray", EventArray, schema(EventArray).replace("dvs_msgs/", f"{p}/"))
        for p in EVENT_ARRAY_PACKAGES
    ]
    return MappingProxyType({n: MessageType(n, m, text, _HASHES[n]) for n, m, text in entries})


MESSAGE_TYPES = _table()
