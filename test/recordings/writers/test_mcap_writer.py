import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from mcap.reader import make_reader

from evdistill_core.foundation.errors import MessageError, RecordingError
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import Header, Image, Time
from evdistill_core.recordings.writers.mcap import McapWriter

EVENTS, IMAGES = "/event_camera/events", "/event_camera/image_raw"


def packet(seq):
    header = Header(Time.from_ns(1_700_000_000_000_000_000 + seq), "camera")
    return EventPacket(header, 4, 8, seq, 1000, "libcaer_cmp", False, bytes(range(seq + 1)))


def image(seq):
    pixels = np.full((4, 8), seq, np.uint8)
    return Image.from_array(Header(Time.from_ns(seq), "camera"), pixels, "mono8")


def write(path, count=5):
    with McapWriter(path) as writer:
        for seq in range(count):
            writer.write(EVENTS, EventPacket.TYPE, packet(seq).serialize(), 10**18 + 2 * seq)
            writer.write(IMAGES, Image.TYPE, image(seq).serialize(), 10**18 + 2 * seq + 1)
        return writer.metadata_yaml()


def test_the_container_says_what_rosbag2_needs(tmp_path):
    path = tmp_path / "a.mcap"
    text = write(path)
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        (metadata,) = reader.iter_metadata()
        messages = list(reader.iter_messages())
    assert {c.compression for c in summary.chunk_indexes} == {"zstd"}
    assert {s.encoding for s in summary.schemas.values()} == {"ros2msg"}
    schemas = {s.name: s.data.decode() for s in summary.schemas.values()}
    assert "MSG: std_msgs/Header" in schemas[EventPacket.TYPE]
    assert "MSG: builtin_interfaces/Time" in schemas[EventPacket.TYPE]
    channels = {c.topic: c for c in summary.channels.values()}
    assert channels[EVENTS].message_encoding == "cdr"
    assert channels[EVENTS].metadata["topic_type_hash"].startswith("RIHS01_d6fa1762")
    assert [m.log_time for _, _, m in messages] == [10**18 + i for i in range(10)]
    assert metadata.name == "rosbag2"
    assert "&" not in text  # no YAML anchors
    inner = yaml.safe_load(metadata.metadata["serialized_metadata"])
    assert inner == yaml.safe_load(text)["rosbag2_bagfile_information"]


def test_metadata_counts_what_was_written(tmp_path):
    info = yaml.safe_load(write(tmp_path / "a.mcap"))["rosbag2_bagfile_information"]
    assert info["message_count"] == 10
    assert info["starting_time"]["nanoseconds_since_epoch"] == 10**18
    assert info["duration"]["nanoseconds"] == 9
    assert info["relative_file_paths"] == ["a.mcap"]
    counts = {
        t["topic_metadata"]["name"]: t["message_count"] for t in info["topics_with_message_count"]
    }
    assert counts == {EVENTS: 5, IMAGES: 5}


@pytest.mark.parametrize("as_directory", [False, True])
def test_an_independent_reader_decodes_it(tmp_path, as_directory):
    anyreader = pytest.importorskip("rosbags.highlevel").AnyReader
    path = tmp_path / "bag" / "a.mcap"
    text = write(path)
    if as_directory:
        (path.parent / "metadata.yaml").write_text(text)
    with anyreader([path.parent if as_directory else path]) as reader:
        seen = [
            (connection.topic, reader.deserialize(raw, connection.msgtype))
            for connection, _, raw in reader.messages()
        ]
    packets = [m for topic, m in seen if topic == EVENTS]
    images = [m for topic, m in seen if topic == IMAGES]
    assert [m.seq for m in packets] == list(range(5))
    assert (packets[4].height, packets[4].width, packets[4].encoding) == (4, 8, "libcaer_cmp")
    assert packets[4].events.tobytes() == bytes(range(5))
    assert packets[4].header.frame_id == "camera"
    assert images[3].data.tolist() == [3] * 32


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.mcap"
    write(path)
    before = path.read_bytes()

    def fail():
        with McapWriter(path) as writer:
            writer.write(EVENTS, EventPacket.TYPE, packet(0).serialize(), 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.mcap"]


def test_wrong_use_is_refused(tmp_path):
    with McapWriter(tmp_path / "a.mcap") as writer:
        writer.write(EVENTS, EventPacket.TYPE, packet(0).serialize(), 1)
        with pytest.raises(RecordingError, match="carries event_camera_msgs"):
            writer.write(EVENTS, Image.TYPE, image(0).serialize(), 2)
        with pytest.raises(MessageError, match="written package/msg/Type"):
            writer.write("/other", "my_msgs/srv/Mine", b"", 3)
    with pytest.raises(RecordingError, match="with block"):
        McapWriter(tmp_path / "b.mcap").write(EVENTS, EventPacket.TYPE, b"", 1)
    (tmp_path / "file").touch()
    with (
        pytest.raises(RecordingError, match="cannot be written"),
        McapWriter(tmp_path / "file" / "a.mcap"),
    ):
        pass


@pytest.mark.ros
@pytest.mark.parametrize("as_directory", [False, True])
def test_ros2_bag_info_reads_it(tmp_path, as_directory):
    setups = [
        folder / "setup.bash"
        for folder in sorted(Path("/opt/ros").glob("*"))
        if (folder / "share" / "ros2bag").is_dir()
    ]
    if not setups:
        pytest.skip("no ROS 2 with ros2bag in /opt/ros")
    path = tmp_path / "bag" / "a.mcap"
    text = write(path)
    if as_directory:
        (path.parent / "metadata.yaml").write_text(text)
    target = path.parent if as_directory else path
    script = f"source {setups[0]} && ros2 bag info {target}"
    # Without the virtual environment's interpreter, which is not the one that ROS was built for.
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    result = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "invalid" not in result.stdout + result.stderr
    assert re.search(r"Messages:\s+10\b", result.stdout)
    for topic in (EVENTS, IMAGES):
        assert re.search(rf"Topic: {topic} .*Count: 5", result.stdout)
