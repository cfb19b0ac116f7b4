import hashlib
import struct

import numpy as np
import pytest

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.readers import aedat4
from evdistill_core.recordings.readers.aedat4_file import Aedat4File
from evdistill_core.recordings.writers.aedat4 import Aedat4Writer

STREET = "recordings/davis346_street_frames.aedat4"
SHORT = "recordings/davis346_street_short.aedat4"


def read(path, **span):
    with open_recording(path) as recording:
        return Events.concatenate([b.events for b in recording.batches(**span)])


@pytest.mark.parametrize(
    ("name", "events", "width", "height", "frames"),
    [
        ("davis346_street_frames", 78_830, 346, 260, 59),
        ("davis346_street_short", 6_676, 346, 260, 4),
        ("davis346_robot_arm", 117_667, 346, 260, 3),
        ("dvxplorer_person", 111_954, 320, 240, 0),
    ],
)
def test_real_recordings(shared_data, name, events, width, height, frames):  # noqa: PLR0917
    with open_recording(shared_data / "recordings" / f"{name}.aedat4") as recording:
        assert (recording.info.format, recording.info.topic) == ("aedat4", "events")
        assert (recording.info.width, recording.info.height) == (width, height)
        batches = list(recording.batches())
        assert sum(len(b.events) for b in batches) == events == recording.counters["events"]
        assert all(b.stamp_ns == int(b.events.t_us[-1]) * 1000 for b in batches)
        pictures = list(recording.frames())
    assert len(pictures) == frames
    assert all(f.image.shape == (height, width) and f.image.dtype == np.uint8 for f in pictures)
    assert all(f.stamp_ns == f.t_us * 1000 for f in pictures)


# SHA3-224 of the columns and of all pixels of this file as the `aedat` library (Rust) reads them,
# from its own tests: tests/assets.py of github.com/neuromorphicsystems/aedat at 40b5236.
DIGESTS = {
    "t_us": ("<u8", "f1e093cad5afb6ecb971dfa2ef7646ab4ae0f467f73a48804e40bb68"),
    "x": ("<u2", "1d8ea97b0febadfde24dd0b9e608682fc6934fc88656823b15f0e7a7"),
    "y": ("<u2", "18f89da35f8f10b24c3407b03aa7f82bdd7c8e6ab5369e2c30f8bad0"),
    "p": ("?", "6f99cf01187da8a05e1a032f3782de51b87e51bdc31356669bdd7cb9"),
}
FRAMES_DIGEST = "6dbd0c0ea251788515bce54edf50b9f29d1995a0330a8b623504379b"


def test_an_independent_reader_finds_the_same_events_and_pixels(shared_data):
    events = read(shared_data / STREET)
    for name, (dtype, digest) in DIGESTS.items():
        column = getattr(events, name).astype(dtype).tobytes()
        assert hashlib.sha3_224(column).hexdigest() == digest
    with open_recording(shared_data / STREET) as recording:
        frames = list(recording.frames())
    pixels = b"".join(f.image.tobytes() for f in frames)
    assert hashlib.sha3_224(pixels).hexdigest() == FRAMES_DIGEST
    assert abs(np.diff([f.t_us for f in frames]) - 40_000).max() <= 1  # 25 Hz


def test_iterations_start_afresh_and_spans_are_parts_of_the_whole(shared_data):
    whole = read(shared_data / SHORT)
    first = int(whole.t_us[0])
    part = read(shared_data / SHORT, start_us=first + 50_000, end_us=first + 90_000)
    keep = (whole.t_us >= first + 50_000) & (whole.t_us < first + 90_000)
    assert part.equals(whole[keep])
    with open_recording(shared_data / SHORT) as recording:
        one = next(recording.batches())
        assert next(recording.batches()).events.equals(one.events)


