"""Bytes that unpack to more than they should, and files that claim or are worse."""

import bz2
import contextlib
import io
import sqlite3
import struct
import tracemalloc
import zipfile
import zlib
from contextlib import closing

import lz4.frame
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.readers.bounded import unbz2, unlz4, unzlib, unzstd

PACKERS = {
    unzstd: zstandard.compress, unlz4: lz4.frame.compress, unbz2: bz2.compress,
    unzlib: zlib.compress,
}  # fmt: skip


@pytest.mark.parametrize("unpack", PACKERS)
@given(data=st.binary(max_size=3000))
def test_what_was_packed_comes_out(unpack, data):
    assert unpack(PACKERS[unpack](data)) == data
    assert unpack(memoryview(PACKERS[unpack](data)), limit=max(1, len(data))) == data


@pytest.mark.parametrize("unpack", PACKERS)
def test_more_than_the_limit_is_refused_before_it_is_there(unpack):
    packed = PACKERS[unpack](bytes(100_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(RecordingError, match="hold more than 1 MB"):
            unpack(packed, limit=1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("unpack", PACKERS)
@given(data=st.binary(max_size=200))
def test_nonsense_is_refused(unpack, data):
    with contextlib.suppress(RecordingError):
        unpack(data)


@pytest.mark.parametrize("unpack", [unzstd, unlz4, unbz2])
def test_several_pieces_are_joined(unpack):
    data = np.random.default_rng(0).integers(0, 9, 5_000_000, np.uint8).tobytes()
    assert unpack(PACKERS[unpack](data)) == data


def read(path):
    with open_recording(path) as recording:
        return [len(b.events) for b in recording.batches()]


def peak_of(action):
    """Return the peak of memory, and what was raised (of our own kind) or came back."""
    tracemalloc.start()
    try:
        try:
            result = action()
        except RecordingError as error:
            result = error
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


def bag(path, schema, rows=()):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(schema)
        for row in rows:
            connection.execute(*row)
        connection.commit()
    return path


TOPICS = "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT);"
ENDLESS = (
    "CREATE VIEW messages AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT i AS id, 1 AS topic_id, i AS timestamp, x'00' AS data FROM n;"
)
MADE = (
    "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, "
    "data BLOB GENERATED ALWAYS AS (zeroblob(900000000)));"
    "INSERT INTO messages(id, topic_id, timestamp) VALUES(1, 1, 1);"
)


@pytest.mark.parametrize("schema", [ENDLESS, MADE])
def test_a_bag_that_is_a_program_is_refused_at_once(tmp_path, schema):
    row = ("INSERT INTO topics VALUES(1, '/events', ?)", [EventPacket.TYPE])
    path = bag(tmp_path / "a.db3", TOPICS + schema, [row])
    took, result = peak_of(lambda: read(path))
    assert "no plain table" in str(result)
    assert took < 1 << 22


def test_a_compressed_message_that_unpacks_to_gigabytes_is_refused(tmp_path):
    table = (
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, "
        "data BLOB);"
    )
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 29))
    rows = [
        ("INSERT INTO topics VALUES(1, '/events', ?)", [EventPacket.TYPE]),
        ("INSERT INTO messages VALUES(1, 1, 1, ?)", [bomb]),
    ]
    assert len(bomb) < 100_000
    took, result = peak_of(lambda: read(bag(tmp_path / "a.db3", TOPICS + table, rows)))
    assert "hold more than 256 MB" in str(result)
    assert took < 600 << 20


@pytest.mark.parametrize("kind", ["ZSTD", "LZ4"])
def test_a_chunk_that_unpacks_to_gigabytes_is_left_out(tmp_path, kind):
    from mcap.writer import CompressionType, Writer

    path = tmp_path / "a.mcap"
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=1 << 40, compression=getattr(CompressionType, kind))
        writer.start()
        schema = writer.register_schema(EventPacket.TYPE, "ros2idl", b"//")
        channel = writer.register_channel("/events", "cdr", schema)
        for i in range(3):
            writer.add_message(channel, i, bytes(100 << 20), i)
        writer.finish()
    took, result = peak_of(lambda: open_recording(path).info.warnings)
    assert any("hold more than 256 MB" in w for w in result)
    assert took < 600 << 20


