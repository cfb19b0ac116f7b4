"""The two containers of rosbag2, read message by message: sqlite3 and MCAP.

Only the container is read here. Schemas are not needed: the message types that we know are parsed
by their layout, so a schema in a language that a reader lacks (``ros2idl``) does no harm.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import re
import sqlite3
import struct
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import quote

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.base import MessageDefinition, TopicInfo
from evdistill_core.recordings.readers.bounded import PIECE_LIMIT_BYTES, unlz4, unzstd

SQLITE_MAGIC = b"SQLite format 3\0"
MCAP_MAGIC = b"\x89MCAP0\r\n"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
#: opcode, length, start of the summary, start of its offsets, checksum of the summary
MCAP_FOOTER = struct.Struct("<BQQQI")
#: Messages of overlapping chunks that are held to bring them in order.
HELD_LIMIT_BYTES = 1 << 28


@dataclass(frozen=True)
class StoredMessage:
    """One message as it lies in the container."""

    topic: str
    type_name: str
    log_time_ns: int
    data: bytes


class Storage(ABC):
    """One file of a bag.

    Attributes:
        unpacked: what must live as long as the file is read, if that is a temporary one.
    """

    unpacked: object = None

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self.path = path
        self._warn = warn
        self._topics: list[TopicInfo] = []
        self._start_ns = self._end_ns = 0

    def topics(self) -> list[TopicInfo]:
        """Return the topics with their message counts."""
        return self._topics

    def definitions(self) -> dict[str, MessageDefinition]:
        """Return what the file says of its message types, by name."""
        return {}

    def offered_qos(self) -> dict[str, str]:
        """Return the text of what the publishers offered, by topic, where the file has it."""
        return {}

    def start_ns(self) -> int:
        """Return the receive time of the first message; 0 when there is none."""
        return self._start_ns

    def end_ns(self) -> int:
        """Return the receive time of the last message; 0 where it is not known."""
        return self._end_ns

    @abstractmethod
    def messages(self, topics: Collection[str], from_ns: int = 0) -> Iterator[StoredMessage]:
        """Yield the messages of these topics by receive time.

        Args:
            topics: which ones.
            from_ns: leave out earlier ones, without reading them where there is an index; those
                without an index may be handed out nevertheless.
        """


class Sqlite3Storage(Storage):
    """A ``.db3`` file, opened read-only and immutable: no lock, no journal, no write."""

    def _connect(self) -> sqlite3.Connection:
        uri = f"file:{quote(str(self.path.resolve()))}?mode=ro&immutable=1"
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        if sys.version_info >= (3, 11):
            # An expression in a schema could make any blob.
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, PIECE_LIMIT_BYTES)
        return connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Give a connection; what sqlite says about damage becomes our error."""
        try:
            with contextlib.closing(self._connect()) as connection:
                self._refuse_programs(connection)
                yield connection
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
            raise RecordingError(
                f"{self.path} is damaged or no rosbag2: sqlite says '{error}'. A recorder that was "
                "killed leaves such a file; try `sqlite3 FILE .recover | sqlite3 NEW.db3`"
            ) from error

    def _refuse_programs(
        self, connection: sqlite3.Connection, tables: Sequence[str] = ("topics", "messages")
    ) -> None:
        """A view or a virtual table could run without end, or make data out of nothing."""
        marks = ",".join("?" * len(tables))
        query = f"SELECT name, type, sql FROM sqlite_master WHERE name IN ({marks})"
        for name, kind, sql in connection.execute(query, tables):
            words = " ".join(str(sql).upper().split())
            if (
                kind != "table"
                or not words.startswith("CREATE TABLE")
                or re.search(r"\bAS ?\(", words)
            ):
                raise RecordingError(f"{self.path} is no rosbag2: '{name}' is no plain table")

    def topics(self) -> list[TopicInfo]:
        """Return the topics with their message counts (counted over the whole file)."""
        self._warn_about_journal()
        with self._reading() as connection:
            topics = connection.execute("SELECT id, name, type FROM topics ORDER BY id").fetchall()
            query = "SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id"
            counts = dict(connection.execute(query))
        return [
            TopicInfo(str(name), str(type_name), int(counts.get(id_, 0)))
            for id_, name, type_name in topics
        ]

    def definitions(self) -> dict[str, MessageDefinition]:
        """Return the table of definitions; recorders before Iron wrote none."""
        query = (
            "SELECT topic_type, encoding, encoded_message_definition, type_description_hash "
            "FROM message_definitions"
        )
        try:
            with self._reading() as connection:
                self._refuse_programs(connection, ("message_definitions",))
                rows = connection.execute(query).fetchall()
        except RecordingError:
            return {}  # no such table, or not with these columns
        return {
            str(name): MessageDefinition(str(encoding), str(text).encode(), str(type_hash or ""))
            for name, encoding, text, type_hash in rows
        }

    def offered_qos(self) -> dict[str, str]:
        """Return the column of the topics; the first recorders had none."""
        try:
            with self._reading() as connection:
                rows = connection.execute("SELECT name, offered_qos_profiles FROM topics")
                return {str(name): str(text or "") for name, text in rows}
        except RecordingError:
            return {}  # no such column

    def _warn_about_journal(self) -> None:
        for suffix in ("-wal", "-journal"):
            journal = self.path.with_name(self.path.name + suffix)
            if journal.exists() and journal.stat().st_size:
                self._warn(f"{journal.name} holds messages that are not in the bag yet: left out")

    def start_ns(self) -> int:
        """Return the receive time of the first message; 0 when there is none."""
        with self._reading() as connection:
            row = connection.execute("SELECT MIN(timestamp) FROM messages").fetchone()
        return int(row[0] or 0)

    def end_ns(self) -> int:
        """Return the receive time of the last message; 0 when there is none."""
        with self._reading() as connection:
            row = connection.execute("SELECT MAX(timestamp) FROM messages").fetchone()
        return int(row[0] or 0)

    def messages(self, topics: Collection[str], from_ns: int = 0) -> Iterator[StoredMessage]:
        """Yield the messages of these topics by receive time.

        The order is that of rosbag2's own index on ``timestamp``, so sqlite sorts nothing.
        """
        with self._reading() as connection:
            rows = connection.execute("SELECT id, name, type FROM topics").fetchall()
            known = {row[0]: (row[1], row[2]) for row in rows if row[1] in topics}
            marks = ",".join("?" * len(known))
            cursor = connection.execute(
                f"SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({marks}) "
                "AND timestamp >= ? ORDER BY timestamp, id",
                [*known, from_ns],
            )
            for topic_id, timestamp, data in cursor:
                name, type_name = known[topic_id]
                yield StoredMessage(name, type_name, timestamp, _decompressed(bytes(data or b"")))


