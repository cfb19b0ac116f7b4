"""ROS 1 bags: read by rosbags, their event and image messages handed on as ROS 2's.

ROS 1 serializes field after field without padding, and its header has a ``seq``. The messages that
we read are taken apart here and serialized again, so that all that reads a rosbag2 reads these too.
Messages of other types are listed and never handed out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from evdistill_core.events.stream import is_event_type
from evdistill_core.foundation.errors import MessageError, RecordingError
from evdistill_core.foundation.extras import install_command
from evdistill_core.messages.event_messages import (
    EVENT_PACKET_TYPES,
    EventArray,
    EventBlock,
    EventPacket,
)
from evdistill_core.messages.standard import CompressedImage, Header, Image, Time
from evdistill_core.recordings.base import TopicInfo
from evdistill_core.recordings.readers.bounded import unbz2, unlz4
from evdistill_core.recordings.readers.storage import BoundedFile, Storage, StoredMessage

ROSBAG1_MAGIC = b"#ROSBAG V2.0"
EVENT = np.dtype(
    [("x", "<u2"), ("y", "<u2"), ("sec", "<u4"), ("nanosec", "<u4"), ("polarity", "u1")]
)


class Rosbag1Storage(Storage):
    """A ``.bag`` file."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        super().__init__(path, warn)
        with self._reader() as reader:
            self._start_ns = int(reader.start_time) if reader.message_count else 0
            self._end_ns = int(reader.end_time) if reader.message_count else 0
            self._topics = [
                TopicInfo(c.topic, c.msgtype, int(c.msgcount)) for c in reader.connections
            ]

    def _reader(self) -> Any:
        try:
            from rosbags.rosbag1 import Reader  # noqa: PLC0415
        except ImportError as error:
            raise RecordingError(
                f"{self.path} is a ROS 1 bag; reading it needs rosbags: "
                f"{install_command('rosbag1')}"
            ) from error
        reader: Any = Reader(self.path)
        # The library reads and unpacks as much as the file's length fields ask for.
        reader.path = _BoundedPath(self.path)
        try:
            reader.open()
            reader.chunks = {
                place: chunk._replace(decompressor=_bounded(chunk.decompressor))
                for place, chunk in reader.chunks.items()
            }
        except _damage() as error:
            raise RecordingError(
                f"{self.path} is damaged or was not closed ({error or type(error).__name__}); "
                "`rosbag reindex` repairs a bag whose recorder was killed"
            ) from error
        return _Closing(reader)

    def messages(self, topics: Collection[str], from_ns: int = 0) -> Iterator[StoredMessage]:
        """Yield the messages of these topics by receive time."""
        count = damaged = 0
        with self._reader() as reader:
            wanted = [c for c in reader.connections if c.topic in topics]
            try:
                for connection, time_ns, data in reader.messages(wanted, start=from_ns or None):
                    count += 1
                    try:
                        cdr = to_ros2(connection.msgtype, data)
                    except (MessageError, struct.error, UnicodeDecodeError) as error:
                        damaged += 1
                        self._warn(f"messages on {connection.topic} are left out: {error}")
                        continue
                    yield StoredMessage(connection.topic, connection.msgtype, time_ns, cdr)
            except _damage() as error:
                self._warn(
                    f"{self.path.name} is cut off or damaged ({error or type(error).__name__}); "
                    f"{count} messages before that place were read"
                )


class _BoundedPath:
    """A path whose files refuse to read past their end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)

    def open(self, mode: str) -> BoundedFile:
        assert mode == "rb"
        return BoundedFile(self._path)


def _bounded(decompress: Any) -> Callable[[bytes], bytes]:
    """Return our own function for one of the library's."""
    from rosbags.rosbag1.reader import decompressors  # noqa: PLC0415

    ours = {"bz2": unbz2, "lz4": unlz4}
    kind = next((name for name, known in decompressors.items() if known is decompress), "none")
    return ours.get(kind, bytes)


class _Closing:
    """Close a reader that is open already."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __enter__(self) -> Any:
        return self._reader

    def __exit__(self, *error: object) -> None:
        self._reader.close()


def _damage() -> tuple[type[Exception], ...]:
    """Return what rosbags raises on bytes that are cut off or wrong."""
    from rosbags.rosbag1 import ReaderError  # noqa: PLC0415

    return (
        ReaderError,
        struct.error,
        OSError,
        EOFError,
        RuntimeError,
        KeyError,
        IndexError,
        OverflowError,
        MemoryError,
        UnicodeDecodeError,
        AssertionError,
        ValueError,
    )


def to_ros2(type_name: str, data: bytes) -> bytes:
    """Serialize one ROS 1 message as ROS 2 does.

    Args:
        type_name: with ``/msg/``.
        data: the message in ROS 1's serialization.

    Raises:
        MessageError: a type that we do not read, or lengths that do not fit the bytes.
    """
    source = _Fields(data)
    if type_name in EVENT_PACKET_TYPES:
        return _packet(source)
    if is_event_type(type_name):
        return _array(source)
    if type_name == Image.TYPE:
        return _image(source)
    if type_name == CompressedImage.TYPE:
        return CompressedImage(source.header(), source.text(), bytes(source.block())).serialize()
    raise MessageError(f"{type_name[:80]} is none of the types that we read from ROS 1 bags")


class _Fields:
    """Takes fields off the front of a message."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self._data, self._at)
        self._at += struct.calcsize("<" + layout)
        return values

    def block(self, element_bytes: int = 1) -> memoryview:
        (count,) = self.take("I")
        end = self._at + count * element_bytes
        if end > len(self._data):
            raise MessageError(f"{count} elements do not fit into {len(self._data)} bytes")
        block = self._data[self._at : end]
        self._at = end
        return block

    def text(self) -> str:
        return bytes(self.block()).decode("utf-8")

    def header(self) -> Header:
        _, sec, nanosec = self.take("III")
        return Header(Time.from_ns(sec * 1_000_000_000 + nanosec), self.text())


def _packet(source: _Fields) -> bytes:
    header = source.header()
    height, width, seq, time_base = source.take("IIQQ")
    encoding = source.text()
    (big,) = source.take("B")
    return EventPacket(
        header=header,
        height=height,
        width=width,
        seq=seq,
        time_base=time_base,
        encoding=encoding,
        is_bigendian=bool(big),
        events=bytes(source.block()),
    ).serialize()


def _array(source: _Fields) -> bytes:
    header = source.header()
    height, width = source.take("II")
    stored = np.frombuffer(source.block(EVENT.itemsize), EVENT)
    t_ns = stored["sec"].astype(np.int64) * 1_000_000_000 + stored["nanosec"]
    block = EventBlock.pack(stored["x"], stored["y"], t_ns, stored["polarity"])
    return EventArray(header=header, height=height, width=width, events=block).serialize()


def _image(source: _Fields) -> bytes:
    header = source.header()
    height, width = source.take("II")
    encoding = source.text()
    big, step = source.take("BI")
    return Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=big,
        step=step,
        data=bytes(source.block()),
    ).serialize()
