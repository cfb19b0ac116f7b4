"""A topic of its own for each test over real DDS."""

import os
import random

import pytest

pytest.importorskip("cyclonedds", reason="needs cyclonedds: pip install .[dds]")


@pytest.fixture
def topic():
    """A topic name that no other test uses."""
    return f"/t_{os.getpid()}_{random.SystemRandom().randint(0, 2**40)}"
