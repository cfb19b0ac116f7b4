"""Results as serialized ROS 2 messages: the same bytes for rclpy, bare DDS and bags.

Every message of a window carries the same header, so that exact-time synchronisation works:
``stamp`` is the host time of the window's end, ``frame_id`` that of the events. What nobody
listens to is not made.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Container, Iterator

import cv2
import numpy as np

from evdistill_core.foundation.errors import MessageError
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.inference.pictures import Image as Picture
from evdistill_core.inference.pictures import color_mask, event_picture, overlay, to_bgr
from evdistill_core.inference.prediction import Detection
from evdistill_core.messages.calibration import fit_to
from evdistill_core.messages.standard import CameraInfo, Header, Image, Time
from evdistill_core.messages.vision import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
    VisionClass,
)
from evdistill_core.perception import WindowResult

RESULT_TYPES = {
    "mask": Image.TYPE,
    "detections": Detection2DArray.TYPE,
    "confidence": Image.TYPE,
    "mask_color": Image.TYPE,
    "overlay": Image.TYPE,
    "camera_info": CameraInfo.TYPE,
}
"""Topic below the node's name -> message type, of everything published for each window, in the
order in which it is made: what robots need before what people look at."""

LABEL_INFO = "label_info"
# OpenCV names a mosaic by its second row and column, ROS by its first.
_OPENCV_CODES = {
    "bayer_rggb": cv2.COLOR_BayerBG2BGR,
    "bayer_bggr": cv2.COLOR_BayerRG2BGR,
    "bayer_gbrg": cv2.COLOR_BayerGR2BGR,
    "bayer_grbg": cv2.COLOR_BayerGB2BGR,
    "yuv422": cv2.COLOR_YUV2BGR_UYVY,
    "uyvy": cv2.COLOR_YUV2BGR_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2BGR_YUY2,
    "yuyv": cv2.COLOR_YUV2BGR_YUY2,
}
UNLABELLED_NAME = "UNLABELED"  # vision_msgs spells it so
MAX_PICTURE_AGE_NS = 500_000_000


class ResultMessages:
    """Makes the messages of each window.

    Args:
        classes: the student's table.
        overlay_alpha: weight of the colour in the overlay; may be changed at any time.
        pictures: camera pictures kept to choose an overlay's background from.

    Attributes:
        damaged_images: pictures that could not be read.
        damaged_camera_infos: calibrations that could not be read.
        calibration: of the camera, for ``camera_info``; None: that is not made.
    """

    def __init__(
        self, classes: ClassTable, *, overlay_alpha: float = 0.5, pictures: int = 8
    ) -> None:
        self.overlay_alpha = overlay_alpha
        self.damaged_images = 0
        self.damaged_camera_infos = 0
        self.calibration: CameraInfo | None = None
        self._classes = classes
        self._lock = threading.Lock()
        self._pictures: deque[tuple[int, Image | Picture]] = deque(maxlen=pictures)

    def push_image(self, data: bytes | bytearray | memoryview) -> None:
        """Take a serialized sensor_msgs/Image of the same camera; damaged ones are counted."""
        try:
            message = Image.parse(data)
        except MessageError:
            self.damaged_images += 1
            return
        with self._lock:
            self._pictures.append((message.header.stamp.to_ns(), message))

    def push_camera_info(self, data: bytes | bytearray | memoryview) -> None:
        """Take a serialized sensor_msgs/CameraInfo of the same camera."""
        try:
            self.calibration = CameraInfo.parse(data)
        except MessageError:
            self.damaged_camera_infos += 1

    def push_picture(self, picture: Picture, stamp_ns: int) -> None:
        """Take a decoded picture, (H, W) grey or (H, W, 3) BGR uint8."""
        with self._lock:
            self._pictures.append((stamp_ns, picture))

    def make(self, result: WindowResult, wanted: Container[str]) -> Iterator[tuple[str, bytes]]:
        """Yield name and serialized message of what is wanted of one window, the mask first.

        Each is made when it is asked for: whoever sends the mask at once does not wait for
        pictures.

        Args:
            result: of the pipeline.
            wanted: names of ``RESULT_TYPES`` that somebody listens to.
        """
        header = Header(Time.from_ns(result.stamp_ns), result.frame_id)
        for name in RESULT_TYPES:
            if name in wanted and (name != "camera_info" or self.calibration is not None):
                yield name, self._make_one(name, header, result)

    def _make_one(self, name: str, header: Header, result: WindowResult) -> bytes:
        prediction = result.prediction
        if name == "detections":
            return self._detections(header, prediction.detections)
        if name == "mask":
            return Image.from_array(header, prediction.mask, "mono8").serialize()
        if name == "camera_info" and self.calibration is not None:
            height, width = prediction.mask.shape
            return fit_to(self.calibration, header, width=width, height=height).serialize()
        if name == "confidence":
            return Image.from_array(header, prediction.confidence, "32FC1").serialize()
        if name == "mask_color":
            colors = color_mask(prediction.mask, self._classes)
            return Image.from_array(header, colors, "bgr8").serialize()
        return Image.from_array(header, self.overlay(result), "bgr8").serialize()

    def overlay(self, result: WindowResult) -> Picture:
        """Return the overlay of one window: over the camera's latest picture, else its events."""
        background = self._background(result.stamp_ns)
        if background is None:
            background = event_picture(result.events)
        return overlay(background, result.prediction, self._classes, alpha=self.overlay_alpha)

    def label_info(self, stamp_ns: int, frame_id: str = "") -> bytes:
        """Return the names of the mask's values, 255 included, as a serialized LabelInfo."""
        rows = [VisionClass(i, name) for i, name in enumerate(self._classes.names)]
        rows.append(VisionClass(255, UNLABELLED_NAME))
        return LabelInfo(Header(Time.from_ns(stamp_ns), frame_id), rows, 0.0).serialize()

    def _background(self, stamp_ns: int) -> Picture | None:
        """Return the latest picture that was taken before the window's end, unless it is old."""
        with self._lock:
            known = [(t, p) for t, p in self._pictures if 0 <= stamp_ns - t <= MAX_PICTURE_AGE_NS]
        if not known:
            return None
        _, picture = max(known, key=lambda pair: pair[0])
        if not isinstance(picture, Image):
            return to_bgr(picture)
        try:
            return image_to_bgr(picture)
        except MessageError:
            self.damaged_images += 1
            return None

    def _detections(self, header: Header, detections: tuple[Detection, ...]) -> bytes:
        return Detection2DArray(header, [_detection(header, d) for d in detections]).serialize()


