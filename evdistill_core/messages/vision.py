"""Messages of vision_msgs 4: detections, classifications, names of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from evdistill_core.messages.message import (
    Array,
    Float32,
    Float64,
    Message,
    Scalar,
    String,
    UInt16,
)
from evdistill_core.messages.standard import NO_HEADER, Header


@dataclass(frozen=True)
class Point2D(Message):
    """A place in an image, pixels."""

    TYPE: ClassVar[str] = "vision_msgs/msg/Point2D"

    x: Float64 = 0.0
    y: Float64 = 0.0


@dataclass(frozen=True)
class Pose2D(Message):
    """A place and a turn, pixels and radians."""

    TYPE: ClassVar[str] = "vision_msgs/msg/Pose2D"

    position: Point2D = Point2D()
    theta: Float64 = 0.0


@dataclass(frozen=True)
class BoundingBox2D(Message):
    """A box around its centre, pixels."""

    TYPE: ClassVar[str] = "vision_msgs/msg/BoundingBox2D"

    center: Pose2D = Pose2D()
    size_x: Float64 = 0.0
    size_y: Float64 = 0.0

    @staticmethod
    def from_xyxy(box: tuple[float, float, float, float]) -> BoundingBox2D:
        """Return the box with these left, top, right and bottom edges, pixels."""
        left, top, right, bottom = box
        center = Pose2D(Point2D((left + right) / 2, (top + bottom) / 2))
        return BoundingBox2D(center, float(right - left), float(bottom - top))


@dataclass(frozen=True)
class Point(Message):
    """A place in space, metres."""

    TYPE: ClassVar[str] = "geometry_msgs/msg/Point"

    x: Float64 = 0.0
    y: Float64 = 0.0
    z: Float64 = 0.0


@dataclass(frozen=True)
class Quaternion(Message):
    """A turn in space; the default is none."""

    TYPE: ClassVar[str] = "geometry_msgs/msg/Quaternion"

    x: Float64 = 0.0
    y: Float64 = 0.0
    z: Float64 = 0.0
    w: Float64 = 1.0


@dataclass(frozen=True)
class Pose(Message):
    """A place and a turn in space."""

    TYPE: ClassVar[str] = "geometry_msgs/msg/Pose"

    position: Point = Point()
    orientation: Quaternion = Quaternion()


@dataclass(frozen=True)
class PoseWithCovariance(Message):
    """A pose with its 6x6 covariance, row by row."""

    TYPE: ClassVar[str] = "geometry_msgs/msg/PoseWithCovariance"

    pose: Pose = Pose()
    covariance: Annotated[Sequence[float], Array(Scalar("float64", "d"), 36)] = (0.0,) * 36


@dataclass(frozen=True)
class ObjectHypothesis(Message):
    """A class and how sure we are of it, 0..1."""

    TYPE: ClassVar[str] = "vision_msgs/msg/ObjectHypothesis"

    class_id: String = ""
    score: Float64 = 0.0


@dataclass(frozen=True)
class ObjectHypothesisWithPose(Message):
    """A hypothesis and where the thing stands in space."""

    TYPE: ClassVar[str] = "vision_msgs/msg/ObjectHypothesisWithPose"

    hypothesis: ObjectHypothesis = ObjectHypothesis()
    pose: PoseWithCovariance = PoseWithCovariance()


@dataclass(frozen=True)
class Detection2D(Message):
    """One thing in an image; ``id`` stays with it from message to message."""

    TYPE: ClassVar[str] = "vision_msgs/msg/Detection2D"

    header: Header = NO_HEADER
    results: Sequence[ObjectHypothesisWithPose] = ()
    bbox: BoundingBox2D = BoundingBox2D()
    id: String = ""


@dataclass(frozen=True)
class Detection2DArray(Message):
    """All things in an image."""

    TYPE: ClassVar[str] = "vision_msgs/msg/Detection2DArray"

    header: Header = NO_HEADER
    detections: Sequence[Detection2D] = ()


@dataclass(frozen=True)
class Classification(Message):
    """What an image as a whole shows."""

    TYPE: ClassVar[str] = "vision_msgs/msg/Classification"

    header: Header = NO_HEADER
    results: Sequence[ObjectHypothesis] = ()


@dataclass(frozen=True)
class VisionClass(Message):
    """Number and name of a class."""

    TYPE: ClassVar[str] = "vision_msgs/msg/VisionClass"

    class_id: UInt16 = 0
    class_name: String = ""


@dataclass(frozen=True)
class LabelInfo(Message):
    """The names of the values in a mask."""

    TYPE: ClassVar[str] = "vision_msgs/msg/LabelInfo"

    header: Header = NO_HEADER
    class_map: Sequence[VisionClass] = ()
    threshold: Float32 = 0.0
