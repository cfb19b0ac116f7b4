"""Ids that stay with a thing from window to window, and where it is going.

Every track has a Kalman filter (``box_filter``) with steps in sensor time: windows may be dropped
or overlap, and need no rule of their own. Detections are assigned to tracks in two rounds, the sure
ones first, as in ByteTrack (Zhang et al., ECCV 2022). Three things differ, because an event camera
sees only what moves and the boxes are connected components:

* A thing that is not seen may have moved on behind something, or may stand still. A track without
  a detection is looked for at both places.
* Two things that touch are one component. When the predicted boxes of two tracks fall onto one
  detection, both coast through this merge and are taken up again by place, size and velocity.
* The class of a component flickers. A track has the class with most votes over its life.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.ranges import Ranges, check_ranges
from evdistill_core.inference.assignment import best_pairs
from evdistill_core.inference.box_filter import Array, BoxFilter
from evdistill_core.inference.prediction import Detection

SETTLED = 3
"""Detections after which a track's velocity and size are trusted."""
SLACK_SIGMAS = 1.5
"""A detection may lie this many standard deviations off its prediction at no cost in overlap."""
OTHER_CLASS = 0.1
"""Loss of similarity, of 1, where detection and track differ in class."""
STANDS_STILL = 0.9
"""Factor of similarity to where a track was last seen, below that to where it should be."""
INSIDE = 0.5
"""A track is in a merge while this share of its predicted box lies in one detection."""
STILL_MERGED = 0.1
"""A merge goes on although one track alone fits its box better, by up to this overlap."""
PASSING_SIDES_PER_S = 0.5
"""Two things pass one another when their velocities differ by this many box sides a second ..."""
PASSING_SIGMAS = 3.0
"""... and by so many standard deviations of the difference."""

Index = npt.NDArray[np.intp]
Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class TrackerConfig:
    """How detections become tracks.

    Attributes:
        min_score: detections with this score or more are sure: they come first and begin tracks.
        min_iou: least overlap of a detection with the predicted box that keeps an id; it must
            touch it in any case. What the filter does not know of the place is allowed for.
        max_missed_s: an id survives this long unseen, seconds of sensor time.
        max_merged_s: tracks coast this long while one detection covers them, seconds.
        noise_px: standard deviation of a detection's centre, width and height, pixels.
        agility: change of velocity within a second, box sides a second (standard deviation).
        smooth: give out the filtered box once a track is settled, not the detection's.
    """

    min_score: float = 0.4
    min_iou: float = 0.2
    max_missed_s: float = 0.5
    max_merged_s: float = 1.0
    noise_px: float = 2.0
    agility: float = 1.0
    smooth: bool = True

    RANGES: ClassVar[Ranges] = {
        "min_score": (0, 1),
        "min_iou": (0, 1),
        "max_missed_s": (0, 60),
        "max_merged_s": (0, 60),
        "noise_px": (0.1, 100),
        "agility": (0.01, 100),
    }

    def __post_init__(self) -> None:
        """Refuse values that no track could be kept with."""
        check_ranges(self, **self.RANGES)


class _Saying(NamedTuple):
    """What is given out: a detection, the row of its track, and the box to say."""

    found: Detection
    row: int
    box: Box


@dataclass
class _Track:
    """What is known of a track beside its filter.

    Attributes:
        track_id: counted from 1.
        born_us: end of the window that showed it first.
        seen_us: end of the latest window that showed it, in a merge too.
        last_box: (4,) centre and size where it was last seen alone; None after a merge.
        merged_us: end of the first window of the merge that it is in.
        sightings: windows that showed it alone.
        streak: how many of them came one after another, up to the latest; merges do not count.
        votes: class id to the sum of scores.
        has_ended: it gave its place in a merge to an older track.
    """

    track_id: int
    born_us: int
    seen_us: int
    last_box: Array | None = None
    merged_us: int | None = None
    sightings: int = 0
    streak: int = 0
    votes: dict[int, float] = field(default_factory=dict)
    has_ended: bool = False

    @property
    def class_id(self) -> int:
        """The class with most votes; of equal ones the lower id."""
        if len(self.votes) == 1:
            return next(iter(self.votes))
        return min(self.votes, key=lambda c: (-self.votes[c], c))


