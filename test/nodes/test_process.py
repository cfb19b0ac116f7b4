"""Signals at a node that is still starting, and at one that works. Needs no ROS."""

import signal
import subprocess
import sys
import textwrap
import time

import pytest

PROGRAM = """
    import sys, time
    from evdistill_ros.nodes import process
    process.STARTING_S = 0.5
    with process.ordered_end() as signals:
        if sys.argv[1] == "works":
            signals.has_started.set()
        print("ready", flush=True)
        end = time.monotonic() + 30
        while time.monotonic() < end and not (signals.received and sys.argv[1] == "works"):
            time.sleep(0.01)
        time.sleep(1.0)  # putting away
        print("put away", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("state", ["starts", "works"])
def test_a_start_is_cut_short_and_work_is_put_away(state, number):
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), state],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert program.stdout.readline() == "ready\n"
    began = time.monotonic()
    program.send_signal(number)
    program.send_signal(number)
    said, _ = program.communicate(timeout=60)
    assert program.returncode == 0
    assert said == ("put away\n" if state == "works" else "")
    assert time.monotonic() - began < 20
