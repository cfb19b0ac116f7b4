"""Our DDS node and a real rclpy node, both ways."""

import json
import shlex
import time

import pytest

from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import Header, Image, Time
from evdistill_core.messages.vision import LabelInfo, VisionClass
from evdistill_ros import qos

pytest.importorskip("cyclonedds", reason="needs cyclonedds: pip install .[dds]")

from evdistill_ros.dds import DdsNode

pytestmark = [pytest.mark.ros, pytest.mark.slow]

LISTENER = """
import json, sys, time
import rclpy
from event_camera_msgs.msg import EventPacket
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import LabelInfo

expected = int(sys.argv[1])
rclpy.init()
node = rclpy.create_node("listener")
found = {"packets": [], "images": [], "labels": []}
best_effort = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)
latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
node.create_subscription(EventPacket, "/camera/events", lambda m: found["packets"].append(
    [m.seq, m.width, m.height, m.encoding, m.header.frame_id, len(m.events), sum(m.events[:100])]
), best_effort)
node.create_subscription(Image, "/camera/mask", lambda m: found["images"].append(
    [m.header.stamp.sec, m.width, m.height, m.step, m.encoding, bytes(m.data).hex()]
), 10)
node.create_subscription(LabelInfo, "/camera/label_info", lambda m: found["labels"].append(
    [[c.class_id, c.class_name] for c in m.class_map]
), latched)
print("ready", flush=True)
end = time.time() + 30
while time.time() < end and not (
    len(found["packets"]) >= expected and found["images"] and found["labels"]
):
    rclpy.spin_once(node, timeout_sec=0.05)
print(json.dumps(found))
node.destroy_node()
rclpy.try_shutdown()
"""

TALKER = """
import sys, time
import rclpy
from event_camera_msgs.msg import EventPacket
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

rclpy.init()
node = rclpy.create_node("talker", namespace="/far")
best_effort = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)
events = node.create_publisher(EventPacket, "/camera/events", best_effort)
images = node.create_publisher(Image, "/camera/image_raw", 10)
end = time.time() + 30
while time.time() < end and not (
    events.get_subscription_count() and images.get_subscription_count()
):
    rclpy.spin_once(node, timeout_sec=0.05)
time.sleep(0.5)
image = Image(width=3, height=2, step=3, encoding="mono8", data=bytes(range(6)))
image.header.stamp.sec = 7
images.publish(image)
payload = bytes(range(256)) * (int(sys.argv[2]) // 256)
for seq in range(int(sys.argv[1])):
    m = EventPacket(width=346, height=260, seq=seq, encoding="evt3")
    m.events = payload
    events.publish(m)
    time.sleep(0.01)
time.sleep(1)
node.destroy_node()
rclpy.try_shutdown()
"""


