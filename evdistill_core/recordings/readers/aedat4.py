"""AEDAT4 files of iniVation cameras: events, frames and edges on the trigger input."""

from __future__ import annotations

import contextlib
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.foundation.reasons import Reasons
from evdistill_core.recordings.base import (
    EventBatch,
    Frame,
    Recording,
    RecordingInfo,
    TopicInfo,
)
from evdistill_core.recordings.read_options import AS_THE_FILE_SAYS, ReadOptions
from evdistill_core.recordings.readers.aedat4_file import Aedat4File, Stream, Table
from evdistill_core.recordings.readers.chips import camera_size
from evdistill_core.recordings.readers.records import SEEK_SAMPLES, SeekTable

AEDAT4_MAGIC = b"#!AER-DAT4"
EVENT = np.dtype(
    {
        "names": ["t_us", "x", "y", "p"],
        "formats": ["<i8", "<i2", "<i2", "u1"],
        "offsets": [0, 8, 10, 12],
        "itemsize": 16,
    }
)
KINDS = {"EVTS": "events", "FRME": "frames", "TRIG": "triggers", "IMUS": "imu"}
# Of the trigger types only these are the input pin; the others are resets and exposures of frames.
RISING, FALLING, PULSE = 1, 2, 3
# Format of a frame (OpenCV's numbers for 8 bit pixels) to its channels; colour is blue first.
CHANNELS = {0: 1, 16: 3, 24: 4}
END = None


class Aedat4Recording(Recording):
    """Events, frames and triggers of one camera.

    Args:
        path: the file.
        topic: name of the event stream; ``None`` takes the only one.
        options: the size of the sensor, for a file that does not tell it.

    Raises:
        RecordingError: the header is damaged, there are several event streams, or nobody tells the
            size.
    """

    def __init__(
        self, path: Path, topic: str | None = None, options: ReadOptions = AS_THE_FILE_SAYS
    ) -> None:
        super().__init__()
        self._path = path
        self._file = Aedat4File(path, self._warn)
        self._events = self._choose(topic)
        self._frames = self._first("FRME")
        self._triggers = self._first("TRIG")
        self._table: SeekTable | None = None
        if self._events is not None and not (self._events.width and self._events.height):
            self._events = self._with_size(self._events, options)
        else:
            options.refuse_all_but(frozenset(), path, "an AEDAT4 file, which tells how to read it")
        self._size = (self._events.width, self._events.height) if self._events else (0, 0)

    def _with_size(self, stream: Stream, options: ReadOptions) -> Stream:
        """Return a stream without a size with the one that the user says."""
        options.refuse_all_but(frozenset({"size", "camera"}), self._path, "an AEDAT4 file")
        size = options.size
        if size is None and options.camera:
            size = camera_size(self._path, options.camera)
        if size is None:
            raise RecordingError(
                f"{self._path} does not hold the size of its sensor: give --size WIDTHxHEIGHT or "
                "--camera NAME"
            )
        return replace(stream, width=size[0], height=size[1])

    def _choose(self, wanted: str | None) -> Stream | None:
        streams = {s.name: s for s in self._file.streams if s.kind == "EVTS"}
        if wanted is not None and wanted not in streams:
            raise RecordingError(
                f"{self._path} has no event stream '{wanted}'; "
                f"it has: {', '.join(streams) or 'none'}"
            )
        if wanted is None and len(streams) > 1:
            # A camera that sent nothing is no candidate where another one did.
            full = {name: s for name, s in streams.items() if len(self._file.places(s))}
            streams = full or streams
        if wanted is None and len(streams) > 1:
            raise RecordingError(
                f"{self._path} has several event streams, choose one with --topic: "
                + ", ".join(streams)
            )
        return streams[wanted] if wanted is not None else next(iter(streams.values()), None)

    def _first(self, kind: str) -> Stream | None:
        """Return the stream of a kind from the camera of the events, else the first one."""
        found = [s for s in self._file.streams if s.kind == kind]
        source = self._events.source if self._events else ""
        return next((s for s in found if s.source == source), found[0] if found else None)

    @property
    def info(self) -> RecordingInfo:
        """What the file's header says."""
        events, frames = self._events, self._frames
        return self._describe(
            "aedat4",
            "aedat4",
            topic=events.name if events else "",
            frame_topic=frames.name if frames else "",
            topics=tuple(TopicInfo(s.name, KINDS.get(s.kind, s.kind)) for s in self._file.streams),
        )

    def _count_damage(self) -> None:
        self._counts["damaged_messages"] += 1

    def _all_batches(self) -> Iterator[EventBatch]:
        return self._batches_at(None)

    def _batches_from(self, start_us: int) -> Iterator[EventBatch]:
        if self._events is None:
            return self._all_batches()
        self._table = self._table or self._sampled(self._events)
        if not len(self._table.places):
            return self._all_batches()
        return self._batches_at(self._table.before(start_us)[0])

    def _sampled(self, stream: Stream) -> SeekTable:
        """Read the first times of packets spread evenly over the file."""
        every = self._file.places(stream)
        chosen = np.unique(np.linspace(0, len(every) - 1, SEEK_SAMPLES).astype(np.int64))
        places, times = [], []
        for place in every[chosen] if len(every) else ():
            packet = next(self._file.packets(stream, begin=int(place)), None)
            with contextlib.suppress(struct.error):
                first = b"" if packet is None else packet.table.vector(0, EVENT.itemsize)[:8]
                if first:
                    places.append(int(place))
                    times.append(int.from_bytes(first, "little", signed=True))
        return SeekTable(np.array(places, np.int64), np.array(times, np.int64))

    def _batches_at(self, place: int | None) -> Iterator[EventBatch]:
        stream = self._events
        if stream is None:
            names = ", ".join(f"{t.name} ({t.type_name})" for t in self.info.topics) or "nothing"
            raise RecordingError(f"{self._path} holds no events, only {names}")
        self._counts = Counter()
        pending = _TriggerQueue(self._edges())
        last_us = 0
        for packet in self._file.packets(stream, self._count_damage, begin=place):
            self._fraction = packet.fraction
            self._counts["messages"] += 1
            events = self._unpack(packet.table, stream)
            if not len(events):
                continue
            self._counts["backward_time"] += bool(events.t_us[0] < last_us)
            self._counts["events"] += len(events)
            last_us = int(events.t_us[-1])
            yield EventBatch(events, pending.until(last_us + 1), last_us * 1000)
        rest = pending.until(END)
        if len(rest):
            empty = Events.empty(stream.width, stream.height)
            yield EventBatch(empty, rest, int(rest.t_us[-1]) * 1000)

    def _unpack(self, table: Table, stream: Stream) -> Events:
        """Copy the columns out of the records; count what lies outside the frame."""
        width, height = stream.width, stream.height
        try:
            records = np.frombuffer(table.vector(0, EVENT.itemsize), EVENT)
        except struct.error:
            self._warn(f"a packet of {stream.name} claims more events than it has: left out")
            self._count_damage()
            return Events.empty(width, height)
        x, y = records["x"], records["y"]
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        outside = len(records) - int(np.count_nonzero(inside))
        if outside:
            self._counts["out_of_frame"] += outside
            records = records[inside]
        return Events(
            records["x"].astype(np.uint16),
            records["y"].astype(np.uint16),
            records["t_us"].astype(np.int64),
            (records["p"] != 0).astype(np.uint8),
            width,
            height,
        )

    def _edges(self) -> Iterator[tuple[int, int]]:
        """Yield time and edge (1 rising or pulse, 0 falling) of the trigger input."""
        if self._triggers is None:
            return
        for packet in self._file.packets(self._triggers, self._count_damage):
            try:
                edges = [(t.number(0, "q"), t.number(1, "b")) for t in packet.table.tables(0)]
            except struct.error:
                self._warn(f"a packet of {self._triggers.name} is damaged: left out")
                self._count_damage()
                continue
            for t_us, kind in edges:
                if kind in {RISING, FALLING, PULSE}:
                    yield t_us, int(kind != FALLING)

    def frames(self) -> Iterator[Frame]:
        """Yield the APS frames; ``t_us`` is when their exposure began."""
        if self._frames is None:
            return
        self._left_out_frames = Reasons()
        for packet in self._file.packets(self._frames):
            try:
                image = _picture(packet.table)
                # Start of exposure, as dv-processing gives it; old files have one time alone.
                t_us = packet.table.number(3, "q") or packet.table.number(0, "q")
            except (struct.error, ValueError) as error:
                self._left_out_frames.add(str(error))
                continue
            yield Frame(image, t_us, t_us * 1000)


