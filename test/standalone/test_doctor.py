"""`evdistill doctor`: every finding with its cure, and the exit code."""

import threading

import pytest

from evdistill_core.messages.standard import Image
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_ros import qos
from evdistill_ros.standalone.doctor import (
    check_buffers,
    check_environment,
    check_student,
    check_topic,
)


def levels(findings):
    return {f.topic: f.level for f in findings}


@pytest.mark.parametrize(
    ("environment", "topic", "level", "words"),
    [
        ({}, "RMW", "ok", "default"),
        ({"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}, "RMW", "error", "does not see Zenoh"),
        ({"RMW_IMPLEMENTATION": "rmw_new_cpp"}, "RMW", "warn", "not known"),
        ({"ROS_DOMAIN_ID": "7"}, "domain", "ok", "7"),
        ({"ROS_DOMAIN_ID": "300"}, "domain", "error", "0 .. 232"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, "discovery", "error", "nobody is seen"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "NEAR"}, "discovery", "warn", "'NEAR'"),
        ({"ROS_LOCALHOST_ONLY": "1"}, "discovery", "warn", "deprecated"),
        ({"ROS_STATIC_PEERS": "10.0.0.2"}, "discovery", "ok", "10.0.0.2"),
    ],
)
def test_the_environment(environment, topic, level, words):
    (found,) = [f for f in check_environment(environment) if f.topic == topic]
    assert found.level == level
    assert words in found.text
    assert bool(found.cure) == (level == "error" or (topic == "discovery" and level == "warn"))


def test_each_vendor_has_its_receive_buffer(tmp_path):
    for name, value in (("rmem_max", 16 << 20), ("rmem_default", 212_992)):
        (tmp_path / name).write_text(f"{value}\n")
    cyclone, fast = check_buffers(tmp_path, {})
    assert (cyclone.level, fast.level) == ("ok", "warn")
    assert "net.core.rmem_default is 212992 bytes" in fast.text
    assert "sysctl -w net.core.rmem_default=4194304" in fast.cure
    assert "~/mask/compressed" in fast.cure
    (only,) = check_buffers(tmp_path, {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"})
    assert "Cyclone" in only.topic
    (tmp_path / "rmem_default").write_text("4194304")
    assert [f.level for f in check_buffers(tmp_path, {})] == ["ok", "ok"]


def test_a_buffer_that_is_small_or_unknown(tmp_path):
    (tmp_path / "rmem_max").write_text("212992\n")
    (found, unknown) = check_buffers(tmp_path, {"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"})
    assert (found.level, "sysctl -w net.core.rmem_max=" in found.cure) == ("warn", True)
    assert (unknown.level, "cannot be read" in unknown.text) == ("warn", True)


def test_a_student_that_is_missing(tmp_path):
    found = check_student(SegmentationParameters(student=str(tmp_path / "none.evstudent")))
    assert found.level == "error"
    assert "no student file at" in found.text


class Publishing:
    """Publishes packets over and over while the block runs."""

    def __init__(self, camera, packets, period_s):
        self.camera, self.packets, self.period_s = camera, packets, period_s
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        i = 0
        while not self.stop.wait(self.period_s):
            self.camera._publisher.publish(bytes(self.packets[i % len(self.packets)].data))
            i += 1

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def test_a_topic_that_works(camera, street_packets):
    camera.advertise()
    with Publishing(camera, street_packets[:200], 0.005):
        found = list(check_topic("/event_camera/events", seconds=1.0))
    assert levels(found) == {
        "/event_camera/events": "ok", "QoS": "ok", "rate": "ok", "encoding": "ok", "stamps": "warn",
    }  # fmt: skip
    texts = {f.topic: f.text for f in found}
    assert texts["encoding"] == "libcaer_cmp, 346x260"
    assert 50 < float(texts["rate"].split()[0]) < 250
    assert "use_sim_time" in found[-1].cure


def test_topics_that_do_not_work(camera, street_packets):
    camera.advertise("/other/events")
    (found,) = check_topic("/event_camera/events", seconds=1.0)
    assert found.level == "error"
    assert "topics with events: /other/events" in found.text
    silent = list(check_topic("/other/events", seconds=0.5))
    assert levels(silent)["rate"] == "error"
    with Publishing(camera, street_packets[::3], 0.1):
        slow = list(check_topic("/other/events", seconds=1.5))
    assert levels(slow)["rate"] == "warn"
    assert levels(slow)["losses"] == "warn"
    camera.node.create_publisher("/pictures", Image.TYPE, qos.DEFAULT)
    found = list(check_topic("/pictures", seconds=2.0))
    assert found[-1].level == "error"
    assert "which are no events" in found[-1].text


def test_damaged_packets(camera, street_packets):
    class Broken:
        data = b"\0\1\0\0" + bytes(60)

    camera.advertise()
    with Publishing(camera, [Broken()], 0.01):
        found = list(check_topic("/event_camera/events", seconds=0.6))
    assert levels(found)["encoding"] == "error"


@pytest.mark.slow
def test_the_command_ends_with_1_when_something_keeps_the_node_from_working(
    evdistill, camera, tiny_student, street_packets
):
    camera.advertise()
    with Publishing(camera, street_packets[:100], 0.01):
        good = evdistill("doctor", "--student", tiny_student, "--seconds", "1")
        assert good.wait() == 0, good.output
    assert "0 errors" in good.output
    assert "ONNX Runtime" in good.output or "OpenVINO" in good.output
    bad = evdistill("doctor", "--events", "/nowhere", "--seconds", "0.5", "--student", "none")
    assert bad.wait() == 1
    assert "-> start the driver" in bad.output
    assert "2 errors" in bad.output
    assert "Traceback" not in bad.output
