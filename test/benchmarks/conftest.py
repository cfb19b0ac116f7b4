"""The accuracy benchmark's modules, for its tests."""

import sys
from pathlib import Path

import pytest

ACCURACY = Path(__file__).resolve().parents[2] / "benchmarks" / "accuracy"


@pytest.fixture
def modules(monkeypatch):
    """The benchmark's modules lie side by side in its folder, as a script sees them."""
    monkeypatch.syspath_prepend(str(ACCURACY))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(ACCURACY) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
