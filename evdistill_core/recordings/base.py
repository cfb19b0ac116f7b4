"""What every recording looks like from outside, whatever file it lies in."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.clock import SensorClock
from evdistill_core.events.decoders.base import MAX_SIDE
from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import DecodedPacket, StreamCounters
from evdistill_core.events.time_watch import TimeWatch
from evdistill_core.events.window import Window, WindowAssembler, WindowSpec
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.foundation.reasons import Reasons, sentences

_log = logging.getLogger(__name__)

#: After the end of a span, read on until sensor time is this far past it: drivers deliver packets
#: slightly out of order, and a span must not lose the late ones.
REORDER_US = 1_000_000


@dataclass(frozen=True)
class TopicInfo:
    """One topic of a bag, or one stream of another file.

    Attributes:
        name: topic as ROS writes it, or the name of the stream.
        type_name: message type (``pkg/msg/Type``), or the kind of the stream.
        message_count: messages, -1 where only a full pass could tell.
    """

    name: str
    type_name: str
    message_count: int = -1


@dataclass(frozen=True)
class MessageDefinition:
    """How a bag describes a message type.

    Attributes:
        encoding: of the text, ``ros2msg`` or ``ros2idl``; ``""`` where the bag has no text.
        text: the type with every nested one.
        type_hash: RIHS01 hash, ``""`` where the bag has none.
    """

    encoding: str = ""
    text: bytes = b""
    type_hash: str = ""


@dataclass(frozen=True)
class RecordingInfo:
    """What is known without decoding the whole recording.

    Attributes:
        path: the file or the bag directory.
        format: its short name, see ``docs/reference/recordings.md``.
        topic: topic or stream that the events come from, ``""`` when there is none.
        encoding: encoding of the event bytes (``evt3``, ``libcaer_cmp``, ...), the message's name
            for messages without one, or the format for plain columns.
        width: columns of the sensor; 0 when there are no events.
        height: rows of the sensor; 0 when there are no events.
        frame_topic: topic or stream of the camera's images, ``""`` when there is none.
        topics: everything that the recording holds.
        warnings: what is damaged, missing or guessed; grows while the recording is read.
    """

    path: Path
    format: str
    topic: str
    encoding: str
    width: int
    height: int
    frame_topic: str
    topics: tuple[TopicInfo, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class EventBatch:
    """The events of one message or one stored packet.

    Attributes:
        events: may be empty (a message of triggers alone).
        triggers: edges on the external trigger input.
        stamp_ns: nanoseconds. In bags and from cameras host time since 1970, that of the first
            event (see ``Recording.has_host_stamps``); in other files the sensor time of the last
            event.
        discontinuity: ``""``, or why these events must not be joined with earlier ones
            (``"seq"``, ``"size"``, ``"encoding"``, ``"time"``).
    """

    events: Events
    triggers: Triggers
    stamp_ns: int
    discontinuity: str = ""

    def decoded(self, *, has_host_stamp: bool) -> DecodedPacket:
        """Return the same as the decoder of a live topic gives it.

        Args:
            has_host_stamp: see ``Recording.has_host_stamps``.
        """
        stamp_ns = self.stamp_ns if has_host_stamp else 0
        return DecodedPacket(self.events, self.triggers, stamp_ns, "", self.discontinuity)


@dataclass(frozen=True, eq=False)
class Frame:
    """One ordinary image of the same camera.

    Attributes:
        image: (H, W) uint8 grey or (H, W, 3) uint8 RGB, read-only.
        t_us: sensor time where the file has it (AEDAT4); in a bag, the header stamp.
        stamp_ns: header stamp, nanoseconds since 1970.
    """

    image: npt.NDArray[np.uint8]
    t_us: int
    stamp_ns: int


class Recording(ABC):
    """An open recording; every iteration starts afresh at the beginning.

    Nothing is loaded ahead: memory does not grow with the length of the recording.
    """

    has_host_stamps = False
    """Whether ``EventBatch.stamp_ns`` is of another clock than the sensor's, as in bags; the stamp
    is then that of the first event. Files have the sensor's clock alone."""

    _path: Path
    _size: tuple[int, int]

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._time_counts: Counter[str] = Counter()
        self._warnings: list[str] = []
        self._left_out_frames = Reasons()
        #: How far into the file the iteration is; with a span, 1 is still its end.
        self._fraction: float | None = None
        self._span_fraction: float | None = None
        self._closed = False

    @property
    @abstractmethod
    def info(self) -> RecordingInfo:
        """What is known so far; warnings grow while the recording is read."""

    def _describe(
        self,
        kind: str,
        encoding: str,
        *,
        topic: str = "events",
        frame_topic: str = "",
        topics: tuple[TopicInfo, ...] = (TopicInfo("events", "events"),),
    ) -> RecordingInfo:
        """Return the information so far; by default on a file of nothing but events."""
        return RecordingInfo(
            path=self._path,
            format=kind,
            topic=topic,
            encoding=encoding,
            width=self._size[0],
            height=self._size[1],
            frame_topic=frame_topic,
            topics=topics,
            warnings=(
                *self._warnings,
                *sentences("camera image", self._left_out_frames.as_dict()),
            ),
        )

    @property
    def counters(self) -> dict[str, int]:
        """Counters of the latest iteration: messages, events, gaps and every kind of damage.

        For bags, those of ``StreamCounters``; other files use the names among them that apply.
        """
        return dict(self._counts) | dict(self._time_counts)

    @property
    def left_out_frames(self) -> dict[str, int]:
        """Camera images that the latest ``frames`` or ``image_messages`` left out, by reason.

        ``info.warnings`` says the same in words.
        """
        return self._left_out_frames.as_dict()

    @property
    def fraction_read(self) -> float | None:
        """How much of the latest iteration is done, 0 .. 1; ``None`` where nothing tells.

        With a span, it is that of the way from where the file is entered to the span's end.
        """
        return self._fraction if self._span_fraction is None else self._span_fraction

    @abstractmethod
    def _all_batches(self) -> Iterator[EventBatch]:
        """Yield every batch, from the beginning."""

    def batches(
        self, start_us: int | None = None, end_us: int | None = None
    ) -> Iterator[EventBatch]:
        """Yield the events in stored order, as they were packed.

        Args:
            start_us: leave out events and triggers before this sensor time (that of
                ``Events.t_us``); ``None`` starts at the beginning.
            end_us: leave out events and triggers at or after it; ``None`` reads to the end.

        Yields:
            Batches: without a span all of them, with a span those that hold events of it. Most
            formats seek to a place near the start (``docs/reference/recordings.md`` lists them).
            Event streams, whose times add up, and compressed columns are decoded from the
            beginning.

        Raises:
            RecordingError: ``end_us`` is below ``start_us``, there are no events, the file is
                damaged, or the recording was closed.
        """
        if self._closed:
            raise RecordingError(f"{self.info.path} was closed: read inside the with block")
        if start_us is not None and end_us is not None and end_us < start_us:
            raise RecordingError(
                f"the end of a span must not lie before its start: got {start_us} .. {end_us} us"
            )
        self._fraction = self._span_fraction = None
        self._time_counts.clear()
        batches = self._all_batches() if start_us is None else self._batches_from(start_us)
        if start_us is None and end_us is None:
            return batches
        return self._span(batches, start_us, end_us)

    def _span(
        self, batches: Iterator[EventBatch], start_us: int | None, end_us: int | None
    ) -> Iterator[EventBatch]:
        yield from cut(self._measured(batches, end_us), start_us, end_us)
        self._span_fraction = 1.0

    def _measured(self, batches: Iterator[EventBatch], end_us: int | None) -> Iterator[EventBatch]:
        """Note how far the span is: its end, or the file's, whichever comes first, is the aim."""
        way = _Way(end_us)
        for batch in batches:
            self._span_fraction = way.fraction(batch.events, self._fraction)
            yield batch

    def _batches_from(self, start_us: int) -> Iterator[EventBatch]:
        """Yield at least every batch that may hold something at or after ``start_us``.

        Formats that can be entered in the middle begin there; all others at the beginning.
        """
        return self._all_batches()

    def span_us(
        self, start_s: float = 0.0, end_s: float | None = None
    ) -> tuple[int | None, int | None]:
        """Return a span in sensor time, as ``batches`` takes it.

        Args:
            start_s: seconds after the first event, 0 or more.
            end_s: seconds after the first event; None: to the end.

        Returns:
            (start_us, end_us); None where the span reaches the recording's own start or end.

        Raises:
            RecordingError: the span is empty or starts before the recording, or there are no
                events to count from.
        """
        check_span_s(start_s, end_s)
        if not start_s and end_s is None:
            return None, None
        first = next((b for b in self.batches() if len(b.events)), None)
        if first is None:
            raise RecordingError(f"{self.info.path} holds no events")
        origin_us = int(first.events.t_us[0])
        end_us = None if end_s is None else origin_us + round(end_s * 1e6)
        return (origin_us + round(start_s * 1e6) if start_s else None), end_us

    def nothing_in_span(self) -> RecordingError:
        """Return the error of a span that holds no events."""
        return RecordingError(
            f"{self.info.path} holds no events in that span: its start and end are seconds after "
            "the first event, `evdistill info` tells how many there are"
        )

    def __repr__(self) -> str:
        info = self.info
        return f"Recording({info.path.name}: {info.format}, {info.width}x{info.height})"

    def windows(
        self,
        duration_us: int | None = 50_000,
        *,
        count: int | None = None,
        stride_us: int | None = None,
        start_s: float = 0.0,
        end_s: float | None = None,
    ) -> Iterator[Window]:
        """Yield the events window by window.

        No window spans a break of the stream (lost messages, a jump in time, another size).
        Events of an unfinished window before it are left out. After it, ``Window.stretch`` is one
        higher.

        Args:
            duration_us: length in sensor time; None: by ``count`` alone.
            count: a window also ends after this many events.
            stride_us: time between the starts of windows, 1 .. ``duration_us``; None: no overlap.
            start_s: begin this many seconds after the first event.
            end_s: stop this many seconds after the first event; None: at the end.

        Yields:
            Windows; the last one may be shorter than the others. Of windows without events in a
            row only the first is given.

        Raises:
            ConfigError: a length or a stride out of range.
            RecordingError: as ``batches``, or an empty span.
        """
        assembler = WindowAssembler(
            WindowSpec(duration_us=duration_us, count=count, stride_us=stride_us)
        )
        span = self.span_us(start_s, end_s)
        return _stamped_windows(self, span, assembler)

    def packets(self, topics: Sequence[str] | None = None) -> Iterator[Packet]:
        """Yield the serialized messages of a bag in the order of their receive times.

        Args:
            topics: which ones; ``None`` means the event topic alone.

        Raises:
            RecordingError: this is no bag, or it lacks one of the topics.
        """
        raise RecordingError(
            f"{self.info.path} is {self.info.format}, it holds no messages. Convert it first: "
            f"evdistill convert {self.info.path} {self.info.path.with_suffix('.mcap').name}"
        )

    def definitions(self) -> dict[str, MessageDefinition]:
        """Return what a bag says of its message types, by name; nothing where it says nothing."""
        return {}

    def offered_qos(self) -> dict[str, str]:
        """Return what the publishers of a bag's topics offered, by topic.

        Returns:
            Text as ``recordings.offered_qos.with_numbers`` returns it; topics of which the bag
            says nothing are not there.
        """
        return {}

    def frames(self) -> Iterator[Frame]:
        """Yield the camera's ordinary images; nothing when there are none.

        Those that cannot be read are left out and counted, see ``left_out_frames``.
        """
        return iter(())

    def image_messages(self) -> Iterator[tuple[int, Packet]]:
        """Yield the messages that hold the camera's images, as they are, with their header stamps.

        Yields:
            (stamp_ns, message); nothing where the recording is no bag or has no images.
        """
        return iter(())

    def __enter__(self) -> Recording:
        info = self.info
        _log.debug(
            "reading %s: %s, events of %r in %s, %dx%d",
            info.path, info.format, info.topic, info.encoding, info.width, info.height,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        # Every iterator opens the file for itself and closes it at its end or when it is dropped.
        self._closed = True

    def count_left_out(self, **counts: int) -> None:
        """Add to the counters of the latest iteration what was left out after reading."""
        self._time_counts.update(counts)

    def _is_on(self, p: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return which events are brighter; say it where a polarity is neither 0, 1 nor -1."""
        if p.dtype.kind != "b" and not ((p == 0) | (p == 1) | (p == -1)).all():
            self._warn("polarities other than 0, 1 and -1: what is above 0 is taken for brighter")
        on: npt.NDArray[np.bool_] = p > 0
        return on

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.append(text)


class _Way:
    """The way through a span, from the first batch that is read to its end."""

    def __init__(self, end_us: int | None) -> None:
        self._end_us = end_us
        self._first_us: int | None = None
        self._by_time: float | None = None
        self._entered: float | None = None

    def fraction(self, events: Events, read: float | None) -> float | None:
        """Return how much of the way is done, 0 .. 1.

        Args:
            events: that were read last.
            read: how much of the file lies before here.
        """
        ways = []
        if read is not None:
            self._entered = read if self._entered is None else self._entered
            ways.append((read - self._entered) / (1 - self._entered) if self._entered < 1 else 1.0)
        if self._end_us is not None and len(events):
            t_us = int(events.t_us[-1])
            self._first_us = t_us if self._first_us is None else self._first_us
            self._by_time = (t_us - self._first_us) / max(1, self._end_us - self._first_us)
        if self._by_time is not None:
            ways.append(self._by_time)
        return min(1.0, max(0.0, *ways)) if ways else None


def check_span_s(start_s: float, end_s: float | None) -> None:
    """Refuse a span in seconds after the first event that no recording can have.

    Raises:
        RecordingError: it is empty, starts before the recording, or is not finite.
    """
    if not (0 <= start_s < math.inf and (end_s is None or start_s < end_s < math.inf)):
        raise RecordingError(
            f"a span begins at 0 s or later and ends after its start, got {start_s:g} .. "
            f"{'the end' if end_s is None else f'{end_s:g}'} s; None is the end of the recording"
        )


def _stamped_windows(
    recording: Recording, span: tuple[int | None, int | None], assembler: WindowAssembler
) -> Iterator[Window]:
    """Yield windows with their stretch and the host time of their end."""
    clock, stretch = SensorClock(), 0

    def stamped(windows: list[Window]) -> Iterator[Window]:
        for window in windows:
            stamp_ns = clock.to_host_ns(window.t_end_us)
            yield replace(window, stretch=stretch, stamp_ns=stamp_ns)

    events = 0
    for part in stretches(recording, *span):
        events += len(part.events)
        if part.discontinuity:
            # Events are missing from what was collected before a gap; before all else it is whole.
            yield from stamped([] if part.discontinuity == "seq" else assembler.flush())
            assembler.reset()
            clock.reset()
            stretch += 1
        if len(part.events):
            clock.observe(int(part.events.t_us[0]), part.stamp_ns)
            yield from stamped(assembler.push(part.events))
    yield from stamped(assembler.flush())
    counted = assembler.counters
    recording.count_left_out(late=counted.late, at_break=counted.discarded)
    if not events and span != (None, None):
        raise recording.nothing_in_span()


def stretches(
    recording: Recording, start_us: int | None = None, end_us: int | None = None
) -> Iterator[DecodedPacket]:
    """Yield the events of a recording as training and windows take them.

    What strays in time is left out, counted in the recording's ``counters`` as
    ``discarded_at_jump``; ``time_sorted`` counts events that were put in order, ``time_jumps`` the
    places where time breaks off.

    Args:
        recording: an open one.
        start_us: as ``Recording.batches``.
        end_us: as ``Recording.batches``.

    Yields:
        Parts with a discontinuity where a new stretch begins; times fall by at most 10 ms in each.
    """
    counts = StreamCounters()
    watch = TimeWatch(counts)
    for batch in recording.batches(start_us, end_us):
        counts.events += len(batch.events)
        yield from watch.split(
            batch.decoded(has_host_stamp=recording.has_host_stamps),
            can_wait=not recording.has_host_stamps,
        )
    yield from watch.flush()
    recording.count_left_out(
        discarded_at_jump=counts.discarded_at_jump,
        time_sorted=counts.time_sorted,
        time_jumps=counts.time_jumps,
    )


def checked_size(path: Path, width: int, height: int) -> tuple[int, int]:
    """Return a sensor size that a file told.

    Raises:
        RecordingError: a side is 0 or larger than any event sensor.
    """
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise RecordingError(
            f"{path} says that its sensor has {width}x{height} pixels; expected 1 .. {MAX_SIDE} "
            "each: its header is damaged"
        )
    return width, height


def cut(
    batches: Iterator[EventBatch], start_us: int | None, end_us: int | None
) -> Iterator[EventBatch]:
    """Yield what lies in ``[start_us, end_us)``; a discontinuity is kept for the next batch."""
    low = -(1 << 63) if start_us is None else start_us
    high = (1 << 63) - 1 if end_us is None else end_us
    pending = ""
    for batch in batches:
        pending = batch.discontinuity or pending
        events = _within(batch.events, low, high)
        keep = (batch.triggers.t_us >= low) & (batch.triggers.t_us < high)
        if len(events) or keep.any():
            triggers = Triggers(
                batch.triggers.t_us[keep], batch.triggers.channel[keep], batch.triggers.edge[keep]
            )
            yield EventBatch(events, triggers, batch.stamp_ns, pending)
            pending = ""
        if len(batch.events) and int(batch.events.t_us.min()) >= high + REORDER_US:
            return


def _within(events: Events, low: int, high: int) -> Events:
    keep = (events.t_us >= low) & (events.t_us < high)
    return events if keep.all() else events[keep]
