"""Tests over real DDS need its library."""

import pytest

pytest.importorskip("cyclonedds", reason="needs cyclonedds: pip install .[dds]")
