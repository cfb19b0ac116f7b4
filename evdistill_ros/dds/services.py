"""Services for clients on rmw_cyclonedds; made by `DdsNode.create_service`.

ROS does not say how a reply finds its client, and each RMW does it in its own way. rmw_cyclonedds
puts 16 bytes in front of request and reply (client, sequence number; ``serdata.hpp``).
rmw_fastrtps puts nothing there and sends the same in RTPS parameters, which the interface of
Cyclone neither shows nor sets. So requests of others are recognised by the vendor in the guid of
their writer, counted, and not answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evdistill_core.events.packet import Packet
from evdistill_core.foundation.errors import MessageError
from evdistill_core.messages.cdr import HEADER_BYTES
from evdistill_core.messages.services import ServiceType
from evdistill_ros.dds.endpoints import MAX_BLOCKING_MS, Host, Publisher, Subscription
from evdistill_ros.dds.names import dds_reply_topic, dds_request_topic
from evdistill_ros.qos import QosProfile

CYCLONE_VENDOR = b"\x01\x10"
"""First bytes of the guid of everything that Cyclone DDS makes (OMG vendor id)."""
_CLIENT_BYTES = 16

Handler = Callable[[Any], Any]
"""Takes a request message and returns the response message."""


class Service:
    """Answers the requests of one service.

    Attributes:
        name: fully qualified.
        requests: reads them.
        replies: sends the answers.
        answered: requests that got an answer.
        damaged: requests that could not be read.
        foreign: requests of clients on another RMW.

    Args:
        node: in whose thread the handler runs.
        name: fully qualified.
        service: its type.
        qos: of both topics.
        handler: makes the response.
    """

    def __init__(
        self, node: Host, name: str, service: ServiceType, qos: QosProfile, handler: Handler
    ) -> None:
        self.name = name
        self.answered = self.damaged = self.foreign = 0
        self._node = node
        self._type = service
        self._handler = handler
        self.replies = Publisher(
            node, name, service.response.TYPE, qos, MAX_BLOCKING_MS, dds_reply_topic(name)
        )
        self.requests = Subscription(
            node, name, service.request.TYPE, qos, self._take, dds_request_topic(name)
        )

    def _take(self, packet: Packet) -> None:
        if self.requests.sender_guid()[: len(CYCLONE_VENDOR)] != CYCLONE_VENDOR:
            self.foreign += 1
            if self.foreign == 1:
                self._node.warn(
                    f"a client on another RMW asks for {self.name} and gets no answer: run it with "
                    "RMW_IMPLEMENTATION=rmw_cyclonedds_cpp"
                )
            return
        data = memoryview(packet.data)
        split = HEADER_BYTES + _CLIENT_BYTES
        try:
            request = self._type.request.parse(bytes(data[:HEADER_BYTES]) + bytes(data[split:]))
        except MessageError:
            self.damaged += 1
            return
        reply = self._handler(request).serialize()
        client = bytes(data[HEADER_BYTES:split])
        self.replies.publish(reply[:HEADER_BYTES] + client + reply[HEADER_BYTES:])
        self.answered += 1
