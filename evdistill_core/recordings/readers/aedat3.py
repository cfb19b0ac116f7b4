"""AEDAT 3.1 of cAER, as DVS128 Gesture is handed out: ``#`` lines, then packets of one kind each.

A packet is a header of 28 bytes (type, source, size of an event, place of its time, overflow of the
clock, capacity, number, valid) and events of that size. Times have 31 bits; the header counts how
often they wrapped. Rows count from the top.

Source: iniVation, "AEDAT file formats", 3.1. Not read: compressed frames, and version 3.0, whose
rows count from the bottom.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np

from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.decoders import make_decoder
from evdistill_core.foundation.errors import MessageError, RecordingError
from evdistill_core.foundation.reasons import Reasons
from evdistill_core.messages.images import EightBits
from evdistill_core.recordings.base import EventBatch, Frame, RecordingInfo, TopicInfo
from evdistill_core.recordings.read_options import AS_THE_FILE_SAYS, ReadOptions
from evdistill_core.recordings.readers.aedat2 import hash_header
from evdistill_core.recordings.readers.bounded import (
    PIECE_LIMIT_BYTES,
    zero_tail,
    zeros_left_out,
)
from evdistill_core.recordings.readers.chips import camera_size, chip_by_name
from evdistill_core.recordings.readers.records import SeekTable, StreamRecording

AEDAT3_MAGIC = b"#!AER-DAT3"
VERSION = "3.1"
HEADER = struct.Struct("<hhiiiiii")
SPECIAL, POLARITY, FRAME = 0, 1, 2
FRAME_HEAD = struct.Struct("<9i")
#: special events on the trigger input: rising, falling, pulse
RISING, FALLING, PULSE = 2, 3, 4
MAX_OVERFLOW = 1 << 20
TIME_BITS = 31
#: packets that tell whether there are frames
LOOKED_AT = 1000


@dataclass(frozen=True)
class Packet:
    """The header of one packet.

    Attributes:
        kind: type of its events.
        source: number of the camera.
        base_us: time to add to the events' own.
        size: bytes of one event.
        place: where the events begin.
        length: bytes of all of them.
    """

    kind: int
    source: int
    base_us: int
    size: int
    place: int
    length: int


class Aedat3Recording(StreamRecording):
    """Events, frames and trigger edges of one camera.

    Args:
        path: the file.
        topic: name of the camera; None takes the only one with events.
        options: what the user said of the file.

    Raises:
        RecordingError: another version or packing, an unknown camera, or several cameras.
    """

    takes = frozenset({"camera", "size"})

    def __init__(
        self, path: Path, topic: str | None = None, options: ReadOptions = AS_THE_FILE_SAYS
    ) -> None:
        super().__init__(path, "aedat3", options=options)
        lines, self._data_at = hash_header(path)
        self._require_version(lines)
        self._end = path.stat().st_size
        zeros = zero_tail(path, self._data_at)
        if zeros:
            self._warn(zeros_left_out(self._end - zeros, self._end))
        self._zeros_at = self._end - zeros
        self._sources = _sources(lines)
        self._source = self._chosen(topic)
        self._table: SeekTable | None = None
        self._size = self._told_size()
        head = islice(self._packets(), LOOKED_AT)
        self._has_frames = any(p.kind == FRAME and self._is_ours(p) for p in head)

    def _require_version(self, lines: list[str]) -> None:
        version = lines[0][len(AEDAT3_MAGIC) - 1 :].strip() if lines else ""
        form = next((text for key, text in map(_field, lines) if key == "format"), "RAW")
        if version != VERSION or form.upper() != "RAW":
            raise RecordingError(
                f"{self._path} is AEDAT {version or '3'} in the format {form[:40]}; read is "
                f"{VERSION} in RAW. Convert it with iniVation's DV"
            )

    def _chosen(self, topic: str | None) -> int | None:
        """Return the number of the camera; None where all packets are of the same."""
        if len(self._sources) < 2:
            if topic not in (None, "events", *self._sources.values()):
                raise RecordingError(f"{self._path} holds one camera; got '{topic}'")
            return None
        full = {p.source for p in self._packets() if p.kind == POLARITY and p.length}
        names = {name: number for number, name in self._sources.items()}
        if topic is not None and topic not in names:
            raise RecordingError(
                f"{self._path} has no camera '{topic}'; it has: {', '.join(names)}"
            )
        candidates = [name for name, number in names.items() if number in full] or list(names)
        if topic is None and len(candidates) > 1:
            raise RecordingError(
                f"{self._path} has several cameras, choose one with --topic: "
                f"{', '.join(candidates)}"
            )
        return names[topic or candidates[0]]

    def _told_size(self) -> tuple[int, int]:
        if self._options.size:
            return self._options.size
        if self._options.camera:
            return camera_size(self._path, self._options.camera)
        names = [n for k, n in self._sources.items() if self._source in (None, k)]
        name = names[0].partition(":")[0] if names else ""
        return chip_by_name(self._path, name, told_by="its header").size

    @property
    def info(self) -> RecordingInfo:
        """What the header says."""
        names = tuple(self._sources.values()) or ("events",)
        name = names[0] if self._source is None else self._sources[self._source]
        return self._describe(
            self._kind,
            self._encoding,
            topic=name,
            frame_topic="frames" if self._has_frames else "",
            topics=tuple(TopicInfo(n, "events") for n in names),
        )

    def _is_ours(self, packet: Packet) -> bool:
        return self._source is None or packet.source == self._source

    def _packets(self, begin: int | None = None) -> Iterator[Packet]:
        """Yield the headers of packets, as far as they make sense."""
        with self._path.open("rb") as file:
            at = self._data_at if begin is None else begin
            while at < self._zeros_at:
                file.seek(at)
                packet = _packet(file.read(HEADER.size), at)
                if packet is None or packet.place + packet.length > self._end:
                    if self._zeros_at == self._end:
                        self._warn(f"the file is cut off or damaged from byte {at} of {self._end}")
                    return
                yield packet
                at = packet.place + packet.length

    def _all_batches(self) -> Iterator[EventBatch]:
        return self._batches_at(None)

    def _batches_from(self, start_us: int) -> Iterator[EventBatch]:
        self._table = self._table or self._sampled()
        if not len(self._table.places):
            return self._all_batches()
        return self._batches_at(self._table.before(start_us)[0])

    def _sampled(self) -> SeekTable:
        """Read the first time of every packet of events."""
        places, times = [], []
        with self._path.open("rb") as file:
            for packet in self._packets():
                if packet.kind == POLARITY and packet.length >= 8 and self._is_ours(packet):
                    places.append(packet.place - HEADER.size)
                    times.append(packet.base_us + _time(file, packet.place + 4))
        return SeekTable(np.array(places, np.int64), np.array(times, np.int64))

    def _batches_at(self, place: int | None) -> Iterator[EventBatch]:
        self._counts = Counter()
        with self._path.open("rb") as file:
            for packet in self._packets(place):
                self._fraction = (packet.place + packet.length) / self._end
                if not self._is_ours(packet) or packet.size != 8:
                    continue
                file.seek(packet.place)
                data = file.read(packet.length)
                if packet.kind == POLARITY:
                    events = self._events(data, packet.base_us)
                    if len(events):
                        yield self._batch(events)
                elif packet.kind == SPECIAL:
                    edges = _edges(data, packet.base_us)
                    if len(edges):
                        yield self._batch(Events.empty(*self._size), edges)

    def _events(self, data: bytes, base_us: int) -> Events:
        decoder = make_decoder("libcaer", width=self._size[0], height=self._size[1])
        events = decoder.decode(data, base_us * 1000).events
        for name in ("out_of_frame", "backward_time", "unknown_words"):
            self._counts[name] += getattr(decoder.counters, name)
        return events

    def frames(self) -> Iterator[Frame]:
        """Yield the frames; ``t_us`` is when their exposure began."""
        self._left_out_frames = Reasons()
        to_eight_bits = EightBits()
        with self._path.open("rb") as file:
            for packet in self._packets():
                if packet.kind != FRAME or not self._is_ours(packet):
                    continue
                for place in range(0, packet.length - packet.size + 1, packet.size):
                    file.seek(packet.place + place)
                    data = file.read(packet.size)
                    try:
                        pixels, t_us = _pixels(data)
                        image = to_eight_bits(pixels)
                    except (MessageError, struct.error) as error:
                        self._left_out_frames.add(str(error))
                        continue
                    image.flags.writeable = False
                    t_us += packet.base_us
                    yield Frame(image, t_us, t_us * 1000)


def _field(line: str) -> tuple[str, str]:
    key, _, text = line.lstrip("# ").partition(":")
    return key.strip().lower(), text.strip()


def _sources(lines: list[str]) -> dict[int, str]:
    """Return the cameras of ``#Source N: NAME`` by number; equal names get their number."""
    found: dict[int, str] = {}
    for key, text in map(_field, lines):
        number = re.fullmatch(r"source (\d{1,6})", key)
        if number and text:
            found[int(number[1])] = text.split()[0][:80]
    names = list(found.values())
    return {k: n if names.count(n) == 1 else f"{n}:{k}" for k, n in found.items()}


