"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real recordings and images, or skip and say why."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("EVDISTILL_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder} (set EVDISTILL_TEST_DATA to it)")
    return folder
