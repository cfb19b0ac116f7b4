"""What a live view shows of topics: events as they come, with masks and boxes that others publish.

Decoding takes time, so it is done in a thread of its own, and only while somebody looks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from evdistill_core.drawing.colours import Image, to_bgr
from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import DecodedPacket, PacketDecoder
from evdistill_core.events.time_watch import TimeWatch
from evdistill_core.events.window import Window, WindowAssembler, WindowSpec
from evdistill_core.foundation.errors import MessageError
from evdistill_core.foundation.worker import BoundedQueue, Worker
from evdistill_core.inference.prediction import Prediction
from evdistill_core.messages.images import AnyImage, ImageReader
from evdistill_core.messages.vision import Detection2DArray, LabelInfo
from evdistill_core.perception.messages import MAX_PICTURE_AGE_NS
from evdistill_core.viewing.live.frames import Shot
from evdistill_core.viewing.live.live_view import STATUS_S, LiveView, Scene, Status
from evdistill_core.viewing.result_overlays import class_names, class_table, detection, parsed_mask

WINDOW_US = 33_333
_QUEUE_PACKETS = 500
_QUEUE_BYTES = 32_000_000


@dataclass(frozen=True)
class _Said:
    """What a node said last of each kind, by stamp."""

    mask_ns: int = 0
    mask: Image | None = None
    boxes_ns: int = 0
    boxes: Detection2DArray | None = None


class TopicScene:
    """Cuts the packets of one topic into windows and shows them; a context manager.

    Args:
        scene: what is shown, without classes: they come from a LabelInfo.
        status_of: returns the counts of whoever brings the packets: windows computed and dropped,
            by the names of ``Status``.

    Attributes:
        lost: packets that came faster than they could be decoded; nothing is shown of them.
        damaged: masks, boxes and images that could not be read.
    """

    def __init__(
        self, scene: Scene, status_of: Callable[[], Mapping[str, int]] = lambda: {}
    ) -> None:
        self.scene = scene
        self._status_of = status_of
        self._view: LiveView | None = None
        self._queue: BoundedQueue[Packet] = BoundedQueue(
            max_items=_QUEUE_PACKETS, max_bytes=_QUEUE_BYTES
        )
        self._decoder = PacketDecoder()
        self._watch = TimeWatch(self._decoder.counters)
        self._assembler = WindowAssembler(WindowSpec(duration_us=WINDOW_US))
        self._said = _Said()
        self._reader = ImageReader()
        self._image: AnyImage | None = None
        self._classes = class_table({})
        self._events = self._windows = self.lost = self.damaged = 0
        self._last_s: float | None = None
        self._lock = threading.Lock()
        self._before = (time.monotonic(), 0, 0)
        self._status: Status | None = None
        self._failure = ""
        self._is_idle = True
        self._worker = Worker("topic view", self._run, self._fail)

    def __enter__(self) -> TopicScene:
        self._worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.close()
        self._queue.clear()
        self._worker.join(5.0)

    def show_on(self, view: LiveView) -> None:
        """Show windows on this view from now on."""
        self._view = view

    def push_events(self, packet: Packet) -> None:
        """Take an event message; returns at once."""
        self._last_s = time.monotonic()
        if self._view is None:
            return
        self._view.take(packet, packet.topic)
        if self._view.is_watched:
            held = replace(packet, data=bytes(packet.data))
            self.lost += len(self._queue.offer(held, len(packet.data)) or ())

    def push_image(self, packet: Packet) -> None:
        """Take an image of the camera, to lie behind the events."""
        if self._view is not None:
            self._view.take(packet, packet.topic)
        message = self._reader.parse(packet.data, packet.type_name)
        self.damaged += message is None
        self._image = message or self._image

    def push_mask(self, packet: Packet) -> None:
        """Take a mask of a node."""
        try:
            message = parsed_mask(packet.data)
        except MessageError:
            self.damaged += 1
            return
        mask = np.array(message.to_array(), np.uint8)  # a copy: DDS wants its memory back
        self._said = replace(self._said, mask=mask, mask_ns=message.header.stamp.to_ns())

    def push_detections(self, packet: Packet) -> None:
        """Take the boxes of a node."""
        try:
            message = Detection2DArray.parse(packet.data)
        except MessageError:
            self.damaged += 1
            return
        self._said = replace(self._said, boxes=message, boxes_ns=message.header.stamp.to_ns())

    def push_label_info(self, packet: Packet) -> None:
        """Take the names of the classes of a node."""
        try:
            names = class_names(LabelInfo.parse(packet.data))
        except MessageError:
            self.damaged += 1
            return
        self._classes = class_table(names)
        self.scene = replace(self.scene, classes=self._classes)
        if self._view is not None:
            self._view.set_scene(self.scene)

    def status(self) -> Status:
        """Return the numbers of this moment; rates are of the last half second or more."""
        with self._lock:
            now_s = time.monotonic()
            began_s, events, windows = self._before
            span_s = now_s - began_s
            if self._status is None or span_s >= 0.8 * STATUS_S:
                self._before = (now_s, self._events, self._windows)
                counts = self._status_of()
                last_s = self._last_s
                self._status = Status(
                    events_per_s=(self._events - events) / max(span_s, 1e-9),
                    windows_per_s=(self._windows - windows) / max(span_s, 1e-9),
                    windows=counts.get("windows", self._windows),
                    dropped=counts.get("dropped"),
                    gaps=self._decoder.counters.seq_gaps,
                    silence_s=None if last_s is None else now_s - last_s,
                )
            return self._status

    def lines(self) -> list[str]:
        """Return what to say at the end."""
        found = []
        if self.lost:
            found.append(f"view: {self.lost:,} packets were not shown: decoding did not keep up")
        if self.damaged:
            found.append(f"view: {self.damaged:,} damaged masks, boxes or images left out")
        return found + ([f"the view has ended early: {self._failure}"] if self._failure else [])

    def _fail(self, report: str, error: Exception) -> None:
        del error
        self._failure = report
        self._queue.close()
        self._queue.clear()

    def _run(self) -> None:
        while not self._queue.is_finished:
            taken = self._queue.get(STATUS_S)
            if taken is None:
                self._is_idle = True
                continue
            packet, after_loss = taken
            if after_loss or self._is_idle:
                # Packets are missing before this one: nothing may be joined across the gap.
                self._decoder.reset()
                self._watch.reset()
                self._assembler.reset()
                self._is_idle = False
            decoded = self._decoder.push(packet)
            for part in [] if decoded is None else self._watch.split(decoded):
                self._use(part)

    def _use(self, decoded: DecodedPacket) -> None:
        if decoded.discontinuity:
            self._assembler.reset()
        self._events += len(decoded.events)
        for window in self._assembler.push(decoded.events) if len(decoded.events) else []:
            self._windows += 1
            self._offer(window, decoded.stamp_ns)

    def _offer(self, window: Window, stamp_ns: int) -> None:
        if self._view is None:
            return
        events, image = window.events, self._image
        answer = self._answer(stamp_ns, (events.height, events.width))
        if image is not None and abs(stamp_ns - image.header.stamp.to_ns()) > MAX_PICTURE_AGE_NS:
            image = None

        def camera_image() -> Image | None:
            pixels = None if image is None else self._reader.decode(image)
            return None if pixels is None else to_bgr(pixels)

        span = window.t_start_us, window.t_end_us
        shot = Shot(window.index, *span, stamp_ns, events, answer, camera_image=camera_image)
        self._view.offer(shot)

    def _answer(self, stamp_ns: int, size: tuple[int, int]) -> Prediction | None:
        """Return the latest mask and boxes, unless they are old; None: nobody says anything."""
        said = self._said
        is_mask = said.mask is not None and abs(stamp_ns - said.mask_ns) < MAX_PICTURE_AGE_NS
        is_box = said.boxes is not None and abs(stamp_ns - said.boxes_ns) < MAX_PICTURE_AGE_NS
        if said.mask is None and said.boxes is None:
            return None
        mask = np.full(size, 255, np.uint8)
        if is_mask and said.mask is not None:
            mask = said.mask
            if mask.shape != size:
                found = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)
                mask = np.asarray(found, np.uint8)
        boxes = said.boxes.detections if is_box and said.boxes is not None else ()
        found_boxes = [detection(box, len(self._classes)) for box in boxes]
        nothing = np.broadcast_to(np.float32(0), size)
        return Prediction(mask, nothing, tuple(d for d in found_boxes if d is not None))
