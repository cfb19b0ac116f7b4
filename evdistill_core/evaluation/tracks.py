"""Scores of tracks: MOTA, IDF1 and HOTA of boxes with ids, over whole sequences.

- **MOTA**: 1 - (misses + false boxes + changes of id) / true boxes, at an overlap of 0.5. A pair
  of the image before stays a pair as long as it overlaps enough.
- **IDF1**: each true track is given one found track, so that most boxes agree; F1 of these boxes.
- **HOTA**: for each overlap 0.05, 0.1 .. 0.95, the geometric mean of how well boxes are found
  (DetA) and how long they keep their id (AssA); averaged over the overlaps.

Source:
    Bernardin and Stiefelhagen, EURASIP 2008 (MOTA). Ristani et al., ECCV workshops 2016 (IDF1).
    Luiten et al., IJCV 2021 (HOTA): pairs are chosen as its authors' code does, by overlap times
    how well both tracks fit over the whole sequence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evdistill_core.evaluation.average_precision import TOLERANCE, box_overlaps
from evdistill_core.evaluation.detections import ScoredBox
from evdistill_core.inference.assignment import best_pairs

MIN_IOU = 0.5
ALPHAS = np.linspace(0.05, 0.95, 19)

Frame = tuple[Sequence[ScoredBox], Sequence[ScoredBox]]
Floats = npt.NDArray[np.float64]


@dataclass
class TrackCounts:
    """Counts of one class; those of several sequences are added.

    Attributes:
        true: true boxes.
        found: found boxes.
        right: found boxes of a pair, at an overlap of 0.5.
        switches: how often a true track went on under another id than before.
        same_id: boxes that agree when each true track has one found track.
        pairs: (19,) pairs at each overlap of HOTA.
        kept: (19,) sum over these pairs of how well their tracks go together.
    """

    true: int = 0
    found: int = 0
    right: int = 0
    switches: int = 0
    same_id: int = 0
    pairs: Floats = field(default_factory=lambda: np.zeros(len(ALPHAS)))
    kept: Floats = field(default_factory=lambda: np.zeros(len(ALPHAS)))

    def add(self, other: TrackCounts) -> None:
        """Add the counts of another class or sequence."""
        self.true += other.true
        self.found += other.found
        self.right += other.right
        self.switches += other.switches
        self.same_id += other.same_id
        self.pairs = self.pairs + other.pairs
        self.kept = self.kept + other.kept

    def to_dict(self) -> dict[str, float | int | None]:
        """Return scores for JSON, 0..1 (MOTA can fall below 0); None where there is no true box."""
        if not self.true:
            names = ("mota", "idf1", "hota", "det_a", "ass_a")
            return {**dict.fromkeys(names), "id_switches": self.switches}
        wrong = (self.true - self.right) + (self.found - self.right) + self.switches
        detected = self.pairs / (self.true + self.found - self.pairs)
        associated = self.kept / np.maximum(self.pairs, 1)
        return {
            "mota": 1 - wrong / self.true,
            "idf1": 2 * self.same_id / (self.true + self.found),
            "hota": float(np.sqrt(detected * associated).mean()),
            "det_a": float(detected.mean()),
            "ass_a": float(associated.mean()),
            "id_switches": self.switches,
        }


@dataclass
class TrackScorer:
    """Scores sequences of images with boxes that have ids; ids mean something in one sequence.

    Args:
        num_classes: ids of classes are below it. Boxes of two classes never make a pair.
    """

    num_classes: int
    _counts: list[TrackCounts] = field(init=False)

    def __post_init__(self) -> None:
        self._counts = [TrackCounts() for _ in range(self.num_classes)]

    def add_sequence(self, frames: Sequence[Frame]) -> None:
        """Count one sequence.

        Args:
            frames: (true boxes, found boxes) of every image, in order of time; all have ids.
        """
        for k, counts in enumerate(self._counts):
            own = [
                ([b for b in truth if b.class_id == k], [b for b in found if b.class_id == k])
                for truth, found in frames
            ]
            counts.add(_counted(own))

    def to_dict(self, names: Sequence[str]) -> dict[str, object]:
        """Return scores for JSON: of all classes together, and of each that is there."""
        total = TrackCounts()
        classes: dict[str, Mapping[str, object]] = {}
        for name, counts in zip(names, self._counts, strict=True):
            total.add(counts)
            if counts.true or counts.found:
                classes[name] = counts.to_dict()
        return {**total.to_dict(), "classes": classes}


def _counted(frames: Sequence[Frame]) -> TrackCounts:
    overlaps = [
        box_overlaps([b.box_xyxy for b in truth], [b.box_xyxy for b in found])
        for truth, found in frames
    ]
    counts = TrackCounts(sum(len(t) for t, _ in frames), sum(len(f) for _, f in frames))
    _count_mota(counts, frames, overlaps)
    _count_idf1(counts, frames, overlaps)
    _count_hota(counts, frames, overlaps)
    return counts


def _count_mota(counts: TrackCounts, frames: Sequence[Frame], overlaps: Sequence[Floats]) -> None:
    last: dict[str, str] = {}  # found id of each true id, as last seen
    before: dict[str, str] = {}  # the same, of the image before alone
    for (truth, found), overlap in zip(frames, overlaps, strict=True):
        is_enough = overlap >= MIN_IOU - TOLERANCE
        goes_on = np.array(
            [[before.get(t.track_id) == f.track_id for f in found] for t in truth], np.float64
        ).reshape(overlap.shape)
        # Pairs that go on come first, then as many pairs as there can be, then large overlaps.
        pairs = best_pairs(np.where(is_enough, 1000.0 * goes_on + 10.0 + overlap, 0.0))
        before = {truth[i].track_id: found[j].track_id for i, j in pairs}
        counts.right += len(pairs)
        counts.switches += sum(last.get(t, f) != f for t, f in before.items())
        last |= before


def _count_idf1(counts: TrackCounts, frames: Sequence[Frame], overlaps: Sequence[Floats]) -> None:
    agree: Counter[tuple[str, str]] = Counter()
    for (truth, found), overlap in zip(frames, overlaps, strict=True):
        for i, j in zip(*np.nonzero(overlap >= MIN_IOU - TOLERANCE), strict=True):
            agree[truth[i].track_id, found[j].track_id] += 1
    rows, columns = _numbered(t for t, _ in agree), _numbered(f for _, f in agree)
    table = np.zeros((len(rows), len(columns)))
    for (t, f), number in agree.items():
        table[rows[t], columns[f]] = number
    counts.same_id += int(sum(table[i, j] for i, j in best_pairs(table)))


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {name: k for k, name in enumerate(dict.fromkeys(names))}


def _count_hota(counts: TrackCounts, frames: Sequence[Frame], overlaps: Sequence[Floats]) -> None:
    true_ids = _numbered(b.track_id for truth, _ in frames for b in truth)
    found_ids = _numbered(b.track_id for _, found in frames for b in found)
    rows, columns = (
        [np.array([ids[b.track_id] for b in frame[side]], np.int64) for frame in frames]
        for side, ids in enumerate((true_ids, found_ids))
    )
    lengths = (
        np.bincount(np.concatenate([np.empty(0, np.int64), *rows]), minlength=len(true_ids)),
        np.bincount(np.concatenate([np.empty(0, np.int64), *columns]), minlength=len(found_ids)),
    )
    shape = (len(true_ids), len(found_ids))
    fit = np.zeros(shape)
    for i, j, overlap in zip(rows, columns, overlaps, strict=True):
        rest = overlap.sum(0)[None] + overlap.sum(1)[:, None] - overlap
        fit[i[:, None], j[None]] += np.divide(
            overlap, rest, out=np.zeros_like(overlap), where=rest > TOLERANCE
        )
    fit = fit / np.maximum(lengths[0][:, None] + lengths[1][None] - fit, TOLERANCE)
    together = np.zeros((len(ALPHAS), *shape))
    for i, j, overlap in zip(rows, columns, overlaps, strict=True):
        for a, b in best_pairs(fit[i[:, None], j[None]] * overlap):
            together[overlap[a, b] >= ALPHAS - TOLERANCE, i[a], j[b]] += 1
    counts.pairs = counts.pairs + together.sum((1, 2))
    either = np.maximum(lengths[0][None, :, None] + lengths[1][None, None] - together, 1)
    counts.kept = counts.kept + (together * together / either).sum((1, 2))
