"""Scores by block of time, intervals by resampling blocks, and the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from evdistill_core.data.samples import Sample
from evdistill_core.evaluation.confusion import Confusion
from evdistill_core.evaluation.segmentation import near_events, predict_mask
from evdistill_core.foundation.labels import (
    CAMVID_CLASSES,
    CAMVID_TO_SIX,
    IGNORE,
    SIX_CLASSES,
)

Logits = npt.NDArray[np.float32]
DRAWS = 2000
RADIUS_PX = 3
TO_SIX = np.array(
    [SIX_CLASSES.names.index(CAMVID_TO_SIX[n]) for n in CAMVID_CLASSES.names], np.uint8
)


def merged(logits: Logits) -> Logits:
    """Return the log posterior over the six classes: probabilities are summed, not arg-maxed.

    Args:
        logits: (11, h, w).
    """
    posterior = np.exp(logits - logits.max(0))
    posterior /= posterior.sum(0)
    six = np.zeros((len(SIX_CLASSES), *logits.shape[1:]), np.float32)
    np.add.at(six, TO_SIX, posterior)
    return np.log(np.maximum(six, 1e-12))


def score(
    predict: Callable[[Logits], Logits], samples: Iterable[Sample], blocks: Sequence[int]
) -> dict[str, object]:
    """Score eleven-class logits in eleven and in six classes.

    Returns:
        Plain data: mIoU of both, per-class IoU, mIoU near events, and the six-class confusion of
        every block.
    """
    eleven, near = Confusion(len(CAMVID_CLASSES)), Confusion(len(SIX_CLASSES))
    by_block = [Confusion(len(SIX_CLASSES)) for _ in range(max(blocks) + 1)]
    table = np.append(TO_SIX, np.full(256 - len(TO_SIX), IGNORE, np.uint8))
    for sample, block in zip(samples, blocks, strict=True):
        height, width = sample.label.shape
        logits = predict(sample.input)
        eleven.add(sample.label, predict_mask(logits, height=height, width=width))
        mask = predict_mask(merged(logits), height=height, width=width)
        label = table[sample.label]
        by_block[block].add(label, mask)
        near.add(label, mask, near_events(sample.active, RADIUS_PX))
    counts = np.stack([c.counts[:, :-1] for c in by_block])
    return {
        "miou_6": round(100 * miou(counts.sum(0)), 2),
        "miou_11": round(100 * eleven.scores().miou, 2),
        "near_events_6": round(100 * near.scores().miou, 2),
        "iou_6": _named(per_class(counts.sum(0)), SIX_CLASSES.names),
        "iou_11": _named(np.array(eleven.scores().iou), CAMVID_CLASSES.names),
        "blocks_6": counts.reshape(len(counts), -1).tolist(),
    }


def per_class(counts: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return IoU by class of (..., K, K) counts, rows the truth; NaN for absent classes."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    union = counts.sum(-1) + counts.sum(-2) - hits
    with np.errstate(invalid="ignore", divide="ignore"):
        return hits / union


def miou(counts: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return the mean IoU of (..., K, K) counts over the classes that exist."""
    return np.nanmean(per_class(counts), axis=-1)


def resampled(runs: Sequence[Sequence[Sequence[int]]]) -> npt.NDArray[np.float64]:
    """Return the mean mIoU over seeds for every resampling of blocks, in percent.

    The draws depend on the number of blocks alone: two rows are resampled alike, so that their
    difference is a paired one.

    Args:
        runs: one a seed, (blocks, K * K) counts each.

    Returns:
        (DRAWS,).
    """
    k = len(SIX_CLASSES)
    counts = np.array(runs, np.int64).reshape(len(runs), -1, k, k)
    blocks = counts.shape[1]
    drawn = np.random.default_rng(blocks).integers(blocks, size=(DRAWS, blocks))
    times = np.stack([np.bincount(d, minlength=blocks) for d in drawn])
    return 100 * miou(np.einsum("db,sbij->sdij", times, counts)).mean(0)


def interval(draws: npt.NDArray[np.float64]) -> list[float]:
    """Return the middle 95 % of the draws."""
    return [round(float(v), 2) for v in np.quantile(draws, (0.025, 0.975))]


def _named(values: npt.NDArray[np.float64], names: Sequence[str]) -> dict[str, float | None]:
    return {
        n: round(100 * float(v), 1) if np.isfinite(v) else None
        for n, v in zip(names, values, strict=True)
    }
