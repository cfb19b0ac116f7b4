"""Scoring boxes: precision, recall and average precision at one overlap.

As in PASCAL VOC (Everingham et al., IJCV 2010, section 4.2) a box is right when it overlaps a true
one of its class in the same image by at least ``MIN_IOU``, and each true box is found once. As in
COCO the surest box chooses first, and the next takes the best of those left. Precision is
integrated over every recall, not over eleven or 101.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from evdistill_core.foundation.errors import DataError
from evdistill_core.inference.tracking import box_iou

MIN_IOU = 0.5


@dataclass(frozen=True)
class ScoredBox:
    """One box of an image.

    Attributes:
        class_id: of what is in it.
        box_xyxy: left, top, right, bottom; pixel edges.
        score: how sure; 1 for a true box.
        track_id: the same for the same thing in another image; "" where not known.
    """

    class_id: int
    box_xyxy: tuple[float, float, float, float]
    score: float = 1.0
    track_id: str = ""


@dataclass
class DetectionScorer:
    """Counts boxes image by image.

    Args:
        num_classes: ids are below it.
        min_iou: overlap from which a box is right, above 0 and up to 1.
    """

    num_classes: int
    min_iou: float = MIN_IOU
    _true: list[int] = field(init=False)
    _found: list[list[tuple[float, bool]]] = field(init=False)

    def __post_init__(self) -> None:
        self._true = [0] * self.num_classes
        self._found = [[] for _ in range(self.num_classes)]

    def add(self, truth: Sequence[ScoredBox], found: Sequence[ScoredBox]) -> None:
        """Count the boxes of one image.

        Raises:
            DataError: a class does not exist.
        """
        for box in (*truth, *found):
            if not 0 <= box.class_id < self.num_classes:
                raise DataError(
                    f"a box has the class {box.class_id}; classes are 0..{self.num_classes - 1}"
                )
        left = list(truth)
        for box in truth:
            self._true[box.class_id] += 1
        for box in sorted(found, key=lambda b: -b.score):
            partner = self._partner(box, left)
            if partner is not None:
                left.remove(partner)
            self._found[box.class_id].append((box.score, partner is not None))

    def _partner(self, box: ScoredBox, left: Sequence[ScoredBox]) -> ScoredBox | None:
        rivals = [b for b in left if b.class_id == box.class_id]
        best = max(rivals, key=lambda b: box_iou(b.box_xyxy, box.box_xyxy), default=None)
        if best is None or box_iou(best.box_xyxy, box.box_xyxy) < self.min_iou:
            return None
        return best

    def to_dict(self, names: Sequence[str]) -> dict[str, object]:
        """Return plain data for JSON, of the classes that are there or were found.

        ``ap`` is the area below precision over recall; None for classes without a true box.
        """
        seen = [i for i in range(self.num_classes) if self._true[i] or self._found[i]]
        aps = [ap for i in seen if (ap := self.average_precision(i)) is not None]
        right = sum(hit for i in seen for _, hit in self._found[i])
        found, true = sum(len(self._found[i]) for i in seen), sum(self._true)
        return {
            "min_iou": self.min_iou,
            "map": float(np.mean(aps)) if aps else None,
            "precision": right / found if found else None,
            "recall": right / true if true else None,
            "classes": {
                names[i]: {
                    "true": self._true[i],
                    "found": len(self._found[i]),
                    "right": sum(hit for _, hit in self._found[i]),
                    "ap": self.average_precision(i),
                }
                for i in seen
            },
        }

    def average_precision(self, class_id: int) -> float | None:
        """Return the area below precision over recall of a class; None without true boxes."""
        if not self._true[class_id]:
            return None
        ordered = sorted(self._found[class_id], key=lambda pair: -pair[0])
        hits = np.cumsum([hit for _, hit in ordered], dtype=np.float64)
        precision = hits / np.arange(1, len(hits) + 1)
        # The best precision that is to be had at this recall or a higher one.
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        steps = np.diff(hits, prepend=0.0) / self._true[class_id]
        return float(np.sum(steps * envelope))
