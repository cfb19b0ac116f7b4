"""Records what a segmentation node makes of a bag, then reports: the end of replay.launch.py.

The bag player starts paused; it is released when the node listens, so that nothing is missed. The
recording ends when the player has gone and the node, deactivated, has finished what it held.
Everything is taken as bytes and written as bytes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from evdistill_core.evaluation.replay import replay_report
from evdistill_core.foundation.errors import ConfigError, EvdistillError
from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.messages.standard import DiagnosticArray
from evdistill_core.messages.vision import LabelInfo
from evdistill_core.perception_messages import LABEL_INFO
from evdistill_core.perception_tasks import SEGMENTATION
from evdistill_core.recordings.mcap_writer import McapWriter
from evdistill_ros import qos
from evdistill_ros.message_classes import message_class

RESULTS, REPORT = "results.mcap", "report.json"
LOOK_EVERY_S = 0.2
_DEEP = qos.QosProfile(depth=1000)


class ReplayRecorder(Node):
    """Parameters: ``out`` (folder), ``node`` (whose results), ``player``, ``labels`` (a bag)."""

    def __init__(self) -> None:
        super().__init__("replay_recorder")
        defaults = {"out": "out/replay", "node": "/segmentation", "player": "/rosbag2_player"}
        self.given = {
            name: str(self.declare_parameter(name, default).value)
            for name, default in {**defaults, "labels": ""}.items()
        }
        self.messages: list[tuple[str, str, bytes, int]] = []
        self.is_done = False
        self._values: dict[str, str] = {}
        self._reports = 0
        self._ended_at = 0
        self._deactivated: Any = None
        self._looks_left = 5
        self._released = False
        self._player_seen = False
        self._resume = self._resume_client()
        self._change_state = self.create_client(ChangeState, f"{self.given['node']}/change_state")
        self._deactivate = ChangeState.Request(
            transition=Transition(id=Transition.TRANSITION_DEACTIVATE)
        )
        node = self.given["node"]
        topics = {
            f"{node}/{name}": (SEGMENTATION.topics[name], _DEEP) for name in SEGMENTATION.recorded
        }
        topics[f"{node}/{LABEL_INFO}"] = (LabelInfo.TYPE, qos.LATCHED)
        topics["/diagnostics"] = (DiagnosticArray.TYPE, _DEEP)
        for topic, (type_name, profile) in topics.items():
            self._record(topic, type_name, profile)
        self.create_timer(LOOK_EVERY_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _resume_client(self) -> Any:
        try:
            from rosbag2_interfaces.srv import Resume  # noqa: PLC0415
        except ImportError as error:
            raise ConfigError(
                "the ROS package rosbag2_interfaces is not installed: "
                "sudo apt install ros-$ROS_DISTRO-rosbag2"
            ) from error
        self._request = Resume.Request
        return self.create_client(Resume, f"{self.given['player']}/resume")

    def _record(self, topic: str, type_name: str, profile: qos.QosProfile) -> None:
        def take(data: bytes) -> None:
            self.messages.append((topic, type_name, bytes(data), time.time_ns()))
            if type_name == DiagnosticArray.TYPE:
                self._note(DiagnosticArray.parse(data))

        self.create_subscription(
            message_class(type_name), topic, take, profile.to_rclpy(), raw=True
        )

    def _note(self, message: DiagnosticArray) -> None:
        own = self.given["node"].rsplit("/", 1)[-1]
        for status in message.status:
            if status.name.startswith(f"{own}: "):
                self._values |= {row.key: row.value for row in status.values}
        self._reports += 1

    def _look(self) -> None:
        """Release the player when the node listens; notice the end."""
        if not self._released:
            own = {f"{ns.rstrip('/')}/{n}" for n, ns in self.get_node_names_and_namespaces()}
            listening = self.given["node"] in own and self._node_listens()
            if listening and self._resume.service_is_ready():
                self._released = True
                self._resume.call_async(self._request())
                self.get_logger().info("the node listens: playing")
            return
        if self._player_is_there():
            self._player_seen = True
        elif self._player_seen or self._count("messages_received"):
            if not self._ended_at:
                self._ended_at = self._reports
            # Two reports after the end: the first may be of a moment before it.
            if self._deactivated is None:
                if self._reports >= self._ended_at + 2 and self._is_idle():
                    self._deactivated = self._change_state.call_async(self._deactivate)
            elif self._deactivated.done():
                self._looks_left -= 1  # what was published last is on its way
                self.is_done = self._looks_left == 0

    def _node_listens(self) -> bool:
        name, namespace = self.given["node"].rsplit("/", 1)[::-1]
        from evdistill_ros.perception_node import EVENT_TYPES  # noqa: PLC0415

        topics = self.get_subscriber_names_and_types_by_node(name, namespace or "/")
        return any(set(kinds) & set(EVENT_TYPES) for _, kinds in topics)

    def _player_is_there(self) -> bool:
        return bool(self._resume.service_is_ready())

    def _is_idle(self) -> bool:
        finished = sum(self._count(f"windows_{n}") for n in ("done", "dropped", "discarded"))
        return not self._count("queue_packets") and self._count("windows") == finished

    def _count(self, name: str) -> int:
        return int(self._values.get(name, 0))

    def write(self) -> Path:
        """Write results and report; return the report's path."""
        out = Path(self.given["out"]).expanduser()
        with McapWriter(out / RESULTS) as bag:
            for message in self.messages:
                bag.write(*message)
        labels = Path(self.given["labels"]).expanduser() if self.given["labels"] else None
        report = replay_report(out / RESULTS, labels)
        write_text_atomic(out / REPORT, json.dumps(report, indent=2, allow_nan=False) + "\n")
        return out / REPORT


def main(args: Sequence[str] | None = None) -> None:
    """Record until the replay is over, then write; interrupted, nothing is written."""
    rclpy.init(args=args)
    code = 130
    try:
        node = ReplayRecorder()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not node.is_done:
            executor.spin_once(timeout_sec=LOOK_EVERY_S)
        node.get_logger().info(f"report: {node.write()}")
        code = 0
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except EvdistillError as error:
        print(f"replay_recorder: error: {error}", file=sys.stderr)  # noqa: T201
        code = error.exit_code
    finally:
        rclpy.try_shutdown()
    sys.exit(code)


if __name__ == "__main__":
    main()