class Tracker:
    """Follows the detections of one stream.

    Attributes:
        config: may be replaced at any time; holds from the next window on.
    """

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = config or TrackerConfig()
        self._next_id = 1
        self._now_us = 0
        self._before_us = 0
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; ids go on counting, so that none is used twice."""
        self._tracks: list[_Track] = []
        self._filter = BoxFilter(noise_px=self.config.noise_px, agility=self.config.agility)

    def update(
        self,
        detections: Sequence[Detection],
        *,
        t_start_us: int,
        t_end_us: int,
        size: tuple[int, int] | None = None,
    ) -> tuple[Detection, ...]:
        """Return the detections of the next window with ids, ages and velocities.

        A detection below ``min_score`` is left out unless it goes on with a track. In a merge of
        things that pass one another, each track takes its predicted part of the detection's box;
        a merge of things that move alike stays one detection, of the oldest id.

        Args:
            detections: of one window; their order makes no difference to ids.
            t_start_us: start of the window, microseconds of sensor time.
            t_end_us: its end. If it lies before that of the last window, all tracks are forgotten.
            size: (height, width) of the sensor, to which smoothed boxes are cut; None: no limit.
        """
        self._advance(t_start_us, t_end_us)
        # Sorted, so that the order of the detections decides neither ties nor new ids.
        order = sorted(range(len(detections)), key=lambda i: _rank(detections[i]))
        found = [detections[i] for i in order]
        corners = np.array([d.box_xyxy for d in found], np.float64).reshape(-1, 4)
        pairs = self._assign(found, corners)
        merges = self._find_merges(pairs, corners)
        named: dict[int, list[_Saying]] = {}
        for i, members in merges.items():
            named[i] = self._follow_merge(found[i], corners[i], members)
        alone = {i: row for row, i in pairs.items() if i not in merges}
        self._follow_alone(found, corners, alone)
        starts = [
            i
            for i, d in enumerate(found)
            if i not in alone and i not in merges and d.score >= self.config.min_score
        ]
        alone |= self._begin(found, corners, starts)
        smoothed = self._filter.corners().tolist()
        for i, row in alone.items():
            named[i] = [_Saying(found[i], row, self._box(found[i], row, smoothed[row], size))]
        place = {i: k for k, i in enumerate(order)}
        sayings = [s for i in range(len(detections)) for s in named.get(place[i], ())]
        said = self._described(sayings)
        self._forget_ended()
        return said

    def _advance(self, t_start_us: int, t_end_us: int) -> None:
        if t_end_us < self._now_us:
            self.reset()
        config = self.config
        self._filter.noise_px, self._filter.agility = config.noise_px, config.agility
        if self._tracks:
            longest_us = round(config.max_missed_s * 1e6)
            kept = [i for i, t in enumerate(self._tracks) if t_start_us - t.seen_us <= longest_us]
            self._keep(kept)
            self._filter.predict((t_end_us - self._now_us) / 1e6)
        self._before_us, self._now_us = self._now_us, t_end_us

    def _keep(self, rows: list[int]) -> None:
        if len(rows) < len(self._tracks):
            self._tracks = [self._tracks[i] for i in rows]
            self._filter.keep(np.array(rows, np.intp))

    def _forget_ended(self) -> None:
        self._keep([i for i, t in enumerate(self._tracks) if not t.has_ended])

    def _assign(self, found: list[Detection], corners: Array) -> dict[int, int]:
        """Return track row to detection, from both rounds."""
        if not self._tracks or not found:
            return {}
        similarity = self._similarity(found, corners)
        is_sure = np.array([d.score >= self.config.min_score for d in found])
        pairs: dict[int, int] = {}
        for round_of in (is_sure, ~is_sure):
            columns = np.flatnonzero(round_of)
            rows = np.array([r for r in range(len(self._tracks)) if r not in pairs], np.intp)
            chosen = best_pairs(similarity[np.ix_(rows, columns)])
            pairs |= {int(rows[r]): int(columns[c]) for r, c in chosen}
        return pairs

    def _similarity(self, found: list[Detection], corners: Array) -> Array:
        """Return (tracks, detections) in 0..1; 0 where the two cannot be the same thing."""
        boxes, noise = self._filter, self.config.noise_px
        sigma = np.sqrt(boxes.centre_var + noise**2)
        slack = np.minimum(SLACK_SIGMAS * sigma, boxes.size.mean(axis=1, keepdims=True))
        similarity = self._likeness(boxes.centre, boxes.size, slack, corners)
        unseen = [
            i
            for i, t in enumerate(self._tracks)
            if t.last_box is not None and t.seen_us < self._now_us
        ]
        if unseen:
            last = np.array([self._tracks[i].last_box for i in unseen])
            slack = np.full((len(unseen), 2), SLACK_SIGMAS * math.sqrt(2) * noise)
            still = self._likeness(last[:, :2], last[:, 2:], slack, corners) * STANDS_STILL
            similarity[unseen] = np.maximum(similarity[unseen], still)
        classes = np.array([t.class_id for t in self._tracks])
        differs = classes[:, None] != np.array([d.class_id for d in found])
        lowered = np.maximum(similarity - OTHER_CLASS * differs, 1e-3)
        return np.where(similarity > 0, lowered, 0.0)

    def _likeness(self, centre: Array, size: Array, slack: Array, corners: Array) -> Array:
        """Return the mean of both overlaps, with and without slack, or 0 below ``min_iou``."""
        other_size = corners[:, 2:] - corners[:, :2]
        other_centre = (corners[:, :2] + corners[:, 2:]) / 2
        plain = loose = np.ones((len(centre), len(corners)))
        # Axis by axis: sums over a last axis of two are slow in NumPy.
        for k in (0, 1):
            smaller = np.minimum(size[:, None, k], other_size[:, k])
            reach = (size[:, None, k] + other_size[:, k]) / 2
            reach -= np.abs(centre[:, None, k] - other_centre[:, k])
            plain = plain * np.clip(reach, 0, smaller)
            loose = loose * np.clip(reach + slack[:, None, k], 0, smaller)
        areas = size.prod(axis=1)[:, None] + other_size.prod(axis=1)
        # Detections without area share nothing; the least number keeps 0 / 0 out.
        least = np.finfo(np.float64).tiny
        plain = plain / np.maximum(areas - plain, least)
        loose = loose / np.maximum(areas - loose, least)
        return np.where((loose > 0) & (loose >= self.config.min_iou), (plain + loose) / 2, 0.0)

    def _find_merges(self, pairs: dict[int, int], corners: Array) -> dict[int, list[int]]:
        """Return detection to the rows of the two or more tracks that have merged in it."""
        lost = [
            row for row, t in enumerate(self._tracks) if row not in pairs and self._may_merge(t)
        ]
        if not lost or not len(corners):
            return {}
        predicted = self._filter.corners()
        inside = shared_areas(predicted[lost], corners) / self._filter.size[lost].prod(
            axis=1, keepdims=True
        )
        groups: dict[int, list[int]] = {}
        for row, shares in zip(lost, inside, strict=True):
            i = int(shares.argmax())
            if shares[i] >= INSIDE:
                groups.setdefault(i, []).append(row)
        for row, i in pairs.items():
            if i in groups and self._may_merge(self._tracks[row]):
                groups[i].append(row)
        return {i: rows for i, rows in groups.items() if self._is_merge(rows, corners[i])}

    def _may_merge(self, track: _Track) -> bool:
        """Tell whether a track was there up to the last window: pieces that flicker never merge."""
        return track.streak >= SETTLED and track.seen_us == self._before_us

    def _is_merge(self, rows: list[int], box: Array) -> bool:
        """Tell whether the tracks together explain a box better than one of them alone."""
        if len(rows) < 2:
            return False
        predicted = self._filter.corners()[rows]
        together = np.concatenate([predicted[:, :2].min(axis=0), predicted[:, 2:].max(axis=0)])
        both = np.concatenate([predicted, together[None]])
        overlaps = [box_iou(other, box.tolist()) for other in both.tolist()]
        before = STILL_MERGED if any(self._tracks[r].merged_us is not None for r in rows) else 0.0
        return overlaps[-1] > max(overlaps[:-1]) - before

    def _follow_merge(self, found: Detection, box: Array, rows: list[int]) -> list[_Saying]:
        """Let the tracks of a merge coast; return what is said about its detection."""
        rows = sorted(rows, key=lambda r: self._tracks[r].track_id)
        tracks = [self._tracks[r] for r in rows]
        for track in tracks:
            track.merged_us = self._now_us if track.merged_us is None else track.merged_us
            track.seen_us = self._now_us
            track.last_box = None
        longest_us = max(self._now_us - t.merged_us for t in tracks if t.merged_us is not None)
        if longest_us > self.config.max_merged_s * 1e6:
            # Nothing says any more that these are several things.
            for track in tracks[1:]:
                track.has_ended = True
            tracks[0].merged_us = None
            self._see([found], box[None], np.array(rows[:1], np.intp), restart=True)
            return [_Saying(found, rows[0], found.box_xyxy)]
        if not self._pass_one_another(rows):
            return [_Saying(found, rows[0], found.box_xyxy)]
        parts = []
        for row, corners in zip(rows, self._filter.corners()[rows], strict=True):
            low, high = np.maximum(corners[:2], box[:2]), np.minimum(corners[2:], box[2:])
            if (low >= high).any():
                continue
            part = _rounded([*low.tolist(), *high.tolist()])
            share = (part[2] - part[0]) * (part[3] - part[1]) / box_area(found.box_xyxy)
            area_px = max(1, round(found.area_px * min(share, 1.0)))
            parts.append(_Saying(replace(found, area_px=area_px), row, part))
        return parts

    def _pass_one_another(self, rows: list[int]) -> bool:
        boxes = self._filter
        side = float(np.sqrt(boxes.size[rows].prod(axis=1)).min())
        for k, a in enumerate(rows):
            for b in rows[k + 1 :]:
                differ = np.abs(boxes.velocity[a] - boxes.velocity[b])
                sigma = np.sqrt(boxes.velocity_var[a] + boxes.velocity_var[b])
                limit = np.maximum(PASSING_SIDES_PER_S * side, PASSING_SIGMAS * sigma)
                if (differ > limit).any():
                    return True
        return False

    def _follow_alone(self, found: list[Detection], corners: Array, alone: dict[int, int]) -> None:
        """Take the detections of single tracks into their filters."""
        if not alone:
            return
        columns = np.array(list(alone), np.intp)
        rows = np.array(list(alone.values()), np.intp)
        boxes, measured = self._filter, corners[columns]
        centre = (measured[:, :2] + measured[:, 2:]) / 2
        # Found where it stood still, not where it would have gone: its velocity is not known.
        slack = SLACK_SIGMAS * np.sqrt(boxes.centre_var[rows] + self.config.noise_px**2)
        reach = slack + (boxes.size[rows] + measured[:, 2:] - measured[:, :2]) / 2
        is_far = (np.abs(centre - boxes.centre[rows]) >= reach).any(axis=1)
        for is_restart in (False, True):
            chosen = is_far == is_restart
            for_rows = [found[i] for i in columns[chosen]]
            self._see(for_rows, measured[chosen], rows[chosen], restart=is_restart)

    def _see(
        self, found: Sequence[Detection], corners: Array, rows: Index, *, restart: bool
    ) -> None:
        if not len(rows):
            return
        centre, size = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
        (self._filter.restart if restart else self._filter.correct)(rows, centre, size)
        boxes = np.concatenate([centre, size], axis=1)
        for row, detection, box in zip(rows.tolist(), found, boxes, strict=True):
            track = self._tracks[row]
            is_next = track.sightings and track.seen_us == self._before_us
            track.streak = track.streak + 1 if is_next else 1
            track.seen_us = self._now_us
            track.last_box = box
            track.merged_us = None
            track.sightings += 1
            votes = track.votes.get(detection.class_id, 0.0)
            track.votes[detection.class_id] = votes + detection.score

    def _begin(self, found: list[Detection], corners: Array, starts: list[int]) -> dict[int, int]:
        """Begin a track for each of these detections; return detection to row."""
        if not starts:
            return {}
        rows = np.arange(len(self._tracks), len(self._tracks) + len(starts))
        for _ in starts:
            self._tracks.append(_Track(self._next_id, self._now_us, self._now_us))
            self._next_id += 1
        chosen = corners[starts]
        self._filter.add((chosen[:, :2] + chosen[:, 2:]) / 2, chosen[:, 2:] - chosen[:, :2])
        self._see([found[i] for i in starts], chosen, rows, restart=True)
        return dict(zip(starts, rows.tolist(), strict=True))

    def _box(
        self, found: Detection, row: int, smoothed: list[float], size: tuple[int, int] | None
    ) -> Box:
        if not self.config.smooth or self._tracks[row].sightings < SETTLED:
            return found.box_xyxy
        return _cut(_rounded(smoothed), size) or found.box_xyxy

    def _described(self, sayings: list[_Saying]) -> tuple[Detection, ...]:
        """Return detections with everything that is known of their tracks."""
        boxes, rows = self._filter, [s.row for s in sayings]
        columns = (boxes.velocity, boxes.centre_var, boxes.cross_cov, boxes.velocity_var)
        numbers = np.concatenate([column[rows] for column in columns], axis=1).tolist()
        described = []
        for (found, row, box), (u, v, xx, yy, xu, yv, uu, vv) in zip(sayings, numbers, strict=True):
            track = self._tracks[row]
            covariance = (
                (xx, 0.0, xu, 0.0),
                (0.0, yy, 0.0, yv),
                (xu, 0.0, uu, 0.0),
                (0.0, yv, 0.0, vv),
            )
            described.append(
                Detection(
                    track.class_id,
                    found.score,
                    box,
                    found.area_px,
                    track.track_id,
                    found.class_name,
                    (self._now_us - track.born_us) / 1e6,
                    (u, v),
                    covariance,
                    found.instance_id,
                )
            )
        return tuple(described)


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Return intersection over union of two half-open boxes xyxy; 0 when they do not touch."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (box_area(a) + box_area(b) - shared)


def box_area(box: Sequence[float]) -> float:
    """Return the area of a box xyxy."""
    return (box[2] - box[0]) * (box[3] - box[1])


def _rank(detection: Detection) -> tuple[float, ...]:
    d = detection
    return (-d.area_px, *d.box_xyxy, d.class_id, -d.score)


def shared_areas(boxes: Array, others: Array) -> Array:
    """Return (N, M) areas that boxes (N, 4) and (M, 4) xyxy share."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.asarray(np.maximum(high - low, 0).prod(axis=2), np.float64)


def _rounded(corners: Sequence[float]) -> Box:
    """Return a box of whole pixels, at least one pixel wide and high."""
    left, top, right, bottom = (round(v) for v in corners)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _cut(box: Box, size: tuple[int, int] | None) -> Box | None:
    """Return the part of a box inside the image; None where there is none."""
    if size is None:
        return box
    height, width = size
    left, top = max(box[0], 0), max(box[1], 0)
    right, bottom = min(box[2], width), min(box[3], height)
    return (left, top, right, bottom) if left < right and top < bottom else None
