"""One window as bytes for the page: a JSON header, then planes that a browser unpacks in a loop.

::

    "EVV1" | u32 length of the header | header, padded with spaces to a multiple of 4 | planes

The header's ``planes`` gives offset and length of each plane from the end of the header. All
numbers are little endian, all offsets multiples of 4.

* ``events``: 2 bits a pixel, row by row, lowest bits first. 0 none, 1 darker (OFF), 2 brighter
  (ON); the last event of a pixel decides.
* ``mask``: N run lengths (u16), then N class ids (u8); 255 is unlabelled.
* ``grey``: the camera's image, one byte a pixel.

A library that compresses would cost more than all the rest: this is 40 kB for a DAVIS346 without
the camera's image.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.drawing.colours import Image, fit, video_size
from evdistill_core.events.array import Events
from evdistill_core.inference.prediction import Answer, Detection, Prediction
from evdistill_core.perception.result import Result

MAGIC = b"EVV1"
_MAX_RUN = 65_535
_SHIFTS = np.array([1, 4, 16, 64], np.uint8)


@dataclass(frozen=True, eq=False)
class Shot:
    """What is shown of one window.

    Attributes:
        index: of the window.
        t_start_us: sensor time of its start.
        t_end_us: sensor time of its end, exclusive.
        stamp_ns: host time of its end, nanoseconds since 1970.
        events: of the window.
        answer: of the student; None: there is none.
        latency_ms: from the window's last packet until now; None: not known.
        camera_image: returns the camera's image, (h, w, 3) uint8 BGR, or None; called by the thread
            that encodes, when somebody wants it.
    """

    index: int
    t_start_us: int
    t_end_us: int
    stamp_ns: int
    events: Events
    answer: Answer | None = None
    latency_ms: float | None = None
    camera_image: Callable[[], Image | None] = lambda: None

    @staticmethod
    def of(result: Result, camera_image: Callable[[], Image | None] = lambda: None) -> Shot:
        """Return what is shown of a result of the pipeline, which was just published."""
        latency_ms = None
        if result.received_ns:
            latency_ms = (time.monotonic_ns() - result.received_ns) / 1e6
        return Shot(
            result.index, result.t_start_us, result.t_end_us, result.stamp_ns, result.events,
            result.prediction, latency_ms, camera_image,
        )  # fmt: skip


def encode(shot: Shot, *, wants_image: bool) -> bytes:
    """Return a window as bytes, see above.

    Args:
        shot: what to show. Sensors with more than 960 pixels on a side are shown smaller.
        wants_image: put the camera's image in, where there is one.
    """
    events = shot.events
    size = video_size(events.height, events.width)
    on = int(np.count_nonzero(events.p))
    planes: dict[str, bytes] = {"events": pack_events(events, size)}
    header: dict[str, object] = {
        "index": shot.index,
        "t_start_us": shot.t_start_us,
        "t_end_us": shot.t_end_us,
        "stamp_s": shot.stamp_ns / 1e9,
        "width": size[1],
        "height": size[0],
        "sensor": [events.width, events.height],
        "events": len(events),
        "on": on,
        "off": len(events) - on,
        "latency_ms": None if shot.latency_ms is None else round(shot.latency_ms, 2),
    }
    if isinstance(shot.answer, Prediction):
        planes["mask"] = pack_mask(_shrunk(shot.answer.mask, size))
        header["boxes"] = [_box(d) for d in shot.answer.detections]
    elif shot.answer is not None:
        header["guesses"] = [[g.class_id, round(g.score, 4)] for g in shot.answer.guesses]
    image = shot.camera_image() if wants_image else None
    if image is not None:
        grey = cv2.cvtColor(fit(image, size), cv2.COLOR_BGR2GRAY)
        planes["grey"] = grey.tobytes()
    return _assembled(header, planes)


def _assembled(header: dict[str, object], planes: Mapping[str, bytes]) -> bytes:
    places: dict[str, tuple[int, int]] = {}
    body = []
    offset = 0
    for name, data in planes.items():
        places[name] = (offset, len(data))
        padding = -len(data) % 4
        body += [data, bytes(padding)]
        offset += len(data) + padding
    text = json.dumps(header | {"planes": places}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    return b"".join([MAGIC, struct.pack("<I", len(text)), text, *body])


def pack_events(events: Events, size: tuple[int, int]) -> bytes:
    """Return the last polarity of each pixel, 2 bits a pixel.

    Args:
        events: of one window, inside the frame.
        size: (height, width) of the picture.
    """
    height, width = size
    # Whole bytes: up to 3 pixels more than the picture has.
    codes = np.zeros(-(-height * width // 4) * 4, np.uint8)
    y, x = events.y.astype(np.int32), events.x.astype(np.int32)
    if size != (events.height, events.width):
        y = y * height // events.height
        x = x * width // events.width
    codes[y * width + x] = events.p + np.uint8(1)
    packed: npt.NDArray[np.uint8] = codes.reshape(-1, 4) @ _SHIFTS
    return packed.tobytes()


def pack_mask(mask: npt.NDArray[np.uint8]) -> bytes:
    """Return a mask, (H, W) uint8, as run lengths (u16) and then class ids (u8)."""
    flat = np.ascontiguousarray(mask).reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.append(starts, len(flat)))
    values = flat[starts]
    if len(lengths) and lengths.max() > _MAX_RUN:
        parts = -(-lengths // _MAX_RUN)
        # All parts of a run are full but its last one.
        rest = lengths - (parts - 1) * _MAX_RUN
        lengths = np.full(parts.sum(), _MAX_RUN)
        lengths[np.cumsum(parts) - 1] = rest
        values = np.repeat(values, parts)
    return b"".join([lengths.astype("<u2").tobytes(), values.tobytes()])


def _shrunk(mask: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    if mask.shape == size:
        return mask
    small = cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(small, np.uint8)


def _box(detection: Detection) -> list[object]:
    """Return class id, track id, score, box in sensor pixels, velocity in pixels a second."""
    vx, vy = detection.velocity_px_s
    box = detection.box_xyxy
    score = round(detection.score, 3)
    return [
        detection.class_id, detection.track_id, score, *box, round(float(vx), 1),
        round(float(vy), 1),
    ]  # fmt: skip
