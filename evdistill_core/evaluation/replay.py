"""The report of a replay: what a recording of a node's results says, and its score."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evdistill_core.evaluation.confusion import Confusion
from evdistill_core.foundation.errors import DataError, RecordingError
from evdistill_core.messages.standard import DiagnosticArray, Image
from evdistill_core.messages.vision import Detection2DArray, LabelInfo
from evdistill_core.recordings.opening import open_recording

Mask = npt.NDArray[np.uint8]
UNLABELLED_ID = 255
DEFAULT_TOLERANCE_NS = 5_000_000


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
        name = topic or _topic_of(recording.info.topics, "/mask", Image.TYPE, path)
        images = (Image.parse(p.data) for p in recording.packets([name]))
        return {i.header.stamp.to_ns(): np.array(i.to_array(), np.uint8) for i in images}


def score(
    masks: Mapping[int, Mask],
    labels: Mapping[int, Mask],
    classes: tuple[str, ...],
    *,
    tolerance_ns: int = DEFAULT_TOLERANCE_NS,
) -> dict[str, object]:
    """Return IoU of every class, mIoU and accuracy of masks against labels.

    Args:
        masks: stamp to (H, W) class ids, 255 unlabelled.
        labels: stamp to (H, W) true class ids, 255 not scored; each is compared with the mask
            nearest in time.
        classes: names, by id.
        tolerance_ns: labels without a mask as near as this are counted and left out.

    Raises:
        DataError: sizes differ, ids are no classes, or no label has a mask.
    """
    confusion = Confusion(len(classes))
    stamps = sorted(masks)
    scored = 0
    for stamp_ns, truth in labels.items():
        at = bisect_left(stamps, stamp_ns)
        near = min(stamps[max(0, at - 1) : at + 1], key=lambda s: abs(s - stamp_ns), default=None)
        if near is None or abs(near - stamp_ns) > tolerance_ns:
            continue
        confusion.add(truth, masks[near])
        scored += 1
    if not scored:
        raise DataError(
            f"none of {len(labels)} labels has a mask within {tolerance_ns / 1e6:g} ms of its stamp"
        )
    found = confusion.scores().to_dict(classes)
    return {"labels": len(labels), "labels_scored": scored, **found}


def replay_report(results: Path, labels: Path | None = None) -> dict[str, object]:
    """Return what a bag of a node's results says.

    Args:
        results: bag with ``mask``, ``detections``, ``label_info`` and ``/diagnostics``, as
            replay.launch.py and `evdistill run` leave it.
        labels: bag with true masks (mono8) on a topic that ends in ``/mask``, or None.

    Raises:
        RecordingError: unreadable.
        DataError: something is missing, or labels and masks do not fit.
    """
    masks = read_masks(results)
    classes: tuple[str, ...] = ()
    values: dict[str, str] = {}
    detections = 0
    with open_recording(results) as recording:
        topics = recording.info.topics
        wanted = [t.name for t in topics if t.type_name not in {Image.TYPE}]
        for packet in recording.packets(wanted):
            if packet.type_name == LabelInfo.TYPE:
                rows = LabelInfo.parse(packet.data).class_map
                classes = tuple(r.class_name for r in rows if r.class_id != UNLABELLED_ID)
            elif packet.type_name == Detection2DArray.TYPE:
                detections += len(Detection2DArray.parse(packet.data).detections)
            elif packet.type_name == DiagnosticArray.TYPE:
                for status in DiagnosticArray.parse(packet.data).status:
                    values |= {row.key: row.value for row in status.values}
    report: dict[str, object] = {
        "results": str(results),
        "masks": len(masks),
        "detections": detections,
        "classes": list(classes),
        "counters": {k: int(v) for k, v in sorted(values.items()) if v.isdecimal()},
        "latency_ms": {k: float(v) for k, v in sorted(values.items()) if "_ms_p" in k},
    }
    if labels is not None:
        if not classes:
            raise DataError(f"{results} holds no label_info: its classes are not known")
        report["score"] = score(masks, read_masks(labels), classes)
    return report


def _topic_of(topics: object, ending: str, type_name: str, path: Path) -> str:
    if not isinstance(topics, list | tuple):
        raise RecordingError(f"{path} is no bag")
    found = [t.name for t in topics if t.name.endswith(ending) and t.type_name == type_name]
    if len(found) != 1:
        raise DataError(f"{path} must hold one topic .../mask of {type_name}, found {found}")
    return str(found[0])