def wait_for(predicate, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not predicate() and time.monotonic() < deadline:
        time.sleep(0.01)
    return predicate()


def test_rclpy_reads_what_we_publish(ros):
    listener = ros.python(LISTENER, 100)
    with DdsNode("camera", "/far") as node:
        events = node.create_publisher("/camera/events", EventPacket.TYPE, qos.EVENTS)
        masks = node.create_publisher("/camera/mask", Image.TYPE, qos.RESULTS)
        labels = node.create_publisher("/camera/label_info", LabelInfo.TYPE, qos.LATCHED)
        table = LabelInfo(class_map=[VisionClass(5, "vehicle"), VisionClass(255, "unlabelled")])
        assert labels.publish(table.serialize())
        assert events.wait_for_subscriber(30)
        assert masks.wait_for_subscriber(30)
        header = Header(Time(7, 8), "cam")
        mask = Image(header, 2, 3, "mono8", 0, 3, bytes(range(6)))
        assert masks.publish(mask.serialize())
        payload = bytes(range(250)) * 400
        for seq in range(100):
            packet = EventPacket(header, 260, 346, seq, 0, "evt3", False, payload)
            assert events.publish(packet.serialize())
            time.sleep(0.01)
        out, err = listener.communicate(timeout=60)
    found = json.loads(out.splitlines()[-1])
    assert found["images"] == [[7, 3, 2, 3, "mono8", bytes(range(6)).hex()]]
    assert found["labels"] == [[[5, "vehicle"], [255, "unlabelled"]]]
    assert [p[0] for p in found["packets"]] == list(range(100))
    assert found["packets"][0][1:] == [346, 260, "evt3", "cam", 100_000, sum(range(100))]
    # Nodes of Iron and later complain about endpoints that do not send a type hash.
    assert "type hash" not in err.lower(), err


@pytest.mark.parametrize("size", [3_328, 1_000_192])
def test_we_read_what_rclpy_publishes(ros, size):
    count = 100
    packets, images = [], []
    with DdsNode("ears") as node:
        talker = ros.python(TALKER, count, size)
        found = node.wait_for_publisher("/camera/events", 30)
        assert [e.type_name for e in found] == [EventPacket.TYPE]
        assert found[0].qos.reliability == "best_effort"
        assert found[0].type_hash.startswith("RIHS01_d6fa1762")
        sub = node.create_subscription(
            "/camera/events", found[0].type_name, qos.EVENTS, packets.append
        )
        node.create_subscription("/camera/image_raw", Image.TYPE, qos.RESULTS, images.append)
        out, err = talker.communicate(timeout=60)
        assert talker.returncode == 0, out + err
        assert wait_for(lambda: len(packets) == count, 5), (len(packets), sub.lost)
        image = Image.parse(images[0].data)
        assert (image.header.stamp.sec, image.width, bytes(image.data)) == (7, 3, bytes(range(6)))
        for seq, packet in enumerate(packets):
            message = EventPacket.parse(packet.data)
            assert message.seq == seq
            assert bytes(message.events) == bytes(range(256)) * (size // 256)
        assert wait_for(lambda: node.find_topic("/camera/events") == [])
        assert node.failure is None
    assert "type hash" not in err.lower(), err


def test_ros2_sees_our_node_and_forgets_it(ros):
    with DdsNode("front_end", "/robot1") as node:
        node.create_publisher("~/mask", Image.TYPE, qos.RESULTS)
        node.create_subscription("/camera/events", EventPacket.TYPE, qos.EVENTS, lambda p: None)
        options = "--no-daemon --spin-time 3"
        nodes, err = ros.run(f"ros2 node list {options}")
        assert nodes.split() == ["/robot1/front_end"]
        assert "type hash" not in err.lower(), err
        info, _ = ros.run(f"ros2 node info /robot1/front_end {options}")
        subscribers, publishers = info.split("Publishers:")
        assert f"/camera/events: {EventPacket.TYPE}" in subscribers
        assert f"/robot1/front_end/mask: {Image.TYPE}" in publishers
        topic, _ = ros.run(f"ros2 topic info -v /robot1/front_end/mask {options}")
        assert "Node name: front_end" in topic
        assert "Node namespace: /robot1" in topic
        assert "RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47" in topic
        assert "Reliability: RELIABLE" in topic
    nodes, _ = ros.run("ros2 node list --no-daemon --spin-time 2")
    assert "front_end" not in nodes


def test_ros2_topic_hz_measures_our_rate(ros):
    with DdsNode("camera") as node:
        events = node.create_publisher("/camera/events", EventPacket.TYPE, qos.EVENTS)
        hz = ros.start("timeout -s INT 12 ros2 topic hz --window 100 /camera/events")
        assert events.wait_for_subscriber(30)
        packet = EventPacket(width=346, height=260, encoding="evt3", events=bytes(30_000))
        data = packet.serialize()
        begin = time.monotonic()
        for i in range(400):
            time.sleep(max(0.0, begin + i / 100 - time.monotonic()))
            events.publish(data)
        out, err = hz.communicate(timeout=30)
    rates = [float(line.split()[-1]) for line in out.splitlines() if "average rate" in line]
    assert rates, out + err
    assert 95 < rates[-1] < 105


def test_an_rclpy_reader_of_the_wrong_kind_is_told_of(ros):
    warnings = []
    listener = LISTENER.replace("ReliabilityPolicy.BEST_EFFORT", "ReliabilityPolicy.RELIABLE")
    with DdsNode("camera", on_warning=warnings.append) as node:
        node.create_publisher("/camera/events", EventPacket.TYPE, qos.EVENTS)
        ros.python(listener, 1)
        assert wait_for(lambda: warnings)
    assert "subscribe with best_effort" in warnings[0]


def test_the_services_of_a_node_answer_ros2(ros):
    """Clients on Cyclone get answers; those on another RMW are told of in our log."""
    from evdistill_core.messages.services import SERVICE_TYPES, SetBoolResponse, State
    from evdistill_core.messages.services import GetStateResponse as Response

    warnings = []
    with DdsNode("server", "/left", on_warning=warnings.append) as node:
        node.create_service(
            "~/get_state",
            SERVICE_TYPES["lifecycle_msgs/srv/GetState"],
            lambda _: Response(State(State.ACTIVE, "active")),
        )
        enable = node.create_service(
            "~/enable",
            SERVICE_TYPES["std_srvs/srv/SetBool"],
            lambda request: SetBoolResponse(request.data, "as you wish"),
        )
        info, err = ros.run("ros2 node info /left/server --no-daemon --spin-time 3")
        assert "type hash" not in err.lower(), err
        assert "/left/server/enable: std_srvs/srv/SetBool" in info.split("Service Servers:")[1]
        call = "timeout -k 3 15 ros2 service call "
        call += "/left/server/enable std_srvs/srv/SetBool '{data: true}'"
        if ros.rmw != "rmw_cyclonedds_cpp":
            ros.start(f"bash -c {shlex.quote(call)}").communicate(timeout=60)
            assert wait_for(lambda: enable.foreign == 1)
            assert "RMW_IMPLEMENTATION=rmw_cyclonedds_cpp" in warnings[-1]
            assert enable.answered == 0
            return
        said, _ = ros.run(f"bash -c {shlex.quote(call)}")
        assert "success=True, message='as you wish'" in said
        state, _ = ros.run("ros2 lifecycle get /left/server --no-daemon --spin-time 3")
        assert state.strip() == "active [3]"
        assert (enable.answered, enable.foreign, warnings) == (1, 0, [])
