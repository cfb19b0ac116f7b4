"""Ids that stay with a component from window to window: greedy matching by overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from evdistill_core.inference.prediction import Detection

Box = tuple[int, int, int, int]


@dataclass
class _Track:
    track_id: int
    class_id: int
    box_xyxy: Box
    missed: int = 0


class Tracker:
    """Gives each detection the id of the track that it overlaps most.

    Pairs of the same class are taken in falling order of intersection over union; what stays
    without a partner gets a new id. A track that finds no partner is kept at its last box for
    ``max_missed`` windows: a car that stops for a moment sends no events.

    Attributes:
        min_iou: least overlap of a pair, above 0 and up to 1; may be changed at any time.
        max_missed: windows that a track survives unseen, 0 or more; the same.
    """

    def __init__(self, *, min_iou: float = 0.2, max_missed: int = 4) -> None:
        self.min_iou = min_iou
        self.max_missed = max_missed
        self._tracks: list[_Track] = []
        self._next_id = 1

    def reset(self) -> None:
        """Forget all tracks; ids start at 1 again."""
        self._tracks = []
        self._next_id = 1

    def update(
        self, detections: Sequence[Detection], *, min_score: float = 0.0
    ) -> tuple[Detection, ...]:
        """Return the detections of the next window with their ids, in the order given.

        Args:
            detections: of one window.
            min_score: a detection below it is dropped unless it goes on with a track: what was
                sure once may waver.
        """
        pairs = sorted(
            (
                (-box_iou(track.box_xyxy, d.box_xyxy), track.track_id, i, track)
                for track in self._tracks
                for i, d in enumerate(detections)
                if track.class_id == d.class_id
            ),
            key=lambda pair: pair[:3],
        )
        partner: dict[int, _Track] = {}
        taken: set[int] = set()
        for negative_iou, track_id, i, track in pairs:
            if -negative_iou >= self.min_iou and i not in partner and track_id not in taken:
                partner[i] = track
                taken.add(track_id)
        for track in self._tracks:
            track.missed = 0 if track.track_id in taken else track.missed + 1
        self._tracks = [t for t in self._tracks if t.missed <= self.max_missed]
        return tuple(
            self._named(d, partner.get(i))
            for i, d in enumerate(detections)
            if i in partner or d.score >= min_score
        )

    def _named(self, detection: Detection, track: _Track | None) -> Detection:
        if track is None:
            track = _Track(self._next_id, detection.class_id, detection.box_xyxy)
            self._next_id += 1
            self._tracks.append(track)
        track.box_xyxy = detection.box_xyxy
        return replace(detection, track_id=track.track_id)


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Return intersection over union of two half-open boxes xyxy; 0 when they do not touch."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (both - shared)
