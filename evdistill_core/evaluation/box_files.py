"""Bounding boxes of Prophesee's data sets (``*_bbox.npy`` of Gen1 and 1 Mpx) as labels.

A file is a structured array: time in microseconds of the recording, left upper corner, size,
class, track. Class numbers mean other things in the two data sets. Those of Gen1 are 0 and 1 on a
sensor of 304x240; a box or a class beyond that shows that a file belongs to 1 Mpx.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.evaluation.detections import ScoredBox
from evdistill_core.foundation.errors import DataError

GEN1 = ("car", "pedestrian")
ONE_MPX = ("pedestrian", "two wheeler", "car", "truck", "bus", "traffic sign", "traffic light")
GEN1_SIZE = (304, 240)
#: what students call the classes of the two data sets, the nearest name first
NAMES: Mapping[str, tuple[str, ...]] = {
    "car": ("car", "vehicle"),
    "truck": ("truck", "vehicle"),
    "bus": ("bus", "vehicle"),
    "pedestrian": ("pedestrian", "person", "human"),
    "two wheeler": ("two wheeler", "two-wheeler", "bicycle", "motorcycle", "cyclist", "rider"),
    "traffic sign": ("traffic sign", "sign"),
    "traffic light": ("traffic light",),
}
MAGIC = b"\x93NUMPY"
LIMIT_BYTES = 1 << 28


@dataclass(frozen=True)
class BoxLabels:
    """True boxes of a recording.

    Attributes:
        boxes: by time in nanoseconds of sensor time, as results of a file are stamped.
        left_out: boxes of classes that the student does not have, by class.
    """

    boxes: dict[int, list[ScoredBox]]
    left_out: dict[str, int]


def is_box_file(path: Path) -> bool:
    """Tell whether a file is a NumPy array, as such labels are."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_box_file(path: Path, classes: Sequence[str]) -> BoxLabels:
    """Return the boxes of a ``bbox.npy`` file.

    Args:
        path: the file.
        classes: names of the student's classes.

    Raises:
        DataError: no such file, or none of its classes is one of the student's.
    """
    rows = _rows(path)
    names = _class_names(rows)
    numbers = {name: _number(name, classes) for name in names}
    boxes: dict[int, list[ScoredBox]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for row in rows:
        name = names[int(row["class_id"])]
        number = numbers[name]
        if number is None:
            left_out[name] += 1
            continue
        x, y, w, h = (float(row[field]) for field in "xywh")
        stamp_ns = int(row["t"]) * 1000
        boxes[stamp_ns].append(ScoredBox(number, (x, y, x + w, y + h), 1.0, str(row["track_id"])))
    if len(rows) and not boxes:
        raise DataError(
            f"{path} has boxes of {', '.join(sorted(left_out))}; the student has none of these "
            f"classes, only {', '.join(classes)}"
        )
    return BoxLabels(dict(boxes), dict(left_out))


def _rows(path: Path) -> npt.NDArray[Any]:
    """Return the boxes with the fields t, x, y, w, h, class_id, track_id."""
    try:
        if path.stat().st_size > LIMIT_BYTES:
            raise DataError(f"{path} has more than {LIMIT_BYTES >> 20} MB: no file of boxes")
        stored = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"the boxes {path} cannot be read: {error}") from error
    fields = stored.dtype.names or ()
    time = next((name for name in ("ts", "t") if name in fields), None)
    missing = [name for name in ("x", "y", "w", "h", "class_id") if name not in fields]
    if time is None or missing or stored.ndim != 1:
        raise DataError(
            f"{path} is no file of boxes as Gen1 and 1 Mpx have it: expected the fields ts, x, y, "
            f"w, h, class_id, got {', '.join(fields) or f'an array {stored.shape}'}"
        )
    layout = [("t", "i8"), *((n, "f8") for n in "xywh"), ("class_id", "i8"), ("track_id", "i8")]
    rows = np.zeros(len(stored), layout)
    rows["t"] = stored[time]
    for name in (*"xywh", "class_id", "track_id"):
        if name in fields:
            rows[name] = stored[name]
    if len(rows) and not 0 <= rows["class_id"].min() <= rows["class_id"].max() < len(ONE_MPX):
        raise DataError(
            f"{path} has the classes {np.unique(rows['class_id']).tolist()[:20]}, expected 0 .. "
            f"{len(ONE_MPX) - 1}"
        )
    return rows


def _class_names(rows: npt.NDArray[Any]) -> tuple[str, ...]:
    if not len(rows):
        return GEN1
    # Boxes of Gen1 stand out of the frame by some pixels.
    right, bottom = (rows["x"] + rows["w"]).max(), (rows["y"] + rows["h"]).max()
    fits = right < 1.5 * GEN1_SIZE[0] and bottom < 1.5 * GEN1_SIZE[1]
    return GEN1 if fits and rows["class_id"].max() < len(GEN1) else ONE_MPX


def _number(name: str, classes: Sequence[str]) -> int | None:
    lower = [known.lower() for known in classes]
    return next((lower.index(other) for other in NAMES[name] if other in lower), None)
