"""What the tests on real ROS share: a node of the test, processes, parameters, lifecycle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

S = 1_000_000_000


class Graph:
    """An rclpy node of the test: publishes packets, keeps what the node under test publishes."""

    def __init__(self, sut="/segmentation", events="/event_camera/events"):
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from event_camera_msgs.msg import EventPacket
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
        from sensor_msgs.msg import CameraInfo, Image
        from vision_msgs.msg import Classification, Detection2DArray, LabelInfo

        self.sut = sut
        rclpy.init()
        self.node = rclpy.create_node("tester")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        best_effort = QoSProfile(depth=1000, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self.events = self.node.create_publisher(EventPacket, events, best_effort)
        self.got = {}
        deep = QoSProfile(depth=1000)
        for topic, kind, qos in (
            (f"{sut}/mask", Image, deep),
            (f"{sut}/overlay", Image, deep),
            (f"{sut}/detections", Detection2DArray, deep),
            (f"{sut}/classification", Classification, deep),
            (f"{sut}/label_info", LabelInfo, latched),
            (f"{sut}/camera_info", CameraInfo, deep),
            ("/diagnostics", DiagnosticArray, deep),
        ):
            self.got[topic.rsplit("/", 1)[-1]] = kept = []
            self.node.create_subscription(kind, topic, kept.append, qos)

    def spin(self, seconds, until=lambda: False):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)
            if until():
                return True
        return until()

    def send(self, packets, period_s=0.01):
        assert self.spin(60, lambda: self.events.get_subscription_count() > 0), "nobody listens"
        self.spin(0.5)
        for packet in packets:
            self.events.publish(bytes(packet.data))
            self.spin(period_s)
        self.spin(1.0)

    def values(self, status="/segmentation: events"):
        """Return the latest diagnostics of one status: (level, message, values by key)."""
        for array in reversed(self.got["diagnostics"]):
            for found in array.status:
                if found.name == status:
                    return ord(found.level), found.message, {v.key: v.value for v in found.values}
        return None

    def names(self):
        return {
            f"{ns.rstrip('/')}/{name}" for name, ns in self.node.get_node_names_and_namespaces()
        }

    def close(self):
        import rclpy

        self.node.destroy_node()
        rclpy.try_shutdown()


class Process:
    def __init__(self, *command):
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""

    def end(self, number=signal.SIGINT, times=1):
        for _ in range(times):
            if self.process.poll() is None:
                self.process.send_signal(number)
                time.sleep(0.05)
        self.output, _ = self.process.communicate(timeout=30)
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            # With what it started: `ros2 launch` would leave its nodes behind.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.output, _ = self.process.communicate()
        sys.stdout.write(self.output)


def node_process(student, *arguments, task="segmentation"):
    return Process(
        sys.executable, "-m", f"evdistill_ros.nodes.{task}_node", "--ros-args",
        "-r", "~/events:=/event_camera/events", "-p", f"student:={student}", *arguments,
    )  # fmt: skip


def stamps(messages):
    return [m.header.stamp.sec * S + m.header.stamp.nanosec for m in messages]


def parameter_client(graph, service, request):
    client = graph.node.create_client(service, f"{graph.sut}/{request[0]}")
    assert client.wait_for_service(30)
    future = client.call_async(request[1])
    assert graph.spin(30, future.done)
    return future.result()


def set_parameter(graph, name, value):
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    wanted = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    return parameter_client(graph, SetParameters, ("set_parameters", wanted)).results[0]


def change_state(graph, name):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    number = getattr(Transition, f"TRANSITION_{name}")
    request = ChangeState.Request(transition=Transition(id=number))
    return parameter_client(graph, ChangeState, ("change_state", request)).success


def state(graph):
    from lifecycle_msgs.srv import GetState

    answer = parameter_client(graph, GetState, ("get_state", GetState.Request()))
    return answer.current_state.label
