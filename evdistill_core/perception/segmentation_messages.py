"""Masks, detections and pictures of a segmentation as serialized ROS 2 messages."""

from __future__ import annotations

from typing import ClassVar

from evdistill_core.drawing.colours import Image as Picture
from evdistill_core.drawing.colours import color_mask
from evdistill_core.foundation.labels import IGNORE, ClassTable
from evdistill_core.inference.prediction import Detection
from evdistill_core.messages.images import AnyImage
from evdistill_core.messages.standard import CameraInfo, CompressedImage, Header, Image
from evdistill_core.messages.vision import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    VisionClass,
)
from evdistill_core.perception.messages import COMPRESSED, ResultMessages
from evdistill_core.perception.parameters import (
    MaskSize,
    PerceptionParameters,
    SegmentationParameters,
)
from evdistill_core.perception.result import Result

UNLABELLED_NAME = "UNLABELED"  # vision_msgs spells it so


class SegmentationMessages(ResultMessages):
    """Makes the messages of each window of a segmentation.

    Attributes:
        overlay_alpha: weight of the colour in the overlay.
        mask_size: resolution of what is said of each pixel.
    """

    TYPES: ClassVar = {
        "mask": Image.TYPE,
        "mask" + COMPRESSED: CompressedImage.TYPE,
        "detections": Detection2DArray.TYPE,
        "confidence": Image.TYPE,
        "mask_color": Image.TYPE,
        "overlay": Image.TYPE,
        "overlay" + COMPRESSED: CompressedImage.TYPE,
        "camera_info": CameraInfo.TYPE,
    }

    def __init__(
        self, classes: ClassTable, *, overlay_alpha: float = 0.5, pictures: int = 8
    ) -> None:
        super().__init__(classes, pictures=pictures)
        self.overlay_alpha = overlay_alpha
        self.mask_size: MaskSize = "sensor"

    def configure(self, parameters: PerceptionParameters) -> None:
        """Take the overlay's colour and the size of masks."""
        if isinstance(parameters, SegmentationParameters):
            self.overlay_alpha = parameters.overlay_alpha
            self.mask_size = parameters.mask_size

    def draw(
        self,
        result: Result,
        image: AnyImage | Picture | None,
        size: tuple[int, int] | None = None,
        *,
        legend: bool = True,
    ) -> Picture:
        """Return mask, events and boxes over a camera image, else over a dark ground."""
        background = self.background(image)
        return result.draw(background, alpha=self.overlay_alpha, size=size, legend=legend)

    def facts(self, result: Result) -> dict[str, object]:
        """Return the number of detections."""
        return {"detections": len(result.detections)}

    def caption(self, result: Result) -> str:
        """Return the same in words."""
        return f"{len(result.detections)} detections"

    def label_info(self, stamp_ns: int, frame_id: str = "") -> bytes:
        """Return the names of the mask's values, 255 included, as a serialized LabelInfo."""
        rows = [*self.vision_classes(), VisionClass(IGNORE, UNLABELLED_NAME)]
        return LabelInfo(self.header(stamp_ns, frame_id), rows, 0.0).serialize()

    def _make_one(self, name: str, header: Header, result: Result) -> bytes:
        if name == "detections":
            found = [_detection(header, d) for d in result.detections]
            return Detection2DArray(header, found).serialize()
        # Enlarged only where somebody wants it so.
        maps = result.small if self.mask_size == "network" else result
        if name == "mask":
            return Image.from_array(header, maps.mask, "mono8").serialize()
        if name == "mask" + COMPRESSED:
            return CompressedImage.from_array(header, maps.mask, "mono8", "png").serialize()
        if name == "confidence":
            return Image.from_array(header, maps.confidence, "32FC1").serialize()
        if name == "mask_color":
            colors = color_mask(maps.mask, self.classes)
            return Image.from_array(header, colors, "bgr8").serialize()
        raise AssertionError(f"no message is called {name}")


def _detection(header: Header, detection: Detection) -> Detection2D:
    hypothesis = ObjectHypothesis(str(detection.class_id), detection.score)
    return Detection2D(
        header,
        [ObjectHypothesisWithPose(hypothesis)],
        BoundingBox2D.from_xyxy(detection.box_xyxy),
        str(detection.track_id),
    )
