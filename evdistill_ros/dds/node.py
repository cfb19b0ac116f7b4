"""A ROS 2 node without ROS: publishers, subscriptions and one thread that serves them.

    with DdsNode("viewer") as node:
        node.create_subscription("/event_camera/events", "event_camera_msgs/msg/EventPacket",
                                 qos.EVENTS, lambda packet: print(len(packet.data)))

Bytes go in and out as they are on the wire, with their CDR header. Callbacks run in the node's own
thread (a DDS waitset), one at a time, never in a receive thread of DDS.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from ctypes import c_ssize_t

import numpy as np

from evdistill_core.events.packet import Packet
from evdistill_core.messages.services import ServiceType
from evdistill_ros import qos as profiles
from evdistill_ros.dds import library as lib
from evdistill_ros.dds.domain import Domain, discovery_warnings, join_domain, leave_domain
from evdistill_ros.dds.endpoints import MAX_BLOCKING_MS, Publisher, RawWriter, Subscription
from evdistill_ros.dds.graph import (
    GRAPH_TOPIC,
    GRAPH_TYPE,
    Endpoint,
    Graph,
    create_builtin_reader,
    participant_info,
)
from evdistill_ros.dds.library import DdsError, check, library
from evdistill_ros.dds.names import check_namespace, check_node_name, resolve_topic
from evdistill_ros.dds.services import Handler, Service
from evdistill_ros.qos import QosProfile

_log = logging.getLogger("evdistill.dds")

_MAX_EVENTS = 64

_open_nodes: weakref.WeakSet[DdsNode] = weakref.WeakSet()


class DdsNode:
    """A node in the ROS 2 graph.

    Args:
        name: node name.
        namespace: "/" or e.g. "/robot1".
        domain: DDS domain; ``None`` takes ROS_DOMAIN_ID. Discovery follows
            ROS_AUTOMATIC_DISCOVERY_RANGE, ROS_STATIC_PEERS, ROS_LOCALHOST_ONLY, CYCLONEDDS_URI.
        remaps: topic rules ``from -> to``, e.g. ``{"~/events": "/event_camera/events"}``.
        qos_overrides: of topics by their full names; win over what endpoints are created with.
        on_warning: told about what a user should know (incompatible QoS with its cure, another
            type on the topic, an RMW that DDS does not see); the log by default.

    Raises:
        ConfigError: a name or the environment is wrong.
        DdsError: DDS is not there or refused.
    """

    def __init__(  # noqa: PLR0913 - the options of a node
        self,
        name: str,
        namespace: str = "/",
        *,
        domain: int | None = None,
        remaps: Mapping[str, str] | None = None,
        qos_overrides: profiles.QosOverrides | None = None,
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        self.name = check_node_name(name)
        self.namespace = check_namespace(namespace)
        self.graph = Graph()
        self.failure: BaseException | None = None
        self._remaps = dict(remaps or {})
        self._qos_overrides = qos_overrides or profiles.QosOverrides()
        self._on_warning = on_warning or _log.warning
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._closed = False
        self._endpoints: list[Publisher | Subscription] = []
        self._handlers: dict[int, Callable[[], None]] = {}
        self._next_key = 1
        for warning in discovery_warnings():
            self.warn(warning)
        self.domain_state: Domain = join_domain(domain)
        try:
            self.participant = _create_participant(self.domain_state.number)
        except DdsError:
            leave_domain(self.domain_state)
            raise
        self._start()

    def _start(self) -> None:
        dds = library()
        self._waitset = check(dds.dds_create_waitset(self.participant), "wait for events")
        self._guard = check(dds.dds_create_guardcondition(self.participant), "wait for events")
        self.watch(self._guard, lambda: None)
        self.graph.on_found.append(self._check_type)
        for publications in (True, False):
            reader = create_builtin_reader(self.participant, publications=publications)
            condition = check(dds.dds_create_readcondition(reader, lib.ANY_STATE), "wait")
            self.watch(condition, self._graph_handler(reader, publications))
        self._guid = lib.guid_of(self.participant)
        self._entry = RawWriter(self.participant, GRAPH_TOPIC, GRAPH_TYPE, profiles.GRAPH)
        self._announce()
        self._thread = threading.Thread(target=self._serve, name=f"dds {self.name}", daemon=True)
        self._thread.start()
        _open_nodes.add(self)

    def __enter__(self) -> DdsNode:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def domain(self) -> int:
        """The DDS domain."""
        return self.domain_state.number

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def fully_qualified_name(self) -> str:
        """Namespace and name, as ``ros2 node list`` prints them."""
        return f"{self.namespace.rstrip('/')}/{self.name}"

    def resolve(self, topic: str) -> str:
        """Return the fully qualified and remapped name of a topic of this node."""
        return resolve_topic(topic, self.name, self.namespace, self._remaps)

    def create_publisher(
        self,
        topic: str,
        type_name: str,
        qos: QosProfile = profiles.DEFAULT,
        *,
        max_blocking_ms: int = MAX_BLOCKING_MS,
    ) -> Publisher:
        """Return a publisher.

        Args:
            topic: absolute, relative or private (``~/mask``).
            type_name: ``pkg/msg/Type``.
            qos: what is offered.
            max_blocking_ms: longest wait of a reliable publish that keeps all (``depth`` 0).

        Raises:
            ConfigError: a name is wrong.
            DdsError: the node is closed or DDS refused.
        """
        with self._lock:
            self._check_open()
            name = self.resolve(topic)
            qos = self._qos_overrides.apply(qos, name, "publisher")
            publisher = Publisher(self, name, type_name, qos, max_blocking_ms)
            self._endpoints.append(publisher)
            self._announce()
        return publisher

    def create_subscription(
        self,
        topic: str,
        type_name: str,
        qos: QosProfile,
        callback: Callable[[Packet], None],
    ) -> Subscription:
        """Return a subscription.

        Args:
            topic: absolute, relative or private (``~/events``).
            type_name: ``pkg/msg/Type``; see `wait_for_publisher` when it is not known.
            qos: what is asked for.
            callback: called in the node's thread. The packet's data is read-only memory of DDS
                without a copy; it lives as long as it is referenced. Keep the callback short:
                hand the packet on to another thread.

        Raises:
            ConfigError: a name is wrong.
            DdsError: the node is closed or DDS refused.
        """
        with self._lock:
            self._check_open()
            name = self.resolve(topic)
            qos = self._qos_overrides.apply(qos, name, "subscription")
            subscription = Subscription(self, name, type_name, qos, callback)
            self._endpoints.append(subscription)
            self._announce()
        return subscription

    def create_service(
        self, name: str, service: ServiceType, handler: Handler, qos: QosProfile = profiles.DEFAULT
    ) -> Service:
        """Return a service; clients on rmw_cyclonedds can call it, see `Service`.

        Args:
            name: absolute, relative or private (``~/reset``).
            service: its type.
            handler: called in the node's thread with each request; returns the response.
            qos: of requests and replies.

        Raises:
            ConfigError: a name is wrong.
            DdsError: the node is closed or DDS refused.
        """
        with self._lock:
            self._check_open()
            made = Service(self, self.resolve(name), service, qos, handler)
            self._endpoints += [made.replies, made.requests]
            self._announce()
        return made

    def find_topic(self, topic: str) -> list[Endpoint]:
        """Return the publishers of a topic that are known now, with type and QoS."""
        return self.graph.publishers(self.resolve(topic))

    def wait_for_publisher(self, topic: str, timeout_s: float | None = None) -> list[Endpoint]:
        """Wait until a topic has a publisher, e.g. to subscribe with its type.

        Args:
            topic: absolute, relative or private.
            timeout_s: longest wait; ``None`` is for ever.

        Returns:
            Its publishers; empty when none has come.
        """
        name = self.resolve(topic)
        self.graph.wait(lambda: bool(self.graph.publishers(name)) or self._closed, timeout_s)
        return self.graph.publishers(name)

    def close(self) -> None:
        """Leave the graph; what others see of this node disappears at once. Idempotent."""
        if os.getpid() != self._pid:
            return  # a forked child shares no DDS threads with us: nothing to close
        with self._lock:
            if self._closed:
                return
            self._closed = True
            endpoints = list(self._endpoints)
        for endpoint in endpoints:
            endpoint.close()
        library().dds_set_guardcondition(self._guard, True)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        library().dds_delete(self.participant)
        leave_domain(self.domain_state)
        self.graph.notify()
        _open_nodes.discard(self)

    def _serve(self) -> None:
        """Wait for messages, matches and discovery until the node is closed."""
        dds = library()
        keys = (c_ssize_t * _MAX_EVENTS)()
        try:
            while not self._closed:
                count = dds.dds_waitset_wait(self._waitset, keys, _MAX_EVENTS, lib.INFINITY_NS)
                check(count, "wait for events")
                for key in keys[: min(count, _MAX_EVENTS)]:
                    handler = self._handlers.get(key)
                    if handler is not None and not self._closed:
                        handler()
        except BaseException as error:
            self.failure = error  # a deaf node must not look like a quiet topic
            self.graph.notify()
            raise

    def watch(self, entity: int, handler: Callable[[], None], mask: int | None = None) -> int:
        """Call the handler in the node's thread when a DDS entity has news (for endpoints)."""
        with self._lock:
            key = self._next_key
            self._next_key += 1
            self._handlers[key] = handler
        dds = library()
        if mask is not None:
            check(dds.dds_set_status_mask(entity, mask), "watch a status")
        check(dds.dds_waitset_attach(self._waitset, entity, key), "wait for events")
        return key

    def unwatch(self, key: int, entity: int) -> None:
        """Undo `watch`."""
        self._handlers.pop(key, None)
        library().dds_waitset_detach(self._waitset, entity)

    def forget(self, endpoint: Publisher | Subscription) -> None:
        """Take an endpoint that was closed off the graph."""
        with self._lock:
            if endpoint in self._endpoints:
                self._endpoints.remove(endpoint)
            if not self._closed:
                self._announce()

    def _announce(self) -> None:
        readers = [e.guid for e in self._endpoints if isinstance(e, Subscription)]
        writers = [e.guid for e in self._endpoints if isinstance(e, Publisher)]
        data = participant_info(self._guid, self.namespace, self.name, readers, writers)
        check(self._entry.write(np.frombuffer(data, np.uint8)), "announce the node")

    def _graph_handler(self, reader: int, publications: bool) -> Callable[[], None]:
        return lambda: self.graph.take(reader, is_publisher=publications)

    def _check_type(self, endpoint: Endpoint) -> None:
        for own in list(self._endpoints):
            if own.topic == endpoint.topic and own.type_name != endpoint.type_name:
                self.warn(
                    f"{own.topic}: this node uses {own.type_name}, another one "
                    f"{endpoint.type_name}; they do not connect"
                )

    def _check_open(self) -> None:
        if self._closed:
            raise DdsError(f"node {self.fully_qualified_name} is closed")
        if os.getpid() != self._pid:
            raise DdsError("a DDS node does not survive fork(): create it in the child process")

    def warn(self, text: str) -> None:
        """Tell the user something that keeps messages from flowing."""
        self._on_warning(text)


def _create_participant(domain: int) -> int:
    dds = library()
    qos = dds.dds_create_qos()
    enclave = b"enclave=/;"
    dds.dds_qset_userdata(qos, enclave, len(enclave))
    try:
        return check(dds.dds_create_participant(domain, qos, None), f"join domain {domain}")
    finally:
        dds.dds_delete_qos(qos)


def _close_all() -> None:
    for node in list(_open_nodes):
        node.close()


atexit.register(_close_all)