def image_to_bgr(message: Image) -> Picture:
    """Return a camera picture as (H, W, 3) uint8 BGR.

    Raises:
        MessageError: damaged, or an encoding that is no picture or that we do not know.
    """
    if message.encoding == "32FC1":
        raise MessageError("an overlay's background must be a camera picture, got 32FC1")
    pixels = message.to_array()
    code = _OPENCV_CODES.get(message.encoding.removesuffix("16").removesuffix("8"))
    if code is not None:
        wide = np.asarray(pixels, np.uint16)
        narrow = (wide >> 8 if pixels.dtype == np.uint16 else wide).astype(np.uint8)
        return np.asarray(cv2.cvtColor(narrow, code), np.uint8)
    bgr = to_bgr(pixels)
    if message.encoding.startswith("rgb"):
        return np.ascontiguousarray(bgr[:, :, ::-1])
    return bgr


def _detection(header: Header, detection: Detection) -> Detection2D:
    left, top, right, bottom = detection.box_xyxy
    hypothesis = ObjectHypothesis(str(detection.class_id), detection.score)
    center = Pose2D(Point2D((left + right) / 2, (top + bottom) / 2))
    return Detection2D(
        header,
        [ObjectHypothesisWithPose(hypothesis)],
        BoundingBox2D(center, float(right - left), float(bottom - top)),
        str(detection.track_id),
    )