def test_a_span_is_entered_in_the_middle(tmp_path, monkeypatch):
    """A minute in packets of 20 ms; between start and file's begin only samples are unpacked."""
    monkeypatch.setattr(aedat4, "SEEK_SAMPLES", 50)
    rng = np.random.default_rng(0)
    count = 60_000
    t_us = np.sort(rng.integers(10**15, 10**15 + 60_000_000, count))
    events = Events.from_columns(
        rng.integers(0, 64, count), rng.integers(0, 48, count), t_us, rng.integers(0, 2, count),
        width=64, height=48,
    )  # fmt: skip
    path = tmp_path / "a.aedat4"
    with Aedat4Writer(path, width=64, height=48) as writer:
        for part in range(0, count, 20):
            writer.write(events[part : part + 20], Triggers.empty())
    whole = read(path)
    assert whole.equals(events)
    unpacked = []
    original = Aedat4File._table
    monkeypatch.setattr(
        Aedat4File, "_table", lambda self, *a: unpacked.append(1) or original(self, *a)
    )
    start_us = 10**15 + 45_000_000
    assert read(path, start_us=start_us).equals(whole[t_us >= start_us])
    assert len(unpacked) < count // 20 // 2
    with open_recording(path) as recording:
        assert list(recording.batches(start_us=10**15 + 70_000_000)) == []


@pytest.mark.parametrize("size", [14, 100, 3000])
def test_files_cut_off_in_their_header_are_refused_in_one_line(shared_data, tmp_path, size):
    path = tmp_path / "a.aedat4"
    path.write_bytes((shared_data / SHORT).read_bytes()[:size])
    with pytest.raises(RecordingError, match="cut off or damaged") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_files_cut_off_later_are_read_as_far_as_they_go(shared_data, tmp_path):
    path = tmp_path / "a.aedat4"
    path.write_bytes((shared_data / SHORT).read_bytes()[:200_000])
    part, whole = read(path), read(shared_data / SHORT)
    assert 0 < len(part) < len(whole)
    assert part.equals(whole[: len(part)])
    with open_recording(path) as recording:
        assert "ends before its table of contents" in recording.info.warnings[0]
        assert len(list(recording.frames())) == 1
        assert "from byte 112276 of 200000 on" in recording.info.warnings[1]


@pytest.mark.parametrize(
    "name", ["davis346_street_short", "davis346_robot_arm", "dvxplorer_person"]
)
def test_the_vendors_library_reads_the_same(shared_data, name):
    dv = pytest.importorskip("dv_processing")
    path = shared_data / "recordings" / f"{name}.aedat4"
    theirs = dv.io.MonoCameraRecording(str(path))
    with open_recording(path) as recording:
        for batch in recording.batches():
            expected = theirs.getNextEventBatch().numpy()
            for ours, column in (("t_us", "timestamp"), ("x", "x"), ("y", "y"), ("p", "polarity")):
                assert np.array_equal(getattr(batch.events, ours), expected[column])
        assert theirs.getNextEventBatch() is None
        for frame in recording.frames():
            expected = theirs.getNextFrame()
            assert frame.t_us == expected.timestamp
            assert np.array_equal(frame.image, expected.image)


def test_a_stream_that_is_not_there_is_named(shared_data):
    with pytest.raises(RecordingError, match="no event stream 'frames'; it has: events"):
        open_recording(shared_data / SHORT, topic="frames")


@pytest.fixture
def made(tmp_path):
    return write_made(tmp_path)


def write_made(tmp_path, compression="LZ4"):
    """Write a file with the vendor's own writer: events, a grey and a colour frame, triggers."""
    dv = pytest.importorskip("dv_processing")
    path = tmp_path / "made.aedat4"
    config = dv.io.MonoCameraWriter.Config("made")
    config.compression = getattr(dv.CompressionType, compression)
    config.addEventStream((32, 16))
    config.addFrameStream((32, 16))
    config.addTriggerStream()
    writer = dv.io.MonoCameraWriter(str(path), config)
    store = dv.EventStore()
    for i in range(1000):
        store.push_back(10**15 + 100 * i, i % 32, i % 16, i % 3 == 0)
    writer.writeEvents(store)
    grey = np.arange(512, dtype=np.uint8).reshape(16, 32)
    writer.writeFrame(dv.Frame(10**15 + 7, grey))
    writer.writeFrame(dv.Frame(10**15 + 9, np.stack([grey, grey + 1, grey + 2], axis=2)))
    kinds = dv.TriggerType
    for t_us, kind in (
        (-5, kinds.EXTERNAL_SIGNAL_RISING_EDGE),
        (50_000, kinds.APS_FRAME_START),
        (60_000, kinds.EXTERNAL_SIGNAL_FALLING_EDGE),
        (60_000, kinds.EXTERNAL_SIGNAL_PULSE),
        (10**6, kinds.EXTERNAL_SIGNAL_RISING_EDGE),
    ):
        writer.writeTrigger(dv.Trigger(10**15 + t_us, kind))
    del writer
    return path


