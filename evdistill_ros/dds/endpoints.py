"""Publishers and subscriptions: raw CDR bytes in and out of one topic."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from ctypes import byref, c_void_p
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from evdistill_core.events.packet import Packet
from evdistill_core.foundation.errors import MessageError
from evdistill_core.messages.services import SERVICE_HASHES
from evdistill_core.messages.types import MESSAGE_TYPES
from evdistill_ros.dds import library as lib
from evdistill_ros.dds.domain import Domain
from evdistill_ros.dds.graph import Graph
from evdistill_ros.dds.library import DdsError, check, library
from evdistill_ros.dds.names import dds_topic, dds_type
from evdistill_ros.qos import QosProfile

MIN_MESSAGE_BYTES = 5  # CDR header and one byte: an empty ROS message has a byte too
MAX_BLOCKING_MS = 100
SETTLE_S = 0.2  # from our match to the other side's, on a loaded machine
"""How long a reliable publish waits for a slow subscriber before it gives up and counts."""

FAST_DDS_VENDOR = b"\x01\x0f"
"""First bytes of the guid of everything that Fast DDS makes (OMG vendor id)."""
PATIENCE_S = 10.0
"""How long a Fast DDS reader may leave samples unconfirmed before they are given up."""

_BATCH = 32
_PADDING = (ctypes.c_ubyte * 4)()


class Host(Protocol):
    """What an endpoint needs of its node."""

    graph: Graph
    participant: int
    domain_state: Domain

    def watch(self, entity: int, handler: Callable[[], None], mask: int | None = None) -> int:
        """Call the handler in the node's thread when the entity has news; return a key."""

    def unwatch(self, key: int, entity: int) -> None:
        """Stop calling."""

    def forget(self, endpoint: Publisher | Subscription) -> None:
        """Take an endpoint that was closed off the graph."""

    def warn(self, text: str) -> None:
        """Tell the user."""


class RawWriter:
    """A DDS writer of serialized bytes, without statuses or checks.

    Attributes:
        handle: DDS handle of the writer.
        topic: DDS handle of its topic, which must outlive every write.
    """

    def __init__(
        self,
        participant: int,
        dds_name: str,
        type_name: str,
        qos: QosProfile,
        max_blocking_ms: int = MAX_BLOCKING_MS,
    ) -> None:
        self.topic = _create_topic(participant, dds_name, type_name)
        policies = _dds_qos(qos, type_name, max_blocking_ms)
        self.handle = int(library().dds_create_writer(participant, self.topic, policies, None))
        library().dds_delete_qos(policies)
        check(self.handle, f"publish on {dds_name}")
        self._sertype = c_void_p()
        check(library().dds_get_entity_sertype(self.handle, byref(self._sertype)), "read a type")

    def write(self, view: npt.NDArray[np.uint8]) -> int:
        """Send the bytes, filled up to a multiple of 4 with zeros; return what DDS returned."""
        padding = -view.size % 4
        vectors = (lib.IoVec * 2)(
            lib.IoVec(view.__array_interface__["data"][0], view.size),
            lib.IoVec(ctypes.addressof(_PADDING), padding),
        )
        dds = library()
        serdata = dds.ddsi_serdata_from_ser_iov(
            self._sertype, lib.SDK_DATA, 2, vectors, view.size + padding
        )
        if not serdata:
            raise MessageError(f"DDS refused a message of {view.size} bytes")
        return int(dds.dds_writecdr(self.handle, serdata))


