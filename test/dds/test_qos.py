"""Profiles, and parameters that change them."""

import pytest

from evdistill_core.foundation.errors import ConfigError
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode

IMAGE = "sensor_msgs/msg/Image"


def test_overrides_change_what_they_name_and_nothing_else():
    overrides = qos.QosOverrides(
        {
            "/a.subscription.reliability": "reliable",
            "/a.subscription.depth": 7,
            "/a.b/c.publisher.history": "keep_all",
            "/a.b/c.publisher.durability": "transient_local",
        }
    )
    changed = overrides.apply(qos.EVENTS, "/a", "subscription")
    assert changed == qos.QosProfile(reliability="reliable", depth=7)
    assert overrides.apply(qos.EVENTS, "/a", "publisher") == qos.EVENTS
    assert overrides.apply(qos.EVENTS, "/b", "subscription") == qos.EVENTS
    kept = overrides.apply(qos.RESULTS, "/a.b/c", "publisher")
    assert kept == qos.QosProfile(durability="transient_local", depth=0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a.subscription.depth", 1, "none that can be set.*full name"),
        ("/a.reader.depth", 1, "none that can be set"),
        ("/a.subscription.lifespan", 1, r"depth\|durability\|history\|reliability"),
        ("depth", 1, "none that can be set"),
        ("/a.subscription.depth", "many", "must be a whole number, got 'many'"),
        ("/a.subscription.depth", True, "must be a whole number"),
        ("/a.subscription.depth", -1, "depth must be 0"),
        ("/a.subscription.history", "some", "must be keep_last or keep_all, got 'some'"),
        ("/a.publisher.reliability", "very", "reliability must be"),
        ("/a.publisher.durability", 3, "durability must be"),
    ],
)
def test_what_cannot_be_is_refused(name, value, message):
    with pytest.raises(ConfigError, match=message):
        qos.QosOverrides({name: value})


def test_a_node_offers_what_was_overridden(domain, topic):
    del domain
    overrides = qos.QosOverrides({f"{topic}.publisher.reliability": "best_effort"})
    with DdsNode("out", qos_overrides=overrides) as out, DdsNode("into") as into:
        out.create_publisher(topic, IMAGE, qos.RESULTS)
        (seen,) = into.wait_for_publisher(topic, 10)
        assert seen.qos.reliability == "best_effort"
