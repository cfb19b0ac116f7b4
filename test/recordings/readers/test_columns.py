import contextlib
import io
import zipfile

import numpy as np
import pytest

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.readers import numpy_files
from evdistill_core.recordings.writers.npz import NpzWriter

SIZE = {"width": 346, "height": 260}


def read(path, **span):
    with open_recording(path) as recording:
        batches = list(recording.batches(**span))
    events = Events.concatenate([b.events for b in batches])
    return events, Triggers.concatenate([b.triggers for b in batches])


def test_what_is_written_is_read_back_in_pieces(make_events, tmp_path, monkeypatch):
    monkeypatch.setattr(numpy_files, "BATCH_EVENTS", 100)
    events = make_events(np.random.default_rng(0), 1234)
    triggers = Triggers(
        np.array([0, int(events.t_us[500]), int(events.t_us[-1]) + 5], np.int64),
        np.array([0, 3, 1], np.uint8),
        np.array([1, 0, 1], np.uint8),
    )
    path = tmp_path / "a.npz"
    with NpzWriter(path, **SIZE) as writer:
        writer.write(events[:1000], triggers)
        writer.write(events[1000:], Triggers.empty())
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    read_events, read_triggers = read(path)
    assert read_events.equals(events)
    for name in ("t_us", "channel", "edge"):
        assert np.array_equal(getattr(read_triggers, name), getattr(triggers, name))
    with open_recording(path) as recording:
        assert max(len(b.events) for b in recording.batches()) == 100
        assert recording.fraction_read == 1.0
        assert recording.info.warnings == ()
    with np.load(path, allow_pickle=False) as archive:
        assert np.array_equal(archive["t"], events.t_us)


@pytest.mark.parametrize("wrong", [70_000, -3])
def test_an_event_that_is_left_out_says_nothing_of_the_size(tmp_path, wrong):
    path = tmp_path / "a.npz"
    x, y = np.array([1, wrong, 40]), np.array([2, 5, 30])
    np.savez(path, t=np.arange(3) * 1000, x=x, y=y, p=np.ones(3, np.uint8))
    with open_recording(path) as recording:
        assert (recording.info.width, recording.info.height) == (41, 31)
        assert sum(len(b.events) for b in recording.batches()) == 2
        assert any("41x31" in warning for warning in recording.info.warnings)


def test_a_span_is_half_open(tmp_path):
    path = tmp_path / "a.npz"
    events = Events.from_columns([1] * 5, [2] * 5, range(5), [1] * 5, width=8, height=8)
    with NpzWriter(path, width=8, height=8) as writer:
        writer.write(events, Triggers.empty())
    assert read(path, start_us=1, end_us=3)[0].t_us.tolist() == [1, 2]
    assert read(path, start_us=3)[0].t_us.tolist() == [3, 4]
    with open_recording(path) as recording:
        assert list(recording.batches(100, 200)) == []
        with pytest.raises(RecordingError, match=r"3 \.\. 1"):
            recording.batches(3, 1)
        with pytest.raises(RecordingError, match="holds no messages"):
            recording.packets()
        assert list(recording.frames()) == []
    with pytest.raises(RecordingError, match="closed"):
        recording.batches()


def test_a_failed_write_leaves_nothing(make_events, tmp_path):
    def fail():
        with NpzWriter(tmp_path / "a.npz", **SIZE) as writer:
            writer.write(make_events(np.random.default_rng(0), 5), Triggers.empty())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_files_of_others(tmp_path):
    table = np.array([[1.000001, 3, 4, 0], [1.5, 5, 6, 1]])
    np.savez(tmp_path / "table.npz", events=table)
    np.savez_compressed(
        tmp_path / "signed.npz", t=[7, 8], x=[3.0, 5.0], y=np.array([4, 6], np.int8), p=[-1, 1]
    )
    for name, times in (("table", [1_000_001, 1_500_000]), ("signed", [7, 8])):
        events, _ = read(tmp_path / f"{name}.npz")
        assert events.t_us.tolist() == times
        assert events.x.tolist() == [3, 5]
        assert events.y.tolist() == [4, 6]
        assert events.p.tolist() == [0, 1]
        with open_recording(tmp_path / f"{name}.npz") as recording:
            assert (recording.info.width, recording.info.height) == (6, 7)
            assert "6x7" in recording.info.warnings[0]


