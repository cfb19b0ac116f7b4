"""Write a rosbag2 as one MCAP file: what `ros2 bag`, Foxglove and our own reader open."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.foundation.files import FinishedBlock, atomic_path
from evdistill_core.foundation.version import VERSION
from evdistill_core.messages.types import MESSAGE_TYPES, normal_type_name
from evdistill_core.recordings.base import MessageDefinition

CHUNK_BYTES = 1 << 20
#: `ros2 bag` of Humble (metadata up to 5) to Lyrical reads it.
METADATA_VERSION = 5


class McapWriter(FinishedBlock):
    """Write serialized messages; the file appears only when the block ends well.

    The file carries what rosbag2 needs: profile ``ros2``, a ``ros2msg`` schema with all
    dependencies for every type, type hashes, zstd chunks with their index, and the bag's
    metadata. The same metadata can be laid beside the file with ``metadata_yaml`` by callers that
    want a bag directory.

    Args:
        path: the ``.mcap`` file to make.
        salvage: where what was written goes when the disk is full, see ``atomic_path``.
        definitions: of message types that are not ours, as ``Recording.definitions`` gives them.
        offered_qos: of topics that are copied, as ``Recording.offered_qos`` gives it. Of others
            nothing is noted: players then publish reliably, which every subscriber accepts.

    Raises:
        RecordingError: the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        salvage: Path | None = None,
        definitions: Mapping[str, MessageDefinition] | None = None,
        offered_qos: Mapping[str, str] | None = None,
    ) -> None:
        self._path = path
        self._definitions = definitions or {}
        self._offered_qos = offered_qos or {}
        self._salvage = salvage
        self._stack = contextlib.ExitStack()
        self._writer: Any = None
        self._file: IO[bytes]
        self._channels: dict[str, tuple[int, str]] = {}
        self._schemas: dict[str, int] = {}
        self._shift_ns: int | None = None
        self._counts: dict[str, int] = {}
        self._first_ns: int | None = None
        self._last_ns = 0

    def __enter__(self) -> McapWriter:
        from mcap.writer import CompressionType, Writer  # noqa: PLC0415

        try:
            temporary = self._stack.enter_context(atomic_path(self._path, salvage=self._salvage))
            file = self._stack.enter_context(temporary.open("wb"))
            self._file = file
        except OSError as error:
            self._stack.close()
            raise RecordingError(f"{self._path} cannot be written: {error}") from error
        self._writer = Writer(file, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
        self._writer.start(profile="ros2", library=f"evdistill {VERSION}")
        return self

    def write(self, topic: str, type_name: str, data: bytes, log_time_ns: int) -> None:
        """Append one message.

        Args:
            topic: as ROS writes it, with a leading slash.
            type_name: ``pkg/msg/Type``. Of a type that is not ours and that ``definitions`` lack,
                the file has the name alone, as rosbag2 writes it.
            data: serialized message with its 4 byte CDR header.
            log_time_ns: receive time, nanoseconds since 1970; should not fall. When the first one
                is below zero, all are moved so that it is zero.

        Raises:
            RecordingError: the topic had another type before.
            MessageError: the type's name is not of that form.
        """
        if self._writer is None:
            raise RecordingError("McapWriter must be used in a with block")
        channel = self._channel(topic, type_name)
        if self._shift_ns is None:
            # MCAP's times are unsigned; a sensor's clock may begin below zero.
            self._shift_ns = max(0, -log_time_ns)
        log_time_ns = max(0, log_time_ns + self._shift_ns)
        self._writer.add_message(
            channel_id=channel,
            log_time=log_time_ns,
            publish_time=log_time_ns,
            sequence=self._counts[topic],
            data=bytes(data),
        )
        self._counts[topic] += 1
        self._first_ns = min(log_time_ns, self._first_ns or log_time_ns)
        self._last_ns = max(log_time_ns, self._last_ns)

    def _channel(self, topic: str, type_name: str) -> int:
        if topic in self._channels:
            number, known = self._channels[topic]
            if known != type_name:
                raise RecordingError(f"topic {topic} carries {known}, got a {type_name}")
            return number
        definition = self._definition(type_name)
        if type_name not in self._schemas:
            self._schemas[type_name] = self._writer.register_schema(
                name=type_name, encoding=definition.encoding, data=definition.text
            )
        channel: int = self._writer.register_channel(
            topic=topic,
            message_encoding="cdr",
            schema_id=self._schemas[type_name],
            metadata={
                "offered_qos_profiles": self._offered_qos.get(topic, ""),
                "topic_type_hash": definition.type_hash,
            },
        )
        self._channels[topic] = (channel, type_name)
        self._counts[topic] = 0
        return channel

    def _definition(self, type_name: str) -> MessageDefinition:
        known = MESSAGE_TYPES.get(normal_type_name(type_name))
        if known is not None:
            return MessageDefinition("ros2msg", known.schema.encode(), known.type_hash)
        return self._definitions.get(type_name, MessageDefinition())

    @property
    def written_bytes(self) -> int:
        """Size of the file so far."""
        return self._file.tell()

    def metadata_yaml(self) -> str:
        """Return the bag's ``metadata.yaml`` for what was written so far."""
        return _yaml({"rosbag2_bagfile_information": self._information()})

    def _information(self) -> dict[str, Any]:
        first = self._first_ns or 0
        times = {
            "starting_time": {"nanoseconds_since_epoch": first},
            "duration": {"nanoseconds": max(0, self._last_ns - first)},
        }
        total = sum(self._counts.values())
        topics = [
            {
                "topic_metadata": {
                    "name": topic,
                    "type": type_name,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": self._offered_qos.get(topic, ""),
                },
                "message_count": self._counts[topic],
            }
            for topic, (_, type_name) in self._channels.items()
        ]
        return {
            "version": METADATA_VERSION,
            "storage_identifier": "mcap",
            **copy.deepcopy(times),
            "message_count": total,
            "topics_with_message_count": topics,
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [self._path.name],
            "files": [{"path": self._path.name, **times, "message_count": total}],
        }

    def _finish(self) -> None:
        # In the file, rosbag2 wants the content of metadata.yaml without its outermost key.
        information = _yaml(self._information())
        writer, self._writer = self._writer, None
        writer.add_metadata("rosbag2", {"serialized_metadata": information})
        writer.finish()


def _yaml(content: dict[str, Any]) -> str:
    import yaml  # noqa: PLC0415

    text: str = yaml.dump(content, sort_keys=False)
    return text
