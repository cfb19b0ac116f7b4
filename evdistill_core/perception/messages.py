"""Results as serialized ROS 2 messages: the same bytes for rclpy, bare DDS and bags.

Every message of a window carries the same header, so that exact-time synchronisation works:
``stamp`` is the host time of the window's end, ``frame_id`` that of the events. What nobody
listens to is not made.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Container, Iterator, Mapping
from typing import ClassVar

import numpy as np

from evdistill_core.drawing.colours import Image as Picture
from evdistill_core.drawing.colours import to_bgr
from evdistill_core.foundation.errors import MessageError
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.messages.calibration import fit_to
from evdistill_core.messages.images import AnyImage, Converter, ImageReader
from evdistill_core.messages.standard import CameraInfo, CompressedImage, Header, Image, Time
from evdistill_core.messages.vision import VisionClass
from evdistill_core.perception.parameters import PerceptionParameters
from evdistill_core.perception.result import Result

COMPRESSED = "/compressed"
"""What image_transport appends to the name of a raw topic."""
LABEL_INFO = "label_info"
CAMERA_INFO = "camera_info"
MAX_PICTURE_AGE_NS = 500_000_000


class ResultMessages(ABC):
    """Makes the messages of each window; one subclass for each task.

    Args:
        classes: the student's table.
        pictures: images of the camera, kept to choose the overlay's background from.

    Attributes:
        classes: the same.
        images: images that came, readable or not.
        left_out_images: those that could not be read, by reason.
        damaged_camera_infos: calibrations that could not be read.
        calibration: of the camera, for ``camera_info``; None: that is not made.
    """

    TYPES: ClassVar[Mapping[str, str]]
    """Topic below the node's name -> message type, of everything published for each window, in
    the order in which it is made: what robots need before what people look at."""

    def __init__(self, classes: ClassTable, *, pictures: int = 8) -> None:
        self.classes = classes
        self.images = 0
        self._reader = ImageReader()
        self._decode_lock = threading.Lock()
        self._decoded: tuple[AnyImage, Picture | None] | None = None
        self.left_out_images = self._reader.left_out
        self.damaged_camera_infos = 0
        self.calibration: CameraInfo | None = None
        self._lock = threading.Lock()
        self._pictures: deque[tuple[int, AnyImage | Picture]] = deque(maxlen=pictures)

    def push_image(self, data: bytes | bytearray | memoryview, type_name: str = Image.TYPE) -> None:
        """Take a serialized Image or CompressedImage of the same camera; damaged ones are counted.

        Args:
            data: CDR bytes.
            type_name: one of ``IMAGE_TYPES``.
        """
        self.images += 1
        message = self._reader.parse(data, type_name)
        if message is not None:
            with self._lock:
                self._pictures.append((message.header.stamp.to_ns(), message))

    def push_camera_info(self, data: bytes | bytearray | memoryview) -> None:
        """Take a serialized sensor_msgs/CameraInfo of the same camera."""
        try:
            self.calibration = CameraInfo.parse(data)
        except MessageError:
            self.damaged_camera_infos += 1

    def push_picture(self, picture: Picture, stamp_ns: int) -> None:
        """Take a decoded image, (H, W) grey or (H, W, 3) RGB uint8."""
        self.images += 1
        with self._lock:
            self._pictures.append((stamp_ns, picture))

    def make(self, result: Result, wanted: Container[str]) -> Iterator[tuple[str, bytes]]:
        """Yield name and serialized message of what is wanted of one window, in order.

        Each is made when it is asked for: whoever sends the first at once does not wait for
        images.

        Args:
            result: of the pipeline.
            wanted: names of ``TYPES`` that somebody listens to.
        """
        header = self.header(result.stamp_ns, result.frame_id)
        overlay: Picture | None = None
        for name in self.TYPES:
            if name not in wanted:
                continue
            if name == "overlay":
                overlay = self.overlay(result)
                yield name, Image.from_array(header, overlay, "bgr8").serialize()
            elif name == "overlay" + COMPRESSED:
                drawn = self.overlay(result) if overlay is None else overlay
                yield name, CompressedImage.from_array(header, drawn, "bgr8", "jpeg").serialize()
            elif name != CAMERA_INFO:
                yield name, self._make_one(name, header, result)
            elif self.calibration is not None:
                height, width = result.events.height, result.events.width
                fitted = fit_to(self.calibration, header, width=width, height=height)
                yield name, fitted.serialize()

    def use_converter(self, convert: Converter) -> None:
        """Convert Images of the camera by something else where it can, see ``ImageReader``."""
        self._reader.convert = convert

    @abstractmethod
    def configure(self, parameters: PerceptionParameters) -> None:
        """Take new values of what changes messages; from any thread."""

    def overlay(self, result: Result) -> Picture:
        """Return what is shown to people of one window, uint8 BGR, with a legend below it."""
        return self.draw(result, self.camera_image(result))

    @abstractmethod
    def draw(
        self,
        result: Result,
        image: AnyImage | Picture | None,
        size: tuple[int, int] | None = None,
        *,
        legend: bool = True,
    ) -> Picture:
        """Return the overlay on a given image, from any thread.

        Args:
            result: of the window.
            image: of ``camera_image``; None: the events lie on a dark ground.
            size: (height, width) of the picture, which is then enlarged if it is small (see
                ``Result.plot``); None: that of the sensor.
            legend: put the names of the colours below it.
        """

    @abstractmethod
    def facts(self, result: Result) -> dict[str, object]:
        """Return a few words and numbers of one window, for logs."""

    @abstractmethod
    def caption(self, result: Result) -> str:
        """Return the same in words, for a line below a picture."""

    @abstractmethod
    def label_info(self, stamp_ns: int, frame_id: str = "") -> bytes:
        """Return the names of the classes as a serialized LabelInfo."""

    @abstractmethod
    def _make_one(self, name: str, header: Header, result: Result) -> bytes:
        """Return one serialized message of ``TYPES``; overlays and ``camera_info`` excepted."""

    @staticmethod
    def header(stamp_ns: int, frame_id: str) -> Header:
        """Return the header of everything that comes from one window."""
        return Header(Time.from_ns(stamp_ns), frame_id)

    def vision_classes(self) -> list[VisionClass]:
        """Return number and name of every class of the student."""
        return [VisionClass(i, name) for i, name in enumerate(self.classes.names)]

    def camera_image(self, result: Result) -> AnyImage | Picture | None:
        """Return the latest image that was taken before the window's end, unless it is old.

        It is as it came in, so that this costs nothing.
        """
        stamp_ns = result.stamp_ns
        with self._lock:
            known = [(t, p) for t, p in self._pictures if 0 <= stamp_ns - t <= MAX_PICTURE_AGE_NS]
        return max(known, key=lambda pair: pair[0])[1] if known else None

    def background(self, image: AnyImage | Picture | None) -> Picture | None:
        """Return a camera image as (H, W, 3) uint8 BGR; None for none, and for a damaged one."""
        if image is None or isinstance(image, np.ndarray):
            return None if image is None else to_bgr(image)
        with self._decode_lock:
            # One image lies behind several windows: decode it once, and count it once.
            if self._decoded is None or self._decoded[0] is not image:
                pixels = self._reader.decode(image)
                self._decoded = image, None if pixels is None else to_bgr(pixels)
            return self._decoded[1]
