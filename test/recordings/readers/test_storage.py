import sqlite3

import lz4.frame
import pytest
import zstandard
from mcap.writer import CompressionType, Writer

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.readers.storage import McapStorage, Sqlite3Storage

TYPE = "event_camera_msgs/msg/EventPacket"
T0 = 10**18
TABLES = """
CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,
    serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL);
CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL,
    timestamp INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX timestamp_idx ON messages (timestamp ASC);
"""


def write_sqlite(path, messages):
    """Write (topic, log time, data) as Humble's recorder does."""
    with sqlite3.connect(path) as connection:
        connection.executescript(TABLES)
        names = list(dict.fromkeys(m[0] for m in messages))
        for number, name in enumerate(names, start=1):
            connection.execute("INSERT INTO topics VALUES (?,?,?,'cdr','')", (number, name, TYPE))
        rows = [(names.index(name) + 1, time, data) for name, time, data in messages]
        connection.executemany(
            "INSERT INTO messages(topic_id, timestamp, data) VALUES (?,?,?)", rows
        )
    connection.close()


def write_mcap(path, messages, **options):
    """Write with the library alone, with a schema in the language that readers choke on."""
    with path.open("wb") as file:
        writer = Writer(file, **options)
        writer.start(profile="ros2", library="test")
        schema = writer.register_schema(TYPE, "ros2idl", b'#include "std_msgs/msg/Header.idl"\n')
        channels = {
            name: writer.register_channel(name, "cdr", schema)
            for name in dict.fromkeys(m[0] for m in messages)
        }
        for name, time, data in messages:
            writer.add_message(channels[name], log_time=time, publish_time=time, data=data)
        writer.finish()


def messages_of(count, size=2000):
    return [("/a" if i % 3 else "/b", T0 + 1000 * i, bytes([i % 251]) * size) for i in range(count)]


def read(storage, topics):
    return [(m.topic, m.log_time_ns, m.data) for m in storage.messages(topics)]


def open_both(tmp_path, messages, warnings):
    write_sqlite(tmp_path / "a.db3", messages)
    write_mcap(tmp_path / "a.mcap", messages, chunk_size=5000)
    yield Sqlite3Storage(tmp_path / "a.db3", warnings.append)
    yield McapStorage(tmp_path / "a.mcap", warnings.append)


def test_both_containers_give_the_same(tmp_path):
    messages, warnings = messages_of(30), []
    for storage in open_both(tmp_path, messages, warnings):
        topics = {t.name: (t.type_name, t.message_count) for t in storage.topics()}
        assert topics == {"/b": (TYPE, 10), "/a": (TYPE, 20)}
        assert storage.start_ns() == T0
        assert read(storage, ["/a", "/b"]) == messages
        assert read(storage, ["/b"]) == [m for m in messages if m[0] == "/b"]
        assert read(storage, []) == []
    assert warnings == []


def test_messages_come_by_receive_time(tmp_path):
    shuffled = [messages_of(12)[i] for i in (3, 1, 0, 2, 7, 4, 6, 5, 8, 9, 11, 10)]
    for storage in open_both(tmp_path, shuffled, []):
        times = [m.log_time_ns for m in storage.messages(["/a", "/b"])]
        assert times == sorted(times)


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("use_chunking", [True, False])
def test_mcap_chunks_of_every_compression(tmp_path, compression, use_chunking):
    messages, warnings = messages_of(20), []
    path = tmp_path / "a.mcap"
    write_mcap(path, messages, compression=compression, use_chunking=use_chunking)
    assert read(McapStorage(path, warnings.append), ["/a", "/b"]) == messages
    assert warnings == []


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("use_chunking", [True, False])
def test_mcap_without_a_footer_is_read_as_far_as_it_goes(tmp_path, part, use_chunking):
    messages, warnings = messages_of(200), []
    path = tmp_path / "a.mcap"
    write_mcap(
        path, messages, chunk_size=20_000, use_chunking=use_chunking,
        compression=CompressionType.NONE,
    )  # fmt: skip
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    storage = McapStorage(path, warnings.append)
    found = read(storage, ["/a", "/b"])
    assert messages[: len(found)] == found
    assert len(found) > 0.8 * part * 200 - 20
    assert sum(t.message_count for t in storage.topics()) == len(found)
    assert len(set(warnings)) == 1
    assert f"{len(found)} messages before that place were read" in warnings[0]


def test_a_damaged_chunk_is_found_by_its_checksum(tmp_path):
    messages, warnings = messages_of(100), []
    path = tmp_path / "a.mcap"
    write_mcap(path, messages, chunk_size=20_000, compression=CompressionType.NONE)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    found = read(McapStorage(path, warnings.append), ["/a", "/b"])
    assert messages[: len(found)] == found
    assert 20 < len(found) < 80
    assert "crc" in warnings[0]


@pytest.mark.parametrize("compression", [CompressionType.ZSTD, CompressionType.LZ4])
def test_damage_inside_compressed_chunks_never_raises_anything_else(tmp_path, compression):
    messages = messages_of(60)
    path = tmp_path / "a.mcap"
    write_mcap(path, messages, chunk_size=5000, compression=compression)
    whole = path.read_bytes()
    for at in range(8, len(whole), 37):
        damaged = bytearray(whole)
        damaged[at : at + 3] = b"\xff\xff\xff"
        path.write_bytes(damaged)
        warnings = []
        storage = McapStorage(path, warnings.append)
        found = read(storage, ["/a", "/b"])
        assert found == messages or warnings


def test_single_messages_may_be_compressed(tmp_path):
    plain = messages_of(4)
    packed = [(n, t, zstandard.ZstdCompressor().compress(d)) for n, t, d in plain]
    for storage in open_both(tmp_path, packed, []):
        assert read(storage, ["/a", "/b"]) == plain
    broken = [(n, t, d[:-3]) for n, t, d in packed]
    write_mcap(tmp_path / "b.mcap", broken)
    assert lz4.frame is not None
    found = read(McapStorage(tmp_path / "b.mcap", [].append), ["/a", "/b"])
    assert all(len(d) <= 2000 for _, _, d in found)


@pytest.mark.parametrize("size", [16, 100, 5000, 30_000])
def test_cut_off_sqlite_is_an_error_that_names_the_file(tmp_path, size):
    path = tmp_path / "a.db3"
    write_sqlite(path, messages_of(100))
    path.write_bytes(path.read_bytes()[:size])
    storage = Sqlite3Storage(path, [].append)
    with pytest.raises(RecordingError, match=r"a\.db3 is damaged"):
        _ = (storage.topics(), read(storage, ["/a", "/b"]))


def test_sqlite_of_something_else(tmp_path):
    with sqlite3.connect(tmp_path / "a.db3") as connection:
        connection.execute("CREATE TABLE cats(name TEXT)")
    connection.close()
    with pytest.raises(RecordingError, match="no such table"):
        Sqlite3Storage(tmp_path / "a.db3", [].append).topics()


def test_reading_sqlite_writes_nothing_and_odd_names_work(tmp_path):
    folder = tmp_path / "a bag?mode=rw#1 %41"
    folder.mkdir()
    write_sqlite(folder / "a.db3", messages_of(3))
    before = (folder / "a.db3").read_bytes()
    (folder / "a.db3-wal").write_bytes(b"x")
    warnings = []
    storage = Sqlite3Storage(folder / "a.db3", warnings.append)
    storage.topics()
    assert len(read(storage, ["/a", "/b"])) == 3
    assert (folder / "a.db3").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["a.db3", "a.db3-wal"]
    assert "a.db3-wal" in warnings[0]
