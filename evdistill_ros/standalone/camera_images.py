"""The images of the event camera, raw or compressed, whichever somebody publishes."""

from __future__ import annotations

from collections.abc import Callable

from evdistill_core.events.packet import Packet
from evdistill_core.messages.standard import CompressedImage, Image
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode, Subscription

COMPRESSED = "/compressed"
"""What image_transport appends to the name of a raw topic."""


class CameraImages:
    """Subscribes to a topic with the type that it has; to its compressed copy if it has none.

    Args:
        node: subscribes; stays the caller's.
        topic: where images are expected.
        take: gets each message.
        log: told the topic when it is another than expected.
    """

    def __init__(
        self,
        node: DdsNode,
        topic: str,
        take: Callable[[Packet], None],
        log: Callable[[str], None],
    ) -> None:
        self._node = node
        self._topic = node.resolve(topic)
        self._take = take
        self._log = log
        self._source = (self._topic, Image.TYPE)
        self._subscription = self._subscribe(*(self._found() or self._source))

    def follow(self) -> None:
        """Change to what is published now, if that is something else."""
        found = self._found()
        if found is not None and found != self._source:
            self._subscription.close()
            self._subscription = self._subscribe(*found)

    def _found(self) -> tuple[str, str] | None:
        """Return topic and type of the best source; None: nobody publishes images."""
        candidates = (
            (self._topic, Image.TYPE),
            (self._topic, CompressedImage.TYPE),
            (self._topic + COMPRESSED, CompressedImage.TYPE),
        )
        for topic, type_name in candidates:
            if any(e.type_name == type_name for e in self._node.graph.publishers(topic)):
                return topic, type_name
        return None

    def _subscribe(self, topic: str, type_name: str) -> Subscription:
        self._source = topic, type_name
        if type_name != Image.TYPE:
            self._log(f"images from {topic} ({type_name})")
        return self._node.create_subscription(topic, type_name, qos.SENSOR_DATA, self._take)
