"""`evdistill record` from dv-processing's own network streams, and from the fake camera."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time

import numpy as np
import pytest

from evdistill_core.cameras.address import CameraAddress
from evdistill_core.cameras.camera import Camera
from evdistill_core.cameras.record import (
    NothingRecordedError,
    RecordConfig,
    Recorder,
    check_output,
)
from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import CameraError, OutputError, RecordingError
from evdistill_core.recordings.base import Frame
from evdistill_core.recordings.convert import ConvertConfig
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.writers.aedat4 import Aedat4Writer

pytestmark = pytest.mark.slow

FORMATS = ("mcap", "aedat4", "h5", "npz")
FAKE_EVENTS = 20_000
T0_US = 1_700_000_000_000_000


def events_of(path):
    with open_recording(path) as recording:
        return Events.concatenate([b.events for b in recording.batches()])


def frames_of(path):
    with open_recording(path) as recording:
        return list(recording.frames())


def triggers_of(path):
    with open_recording(path) as recording:
        return Triggers.concatenate([b.triggers for b in recording.batches()])


def left_in(folder):
    """Everything but recordings: parts of files, column folders."""
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


def record_until(camera, target, done, **options):
    """Record in this process until ``done`` says so; the camera is closed afterwards."""
    with camera:
        end_s = time.monotonic() + 60

        def look(status):
            assert time.monotonic() < end_s, f"only {status}"
            if done(status):
                recorder.stop()

        recorder = Recorder(camera, target, RecordConfig(**options), on_status=look)
        return recorder.run()


@pytest.fixture(scope="session")
def film(tmp_path_factory):
    """A small AEDAT4 file with events, pictures and edges, at today's times as cameras have."""
    rng = np.random.default_rng(0)
    count = 60_000
    events = Events.from_columns(
        rng.integers(0, 346, count), rng.integers(0, 260, count),
        T0_US + np.sort(rng.integers(0, 3_000_000, count)), rng.integers(0, 2, count),
        width=346, height=260,
    )  # fmt: skip
    edges = Triggers(
        T0_US + np.array([500, 900_000, 2_000_000]), np.zeros(3, np.uint8),
        np.array([1, 0, 1], np.uint8),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("film") / "film.aedat4"
    with Aedat4Writer(path, width=346, height=260, frame_size=(346, 260)) as writer:
        for start in range(0, count, 500):
            writer.write(events[start : start + 500], Triggers.empty())
        writer.write(Events.empty(346, 260), edges)
        for i in range(5):
            image = rng.integers(0, 256, (260, 346)).astype(np.uint8)
            t_us = T0_US + i * 600_000
            writer.write_frame(Frame(image, t_us, t_us * 1000), t_us)
    return path


def sockets(tmp_path):
    return [str(tmp_path / f"{name}.sock") for name in ("events", "frames", "triggers")]


@pytest.mark.parametrize("suffix", FORMATS)
def test_all_that_a_camera_sends_is_in_the_file(sender, film, tmp_path, suffix):
    events, frames, triggers = sockets(tmp_path)
    sender(film, "--events", events, "--frames", frames, "--triggers", triggers)
    camera = Camera(CameraAddress("unix", paths=(events, frames, triggers)))
    target = tmp_path / f"out.{suffix}"
    wanted = {"events": 60_000, "frames": 5, "triggers": 3}
    status = record_until(camera, target, lambda s: s.counters == wanted)
    assert events_of(target).equals(events_of(film))
    result = status.result
    if suffix in {"mcap", "aedat4"}:
        assert result.frames == 5
        assert all(
            np.array_equal(a.image, b.image)
            for a, b in zip(frames_of(target), frames_of(film), strict=True)
        )
    else:
        assert result.dropped_frames == 5
    if suffix == "mcap":
        assert result.dropped_triggers == 3
    else:
        found, true = triggers_of(target), triggers_of(film)
        assert np.array_equal(found.t_us, true.t_us)
        assert np.array_equal(found.edge, true.edge)
    assert left_in(tmp_path) == []


def test_a_bag_in_evt3_holds_the_edges_too(sender, film, tmp_path):
    events, _, triggers = sockets(tmp_path)
    sender(film, "--events", events, "--triggers", triggers)
    camera = Camera(CameraAddress("unix", paths=(events, triggers)))
    target = tmp_path / "out.mcap"
    wanted = {"events": 60_000, "triggers": 3}
    output = ConvertConfig(encoding="evt3")
    status = record_until(camera, target, lambda s: s.counters == wanted, output=output)
    assert (status.result.triggers, status.result.dropped_triggers) == (3, 0)
    found, true = triggers_of(target), triggers_of(film)
    assert len(events_of(target)) == 60_000
    assert np.array_equal(found.t_us % 2**24, true.t_us % 2**24)
    assert np.array_equal(found.edge, true.edge)


@pytest.mark.parametrize("compression", ["NONE", "LZ4", "ZSTD"])
def test_a_real_recording_comes_through_exactly(sender, shared_data, tmp_path, compression):
    street = shared_data / "recordings" / "davis346_street_frames.aedat4"
    events, frames, _ = sockets(tmp_path)
    sender(street, "--events", events, "--frames", frames, "--compression", compression)
    true = events_of(street)
    camera = Camera(CameraAddress("unix", paths=(events, frames)))
    count = len(frames_of(street))
    target = tmp_path / "street.mcap"
    record_until(
        camera, target, lambda s: s.result.events == len(true) and s.result.frames == count
    )
    assert events_of(target).equals(true)
    pictures = frames_of(target)
    assert len(pictures) == count
    assert all(abs(p.stamp_ns - time.time_ns()) < 600e9 for p in pictures), "not host time"


def test_host_stamps_follow_the_arrival(open_fake, tmp_path):
    began_ns = time.time_ns()
    record_until(open_fake("one"), tmp_path / "out.mcap", lambda s: s.result.events == FAKE_EVENTS)
    with open_recording(tmp_path / "out.mcap") as recording:
        stamps = [b.stamp_ns for b in recording.batches()]
    assert stamps == sorted(stamps)
    assert began_ns - 1e9 < stamps[0] < time.time_ns()


def test_command_and_ctrl_c(sender, film, record, tmp_path):
    """The normal way: the file is whole, and the exit code is 0."""
    events, *_ = sockets(tmp_path)
    sending = sender(film, "--events", events, "--pace-s", 0.005, "--loops", 1000)
    target = tmp_path / "out.aedat4"
    process = record("--camera", f"unix://{events}", target)
    wait_for_events(tmp_path, ".part.aedat4")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # an impatient second one changes nothing
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    found, true = events_of(target), events_of(film)
    count = min(len(found), len(true))
    assert count > 0
    assert found[:count].equals(true[:count])
    assert f"{len(found):,} events" in out
    assert "346x260" in err
    assert left_in(tmp_path) == []
    sending.kill()


def wait_for_events(folder, suffix, size=20_000, timeout_s=60):
    end_s = time.monotonic() + timeout_s
    while not any(p.stat().st_size > size for p in folder.glob(f".*{suffix}")):
        assert time.monotonic() < end_s, "nothing is written"
        time.sleep(0.05)


def test_the_command_ends_with_what_it_left_out(fake, record, tmp_path):
    fake("one outside")
    target = tmp_path / "out.npz"
    process = record("--camera", "inivation", target, "--duration", 1)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    kept = FAKE_EVENTS - 20 * 30
    assert (
        f"note: 600 of {kept + 600:,} events left out: 400 outside the sensor's frame, "
        "200 with impossible times" in err
    )
    assert len(events_of(target)) == kept


def test_duration_ends_it(sender, film, record, tmp_path):
    events, *_ = sockets(tmp_path)
    sender(film, "--events", events, "--pace-s", 0.005, "--loops", 1000)
    target = tmp_path / "out.npz"
    process = record("--camera", f"unix://{events}", target, "--duration", 1)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert len(events_of(target)) > 0
    assert "out.npz" in out


def test_over_tcp_and_the_sender_is_killed(film, record, sender, tmp_path, free_port):
    sending = sender(film, "--events", free_port, "--pace-s", 0.005, "--loops", 1000)
    target = tmp_path / "out.mcap"
    process = record("--camera", f"tcp://localhost:{free_port}", target)
    wait_for_events(tmp_path, ".part.mcap", size=0)
    sending.process.stdout.flush()
    time.sleep(1)  # let some come
    sending.kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "the other side closed the stream. What came before is kept" in err
    found, true = events_of(target), events_of(film)
    count = min(len(found), len(true))
    assert count > 0
    assert found[:count].equals(true[:count])


def test_nothing_arrives(sender, film, record, tmp_path):
    events, *_ = sockets(tmp_path)
    sender(film, "--events", events, "--batches", 0)
    process = record("--camera", f"unix://{events}", tmp_path / "out.mcap", "--timeout", 3)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "is open, but no event came within 3 s" in err
    assert not (tmp_path / "out.mcap").exists()
    assert left_in(tmp_path) == []


def test_stopped_before_the_first_event(open_fake, tmp_path):
    camera = open_fake("one quiet")
    with pytest.raises(NothingRecordedError, match="nothing was recorded"):
        record_until(camera, tmp_path / "out.mcap", lambda s: True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("word", ["unplug", "crash"])
def test_a_camera_that_goes_away_leaves_a_whole_file(open_fake, tmp_path, suffix, word):
    target = tmp_path / f"out.{suffix}"
    with pytest.raises(CameraError, match=r"What came before is kept: .*out"):
        record_until(open_fake(f"one {word}"), target, lambda s: False)
    found = events_of(target)
    assert len(found) == FAKE_EVENTS if word == "unplug" else len(found) > 0
    assert np.array_equal(found.t_us, T0_US + np.arange(len(found)) * 10)
    assert left_in(tmp_path) == []


def test_a_bag_does_not_join_over_a_reset(open_fake, tmp_path):
    record_until(
        open_fake("one reset"), tmp_path / "a.mcap", lambda s: s.result.events == FAKE_EVENTS
    )
    with open_recording(tmp_path / "a.mcap") as recording:
        breaks = [b.discontinuity for b in recording.batches() if b.discontinuity]
    assert len(events_of(tmp_path / "a.mcap")) == FAKE_EVENTS
    assert len(breaks) == 1


def test_a_reset_ends_what_cannot_hold_it(open_fake, tmp_path):
    target = tmp_path / "out.h5"
    with pytest.raises(RecordingError, match=r"DSEC file holds times.*is kept"):
        record_until(open_fake("one reset"), target, lambda s: False)
    assert len(events_of(target)) == FAKE_EVENTS // 2


def test_losses_are_gaps_in_the_bag(open_fake, tmp_path):
    target = tmp_path / "out.mcap"
    camera = open_fake("one flood", queue_bytes=1 << 20)
    with camera:
        time.sleep(2)  # as a disk that does not take anything
        recorder = Recorder(camera, target, RecordConfig())
        recorder._on_status = lambda s: (
            recorder.stop()
            if s.result.events + s.counters.get("lost_events", 0) == 401 * 20_000
            else None
        )
        status = recorder.run()
    assert status.counters["lost_events"] > 0
    with open_recording(target) as recording:
        assert sum(len(b.events) for b in recording.batches()) == status.result.events
        assert recording.counters["seq_gaps"] >= 1


def test_a_disk_that_gets_full_ends_it_in_order(open_fake, tmp_path):
    target = tmp_path / "out.mcap"
    room = iter([10**9, 10])
    with (
        open_fake("one") as camera,
        pytest.raises(RecordingError, match="MB are kept free") as error,
    ):
        Recorder(camera, target, RecordConfig(), free_bytes=lambda _: next(room)).run()
    assert "is kept" in str(error.value)
    assert len(events_of(target)) > 0


def test_no_room_from_the_start(open_fake, tmp_path):
    with open_fake("one") as camera, pytest.raises(RecordingError, match="Nothing was recorded"):
        Recorder(camera, tmp_path / "out.mcap", RecordConfig(), free_bytes=lambda _: 0).run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_write_that_fails(sender, film, record, tmp_path, suffix):
    """As a disk that is full, or a quota: no file may grow beyond a few hundred kB."""
    events, *_ = sockets(tmp_path)
    sender(film, "--events", events, "--loops", 1000)
    target = tmp_path / f"out.{suffix}"
    arguments = ("--camera", f"unix://{events}", target, "--packet-ms", 5)
    process = record(*arguments, before="ulimit -f 1500;")
    _, err = process.communicate(timeout=100)
    # HDF5's own library crashes at its end once it could not write; our message comes before.
    assert process.returncode == 2 or (suffix == "h5" and process.returncode < 0), err
    assert "cannot be written" in err
    assert not target.exists()
    assert left_in(tmp_path) == []
    if suffix in {"h5", "npz"}:
        assert "Nothing is kept" in err
        return
    kept = tmp_path / f"out.cut-off.{suffix}"
    assert str(kept) in err
    found, true = events_of(kept), events_of(film)
    count = min(len(found), len(true))
    assert count > 10_000
    assert found[:count].equals(true[:count])


def test_names_are_checked_before_the_camera_is_opened(record, tmp_path):
    there = tmp_path / "there.mcap"
    there.write_bytes(b"precious")
    for arguments, text in (
        (("--camera", "inivaton", tmp_path / "a.mcap"), "'inivaton' names no camera"),
        (("--camera", "inivation", tmp_path / "a.avi"), "cannot write '.avi' files"),
        (("--camera", "inivation", there), "is there already"),
        (("--camera", "inivation", tmp_path / "a.mcap", "--duration", 0), "duration must be above"),
        (("--camera", "inivation", tmp_path / "a.mcap", "--encoding", "raw"), "is not one of"),
        ((), "missing option"),
    ):
        process = record(*arguments)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2
        assert text in err
    assert there.read_bytes() == b"precious"


def test_what_may_be_replaced(tmp_path):
    path = tmp_path / "deep" / "a.mcap"
    check_output(path, overwrite=False)
    path.parent.mkdir()
    path.touch()
    check_output(path, overwrite=True)
    with pytest.raises(OutputError, match="--overwrite"):
        check_output(path, overwrite=False)
    with pytest.raises(OutputError, match="cannot be made"):
        check_output(path / "b.mcap", overwrite=False)


def test_pictures_are_thinned_out(open_fake, tmp_path):
    for suffix in ("mcap", "aedat4"):
        for step, kept in ((2, 2), (0, 0)):
            target = tmp_path / f"{suffix}{step}.{suffix}"
            status = record_until(
                open_fake("one"), target,
                lambda s: s.result.events == FAKE_EVENTS and s.counters["frames"] == 3,
                output=ConvertConfig(frame_step=step),
            )  # fmt: skip
            assert (status.result.frames, status.result.dropped_frames) == (kept, 3 - kept)
            assert len(frames_of(target)) == kept


def test_the_camera_without_a_library(fake, record, tmp_path):
    fake("missing")
    process = record("--camera", "inivation", tmp_path / "a.mcap")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert 'pip install "evdistill_ros[inivation]"' in err
    assert os.listdir(tmp_path) == []  # noqa: PTH208


class Relay:
    """Stands between sender and camera and damages some bytes of every thousand."""

    def __init__(self, to_path, at_path, clean_bytes):
        self._to, self._clean = to_path, clean_bytes
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(at_path)
        self._server.listen()
        self.has_damaged = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with self._server, self._server.accept()[0] as down, socket.socket(socket.AF_UNIX) as up:
            up.connect(self._to)
            passed = 0
            with contextlib.suppress(OSError):
                while data := bytearray(up.recv(65536)):
                    if passed < self._clean <= passed + len(data):
                        time.sleep(2)  # what is sound shall have arrived before the rest kills
                    for i in range(max(self._clean - passed, 0), len(data)):
                        if (passed + i) % 1000 < 20:
                            data[i] ^= 0x55
                    passed += len(data)
                    down.sendall(data)
                    if passed > self._clean:
                        self.has_damaged.set()


@pytest.mark.parametrize("compression", ["NONE", "LZ4", "ZSTD"])
def test_a_damaged_stream_costs_only_its_own_process(sender, film, record, tmp_path, compression):
    """dv-processing crashes or hangs on it; what came before is a whole file all the same."""
    events, relayed, _ = sockets(tmp_path)
    sender(film, "--events", events, "--compression", compression, "--pace-s", 0.002)
    relay = Relay(events, relayed, 200_000)
    target = tmp_path / "out.mcap"
    process = record("--camera", f"unix://{relayed}", target)
    assert relay.has_damaged.wait(60)
    try:
        _, err = process.communicate(timeout=3)
    except subprocess.TimeoutExpired:  # it hangs, and nothing tells
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    # Ctrl-C may meet an interpreter that has said why it ends and is about to.
    ended = {0, 2, -signal.SIGINT} if "error:" in err else {0, 2}
    assert process.returncode in ended, err
    assert "Traceback" not in err
    found, true = events_of(target), events_of(film)
    assert 1000 < len(found) <= len(true)
    assert found[:1000].equals(true[:1000])
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("suffix", ["mcap", "aedat4"])
def test_a_killed_recorder_leaves_what_can_be_read(sender, film, record, tmp_path, suffix):
    events, *_ = sockets(tmp_path)
    sender(film, "--events", events, "--pace-s", 0.002, "--loops", 1000)
    process = record("--camera", f"unix://{events}", tmp_path / f"out.{suffix}")
    # A bag's chunks are written when they are full.
    wait_for_events(tmp_path, f".part.{suffix}", size=400_000)
    process.kill()
    process.communicate()
    (part,) = tmp_path.glob(f".out.*.part.{suffix}")
    found, true = events_of(part), events_of(film)
    count = min(len(found), len(true))
    assert count > 10_000
    assert found[:count].equals(true[:count])
