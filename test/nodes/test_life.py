"""Deaths, returns and floods on a real ROS 2: rclpy node and DDS front end."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ros_graph import Process, node_process
from ros_vendors import LEASE_S

pytestmark = [pytest.mark.ros, pytest.mark.slow]

SENDER = Path(__file__).resolve().parents[2] / "benchmarks" / "node_cpu.py"


@pytest.fixture(params=["rclpy", "dds"])
def start(request, tiny_student):
    """Start the node under test in either form."""
    if request.param == "rclpy":
        return lambda: node_process(tiny_student)
    return lambda: Process(
        sys.executable, "-m", "evdistill_core", "live", "--student", tiny_student
    )


def listening(graph):
    return graph.spin(90, lambda: graph.events.get_subscription_count() > 0)


def test_a_killed_node_is_forgotten_and_a_new_one_takes_over(start, graph, packets, rmw):
    with start() as first:
        assert listening(graph)
        graph.send(packets[:20])
        first.process.kill()
        first.process.wait()
        began_s = time.monotonic()
        gone = graph.spin(
            LEASE_S[rmw] + 10,
            lambda: (
                "/segmentation" not in graph.names() and graph.events.get_subscription_count() == 0
            ),
        )
        assert gone, f"a stale entry is left: {graph.names()}"
        assert time.monotonic() - began_s <= LEASE_S[rmw] + 5
    before = len(graph.got["mask"])
    with start():
        assert listening(graph)
        graph.send(packets[20:60])
        assert len(graph.got["mask"]) > before + 4


def test_a_publisher_that_goes_and_comes_back(start, graph, packets):
    from event_camera_msgs.msg import EventPacket
    from rclpy.qos import QoSProfile, QoSReliabilityPolicy

    profile = QoSProfile(depth=1000, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    with start() as node:
        graph.send(packets[50:70])
        first = len(graph.got["mask"])
        graph.node.destroy_publisher(graph.events)
        assert graph.spin(10, lambda: graph.values() and graph.values()[0] == 2), "no ERROR"
        assert "no packet for" in graph.values()[1]
        graph.events = graph.node.create_publisher(EventPacket, "/event_camera/events", profile)
        assert listening(graph)
        graph.send(packets[:40])  # the driver's count and the sensor's time restart
        assert graph.spin(5, lambda: graph.values()[0] < 2), "it does not recover by itself"
        _, _, values = graph.values()
        assert node.process.poll() is None
    assert first >= 3
    assert len(graph.got["mask"]) >= first + 7
    assert int(values["messages_used"]) == 60
    assert int(values["breaks_time"]) == 1


@pytest.mark.soak
@pytest.mark.timeout(280)
def test_250_messages_a_second_of_100_kb_for_a_minute(start, graph):
    count = 15_000
    with start() as node:
        assert graph.spin(90, lambda: "/segmentation" in graph.names())
        sender = subprocess.Popen(
            [sys.executable, SENDER, "--send", str(count), "250", "100000"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert graph.spin(150, lambda: sender.poll() is not None)
            said = sender.stdout.read()
        finally:
            sender.kill()
        graph.spin(1.5)
        _, _, values = graph.values()
        node.end(signal.SIGINT)
    assert sender.returncode == 0
    words = said.split()
    size, seconds = int(words[4]), float(words[7])
    assert 99_000 < size < 101_000
    assert seconds < 75, f"the sender itself was too slow: {seconds} s"
    print(f"{count} messages of {size} bytes in {seconds:.1f} s: {values}")  # noqa: T201
    assert int(values["messages_received"]) == count
    assert int(values["messages_used"]) == count
    assert int(values.get("stream_lost_messages", 0)) == 0
    assert int(values["events"]) > count * 15_000
