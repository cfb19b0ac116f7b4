"""Logits of a student -> mask, confidence, detections.

Masks are made at the resolution of the network's input and enlarged when somebody asks: between two
pixels of the input there is nothing that the network could have seen. Where a label may stand, and
where a thing ends, is told by the events at sensor resolution (``Support``).

An event camera on a tripod sees only what moves. Where no event came, a network guesses from its
prior, and a guess looks like knowledge in a mask. So a pixel keeps its class only when events lie
near it in the same window; all others say 255, unlabelled (``unlabelled_radius_px``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import cv2
import numba
import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.foundation.labels import IGNORE
from evdistill_core.foundation.ranges import Ranges, check_ranges
from evdistill_core.inference.grouping import GroupingConfig, Instances, group
from evdistill_core.inference.prediction import (
    Detection,
    InstanceOutput,
    Maps,
    Prediction,
    refuse_unfinite,
)
from evdistill_core.inference.support import Support
from evdistill_core.inference.tracking import Tracker, TrackerConfig

HowApart = Literal["auto", "components"]
MAX_INSTANCES = np.iinfo(np.uint16).max
"""What comes after is a detection without pixels in the map."""


@dataclass(frozen=True, kw_only=True)
class PostprocessConfig:
    """How a mask is made from logits.

    Attributes:
        unlabelled_radius_px: a pixel with no event in the square of this radius is 255; -1
            publishes what the network says everywhere.
        min_neighbours: an event supports labels only when at least this many other pixels of its
            3 x 3 neighbourhood fired too (sensor noise comes alone); 0 trusts every event.
        closing_px: gaps of up to twice this many pixels between supported regions are filled (a
            car's inside is often silent).
        instances: how things are told apart. "auto": by centres and offsets where the student has
            an instance head, else by components. "components": always so.
        join_px: components: parts of things up to twice this far apart are one detection.
        min_area_px: smaller things are no detections.
        centre_min_score: instance head: a maximum of its heat map below this is no centre.
        centre_distance_px: instance head: two centres are further apart than this; never less than
            one cell of the network.
        centre_valley: instance head: two maxima are one centre unless the heat between them falls
            below this share of the lower one; 1: every maximum is a centre.
        vote_reach_px: instance head: a pixel belongs to a centre when its offset leads this near,
            or misses it by half of its own length.
        min_score: things with a lower score are no detections ...
        keep_score: ... unless they go on with an id and score at least this.
        track_min_iou: overlap with the predicted box that keeps an id.
        track_max_missed_s: seconds of sensor time that an id survives unseen.
        track_max_merged_s: seconds that ids survive while one component covers several things.
        track_noise_px: standard deviation of a component's centre, width and height.
        track_agility: change of velocity within a second, box sides a second.
        track_smooth_boxes: give out filtered boxes from the third window of a track on.
    """

    unlabelled_radius_px: int = 3
    min_neighbours: int = 1
    closing_px: int = 3
    instances: HowApart = "auto"
    join_px: int = 4
    min_area_px: int = 60
    centre_min_score: float = GroupingConfig.min_score
    centre_distance_px: float = GroupingConfig.distance_px
    centre_valley: float = GroupingConfig.valley
    vote_reach_px: float = GroupingConfig.reach_px
    min_score: float = TrackerConfig.min_score
    keep_score: float = 0.3
    track_min_iou: float = TrackerConfig.min_iou
    track_max_missed_s: float = TrackerConfig.max_missed_s
    track_max_merged_s: float = TrackerConfig.max_merged_s
    track_noise_px: float = TrackerConfig.noise_px
    track_agility: float = TrackerConfig.agility
    track_smooth_boxes: bool = TrackerConfig.smooth

    RANGES: ClassVar[Ranges] = {
        "unlabelled_radius_px": (-1, 64),
        "min_neighbours": (0, 8),
        "closing_px": (0, 32),
        "join_px": (0, 32),
        "min_area_px": (1, 1 << 24),
        "centre_min_score": GroupingConfig.RANGES["min_score"],
        "centre_distance_px": GroupingConfig.RANGES["distance_px"],
        "centre_valley": GroupingConfig.RANGES["valley"],
        "vote_reach_px": GroupingConfig.RANGES["reach_px"],
        "min_score": TrackerConfig.RANGES["min_score"],
        "keep_score": (0, 1),
        **{f"track_{k}": v for k, v in TrackerConfig.RANGES.items() if k != "min_score"},
    }

    def __post_init__(self) -> None:
        """Refuse values that no mask could be made with."""
        check_ranges(self, **self.RANGES)
        if self.instances not in get_args(HowApart):
            allowed = ", ".join(get_args(HowApart))
            raise ConfigError(f"instances must be one of {allowed}, got {self.instances!r}")

    def grouping(self) -> GroupingConfig:
        """Return the part that makes instances of centres and offsets."""
        return GroupingConfig(
            min_score=self.centre_min_score,
            distance_px=self.centre_distance_px,
            valley=self.centre_valley,
            reach_px=self.vote_reach_px,
        )

    def tracker(self) -> TrackerConfig:
        """Return the part that makes tracks of detections."""
        return TrackerConfig(
            min_score=self.min_score,
            min_iou=self.track_min_iou,
            max_missed_s=self.track_max_missed_s,
            max_merged_s=self.track_max_merged_s,
            noise_px=self.track_noise_px,
            agility=self.track_agility,
            smooth=self.track_smooth_boxes,
        )


class Postprocessor:
    """Turns the logits of successive windows of one stream into predictions.

    Holds the tracker's state, so use one for each stream, and ``reset`` it when time jumps.

    Args:
        config: how masks and detections are made.
        thing_ids: ids of the countable classes.
        names: class names by id, for detections; empty leaves them without a name.
    """

    def __init__(
        self, config: PostprocessConfig, thing_ids: Sequence[int], names: Sequence[str] = ()
    ) -> None:
        self._names = tuple(names)
        self._is_thing = np.zeros(256, np.uint8)
        self._is_thing[list(thing_ids)] = 1
        self._tracker = Tracker()
        self.configure(config)

    def configure(self, config: PostprocessConfig) -> None:
        """Take new settings from the next window on; tracks go on."""
        self._config = config
        self._tracker.config = config.tracker()

    def reset(self) -> None:
        """Forget the tracks (after a jump in time or a new sensor size); no id is used twice."""
        self._tracker.reset()

    def warm_up(
        self,
        logits: npt.NDArray[np.float32],
        events: Events,
        *,
        stride: float,
        head: InstanceOutput | None = None,
        factor: int = 1,
    ) -> Prediction:
        """Run every step once: a dense mask in which every class is a thing, and one as told."""
        every = range(len(logits))
        dense = replace(
            self._config, unlabelled_radius_px=-1, min_area_px=1, min_score=0, keep_score=0,
            centre_min_score=0, instances="auto",
        )  # fmt: skip
        for config in (self._config, replace(dense, instances="components"), dense):
            post = Postprocessor(config, every)
            for span_us in ((0, 1), (1, 2)):  # the second window assigns to the first one's tracks
                last = post(
                    logits, events, stride=stride, span_us=span_us, head=head, factor=factor
                )
        # The sensor may turn out to be one whose input is reduced.
        post(logits, events, stride=stride, span_us=(2, 3), head=head, factor=factor + 1)
        return last

    def __call__(  # noqa: PLR0913 - what the network says, and where it lies
        self,
        logits: npt.NDArray[np.float32],
        events: Events,
        *,
        stride: float,
        span_us: tuple[int, int],
        head: InstanceOutput | None = None,
        factor: int = 1,
    ) -> Prediction:
        """Return the prediction of one window.

        Args:
            logits: (K, h, w) float32 of the padded input; its top left is the sensor's.
            events: those of the window, inside the frame; they carry the sensor's size.
            stride: sensor pixels a logit (network stride times the input's shrink factor).
            span_us: start and end of the window, microseconds of sensor time. Where the end lies
                before that of the last window, all tracks are forgotten.
            head: what the student's instance head says; None: it has none.
            factor: sensor pixels a pixel of the input and axis.

        Raises:
            StudentError: the logits do not cover the sensor, or the head's maps do not fit them.
        """
        config = self._config
        support = Support.of(event_support(events, config), factor)
        seen = (support.counts > 0).view(np.uint8)
        mask, confidence, counts = segment(logits, seen, stride=stride / factor)
        found: list[Detection] = []
        numbers = np.zeros(mask.shape, np.uint16)
        things = int((counts * self._is_thing[: len(counts)]).sum())
        if things * factor**2 >= config.min_area_px:
            if head is None or config.instances == "components":
                found = find_components(
                    mask, confidence, self._is_thing, config, numbers, support=support
                )
            else:
                instances = group(
                    mask, confidence, logits, head, self._is_thing, stride=stride,
                    cell_px=stride / factor, config=config.grouping(), support=support,
                )  # fmt: skip
                found, numbers = detections_of(instances, config), instances.ids
        tracked = self._tracker.update(
            found, t_start_us=span_us[0], t_end_us=span_us[1], size=support.image.shape
        )
        if self._names:
            tracked = tuple(replace(d, class_name=self._names[d.class_id]) for d in tracked)
        _forget_all_but(numbers, [d.instance_id for d in tracked])
        return Prediction.of_maps(Maps(mask, confidence, numbers), support, tracked)


def event_support(events: Events, config: PostprocessConfig) -> npt.NDArray[np.uint8]:
    """Return where a label may stand.

    Returns:
        (H, W) uint8, 1 where events lie near enough, else 0; all 1 for radius -1.
    """
    if config.unlabelled_radius_px < 0:
        return np.ones((events.height, events.width), np.uint8)
    fired = np.zeros((events.height, events.width), np.uint8)
    _mark(events.x, events.y, fired)
    if config.min_neighbours:
        neighbours = cv2.boxFilter(
            fired, cv2.CV_8U, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT
        )
        fired &= (neighbours > config.min_neighbours).view(np.uint8)
    grown = _morph(fired, config.unlabelled_radius_px + config.closing_px, cv2.dilate)
    return _morph(grown, config.closing_px, cv2.erode)


def segment(
    logits: npt.NDArray[np.float32], support: npt.NDArray[np.uint8], *, stride: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Enlarge logits bilinearly (half-pixel centres, edges repeated), then softmax and argmax.

    Equal to resizing the padded input's logits by ``stride`` and cutting off the padding, but
    only the pixels that will be labelled are computed.

    Args:
        logits: (K, h, w) float32.
        support: (H, W) uint8, pixels with 0 become 255.
        stride: output pixels a logit.

    Returns:
        (H, W) uint8 mask, (H, W) float32 probability of that class, (K,) int64 pixels a class.
        Equal logits give the lower id.

    Raises:
        StudentError: the logits cover less than (H, W), or are not finite.
    """
    height, width = support.shape
    num_classes, rows, columns = logits.shape
    if rows * stride < height or columns * stride < width:
        raise StudentError(
            f"logits of {rows}x{columns} at stride {stride:g} do not cover the sensor's "
            f"{height}x{width}: the student's input size or stride is wrong"
        )
    mask = np.full((height, width), IGNORE, np.uint8)
    confidence = np.zeros((height, width), np.float32)
    counts = np.zeros(num_classes, np.int64)
    # Classes innermost: one pixel's logits then lie side by side.
    planes = np.ascontiguousarray(logits.transpose(1, 2, 0), np.float32)
    refuse_unfinite(planes)
    wanted = np.ascontiguousarray(support).reshape(-1)
    # Most pixels of a window are unlabelled: eight at a time are stepped over.
    eights = wanted[: wanted.size // 8 * 8].view(np.uint64)
    _segment(
        planes, wanted, eights, width, 1.0 / stride, mask.reshape(-1), confidence.reshape(-1),
        counts,
    )  # fmt: skip
    return mask, confidence, counts


def find_components(  # noqa: PLR0913 - a mask with what it was made of
    mask: npt.NDArray[np.uint8],
    confidence: npt.NDArray[np.float32],
    is_thing: npt.NDArray[np.uint8],
    config: PostprocessConfig,
    numbers: npt.NDArray[np.uint16] | None = None,
    *,
    support: Support | None = None,
) -> list[Detection]:
    """Return the connected parts (8 neighbours) of thing classes that are large and sure enough.

    One thing has one class: a network wavers at the edges of what moves, so a component takes
    pixels of all thing classes, and the class with the most probability in it wins.

    Args:
        mask: (H, W) uint8.
        confidence: (H, W) float32, probability of the class in ``mask``.
        is_thing: (256,) uint8, 1 for ids of thing classes; 0 for 255.
        config: limits, and how far parts are joined.
        numbers: (H, W) uint16 of zeros; the pixels of a detection get its ``instance_id``.
        support: how the mask's pixels lie on the sensor; None: they are those of the sensor.

    Returns:
        Largest first, numbered from 1. Area and box are those of the thing pixels; the score is the
        sum of the winning class's probability over its pixels, divided by the area.
    """
    if support is None:
        support = Support.of(np.ones(mask.shape, np.uint8))
    # Rounded up: parts that are joined at sensor resolution are joined at a lower one too.
    join = -(-config.join_px // support.factor)
    everywhere = np.asarray(cv2.LUT(mask, is_thing), np.uint8)
    rows, columns = _surroundings(everywhere, 2 * join)
    own = everywhere[rows, columns]
    joined = _morph(_morph(own, join, cv2.dilate), join, cv2.erode) | own
    count, found_labels = cv2.connectedComponents(joined, connectivity=8, ltype=cv2.CV_32S)
    labels = np.zeros(mask.shape, np.int32)
    labels[rows, columns] = found_labels * own  # what joins parts belongs to none
    area, votes, boxes = _component_sums(labels, mask, confidence, support.counts, count - 1)
    boxes = support.boxes_px(labels, boxes)
    found = _detections(area, boxes, votes, None, config)
    new = np.zeros(count, np.uint16)
    for number, detection in enumerate(found[:MAX_INSTANCES], 1):
        new[detection.instance_id + 1] = number
    if numbers is not None and found:
        _write_numbers(labels, new, numbers)
    return [replace(d, instance_id=int(new[d.instance_id + 1])) for d in found]


def detections_of(instances: Instances, config: PostprocessConfig) -> list[Detection]:
    """Return the instances that are large and sure enough, largest first.

    The class is that with most probability in its pixels. The score is the geometric mean of this
    class's mean probability and of the height of the centre: 0.6 and 0.6 give 0.6.
    """
    found = _detections(
        instances.area_px, instances.boxes_xyxy, instances.votes, instances.centre_scores, config
    )
    return [replace(d, instance_id=d.instance_id + 1) for d in found]


def _detections(
    area: npt.NDArray[np.int64],
    boxes: npt.NDArray[np.int64],
    votes: npt.NDArray[np.float64],
    centre_scores: npt.NDArray[np.float64] | None,
    config: PostprocessConfig,
) -> list[Detection]:
    """Return what is large and sure enough, largest first, with its row as ``instance_id``."""
    found = []
    for i in np.flatnonzero(area >= config.min_area_px).tolist():
        class_id = int(votes[i].argmax())
        score = min(float(votes[i, class_id] / area[i]), 1.0)
        if centre_scores is not None:
            score = math.sqrt(score * centre_scores[i])
        if score >= min(config.min_score, config.keep_score):
            left, top, right, bottom = (int(v) for v in boxes[i])
            box = (left, top, right, bottom)
            found.append(Detection(class_id, score, box, int(area[i]), instance_id=i))
    return sorted(found, key=lambda d: (-d.area_px, d.box_xyxy))


def _forget_all_but(numbers: npt.NDArray[np.uint16], kept: Sequence[int]) -> None:
    """Take things that are not given out off a map of instances, in place.

    Args:
        numbers: (h, w) uint16.
        kept: the numbers that stay.
    """
    stays = np.zeros(1 << 16, np.uint16)
    stays[kept] = kept
    if numbers.any():
        np.take(stays, numbers, out=numbers)


def _surroundings(image: npt.NDArray[np.uint8], margin_px: int) -> tuple[slice, slice]:
    """Return the rows and columns of everything that is not 0, with a margin where there is room.

    Both start at an even place: OpenCV numbers components by blocks of two by two.
    """
    left, top, width, height = cv2.boundingRect(image)
    top, left = (max(0, start - margin_px) // 2 * 2 for start in (top, left))
    return (
        slice(top, top + height + 2 * margin_px + 1),
        slice(left, left + width + 2 * margin_px + 1),
    )


def _morph(image: npt.NDArray[np.uint8], radius_px: int, operation: Any) -> npt.NDArray[np.uint8]:
    if radius_px == 0:
        return image
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * radius_px + 1,) * 2)
    result: npt.NDArray[np.uint8] = operation(image, kernel)
    return result


@numba.njit(nogil=True, cache=True)
def _mark(
    x: npt.NDArray[np.uint16], y: npt.NDArray[np.uint16], fired: npt.NDArray[np.uint8]
) -> None:
    for i in range(x.shape[0]):
        fired[y[i], x[i]] = 1


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _segment(  # noqa: PLR0913, PLR0917 - a kernel writes into what it is given
    planes: npt.NDArray[np.float32],
    wanted: npt.NDArray[np.uint8],
    eights: npt.NDArray[np.uint64],
    width: int,
    step: float,
    mask: npt.NDArray[np.uint8],
    confidence: npt.NDArray[np.float32],
    counts: npt.NDArray[np.int64],
) -> None:
    rows, columns, num_classes = planes.shape
    line = np.empty((columns, num_classes), np.float32)
    values = np.empty(num_classes, np.float32)
    line_y = -1
    block = 0
    while block < wanted.size:
        if block // 8 < eights.size and eights[block // 8] == 0:
            block += 8
            continue
        end = min(block + 8, wanted.size)
        for i in range(block, end):
            if wanted[i] == 0:
                continue
            y = i // width
            x = i - y * width
            if y != line_y:
                line_y = y
                at_y = max((y + 0.5) * step - 0.5, 0.0)
                top = min(int(at_y), rows - 1)
                bottom = min(top + 1, rows - 1)
                weight_y = np.float32(at_y - top)
                for c in range(columns):
                    for k in range(num_classes):
                        upper = planes[top, c, k]
                        line[c, k] = upper + weight_y * (planes[bottom, c, k] - upper)
            at_x = max((x + 0.5) * step - 0.5, 0.0)
            left = min(int(at_x), columns - 1)
            right = min(left + 1, columns - 1)
            weight_x = np.float32(at_x - left)
            best = 0
            for k in range(num_classes):
                values[k] = line[left, k] + weight_x * (line[right, k] - line[left, k])
                if values[k] > values[best]:
                    best = k
            total = np.float32(0.0)
            for k in range(num_classes):
                total += np.exp(values[k] - values[best])
            mask[i] = best
            confidence[i] = np.float32(1.0) / total
            counts[best] += 1
        block = end


@numba.njit(nogil=True, cache=True)
def _component_sums(
    labels: npt.NDArray[np.int32],
    mask: npt.NDArray[np.uint8],
    confidence: npt.NDArray[np.float32],
    counts: npt.NDArray[np.uint32],
    count: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return area, votes and box of each label, of label 1 first; 0 is none."""
    height, width = labels.shape
    area = np.zeros(count, np.int64)
    votes = np.zeros((count, 256), np.float64)
    boxes = np.zeros((count, 4), np.int64)
    boxes[:, 0] = width
    boxes[:, 1] = height
    for y in range(height):
        for x in range(width):
            i = labels[y, x] - 1
            if i < 0:
                continue
            area[i] += counts[y, x]
            votes[i, mask[y, x]] += confidence[y, x] * counts[y, x]
            boxes[i, 0] = min(boxes[i, 0], x)
            boxes[i, 1] = min(boxes[i, 1], y)
            boxes[i, 2] = max(boxes[i, 2], x + 1)
            boxes[i, 3] = max(boxes[i, 3], y + 1)
    return area, votes, boxes


@numba.njit(nogil=True, cache=True)
def _write_numbers(
    labels: npt.NDArray[np.int32],
    new: npt.NDArray[np.uint16],
    numbers: npt.NDArray[np.uint16],
) -> None:
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            if labels[y, x]:
                numbers[y, x] = new[labels[y, x]]
