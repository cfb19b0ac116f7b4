"""A real ROS 2 beside us: found, sourced and spoken to in processes of its own."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from domains import domain_of_a_test
from ros_vendors import vendors


def find_setup():
    """Return the setup.bash of a ROS 2 installation, ``None`` when there is none."""
    prefixes = [os.environ.get("EVDISTILL_ROS_PREFIX", "")]
    prefixes += os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    prefixes += sorted(str(p) for p in Path("/opt/ros").glob("*"))
    candidates = [Path(p) / "setup.bash" for p in prefixes if p]
    return next((c for c in candidates if c.is_file()), None)


class Ros:
    """Runs commands with ROS sourced, in a domain of its own on this machine alone."""

    def __init__(self, setup, domain, rmw):
        self.domain = domain
        self.rmw = rmw
        self._setup = setup
        self._processes = []

    def start(self, command, **env):
        """Start a shell command with ROS sourced; its output is kept for `subprocess` calls."""
        words = f"source {shlex.quote(str(self._setup))} && exec {command}"
        process = subprocess.Popen(
            ["bash", "-c", words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **{k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
                "RMW_IMPLEMENTATION": self.rmw,
                "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
                "ROS_DOMAIN_ID": str(self.domain),
                "PYTHONUNBUFFERED": "1",
                **env,
            },
        )
        self._processes.append(process)
        return process

    def run(self, command, timeout_s=60):
        """Run a shell command to its end; return (stdout, stderr)."""
        process = self.start(command)
        out, err = process.communicate(timeout=timeout_s)
        assert process.returncode == 0, f"{command}\n{out}\n{err}"
        return out, err

    def python(self, script, *arguments):
        """Start a Python script with rclpy."""
        words = [sys.executable, "-c", script, *map(str, arguments)]
        return self.start(shlex.join(words))

    def stop(self):
        """End what is left."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture(params=vendors())
def ros(request, monkeypatch):
    """A ROS 2 installation; the test is skipped where there is none."""
    setup = find_setup()
    if setup is None:
        pytest.skip("no ROS 2 installation (set EVDISTILL_ROS_PREFIX or source one)")
    domain = domain_of_a_test()
    for name in ("CYCLONEDDS_URI", "ROS_LOCALHOST_ONLY", "ROS_STATIC_PEERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    running = Ros(setup, domain, request.param)
    probe = running.start(shlex.join([sys.executable, "-c", "import rclpy"]))
    if probe.wait(60) != 0:
        pytest.skip(f"{setup}: rclpy does not import in this Python: {probe.stderr.read()[-200:]}")
    yield running
    running.stop()
