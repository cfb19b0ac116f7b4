"""The images of the event camera for the front end on DDS, see ``ImageSource``."""

from __future__ import annotations

from collections.abc import Callable

from evdistill_core.events.packet import Packet
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode
from evdistill_ros.image_source import ImageSource


def camera_images(
    node: DdsNode, topic: str, take: Callable[[Packet], None], log: Callable[[str], None]
) -> ImageSource:
    """Subscribe to the images of a topic, or to its compressed copy.

    Args:
        node: subscribes; stays the caller's.
        topic: where images are expected.
        take: gets each message.
        log: told the topic when it is another than expected.
    """
    return ImageSource(
        node.resolve(topic),
        types_of=lambda name: {e.type_name for e in node.graph.publishers(name)},
        subscribe=lambda name, kind: (
            node.create_subscription(name, kind, qos.SENSOR_DATA, take).close
        ),
        log=log,
    )
