"""A camera on a domain of its own, and `evdistill` commands beside it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("cyclonedds", reason="needs cyclonedds: pip install .[dds]")

from evdistill_core.events.packet import Packet
from evdistill_core.recordings.opening import open_recording
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode

REPOSITORY = Path(__file__).resolve().parents[2]
STREET = REPOSITORY / "demo" / "davis346_street.mcap"


class Command:
    """One running `evdistill ...`; killed at the end of the test if it still runs."""

    def __init__(self, *arguments: object) -> None:
        words = [sys.executable, "-m", "evdistill_core", *map(str, arguments)]
        self.process = subprocess.Popen(
            words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.output = ""

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def wait_until_busy(self, cpu_s: float) -> None:
        """Wait until it has computed so long: on a busy machine no clock tells how far it is."""
        process, end_s = psutil.Process(self.process.pid), time.monotonic() + 60
        while sum(process.cpu_times()[:2]) < cpu_s and self.process.poll() is None:
            assert time.monotonic() < end_s, "the command does nothing"
            time.sleep(0.01)

    def wait_for_children(self, count: int) -> list[psutil.Process]:
        """Wait until it has started so many processes, and return them."""
        process, end_s = psutil.Process(self.process.pid), time.monotonic() + 60
        while len(children := process.children(recursive=True)) < count:
            assert time.monotonic() < end_s, f"{len(children)} of {count} processes"
            time.sleep(0.01)
        return children

    def wait(self, timeout_s: float = 60) -> int:
        self.output, _ = self.process.communicate(timeout=timeout_s)
        return self.process.returncode

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def evdistill(domain):
    started = []

    def start(*arguments: object) -> Command:
        started.append(Command(*arguments))
        return started[-1]

    yield start
    for command in started:
        command.kill()


class Camera:
    """A node of the test that publishes events and keeps what comes back."""

    def __init__(self, node: DdsNode) -> None:
        self.node = node
        self.got: dict[str, list[Packet]] = {}
        self._publisher = None
        self._subscriptions = []

    def advertise(self, topic="/event_camera/events", kind="event_camera_msgs/msg/EventPacket"):
        self._publisher = self.node.create_publisher(topic, kind, qos.EVENTS)
        return self._publisher

    def listen(self, topic: str, kind: str, profile: qos.QosProfile | None = None) -> list[Packet]:
        kept = self.got.setdefault(topic, [])
        subscription = self.node.create_subscription(
            topic, kind, profile or qos.QosProfile(depth=500), kept.append
        )
        self._subscriptions.append(subscription)
        return kept

    def wait_for_publishers(self):
        """Return when every topic that is listened to has somebody who publishes on it."""
        for subscription in self._subscriptions:
            assert subscription.wait_for_publisher(60), "nobody publishes"
        time.sleep(0.3)  # the other side learns of it a moment later

    def send(self, packets, period_s=0.01):
        assert self._publisher.wait_for_subscriber(60), "nobody subscribes"
        time.sleep(0.3)
        for packet in packets:
            self._publisher.publish(bytes(packet.data))
            time.sleep(period_s)


@pytest.fixture
def camera(domain):
    with DdsNode("camera") as node:
        yield Camera(node)


@pytest.fixture(scope="session")
def street_packets():
    if not STREET.exists():
        pytest.skip(f"no {STREET}")
    with open_recording(STREET) as recording:
        return list(recording.packets())
