"""Plain topics of every ROS graph: /rosout and /clock."""

import logging
import time

from evdistill_core.messages.standard import Clock, Log, Time
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode
from evdistill_ros.dds.clock import GraphClock
from evdistill_ros.dds.rosout import RosoutHandler


def wait_for(predicate, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while not predicate() and time.monotonic() < deadline:
        time.sleep(0.002)
    return predicate()


def test_log_records_reach_rosout_and_late_joiners(domain):
    received = []
    log = logging.getLogger("test.rosout")
    log.setLevel(logging.DEBUG)
    with DdsNode("front_end", "/robot1") as node:
        handler = RosoutHandler(node)
        log.addHandler(handler)
        log.warning("camera %s is silent", "left")
        log.log(35, "between warning and error")
        with DdsNode("console") as console:
            console.create_subscription("/rosout", Log.TYPE, qos.ROSOUT, received.append)
            assert wait_for(lambda: len(received) == 2)
        log.removeHandler(handler)
        node.close()
        handler.handle(logging.LogRecord("x", 20, "file", 1, "late", (), None))  # dropped
        handler.close()
    first, second = (Log.parse(p.data) for p in received)
    assert (first.level, first.name, first.msg) == (30, "robot1.front_end", "camera left is silent")
    assert first.file.endswith("test_rosout_clock.py")
    assert first.function == "test_log_records_reach_rosout_and_late_joiners"
    assert abs(first.stamp.to_ns() - time.time_ns()) < 60e9
    assert second.level == 30


def test_the_clock_is_followed_and_its_jumps_are_told(domain):
    jumps = []
    with DdsNode("player") as player, DdsNode("follower") as follower:
        clock = GraphClock(follower, lambda before, after: jumps.append((before, after)))
        assert clock.now_ns() == 0
        assert not clock.wait_until_running(0.02)
        pub = player.create_publisher("/clock", Clock.TYPE, qos.DEFAULT)
        assert pub.wait_for_subscriber(30)
        for now_ns in (5_000_000_000, 6_500_000_001, 1_000_000_000):
            pub.publish(Clock(Time.from_ns(now_ns)).serialize())
            assert wait_for(lambda t=now_ns: clock.now_ns() == t)
        assert clock.wait_until_running(1)
        pub.publish(b"\0\1\0\0\1")
        assert wait_for(lambda: clock.damaged == 1)
        clock.close()
    assert clock.jumps == 1
    assert jumps == [(6_500_000_001, 1_000_000_000)]