def _packet(head: bytes, at: int) -> Packet | None:
    """Return a packet's header; None for one that makes no sense."""
    if len(head) < HEADER.size:
        return None
    kind, source, size, _, overflow, capacity, number, valid = HEADER.unpack(head)
    length = size * capacity
    sane = kind >= 0 and size > 0 and 0 <= valid <= number <= capacity
    if not sane or not 0 <= overflow < MAX_OVERFLOW or length > PIECE_LIMIT_BYTES:
        return None
    return Packet(kind, source, overflow << TIME_BITS, size, at + HEADER.size, length)


def _time(file: IO[bytes], place: int) -> int:
    file.seek(place)
    return int.from_bytes(file.read(4), "little", signed=True)


def _edges(data: bytes, base_us: int) -> Triggers:
    """Return the edges on the trigger input among special events; others are resets and marks."""
    words = np.frombuffer(data, "<u4", len(data) // 8 * 2).reshape(-1, 2)
    kind = words[:, 0] >> np.uint32(1) & np.uint32(0x7F)
    keep = (words[:, 0] & np.uint32(1) == 1) & np.isin(kind, (RISING, FALLING, PULSE))
    t_us = words[keep, 1].view("<i4").astype(np.int64) + base_us
    edge = (kind[keep] != FALLING).astype(np.uint8)
    return Triggers(t_us, np.zeros(len(t_us), np.uint8), edge)


def _pixels(data: bytes) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint16]], int]:
    """Return the pixels of a frame and the start of its exposure.

    Raises:
        MessageError: its size is not that of its pixels, or they are neither grey nor RGB.
    """
    info, _, _, t_us, _, width, height, _, _ = FRAME_HEAD.unpack_from(data)
    channels = info >> 1 & 7
    shape = (height, width) if channels == 1 else (height, width, channels)
    if channels not in (1, 3) or not (0 < width <= 4096 and 0 < height <= 4096):
        raise MessageError(f"a frame of {width}x{height} pixels and {channels} channels")
    if width * height * channels * 2 > len(data) - FRAME_HEAD.size:
        raise MessageError(f"a frame of {width}x{height} pixels in {len(data)} bytes")
    pixels = np.frombuffer(data, "<u2", width * height * channels, FRAME_HEAD.size)
    return pixels.reshape(shape), t_us
