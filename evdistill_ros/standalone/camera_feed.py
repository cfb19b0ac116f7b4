"""A camera without ROS, as a driver inside the node: into the graph and into the pipeline."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from evdistill_core.cameras.address import CameraAddress
from evdistill_core.cameras.camera import COUNTERS, Camera
from evdistill_core.events.packet import Packet
from evdistill_core.foundation.errors import CameraError
from evdistill_core.foundation.worker import Worker
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import Image
from evdistill_core.recordings.base import EventBatch, Frame
from evdistill_core.recordings.encoders.bag_messages import BagMessages
from evdistill_core.recordings.encoders.libcaer_cmp import SPAN_LIMIT_US
from evdistill_core.recordings.encoders.packets import Packetizer
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode

ENCODING = "libcaer_cmp"
READ_S = 0.1
RETRY_S = 1.0
_UNSENT_EDGES = "triggers_not_published"


class CameraFeed:
    """Reads a camera in a thread; each batch becomes one EventPacket, stamped with its arrival.

    The packet goes into the pipeline as it is, and out on a topic while somebody listens. A camera
    that goes away is opened again, once a second, until it is back. Edges on the trigger input have
    no word in ``libcaer_cmp``, as drivers of these cameras send it: they are counted.

    Args:
        address: which camera.
        node: publishes; stays the caller's.
        take_events: gets each event packet.
        take_picture: gets each image's message; None: nobody in this process wants them.
        events_topic: where events are published.
        image_topic: where images are published; "" publishes none.
        frame_id: of the headers.
        open_timeout_s: how long opening may take.
        warn: told when the camera goes away and when it is back.

    Attributes:
        restarts: how often the camera was opened again.
        failure: a mistake of ours that ended the thread; None while there is none.
    """

    def __init__(  # noqa: PLR0913
        self,
        address: CameraAddress,
        node: DdsNode,
        *,
        take_events: Callable[[Packet], object],
        take_picture: Callable[[Packet], object] | None,
        events_topic: str,
        image_topic: str,
        frame_id: str,
        open_timeout_s: float,
        warn: Callable[[str], None],
    ) -> None:
        self._take_events = take_events
        self._take_picture = take_picture
        self._warn = warn
        self._make = BagMessages(ENCODING, frame_id)
        self._packetizer = Packetizer(SPAN_LIMIT_US, ENCODING)
        self._seq = 0
        self._stopping = threading.Event()
        self._address = address
        self._open_timeout_s = open_timeout_s
        self._camera = self._new()
        self._worker = Worker("camera", self._run, self._fail)
        self.restarts = 0
        self.failure: Exception | None = None
        self._is_closed = False
        self._counted: Counter[str] = Counter()
        self._count_lock = threading.Lock()
        self._events = node.create_publisher(events_topic, EventPacket.TYPE, qos.EVENTS)
        self._camera.__enter__()  # ended by close
        self.info = self._camera.info
        self._images = (
            node.create_publisher(image_topic, Image.TYPE, qos.DEFAULT)
            if image_topic and self.info.frame_size
            else None
        )

    def _new(self) -> Camera:
        return Camera(self._address, open_timeout_s=self._open_timeout_s)

    @property
    def counters(self) -> dict[str, int]:
        """What ``Camera`` counts, over all times it was opened, ``restarts`` and edges not sent."""
        with self._count_lock:
            counted = self._counted + Counter(dict(self._camera.counters))
        return {n: counted[n] for n in (*COUNTERS, _UNSENT_EDGES)} | {"restarts": self.restarts}

    def start(self) -> None:
        """Start reading."""
        self._worker.start()

    def close(self) -> None:
        """Stop reading and give the camera back; again does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self._stopping.set()
        self._camera.abort()
        self._worker.join(10.0)
        self._camera.close()
        self._events.close()
        if self._images is not None:
            self._images.close()

    def _fail(self, report: str, error: Exception) -> None:
        self.failure = RuntimeError(report)
        self.failure.__cause__ = error

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                found = self._camera.read(READ_S)
            except CameraError as error:
                self._reopen(error)
                continue
            if isinstance(found, Frame):
                self._picture(found)
            elif found is not None:
                self._batch(found)

    def _reopen(self, error: CameraError) -> None:
        """Open the camera again as often as it takes; say so once."""
        if self._stopping.is_set():
            return
        self._warn(f"{error}. Opening it again until it is back")
        while not self._stopping.wait(RETRY_S):
            self._camera.close()
            with self._count_lock:
                self._counted.update(self._camera.counters)
                self._camera = self._new()
            try:
                self._camera.__enter__()
            except CameraError:
                continue
            self.restarts += 1
            self._seq += 1  # a missing number: nothing is joined across it
            self._warn(f"{self._camera.info.name} is back")
            return

    def _batch(self, batch: EventBatch) -> None:
        self._seq += bool(batch.discontinuity)
        self._counted[_UNSENT_EDGES] += len(batch.triggers)
        for packet in self._packetizer.push(batch.events) + self._packetizer.flush():
            data = self._make.events(packet, self._seq, batch.stamp_ns)
            self._seq += 1
            self._take_events(Packet(EventPacket.TYPE, data, batch.stamp_ns))
            if self._events.matched_count:
                self._events.publish(data)

    def _picture(self, frame: Frame) -> None:
        is_heard = self._images is not None and self._images.matched_count
        if not is_heard and self._take_picture is None:
            return
        data = self._make.picture(frame, frame.stamp_ns)
        if self._take_picture is not None:
            self._take_picture(Packet(Image.TYPE, data, frame.stamp_ns))
        if self._images is not None and is_heard:
            self._images.publish(data)
