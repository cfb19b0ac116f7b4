"""AEDAT4 files of iniVation cameras, read batch by batch by the vendor's library."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.base import (
    EventBatch,
    Frame,
    Recording,
    RecordingInfo,
    TopicInfo,
)

AEDAT4_MAGIC = b"#!AER-DAT4"
# dv::TriggerType; the other values mark resets and the exposure of frames, not the input pin.
RISING, FALLING, PULSE = 1, 2, 3
KINDS = (
    ("isStreamOfEventType", "events"),
    ("isStreamOfFrameType", "frames"),
    ("isStreamOfTriggerType", "triggers"),
    ("isStreamOfImuType", "imu"),
)


class Aedat4Recording(Recording):
    """Events, frames and triggers of one camera.

    Args:
        path: the file.
        topic: name of the event stream; ``None`` takes the only one.

    Raises:
        RecordingError: the file is damaged, or holds no or several event streams.
    """

    def __init__(self, path: Path, topic: str | None = None) -> None:
        super().__init__()
        self._path = path
        with self._reading():
            reader = self._open()
            names = list(reader.getStreamNames())
            self._topics = tuple(TopicInfo(name, _kind(reader, name)) for name in names)
        events = [t.name for t in self._topics if t.type_name == "events"]
        self._events = _choose(path, events, topic)
        frames = [t.name for t in self._topics if t.type_name == "frames"]
        self._frames = frames[0] if frames else ""
        triggers = [t.name for t in self._topics if t.type_name == "triggers"]
        self._triggers = triggers[0] if triggers else ""
        self._size = self._frame_size(reader)
        start_us, end_us = reader.getTimeRange()
        self._span_us = (int(start_us), int(end_us))  # zeros in files without an index

    def _open(self) -> Any:
        try:
            import dv_processing as dv  # noqa: PLC0415
        except ImportError as error:
            raise RecordingError(
                f"{self._path} is an AEDAT4 file; reading it needs dv-processing: "
                "pip install 'evdistill_ros[aedat4]'"
            ) from error
        return dv.io.MonoCameraRecording(str(self._path))

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn what dv-processing throws into one line without its stack trace."""
        try:
            yield
        except RuntimeError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            reason = next((line for line in lines if "Error" in line), lines[0] if lines else "")
            raise RecordingError(
                f"{self._path} is cut off or damaged (dv-processing: {reason.strip()}). "
                "Was it copied completely?"
            ) from error

    def _frame_size(self, reader: Any) -> tuple[int, int]:
        if not self._events:
            return (0, 0)
        size = reader.getEventResolution(self._events)
        return (int(size[0]), int(size[1])) if size is not None else (0, 0)

    @property
    def info(self) -> RecordingInfo:
        """What the file's header says."""
        return RecordingInfo(
            path=self._path,
            format="aedat4",
            topic=self._events,
            encoding="aedat4",
            width=self._size[0],
            height=self._size[1],
            frame_topic=self._frames,
            topics=self._topics,
            warnings=tuple(self._warnings),
        )

    def _all_batches(self) -> Iterator[EventBatch]:
        if not self._events:
            raise RecordingError(f"{self._path} holds no events, only {_names(self._topics)}")
        self._counts = Counter()
        with self._reading():
            reader = self._open()
            pending = _TriggerQueue(reader, self._triggers)
            last_us = 0
            while (store := reader.getNextEventBatch(self._events)) is not None:
                events = self._events_of(store.numpy())
                if not len(events):
                    continue
                if int(events.t_us[0]) < last_us:
                    self._counts["backward_time"] += 1
                last_us = int(events.t_us[-1])
                self._fraction = self._progress(last_us)
                self._counts["messages"] += 1
                self._counts["events"] += len(events)
                yield EventBatch(events, pending.until(last_us + 1), last_us * 1000)
            rest = pending.until(None)
            if len(rest):
                stamp_ns = int(rest.t_us[-1]) * 1000
                yield EventBatch(Events.empty(*self._size), rest, stamp_ns)

    def _progress(self, t_us: int) -> float | None:
        start_us, end_us = self._span_us
        return min(1.0, (t_us - start_us) / (end_us - start_us)) if end_us > start_us else None

    def _events_of(self, stored: npt.NDArray[np.void]) -> Events:
        """Copy the columns out of the vendor's records; count what lies outside the frame."""
        width, height = self._size
        x, y = stored["x"], stored["y"]
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        if not inside.all():
            self._counts["out_of_frame"] += int(len(stored) - np.count_nonzero(inside))
            stored = stored[inside]
        return Events(
            stored["x"].astype(np.uint16),
            stored["y"].astype(np.uint16),
            stored["timestamp"].astype(np.int64),
            (stored["polarity"] > 0).astype(np.uint8),
            width,
            height,
        )

    def frames(self) -> Iterator[Frame]:
        """Yield the APS frames; ``t_us`` is the time that the camera gave them."""
        if not self._frames:
            return
        with self._reading():
            reader = self._open()
            while (frame := reader.getNextFrame(self._frames)) is not None:
                t_us = int(frame.timestamp)
                yield Frame(_picture(frame.image), t_us, t_us * 1000)


class _TriggerQueue:
    """The trigger stream, handed out beside the events."""

    def __init__(self, reader: Any, name: str) -> None:
        self._reader = reader
        self._name = name
        self._edges: list[tuple[int, int]] = []
        self._ended = not name

    def until(self, t_us: int | None) -> Triggers:
        """Return the edges before ``t_us``; ``None`` returns all that are left."""
        while not self._ended and (t_us is None or not self._edges or self._edges[-1][0] < t_us):
            batch = self._reader.getNextTriggerBatch(self._name)
            self._ended = batch is None
            self._edges += [
                (int(t.timestamp), int(t.type.value != FALLING))
                for t in batch or ()
                if t.type.value in (RISING, FALLING, PULSE)
            ]
        ready = [e for e in self._edges if t_us is None or e[0] < t_us]
        self._edges = [e for e in self._edges if t_us is not None and e[0] >= t_us]
        if not ready:
            return Triggers.empty()
        return Triggers(
            np.array([e[0] for e in ready], np.int64),
            np.zeros(len(ready), np.uint8),
            np.array([e[1] for e in ready], np.uint8),
        )


def _kind(reader: Any, name: str) -> str:
    return next((kind for method, kind in KINDS if getattr(reader, method)(name)), "other")


def _choose(path: Path, streams: list[str], wanted: str | None) -> str:
    if wanted is not None and wanted not in streams:
        raise RecordingError(
            f"{path} has no event stream '{wanted}'; it has: {', '.join(streams) or 'none'}"
        )
    if wanted is None and len(streams) > 1:
        raise RecordingError(
            f"{path} has several event streams, choose one with --topic: {', '.join(streams)}"
        )
    return wanted or (streams[0] if streams else "")


def _names(topics: tuple[TopicInfo, ...]) -> str:
    return ", ".join(f"{t.name} ({t.type_name})" for t in topics) or "nothing"


def _picture(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a read-only copy; dv-processing stores colour as BGR."""
    grey_or_rgb = image[:, :, ::-1] if image.ndim == 3 and image.shape[2] == 3 else image
    copy = np.ascontiguousarray(grey_or_rgb).copy()
    if copy.ndim == 3 and copy.shape[2] == 1:
        copy = copy[:, :, 0]
    copy.flags.writeable = False
    return copy
