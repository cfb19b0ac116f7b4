"""Confusion counts and what follows from them: IoU per class, mIoU, accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import IGNORE, MAX_CLASSES, OTHER


class Confusion:
    """Counts of (true class, predicted class) over pixels.

    A pixel counts when its true label is a class. A prediction of 255 (unlabelled) on such a pixel
    is counted in the last column, so that it lowers recall instead of vanishing.

    A pixel of the value 254 is none of some classes. Where one of these is predicted there, it is a
    false alarm: it lowers precision and IoU of that class. Any other prediction may be right or
    wrong there, and counts nowhere.

    Args:
        num_classes: K, 1..254.

    Attributes:
        counts: (K, K + 1) int64, rows are the truth; column K holds "unlabelled".
        false_alarms: (K,) int64, pixels that are none of some classes, by the one of these that is
            predicted there.
        outside: (K,) int64, pixels that are known not to be of each class, and of no known class.
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes <= MAX_CLASSES:
            raise DataError(f"a confusion needs 1..{MAX_CLASSES} classes, got {num_classes}")
        self.num_classes = num_classes
        self.counts: npt.NDArray[np.int64] = np.zeros((num_classes, num_classes + 1), np.int64)
        self.false_alarms: npt.NDArray[np.int64] = np.zeros(num_classes, np.int64)
        self.outside: npt.NDArray[np.int64] = np.zeros(num_classes, np.int64)

    def add(
        self,
        truth: npt.NDArray[np.integer],
        prediction: npt.NDArray[np.integer],
        where: npt.NDArray[np.bool_] | None = None,
        excluded: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Count the pixels of one label image.

        Args:
            truth: any shape, ids below K, 254 or 255 (not scored).
            prediction: the same shape, ids below K or 255 (unlabelled).
            where: the same shape; pixels that are False are not scored.
            excluded: (K,) bool, the classes that pixels of the value 254 are not of; None: such
                pixels are not scored.

        Raises:
            DataError: shapes differ, or an id is neither below K nor one of these values.
        """
        if truth.shape != prediction.shape or (where is not None and where.shape != truth.shape):
            raise DataError(
                f"truth {truth.shape}, prediction {prediction.shape} and the scored region "
                "must have one shape"
            )
        k = self.num_classes
        has_class = (truth >= 0) & (truth < k)
        if not np.all(has_class | (truth == IGNORE) | (truth == OTHER)):
            raise DataError(f"truth holds ids that are neither below {k} nor {OTHER} or {IGNORE}")
        if np.any(((prediction < 0) | (prediction >= k)) & (prediction != IGNORE)):
            raise DataError(f"prediction holds ids that are neither below {k} nor {IGNORE}")
        scored = has_class if where is None else has_class & where
        true_ids = truth[scored].astype(np.int64)
        seen_ids = np.minimum(prediction[scored].astype(np.int64), k)
        flat = np.bincount(true_ids * (k + 1) + seen_ids, minlength=k * (k + 1))
        self.counts += flat.reshape(k, k + 1)
        if excluded is not None:
            is_other = truth == OTHER if where is None else (truth == OTHER) & where
            seen = np.bincount(prediction[is_other].astype(np.int64), minlength=k)[:k]
            self.false_alarms += np.where(excluded, seen, 0)
            self.outside += np.where(excluded, np.count_nonzero(is_other), 0)

    def scores(self) -> Scores:
        """Return the scores of what was counted so far."""
        hits = np.diag(self.counts[:, : self.num_classes]).astype(np.float64)
        truth = self.counts.sum(1).astype(np.float64)
        predicted = self.counts[:, : self.num_classes].sum(0).astype(np.float64)
        predicted += self.false_alarms
        union = truth + predicted - hits
        with np.errstate(invalid="ignore", divide="ignore"):
            # A class that is neither there nor predicted has no IoU: NaN, left out of the mean.
            iou = hits / union
            recall = hits / truth
            precision = hits / predicted
            false_alarms = self.false_alarms / self.outside
        total = truth.sum()
        return Scores(
            iou=tuple(iou.tolist()),
            recall=tuple(recall.tolist()),
            precision=tuple(precision.tolist()),
            # Where no pixel has a class, false alarms are all that can be counted.
            miou=float(np.nanmean(iou)) if total else float("nan"),
            accuracy=float(hits.sum() / total) if total else float("nan"),
            pixels=int(total),
            false_alarms=tuple(false_alarms.tolist()),
        )


@dataclass(frozen=True)
class Scores:
    """Scores over all counted pixels; NaN where nothing could be counted.

    Attributes:
        iou: per class, intersection over union, 0..1.
        recall: per class, hits / true pixels.
        precision: per class, hits / predicted pixels.
        miou: mean of the IoUs that exist.
        accuracy: hits / all scored pixels.
        pixels: scored pixels.
        false_alarms: per class, share of the pixels that are known not to be of it, and of no
            known class, on which it is predicted; empty: not counted.
    """

    iou: tuple[float, ...]
    recall: tuple[float, ...]
    precision: tuple[float, ...]
    miou: float
    accuracy: float
    pixels: int
    false_alarms: tuple[float, ...] = ()

    @property
    def all_false_alarms(self) -> float:
        """False alarms of all classes together; NaN: not counted."""
        known = [share for share in self.false_alarms if np.isfinite(share)]
        return sum(known) if known else float("nan")

    def to_dict(self, names: tuple[str, ...]) -> dict[str, object]:
        """Return plain data for JSON; NaN becomes None."""
        return {
            "miou": _finite(self.miou),
            "accuracy": _finite(self.accuracy),
            "pixels": self.pixels,
            "classes": {
                name: {
                    "iou": _finite(self.iou[i]),
                    "recall": _finite(self.recall[i]),
                    "precision": _finite(self.precision[i]),
                    **self._false_alarm(i),
                }
                for i, name in enumerate(names)
            },
        }

    def _false_alarm(self, k: int) -> dict[str, float]:
        share = self.false_alarms[k] if self.false_alarms else float("nan")
        return {"false_alarms": share} if np.isfinite(share) else {}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