class _TriggerQueue:
    """The edges, handed out beside the events."""

    def __init__(self, edges: Iterator[tuple[int, int]]) -> None:
        self._edges = edges
        self._next = next(edges, None)

    def until(self, t_us: int | None) -> Triggers:
        """Return the edges before ``t_us``; ``END`` returns all that are left."""
        ready = []
        while self._next is not None and (t_us is END or self._next[0] < t_us):
            ready.append(self._next)
            self._next = next(self._edges, None)
        if not ready:
            return Triggers.empty()
        return Triggers(
            np.array([e[0] for e in ready], np.int64),
            np.zeros(len(ready), np.uint8),
            np.array([e[1] for e in ready], np.uint8),
        )


def _picture(table: Table) -> npt.NDArray[np.uint8]:
    """Return a frame's pixels as grey or RGB, read-only.

    Raises:
        ValueError: pixels of another kind, or fewer or more than the size says.
    """
    kind = table.number(5, "b")
    if kind not in CHANNELS:
        raise ValueError(f"pixel format {kind} is none of {sorted(CHANNELS)}")
    width, height, channels = table.number(6, "h"), table.number(7, "h"), CHANNELS[kind]
    pixels = np.frombuffer(table.vector(10, 1), np.uint8)
    if width < 1 or height < 1 or len(pixels) != width * height * channels:
        raise ValueError(f"{len(pixels)} bytes for {width}x{height} pixels of {channels} bytes")
    if channels == 1:
        return pixels.reshape(height, width)
    image = np.ascontiguousarray(pixels.reshape(height, width, channels)[:, :, 2::-1])
    image.flags.writeable = False
    return image
