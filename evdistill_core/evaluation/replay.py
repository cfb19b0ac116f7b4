"""The report of a replay: what a recording of a node's results says, and its score.

Masks are read one at a time: a recording of hours takes no more memory than one of seconds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evdistill_core.evaluation.box_files import is_box_file, read_box_file
from evdistill_core.evaluation.box_scores import score_sequences
from evdistill_core.evaluation.confusion import Confusion
from evdistill_core.evaluation.detections import ScoredBox
from evdistill_core.evaluation.replay_labels import (
    nearest,
    read_boxes,
    read_masks,
    scored_box,
    topic_of,
    topics_of,
)
from evdistill_core.evaluation.replay_recognition import MAX_PARTS, Answer, Answers, read_truth
from evdistill_core.foundation.errors import DataError
from evdistill_core.messages.standard import DiagnosticArray, Image
from evdistill_core.messages.vision import Classification, Detection2DArray, LabelInfo
from evdistill_core.perception.diagnostics import OFFLINE
from evdistill_core.recordings.opening import open_recording

UNLABELLED_ID = 255
DEFAULT_TOLERANCE_NS = 5_000_000


@dataclass
class _Results:
    """What a bag of results holds, but for the masks themselves."""

    path: Path
    classes: tuple[str, ...] = ()
    values: dict[str, str] = field(default_factory=dict)
    mask_topic: str = ""
    mask_stamps: list[int] = field(default_factory=list)
    boxes: dict[int, list[ScoredBox]] = field(default_factory=dict)
    answers: Answers = field(default_factory=Answers)


def replay_report(results: Path, labels: Path | None = None) -> dict[str, object]:
    """Return what a bag of a node's results says.

    Args:
        results: bag with ``mask`` and ``detections``, or ``classification``, and ``label_info``
            and ``/diagnostics``, as replay.launch.py and `evdistill run` leave it.
        labels: what is true, or None. Of masks: a bag with true ones (mono8) on a topic that ends
            in ``/mask``, true boxes on one that ends in ``/detections``, or both; or a
            ``bbox.npy`` of Gen1 or 1 Mpx, whose times are those of the recording. Of classes: a
            CSV file, see ``read_spans``, or a bag with a topic that ends in ``/classification``.

    Raises:
        RecordingError: unreadable.
        DataError: something is missing, or labels and results do not fit.
    """
    found = _read(results)
    report: dict[str, object] = {"results": str(results)}
    report |= _recognition(found) if found.answers.is_there else _segmentation(found)
    report |= {
        "classes": list(found.classes),
        "counters": {k: int(v) for k, v in sorted(found.values.items()) if v.isdecimal()},
        "latency_ms": {k: float(v) for k, v in sorted(found.values.items()) if "_ms_p" in k},
    }
    if found.values.get(OFFLINE) == "true":
        report["latency_ms"] = {}
        report["latency_note"] = "computed offline, as fast as the machine could: no latencies"
    if labels is None:
        return report
    if not found.classes:
        raise DataError(f"{results} holds no label_info: its classes are not known")
    if found.answers.is_there:
        truth = read_truth(labels, found.answers.stamps, found.classes, DEFAULT_TOLERANCE_NS)
        report["score"] = found.answers.score(truth, found.classes)
    else:
        report |= _score(found, labels)
    return report


def _read(path: Path) -> _Results:
    found = _Results(path)
    with open_recording(path) as recording:
        info = recording.info
        found.answers.is_there = bool(topics_of(info, "classification", Classification.TYPE))
        wanted = [t.name for t in info.topics if t.type_name in _NEEDED]
        if not found.answers.is_there:
            found.mask_topic = topic_of(info, "mask", Image.TYPE)
            wanted.append(found.mask_topic)
        # The names of the classes first: everything else is told by their numbers.
        for topic in topics_of(info, "label_info", LabelInfo.TYPE):
            for packet in recording.packets([topic]):
                rows = LabelInfo.parse(packet.data).class_map
                found.classes = tuple(r.class_name for r in rows if r.class_id != UNLABELLED_ID)
        for packet in recording.packets(wanted):
            _note(found, packet.type_name, packet.data)
    found.mask_stamps.sort()
    return found


_NEEDED = {Classification.TYPE, Detection2DArray.TYPE, DiagnosticArray.TYPE}


def _note(found: _Results, type_name: str, data: bytes | bytearray | memoryview) -> None:
    if type_name == Image.TYPE:
        found.mask_stamps.append(Image.parse(data).header.stamp.to_ns())
    elif type_name == Detection2DArray.TYPE:
        message = Detection2DArray.parse(data)
        boxes = [scored_box(d, found.classes) for d in message.detections]
        found.boxes[message.header.stamp.to_ns()] = boxes
    elif type_name == Classification.TYPE:
        found.answers.add(Answer.of(Classification.parse(data), found.classes))
    else:
        # Those of our node: others publish on /diagnostics too.
        for status in DiagnosticArray.parse(data).status:
            if status.name.endswith((": events", ": results")):
                found.values |= {row.key: row.value for row in status.values}


def _recognition(found: _Results) -> dict[str, object]:
    return {"task": "recognition", **found.answers.summary(found.classes)}


def _segmentation(found: _Results) -> dict[str, object]:
    by_class: dict[int, list[ScoredBox]] = defaultdict(list)
    for boxes in found.boxes.values():
        for box in boxes:
            by_class[box.class_id].append(box)
    return {
        "task": "segmentation",
        "masks": len(found.mask_stamps),
        "detections": sum(map(len, by_class.values())),
        "detected": {
            found.classes[i]: {
                "detections": len(boxes),
                "tracks": len({b.track_id for b in boxes}),
                "mean_score": round(float(np.mean([b.score for b in boxes])), 4),
            }
            for i, boxes in sorted(by_class.items())
        },
        "over_time": _over_time(found),
    }


def _over_time(found: _Results) -> list[dict[str, object]]:
    """Return masks and detections by class, in at most ``MAX_PARTS`` parts of equal length."""
    stamps = found.mask_stamps
    if not stamps:
        return []
    first_ns = stamps[0]
    length_ns = max(1, -(-(stamps[-1] - first_ns + 1) // MAX_PARTS))
    masks = Counter((stamp - first_ns) // length_ns for stamp in stamps)
    boxes: dict[int, Counter[str]] = defaultdict(Counter)
    for stamp, detections in found.boxes.items():
        part = boxes[(stamp - first_ns) // length_ns]
        part.update(found.classes[box.class_id] for box in detections)
    return [
        {
            "from_s": round(number * length_ns / 1e9, 3),
            "masks": masks[number],
            "detections": dict(boxes[number]),
        }
        for number in sorted(masks)
    ]


def _score(found: _Results, labels: Path) -> dict[str, object]:
    if (labels / "masks").is_dir():
        raise DataError(
            f"{labels} holds masks beside a recording: score them with `evdistill evaluate STUDENT "
            f"{labels}`, whose windows end at the masks"
        )
    if is_box_file(labels):
        truth = read_box_file(labels, found.classes)
        score = _score_boxes(found, truth.boxes)
        return {"detection_score": {**score, "labels_left_out": truth.left_out}}
    with open_recording(labels) as recording:
        has_masks = bool(topics_of(recording.info, "mask", Image.TYPE))
        has_boxes = bool(topics_of(recording.info, "detections", Detection2DArray.TYPE))
    scores: dict[str, object] = {}
    if has_masks or not has_boxes:  # without either, read_masks says what is missing
        scores["score"] = _score_masks(found, read_masks(labels))
    if has_boxes:
        scores["detection_score"] = _score_boxes(found, read_boxes(labels, found.classes))
    return scores


def _score_masks(found: _Results, labels: dict[int, npt.NDArray[np.uint8]]) -> dict[str, object]:
    """Return IoU of every class, mIoU and accuracy; each label meets the mask nearest in time."""
    pairs = nearest_results(found.mask_stamps, labels, "a mask")
    scored = sum(map(len, pairs.values()))
    confusion = Confusion(len(found.classes))
    with open_recording(found.path) as recording:
        for packet in recording.packets([found.mask_topic]):
            image = Image.parse(packet.data)
            for truth_ns in pairs.pop(image.header.stamp.to_ns(), ()):
                confusion.add(labels[truth_ns], np.asarray(image.to_array(), np.uint8))
    scores = confusion.scores().to_dict(found.classes)
    return {"labels": len(labels), "labels_scored": scored, **scores}


def _score_boxes(found: _Results, labels: dict[int, list[ScoredBox]]) -> dict[str, object]:
    """Return scores of boxes, and of tracks where labels have ids, in images that have labels."""
    pairs = nearest_results(sorted(found.boxes), labels, "detections")
    frames = [
        (labels[truth_ns], found.boxes[result_ns])
        for result_ns in sorted(pairs)
        for truth_ns in sorted(pairs[result_ns])
    ]
    facts = {"labels": len(labels), "labels_scored": len(frames)}
    return {**facts, **score_sequences([frames], found.classes)}


def nearest_results(
    stamps: Sequence[int], labels: Collection[int], name: str
) -> dict[int, list[int]]:
    """Return the stamps of labels by the sorted stamp of the result that each is nearest to.

    Args:
        stamps: of results, sorted, nanoseconds.
        labels: stamps of labels, nanoseconds.
        name: of a result, for the error.

    Raises:
        DataError: no label is near a result.
    """
    pairs: dict[int, list[int]] = defaultdict(list)
    for truth_ns in labels:
        near = nearest(stamps, truth_ns, DEFAULT_TOLERANCE_NS)
        if near is not None:
            pairs[near].append(truth_ns)
    if not pairs:
        raise DataError(
            f"none of {len(labels)} labels has {name} within {DEFAULT_TOLERANCE_NS / 1e6:g} ms of "
            "its stamp"
        )
    return pairs
