"""One recording into another: rosbag2, AEDAT4, HDF5 as DSEC has it, npz, EVT3 or text."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.packet import Packet
from evdistill_core.events.time_watch import BACKWARD_JUMP_US
from evdistill_core.foundation.config import from_mapping
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.foundation.outputs import IN_PYTHON, check_file
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import CompressedImage, Image
from evdistill_core.recordings.base import EventBatch, Frame, Recording, check_span_s
from evdistill_core.recordings.encoders.bag_messages import BagMessages
from evdistill_core.recordings.encoders.edge_queue import select
from evdistill_core.recordings.encoders.packets import (
    PACKET_US,
    EncodedPacket,
    Packetizer,
    holds_edges,
)
from evdistill_core.recordings.offered_qos import is_latched
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.writers.aedat4 import Aedat4Writer
from evdistill_core.recordings.writers.mcap import McapWriter
from evdistill_core.recordings.writers.plain import PLAIN_SUFFIXES, held_edges, plain_writer

SUFFIXES = (".mcap", ".aedat4", *PLAIN_SUFFIXES)
T = TypeVar("T")
#: So many packets in a row may lie behind those before; more are a restart.
STRAY_PACKETS = 3
Progress = Callable[[int], None]
#: stamp in nanoseconds, topic, type name, serialized message
StampedMessage = tuple[int, str, str, bytes]


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """What to take over and how to write it.

    Attributes:
        encoding: of the event bytes in a bag, ``libcaer_cmp`` or ``evt3``.
        start_us: begin this long after the first event.
        end_us: stop this long after the first event; ``None`` takes all.
        packet_us: duration of one message.
        frame_step: keep every n-th image; 0 keeps none.
        events_topic: topic of the events in a bag.
        frames_topic: topic of the images in a bag.
        frame_id: coordinate frame in the headers.
        other_topics: from a bag into a bag, take all other topics over as they are.
    """

    encoding: str = "libcaer_cmp"
    start_us: int = 0
    end_us: int | None = None
    packet_us: int = PACKET_US
    frame_step: int = 1
    events_topic: str = "/event_camera/events"
    frames_topic: str = "/event_camera/image_raw"
    frame_id: str = "event_camera"
    other_topics: bool = False

    def __post_init__(self) -> None:
        """Refuse what would only fail after minutes of reading."""
        Packetizer(self.packet_us, self.encoding)
        if self.start_us < 0:
            raise RecordingError(f"start must be at least 0, got {self.start_us} us")
        if self.end_us is not None and self.end_us <= self.start_us:
            raise RecordingError(
                f"end must lie after start, got {self.start_us} .. {self.end_us} us"
            )
        if self.frame_step < 0:
            raise RecordingError(f"frame_step must be at least 0, got {self.frame_step}")


@dataclass
class ConvertResult:
    """What was written.

    Attributes:
        events: number of events.
        packets: event messages (0 where the format has none).
        frames: images.
        others: messages of other topics.
        triggers: trigger edges written.
        dropped_triggers: trigger edges that the format cannot hold.
        dropped_frames: images that the format cannot hold or that were thinned out.
        left_out_frames: images that could not be read, by reason.
    """

    events: int = 0
    packets: int = 0
    frames: int = 0
    others: int = 0
    triggers: int = 0
    dropped_triggers: int = 0
    dropped_frames: int = 0
    left_out_frames: dict[str, int] = field(default_factory=dict)


def convert(
    recording: Recording,
    target: Path,
    config: ConvertConfig | None = None,
    progress: Progress | None = None,
) -> ConvertResult:
    """Write a recording as ``target``; its suffix chooses the format.

    AEDAT4, HDF5 (the layout of DSEC), npz and text keep the events as they are, EVT3 ``.raw`` with
    times modulo 2^24 us; AEDAT4 alone of these holds images too.

    In a bag, the events become EventPackets of ``packet_us`` each. With ``libcaer_cmp``,
    ``time_base`` is the sensor time of the packet's start, so event times are exact; ``evt3`` keeps
    them modulo 2^24 us, and trigger edges of channels 0 .. 15 with them. The header stamp
    is the host time of the packet's end, when a driver would have sent it: sensor time plus one
    constant, the distance of the first batch's stamp from its last event (zero for files without
    stamps). Where the source had a discontinuity, one ``seq`` is left out, so that a reader does
    not join across it. Camera images of a bag go into a bag as they are, headers and encodings
    included; into AEDAT4 they go at 8 bits, see ``evdistill_core.messages.images``.

    Args:
        recording: open, with events.
        target: ``.mcap``, ``.aedat4``, ``.h5``, ``.hdf5``, ``.npz``, ``.raw``, ``.txt`` or
            ``.csv``; it appears only when everything is written.
        config: what to take over; ``None`` takes all.
        progress: called with the number of events so far.

    Raises:
        RecordingError: unknown suffix, no events in the span, or the source is damaged.
        EncodingError: events do not fit the encoding.
    """
    config = config or ConvertConfig()
    if target.suffix not in SUFFIXES:
        raise RecordingError(
            f"cannot write '{target.suffix or target.name}' files; "
            f"end the name with {' or '.join(SUFFIXES)}"
        )
    if target.exists() and target.resolve() == recording.info.path.resolve():
        raise RecordingError(f"{target} is the source itself: choose another name")
    span = _Span.of(recording, config)
    job = _Job(recording, target, config, span, progress or (lambda events: None))
    write = {".mcap": job.to_bag, ".aedat4": job.to_aedat4}.get(target.suffix, job.to_columns)
    result = write()
    result.left_out_frames = recording.left_out_frames
    return result


def convert_file(  # noqa: PLR0913 - two files, and how to read the first
    source: str | Path,
    target: str | Path,
    *,
    topic: str | None = None,
    columns: str | None = None,
    time_unit: str | None = None,
    size: str | Sequence[int] | None = None,
    camera: str | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    overwrite: bool = False,
    **options: object,
) -> ConvertResult:
    """Convert a recording into another format, exactly.

    Args:
        source: a recording of any kind that ``open_recording`` reads.
        target: ``.mcap`` (a rosbag2), ``.aedat4``, ``.h5``, ``.hdf5``, ``.npz``, ``.raw``, ``.txt``
            or ``.csv``.
        topic: event topic or stream of a source that has several.
        columns: how to read the source, as ``open_recording`` takes it.
        time_unit: the same.
        size: the same.
        camera: the same.
        start_s: begin this many seconds after the first event.
        end_s: stop this many seconds after it; None: at the end.
        overwrite: replace the target if it is there.
        **options: how a bag is written: ``encoding`` (libcaer_cmp, evt3), ``packet_us``,
            ``frame_step``, ``events_topic``, ``frames_topic``, ``frame_id``, ``other_topics``.

    Returns:
        What was written, and what the format has no place for.

    Raises:
        RecordingError: the source cannot be read, or the suffix is not known.
        ConfigError: an option that is not known or out of range.
        OutputError: the target is there already, or cannot be written.
    """
    target = Path(target).expanduser()
    check_file(target, overwrite=overwrite, sources=(Path(source).expanduser(),), way=IN_PYTHON)
    check_span_s(start_s, end_s)
    end_us = None if end_s is None else round(end_s * 1e6)
    span = {"start_us": round(start_s * 1e6), "end_us": end_us}
    config = from_mapping(ConvertConfig, span | options)
    with open_recording(
        source, topic=topic, columns=columns, time_unit=time_unit, size=size, camera=camera
    ) as recording:
        return convert(recording, target, config)


def bag_messages(
    recording: Recording,
    config: ConvertConfig | None = None,
    progress: Progress | None = None,
) -> Iterator[StampedMessage]:
    """Yield the messages that `convert` would write into a bag, in the order of their stamps.

    Args:
        recording: open, with events.
        config: what to take over; ``None`` takes all.
        progress: called with the number of events so far.

    Raises:
        RecordingError: no events, or the source is damaged.
        EncodingError: events do not fit the encoding.
    """
    config = config or ConvertConfig()
    span = _Span.of(recording, config)
    job = _Job(recording, Path(), config, span, progress or (lambda events: None))
    yield from job.messages()


@dataclass(frozen=True)
class _Span:
    """The part that is taken, in sensor time, and its distance to host time.

    Without a start all is taken: edges, images and late events from before the first event too.
    """

    start_us: int | None
    end_us: int | None
    host_minus_sensor_ns: int

    @staticmethod
    def of(recording: Recording, config: ConvertConfig) -> _Span:
        first = next((b for b in recording.batches() if len(b.events)), None)
        if first is None:
            raise RecordingError(f"{recording.info.path} holds no events: nothing to convert")
        origin_us = int(first.events.t_us[0])
        offset_ns = first.stamp_ns - int(first.events.t_us[-1]) * 1000
        end_us = None if config.end_us is None else origin_us + config.end_us
        start_us = origin_us + config.start_us if config.start_us else None
        return _Span(start_us, end_us, offset_ns)

    @property
    def start_in_host_time_ns(self) -> int | None:
        """Where the span begins; None: with the recording."""
        if self.start_us is None:
            return None
        return self.start_us * 1000 + self.host_minus_sensor_ns

    def holds_host_time(self, stamp_ns: int) -> bool:
        sensor_ns = stamp_ns - self.host_minus_sensor_ns
        after_start = self.start_us is None or sensor_ns >= self.start_us * 1000
        return after_start and (self.end_us is None or sensor_ns < self.end_us * 1000)


class _Stamps:
    """Host times of packets: they never fall, as those of a camera do not.

    A few packets whose times stray get the stamp of the packet before. When sensor time goes on
    from an earlier place (a restart), host time goes on without a step.

    Args:
        host_minus_sensor_ns: at the beginning.
    """

    def __init__(self, host_minus_sensor_ns: int) -> None:
        self._offset_ns = host_minus_sensor_ns
        self._last_ns: int | None = None
        self._behind = 0

    def of(self, packet: EncodedPacket) -> int:
        """Return the stamp of the next packet, that of its end."""
        if packet.start_us < 0 and packet.time_base_ns < 0:
            raise RecordingError(
                f"a bag holds no times below zero, and this recording begins at {packet.start_us} "
                "us: convert it to .npz, .h5 or .aedat4, or leave out what lies below (--start)"
            )
        stamp_ns = packet.end_us * 1000 + self._offset_ns
        if self._last_ns is not None and stamp_ns < self._last_ns - BACKWARD_JUMP_US * 1000:
            self._behind += 1
            if self._behind > STRAY_PACKETS:
                length_ns = (packet.end_us - packet.start_us) * 1000
                self._offset_ns += self._last_ns + length_ns - stamp_ns
                stamp_ns, self._behind = self._last_ns + length_ns, 0
        else:
            self._behind = 0
        self._last_ns = stamp_ns if self._last_ns is None else max(self._last_ns, stamp_ns)
        return self._last_ns


class _Job:
    def __init__(
        self,
        recording: Recording,
        target: Path,
        config: ConvertConfig,
        span: _Span,
        progress: Progress,
    ) -> None:
        self._recording = recording
        self._target = target
        self._config = config
        self._span = span
        self._progress = progress
        self._make = BagMessages(config.encoding, config.frame_id)
        self._stamps = _Stamps(span.host_minus_sensor_ns)
        self.result = ConvertResult()

    def to_columns(self) -> ConvertResult:
        """Write columns; images have no place in them."""
        info = self._recording.info
        with plain_writer(self._target, width=info.width, height=info.height) as writer:
            for batch in self._batches():
                self._require_size(batch.events)
                held = held_edges(self._target, batch.triggers)
                writer.write(batch.events, held)
                self.result.triggers += len(held)
                self.result.dropped_triggers += len(batch.triggers) - len(held)
            self._require_events()
        self.result.dropped_frames = sum(
            self._span.holds_host_time(frame.stamp_ns) for frame in self._recording.frames()
        )
        return self.result

    def to_aedat4(self) -> ConvertResult:
        """Write events and images in the order of sensor time, and edges of trigger 0."""
        info = self._recording.info
        first = next(self._recording.frames(), None) if self._config.frame_step else None
        size = None if first is None else (first.image.shape[1], first.image.shape[0])
        frames = self._taken_frames()
        waiting = next(frames, None)
        with Aedat4Writer(
            self._target, width=info.width, height=info.height, frame_size=size
        ) as writer:
            for batch in self._batches():
                self._require_size(batch.events)
                last_us = int(batch.events.t_us[-1]) if len(batch.events) else None
                while waiting is not None and last_us is not None and waiting[0] <= last_us:
                    writer.write_frame(waiting[1], waiting[0])
                    waiting = next(frames, None)
                writer.write(batch.events, self._first_channel(batch.triggers))
            while waiting is not None:
                writer.write_frame(waiting[1], waiting[0])
                waiting = next(frames, None)
            self._require_events()
        return self.result

    def _first_channel(self, triggers: Triggers) -> Triggers:
        held = select(triggers, triggers.channel == 0)
        self.result.triggers += len(held)
        self.result.dropped_triggers += len(triggers) - len(held)
        return held

    def _require_size(self, events: Events) -> None:
        info = self._recording.info
        size = (events.width, events.height)
        if size != (info.width, info.height):
            raise RecordingError(
                f"the frame size changes from {info.width}x{info.height} to {size[0]}x{size[1]}; "
                f"a {self._target.suffix} file holds one size: cut with --start and --end"
            )

    def messages(self) -> Iterator[StampedMessage]:
        """Yield event packets and images in the order of their stamps."""
        yield from heapq.merge(
            self._event_messages(),
            self._frame_messages(),
            self._other_messages(),
            key=lambda message: message[0],
        )
        self._require_events()

    def to_bag(self) -> ConvertResult:
        """Write event packets and images."""
        with McapWriter(
            self._target,
            definitions=self._recording.definitions(),
            offered_qos=self._offered_of_others(),
        ) as writer:
            for stamp_ns, topic, type_name, data in self.messages():
                writer.write(topic, type_name, data, stamp_ns)
        return self.result

    def _require_events(self) -> None:
        if self.result.events == 0:
            raise RecordingError(
                "no events between --start and --end (seconds after the first event; "
                "`evdistill info` tells how many there are): nothing to convert"
            )

    def _batches(self) -> Iterator[EventBatch]:
        for batch in self._recording.batches(self._span.start_us, self._span.end_us):
            self.result.events += len(batch.events)
            self._progress(self.result.events)
            yield batch

    def _event_messages(self) -> Iterator[StampedMessage]:
        packetizer = Packetizer(self._config.packet_us, self._config.encoding)
        seq = 0
        for batch in self._batches():
            packets = []
            if batch.discontinuity:
                packets = packetizer.flush()
            for packet in packets:
                yield self._event_message(packet, seq)
                seq += 1
            seq += bool(batch.discontinuity)
            edges = self._held_edges(batch.triggers)
            for packet in packetizer.push(batch.events, edges):
                yield self._event_message(packet, seq)
                seq += 1
        for packet in packetizer.flush():
            yield self._event_message(packet, seq)

    def _held_edges(self, triggers: Triggers) -> Triggers:
        """Keep the edges that the encoding has words for; count all."""
        keep = holds_edges(triggers, self._config.encoding)
        held = select(triggers, keep)
        self.result.triggers += len(held)
        self.result.dropped_triggers += len(triggers) - len(held)
        return held

    def _event_message(self, packet: EncodedPacket, seq: int) -> StampedMessage:
        stamp_ns = self._stamps.of(packet)
        self.result.packets += 1
        data = self._make.events(packet, seq, stamp_ns)
        return (stamp_ns, self._config.events_topic, EventPacket.TYPE, data)

    def _others(self) -> list[str]:
        """Return the topics that are taken over as they are."""
        info = self._recording.info
        if not self._config.other_topics or not info.format.startswith("rosbag"):
            return []
        return [t.name for t in info.topics if t.name not in {info.topic, info.frame_topic}]

    def _offered_of_others(self) -> dict[str, str]:
        names = self._others()
        offered = self._recording.offered_qos() if names else {}
        return {name: text for name, text in offered.items() if name in names}

    def _other_messages(self) -> Iterator[StampedMessage]:
        """Yield messages of other topics; latched ones from before the span at its start.

        Whoever joins late gets the latest messages of a latched topic (``/tf_static``, maps): they
        belong to the span though they were published before it.
        """
        names = self._others()
        if not names:
            return
        latched = {name for name, text in self._offered_of_others().items() if is_latched(text)}
        start_ns = self._span.start_in_host_time_ns
        for packet in self._recording.packets(names):
            stamp_ns = packet.receive_time_ns
            if packet.topic in latched and start_ns is not None:
                stamp_ns = max(stamp_ns, start_ns)
            if self._span.holds_host_time(stamp_ns):
                self.result.others += 1
                yield (stamp_ns, packet.topic, packet.type_name, bytes(packet.data))

    def _frame_messages(self) -> Iterator[StampedMessage]:
        """Yield images: those of a bag as they are, in their own encoding, others made again."""
        is_bag = self._recording.info.format.startswith("rosbag")
        stored = self._recording.image_messages() if is_bag else self._made_messages()
        for stamp_ns, packet in self._thinned_out(stored):
            topic = self._config.frames_topic
            if packet.type_name == CompressedImage.TYPE and topic == ConvertConfig.frames_topic:
                topic += "/compressed"  # as image_transport names it
            yield (stamp_ns, topic, packet.type_name, bytes(packet.data))

    def _made_messages(self) -> Iterator[tuple[int, Packet]]:
        for frame in self._recording.frames():
            data = self._make.picture(frame, frame.stamp_ns)
            yield frame.stamp_ns, Packet(Image.TYPE, data, frame.stamp_ns)

    def _taken_frames(self) -> Iterator[tuple[int, Frame]]:
        """Yield the images of the span with their sensor times, thinned out."""
        frames = ((frame.stamp_ns, frame) for frame in self._recording.frames())
        for stamp_ns, frame in self._thinned_out(frames):
            yield (stamp_ns - self._span.host_minus_sensor_ns) // 1000, frame

    def _thinned_out(self, stamped: Iterator[tuple[int, T]]) -> Iterator[tuple[int, T]]:
        """Yield every n-th of what lies in the span; count all."""
        step = self._config.frame_step
        taken = (item for item in stamped if self._span.holds_host_time(item[0]))
        for index, item in enumerate(taken):
            if not step or index % step:
                self.result.dropped_frames += 1
                continue
            self.result.frames += 1
            yield item
