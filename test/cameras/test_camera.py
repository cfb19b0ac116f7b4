"""The camera's process from outside: what it gives, and every way in which it can end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evdistill_core.cameras import camera as camera_module
from evdistill_core.cameras.address import CameraAddress
from evdistill_core.cameras.camera import Camera
from evdistill_core.cameras.dv_process import plain
from evdistill_core.cameras.unpacking import unpack_events, unpack_frame, unpack_triggers
from evdistill_core.cameras.wire import EVENT, HEAD, DamagedPipeError, Kind, Piece, parse_head
from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import CameraError
from evdistill_core.recordings.base import EventBatch, Frame

FAKE_EVENTS = 20_000


def read_until(camera, done, timeout_s=60):
    """Read until ``done`` says so of everything that came."""
    found = []
    end_s = time.monotonic() + timeout_s
    while not done(found):
        assert time.monotonic() < end_s, f"only {len(found)} came"
        piece = camera.read(0.1)
        if piece is not None:
            found.append(piece)
    return found


def event_count(found):
    return sum(len(f.events) for f in found if isinstance(f, EventBatch))


def test_events_pictures_and_edges_of_a_camera(open_fake):
    with open_fake("one") as camera:
        assert (camera.info.name, camera.info.width, camera.info.height) == (
            "DAVIS346_00000001", 64, 48,
        )  # fmt: skip
        found = read_until(
            camera, lambda f: event_count(f) == FAKE_EVENTS and camera.counters["frames"] == 3
        )
    batches = [f for f in found if isinstance(f, EventBatch)]
    events = Events.concatenate([b.events for b in batches])
    index = np.arange(FAKE_EVENTS)
    assert np.array_equal(events.t_us, 1_700_000_000_000_000 + index * 10)
    assert np.array_equal(events.x, index % 1000 % 64)
    assert np.array_equal(events.y, index % 1000 % 48)
    assert np.array_equal(events.p, index % 2)
    assert {b.discontinuity for b in batches} == {""}
    edges = [b.triggers for b in batches if len(b.triggers)]
    assert [e.edge.tolist() for e in edges] == [[1, 0]]  # an exposure is no edge of the input
    pictures = [f for f in found if isinstance(f, Frame)]
    assert [int(f.image[0, 0]) for f in pictures] == [1, 2, 3]
    assert pictures[0].image.shape == (48, 64)


def test_stopping_gives_what_had_come_and_leaves_no_process(open_fake):
    with open_fake("one") as camera:
        camera.stop()
        end_s = time.monotonic() + 30
        while not camera.has_ended:
            assert time.monotonic() < end_s
            camera.read(0.1)
        assert camera._process.wait(10) == 0


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("unplug", "unplugged"),
        ("crash", "crashed, its process ended by signal 6"),
        ("nonsense", "sends nonsense"),
    ],
)
def test_a_camera_that_goes_away_is_an_error_after_all_its_events(open_fake, word, text):
    found = []
    with (
        open_fake(f"one {word}") as camera,
        pytest.raises(CameraError, match=text),
    ):
        read_until(camera, lambda f: found.extend(f[len(found) :]), timeout_s=60)
    if word != "crash":  # what the dead process held cannot be had
        assert event_count(found) == FAKE_EVENTS


def test_a_camera_that_hangs_is_an_error(open_fake, monkeypatch):
    monkeypatch.setattr(camera_module, "STALL_S", 2.0)
    with open_fake("one hang") as camera, pytest.raises(CameraError, match="hangs"):
        read_until(camera, lambda f: False)


def test_a_camera_that_hangs_can_be_stopped(open_fake, monkeypatch):
    monkeypatch.setattr(camera_module, "STOP_S", 1.0)
    with open_fake("one hang") as camera:
        read_until(camera, lambda f: event_count(f) == FAKE_EVENTS)
        camera.stop()
        with pytest.raises(CameraError, match="hangs"):
            read_until(camera, lambda f: False)
    assert camera._process.returncode == -signal.SIGKILL


def test_a_reset_of_its_clock_is_told_once(open_fake):
    with open_fake("one reset") as camera:
        found = read_until(camera, lambda f: event_count(f) == FAKE_EVENTS)
        assert camera.counters["time_jumps"] == 1
    told = [f.discontinuity for f in found if isinstance(f, EventBatch) and f.discontinuity]
    assert told == ["time"]


def test_impossible_events_are_left_out_and_counted(open_fake):
    with open_fake("one outside") as camera:
        found = read_until(camera, lambda f: camera.counters["events"] == FAKE_EVENTS - 20 * 30)
        counters = dict(camera.counters)
    assert (counters["out_of_frame"], counters["bad_time"]) == (400, 200)
    events = Events.concatenate([f.events for f in found if isinstance(f, EventBatch)])
    assert (events.x.max(), events.y.max(), events.t_us.min() > 0) == (63, 47, True)


def test_what_does_not_fit_is_lost_and_counted(open_fake):
    with open_fake("one flood", queue_bytes=1 << 20) as camera:
        time.sleep(2)  # as a disk that does not take anything
        found = read_until(
            camera, lambda f: event_count(f) + camera.counters["lost_events"] == 401 * 20_000
        )
    assert camera.counters["lost_events"] > 0
    assert camera.counters["gaps"] >= 1
    assert "seq" in {f.discontinuity for f in found if isinstance(f, EventBatch)}


@pytest.mark.parametrize(
    ("words", "name", "text"),
    [
        ("none", "", "no iniVation camera was found"),
        ("one", "402", "no camera is called '402'; there are: DAVIS_00000001"),
        ("two", "", "several cameras fit.*DAVIS_00000001, DAVIS_00000402"),
        ("one busy", "", "cannot be opened: Failed to open device: busy. Is another program"),
        ("missing", "", r'pip install "evdistill_ros\[inivation\]"'),
    ],
)
def test_a_camera_that_cannot_be_had(open_fake, words, name, text):
    with pytest.raises(CameraError, match=text), open_fake(words, name):
        pass


@pytest.mark.parametrize("name", ["00000402", "402", "davis_00000402"])
def test_one_of_two_is_chosen(open_fake, name):
    with open_fake("two", name) as camera:
        assert camera.info.name == "DAVIS346_00000402"


def test_nobody_there(tmp_path):
    pytest.importorskip("dv_processing")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for address in (f"tcp://localhost:{port}", f"unix://{tmp_path}/none.sock"):
        with (
            pytest.raises(CameraError, match=r"cannot be opened.*NetworkWriter"),
            Camera(CameraAddress.parse(address)),
        ):
            pass


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 5000], ids=["", "http", "ones"]
)
def test_something_else_on_the_port(said):
    """dv-processing waits for ever for the rest of what it takes for a header."""
    pytest.importorskip("dv_processing")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        held = []

        def serve():
            connection, _ = server.accept()
            connection.sendall(said)
            held.append(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        camera = Camera(CameraAddress("tcp", host="127.0.0.1", ports=(port,)), open_timeout_s=4)
        with pytest.raises(CameraError), camera:
            pass
        assert camera._process.poll() is not None
        thread.join(5)
        for connection in held:
            connection.close()


def test_its_process_ends_with_ours(fake, tmp_path):
    """A program that is killed must not leave a process that holds the camera."""
    fake("one")
    script = (
        "import sys; from evdistill_core.cameras.camera import *; "
        "c = Camera(CameraAddress.parse('inivation')).__enter__(); "
        "print(c._process.pid, flush=True); sys.stdin.read()"
    )
    ours = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], *sys.path])},
    )  # fmt: skip
    pid = int(ours.stdout.readline())
    ours.kill()
    ours.communicate()
    end_s = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < end_s, "the camera's process is left behind"
        time.sleep(0.05)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@given(st.binary(max_size=200))
def test_any_payload_gives_possible_events_and_pictures(payload):
    counters = Counter()
    events = unpack_events(payload, 64, 48, counters)
    assert len(events) + sum(counters.values()) == len(payload) // 16
    assert not len(events) or (events.x.max() < 64 and events.y.max() < 48)
    triggers = unpack_triggers(payload, counters)
    assert set(triggers.edge.tolist()) <= {0, 1}
    frame = unpack_frame(payload, 0)
    assert frame is None or frame.image.size + 13 >= len(payload)


def test_a_damaged_polarity_is_still_one():
    record = np.zeros(2, EVENT)
    record["p"] = 0, 245
    assert unpack_events(record.tobytes(), 64, 48, Counter()).p.tolist() == [0, 1]


@given(st.binary(min_size=HEAD.size, max_size=HEAD.size))
def test_any_head_is_a_piece_or_refused(data):
    with pytest.raises(DamagedPipeError):
        parse_head(data)


def test_a_head_written_is_read():
    good = Piece(Kind.EVENTS, b"12", 5, 6, 7)
    assert parse_head(good.head()) == (Piece(Kind.EVENTS, b"", 5, 6, 7), 2)


def test_the_librarys_messages_lose_their_stack_trace():
    text = "/p/discovery.hpp(88): f()\nRuntimeError: Could not find it\nStacktrace:\n 0# 0x3A"
    assert plain(RuntimeError(text)) == "Could not find it"
    assert (
        plain(RuntimeError("connect: refused [system:111 at /vcpkg/x.hpp]")) == "connect: refused"
    )
    assert plain(RuntimeError("")) == "RuntimeError"
    json.dumps(plain(RuntimeError("x" * 9999)))
