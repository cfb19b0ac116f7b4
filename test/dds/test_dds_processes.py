"""Messages over real DDS between two processes."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from evdistill_core.messages.event_messages import EventPacket
from evdistill_ros import qos
from evdistill_ros.dds import DdsError, DdsNode

IMAGE = "sensor_msgs/msg/Image"

SENDER = """
import sys, time
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode
topic, count, size, rate_hz = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
with DdsNode("sender") as node:
    pub = node.create_publisher(topic, "event_camera_msgs/msg/EventPacket", qos.EVENTS)
    assert pub.wait_for_subscriber(30)
    payload = bytes(size - 12)
    begin = time.monotonic()
    for i in range(count):
        time.sleep(max(0.0, begin + i / rate_hz - time.monotonic()))
        pub.publish(b"\\0\\1\\0\\0" + i.to_bytes(8, "little") + payload)
    time.sleep(0.5)
"""

KEEP_ALL = qos.QosProfile(depth=0)

STOPPED_READER = """
import sys, time
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode
with DdsNode("sleeper") as node:
    node.create_subscription(sys.argv[1], "sensor_msgs/msg/Image", qos.RESULTS, lambda p: None)
    print("ready", flush=True)
    time.sleep(60)
"""


def start(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))


def wait_for(predicate, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not predicate() and time.monotonic() < deadline:
        time.sleep(0.005)
    return predicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "size", "rate_hz"), [(1250, 100_000, 250), (300, 1_000_000, 100)]
)
def test_a_camera_loses_nothing(domain, topic, count, size, rate_hz):
    numbers = []
    with DdsNode("ears") as node:

        def note(packet):
            numbers.append((int.from_bytes(packet.data[4:12], "little"), len(packet.data)))

        sub = node.create_subscription(topic, EventPacket.TYPE, qos.EVENTS, note)
        sender = start(SENDER, topic, count, size, rate_hz)
        assert sender.wait(60) == 0
        assert sub.lost == 0
    assert numbers == [(i, size) for i in range(count)]


@pytest.mark.slow
def test_a_blocked_reliable_writer_stops_nobody_else(domain, topic):
    reader = start(STOPPED_READER, topic)
    assert reader.stdout.readline() == "ready\n"
    stalls, stop = [], threading.Event()

    def tick():
        last = time.monotonic()
        while not stop.is_set():
            time.sleep(0.001)
            now = time.monotonic()
            stalls.append(now - last)
            last = now

    with DdsNode("writer") as node:
        pub = node.create_publisher(topic, IMAGE, KEEP_ALL, max_blocking_ms=2000)
        assert pub.wait_for_subscriber(30)
        reader.send_signal(signal.SIGSTOP)  # alive for DDS, but it acknowledges nothing
        ticker = threading.Thread(target=tick)
        ticker.start()
        data = b"\0\1\0\0" + bytes(400_000)
        begin = time.monotonic()
        while not pub.timeouts and time.monotonic() - begin < 20:
            pub.publish(data)
        waited_s = time.monotonic() - begin
        stop.set()
        ticker.join()
        assert pub.timeouts == 1
        assert waited_s >= 2.0
        # Holding the interpreter lock would make one stall as long as the wait.
        assert max(stalls) < 1.5
        begin = time.monotonic()
    assert time.monotonic() - begin < 15  # closing does not wait for the stopped reader
    reader.kill()
    reader.wait()


@pytest.mark.slow
def test_a_publisher_that_keeps_the_last_ones_never_waits(domain, topic):
    reader = start(STOPPED_READER, topic)
    assert reader.stdout.readline() == "ready\n"
    with DdsNode("writer") as node:
        pub = node.create_publisher(topic, IMAGE, qos.RESULTS, max_blocking_ms=600_000)
        assert pub.wait_for_subscriber(30)
        reader.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        for _ in range(200):
            assert pub.publish(b"\0\1\0\0" + bytes(400_000))
        assert time.monotonic() - begin < 60
    reader.kill()
    reader.wait()


@pytest.mark.slow
def test_close_waits_for_a_blocked_writer_no_longer_than_it_may_block(domain, topic):
    reader = start(STOPPED_READER, topic)
    assert reader.stdout.readline() == "ready\n"
    node = DdsNode("writer")
    pub = node.create_publisher(topic, IMAGE, KEEP_ALL, max_blocking_ms=2000)
    assert pub.wait_for_subscriber(30)
    reader.send_signal(signal.SIGSTOP)
    ended = threading.Event()

    def write():
        data = b"\0\1\0\0" + bytes(400_000)
        try:
            while True:
                pub.publish(data)
        except DdsError:
            ended.set()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    assert wait_for(lambda: pub.timeouts)  # from now on it nearly always waits
    begin = time.monotonic()
    node.close()
    assert ended.wait(10)
    assert time.monotonic() - begin < 15
    reader.kill()
    reader.wait()


@pytest.mark.slow
def test_a_killed_publisher_is_forgotten_and_its_successor_found(domain, topic):
    received = []
    with DdsNode("ears") as node:
        sub = node.create_subscription(topic, EventPacket.TYPE, qos.EVENTS, received.append)
        first = start(SENDER, topic, 10_000, 1000, 100)
        assert wait_for(lambda: len(received) > 10)
        first.kill()
        first.wait()
        assert wait_for(lambda: sub.matched_count == 0, 20)  # the lease is 10 s
        # What the node is matched with and what it knows of come from two readers.
        assert wait_for(lambda: node.find_topic(topic) == [], 20)
        count = len(received)
        second = start(SENDER, topic, 20, 1000, 100)
        assert wait_for(lambda: len(received) == count + 20)
        assert second.wait(30) == 0
        assert node.failure is None
