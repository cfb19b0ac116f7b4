"""The live view of topics: what a player sends, and what a topic of the graph carries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from evdistill_core.events.packet import Packet
from evdistill_core.foundation.signals import StopSignals
from evdistill_core.messages.images import IMAGE_TYPES
from evdistill_core.messages.standard import Image
from evdistill_core.messages.vision import Detection2DArray, LabelInfo
from evdistill_core.viewing.live.address import ViewAddress
from evdistill_core.viewing.live.live_view import LiveView, Scene
from evdistill_core.viewing.live.of_topics import TopicScene
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode
from evdistill_ros.standalone.camera_images import camera_images
from evdistill_ros.standalone.live import EVENT_TYPES, TopicError

_SLICE_S = 0.2


@dataclass(frozen=True)
class PlayedView:
    """A page that shows what is being played."""

    scene: TopicScene

    def push(self, packet: Packet) -> None:
        """Show a message that was sent."""
        if packet.type_name in IMAGE_TYPES:
            self.scene.push_image(packet)
        else:
            self.scene.push_events(packet)


@contextmanager
def served(scene: TopicScene, address: ViewAddress, folder: Path | None) -> Iterator[LiveView]:
    """Serve a page of a scene; say where, and at the end what became of its pictures."""
    view = LiveView(address, scene=scene.scene, status=scene.status, folder=folder)
    with scene, view:
        scene.show_on(view)
        typer.echo(f"live view: {view.url}", err=True)
        yield view
    for text in (*view.lines(), *scene.lines()):
        typer.echo(text, err=True)


@contextmanager
def played_view(address: str, source: Path) -> Iterator[PlayedView]:
    """Serve a page of what a player sends.

    Args:
        address: of the page, as a user wrote it.
        source: the recording.
    """
    scene = TopicScene(Scene(title="evdistill play", source=source.name))
    with served(scene, ViewAddress.parse(address), None):
        yield PlayedView(scene)


def show_topic(topic: str, *, node: str, address: str, domain: int | None) -> int:
    """Show an event topic of the graph until a signal; return the exit code.

    Masks, boxes and names of classes that a segmentation node publishes are shown too, as soon as
    they are there.

    Args:
        topic: of the events.
        node: the segmentation node's name with its namespace.
        address: of the page, as a user wrote it.
        domain: DDS domain; None: ROS_DOMAIN_ID.

    Raises:
        TopicError: the topic carries something else than events.
    """
    place = ViewAddress.parse(address)
    with StopSignals() as signals, DdsNode("evdistill_view", domain=domain, on_warning=_say) as dds:
        name = dds.resolve(topic)
        scene = TopicScene(Scene(title="evdistill view", source=name))
        with served(scene, place, Path()):
            _say(f"waiting for {name}")
            if (type_name := _event_type(dds, name, lambda: bool(signals.received))) is not None:
                _say(f"events from {name} ({type_name})")
                _subscribe(dds, scene, name, type_name, node)
                images = camera_images(
                    dds, f"{name.rsplit('/', 1)[0]}/image_raw", scene.push_image, _say
                )
                while not signals.received:
                    time.sleep(_SLICE_S)
                    images.follow()
                    if dds.failure is not None:
                        raise RuntimeError(f"DDS has stopped: {dds.failure}") from dds.failure
        return 128 + signals.received[0]


def _subscribe(dds: DdsNode, scene: TopicScene, topic: str, type_name: str, node: str) -> None:
    base = f"/{node.strip('/')}"
    dds.create_subscription(
        f"{base}/label_info", LabelInfo.TYPE, qos.LATCHED, scene.push_label_info
    )
    for name, kind, take in (
        ("mask", Image.TYPE, scene.push_mask),
        ("detections", Detection2DArray.TYPE, scene.push_detections),
    ):
        dds.create_subscription(f"{base}/{name}", kind, qos.SENSOR_DATA, take)
    dds.create_subscription(topic, type_name, qos.EVENTS, scene.push_events)


def _event_type(dds: DdsNode, topic: str, is_over: Callable[[], bool]) -> str | None:
    """Wait for a publisher and return the type of its messages; None: a signal came first.

    Raises:
        TopicError: they are no events.
    """
    while not is_over():
        types = sorted({e.type_name for e in dds.wait_for_publisher(topic, _SLICE_S)})
        known = [t for t in types if t in EVENT_TYPES]
        if known:
            return known[0]
        if types:
            raise TopicError(f"{topic} carries {', '.join(types)}, which are no events")
    return None


def _say(text: str) -> None:
    typer.echo(text, err=True)
