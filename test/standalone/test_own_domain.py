import os

import pytest
from domains import domain_of_a_test

from evdistill_core.foundation.errors import ConfigError
from evdistill_ros.dds import DdsNode
from evdistill_ros.standalone.own_domain import DOMAINS, free_domain, own_domain


def test_a_domain_that_a_node_is_in_is_not_free(domain):
    assert free_domain([domain]) == domain
    other = domain_of_a_test()
    while other == domain:
        other = domain_of_a_test()
    with DdsNode("first"):
        with pytest.raises(
            ConfigError, match=rf"all DDS domains in {domain} \.\. {domain} are taken"
        ):
            free_domain([domain])
        assert free_domain([domain, other]) == other


def test_a_domain_of_the_whole_network_is_not_free_either(domain, monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    with DdsNode("first"), pytest.raises(ConfigError, match="are taken"):
        free_domain([domain])


def test_the_environment_says_the_domain_and_comes_back(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAINS[3]))
    monkeypatch.setenv("CYCLONEDDS_URI", "<CycloneDDS/>")
    before = dict(os.environ)
    with own_domain() as number:
        assert number in DOMAINS
        assert number != DOMAINS[3]
        assert os.environ["ROS_DOMAIN_ID"] == str(number)
        assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
        assert "CYCLONEDDS_URI" not in os.environ
    assert dict(os.environ) == before
