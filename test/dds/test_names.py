"""Names: the rules of ROS."""

import pytest

from evdistill_core.foundation.errors import ConfigError
from evdistill_ros.dds import names


@pytest.mark.parametrize(
    ("topic", "namespace", "expected"),
    [
        ("/a/b", "/", "/a/b"),
        ("b", "/", "/b"),
        ("b", "/robot1", "/robot1/b"),
        ("~/b", "/", "/node/b"),
        ("~/b", "/robot1/left", "/robot1/left/node/b"),
        ("~", "/", "/node"),
    ],
)
def test_topics_resolve_as_ros_does(topic, namespace, expected):
    assert names.resolve_topic(topic, "node", namespace) == expected


def test_a_remap_rule_may_be_private_relative_or_absolute():
    rules = {"~/events": "/camera/events", "image": "pictures"}
    assert names.resolve_topic("~/events", "n", "/r", rules) == "/camera/events"
    assert names.resolve_topic("/r/n/events", "n", "/r", rules) == "/camera/events"
    assert names.resolve_topic("image", "n", "/r", rules) == "/r/pictures"
    assert names.resolve_topic("other", "n", "/r", rules) == "/r/other"


@pytest.mark.parametrize(
    "topic", ["", "/", "a/", "/a//b", "1a", "/a/1", "a b", "~b", "a-b", "a__b", "/ä", "x" * 300]
)
def test_a_bad_topic_is_refused(topic):
    with pytest.raises(ConfigError, match="topic"):
        names.resolve_topic(topic, "node")


@pytest.mark.parametrize("name", ["", "1a", "a/b", "a-b", "a b", "x" * 256])
def test_a_bad_node_name_is_refused(name):
    with pytest.raises(ConfigError, match="node name"):
        names.check_node_name(name)


@pytest.mark.parametrize(
    ("given", "expected"), [("", "/"), ("/", "/"), ("a", "/a"), ("/a/b", "/a/b")]
)
def test_namespaces_get_their_slash(given, expected):
    assert names.check_namespace(given) == expected


def test_a_bad_namespace_is_refused():
    with pytest.raises(ConfigError, match="namespace"):
        names.check_namespace("/a b")


def test_remap_rules_are_parsed_and_refused():
    assert names.parse_remap("~/events:=/camera/events") == ("~/events", "/camera/events")
    for bad in ("", "a", "a:=", ":=b", "a=b"):
        with pytest.raises(ConfigError, match="FROM:=TO"):
            names.parse_remap(bad)


def test_types_go_to_dds_and_back():
    dds = names.dds_type("event_camera_msgs/msg/EventPacket")
    assert dds == "event_camera_msgs::msg::dds_::EventPacket_"
    assert names.ros_type(dds) == "event_camera_msgs/msg/EventPacket"
    assert names.ros_type("Anything") is None
    with pytest.raises(ConfigError, match="package/msg/Type"):
        names.dds_type("EventPacket")


def test_only_rt_topics_are_ros_topics():
    assert names.dds_topic("/a/b") == "rt/a/b"
    assert names.ros_topic("rt/a/b") == "/a/b"
    assert names.ros_topic("rq/a/bRequest") is None
    assert names.ros_topic("ros_discovery_info") is None