def test_a_file_of_the_vendors_writer(made):
    events = read(made)
    assert (events.width, events.height, len(events)) == (32, 16, 1000)
    i = np.arange(1000)
    assert np.array_equal(events.t_us, 10**15 + 100 * i)
    assert np.array_equal(events.x, i % 32)
    assert np.array_equal(events.y, i % 16)
    assert np.array_equal(events.p, i % 3 == 0)
    with open_recording(made) as recording:
        triggers = Triggers.concatenate([b.triggers for b in recording.batches()])
        frames = list(recording.frames())
    assert (triggers.t_us - 10**15).tolist() == [-5, 60_000, 60_000, 10**6]
    assert triggers.edge.tolist() == [1, 0, 1, 1]
    grey = np.arange(512, dtype=np.uint8).reshape(16, 32)
    assert np.array_equal(frames[0].image, grey)
    assert np.array_equal(frames[1].image, np.stack([grey + 2, grey + 1, grey], axis=2))  # RGB
    assert [f.t_us - 10**15 for f in frames] == [7, 9]


@pytest.mark.parametrize("name", ["made", "made.mcap", "made.AEDAT4"])
def test_another_name_does_no_harm(made, name):
    renamed = made.rename(made.parent / name)
    with open_recording(renamed) as recording:
        assert recording.info.format == "aedat4"
        assert recording.info.path == renamed
        assert len(list(recording.frames())) == 2
    assert len(read(renamed)) == 1000


def test_every_trigger_comes_once_and_beside_its_events(made):
    with open_recording(made) as recording:
        for batch in recording.batches():
            if len(batch.events) and len(batch.triggers):
                assert batch.triggers.t_us.max() <= batch.events.t_us.max()


@pytest.mark.parametrize("size", [14, 60, 300])
def test_made_files_cut_off_in_their_header_are_refused(made, size):
    made.write_bytes(made.read_bytes()[:size])
    with pytest.raises(RecordingError, match="cut off or damaged"):
        open_recording(made)


@pytest.mark.parametrize("compression", ["NONE", "LZ4", "LZ4_HIGH", "ZSTD", "ZSTD_HIGH"])
def test_flipped_bytes_are_told_or_refused(tmp_path, compression):
    path = write_made(tmp_path, compression)
    whole = path.read_bytes()
    intact = read(path)
    assert len(intact) == 1000
    rng = np.random.default_rng(0)
    refused = told = 0
    for _ in range(300):
        damaged = bytearray(whole)
        at = int(rng.integers(14, len(whole) - 4))
        damaged[at : at + 4] = rng.bytes(4)
        path.write_bytes(damaged)
        try:
            with open_recording(path) as recording:
                events = sum(len(b.events) for b in recording.batches())
                list(recording.frames())
                told += bool(recording.info.warnings)
                lost = 1000 - events - recording.counters.get("out_of_frame", 0)
                assert lost == 0 or recording.info.warnings
        except RecordingError:
            refused += 1
    assert refused
    assert told


def test_a_damaged_packet_is_left_out_and_the_rest_read(made):
    whole = bytearray(made.read_bytes())
    (length,) = struct.unpack_from("<I", whole, 14)
    first = 18 + length
    whole[first + 8 : first + 12] = b"\0\0\0\0"  # the magic of an LZ4 frame
    made.write_bytes(whole)
    with open_recording(made) as recording:
        events = [b.events for b in recording.batches()]
        list(recording.frames())
        assert f"left out: 1, the first at byte {first}" in recording.info.warnings[0]
        lost = recording.counters.get("damaged_messages", 0)
    assert sum(map(len, events)) == (0 if lost else 1000)
