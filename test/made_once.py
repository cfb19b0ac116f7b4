"""Files that tests share, also those of another process."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None], variable: str = ""
) -> Path:
    """Return a file that is made once for all processes of tests: an export takes seconds.

    Args:
        factory: of pytest.
        name: of the file.
        make: writes it.
        variable: of the environment, with the path for tests that run in processes of their own.
    """
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    path = Path(os.environ.get(variable, shared / name))
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            make(path)
    return path
