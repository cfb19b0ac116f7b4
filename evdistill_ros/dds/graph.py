"""Who is in the graph: endpoints found by DDS, and our own entry for ``ros2 node list``."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from ctypes import byref, c_int32, c_int64, c_size_t, c_void_p
from dataclasses import dataclass, field

from evdistill_core.messages.discovery import (
    Gid,
    Gid24,
    NodeEntitiesInfo,
    ParticipantEntitiesInfo,
)
from evdistill_ros.dds.library import (
    BUILTIN_PUBLICATION,
    BUILTIN_SUBSCRIPTION,
    BuiltinEndpoint,
    SampleInfo,
    check,
    library,
)
from evdistill_ros.dds.names import ros_topic, ros_type
from evdistill_ros.qos import Durability, QosProfile, Reliability

GRAPH_TOPIC = "ros_discovery_info"
GRAPH_TYPE = ParticipantEntitiesInfo.TYPE

_ALIVE = 16
_BATCH = 64


@dataclass(frozen=True)
class Endpoint:
    """One publisher or subscriber of a ROS topic, ours included.

    Attributes:
        guid: 16 bytes that name it on the network.
        participant: guid of its participant, in ROS terms of its process.
        topic: fully qualified ROS topic.
        type_name: ``pkg/msg/Type``.
        qos: what it offers or requests. DDS does not tell the depth of others: it reads 1.
        type_hash: RIHS01 hash, "" when it does not send one (Humble, plain DDS programs).
        is_publisher: publisher or subscriber.
    """

    guid: bytes
    participant: bytes
    topic: str
    type_name: str
    qos: QosProfile
    type_hash: str
    is_publisher: bool


@dataclass
class Graph:
    """The endpoints of the domain, kept up to date by the node's thread.

    Attributes:
        changed: notified after every change, also of matches.
        on_found: called for every endpoint that appears.
    """

    changed: threading.Condition = field(default_factory=threading.Condition)
    on_found: list[Callable[[Endpoint], None]] = field(default_factory=list)
    _endpoints: dict[bytes, Endpoint] = field(default_factory=dict)

    def publishers(self, topic: str) -> list[Endpoint]:
        """Return the publishers of a fully qualified topic that are known now."""
        return self._select(topic, is_publisher=True)

    def subscribers(self, topic: str) -> list[Endpoint]:
        """Return the subscribers of a fully qualified topic that are known now."""
        return self._select(topic, is_publisher=False)

    def topics(self) -> dict[str, set[str]]:
        """Return all topics known now with their type names."""
        found: dict[str, set[str]] = {}
        with self.changed:
            for endpoint in self._endpoints.values():
                found.setdefault(endpoint.topic, set()).add(endpoint.type_name)
        return found

    def wait(self, predicate: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait until the predicate holds; return whether it does. ``None`` waits for ever."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self.changed:
            while not predicate():
                # Short slices: a waiting main thread must stay open to Ctrl-C.
                left = 0.5 if deadline is None else min(0.5, deadline - time.monotonic())
                if left <= 0:
                    return False
                self.changed.wait(left)
        return True

    def notify(self) -> None:
        """Wake whoever waits: a match has come or gone."""
        with self.changed:
            self.changed.notify_all()

    def take(self, reader: int, *, is_publisher: bool) -> None:
        """Read what a built-in reader has to tell."""
        dds = library()
        samples = (c_void_p * _BATCH)()
        infos = (SampleInfo * _BATCH)()
        count = dds.dds_take(reader, samples, infos, _BATCH, _BATCH)
        if count <= 0:
            return
        found = []
        with self.changed:
            for address, info in zip(samples[:count], infos[:count], strict=True):
                raw = BuiltinEndpoint.from_address(address or 0)  # never null: count says so
                if info.valid_data and info.instance_state == _ALIVE:
                    endpoint = _read_endpoint(raw, is_publisher=is_publisher)
                    if endpoint is not None:
                        self._endpoints[endpoint.guid] = endpoint
                        found.append(endpoint)
                else:
                    self._endpoints.pop(bytes(raw.key), None)
            self.changed.notify_all()
        dds.dds_return_loan(reader, samples, count)
        for endpoint in found:
            for callback in self.on_found:
                callback(endpoint)

    def _select(self, topic: str, *, is_publisher: bool) -> list[Endpoint]:
        with self.changed:
            return [
                e
                for e in self._endpoints.values()
                if e.topic == topic and e.is_publisher == is_publisher
            ]


def create_builtin_reader(participant: int, *, publications: bool) -> int:
    """Return a DDS reader of all publishers, or of all subscribers, of the domain."""
    topic = BUILTIN_PUBLICATION if publications else BUILTIN_SUBSCRIPTION
    return check(
        library().dds_create_reader(participant, topic, None, None), "read the list of endpoints"
    )


def participant_info(
    participant: bytes, namespace: str, name: str, readers: list[bytes], writers: list[bytes]
) -> bytes:
    """Return what a process with one node says of itself on ``ros_discovery_info``.

    Args:
        participant: guid of the participant, 16 bytes.
        namespace: with its leading slash.
        name: node name.
        readers: guids of its subscriptions.
        writers: guids of its publishers.

    Returns:
        The serialized message; its gids have 24 bytes on Humble (by ROS_DISTRO), else 16.
    """
    gid = _gid24 if os.environ.get("ROS_DISTRO") == "humble" else Gid
    node = NodeEntitiesInfo(namespace, name, [gid(g) for g in readers], [gid(g) for g in writers])
    return ParticipantEntitiesInfo(gid(participant), [node]).serialize()


def _gid24(guid: bytes) -> Gid24:
    return Gid24(guid.ljust(24, b"\0"))


def _read_endpoint(raw: BuiltinEndpoint, *, is_publisher: bool) -> Endpoint | None:
    topic = ros_topic(raw.topic_name.decode(errors="replace")) if raw.topic_name else None
    type_name = ros_type(raw.type_name.decode(errors="replace")) if raw.type_name else None
    if topic is None or type_name is None or not raw.qos:
        return None
    return Endpoint(
        guid=bytes(raw.key),
        participant=bytes(raw.participant_key),
        topic=topic,
        type_name=type_name,
        qos=_read_qos(raw.qos),
        type_hash=_read_type_hash(raw.qos),
        is_publisher=is_publisher,
    )


def _read_qos(qos: int) -> QosProfile:
    dds = library()
    kind, depth, blocking = ctypes.c_int(0), c_int32(1), c_int64(0)
    reliability: Reliability = "best_effort"
    durability: Durability = "volatile"
    if dds.dds_qget_reliability(qos, byref(kind), byref(blocking)) and kind.value:
        reliability = "reliable"
    if dds.dds_qget_durability(qos, byref(kind)) and kind.value:
        durability = "transient_local"
    dds.dds_qget_history(qos, byref(kind), byref(depth))
    return QosProfile(reliability=reliability, durability=durability, depth=max(depth.value, 1))


def _read_type_hash(qos: int) -> str:
    dds = library()
    pointer, size = c_void_p(), c_size_t()
    if not dds.dds_qget_userdata(qos, byref(pointer), byref(size)) or not pointer.value:
        return ""
    text = ctypes.string_at(pointer.value, size.value).decode(errors="replace")
    dds.dds_free(pointer)
    fields = dict(part.partition("=")[::2] for part in text.split(";"))
    return fields.get("typehash", "")
