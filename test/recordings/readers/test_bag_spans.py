"""Spans of bags are those of the whole, and bags are entered there."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest

from evdistill_core.events.array import Events, Triggers
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.recordings.convert import ConvertConfig, convert
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.writers.mcap import McapWriter
from evdistill_core.recordings.writers.npz import NpzWriter

SPAN_US = 60_000_000


@pytest.fixture
def whole(make_events):
    return make_events(np.random.default_rng(4), 20_000, span_us=SPAN_US)


@pytest.fixture(params=["libcaer_cmp", "evt3"])
def bag(request, whole, tmp_path):
    with NpzWriter(tmp_path / "a.npz", width=346, height=260) as writer:
        writer.write(whole, Triggers.empty())
    path = tmp_path / "a.mcap"
    with open_recording(tmp_path / "a.npz") as recording:
        convert(recording, path, ConvertConfig(encoding=request.param))
    return path, request.param


def as_sqlite3(path, target):
    """Write the event messages as a .db3."""
    with open_recording(path) as recording, closing(sqlite3.connect(target)) as connection:
        connection.execute(
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT,"
            "serialization_format TEXT, offered_qos_profiles TEXT)"
        )
        connection.execute(
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER,"
            "data BLOB)"
        )
        connection.execute(
            "INSERT INTO topics VALUES(1, '/events', ?, 'cdr', '')", (EventPacket.TYPE,)
        )
        connection.executemany(
            "INSERT INTO messages(topic_id, timestamp, data) VALUES(1, ?, ?)",
            ((p.receive_time_ns, bytes(p.data)) for p in recording.packets()),
        )
        connection.commit()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("span_s", [(30.0, 31.0), (55.0, None), (0.5, 3.0), (61.0, None)])
def test_spans(bag, whole, tmp_path, storage, span_s):
    path, _ = bag
    if storage == "sqlite3":
        as_sqlite3(path, tmp_path / "a.db3")
        path = tmp_path / "a.db3"
    start, end = (None if s is None else int(s * 1e6) + 1_000_000 for s in span_s)
    keep = whole.t_us >= start
    if end is not None:
        keep &= whole.t_us < end
    with open_recording(path) as recording:
        parts = [b.events for b in recording.batches(start, end)]
        read = recording.counters["events"]
    assert Events.concatenate([Events.empty(346, 260), *parts]).equals(whole[keep])
    if 5 < span_s[0] < 60:
        assert read < keep.sum() + len(whole) // 10


def test_receive_times_that_lie_are_found_out(bag, whole, tmp_path):
    """The recorder's clock jumped an hour: only reading all is right."""
    path, _ = bag
    odd = tmp_path / "odd.mcap"
    with open_recording(path) as recording, McapWriter(odd) as writer:
        for i, p in enumerate(recording.packets()):
            late_ns = 3_600_000_000_000 if i == 0 else 0
            stamp_ns = p.receive_time_ns - late_ns + 4_000_000_000_000
            writer.write(p.topic, p.type_name, bytes(p.data), stamp_ns)
    start = 40_000_000
    with open_recording(odd) as recording:
        parts = [b.events for b in recording.batches(start)]
    assert Events.concatenate(parts).equals(whole[whole.t_us >= start])
