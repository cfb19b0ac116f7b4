"""Classifications and pictures of a recognition as serialized ROS 2 messages."""

from __future__ import annotations

from typing import ClassVar

from evdistill_core.foundation.labels import ClassTable
from evdistill_core.inference.pictures import Image as Picture
from evdistill_core.inference.pictures import label_picture
from evdistill_core.inference.prediction import Guess, Recognition
from evdistill_core.messages.standard import CameraInfo, Header, Image
from evdistill_core.messages.vision import Classification, LabelInfo, ObjectHypothesis
from evdistill_core.perception.messages import ResultMessages
from evdistill_core.perception.parameters import PerceptionParameters, RecognitionParameters
from evdistill_core.perception.pipeline import WindowResult


class RecognitionMessages(ResultMessages):
    """Makes the messages of each window of a recognition.

    Attributes:
        min_score: below which classes are not named, for ``label_info``.
    """

    TYPES: ClassVar = {
        "classification": Classification.TYPE,
        "overlay": Image.TYPE,
        "camera_info": CameraInfo.TYPE,
    }

    def __init__(self, classes: ClassTable, *, pictures: int = 8) -> None:
        super().__init__(classes, pictures=pictures)
        self.min_score = 0.0

    def configure(self, parameters: PerceptionParameters) -> None:
        """Take the threshold."""
        if isinstance(parameters, RecognitionParameters):
            self.min_score = parameters.min_score

    def overlay(self, result: WindowResult) -> Picture:
        """Return the camera's latest picture, else the window's events, with the guesses on it."""
        lines = [(self._words(g), g.score) for g in _recognised(result).guesses]
        return label_picture(self.background(result), lines)

    def facts(self, result: WindowResult) -> dict[str, object]:
        """Return the likeliest class and its score; None where nothing is named."""
        best = next(iter(_recognised(result).guesses), None)
        if best is None:
            return {"class": None, "score": None}
        return {"class": self.classes.names[best.class_id], "score": round(best.score, 4)}

    def caption(self, result: WindowResult) -> str:
        """Return the same in words."""
        guesses = _recognised(result).guesses
        return self._words(guesses[0]) if guesses else "no class"

    def label_info(self, stamp_ns: int, frame_id: str = "") -> bytes:
        """Return the names of the classes and the threshold as a serialized LabelInfo."""
        header = self.header(stamp_ns, frame_id)
        return LabelInfo(header, self.vision_classes(), self.min_score).serialize()

    def _make_one(self, name: str, header: Header, result: WindowResult) -> bytes:
        if name == "classification":
            found = [
                ObjectHypothesis(str(g.class_id), g.score) for g in _recognised(result).guesses
            ]
            return Classification(header, found).serialize()
        return Image.from_array(header, self.overlay(result), "bgr8").serialize()

    def _words(self, guess: Guess) -> str:
        return f"{self.classes.names[guess.class_id]} {guess.score:.2f}"


def _recognised(result: WindowResult) -> Recognition:
    if not isinstance(result.prediction, Recognition):
        raise TypeError(f"guesses are needed, got {type(result.prediction).__name__}")
    return result.prediction
