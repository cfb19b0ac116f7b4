import json
from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from evdistill_core.foundation.errors import MessageError
from evdistill_core.messages.types import (
    MESSAGE_TYPES,
    dds_type_name,
    message_type,
    normal_type_name,
)

ROS_SHARE = Path("/opt/ros/jazzy/share")


@pytest.mark.parametrize("name", MESSAGE_TYPES)
def test_hashes_are_those_that_rosbags_computes_from_the_schema(name):
    known = message_type(name)
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(known.schema, name))
    assert store.hash_rihs01(name) == known.type_hash


def test_hashes_are_those_of_an_installed_ros():
    compared = 0
    for name, known in MESSAGE_TYPES.items():
        package, _, kind = name.split("/")
        description = ROS_SHARE / package / "msg" / f"{kind}.json"
        if description.exists():
            hashes = json.loads(description.read_text())["type_hashes"]
            assert {h["type_name"]: h["hash_string"] for h in hashes}[name] == known.type_hash
            compared += 1
    if not compared:
        pytest.skip(f"no ROS 2 type descriptions in {ROS_SHARE}")


def test_hashes_of_ros_that_were_written_down_by_hand():
    assert message_type("event_camera_msgs/msg/EventPacket").type_hash == (
        "RIHS01_d6fa176260b1f37e5a40845305315e150a0f18191241eb64f407442aa29844aa"
    )
    assert message_type("rmw_dds_common/msg/ParticipantEntitiesInfo").type_hash == (
        "RIHS01_91a0593bacdcc50ea9bdcf849a938b128412cc1ea821245c663bcd26f83c295e"
    )


def test_a_schema_holds_every_nested_type_once():
    text = message_type("prophesee_event_msgs/msg/EventArray").schema
    assert text.startswith("std_msgs/Header header\nuint32 height\nuint32 width\n")
    assert "prophesee_event_msgs/Event[] events" in text
    assert text.count("MSG: ") == 3
    assert "dvs_msgs" not in text
    assert text.count("=" * 80) == 3


def test_names():
    assert dds_type_name("sensor_msgs/msg/Image") == "sensor_msgs::msg::dds_::Image_"
    assert message_type("sensor_msgs/Image").dds_name == "sensor_msgs::msg::dds_::Image_"
    assert normal_type_name("a/B") == "a/msg/B"
    for bad in ("Image", "a/srv/B", "a/b/c/d", "/msg/B", ""):
        with pytest.raises(MessageError, match="package/msg/Type"):
            normal_type_name(bad)
    with pytest.raises(MessageError, match=r"known: .*sensor_msgs/msg/Image"):
        message_type("sensor_msgs/msg/PointCloud2")
