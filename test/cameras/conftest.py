"""Cameras without hardware: dv-processing's own network streams, and a fake of its USB side."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from evdistill_core.cameras.address import CameraAddress
from evdistill_core.cameras.camera import Camera

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]


class Sender:
    """The process that sends; see ``sender.py``."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "sender.py"), *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait_for(self, word):
        assert self.process.stdout.readline().strip() == word

    def kill(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def sender():
    pytest.importorskip("dv_processing")
    started = []

    def start(*arguments):
        started.append(Sender(*arguments))
        started[-1].wait_for("ready")
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def record():
    """Start `evdistill record`; killed at the end if it still runs."""
    started = []

    def start(*arguments, before=""):
        command = [sys.executable, "-m", "evdistill_core", "record", *map(str, arguments)]
        started.append(
            subprocess.Popen(
                ["bash", "-c", f'{before} exec "$@"', "record", *command],
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def fake(monkeypatch):
    """Return a function that plugs in a fake camera; see ``fake/dv_processing.py``."""

    def plug(words):
        monkeypatch.setenv("PYTHONPATH", str(HERE / "fake"))
        monkeypatch.setenv("FAKE_CAMERA", words)

    return plug


@pytest.fixture
def open_fake(fake):
    def start(words, name="", **options):
        fake(words)
        return Camera(CameraAddress("inivation", name=name), **options)

    return start


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
