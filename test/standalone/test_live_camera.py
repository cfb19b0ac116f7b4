"""`evdistill live --camera`: the same windows and results as from a recording, without a topic."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evdistill_core.events.array import Events
from evdistill_core.events.stream import PacketDecoder
from evdistill_core.foundation.worker import wait_until
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import DiagnosticArray, Image
from evdistill_core.perception.offline import run_recording
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.recordings.convert import ConvertConfig, convert
from evdistill_core.recordings.opening import open_recording
from evdistill_ros import qos

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
STREET = REPOSITORY / "demo" / "davis346_street.mcap"
FAKE = REPOSITORY / "test" / "cameras" / "fake"
MASK = "/segmentation/mask"
KEEP_ALL = ("-p", "keep_windows:=true")


@pytest.fixture(scope="session")
def street_aedat4(tmp_path_factory):
    path = tmp_path_factory.mktemp("street") / "street.aedat4"
    with open_recording(STREET) as recording:
        convert(recording, path, ConvertConfig(end_us=1_000_000))
    return path


@pytest.fixture
def sender():
    """A process of dv-processing's that sends; see test/cameras/sender.py."""
    pytest.importorskip("dv_processing")
    started = []

    def start(*arguments):
        script = str(REPOSITORY / "test" / "cameras" / "sender.py")
        process = subprocess.Popen(
            [sys.executable, script, *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def counters_of(diagnostics, status="events"):
    known = DiagnosticArray.parse(diagnostics[-1].data).status
    (found,) = (s for s in known if s.name == f"/segmentation: {status}")
    return {row.key: row.value for row in found.values}


def test_a_camera_gives_the_masks_of_a_recording(  # noqa: PLR0917
    evdistill, camera, tiny_student, street_aedat4, sender, tmp_path
):
    """Also: who listens to the topic gets every event, and the pictures."""
    with open_recording(street_aedat4) as recording:
        true = Events.concatenate([b.events for b in recording.batches()])
        true_pictures = [frame.image for frame in recording.frames()]
    events, frames = tmp_path / "events.sock", tmp_path / "frames.sock"
    sending = sender(
        street_aedat4, "--events", events, "--frames", frames, "--pace-s", 0.01, "--hold"
    )
    masks = camera.listen(MASK, Image.TYPE)
    packets = camera.listen("/event_camera/events", EventPacket.TYPE, qos.EVENTS)
    pictures = camera.listen("/event_camera/image_raw", Image.TYPE)
    diagnostics = camera.listen("/diagnostics", DiagnosticArray.TYPE)
    log = tmp_path / "results.jsonl"
    live = evdistill(
        "live", "--camera", f"unix://{events},{frames}", "--student", tiny_student,
        "--result-log", log, "-p", "deadline_ms:=0.0", *KEEP_ALL,
    )  # fmt: skip
    camera.wait_for_publishers()
    print("go", file=sending.stdin, flush=True)
    assert wait_until(
        lambda: diagnostics and counters_of(diagnostics).get("events") == str(len(true)),
        timeout_s=60,
    )
    # They are sent behind the events, and nobody waits for them when the node is told to end.
    assert wait_until(lambda: len(pictures) == len(true_pictures), timeout_s=60), len(pictures)
    live.send(signal.SIGTERM)
    assert live.wait() == 0, live.output
    parameters = SegmentationParameters(student=str(tiny_student))
    run_recording(street_aedat4, tmp_path / "out", parameters, show_progress=False)
    with open_recording(tmp_path / "out" / "masks.mcap") as recording:
        wanted = [Image.parse(p.data) for p in recording.packets([MASK])]
    found = [Image.parse(p.data) for p in masks]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sum(line["events"] for line in lines) == len(true)
    assert len(lines) == len(wanted)
    assert len(found) > 0
    # What is under way when the node ends may be lost to a subscriber, not to the node's own log.
    for ours, theirs in zip(found, wanted, strict=False):
        assert ours.data == theirs.data
    decoder = PacketDecoder()
    heard = [decoder.push(p) for p in packets]
    assert all(d is not None for d in heard)
    assert decoder.counters.seq_gaps == 0
    seen = Events.concatenate([d.events for d in heard])
    assert seen.equals(true)
    for ours, theirs in zip(
        map(Image.parse, (p.data for p in pictures)), true_pictures, strict=True
    ):
        assert bytes(ours.data) == theirs.tobytes()


def test_a_camera_that_goes_away_is_waited_for(  # noqa: PLR0917
    evdistill, camera, tiny_student, street_aedat4, sender, tmp_path
):
    events = tmp_path / "events.sock"
    first = sender(street_aedat4, "--events", events, "--pace-s", 0.01, "--loops", 1000)
    masks = camera.listen(MASK, Image.TYPE)
    live = evdistill("live", "--camera", f"unix://{events}", "--student", tiny_student)
    assert wait_until(lambda: len(masks) > 3, timeout_s=60)
    first.kill()
    first.communicate()
    events.unlink(missing_ok=True)
    sender(street_aedat4, "--events", events, "--pace-s", 0.01, "--loops", 1000)
    before = len(masks)
    assert wait_until(lambda: len(masks) > before + 5, timeout_s=60)
    live.send(signal.SIGINT)
    assert live.wait() == 130, live.output
    assert "the other side closed the stream. Opening it again until it is back" in live.output
    assert "is back" in live.output


@pytest.mark.parametrize(
    ("word", "counted"),
    [
        ("crash", ["restarts"]),
        ("nonsense", ["restarts"]),
        ("reset", ["time_jumps"]),
        ("outside", ["out_of_frame", "bad_time"]),
    ],
)
def test_what_a_camera_does_does_not_end_the_node(  # noqa: PLR0917
    evdistill, camera, tiny_student, monkeypatch, word, counted
):
    """And all of it is counted in the diagnostics, as is what a topic cannot carry."""
    monkeypatch.setenv("FAKE_CAMERA", f"one {word}")
    monkeypatch.setenv("PYTHONPATH", str(FAKE))
    diagnostics = camera.listen("/diagnostics", DiagnosticArray.TYPE)
    live = evdistill("live", "--camera", "inivation", "--student", tiny_student)
    wanted = 20_000 if word in {"reset", "outside"} else 40_000  # those two come twice

    def events():
        return int(counters_of(diagnostics).get("events", 0)) if diagnostics else 0

    assert wait_until(lambda: events() > wanted * 0.9, timeout_s=60), events()
    values = counters_of(diagnostics, "camera")
    for name in (*counted, "triggers_not_published"):
        assert int(values[name]) > 0, name
    assert values["triggers"] == values["triggers_not_published"]
    live.send(signal.SIGTERM)
    assert live.wait() == 0, live.output
    last = live.output.splitlines()[-1]
    assert last.startswith("in all: messages_received ")
    assert all(f", camera_{name} " in last for name in counted), last


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("inivaton", "names no camera"),
        ("unix:///nowhere/a.sock", "cannot be opened"),
        ("inivation", "no iniVation camera was found"),
    ],
)
def test_a_camera_that_is_not_there(evdistill, tiny_student, monkeypatch, address, text):
    if address == "inivation":
        monkeypatch.setenv("FAKE_CAMERA", "none")
        monkeypatch.setenv("PYTHONPATH", str(FAKE))
    else:
        pytest.importorskip("dv_processing")
    live = evdistill("live", "--camera", address, "--student", tiny_student)
    assert live.wait() == 2
    assert text in live.output
    assert "Traceback" not in live.output