class BoundedFile:
    """A file that refuses to read past its end, for a library that believes length fields.

    Without it, eight damaged bytes make the mcap reader ask for exabytes of memory.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._size = os.fstat(self._file.fileno()).st_size

    def read(self, count: int) -> bytes:
        """Return ``count`` bytes; ``EOFError`` when there are fewer, or the count is no count."""
        left = self._size - self._file.tell()
        if not 0 <= count <= left:
            raise EOFError(f"a record claims {count} bytes where {left} are left")
        return self._file.read(count)

    def readline(self) -> bytes:
        """Return a line; no line that any format has is longer than 4096 bytes."""
        return self._file.readline(4096)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, as files do."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Tell libraries that they may seek."""
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> BoundedFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


class McapStorage(Storage):
    """An ``.mcap`` file; without a footer (recorder killed) it is read as far as it goes."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        super().__init__(path, warn)
        self._indexed = False
        self._chunks: list[Any] = []
        self._channels: dict[int, Any] = {}
        self._schemas: dict[int, Any] = {}
        summary = self._summary()
        if summary is None or summary.statistics is None or not summary.channels:
            self._scan()
            return
        self._indexed = bool(summary.chunk_indexes)
        self._chunks = summary.chunk_indexes
        self._channels = summary.channels
        self._schemas = summary.schemas
        counts = summary.statistics.channel_message_counts
        self._start_ns = summary.statistics.message_start_time
        self._end_ns = summary.statistics.message_end_time
        merged: dict[tuple[str, str], int] = {}
        for channel in summary.channels.values():
            schema = summary.schemas.get(channel.schema_id)
            key = (channel.topic, schema.name if schema else "")
            merged[key] = merged.get(key, 0) + counts.get(channel.id, 0)
        self._topics = [TopicInfo(*key, count) for key, count in merged.items()]

    def definitions(self) -> dict[str, MessageDefinition]:
        """Return the schemas of the channels, with the hashes that rosbag2 notes there."""
        found = {}
        for channel in self._channels.values():
            schema = self._schemas.get(channel.schema_id)
            if schema is not None:
                found[schema.name] = MessageDefinition(
                    schema.encoding, schema.data, channel.metadata.get("topic_type_hash", "")
                )
        return found

    def offered_qos(self) -> dict[str, str]:
        """Return what the metadata of the channels say."""
        found: dict[str, str] = {}
        for channel in self._channels.values():
            text = channel.metadata.get("offered_qos_profiles", "")
            found[channel.topic] = found.get(channel.topic) or text
        return found

    def _summary(self) -> Any:
        """Return the summary section; ``None`` when there is none or it cannot be read."""
        from mcap.reader import SeekingReader  # noqa: PLC0415

        try:
            with BoundedFile(self.path) as file:
                reader = SeekingReader(_stream(file), record_size_limit=PIECE_LIMIT_BYTES)
                summary = reader.get_summary()
                return summary if _is_index_whole(file) else None
        except _damage():
            return None

    def _scan(self) -> None:
        """Find the topics of a file that has no index by reading it once."""
        counts: dict[tuple[str, str], int] = {}
        for message in self._in_file_order(None):
            key = (message.topic, message.type_name)
            counts[key] = counts.get(key, 0) + 1
            self._start_ns = min(self._start_ns or message.log_time_ns, message.log_time_ns)
            self._end_ns = max(self._end_ns, message.log_time_ns)
        self._topics = [TopicInfo(*key, count) for key, count in counts.items()]

    def messages(self, topics: Collection[str], from_ns: int = 0) -> Iterator[StoredMessage]:
        """Yield the messages of these topics by receive time (file order when damaged)."""
        if self._indexed:
            return self._by_index(topics, from_ns)
        return self._in_file_order(topics)

    def _by_index(self, topics: Collection[str], from_ns: int) -> Iterator[StoredMessage]:
        """Merge the chunks by receive time; those that overlap are held, up to a bound."""
        waiting: list[tuple[int, int, int, StoredMessage]] = []
        held = count = 0
        try:
            with BoundedFile(self.path) as file:
                for index in self._chunks_of(topics, from_ns):
                    start_ns, place = index.message_start_time, index.chunk_start_offset
                    while waiting and (waiting[0][0] < start_ns or held > HELD_LIMIT_BYTES):
                        message = heapq.heappop(waiting)[-1]
                        held -= len(message.data)
                        count += 1
                        yield message
                    for number, message in enumerate(self._chunk_messages(file, place, topics)):
                        if message.log_time_ns < from_ns:
                            continue
                        held += len(message.data)
                        heapq.heappush(waiting, (message.log_time_ns, place, number, message))
                    if held > HELD_LIMIT_BYTES:
                        self._warn("chunks overlap so far that messages are not in order of time")
        except _damage() as error:
            self._warn(_stopped(self.path, count + len(waiting), error))
        while waiting:
            yield heapq.heappop(waiting)[-1]

    def _chunks_of(self, topics: Collection[str], from_ns: int) -> list[Any]:
        """Return the places of the chunks that hold one of the topics, by their first message."""
        wanted = {c.id for c in self._channels.values() if c.topic in topics}
        # A damaged index may name a chunk more than once.
        chunks = {c.chunk_start_offset: c for c in self._chunks}.values()
        found = [
            c
            for c in chunks
            if c.message_end_time >= from_ns and not wanted.isdisjoint(c.message_index_offsets)
        ]
        return sorted(found, key=lambda c: (c.message_start_time, c.chunk_start_offset))

    def _chunk_messages(
        self, file: BoundedFile, place: int, topics: Collection[str]
    ) -> Iterator[StoredMessage]:
        from mcap.records import Chunk, Message  # noqa: PLC0415

        file.seek(place)
        chunk = next(iter(_records(file, skip_magic=True)))
        if not isinstance(chunk, Chunk):
            raise EOFError(f"no chunk lies at byte {place}, where the index says")
        for record in _unpacked(chunk):
            if isinstance(record, Message):
                channel = self._channels[record.channel_id]
                if channel.topic in topics:
                    yield _stored(record, channel, self._schemas)

    def _in_file_order(self, topics: Collection[str] | None) -> Iterator[StoredMessage]:
        """Read record by record until the bytes end, and say when they end too early."""
        from mcap.records import Channel, Chunk, Message, Schema  # noqa: PLC0415

        channels: dict[int, Any] = {}
        schemas: dict[int, Any] = {}
        if topics is None:  # a pass over everything, of a file without an index
            self._channels, self._schemas = channels, schemas
        count = 0
        with BoundedFile(self.path) as file:
            try:
                for outer in _records(file, skip_magic=False):
                    for record in _unpacked(outer) if isinstance(outer, Chunk) else [outer]:
                        if isinstance(record, Schema):
                            schemas[record.id] = record
                        elif isinstance(record, Channel):
                            channels[record.id] = record
                        elif isinstance(record, Message):
                            channel = channels[record.channel_id]
                            if topics is None or channel.topic in topics:
                                count += 1
                                yield _stored(record, channel, schemas)
            except _damage() as error:
                self._warn(_stopped(self.path, count, error))


def _records(file: BoundedFile, *, skip_magic: bool) -> Iterator[Any]:
    """Yield records as they lie in the file, chunks still packed."""
    from mcap.stream_reader import StreamReader  # noqa: PLC0415

    reader = StreamReader(
        _stream(file),
        skip_magic=skip_magic,
        emit_chunks=True,
        record_size_limit=PIECE_LIMIT_BYTES,
    )
    return reader.records


def _unpacked(chunk: Any) -> list[Any]:
    """Return the records of a chunk; the library would unpack whatever the bytes ask for."""
    from mcap.stream_reader import breakup_chunk  # noqa: PLC0415

    unpack = {"zstd": unzstd, "lz4": unlz4}.get(chunk.compression)
    if unpack is not None:
        chunk = replace(chunk, compression="", data=unpack(chunk.data))
    records: list[Any] = breakup_chunk(chunk, validate_crc=True)
    return records


def _stored(message: Any, channel: Any, schemas: Mapping[int, Any]) -> StoredMessage:
    schema = schemas.get(channel.schema_id)
    return StoredMessage(
        channel.topic,
        schema.name if schema else "",
        message.log_time,
        _decompressed(message.data),
    )


def _is_index_whole(file: BoundedFile) -> bool:
    """Check the summary's checksum, which the mcap library does not; without one it is believed."""
    file.seek(-(MCAP_FOOTER.size + len(MCAP_MAGIC)), os.SEEK_END)
    footer_at = file.tell()
    footer = file.read(MCAP_FOOTER.size)
    _, _, summary_at, _, expected = MCAP_FOOTER.unpack(footer)
    if not expected or not summary_at:
        return True
    file.seek(summary_at)
    return bool(zlib.crc32(file.read(footer_at - summary_at) + footer[:-4]) == expected)


def _stream(file: BoundedFile) -> IO[bytes]:
    """Tell the type checker that this is all of a file that the library uses."""
    return cast(IO[bytes], file)


def _damage() -> tuple[type[Exception], ...]:
    """Return what the mcap library raises on bytes that are cut off or wrong."""
    from mcap.exceptions import McapError  # noqa: PLC0415
    from mcap.stream_reader import CRCValidationError  # noqa: PLC0415

    return (
        McapError,
        CRCValidationError,
        struct.error,
        ValueError,  # a negative length inside a chunk, and our own for compressed bytes
        EOFError,
        OverflowError,
        MemoryError,
        UnicodeDecodeError,
        KeyError,
        OSError,
    )


def _stopped(path: Path, count: int, error: Exception) -> str:
    reason = str(error) or type(error).__name__
    return (
        f"{path.name} is cut off or damaged ({reason}); "
        f"{count} messages before that place were read"
    )


def _decompressed(data: bytes) -> bytes:
    """Undo rosbag2's message compression; CDR never starts with the zstd magic."""
    if not data.startswith(ZSTD_MAGIC):
        return data
    return unzstd(data)
