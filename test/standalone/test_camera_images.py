"""Which topic the node takes camera images from, with other nodes in the graph."""

import time

import pytest

from evdistill_core.messages.standard import CompressedImage, Header, Image, Time
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode
from evdistill_ros.standalone.camera_images import camera_images


@pytest.fixture
def nodes(domain):
    with DdsNode("camera") as camera, DdsNode("student") as student:
        yield camera, student


def until(condition, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def advertised(camera, student, topic, kind):
    publisher = camera.create_publisher(topic, kind.TYPE, qos.DEFAULT)
    until(lambda: student.graph.publishers(topic))
    return publisher


def message(kind, k):
    header = Header(Time(k, 0), "camera")
    if kind is Image:
        return Image(header, 1, 1, "mono8", 0, 1, b"\x07").serialize()
    return CompressedImage(header, "jpeg", b"\xff").serialize()


def received(publisher, kind, got, k):
    assert publisher.wait_for_subscriber(20)
    publisher.publish(message(kind, k))
    until(lambda: got and got[-1].type_name == kind.TYPE)
    assert kind.parse(got[-1].data).header.stamp.sec == k


@pytest.mark.parametrize(
    ("name", "kind"), [("", Image), ("", CompressedImage), ("/compressed", CompressedImage)]
)
def test_the_type_is_that_of_the_topic(nodes, topic, name, kind):
    camera, student = nodes
    got, said = [], []
    publisher = advertised(camera, student, topic + name, kind)
    camera_images(student, topic, got.append, said.append)
    received(publisher, kind, got, 5)
    expected = [] if kind is Image else [f"images from {topic}{name} ({CompressedImage.TYPE})"]
    assert said == expected


def test_a_camera_that_comes_later_is_followed(nodes, topic):
    camera, student = nodes
    got, said = [], []
    images = camera_images(student, topic, got.append, said.append)
    compressed = advertised(camera, student, f"{topic}/compressed", CompressedImage)
    images.follow()
    images.follow()
    received(compressed, CompressedImage, got, 1)
    raw = advertised(camera, student, topic, Image)
    images.follow()
    received(raw, Image, got, 2)
    until(lambda: compressed.matched_count == 0)
    assert len(said) == 1


def test_a_name_tells_the_type_while_nobody_publishes(nodes, topic):
    camera, student = nodes
    got, said = [], []
    compressed = f"{topic}/compressed"
    images = camera_images(student, compressed, got.append, said.append)
    assert said == [f"images from {compressed} ({CompressedImage.TYPE})"]
    publisher = advertised(camera, student, compressed, CompressedImage)
    received(publisher, CompressedImage, got, 3)
    images.follow()
    assert len(said) == 1