def npz(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def npy(header, data=b""):
    text = header.encode().ljust(118 - 10) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


GOOD = {n: npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1,)}", bytes(8)) for n in "txyp"}
SIZE = "{'descr': '<i8', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    "members",
    [
        {"width": npy(SIZE % "(99999999999,)", bytes(1 << 20)), "height": npy(SIZE % "()")},
        {"width": npy(SIZE % "(-5,)", bytes(1 << 20)), "height": npy(SIZE % "()")},
        {"width": npy(SIZE % "(4294967296, 4294967296, 0)"), "height": npy(SIZE % "()")},
        {"t": npy(SIZE % "(-1,)", bytes(1 << 20))},
        {"x": npy(SIZE % "(1, 99999999)", bytes(100))},
        {"x": npy(SIZE % "(1, 2)", bytes(16))},
        {"x": npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1,)")},
        {"x": npy("((((((((((" * 9)},
        {"x": npy("{'descr': [('a', 'O')], 'fortran_order': False, 'shape': (1,)}")},
        {"t": npy(SIZE % "(1,)", b"\xff" * 7 + b"\x7f")},
        {"trigger_t": GOOD["t"], "trigger_channel": npy(SIZE % "(0,)"), "trigger_edge": GOOD["t"]},
    ],
)
def test_arrays_that_cannot_be_are_refused(tmp_path, members):
    path = npz(tmp_path / "a.npz", **(GOOD | members))
    took, result = peak_of(lambda: read(path))
    assert isinstance(result, RecordingError), result
    assert took < 1 << 24


def test_a_text_of_one_endless_line_takes_no_memory(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"8 6\n1 2 3 1\n" + b"1 " * 20_000_000)
    took, result = peak_of(lambda: read(path))
    assert "four numbers" in str(result)
    assert took < 4 << 20


@pytest.mark.parametrize(
    "metadata",
    [
        b"[" * 5000,
        b"rosbag2_bagfile_information: {relative_file_paths: [2001-99-99]}",
        b"rosbag2_bagfile_information: {relative_file_paths: [" + b"9" * 5000 + b"]}",
        b"a: &a [x, x]\nb: &b [*a, *a]\nrosbag2_bagfile_information: {relative_file_paths: [*b]}",
        b"rosbag2_bagfile_information: {relative_file_paths: ['" + b"n" * 400 + b"']}",
        b"rosbag2_bagfile_information: {relative_file_paths: ['../other.mcap', \"a\\0b\"]}",
        b"\xff\xfe",
    ],
)
def test_metadata_that_harm_are_left_aside(tmp_path, metadata):
    folder = tmp_path / "bag"
    folder.mkdir()
    (tmp_path / "other.mcap").write_bytes(b"\x89MCAP0\r\n")
    (folder / "metadata.yaml").write_bytes(metadata)
    with pytest.raises(RecordingError, match="holds no rosbag2 file"):
        open_recording(folder)


def test_a_table_of_edges_that_all_lie_in_one_place_makes_no_objects_ahead(tmp_path):
    from evdistill_core.recordings.readers.aedat4_file import Table

    count = 200_000
    table = io.BytesIO()
    table.write(struct.pack("<IHHHH", 12, 6, 8, 4, 0))  # root -> 12; vtable at 4, one field
    table.write(struct.pack("<iI", 8, 4))  # table at 12: vtable 8 back; vector 4 on
    table.write(struct.pack("<I", count) + bytes(4 * count))
    took, found = peak_of(lambda: Table.root(table.getvalue()).tables(0))
    assert took < 3_000_000
    assert sum(1 for _ in found) == count
