"""Where HDF5 files of events say how large the sensor was."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from evdistill_core.recordings.readers.chips import GENERATIONS, sensor_size

WIDTHS, HEIGHTS = ("width", "sensor_width", "w"), ("height", "sensor_height", "h")
#: "1280x720", or two numbers: rows first, unless the name says otherwise.
PAIRS = ("geometry", "sensor_size", "sensor_resolution", "resolution", "img_size")
ROWS_FIRST = {"sensor_resolution", "resolution", "img_size"}
NAMES = ("sensor_name", "camera_name", "sensor", "camera", "plugin_name")


def stored_size(file: Any, name: str) -> tuple[int, int] | None:
    """Return width and height from numbers, attributes or a sensor's name; None if none is there.

    Args:
        file: open h5py file.
        name: of the group or dataset of the events.
    """
    for fields in _places(file, name):
        for wide, high in zip(WIDTHS, HEIGHTS, strict=True):
            width, height = _numbers(fields.get(wide)), _numbers(fields.get(high))
            if len(width) == len(height) == 1:
                return width[0], height[0]
        for key in PAIRS:
            pair = _numbers(fields.get(key))
            if len(pair) == 2:
                return (pair[1], pair[0]) if key in ROWS_FIRST else (pair[0], pair[1])
        shape = dict(re.findall(r"(width|height)=(\d{1,6})", _text(fields.get("format"))))
        if len(shape) == 2:
            return int(shape["width"]), int(shape["height"])
        named = (sensor_size(text) for key in NAMES if (text := _text(fields.get(key))))
        size = next((s for s in named if s), None)
        size = size or GENERATIONS.get(_text(fields.get("sensor_generation")))
        if size:
            return size
    return None


def _places(file: Any, name: str) -> Iterator[dict[str, Any]]:
    """Yield what stands beside the events: single numbers and attributes, from near to far."""
    item = file[name]
    while True:
        found = {key.lower(): value for key, value in item.attrs.items()}
        if hasattr(item, "keys"):
            for key in item:
                stored = item.get(key, getlink=False)
                if getattr(stored, "shape", None) is not None and stored.size <= 2:
                    found.setdefault(key.lower(), stored[()])
        yield found
        if item.name in ("/", None):
            return
        item = item.parent


def _numbers(value: Any) -> list[int]:
    text = _text(value)
    if text:
        found = re.fullmatch(r"\s*(\d{1,6})\s*(?:[x,]\s*(\d{1,6}))?\s*", text.lower())
        return [int(side) for side in found.groups() if side] if found else []
    array = np.asarray(value).reshape(-1) if value is not None else np.empty(0)
    if array.dtype.kind not in "iuf" or len(array) > 2 or not np.isfinite(array).all():
        return []
    return [int(side) for side in array]


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    return value.strip() if isinstance(value, str) else ""