class Publisher:
    """Sends serialized messages on one topic; made by `DdsNode.create_publisher`.

    Attributes:
        topic: fully qualified ROS topic.
        type_name: ``pkg/msg/Type``.
        qos: the profile offered.
        sent: messages handed to DDS.
        timeouts: messages given up because a reliable subscriber did not keep up; only possible
            with a profile that keeps all.
        held_back: messages not sent because a reliable subscriber on Fast DDS has not confirmed
            the ``depth`` messages before, see ``_may_send``.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - a publisher's options
        self,
        node: Host,
        topic: str,
        type_name: str,
        qos: QosProfile,
        max_blocking_ms: int,
        dds_name: str = "",
    ) -> None:
        self.topic = topic
        self.type_name = type_name
        self.qos = qos
        self.sent = 0
        self.timeouts = 0
        self.held_back = 0
        self._node = node
        self._has_fast_dds = False
        self._unconfirmed = 0
        self._confirmed_s = time.monotonic()
        self._gate = _Gate()
        self._writer = RawWriter(
            node.participant, dds_name or dds_topic(topic), type_name, qos, max_blocking_ms
        )
        self.guid = lib.guid_of(self._writer.handle)
        mask = lib.OFFERED_INCOMPATIBLE_QOS | lib.PUBLICATION_MATCHED
        self._key = node.watch(self._writer.handle, self._on_status, mask)

    def publish(self, data: bytes | bytearray | memoryview | npt.NDArray[np.uint8]) -> bool:
        """Send one message.

        Args:
            data: serialized message with its 4 byte CDR header, little endian; any contiguous
                bytes. Not modified and not kept. Padded to 4 bytes with zeros, as ROS does.

        Returns:
            False when the message was dropped, counted: the profile keeps all and reliable
            subscribers were too slow for ``max_blocking_ms`` (``timeouts``), or one on Fast DDS
            lags behind (``held_back``). Else True.

        Raises:
            MessageError: ``data`` is no little-endian CDR message.
            DdsError: the publisher is closed.
        """
        view = np.frombuffer(data, np.uint8)
        if view.size < MIN_MESSAGE_BYTES or view[0] != 0 or view[1] != 1:
            raise MessageError(
                f"{self.topic}: a message needs the CDR header 00 01 00 00 and at least one byte, "
                f"got {view.size} bytes starting with {bytes(view[:4]).hex(' ')!r}"
            )
        self._gate.enter(f"publisher of {self.topic}")
        try:
            if self._has_fast_dds and not self._may_send():
                self.held_back += 1
                return False
            returned = self._writer.write(view)
        finally:
            self._gate.leave()
        if returned == lib.TIMEOUT:
            self.timeouts += 1
            return False
        check(returned, f"publish on {self.topic}")
        self.sent += 1
        return True

    def _may_send(self) -> bool:
        """Tell whether the next message pushes none out that a Fast DDS reader waits for.

        Fast DDS 2.14 never returns from a take after a GAP for a message of which it holds some
        fragments (StatefulReader::processGapMsg forgets it in the history alone, the reader's
        list of samples keeps the pointer). Cyclone sends that GAP when a message was lost on the
        way and newer ones have replaced it here. So nothing is replaced before it is confirmed,
        unless nothing was confirmed for so long that the reader must be dead.
        """
        if library().dds_wait_for_acks(self._writer.handle, 0) == lib.OK:
            self._unconfirmed = 0
            self._confirmed_s = time.monotonic()
        is_dead = time.monotonic() - self._confirmed_s > PATIENCE_S
        if self.qos.depth and self._unconfirmed >= self.qos.depth and not is_dead:
            return False
        self._unconfirmed += 1
        return True

    def _subscriber_guids(self) -> list[bytes]:
        """Return the 16 bytes that name each subscriber."""
        dds, handle = library(), self._writer.handle
        count = max(0, int(dds.dds_get_matched_subscriptions(handle, None, 0)))
        handles = (ctypes.c_uint64 * max(count, 1))()
        count = min(count, int(dds.dds_get_matched_subscriptions(handle, handles, count)))
        guids = []
        for subscriber in handles[: max(count, 0)]:
            found = dds.dds_get_matched_subscription_data(handle, subscriber)
            if found:
                guids.append(bytes(found.contents.key))
                dds.dds_builtintopic_free_endpoint(found)
        return guids

    @property
    def matched_count(self) -> int:
        """Subscribers that receive what is published."""
        if self._gate.closed:
            return 0
        return max(0, int(library().dds_get_matched_subscriptions(self._writer.handle, None, 0)))

    def wait_for_subscriber(self, timeout_s: float | None = None) -> bool:
        """Wait until somebody receives; return whether somebody does. ``None`` is for ever.

        Both sides learn of each other at their own time, and nobody tells a best-effort writer
        that the reader knows it too; so a moment passes after our side has its match.
        """
        if not self._node.graph.wait(lambda: self.matched_count > 0, timeout_s):
            return False
        time.sleep(SETTLE_S)
        return True

    def wait_for_acks(self, timeout_s: float) -> bool:
        """Wait until all reliable subscribers have everything; return whether they have."""
        return bool(
            library().dds_wait_for_acks(self._writer.handle, int(timeout_s * 1e9)) == lib.OK
        )

    def close(self) -> None:
        """Leave the topic, after a publish that waits in another thread. Idempotent."""
        if not self._gate.shut():
            return
        self._node.unwatch(self._key, self._writer.handle)
        # Cyclone lets a waiting write end first, which takes max_blocking_ms at most.
        library().dds_delete(self._writer.handle)
        self._gate.wait_empty()
        library().dds_delete(self._writer.topic)
        self._node.forget(self)

    def _on_status(self) -> None:
        dds = library()
        matched = lib.MatchedStatus()
        dds.dds_get_publication_matched_status(self._writer.handle, byref(matched))
        vendors = {guid[: len(FAST_DDS_VENDOR)] for guid in self._subscriber_guids()}
        if FAST_DDS_VENDOR in vendors and not self._has_fast_dds:
            self._confirmed_s = time.monotonic()
        self._has_fast_dds = FAST_DDS_VENDOR in vendors
        status = lib.IncompatibleQosStatus()
        dds.dds_get_offered_incompatible_qos_status(self._writer.handle, byref(status))
        if status.total_count_change > 0:
            policy = lib.POLICY_NAMES.get(status.last_policy_id, "another policy")
            self._node.warn(
                f"{self.topic}: a subscriber asks for a {policy} that this publisher does not "
                f"offer ({_describe(self.qos)}) and receives nothing: subscribe with "
                f"{_describe(self.qos)}"
            )
        self._node.graph.notify()


class Subscription:
    """Receives serialized messages of one topic; made by `DdsNode.create_subscription`.

    Attributes:
        topic: fully qualified ROS topic.
        type_name: ``pkg/msg/Type``.
        qos: the profile requested.
        received: messages given to the callback.
        lost: messages that DDS knows to be lost on the way. What a best-effort publisher never
            managed to send is not among them: watch ``seq`` for that.
        incompatible: why a publisher does not match, "" while none is known.
        sender: DDS handle of the publisher of the message that the callback has now.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - a subscription's options
        self,
        node: Host,
        topic: str,
        type_name: str,
        qos: QosProfile,
        callback: Callable[[Packet], None],
        dds_name: str = "",
    ) -> None:
        self.topic = topic
        self.type_name = type_name
        self.qos = qos
        self.received = 0
        self.lost = 0
        self.incompatible = ""
        self.sender = 0
        self._node = node
        self._callback = callback
        self._lock = threading.RLock()  # close() waits for a callback, but may be called in one
        self._closed = False
        self._buffers = (c_void_p * _BATCH)()
        self._infos = (lib.SampleInfo * _BATCH)()
        self._topic = _create_topic(node.participant, dds_name or dds_topic(topic), type_name)
        policies = _dds_qos(qos, type_name)
        self._reader = library().dds_create_reader(node.participant, self._topic, policies, None)
        library().dds_delete_qos(policies)
        check(self._reader, f"subscribe to {topic}")
        self.guid = lib.guid_of(self._reader)
        mask = lib.REQUESTED_INCOMPATIBLE_QOS | lib.SAMPLE_LOST | lib.SUBSCRIPTION_MATCHED
        self._status_key = node.watch(self._reader, self._on_status, mask)
        self._condition = check(
            library().dds_create_readcondition(self._reader, lib.ANY_STATE), "wait for messages"
        )
        self._data_key = node.watch(self._condition, self._on_data)

    @property
    def matched_count(self) -> int:
        """Publishers that this subscription receives from."""
        if self._closed:
            return 0
        return max(0, int(library().dds_get_matched_publications(self._reader, None, 0)))

    def sender_guid(self) -> bytes:
        """Return the 16 bytes that name ``sender``; empty when it has left."""
        found = library().dds_get_matched_publication_data(self._reader, self.sender)
        if not found:
            return b""
        guid = bytes(found.contents.key)
        library().dds_builtintopic_free_endpoint(found)
        return guid

    def wait_for_publisher(self, timeout_s: float | None = None) -> bool:
        """Wait until a publisher matches; return whether one does. ``None`` is for ever."""
        return self._node.graph.wait(lambda: self.matched_count > 0, timeout_s)

    def close(self) -> None:
        """Stop receiving; no callback runs after this returns. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._node.unwatch(self._data_key, self._condition)
            self._node.unwatch(self._status_key, self._reader)
            library().dds_delete(self._reader)
            library().dds_delete(self._topic)
        self._node.forget(self)

    def _on_data(self) -> None:
        with self._lock:
            if self._closed:
                return
            count = library().dds_takecdr(
                self._reader, self._buffers, _BATCH, self._infos, lib.ANY_STATE
            )
            check(count, f"take messages of {self.topic}")
            receive_time_ns = time.time_ns()
            samples = [
                self._adopt(self._buffers[i] or 0, self._infos[i].valid_data) for i in range(count)
            ]
            senders = [info.publication_handle for info in self._infos[:count]]
            for sample, sender in zip(samples, senders, strict=True):
                if sample is None or self._closed:
                    continue
                self.received += 1
                self.sender = sender
                self._callback(Packet(self.type_name, sample, receive_time_ns, self.topic))

    def _adopt(self, serdata: int, valid: bool) -> memoryview | None:
        """Return the bytes of a message without a copy; ``None`` for "the writer has left"."""
        if not valid:
            library().ddsi_serdata_unref(serdata)
            return None
        array: npt.NDArray[np.uint8] = np.asarray(_Sample(serdata, self._node.domain_state))
        return array.data

    def _on_status(self) -> None:
        dds = library()
        matched, lost = lib.MatchedStatus(), lib.SampleLostStatus()
        dds.dds_get_subscription_matched_status(self._reader, byref(matched))
        if dds.dds_get_sample_lost_status(self._reader, byref(lost)) == lib.OK:
            self.lost = int(lost.total_count)
        status = lib.IncompatibleQosStatus()
        dds.dds_get_requested_incompatible_qos_status(self._reader, byref(status))
        if status.total_count_change > 0:
            policy = lib.POLICY_NAMES.get(status.last_policy_id, "another policy")
            self.incompatible = _requested_cure(policy)
            self._node.warn(f"{self.topic}: nothing is received, {self.incompatible}")
        self._node.graph.notify()


class _Sample:
    """One received message; NumPy reads its memory, and its end returns it to DDS."""

    __slots__ = ("__array_interface__", "_domain", "_reference", "_unref", "_vector")

    def __init__(self, serdata: int, domain: Domain) -> None:
        dds = library()
        size = dds.ddsi_serdata_size(serdata)
        self._vector = lib.IoVec()
        self._reference = dds.ddsi_serdata_to_ser_ref(serdata, 0, size, byref(self._vector))
        dds.ddsi_serdata_unref(serdata)
        self._unref = dds.ddsi_serdata_to_ser_unref
        self._domain = domain
        domain.views.add(id(self))
        self.__array_interface__: dict[str, Any] = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (self._vector.base, True),  # read-only
            "version": 3,
        }

    def __del__(self) -> None:
        self._unref(self._reference, byref(self._vector))
        self._domain.views.discard(id(self))


class _Gate:
    """Lets calls in until it is shut, and tells when the last one is out."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self.closed = False

    def enter(self, what: str) -> None:
        with self._changed:
            if self.closed:
                raise DdsError(f"{what} is closed")
            self._inside += 1

    def leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def shut(self) -> bool:
        with self._changed:
            was_open = not self.closed
            self.closed = True
            return was_open

    def wait_empty(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._inside == 0)


