"""Bags: one file of a rosbag2 or of ROS 1, or the directory of a rosbag2."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml

from evdistill_core.events.packet import EVENT_TYPES, Packet
from evdistill_core.events.stream import DecodedPacket, PacketDecoder, is_event_type
from evdistill_core.foundation.errors import MessageError, RecordingError
from evdistill_core.foundation.reasons import Reasons
from evdistill_core.foundation.suggestions import did_you_mean
from evdistill_core.messages.event_messages import (
    EVENT_ARRAY_TYPES,
    EVENT_PACKET_TYPES,
    EventPacket,
)
from evdistill_core.messages.images import IMAGE_TYPES, ImageReader
from evdistill_core.messages.standard import Image
from evdistill_core.recordings.base import (
    EventBatch,
    Frame,
    MessageDefinition,
    Recording,
    RecordingInfo,
    TopicInfo,
)
from evdistill_core.recordings.offered_qos import with_numbers
from evdistill_core.recordings.readers.bag_entry import enter
from evdistill_core.recordings.readers.rosbag1 import ROSBAG1_MAGIC, Rosbag1Storage
from evdistill_core.recordings.readers.storage import (
    MCAP_MAGIC,
    SQLITE_MAGIC,
    ZSTD_MAGIC,
    McapStorage,
    Sqlite3Storage,
    Storage,
)
from evdistill_core.recordings.readers.unpacking import Unpacked

#: How many messages of the event topic may be damaged before the sensor's size is given up on.
PEEK_MESSAGES = 100
METADATA_LIMIT_BYTES = 1 << 22


#: Encodings whose messages need none of those before them.
SELF_CONTAINED = {"libcaer", "libcaer_cmp", "mono", *EVENT_ARRAY_TYPES}

#: What images of results are called, see ``SegmentationMessages.TYPES``.
RESULT_IMAGES = frozenset({"mask", "mask_color", "confidence", "overlay"})

FORMATS: dict[type[Storage], str] = {
    McapStorage: "rosbag2-mcap",
    Sqlite3Storage: "rosbag2-sqlite3",
    Rosbag1Storage: "rosbag1",
}


class BagRecording(Recording):
    """Events, images and raw packets of a rosbag2 or a ROS 1 bag.

    Args:
        path: a ``.db3``, ``.mcap`` or ``.bag`` file, or the directory of a rosbag2.
        topic: the event topic; ``None`` takes the only one.

    Raises:
        RecordingError: no readable container, damaged, or the topic is missing or not unique.
    """

    has_host_stamps = True

    def __init__(self, path: Path, topic: str | None = None) -> None:
        super().__init__()
        self._path = path
        self._decoder = PacketDecoder()
        files = _bag_files(path, self._warn) if path.is_dir() else [path]
        storages = [_open_storage(file, self._warn) for file in files]
        self._format = FORMATS[type(storages[0])]
        # Recorders number their files, but only the receive times tell the order for sure.
        self._storages = sorted(storages, key=lambda storage: storage.start_ns())
        self._topics = _merged([t for storage in self._storages for t in storage.topics()])
        self._topic = self._choose_events(topic)
        self._frame_topic = self._choose_frames()
        self._encoding, self._size = self._peek()

    def _choose_events(self, wanted: str | None) -> str:
        events = [t.name for t in self._topics if is_event_type(t.type_name)]
        if wanted is not None:
            if wanted not in events:
                kind = next((t.type_name for t in self._topics if t.name == wanted), None)
                what = f"topic {wanted} carries {kind}" if kind else f"there is no topic {wanted}"
                near = did_you_mean(wanted, events)
                raise RecordingError(f"{self._path}: {what}{near}. {self._listing()}")
            return wanted
        # A recorder lists topics that somebody announced and nobody ever published on.
        published = {t.name for t in self._topics if t.message_count}
        events = [name for name in events if name in published] or events
        if len(events) > 1:
            raise RecordingError(
                f"{self._path} has several event topics, choose one with --topic: "
                + ", ".join(events)
            )
        if not events:
            self._warn(f"no event topic. {self._listing()}")
        return events[0] if events else ""

    def _choose_frames(self) -> str:
        """Take the image topic that shares most of its name with the event topic.

        A raw one goes before its compressed copy. Depth maps come last, and what a node of ours
        has published is no camera image.
        """

        def rank(topic: TopicInfo) -> tuple[int, bool, bool, int]:
            name, events = topic.name, self._topic
            folders = _shared(name.split("/")[:-1], events.split("/")[:-1])
            is_raw = topic.type_name == Image.TYPE
            return folders, "depth" not in name.lower(), is_raw, _shared(name, events)

        images = [
            t
            for t in self._topics
            if t.type_name in IMAGE_TYPES
            and t.message_count
            and t.name.rsplit("/", 1)[-1] not in RESULT_IMAGES
        ]
        best = max(images, key=rank, default=None)
        return "" if best is None else best.name

    def _listing(self) -> str:
        topics = ", ".join(f"{t.name} ({t.type_name})" for t in self._topics) or "none"
        return f"Topics: {topics}. Event types that we read: {', '.join(sorted(EVENT_TYPES))}"

    def _peek(self) -> tuple[str, tuple[int, int]]:
        """Decode the first good message for the encoding and the sensor's size."""
        decoder = PacketDecoder()
        if self._topic:
            for count, packet in enumerate(self.packets()):
                decoded = decoder.push(packet)
                if decoded is not None:
                    return _encoding(packet), (decoded.events.width, decoded.events.height)
                if count >= PEEK_MESSAGES:
                    break
            reason = f": {decoder.last_error}" if decoder.last_error else ""
            self._warn(f"topic {self._topic} holds no readable message{reason}")
        return "", (0, 0)

    @property
    def info(self) -> RecordingInfo:
        """Topics, and what the first message of the event topic says."""
        return self._describe(
            self._format,
            self._encoding,
            topic=self._topic,
            frame_topic=self._frame_topic,
            topics=self._topics,
        )

    @property
    def counters(self) -> dict[str, int]:
        """Counters of the latest iteration, from the decoder itself."""
        return self._decoder.counters.as_dict() | dict(self._time_counts)

    def packets(self, topics: Sequence[str] | None = None) -> Iterator[Packet]:
        """Yield the serialized messages in the order of their receive times.

        Args:
            topics: which ones; ``None`` means the event topic alone.

        Raises:
            RecordingError: the bag lacks one of the topics.
        """
        return self._measured_packets(topics)

    def _measured_packets(self, topics: Sequence[str] | None) -> Iterator[Packet]:
        """Note by the messages of the event topic how much of the bag is read."""
        total = self._message_count()
        count = 0
        for packet in self._packets(topics, 0):
            if packet.topic == self._topic and total > 0:
                count += 1
                self._fraction = min(1.0, count / total)
            yield packet

    def _message_count(self) -> int:
        return sum(t.message_count for t in self._topics if t.name == self._topic)

    def definitions(self) -> dict[str, MessageDefinition]:
        """Return what the files say of their message types, by name."""
        return {k: d for storage in self._storages for k, d in storage.definitions().items()}

    def offered_qos(self) -> dict[str, str]:
        """Return what the publishers offered, by topic; what cannot be read is warned about."""
        offered: dict[str, str] = {}
        for storage in self._storages:
            for topic, text in storage.offered_qos().items():
                try:
                    profiles = with_numbers(text)
                except ValueError as error:
                    self._warn(f"the offered QoS of {topic} cannot be read ({error}): left out")
                    continue
                if profiles:
                    offered.setdefault(topic, profiles)
        return offered

    def _packets(self, topics: Sequence[str] | None, from_ns: int) -> Iterator[Packet]:
        wanted = {self._require_events()} if topics is None else set(topics)
        missing = wanted - {t.name for t in self._topics}
        if missing:
            raise RecordingError(
                f"{self._path} has no topic {', '.join(sorted(missing))}. {self._listing()}"
            )
        for storage in self._storages:
            for message in storage.messages(wanted, from_ns):
                yield Packet(message.type_name, message.data, message.log_time_ns, message.topic)

    def _require_events(self) -> str:
        if not self._topic:
            raise RecordingError(f"{self._path}: {'; '.join(self._warnings)}")
        return self._topic

    def _all_batches(self) -> Iterator[EventBatch]:
        self._decoder = decoder = PacketDecoder()
        total = max(1, self._message_count())
        yield from self._decoded(decoder, self.packets(), lambda count, _: count / total)
        self._judge(decoder)

    def _batches_from(self, start_us: int) -> Iterator[EventBatch]:
        entry = enter(
            lambda from_ns: self._packets(None, from_ns),
            start_us,
            self_contained=self._encoding in SELF_CONTAINED,
        )
        if entry is None:
            yield from self._all_batches()
            return
        self._decoder, first, packets = entry
        self._fraction = 0.0
        yield _batch(first)
        yield from self._decoded(self._decoder, packets, self._way_by_time())
        self._judge(self._decoder)

    def _way_by_time(self) -> Callable[[int, int], float]:
        """Measure the way to the end by receive times: how many messages are left is not known."""
        end_ns = max(storage.end_ns() for storage in self._storages)
        begin_ns: int | None = None

        def fraction(_: int, time_ns: int) -> float:
            nonlocal begin_ns
            begin_ns = time_ns if begin_ns is None else begin_ns
            return (time_ns - begin_ns) / max(1, end_ns - begin_ns)

        return fraction

    def _decoded(
        self,
        decoder: PacketDecoder,
        packets: Iterator[Packet],
        fraction: Callable[[int, int], float],
    ) -> Iterator[EventBatch]:
        """Decode; ``fraction`` is asked with the number of messages and the last receive time."""
        for count, packet in enumerate(packets, start=1):
            self._fraction = max(0.0, min(1.0, fraction(count, packet.receive_time_ns)))
            decoded = decoder.push(packet)
            if decoded is not None:
                yield _batch(decoded)

    def _judge(self, decoder: PacketDecoder) -> None:
        """Say what damage the whole topic showed; nothing readable at all is an error."""
        counters = decoder.counters
        if counters.messages and counters.damaged_messages == counters.messages:
            raise RecordingError(
                f"{self._path}: none of the {counters.messages} messages on {self._topic} can be "
                f"decoded: {decoder.last_error}"
            )
        if counters.damaged_messages:
            self._warn(
                f"{counters.damaged_messages} of {counters.messages} event messages are damaged "
                f"and left out, the last one: {decoder.last_error}"
            )

    def frames(self) -> Iterator[Frame]:
        """Yield the images of the camera's topic, raw or compressed, at 8 bits a channel.

        ``evdistill_core.messages.images`` says which encodings are read and how 16 bits become 8.
        """
        reader = ImageReader()
        self._left_out_frames = reader.left_out
        for packet in self._image_packets():
            message = reader.parse(packet.data, packet.type_name)
            image = None if message is None else reader.decode(message)
            if message is not None and image is not None:
                stamp_ns = message.header.stamp.to_ns()
                yield Frame(image, stamp_ns // 1000, stamp_ns)

    def image_messages(self) -> Iterator[tuple[int, Packet]]:
        """Yield the messages of the camera's image topic, whatever their encoding."""
        self._left_out_frames = Reasons()
        for packet in self._image_packets():
            try:
                message = IMAGE_TYPES[packet.type_name].parse(packet.data)
            except MessageError as error:
                self._left_out_frames.add(str(error))
                continue
            yield message.header.stamp.to_ns(), packet

    def _image_packets(self) -> Iterator[Packet]:
        if not self._frame_topic:
            return iter(())
        return (p for p in self.packets([self._frame_topic]) if p.type_name in IMAGE_TYPES)


def _batch(decoded: DecodedPacket) -> EventBatch:
    return EventBatch(decoded.events, decoded.triggers, decoded.stamp_ns, decoded.discontinuity)


def _shared(a: Sequence[str], b: Sequence[str]) -> int:
    """Return how many characters or words two names have in common from their start."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (left, right) in pairs if left != right), min(len(a), len(b)))


def _encoding(packet: Packet) -> str:
    """Return the encoding of an EventPacket; messages without one go by their type's name."""
    if packet.type_name in EVENT_PACKET_TYPES:
        return EventPacket.parse(packet.data).encoding
    return packet.type_name


def _bag_files(folder: Path, warn: Callable[[str], None]) -> list[Path]:
    """Return the container files of a bag directory.

    ``metadata.yaml`` is used where it can be, for the names alone: recorders that are killed leave
    none, and Humble's leaves ``storage_identifier`` empty.
    """
    named = _named_files(folder / "metadata.yaml", warn)
    files = [file for name in named if (file := _inside(folder, name)) is not None]
    lost = [name for name in named if _inside(folder, name) is None]
    if lost:
        warn(f"files named by metadata.yaml are missing: {', '.join(lost)}")
    if not files:
        candidates = (p for p in folder.iterdir() if p.is_file() and p.stat().st_size)
        files = sorted((p for p in candidates if _is_container(p)), key=lambda p: _natural(p.name))
    if not files:
        raise RecordingError(f"{folder} holds no rosbag2 file (.mcap or .db3, or those as .zstd)")
    return files


def _named_files(metadata: Path, warn: Callable[[str], None]) -> list[str]:
    try:
        if metadata.stat().st_size > METADATA_LIMIT_BYTES:
            raise ValueError("too large")
        content = yaml.safe_load(metadata.read_text(encoding="utf-8"))
        names = content["rosbag2_bagfile_information"]["relative_file_paths"]
        # Anything but text may hold aliases of aliases, whose text would never end.
        return [name for name in names if isinstance(name, str)]
    except FileNotFoundError:
        warn("no metadata.yaml: the files of the directory are taken as they are")
    except (yaml.YAMLError, KeyError, TypeError, OSError, ValueError, RecursionError) as error:
        warn(f"metadata.yaml is damaged ({type(error).__name__}): the files are taken as they are")
    return []


def _inside(folder: Path, name: str) -> Path | None:
    """Find a file that metadata names; old recorders wrote the directory's name before it."""
    for candidate in (folder / name, folder / Path(name).name):
        try:
            # What lies elsewhere is none of the bag's, whatever its metadata say.
            if candidate.is_file() and candidate.resolve().is_relative_to(folder.resolve()):
                return candidate
        except (OSError, ValueError):
            continue  # no name that a file system takes
    return None


def _open_storage(path: Path, warn: Callable[[str], None]) -> Storage:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise RecordingError(f"{path} cannot be opened: {error}") from error
    if head.startswith(MCAP_MAGIC):
        return McapStorage(path, warn)
    if head.startswith(SQLITE_MAGIC):
        return Sqlite3Storage(path, warn)
    if head.startswith(ROSBAG1_MAGIC):
        return Rosbag1Storage(path, warn)
    if head.startswith(ZSTD_MAGIC):
        return _open_unpacked(path, warn)
    what = f"it starts with {head!r}" if head else "it is empty"
    raise RecordingError(f"{path} is no rosbag2 file (sqlite3 or MCAP): {what}")


def _open_unpacked(path: Path, warn: Callable[[str], None]) -> Storage:
    """Open a file of rosbag2's compression mode FILE; the unpacked copy goes with the storage."""
    unpacked = Unpacked(path)
    with unpacked.path.open("rb") as file:
        if file.read(len(ZSTD_MAGIC)) == ZSTD_MAGIC:
            raise RecordingError(f"{path} is compressed twice: unpack it with `zstd -d` first")
    storage = _open_storage(unpacked.path, warn)
    storage.unpacked = unpacked
    return storage


def _is_container(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(16)
    return head.startswith((MCAP_MAGIC, SQLITE_MAGIC, ZSTD_MAGIC))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which bag_10 comes after bag_9."""
    return [(int(w), "") if w.isdigit() else (-1, w) for w in re.split(r"(\d+)", name)]


def _merged(topics: list[TopicInfo]) -> tuple[TopicInfo, ...]:
    """Add up the counts of a topic over the files of a bag."""
    counts: dict[tuple[str, str], int] = {}
    for topic in topics:
        key = (topic.name, topic.type_name)
        counts[key] = counts.get(key, 0) + topic.message_count
    return tuple(TopicInfo(*key, count) for key, count in counts.items())
