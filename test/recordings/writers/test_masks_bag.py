"""masks.mcap of a run, opened by the readers of others: Foxglove's (`mcap`) and rosbag2's."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader

from evdistill_core.cli.main import run
from evdistill_core.messages.standard import Image

STREET = Path(__file__).resolve().parents[3] / "demo" / "davis346_street.mcap"
MASK = "/segmentation/mask"


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    arguments = ["--student", "street6-nano", "--out", str(folder), "--end", "0.5"]
    assert run(["run", str(STREET), *arguments]) == 0
    return folder / "masks.mcap"


def test_foxgloves_reader_finds_index_schemas_and_sound_chunks(masks):
    with masks.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert {s.encoding for s in summary.schemas.values()} == {"ros2msg"}
        types = {c.topic: summary.schemas[c.schema_id].name for c in summary.channels.values()}
        assert types[MASK] == "sensor_msgs/msg/Image"
        assert types["/segmentation/detections"] == "vision_msgs/msg/Detection2DArray"
        assert types["/segmentation/label_info"] == "vision_msgs/msg/LabelInfo"
        # What a viewer needs to decode a type stands with it: no package of ROS is asked for.
        text = next(s.data for s in summary.schemas.values() if s.name.endswith("Detection2DArray"))
        assert b"MSG: vision_msgs/ObjectHypothesisWithPose" in text
        assert b"MSG: geometry_msgs/" in text
        assert summary.chunk_indexes
        counts = Counter(channel.topic for _, channel, _ in reader.iter_messages())
        told = {c.topic: summary.statistics.channel_message_counts[i]
                for i, c in summary.channels.items()}  # fmt: skip
        assert counts == told
        assert counts[MASK] == 10
        stored = [m.data for _, c, m in reader.iter_messages() if c.topic == MASK]
    assert np.asarray(Image.parse(stored[0]).to_array()).shape == (260, 346)


@pytest.mark.ros
def test_rosbag2_reads_it_too(masks):
    rosbag2_py = pytest.importorskip("rosbag2_py", reason="needs rosbag2 of a ROS 2 installation")
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import Image as RosImage

    reader = rosbag2_py.SequentialReader()
    reader.open(
        rosbag2_py.StorageOptions(uri=str(masks), storage_id="mcap"),
        rosbag2_py.ConverterOptions("cdr", "cdr"),
    )
    counts = Counter()
    while reader.has_next():
        topic, data, _ = reader.read_next()
        counts[topic] += 1
        if topic == MASK:
            assert (deserialize_message(data, RosImage).width) == 346
    assert counts[MASK] == 10
    assert counts["/segmentation/label_info"] == 1
