"""What is true of a recording: masks, boxes and classes by stamp, from bags and from text."""

from __future__ import annotations

import csv
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evdistill_core.evaluation.detections import ScoredBox
from evdistill_core.foundation.errors import DataError
from evdistill_core.messages.standard import Image
from evdistill_core.messages.vision import Classification, Detection2D, Detection2DArray
from evdistill_core.recordings.base import RecordingInfo
from evdistill_core.recordings.opening import open_recording

Mask = npt.NDArray[np.uint8]
COLUMNS = ["start_ns", "end_ns", "class"]


def read_masks(path: Path, topic: str = "") -> dict[int, Mask]:
    """Return the mono8 images of one topic of a bag by header stamp, nanoseconds.

    Args:
        path: of the bag.
        topic: of the masks; "": the one that ends in ``/mask``.

    Raises:
        RecordingError: unreadable.
        DataError: no such topic.
    """
    with open_recording(path) as recording:
        name = topic or topic_of(recording.info, "mask", Image.TYPE)
        images = (Image.parse(p.data) for p in recording.packets([name]))
        return {i.header.stamp.to_ns(): np.array(i.to_array(), np.uint8) for i in images}


def read_boxes(path: Path, classes: Sequence[str]) -> dict[int, list[ScoredBox]]:
    """Return the boxes of the topic of a bag that ends in ``/detections``, by header stamp.

    Raises:
        RecordingError: unreadable.
        DataError: no such topic, or a class that does not exist.
    """
    with open_recording(path) as recording:
        name = topic_of(recording.info, "detections", Detection2DArray.TYPE)
        found = (Detection2DArray.parse(p.data) for p in recording.packets([name]))
        return {
            m.header.stamp.to_ns(): [scored_box(d, classes) for d in m.detections] for m in found
        }


def scored_box(detection: Detection2D, classes: Sequence[str]) -> ScoredBox:
    """Return a message's box with its first hypothesis.

    Raises:
        DataError: it has none, or of a class that does not exist.
    """
    if not detection.results:
        raise DataError("a detection names no class")
    hypothesis = detection.results[0].hypothesis
    center, box = detection.bbox.center.position, detection.bbox
    return ScoredBox(
        class_number(hypothesis.class_id, classes),
        (
            center.x - box.size_x / 2,
            center.y - box.size_y / 2,
            center.x + box.size_x / 2,
            center.y + box.size_y / 2,
        ),
        hypothesis.score,
        detection.id,
    )


@dataclass(frozen=True)
class Span:
    """A class that holds for windows that end in ``start_ns < stamp <= end_ns``."""

    start_ns: int
    end_ns: int
    class_id: int


def read_spans(path: Path, classes: Sequence[str]) -> list[Span]:
    """Return the classes of spans of time, in order, from a CSV file.

    Its first line is ``start_ns,end_ns,class``. Times are stamps of results, nanoseconds; an empty
    one is the beginning or the end of the recording. The class is a name, or else a number, of
    ``label_info``.

    Raises:
        DataError: unreadable, a class that does not exist, or spans that overlap.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the labels {path} cannot be read: {error}") from error
    if not rows or [cell.strip() for cell in rows[0]] != COLUMNS:
        raise DataError(f"the first line of {path} must be {','.join(COLUMNS)}")
    try:
        spans = sorted(
            (_span(row, classes) for row in rows[1:]), key=lambda s: (s.start_ns, s.end_ns)
        )
    except ValueError as error:  # of int(), and our own
        raise DataError(f"{path}: {error}") from error
    for before, after in pairwise(spans):
        if after.start_ns < before.end_ns:
            raise DataError(
                f"{path} gives two classes to the time from {after.start_ns} to {before.end_ns}"
            )
    return spans


def _span(row: Sequence[str], classes: Sequence[str]) -> Span:
    if len(row) != len(COLUMNS):
        raise DataError(f"a line must have {len(COLUMNS)} values, got {','.join(row)!r}")
    start, end, name = (cell.strip() for cell in row)
    start_ns = int(start) if start else 0
    end_ns = int(end) if end else np.iinfo(np.int64).max
    if not 0 <= start_ns < end_ns:
        raise DataError(f"a span must end after its start, got {','.join(row)!r}")
    return Span(start_ns, int(end_ns), class_number(name, classes))


def read_classes(path: Path, classes: Sequence[str]) -> dict[int, int]:
    """Return the first class of the messages of a topic that ends in ``/classification``.

    Returns:
        Header stamp to class id; messages without a class are left out.

    Raises:
        RecordingError: unreadable.
        DataError: no such topic, or a class that does not exist.
    """
    with open_recording(path) as recording:
        name = topic_of(recording.info, "classification", Classification.TYPE)
        found = (Classification.parse(p.data) for p in recording.packets([name]))
        return {
            m.header.stamp.to_ns(): class_number(m.results[0].class_id, classes)
            for m in found
            if m.results
        }


def class_number(text: str, classes: Sequence[str]) -> int:
    """Return the id of a class from its name, else from its number.

    Raises:
        DataError: it does not exist.
    """
    if text in classes:
        return classes.index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    raise DataError(f"{text!r} is none of the classes {', '.join(classes)}")


def topic_of(info: RecordingInfo, name: str, type_name: str) -> str:
    """Return the one topic of a bag that ends in a name and has the type.

    Raises:
        DataError: there is none, or more than one.
    """
    found = topics_of(info, name, type_name)
    if len(found) != 1:
        there = ", ".join(found) or "none"
        raise DataError(f"{info.path} must hold one topic .../{name} of {type_name}, found {there}")
    return found[0]


def topics_of(info: RecordingInfo, name: str, type_name: str) -> list[str]:
    """Return the topics of a bag that end in a name and have the type."""
    return [t.name for t in info.topics if is_topic(t.name, name) and t.type_name == type_name]


def is_topic(topic: str, name: str) -> bool:
    """Tell whether the last part of a topic is a name."""
    return topic.rsplit("/", 1)[-1] == name


def nearest(stamps: Sequence[int], stamp_ns: int, tolerance_ns: int) -> int | None:
    """Return the nearest of some sorted stamps, or None when it is farther than the tolerance."""
    at = bisect_left(stamps, stamp_ns)
    near = min(stamps[max(0, at - 1) : at + 1], key=lambda s: abs(s - stamp_ns), default=None)
    return None if near is None or abs(near - stamp_ns) > tolerance_ns else near
