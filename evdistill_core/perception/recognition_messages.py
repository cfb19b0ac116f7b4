"""Classifications and pictures of a recognition as serialized ROS 2 messages."""

from __future__ import annotations

from typing import ClassVar

from evdistill_core.drawing.colours import Image as Picture
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.messages.images import AnyImage
from evdistill_core.messages.standard import CameraInfo, CompressedImage, Header, Image
from evdistill_core.messages.vision import Classification, LabelInfo, ObjectHypothesis
from evdistill_core.perception.messages import COMPRESSED, ResultMessages
from evdistill_core.perception.parameters import PerceptionParameters, RecognitionParameters
from evdistill_core.perception.result import Result


class RecognitionMessages(ResultMessages):
    """Makes the messages of each window of a recognition.

    Attributes:
        min_score: below which classes are not named, for ``label_info``.
    """

    TYPES: ClassVar = {
        "classification": Classification.TYPE,
        "overlay": Image.TYPE,
        "overlay" + COMPRESSED: CompressedImage.TYPE,
        "camera_info": CameraInfo.TYPE,
    }

    def __init__(self, classes: ClassTable, *, pictures: int = 8) -> None:
        super().__init__(classes, pictures=pictures)
        self.min_score = 0.0

    def configure(self, parameters: PerceptionParameters) -> None:
        """Take the threshold."""
        if isinstance(parameters, RecognitionParameters):
            self.min_score = parameters.min_score

    def draw(
        self,
        result: Result,
        image: AnyImage | Picture | None,
        size: tuple[int, int] | None = None,
        *,
        legend: bool = True,
    ) -> Picture:
        """Return a camera image, else a dark ground, with the events and the guesses on it."""
        return result.draw(self.background(image), size=size, legend=legend)

    def facts(self, result: Result) -> dict[str, object]:
        """Return the likeliest class and its score; None where nothing is named."""
        best = next(iter(result.guesses), None)
        if best is None:
            return {"class": None, "score": None}
        return {"class": best.class_name, "score": round(best.score, 4)}

    def caption(self, result: Result) -> str:
        """Return the same in words."""
        guesses = result.guesses
        return f"{guesses[0].class_name} {guesses[0].score:.2f}" if guesses else "no class"

    def label_info(self, stamp_ns: int, frame_id: str = "") -> bytes:
        """Return the names of the classes and the threshold as a serialized LabelInfo."""
        header = self.header(stamp_ns, frame_id)
        return LabelInfo(header, self.vision_classes(), self.min_score).serialize()

    def _make_one(self, name: str, header: Header, result: Result) -> bytes:
        if name == "classification":
            found = [ObjectHypothesis(str(g.class_id), g.score) for g in result.guesses]
            return Classification(header, found).serialize()
        raise AssertionError(f"no message is called {name}")