def test_events_outside_the_stated_frame_are_counted(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, t=[1, 2, 3], x=[-1, 3, 4], y=[0, 0, 0], p=[1, 1, 1], width=4, height=4)
    with open_recording(path) as recording:
        (batch,) = recording.batches()
        assert batch.events.x.tolist() == [3]
        assert recording.counters["out_of_frame"] == 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": [1]}, "has the arrays a; expected"),
        ({"t": [1, 2], "x": [1], "y": [1], "p": [1]}, "one length"),
        ({"t": [1], "x": ["a"], "y": [1], "p": [1]}, "must be numbers"),
        ({"events": [[1, 2, 3]]}, r"\(N, 4\)"),
        ({"t": 1, "x": 1, "y": 1, "p": 1}, "one length"),
        ({"t": [1], "x": [1], "y": [1], "p": [1], "width": 0, "height": 5}, "0x5"),
        ({"t": [1], "x": [1], "y": [1], "p": [1], "width": 9999, "height": 5}, "9999x5"),
        ({"t": [1], "x": [1], "y": [1], "p": [1], "width": [], "height": 5}, "one number each"),
        ({"t": [np.nan], "x": [1], "y": [1], "p": [1]}, "no numbers"),
        ({"t": [1e300], "x": [1], "y": [1], "p": [1]}, "no numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(RecordingError, match=message):
        read(tmp_path / "a.npz")


def test_wild_coordinates_are_counted_and_fractions_told(tmp_path):
    path = tmp_path / "a.npz"
    x = [np.nan, np.inf, -np.inf, -1, 1e9, 2.5, 3]
    np.savez(path, t=range(7), x=x, y=[1] * 7, p=[1] * 7)
    with open_recording(path) as recording:
        (batch,) = recording.batches()
        assert batch.events.x.tolist() == [2, 3]
        assert recording.counters["out_of_frame"] == 5
        assert any("fractions" in w for w in recording.info.warnings)
        assert recording.info.width == 4  # by the events that are kept


def test_nothing_is_unpickled(tmp_path):
    column = np.array([print], dtype=object)
    np.savez(tmp_path / "a.npz", t=column, x=[1], y=[1], p=[1])
    with pytest.raises(RecordingError, match="must be numbers"):
        read(tmp_path / "a.npz")


def test_cut_off_archives_are_refused(make_events, tmp_path):
    path = tmp_path / "a.npz"
    with NpzWriter(path, **SIZE) as writer:
        writer.write(make_events(np.random.default_rng(0), 500), Triggers.empty())
    whole = path.read_bytes()
    for size in (10, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:size])
        with pytest.raises(RecordingError, match="cut off or damaged"):
            read(path)
    damaged = bytearray(whole)
    damaged[100:140] = bytes(40)
    path.write_bytes(damaged)
    with pytest.raises(RecordingError, match=r"cut off|damaged|no plain NumPy array"):
        read(path)


@pytest.mark.parametrize("seed", range(60))
def test_flipped_bytes_are_refused_or_harmless(make_events, tmp_path, seed):
    path = tmp_path / "a.npz"
    with NpzWriter(path, **SIZE) as writer:
        writer.write(make_events(np.random.default_rng(0), 100), Triggers.empty())
    damaged = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    at = int(rng.integers(4, len(damaged) - 4))
    damaged[at : at + 4] = rng.bytes(4)
    if seed % 3 == 0:
        del damaged[at : at + 2]
    path.write_bytes(damaged)
    with contextlib.suppress(RecordingError):
        read(path)


def test_a_column_shorter_than_its_header_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, t=np.arange(100), x=[1] * 100, y=[1] * 100, p=[1] * 100, width=2, height=2)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["x.npy"] = members["x.npy"][:-50]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(RecordingError, match="'x' is cut off"):
        read(path)


def test_real_text_and_npz(shared_data):
    events, _ = read(shared_data / "recordings" / "davis240_slider_50k.txt")
    assert (len(events), int(events.t_us[0]), int(events.p.sum())) == (50_000, 3811, 21_147)
    events, _ = read(shared_data / "recordings" / "davis240_poster.npz")
    assert len(events) == 100_000
