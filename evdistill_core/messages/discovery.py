"""What a process says of its nodes on ``ros_discovery_info``.

The identifier of an endpoint takes 16 bytes from Iron on and 24 (zeros behind) on Humble. ROS
declares it as ``char[16]``, which its type descriptions treat as ``uint8[16]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from evdistill_core.messages.message import Message, Octets, Text

Name = Annotated[str, Text(256)]


@dataclass(frozen=True)
class Gid(Message):
    """Identifier of a participant or an endpoint, Iron and later."""

    TYPE: ClassVar[str] = "rmw_dds_common/msg/Gid"

    data: Annotated[bytes, Octets(16)] = bytes(16)


@dataclass(frozen=True)
class Gid24(Gid):
    """The same on Humble; it goes into the messages below in place of a ``Gid``, for writing."""

    data: Annotated[bytes, Octets(24)] = bytes(24)


@dataclass(frozen=True)
class NodeEntitiesInfo(Message):
    """One node with the endpoints that are its own; the namespace is "/", never empty."""

    TYPE: ClassVar[str] = "rmw_dds_common/msg/NodeEntitiesInfo"

    node_namespace: Name = "/"
    node_name: Name = ""
    reader_gid_seq: Sequence[Gid] = ()
    writer_gid_seq: Sequence[Gid] = ()


@dataclass(frozen=True)
class ParticipantEntitiesInfo(Message):
    """All nodes of one participant."""

    TYPE: ClassVar[str] = "rmw_dds_common/msg/ParticipantEntitiesInfo"

    gid: Gid = Gid()
    node_entities_info_seq: Sequence[NodeEntitiesInfo] = ()
