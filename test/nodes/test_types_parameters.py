"""Event types of old drivers, parameters by `ros2 param`, and QoS, on a real ROS 2."""

import subprocess
import sys

import numpy as np
import pytest
import yaml
from ros_graph import Process, node_process, set_parameter, stamps
from ros_vendors import LEASE_S

from evdistill_core.foundation.worker import wait_until

pytestmark = [pytest.mark.ros, pytest.mark.slow]


@pytest.fixture(autouse=True)
def no_daemon_stays():
    yield
    ros2("daemon", "stop", check=False)


def ros2(*arguments, check=True):
    done = subprocess.run(
        ["ros2", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def arrays_of(package, packets):
    """The demo's events as messages of an old driver, made by ROS from message objects."""
    import importlib

    from evdistill_core.events.stream import PacketDecoder

    module = importlib.import_module(f"{package}.msg")
    decoder = PacketDecoder()
    for packet in packets:
        decoded = decoder.push(packet)
        events = decoded.events
        message = module.EventArray(width=events.width, height=events.height)
        message.header.frame_id = "old_camera"
        stamp_ns = decoded.stamp_ns
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        for x, y, t_us, p in zip(events.x, events.y, events.t_us, events.p, strict=True):
            event = module.Event(x=int(x), y=int(y), polarity=bool(p))
            event.ts.sec, event.ts.nanosec = divmod(int(t_us) * 1000, 10**9)
            message.events.append(event)
        yield message, len(events)


@pytest.mark.parametrize("package", ["dvs_msgs", "prophesee_event_msgs", "dv_ros2_msgs"])
def test_old_drivers_are_read_without_configuration(package, tiny_student, graph, packets):
    import importlib

    kind = pytest.importorskip(f"{package}.msg").EventArray
    reliable = package == "dv_ros2_msgs"  # as that driver offers
    from rclpy.qos import QoSProfile, QoSReliabilityPolicy

    policy = QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT
    profile = QoSProfile(depth=1000, reliability=policy)
    assert importlib.import_module(f"{package}.msg")
    messages = list(arrays_of(package, packets[:45]))
    graph.node.destroy_publisher(graph.events)
    graph.events = graph.node.create_publisher(kind, "/event_camera/events", profile)
    with node_process(tiny_student) as node:
        assert graph.spin(60, lambda: graph.events.get_subscription_count() > 0)
        graph.spin(0.5)
        for message, _ in messages:
            graph.events.publish(message)
            graph.spin(0.01)
        graph.spin(1.5)
        _, _, values = graph.values()
        assert node.end() == 0
    assert f"({package}/msg/EventArray)" in node.output
    assert int(values["messages_used"]) == len(messages)
    assert int(values["events"]) == sum(count for _, count in messages)
    assert len(graph.got["mask"]) >= 7
    assert {m.header.frame_id for m in graph.got["mask"]} == {"old_camera"}


def test_a_missing_message_package_is_named_with_its_install_command():
    from evdistill_core.foundation.errors import ConfigError
    from evdistill_ros.nodes.message_classes import message_class

    with pytest.raises(
        ConfigError, match="evk4_msg/msg/EventArray is not installed: git clone htt"
    ):
        message_class("evk4_msg/msg/EventArray")
    with pytest.raises(ConfigError, match=r"apt install ros-\$ROS_DISTRO-no-such-msgs"):
        message_class("no_such_msgs/msg/Thing")


def test_parameters_by_the_command_line_of_ros(tiny_student, graph, tmp_path, rmw):
    name = "/segmentation"
    with node_process(tiny_student):
        assert graph.spin(60, lambda: graph.events.get_subscription_count() > 0)
        # The daemon of ros2 starts with the first command and looks around for itself.
        assert wait_until(lambda: name in ros2("node", "list").split(), timeout_s=60)
        shown = ros2("param", "describe", name, "window_us", "runtime", "min_score")
        assert "Length of a window in sensor time" in shown
        assert "[us]" in shown
        assert "Max value: 10000000" in shown
        assert "changes only while the node is unconfigured" in shown
        assert "one of auto, " in shown
        assert "Set parameter successful" in ros2("param", "set", name, "min_score", "0.75")
        assert "Set parameter successful" in ros2("param", "set", name, "publish_overlay", "false")
        refused = ros2("param", "set", name, "stall_warn_ms", "3000000", check=False)
        assert "stall_error_ms must not be below stall_warn_ms (3000000)" in refused
        assert "failed" in ros2("param", "set", name, "min_score", "7.0", check=False).lower()
        refused = ros2("param", "set", name, "device", "cuda", check=False)
        assert "device cannot change while the node is configured" in refused
        assert "Set parameter successful" in ros2("param", "set", name, "min_score", "1")
        assert "Set parameter successful" in ros2("param", "set", name, "min_score", "0.75")
        dumped = ros2("param", "dump", name)
        path = tmp_path / "dump.yaml"
        path.write_text(dumped)
        assert "Set parameter successful" in ros2("param", "set", name, "min_score", "0.1")
        loaded = ros2("param", "load", name, path, check=False)
        assert "Set parameter min_score successful" in loaded
        # A fixed parameter that is set to what it is changes nothing, and is taken.
        assert "Set parameter student successful" in loaded
        assert ros2("param", "get", name, "min_score").strip().endswith("0.75")
    values = yaml.safe_load(dumped)[name]["ros__parameters"]
    assert values["min_score"] == 0.75
    assert values["qos_overrides"]["/event_camera/events"]["subscription"] == {
        "depth": 1000,
        "history": "keep_last",
        "reliability": "best_effort",
    }
    # The same file starts the other front ends: nothing in it is unknown to them.
    from evdistill_core.perception.parameter_files import load_parameters

    again = load_parameters(path)
    assert (again.min_score, again.publish_overlay) == (0.75, False)
    assert again.student == str(tiny_student)
    assert graph.spin(LEASE_S[rmw] + 5, lambda: name not in graph.names())
    with Process(
        sys.executable, "-m", "evdistill_ros.nodes.segmentation_node", "--ros-args",
        "--params-file", path, "-r", "~/events:=/event_camera/events",
    ):  # fmt: skip
        assert graph.spin(60, lambda: graph.events.get_subscription_count() > 0)
        assert yaml.safe_load(ros2("param", "dump", name))[name]["ros__parameters"] == values


def test_flags_and_qos_overrides_take_effect(tiny_student, graph, packets, rmw):
    override = "qos_overrides./event_camera/events.subscription.reliability:=reliable"
    with node_process(tiny_student, "-p", override) as node:
        # Our publisher is best effort: a reliable subscription matches nothing, and says why.
        graph.spin(8, lambda: "is not received" in node.output)
        assert graph.events.get_subscription_count() == 0
        node.end()
    assert "set qos_overrides./event_camera/events.subscription.reliability" in node.output
    assert graph.spin(LEASE_S[rmw] + 5, lambda: "/segmentation" not in graph.names())
    with node_process(tiny_student):
        assert graph.spin(60, lambda: graph.events.get_subscription_count() > 0)
        assert set_parameter(graph, "publish_overlay", False).successful
        graph.send(packets[:30])
        without = len(graph.got["mask"])
        assert without >= 4
        assert graph.got["overlay"] == []
        assert set_parameter(graph, "publish_overlay", True).successful
        assert set_parameter(graph, "max_rate_hz", 5.0).successful
        graph.send(packets[30:])
    assert graph.got["overlay"]
    steps = np.diff(stamps(graph.got["mask"][without + 1 :]))
    assert len(steps) >= 2
    assert steps.min() > 0.15e9, "windows came faster than max_rate_hz"
