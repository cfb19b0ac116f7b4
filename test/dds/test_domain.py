"""The environment of ROS becomes Cyclone's configuration."""

import pytest

from evdistill_core.foundation.errors import ConfigError
from evdistill_ros.dds import domain


def test_the_default_is_the_subnet_with_multicast():
    xml = domain.domain_xml({})
    assert "AllowMulticast" not in xml
    assert "<MaxAutoParticipantIndex>32<" in xml
    assert "Peers" not in xml


@pytest.mark.parametrize(
    "env", [{"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, {"ROS_LOCALHOST_ONLY": "1"}]
)
def test_localhost_turns_multicast_off_and_names_the_peer(env):
    xml = domain.domain_xml(env)
    assert "<AllowMulticast>false<" in xml
    assert '<Peer address="localhost"/>' in xml
    # Cyclone 11 ignores announcements on interfaces that it does not use.
    assert '<NetworkInterface address="127.0.0.1"/>' in xml
    assert "autodetermine" not in xml


def test_localhost_with_peers_keeps_the_network():
    env = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_STATIC_PEERS": "10.0.0.1"}
    xml = domain.domain_xml(env)
    assert "autodetermine" in xml
    assert '<Peer address="10.0.0.1"/>' in xml


def test_localhost_only_wins_over_peers():
    xml = domain.domain_xml({"ROS_LOCALHOST_ONLY": "1", "ROS_STATIC_PEERS": "10.0.0.1"})
    assert "10.0.0.1" not in xml


def test_static_peers_are_listed_and_escaped():
    xml = domain.domain_xml({"ROS_STATIC_PEERS": '10.0.0.1; host"<x ;;'})
    assert '<Peer address="10.0.0.1"/>' in xml
    assert 'host"&lt;x' in xml
    assert xml.count("<Peer ") == 2


def test_off_has_a_tag_of_its_own_and_no_peers():
    xml = domain.domain_xml(
        {"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF", "ROS_STATIC_PEERS": "10.0.0.1"}
    )
    assert "ros_discovery_off_" in xml
    assert "Peer" not in xml


def test_system_default_leaves_discovery_alone():
    xml = domain.domain_xml({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT"})
    assert "Discovery" not in xml


def test_an_unknown_range_is_localhost_as_in_ros_and_warns():
    env = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "subnet"}
    assert '<Peer address="localhost"/>' in domain.domain_xml(env)
    assert "LOCALHOST is used" in domain.discovery_warnings(env)[0]


def test_cyclonedds_uri_comes_last():
    xml = domain.domain_xml({"CYCLONEDDS_URI": "file:///etc/my.xml"})
    assert xml.endswith(",file:///etc/my.xml")


@pytest.mark.parametrize("text", ["233", "-1", "x", "1.5"])
def test_a_bad_domain_is_refused(text):
    with pytest.raises(ConfigError, match=r"0 \.\. 232"):
        domain.domain_id({"ROS_DOMAIN_ID": text})


def test_the_domain_is_zero_by_default():
    assert domain.domain_id({}) == 0
    assert domain.domain_id({"ROS_DOMAIN_ID": ""}) == 0
    assert domain.domain_id({"ROS_DOMAIN_ID": "42"}) == 42


def test_zenoh_is_warned_about():
    (warning,) = domain.discovery_warnings({"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"})
    assert "Zenoh" in warning
    assert "rmw_cyclonedds_cpp" in warning
    assert domain.discovery_warnings({"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}) == []


def test_a_broken_cyclonedds_uri_is_named(domain_number, monkeypatch):
    monkeypatch.setenv("CYCLONEDDS_URI", "<CycloneDDS><Domain><NoSuchThing/></Domain></CycloneDDS>")
    with pytest.raises(ConfigError, match="CYCLONEDDS_URI"):
        domain.join_domain(domain_number)


@pytest.fixture
def domain_number(request):
    # The module under test has the fixture's usual name.
    return request.getfixturevalue("domain")


def test_the_domain_is_shared_and_left_with_its_last_node(domain_number):
    first = domain.join_domain(domain_number)
    second = domain.join_domain(domain_number)
    assert first is second
    domain.leave_domain(first)
    assert domain._domains[domain_number].nodes == 1
    domain.leave_domain(second)
    assert domain_number not in domain._domains