def _create_topic(participant: int, dds_name: str, type_name: str) -> int:
    descriptor = lib.opaque_descriptor(dds_type(type_name))
    return check(
        library().dds_create_topic(participant, byref(descriptor), dds_name.encode(), None, None),
        f"create topic {dds_name} of type {type_name}",
    )


def _dds_qos(profile: QosProfile, type_name: str, blocking_ms: int = 0) -> int:
    """Return DDS policies as rmw_cyclonedds sets them; free with ``dds_delete_qos``."""
    dds = library()
    qos = dds.dds_create_qos()
    dds.dds_qset_writer_data_lifecycle(qos, False)
    history = (0, profile.depth) if profile.depth else (1, -1)  # keep last, keep all
    dds.dds_qset_history(qos, *history)
    dds.dds_qset_reliability(qos, int(profile.reliability == "reliable"), blocking_ms * 1_000_000)
    if profile.durability == "transient_local":
        dds.dds_qset_durability(qos, 1)
        dds.dds_qset_durability_service(qos, 0, *history, -1, -1, -1)
    if profile.lifespan_ms is not None:
        dds.dds_qset_lifespan(qos, profile.lifespan_ms * 1_000_000)
    known = MESSAGE_TYPES.get(type_name)
    type_hash = SERVICE_HASHES.get(type_name, "") if known is None else known.type_hash
    if type_hash:
        text = f"typehash={type_hash};".encode()
        dds.dds_qset_userdata(qos, text, len(text))
    return int(qos)


def _describe(qos: QosProfile) -> str:
    return f"{qos.reliability}, {qos.durability}"


def _requested_cure(policy: str) -> str:
    if policy == "reliability":
        return (
            "the publisher is best_effort and this subscriber asks for reliable: "
            "subscribe with best_effort"
        )
    if policy == "durability":
        return (
            "the publisher is volatile and this subscriber asks for transient_local: "
            "subscribe with volatile"
        )
    return f"the publisher does not offer the {policy} asked for"
