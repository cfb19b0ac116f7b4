"""Records of the camera's process to our arrays; the impossible is left out, counted."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from evdistill_core.cameras.wire import EVENT, PICTURE, TRIGGER
from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.decoders.base import MAX_TIME_BASE_NS
from evdistill_core.recordings.base import Frame

MAX_TIME_US = MAX_TIME_BASE_NS // 1000


def unpack_events(payload: bytes, width: int, height: int, counters: Counter[str]) -> Events:
    """Return the events that lie inside the frame and in possible times.

    Args:
        payload: records of ``wire.EVENT``; a last incomplete one is left out.
        width: columns of the sensor.
        height: rows of the sensor.
        counters: gets ``out_of_frame`` and ``bad_time``.
    """
    records = np.frombuffer(payload[: len(payload) // EVENT.itemsize * EVENT.itemsize], EVENT)
    x, y, t_us = records["x"], records["y"], records["t_us"]
    in_time = (t_us >= 0) & (t_us < MAX_TIME_US)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    good = in_time & inside
    if not good.all():
        counters["bad_time"] += int(np.count_nonzero(~in_time))
        counters["out_of_frame"] += int(np.count_nonzero(in_time & ~inside))
        records = records[good]
    # A byte of polarity that was damaged is still a polarity: no camera may end a node by one.
    x, y, p = records["x"], records["y"], records["p"] > 0
    return Events.from_columns(x, y, records["t_us"], p, width=width, height=height)


def unpack_triggers(payload: bytes, counters: Counter[str]) -> Triggers:
    """Return the edges in possible times; ``bad_time`` counts the others."""
    records = np.frombuffer(payload[: len(payload) // TRIGGER.itemsize * TRIGGER.itemsize], TRIGGER)
    good = (records["t_us"] >= 0) & (records["t_us"] < MAX_TIME_US)
    if not good.all():
        counters["bad_time"] += int(np.count_nonzero(~good))
        records = records[good]
    edge = (records["edge"] != 0).astype(np.uint8)
    return Triggers(records["t_us"].astype(np.int64), records["channel"].astype(np.uint8), edge)


def unpack_frame(payload: bytes, arrival_ns: int) -> Frame | None:
    """Return the image, colours as RGB; None when its sizes or its time are impossible."""
    if len(payload) < PICTURE.size:
        return None
    t_us, height, width, channels = PICTURE.unpack_from(payload)
    pixels = np.frombuffer(payload, np.uint8, offset=PICTURE.size)
    possible = 0 <= t_us < MAX_TIME_US and height and width and channels in {1, 3}
    if not possible or len(pixels) != height * width * channels:
        return None
    shape = (height, width) if channels == 1 else (height, width, 3)
    image: npt.NDArray[np.uint8] = pixels.reshape(shape)
    if channels == 3:
        image = np.ascontiguousarray(image[:, :, ::-1])
        image.flags.writeable = False
    return Frame(image, t_us, arrival_ns)
