"""The committed demo recording is what its README says, and its command makes the same."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from mcap.reader import make_reader

from evdistill_core.events.array import Events
from evdistill_core.recordings.opening import open_recording

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo" / "davis346_street.mcap"
SOURCE = "recordings/davis346_street_frames.aedat4"
# Of the source's columns, as another library reads them: see recordings/test_aedat4.py.
DIGESTS = {
    "t_us": ("<u8", "f1e093cad5afb6ecb971dfa2ef7646ab4ae0f467f73a48804e40bb68"),
    "x": ("<u2", "1d8ea97b0febadfde24dd0b9e608682fc6934fc88656823b15f0e7a7"),
    "y": ("<u2", "18f89da35f8f10b24c3407b03aa7f82bdd7c8e6ab5369e2c30f8bad0"),
    "p": ("?", "6f99cf01187da8a05e1a032f3782de51b87e51bdc31356669bdd7cb9"),
}


def read(path):
    with open_recording(path) as recording:
        events = Events.concatenate([b.events for b in recording.batches()])
        return recording.info, events, list(recording.frames())


def test_the_file_holds_every_event_of_its_source():
    info, events, _ = read(DEMO)
    assert DEMO.stat().st_size < 3_000_000
    assert (len(events), info.width, info.height) == (78_830, 346, 260)
    assert (info.encoding, info.warnings) == ("libcaer_cmp", ())
    for name, (dtype, digest) in DIGESTS.items():
        column = getattr(events, name).astype(dtype).tobytes()
        assert hashlib.sha3_224(column).hexdigest() == digest


def test_topics_packets_and_pictures_are_those_of_the_readme():
    info, _, frames = read(DEMO)
    topics = {t.name: (t.type_name, t.message_count) for t in info.topics}
    assert topics == {
        "/event_camera/events": ("event_camera_msgs/msg/EventPacket", 236),
        "/event_camera/image_raw": ("sensor_msgs/msg/Image", 30),
    }
    assert all(f.image.shape == (260, 346) for f in frames)
    assert abs(np.diff([f.t_us for f in frames]) - 80_000).max() <= 1
    with open_recording(DEMO) as recording:
        spans = [(b.stamp_ns, b.events.t_us) for b in recording.batches()]
    assert all(s // 1000 - 10_000 <= t.min() <= t.max() < s // 1000 for s, t in spans)


def test_the_metadata_inside_is_what_ros2_bag_reads():
    with DEMO.open("rb") as file:
        (record,) = make_reader(file, validate_crcs=True).iter_metadata()
    information = yaml.safe_load(record.metadata["serialized_metadata"])
    assert (record.name, information["message_count"]) == ("rosbag2", 266)
    assert information["storage_identifier"] == "mcap"


def test_its_readme_names_source_licence_and_command():
    text = (ROOT / "demo" / "README.md").read_text()
    for words in ("neuromorphicsystems/aedat", "MIT License", "--frame-step 2", "78,830"):
        assert words in text


def test_the_command_makes_the_same_content(shared_data, tmp_path):
    target = tmp_path / "street.mcap"
    source = shared_data / SOURCE
    if not source.is_file():
        pytest.skip(f"no {source}")
    command = [sys.executable, "-m", "evdistill_core", "convert", source, target]
    subprocess.run([*command, "--frame-step", "2"], check=True, cwd=ROOT)
    (_, old, old_frames), (_, new, new_frames) = read(DEMO), read(target)
    assert new.equals(old)
    assert [f.stamp_ns for f in new_frames] == [f.stamp_ns for f in old_frames]
    assert all(
        np.array_equal(a.image, b.image) for a, b in zip(new_frames, old_frames, strict=True)
    )
    with open_recording(DEMO) as one, open_recording(target) as two:
        topics = [t.name for t in one.info.topics]
        packets = [list(r.packets(topics)) for r in (one, two)]
    assert packets[0] == packets[1]
