"""A domain of its own for each test, on this machine alone."""

import os
import random

import pytest

pytest.importorskip("cyclonedds", reason="needs cyclonedds: pip install .[dds]")


@pytest.fixture
def domain(monkeypatch):
    """Number of a DDS domain that nobody else is likely to be in."""
    # Above 101 the ports of DDS meet those that the system gives to clients.
    number = random.SystemRandom().randint(10, 100)
    for name in ("CYCLONEDDS_URI", "ROS_LOCALHOST_ONLY", "ROS_STATIC_PEERS", "RMW_IMPLEMENTATION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
    return number


@pytest.fixture
def topic():
    """A topic name that no other test uses."""
    return f"/t_{os.getpid()}_{random.SystemRandom().randint(0, 2**40)}"
