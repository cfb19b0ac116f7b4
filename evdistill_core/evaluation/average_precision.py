"""Average precision as COCO defines it: at one overlap, and averaged over ten of them.

Precision is read at 101 recalls (0, 0.01 .. 1), each the best that is to be had at this recall or a
higher one, and averaged. "AP50" takes boxes that overlap by 0.5, "AP" the mean over the overlaps
0.5, 0.55 .. 0.95.

Source:
    Lin et al., ECCV 2014, and the evaluation of the COCO challenge. Differs: there are no crowds,
    no areas, and no limit of 100 detections an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evdistill_core.evaluation.detections import ScoredBox
from evdistill_core.inference.tracking import shared_areas

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
# Overlaps are ratios: one of 0.6 is not missed because its last bit fell.
TOLERANCE = 1e-9

Floats = npt.NDArray[np.float64]


def box_overlaps(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Return intersection over union of boxes, (N, M) float64.

    Args:
        a: (N, 4) left, top, right, bottom, half open.
        b: (M, 4) the same.
    """
    first = np.asarray(a, np.float64).reshape(-1, 4)
    second = np.asarray(b, np.float64).reshape(-1, 4)
    shared = shared_areas(first, second)
    areas = [np.maximum(x[:, 2:] - x[:, :2], 0.0).prod(-1) for x in (first, second)]
    both = areas[0][:, None] + areas[1][None] - shared
    return np.asarray(np.divide(shared, both, out=np.zeros_like(shared), where=both > 0))


def instance_overlaps(
    a: npt.NDArray[np.uint16], b: npt.NDArray[np.uint16]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """Return the things of two maps of instances, and intersection over union of their pixels.

    Args:
        a: (H, W) uint16, 0: no thing.
        b: the same.

    Returns:
        Numbers in ``a`` (N,) and in ``b`` (M,), rising, and (N, M) float64.
    """
    names_a, index_a = np.unique(a, return_inverse=True)
    names_b, index_b = np.unique(b, return_inverse=True)
    pairs = index_a.reshape(-1) * len(names_b) + index_b.reshape(-1)
    counts = np.bincount(pairs, minlength=len(names_a) * len(names_b)).astype(np.float64)
    shared = counts.reshape(len(names_a), len(names_b))
    both = shared.sum(1)[:, None] + shared.sum(0)[None] - shared
    own = names_a > 0, names_b > 0
    overlaps = (shared / np.maximum(both, 1))[own[0]][:, own[1]]
    return names_a[own[0]].astype(np.int64), names_b[own[1]].astype(np.int64), overlaps


@dataclass
class AveragePrecision:
    """Collects the things of one class, image by image.

    The surest thing of an image chooses first: the true one that it overlaps most of those left.
    """

    num_true: int = 0
    num_found: int = 0
    _scores: list[Floats] = field(default_factory=list)
    _hits: list[npt.NDArray[np.bool_]] = field(default_factory=list)

    def add(self, overlaps: Floats, scores: Sequence[float]) -> None:
        """Count one image.

        Args:
            overlaps: (found, true) intersection over union.
            scores: (found,) how sure.
        """
        order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
        self.num_true += overlaps.shape[1]
        self.num_found += len(order)
        hits = np.zeros((len(OVERLAPS), len(order)), np.bool_)
        for k, least in enumerate(OVERLAPS):
            is_left = np.ones(overlaps.shape[1], np.bool_)
            for place, i in enumerate(order):
                rivals = np.where(is_left, overlaps[i], -1.0)
                if len(rivals) and rivals.max() >= least - TOLERANCE:
                    is_left[rivals.argmax()] = False
                    hits[k, place] = True
        self._scores.append(np.asarray(scores, np.float64)[order])
        self._hits.append(hits)

    def at_overlaps(self) -> Floats | None:
        """Return AP at each of ``OVERLAPS``, (10,), 0..1; None where no thing was true."""
        if not self.num_true:
            return None
        order = np.argsort(-np.concatenate(self._scores), kind="stable")
        right = np.cumsum(np.concatenate(self._hits, axis=1)[:, order], axis=1, dtype=np.float64)
        precision = right / np.arange(1, len(order) + 1)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        found = np.zeros((len(OVERLAPS), len(RECALLS)))
        for k in range(len(OVERLAPS)):
            at = np.searchsorted(right[k] / self.num_true, RECALLS - TOLERANCE)
            inside = at < len(order)
            found[k, inside] = best[k, at[inside]]
        return np.asarray(found.mean(1), np.float64)

    def to_dict(self) -> dict[str, float | None]:
        """Return AP50 and AP for JSON, 0..1; None where no thing was true."""
        found = self.at_overlaps()
        if found is None:
            return {"ap50": None, "ap50_95": None}
        return {"ap50": float(found[0]), "ap50_95": float(found.mean())}


@dataclass
class BoxPrecision:
    """Average precision of boxes, class by class.

    Args:
        num_classes: ids of classes are below it.
    """

    num_classes: int
    _classes: list[AveragePrecision] = field(init=False)

    def __post_init__(self) -> None:
        self._classes = [AveragePrecision() for _ in range(self.num_classes)]

    def add(self, truth: Sequence[ScoredBox], found: Sequence[ScoredBox]) -> None:
        """Count the boxes of one image."""
        for k, scorer in enumerate(self._classes):
            true = [b.box_xyxy for b in truth if b.class_id == k]
            own = [b for b in found if b.class_id == k]
            scorer.add(box_overlaps([b.box_xyxy for b in own], true), [b.score for b in own])

    def to_dict(self, names: Sequence[str]) -> dict[str, object]:
        """Return AP50 and AP of every class that is there, and their means over true classes."""
        rows = {
            name: scorer.to_dict()
            for name, scorer in zip(names, self._classes, strict=True)
            if scorer.num_true or scorer.num_found
        }
        means = {}
        for key in ("ap50", "ap50_95"):
            known = [value for row in rows.values() if (value := row[key]) is not None]
            means[key] = float(np.mean(known)) if known else None
        return {**means, "classes": rows}
