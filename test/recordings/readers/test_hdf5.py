"""HDF5 in the layouts of data sets: made as their tools make them, and damaged."""

import struct
import subprocess
import sys

import numpy as np
import pytest

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.readers import hdf5_base

h5py = pytest.importorskip("h5py")
hdf5plugin = pytest.importorskip("hdf5plugin")


@pytest.fixture
def events(make_events):
    return make_events(np.random.default_rng(2), 30_000, span_us=12_000_000)


def dsec(path, events, *, index=True, offset_us=700_000):
    t = events.t_us - offset_us
    with h5py.File(path, "w") as file:
        for name, column, dtype in (
            ("x", events.x, "u2"), ("y", events.y, "u2"), ("t", t, "u4"), ("p", events.p, "u1"),
        ):  # fmt: skip
            options = hdf5plugin.Blosc(cname="zstd")
            file.create_dataset(f"events/{name}", data=column.astype(dtype), chunks=True, **options)
        file["t_offset"] = np.int64(offset_us)
        if index:
            milliseconds = np.arange(int(t.max()) // 1000 + 1)
            file["ms_to_idx"] = np.searchsorted(t, milliseconds * 1000).astype(np.uint64)


@pytest.mark.parametrize("index", [True, False])
def test_dsec(tmp_path, events, index, monkeypatch, read):
    path = tmp_path / "events"
    dsec(path, events, index=index)
    whole = read(path)
    assert (whole.width, whole.height) == (640, 480)  # by the largest coordinates
    for name in ("x", "y", "t_us", "p"):
        assert np.array_equal(getattr(whole, name), getattr(events, name))
    monkeypatch.setattr(hdf5_base, "BATCH_ROWS", 1000)
    for start, end in ((5_000_500, 5_200_000), (None, 3_000_000), (12_900_000, None), (0, None)):
        keep = np.ones(len(whole), bool) if start is None else whole.t_us >= start
        if end is not None:
            keep &= whole.t_us < end
        assert read(path, start_us=start, end_us=end).equals(whole[keep])
    with open_recording(path) as recording:
        list(recording.batches(start_us=10_000_000))
        assert recording.counters["events"] < len(whole) // 2
        assert recording.info.format == "hdf5-dsec"


def test_an_index_that_lies_is_left_aside(tmp_path, events, read):
    path = tmp_path / "a.h5"
    dsec(path, events)
    with h5py.File(path, "r+") as file:
        file["ms_to_idx"][...] = 10**12
    assert read(path, start_us=5_000_000).equals(read(path)[read(path).t_us >= 5_000_000])
    with h5py.File(path, "r+") as file:
        file["ms_to_idx"][...] = 29_000
    assert read(path, start_us=5_000_000).equals(read(path)[read(path).t_us >= 5_000_000])


def test_mvsec(tmp_path, events, read):
    path = tmp_path / "outdoor_day_data.hdf5"
    t0_us = 1_506_117_895_287_411
    table = np.stack(
        [events.x, events.y, (events.t_us + t0_us) / 1e6, events.p * 2.0 - 1], axis=1
    ).astype(np.float64)
    with h5py.File(path, "w") as file:
        for side in ("left", "right"):
            file[f"davis/{side}/events"] = table
            file[f"davis/{side}/image_raw"] = np.arange(2 * 260 * 346).reshape(2, 260, 346) % 251
            file[f"davis/{side}/image_raw_ts"] = np.array([1.5, 2.5]) + t0_us / 1e6
    with pytest.raises(RecordingError, match="choose one with --topic: davis/left, davis/right"):
        open_recording(path)
    with pytest.raises(RecordingError, match="no stream 'left'"):
        open_recording(path, topic="left")
    found = read(path, topic="davis/left")
    assert (found.width, found.height) == (346, 260)
    assert np.array_equal(found.t_us, events.t_us + t0_us)
    assert np.array_equal(found.p, events.p)
    part = read(path, topic="davis/right", start_us=t0_us + 8_000_000)
    assert part.equals(found[found.t_us >= t0_us + 8_000_000])
    with open_recording(path, topic="davis/left") as recording:
        frames = list(recording.frames())
    assert [f.t_us - t0_us for f in frames] == [1_500_000, 2_500_000]
    assert frames[1].image[0, 5] == (260 * 346 + 5) % 251


def caer_row(kind, payload, overflow=0, size=8):
    head = struct.pack("<hhiiiiii", kind, 1, size, 4, overflow, len(payload) // size, 1, 1)
    return [np.frombuffer(b, np.uint8) for b in (b"1490000000000000", head, payload)]


def test_ddd17_as_recorded(tmp_path, read):
    """Packets in the recorder's own layout, with room made ahead, a picture and damage."""

    def polarity(t_us, x, y, p):
        data = x << 17 | y << 2 | p << 1 | 1
        return np.stack([data, t_us], axis=1).astype("<u4").tobytes()

    rng = np.random.default_rng(0)
    rows, times, expected = [], [], []
    for i in range(200):
        t_us = np.sort(rng.integers(i * 100_000, (i + 1) * 100_000, 50))
        x, y, p = rng.integers(0, 346, 50), rng.integers(0, 260, 50), rng.integers(0, 2, 50)
        overflow = 0 if i < 150 else 1
        rows.append(caer_row(1, polarity(t_us, x, y, p), overflow))
        expected.append((t_us + (overflow << 31), x, y, p))
        times.append(1_490_000_000_000_000 + i)
    picture = (np.arange(260 * 346) * 256 % 65536).astype("<u2").tobytes()
    head = struct.pack("<9I", 0, 0, 777, 0, 0, 0, 0, 0, 0)
    rows += [caer_row(2, head + picture, size=len(head + picture)), caer_row(1, b"12345678")]
    rows[-1][1] = rows[-1][1][:20]
    rows.append(caer_row(2, head + picture[:-8], size=len(head + picture[:-8])))
    times += [5, 6, 7]
    path = tmp_path / "rec.hdf5"
    with h5py.File(path, "w") as file:
        kind = h5py.special_dtype(vlen=np.uint8)
        data = file.create_dataset("dvs/data", (2048, 3), dtype=kind)
        stamps = file.create_dataset("dvs/timestamp", (2048,), dtype=np.int64)
        for i, row in enumerate(rows):
            for k in range(3):
                data[i, k] = row[k]
        stamps[: len(times)] = times
        file["steering_wheel_angle/data"] = np.zeros((4, 2))
    found = read(path)
    t_us, x, y, p = (np.concatenate([e[k] for e in expected]) for k in range(4))
    for column, wanted in ((found.t_us, t_us), (found.x, x), (found.y, y), (found.p, p)):
        assert np.array_equal(column, wanted)
    start = int(t_us[8000])
    with open_recording(path) as recording:
        part = [b.events for b in recording.batches(start_us=start)]
        assert recording.counters["events"] < 3000
        assert recording.counters["damaged_messages"] >= 1
        (frame,) = recording.frames()
        assert recording.left_out_frames == {"the size of an image is not 346x260": 1}
        assert "1 camera image left out" in recording.info.warnings[-1]
    assert Events.concatenate(part).equals(found[found.t_us >= start])
    assert frame.t_us == 777
    assert frame.image[0, :300].tolist() == [i % 256 for i in range(300)]


def test_the_export_of_ddd20(tmp_path, events, read):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        columns = [events.t_us, events.x, events.y, events.p]
        file["event"] = np.stack(columns, axis=1).astype(np.uint32)
        file["frame"] = np.full((1, 260, 346), 9, np.uint8)
        file["frame_ts"] = np.array([[2.5]], np.float32)
    assert read(path).equals(events)
    with open_recording(path) as recording:
        (frame,) = recording.frames()
    assert (frame.t_us, int(frame.image.max())) == (2_500_000, 9)


def test_damage_is_told(tmp_path, events, read):
    path = tmp_path / "a.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(RecordingError, match="cut off or damaged"):
        open_recording(path)
    dsec(path, events)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(RecordingError, match="cut off or damaged"):
        read(path)
    for name, content in (
        ("other/data", np.zeros(3)),
        ("event", np.zeros((3, 5))),
        ("davis/left/events", np.zeros(7)),
    ):
        with h5py.File(path, "w") as file:
            file[name] = content
        with pytest.raises(RecordingError, match=r"no events in a layout|must be"):
            open_recording(path)
    with h5py.File(path, "w") as file:
        for name, length in (("x", 3), ("y", 3), ("t", 4), ("p", 3)):
            file[name] = np.zeros(length)
    with pytest.raises(RecordingError, match="one length"):
        open_recording(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("event", (2**31, 4), "u4", chunks=(2**28, 4))
    with pytest.raises(RecordingError, match="chunks"):
        open_recording(path)


@pytest.mark.parametrize("seed", range(6))
def test_flipped_bits_are_ours_to_refuse(tmp_path, events, seed, read):
    rng = np.random.default_rng(seed)
    path = tmp_path / "a.h5"
    dsec(path, events[:500])
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(20):
        damaged = whole.copy()
        at = rng.integers(0, len(whole), 8)
        damaged[at] ^= rng.integers(1, 256, 8).astype(np.uint8)
        path.write_bytes(damaged.tobytes())
        try:
            found = read(path)
        except RecordingError:
            continue
        assert (found.x < found.width).all()
        assert (found.y < found.height).all()


def test_frames_of_other_kinds_are_brought_to_8_bits_or_left_out_and_said(tmp_path, events):
    levels = np.arange(256).repeat(2).reshape(32, 16)
    kinds = {"u8": levels.astype(np.uint8), "u16": levels.astype(np.uint16) << 8, "i64": levels}
    kinds |= {"f4": levels.astype(np.float32), "minus": levels - 300, "4d": levels[:, :, None]}
    for name, stored in kinds.items():
        with h5py.File(tmp_path / f"{name}.hdf5", "w") as file:
            columns = [events.t_us, events.x, events.y, events.p]
            file["event"] = np.stack(columns, axis=1).astype(np.uint32)
            file["frame"] = stored[None]
            file["frame_ts"] = np.array([[2.5]], np.float32)
        with open_recording(tmp_path / f"{name}.hdf5") as recording:
            frames = list(recording.frames())
            lost = sum(recording.left_out_frames.values())
        if name in {"f4", "minus", "4d"}:
            assert (frames, lost) == ([], 1)
        else:
            assert lost == 0
            np.testing.assert_array_equal(frames[0].image, levels)


def test_a_dataset_of_a_type_that_numpy_lacks_is_passed_over(tmp_path, events, read):
    """Found by the fuzzer: h5py's ValueError came out, whatever the events were."""
    h5py = pytest.importorskip("h5py")
    kind = h5py.h5t.IEEE_F64LE.copy()
    kind.set_fields(63, 52, 11, 0, 52)
    kind.set_ebias(1 << 20)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, column in (("x", events.x), ("y", events.y), ("t", events.t_us), ("p", events.p)):
            file[f"events/{name}"] = column
        file["events/width"], file["events/height"] = 346, 260
        h5py.h5d.create(file.id, b"gains", kind, h5py.h5s.create_simple((3,)))
    assert read(tmp_path / "a.h5").equals(events)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        group = file.create_group("events")
        for name in "xytp":
            h5py.h5d.create(group.id, name.encode(), kind, h5py.h5s.create_simple((3,)))
    with pytest.raises(RecordingError, match=r"b\.h5"):
        read(tmp_path / "b.h5")


def test_a_heap_of_zeros_is_told_and_does_not_hang(tmp_path, events, read):
    """Found by the fuzzer: the HDF5 library walks on the spot, in C, where nothing can stop it."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, column in (("x", events.x), ("y", events.y), ("t", events.t_us), ("p", events.p)):
            file[f"events/{name}"] = column
        file["events"].attrs["geometry"] = "346x260"
    assert read(path).equals(events)
    whole = path.read_bytes()
    heap = whole.index(b"GCOL")
    # Zeros; an object that reaches beyond the heap; a heap that reaches beyond the file.
    for first, damage in ((16, bytes(40)), (24, b"\xff" * 6), (8, b"\xff" * 4)):
        at = heap + first
        path.write_bytes(whole[:at] + damage + whole[at + len(damage) :])
        # In a process of its own: a hang could not be ended from here.
        code = f"from evdistill_core import open_recording; open_recording({str(path)!r})"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1
        assert f"RecordingError: {path} is cut off or damaged (HDF5:" in done.stderr


def test_a_file_that_is_still_read_at_the_end_of_the_program_does_no_harm(tmp_path):
    """HDF5 called back into Python after its end."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("dvs/data", (300, 3), dtype=h5py.special_dtype(vlen=np.uint8))
        for i in range(300):
            event = struct.pack("<II", i % 300 << 17 | 5 << 2 | 1, i * 100)
            for k, part in enumerate(caer_row(1, event)):
                data[i, k] = part
        file["dvs/timestamp"] = np.arange(1, 301) * 100
    code = f"""
from evdistill_core import open_recording
batches = open_recording({str(path)!r}).batches()
print(next(batches))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("EventBatch")
