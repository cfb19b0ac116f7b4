import platform
import subprocess
import sys

import pytest

from evdistill_core.foundation import memory

PROGRAM = """
import resource, sys
import numpy as np
from evdistill_core.foundation.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def use():
    held = [np.empty(1 << 20, np.uint8) for _ in range(12)]
    for array in held:
        array[::4096] = 1
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_arrays_reuse_the_pages_of_those_before_them():
    assert faults("keep") < 12 * 256 < faults("leave")  # 256 pages an array


def test_a_c_library_without_the_setting_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert not memory.keep_freed_memory()
