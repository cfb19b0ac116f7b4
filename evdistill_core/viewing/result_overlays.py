"""Masks and boxes of a bag, laid over pictures of other recordings by their stamps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np

from evdistill_core.drawing.colours import Image
from evdistill_core.drawing.overlay import legend, overlay
from evdistill_core.events.array import Events
from evdistill_core.foundation.class_maps import CLASS_SETS, named_classes
from evdistill_core.foundation.errors import MessageError, RecordingError
from evdistill_core.foundation.labels import IGNORE, ClassTable
from evdistill_core.foundation.reasons import Reasons
from evdistill_core.inference.prediction import Detection, Prediction
from evdistill_core.messages.cdr import Buffer
from evdistill_core.messages.images import check_image
from evdistill_core.messages.standard import Image as ImageMessage
from evdistill_core.messages.vision import Detection2D, Detection2DArray, LabelInfo
from evdistill_core.recordings.base import Recording

MAX_CLASSES = 255


def _result_topics(recording: Recording) -> tuple[list[str], list[str]]:
    """Return the topics of masks and of detections."""
    topics = recording.info.topics
    masks = [t.name for t in topics if t.type_name == ImageMessage.TYPE and t.name.endswith("mask")]
    return masks, [t.name for t in topics if t.type_name == Detection2DArray.TYPE]


def has_results(recording: Recording) -> bool:
    """Tell whether a recording is a bag with masks or detections in it."""
    return any(_result_topics(recording))


class ResultOverlays:
    """Masks and detections of a bag, in the order of their header stamps.

    Args:
        results: open bag.

    Attributes:
        left_out: messages that cannot be drawn, by reason.

    Raises:
        RecordingError: it has neither masks nor detections.
    """

    def __init__(self, results: Recording) -> None:
        self.left_out = Reasons()
        topics = results.info.topics
        masks, boxes = _result_topics(results)
        labels = [t.name for t in topics if t.type_name == LabelInfo.TYPE]
        self._mask_topic, self._box_topic = (masks or [""])[0], (boxes or [""])[0]
        if not (masks or boxes):
            raise RecordingError(
                f"{results.info.path} has no masks (Image on .../mask) and no detections "
                f"({Detection2DArray.TYPE}); topics: {', '.join(t.name for t in topics) or 'none'}"
            )
        names = _class_names(results, labels[:1])
        self._classes = class_table(names)
        self._has_names = bool(names)
        self._legend = np.empty((0, 0, 3), np.uint8)
        wanted = [t for t in (self._mask_topic, self._box_topic) if t]
        self._messages = self._parsed(results, wanted)
        self._next = next(self._messages, None)
        self._latest: dict[str, tuple[int, ImageMessage | Detection2DArray]] = {}

    def _parsed(
        self, results: Recording, topics: list[str]
    ) -> Iterator[tuple[str, int, ImageMessage | Detection2DArray]]:
        for packet in results.packets(topics):
            kind = parsed_mask if packet.type_name == ImageMessage.TYPE else Detection2DArray.parse
            try:
                message = kind(packet.data)
            except MessageError as error:
                self.left_out.add(str(error))
                continue
            yield packet.topic, message.header.stamp.to_ns(), message

    def legend(self, width: int) -> Image:
        """Return names and colours of classes and events as a strip, (rows, width, 3).

        A bag that does not name its classes has a strip of the events alone.
        """
        if self._legend.shape[1] != width:  # drawn once a video, not once a picture
            self._legend = legend(self._classes if self._has_names else None, width=width)
        return self._legend

    def lay_over(
        self,
        picture: Image,
        host_ns: int,
        window_ns: int,
        *,
        events: Events | None = None,
        factor: int = 1,
    ) -> Image:
        """Return the picture with the latest results up to ``host_ns`` that are not older.

        Args:
            picture: (H, W, 3) uint8 BGR, of the sensor's size.
            host_ns: end of the window.
            window_ns: its duration; results of up to two windows ago are shown.
            events: of the window, drawn over the mask; None: the picture shows them.
            factor: whole factor of enlargement.
        """
        while self._next is not None and self._next[1] <= host_ns + window_ns // 2:
            self._latest[self._next[0]] = self._next[1:]
            self._next = next(self._messages, None)
        mask = np.full(picture.shape[:2], IGNORE, np.uint8)
        fresh = {k: m for k, (t, m) in self._latest.items() if host_ns - t <= 2 * window_ns}
        stored = fresh.get(self._mask_topic)
        if isinstance(stored, ImageMessage):
            mask = _fitted(stored, mask)
        boxes = fresh.get(self._box_topic)
        found: tuple[Detection, ...] = ()
        if isinstance(boxes, Detection2DArray):
            found = tuple(
                d for b in boxes.detections if (d := detection(b, len(self._classes))) is not None
            )
        confidence = np.zeros(mask.shape, np.float32)
        prediction = Prediction(mask, confidence, found)
        return overlay(picture, prediction, self._classes, events=events, factor=factor)


def parsed_mask(data: Buffer) -> ImageMessage:
    """Return the message of a mask.

    Raises:
        MessageError: damaged, or no mask.
    """
    message = ImageMessage.parse(data)
    if message.encoding not in {"mono8", "8UC1"}:
        raise MessageError(f"a mask is mono8, got {message.encoding[:40]!r}")
    check_image(message)
    return message


def _fitted(message: ImageMessage, empty: Image) -> Image:
    mask = message.to_array()
    if mask.shape != empty.shape:
        size = (empty.shape[1], empty.shape[0])
        mask = cv2.resize(np.ascontiguousarray(mask), size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(mask, np.uint8)


def detection(message: Detection2D, classes: int) -> Detection | None:
    """Return a box for drawing; ``None`` for one without a class that we can name."""
    if not message.results:
        return None
    hypothesis = message.results[0].hypothesis
    name, track = hypothesis.class_id, message.id
    box = message.bbox
    x, y = box.center.position.x, box.center.position.y
    values = np.array([x - box.size_x / 2, y - box.size_y / 2, x + box.size_x / 2,
                       y + box.size_y / 2])  # fmt: skip
    if not (name.isdecimal() and int(name[:4]) < classes and (np.abs(values) < 1e5).all()):
        return None
    left, top, right, bottom = (round(float(v)) for v in values)
    number = int(track) if track.isdecimal() and len(track) < 10 else 0
    return Detection(int(name), hypothesis.score, (left, top, right, bottom), 1, number)


def _class_names(results: Recording, topics: list[str]) -> dict[int, str]:
    """Return the names by class id that a bag's LabelInfo tells; empty: it tells none."""
    packet = next(iter(results.packets(topics)), None) if topics else None
    if packet is None:
        return {}
    return class_names(LabelInfo.parse(packet.data))


def class_names(message: LabelInfo) -> dict[int, str]:
    """Return the names of the classes by id."""
    return {r.class_id: r.class_name for r in message.class_map if r.class_id < MAX_CLASSES}


def class_table(named: Mapping[int, str]) -> ClassTable:
    """Return classes with the colours that a run gives them.

    A LabelInfo has no colours: a preset is known by its names, and other classes get the evenly
    spaced hues of a class file without colours. Without names there are numbers.
    """
    names = [named.get(i, "") or str(i) for i in range(max(named, default=31) + 1)]
    for preset in CLASS_SETS.values():
        if preset.names == tuple(names):
            return preset
    return named_classes(tuple(_distinct(names)))


def _distinct(names: Sequence[str]) -> Iterator[str]:
    taken: set[str] = set()
    for number, name in enumerate(names):
        own = name
        while own in taken:
            own = f"{own} {number}"
        taken.add(own)
        yield own
