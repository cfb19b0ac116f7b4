"""Writing while it happens: batches and images go in as they come, a recording comes out.

`convert` reads its source again and again to put images between events; a camera comes once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.clock import SensorClock
from evdistill_core.events.decoders.base import MAX_SIDE
from evdistill_core.foundation.config import from_mapping
from evdistill_core.foundation.errors import ConfigError, RecordingError
from evdistill_core.foundation.files import FinishedBlock
from evdistill_core.foundation.outputs import IN_PYTHON, check_file
from evdistill_core.foundation.ranges import is_integer
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import Image
from evdistill_core.recordings.base import EventBatch, Frame
from evdistill_core.recordings.convert import SUFFIXES, ConvertConfig, ConvertResult
from evdistill_core.recordings.encoders.bag_messages import BagMessages
from evdistill_core.recordings.encoders.edge_queue import select
from evdistill_core.recordings.encoders.packets import EncodedPacket, Packetizer, holds_edges
from evdistill_core.recordings.writers.aedat4 import Aedat4Writer
from evdistill_core.recordings.writers.mcap import McapWriter
from evdistill_core.recordings.writers.plain import held_edges, plain_writer

PLAUSIBLE_NS = 10_000_000_000
"""A stamp farther than this from the time of arrival is wrong."""


@dataclass(frozen=True, kw_only=True)
class SensorSizes:
    """Sizes that a file has to be told before the first event.

    Attributes:
        width: columns of the sensor.
        height: rows of the sensor.
        frame_size: width and height of its images; None: it gives none.
    """

    width: int
    height: int
    frame_size: tuple[int, int] | None = None


class Sink(FinishedBlock, ABC):
    """An open recording that is being written; it appears when the block ends well.

    Attributes:
        result: what was taken, and what the format has no place for.
        sensor: width and height that ``write_events`` holds events to; None: it does not.
        salvage: where what was written is left when the disk is full; None: it cannot be read
            without its end, and is removed.
    """

    salvage: Path | None = None
    sensor: tuple[int, int] | None = None

    def __init__(self) -> None:
        self.result = ConvertResult()
        self._stack = ExitStack()

    @abstractmethod
    def write(self, batch: EventBatch) -> None:
        """Append events and triggers.

        Raises:
            RecordingError, EncodingError: they do not fit the format; what came before is whole.
            OSError: the disk is full.
        """

    def write_events(self, events: Events, *, stamp_ns: int | None = None) -> None:
        """Append events.

        Args:
            events: the next ones.
            stamp_ns: host time at which they came, nanoseconds since 1970, for the stamps of a
                bag; None: the sensor time of the last one, or of the clock where there is none.

        Raises:
            RecordingError: the events are of a sensor of another size; or as ``write``.
            EncodingError, OSError: as ``write``.
        """
        size = (events.width, events.height)
        if self.sensor not in {None, size}:
            told, made = ("{}x{}".format(*s) for s in (size, self.sensor))
            raise RecordingError(
                f"events of a sensor of {told} do not go into a recording of {made}: make it with "
                f"width={events.width}, height={events.height}"
            )
        if stamp_ns is None:
            stamp_ns = int(events.t_us[-1]) * 1000 if len(events) else 0
        self.write(EventBatch(events, Triggers.empty(), stamp_ns))

    @abstractmethod
    def write_frame(self, frame: Frame) -> None:
        """Append an image, or count it where the format has no place for it."""

    @property
    @abstractmethod
    def written_bytes(self) -> int:
        """Size on disk so far."""

    @property
    def finishing_bytes(self) -> int:
        """How much room the end of the recording may still need."""
        return 0

    @abstractmethod
    def _open(self) -> None: ...

    def __enter__(self) -> Sink:
        self._open()
        return self


def open_sink(target: Path, sizes: SensorSizes, config: ConvertConfig) -> Sink:
    """Return a sink, to be used in a with block; the suffix chooses the format.

    Args:
        target: ``.mcap``, ``.aedat4``, ``.h5``, ``.hdf5``, ``.npz``, ``.raw``, ``.txt``, ``.csv``.
        sizes: of the sensor.
        config: encoding, length of packets, topics and ``frame_step`` (0 writes no images).

    Raises:
        RecordingError: unknown suffix.
    """
    check_target(target)
    if target.suffix == ".mcap":
        return _BagSink(target, config)
    if target.suffix == ".aedat4":
        return _Aedat4Sink(target, sizes, config)
    return _ColumnSink(target, sizes)


def create_recording(
    path: str | Path,
    *,
    width: int,
    height: int,
    frame_size: tuple[int, int] | None = None,
    overwrite: bool = False,
    **options: object,
) -> Sink:
    """Return a new recording to write to, in a with block; it appears when the block ends well.

    Args:
        path: ``.mcap`` (a rosbag2), ``.aedat4``, ``.h5``, ``.hdf5``, ``.npz``, ``.raw``, ``.txt``
            or ``.csv``.
        width: columns of the sensor.
        height: rows of the sensor.
        frame_size: (width, height) of camera images, for ``.aedat4``.
        overwrite: replace the file if it is there.
        **options: how a bag is written, for example ``encoding="evt3"`` or
            ``events_topic="/dvs/events"``.

    Returns:
        Write to it with ``write_events(events)`` and ``write_frame(frame)``.

    Raises:
        RecordingError: unknown suffix.
        ConfigError: an unknown option, or a size that no sensor has.
        OutputError: the file is there already, or cannot be written.
    """
    for name, side in (("width", width), ("height", height)):
        if not (is_integer(side) and 1 <= side <= MAX_SIDE):
            raise ConfigError(f"{name} must be a whole number in 1..{MAX_SIDE}, got {side!r}")
    target = Path(path).expanduser()
    sizes = SensorSizes(width=width, height=height, frame_size=frame_size)
    sink = open_sink(target, sizes, from_mapping(ConvertConfig, options))
    check_file(target, overwrite=overwrite, way=IN_PYTHON)
    sink.sensor = (width, height)
    return sink


def check_target(target: Path) -> None:
    """Refuse a suffix that no sink has.

    Raises:
        RecordingError: with those that there are.
    """
    if target.suffix not in SUFFIXES:
        raise RecordingError(
            f"cannot write '{target.suffix or target.name}' files; "
            f"end the name with {' or '.join(SUFFIXES)}"
        )


def _salvage(target: Path) -> Path:
    return target.with_name(f"{target.stem}.cut-off{target.suffix}")


class _BagSink(Sink):
    """A rosbag2; stamps are sensor time brought to host time by the times of arrival."""

    def __init__(self, target: Path, config: ConvertConfig) -> None:
        super().__init__()
        self.salvage = _salvage(target)
        self._writer = McapWriter(target, salvage=self.salvage)
        self._config = config
        self._make = BagMessages(config.encoding, config.frame_id)
        self._packetizer = Packetizer(config.packet_us, config.encoding)
        self._clock = SensorClock()
        self._seq = 0
        self._arrival_ns = self._log_ns = 0
        self._pictures = 0

    def _open(self) -> None:
        self._stack.enter_context(self._writer)

    def write(self, batch: EventBatch) -> None:
        if batch.discontinuity:
            self._write_packets(self._packetizer.flush())
            self._seq += 1  # a missing number: readers do not join across it
        if batch.discontinuity == "time":
            self._clock.reset()
        edges = select(batch.triggers, holds_edges(batch.triggers, self._config.encoding))
        self.result.triggers += len(edges)
        self.result.dropped_triggers += len(batch.triggers) - len(edges)
        if len(batch.events) or len(edges):
            self._arrival_ns = batch.stamp_ns
        if len(batch.events):
            self.result.events += len(batch.events)
            self._clock.observe(int(batch.events.t_us[-1]), batch.stamp_ns)
        self._write_packets(self._packetizer.push(batch.events, edges))

    def write_frame(self, frame: Frame) -> None:
        step = self._config.frame_step
        self._pictures += 1
        if not step or (self._pictures - 1) % step:
            self.result.dropped_frames += 1
            return
        self.result.frames += 1
        stamp_ns = self._host_ns(frame.t_us, frame.stamp_ns)
        data = self._make.picture(frame, stamp_ns)
        self._log(self._config.frames_topic, Image.TYPE, data, stamp_ns)

    @property
    def written_bytes(self) -> int:
        return self._writer.written_bytes

    def _finish(self) -> None:
        self._write_packets(self._packetizer.flush())

    def _write_packets(self, packets: list[EncodedPacket]) -> None:
        for packet in packets:
            stamp_ns = self._host_ns(packet.end_us, self._arrival_ns)
            data = self._make.events(packet, self._seq, stamp_ns)
            self._log(self._config.events_topic, EventPacket.TYPE, data, stamp_ns)
            self._seq += 1
            self.result.packets += 1

    def _host_ns(self, t_us: int, arrival_ns: int) -> int:
        """Return the host time of a sensor time; that of arrival where the two do not go together.

        So it is before the first event, for images around a reset, and for damaged times.
        """
        if self._clock.offset_ns is None:
            return arrival_ns
        stamp_ns = self._clock.to_host_ns(t_us)
        return stamp_ns if abs(stamp_ns - arrival_ns) < PLAUSIBLE_NS else arrival_ns

    def _log(self, topic: str, type_name: str, data: bytes, stamp_ns: int) -> None:
        """Write at a time that never falls: an image is older than when it arrives."""
        self._log_ns = max(self._log_ns, stamp_ns)
        self._writer.write(topic, type_name, data, self._log_ns)


class _Aedat4Sink(Sink):
    """Events, images and the edges of trigger 0, each stream in the order of arrival."""

    def __init__(self, target: Path, sizes: SensorSizes, config: ConvertConfig) -> None:
        super().__init__()
        self.salvage = _salvage(target)
        self._step = config.frame_step if sizes.frame_size else 0
        self._pictures = 0
        self._writer = Aedat4Writer(
            target,
            width=sizes.width,
            height=sizes.height,
            frame_size=sizes.frame_size if self._step else None,
            salvage=self.salvage,
        )

    def _open(self) -> None:
        self._stack.enter_context(self._writer)

    def write(self, batch: EventBatch) -> None:
        triggers = select(batch.triggers, batch.triggers.channel == 0)
        self.result.events += len(batch.events)
        self.result.triggers += len(triggers)
        self.result.dropped_triggers += len(batch.triggers) - len(triggers)
        self._writer.write(batch.events, triggers)

    def write_frame(self, frame: Frame) -> None:
        self._pictures += 1
        if not self._step or (self._pictures - 1) % self._step:
            self.result.dropped_frames += 1
            return
        self.result.frames += 1
        self._writer.write_frame(frame, frame.t_us)

    @property
    def written_bytes(self) -> int:
        return self._writer.written_bytes


class _ColumnSink(Sink):
    """A file of events alone: npz, HDF5 as DSEC has it, EVT3, text; images are counted."""

    def __init__(self, target: Path, sizes: SensorSizes) -> None:
        super().__init__()
        self._target = target
        self._is_npz = target.suffix == ".npz"
        self._writer = plain_writer(target, width=sizes.width, height=sizes.height)

    def _open(self) -> None:
        self._stack.enter_context(self._writer)

    def write(self, batch: EventBatch) -> None:
        held = held_edges(self._target, batch.triggers)
        self._writer.write(batch.events, held)
        self.result.events += len(batch.events)
        self.result.triggers += len(held)
        self.result.dropped_triggers += len(batch.triggers) - len(held)

    def write_frame(self, frame: Frame) -> None:
        self.result.dropped_frames += 1

    @property
    def written_bytes(self) -> int:
        return self._writer.written_bytes

    @property
    def finishing_bytes(self) -> int:
        # The archive is packed beside the columns, at worst as large as they are.
        return self._writer.written_bytes if self._is_npz else 0
