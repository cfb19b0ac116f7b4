"""Records what a node makes of a bag, then reports: the end of replay.launch.py.

The bag player starts paused; it is released when the node listens, so that nothing is missed. The
recording ends when the player has gone and the node, deactivated, has finished what it held.
Everything is taken as bytes and written as bytes, at once: a replay of hours needs no memory.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from evdistill_core.evaluation.replay import replay_report
from evdistill_core.foundation.errors import ConfigError, EvdistillError
from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.messages.standard import DiagnosticArray
from evdistill_core.messages.vision import LabelInfo
from evdistill_core.perception.messages import LABEL_INFO
from evdistill_core.perception.tasks import SEGMENTATION, TASKS
from evdistill_core.recordings.writers.mcap import McapWriter
from evdistill_ros import qos
from evdistill_ros.nodes.message_classes import message_class
from evdistill_ros.nodes.process import Ending

RESULTS, REPORT = "results.mcap", "report.json"
LOOK_EVERY_S = 0.2
GONE_S = 3.0  # a node that is not in the graph for so long has died
_DEEP = qos.QosProfile(depth=1000)


class ReplayRecorder(Node):
    """Parameters: ``out`` (folder), ``kind`` and ``node`` (whose results), ``player``, ``labels``.

    ``kind`` is what the launch file of the node is called: ``seg`` or ``recognition``.

    Attributes:
        given: their values.
        is_done: the replay is over.
    """

    def __init__(self) -> None:
        super().__init__("replay_recorder")
        defaults = {"out": "out/replay", "kind": SEGMENTATION.files, "labels": ""}
        self.given = {
            name: str(self.declare_parameter(name, default).value)
            for name, default in {**defaults, "node": "", "player": "/rosbag2_player"}.items()
        }
        task = next((t for t in TASKS.values() if t.files == self.given["kind"]), None)
        if task is None:
            known = ", ".join(t.files for t in TASKS.values())
            raise ConfigError(f"kind must be one of {known}, got {self.given['kind']!r}")
        self._task = task
        self.given["node"] = self.given["node"] or f"/{task.name}"
        self.out = Path(self.given["out"]).expanduser()
        self.is_done = False
        self._values: dict[str, str] = {}
        self._node_says = ""
        self._reports = 0
        self._ended_at = 0
        self._deactivated: Any = None
        self._looks_left = 5
        self._released = False
        self._player_seen = False
        self._state: Any = None
        self._missed_looks = 0
        self._resume = self._resume_client()
        node = self.given["node"]
        self._get_state = self.create_client(GetState, f"{node}/get_state")
        self._change_state = self.create_client(ChangeState, f"{node}/change_state")
        self._deactivate = ChangeState.Request(
            transition=Transition(id=Transition.TRANSITION_DEACTIVATE)
        )

    def record(self, bag: McapWriter) -> None:
        """Write everything that the node publishes into a bag, from now on."""
        node, task = self.given["node"], self._task
        topics = {f"{node}/{name}": (task.topics[name], _DEEP) for name in task.recorded}
        topics[f"{node}/{LABEL_INFO}"] = (LabelInfo.TYPE, qos.LATCHED)
        topics["/diagnostics"] = (DiagnosticArray.TYPE, _DEEP)
        for topic, (type_name, profile) in topics.items():
            self._record(bag, topic, type_name, profile)
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

    def _record(self, bag: McapWriter, topic: str, type_name: str, profile: qos.QosProfile) -> None:
        def take(data: bytes) -> None:
            bag.write(topic, type_name, bytes(data), time.time_ns())
            if type_name == DiagnosticArray.TYPE:
                self._note(DiagnosticArray.parse(data))

        self.create_subscription(
            message_class(type_name), topic, take, profile.to_rclpy(), raw=True
        )

    def _note(self, message: DiagnosticArray) -> None:
        node = self.given["node"]
        own = {s.name.removeprefix(f"{node}: "): s for s in message.status if node in s.name}
        if "state" in own:
            self._node_says = own["state"].message
        if "events" in own:
            self._reports += 1
            for status in own.values():
                self._values |= {row.key: row.value for row in status.values}

    def _look(self) -> None:
        """Release the player when the node listens; notice the end."""
        is_there = self.given["node"] in {
            f"{space.rstrip('/')}/{name}" for name, space in self.get_node_names_and_namespaces()
        }
        if not self._released:
            if is_there:
                self._wait_for_node()
            return
        self._missed_looks = 0 if is_there else self._missed_looks + 1
        if self._missed_looks * LOOK_EVERY_S > GONE_S:
            raise EvdistillError(f"{self.given['node']} has died before the end: see its log")
        self._watch_end()

    def _wait_for_node(self) -> None:
        if self._node_listens():
            if self._resume.service_is_ready():
                self._released = True
                self._resume.call_async(self._request())
                self.get_logger().info("the node listens: playing")
        elif self._state is None:
            if self._get_state.service_is_ready():
                self._state = self._get_state.call_async(GetState.Request())
        elif self._state.done():
            # It configures itself before it answers anybody: what is not configured now has failed.
            if self._state.result().current_state.id == State.PRIMARY_STATE_UNCONFIGURED:
                why = self._node_says.removeprefix("unconfigured: ") or "see its log"
                raise ConfigError(f"{self.given['node']} could not be configured: {why}")
            self._state = None

    def _watch_end(self) -> None:
        if self._player_is_there():
            self._player_seen = True
            return
        if not self._player_seen and not self._count("messages_received"):
            return
        self._ended_at = self._ended_at or self._reports
        # Two reports after the end: the first may be of a moment before it.
        if self._deactivated is None:
            if self._reports >= self._ended_at + 2 and self._is_idle():
                self._deactivated = self._change_state.call_async(self._deactivate)
        elif self._deactivated.done():
            self._looks_left -= 1  # what was published last is on its way
            self.is_done = self._looks_left == 0

    def _node_listens(self) -> bool:
        name, namespace = self.given["node"].rsplit("/", 1)[::-1]
        from evdistill_ros.nodes.perception_node import EVENT_TYPES  # noqa: PLC0415

        topics = self.get_subscriber_names_and_types_by_node(name, namespace or "/")
        return any(set(kinds) & set(EVENT_TYPES) for _, kinds in topics)

    def _player_is_there(self) -> bool:
        return bool(self._resume.service_is_ready())

    def _is_idle(self) -> bool:
        finished = sum(self._count(f"windows_{n}") for n in ("done", "dropped", "discarded"))
        return not self._count("queue_packets") and self._count("windows") == finished

    def _count(self, name: str) -> int:
        return int(self._values.get(name, 0))

    def report(self) -> Path:
        """Write the report of what was recorded; return its path."""
        labels = Path(self.given["labels"]).expanduser() if self.given["labels"] else None
        report = replay_report(self.out / RESULTS, labels)
        write_text_atomic(self.out / REPORT, json.dumps(report, indent=2, allow_nan=False) + "\n")
        return self.out / REPORT


def record_replay(signals: Ending) -> None:
    """Record until the replay is over, then report; interrupted, nothing is left.

    Raises:
        KeyboardInterrupt: a signal came.
        EvdistillError: the node has failed, or there is nothing to report.
    """
    signals.has_started.set()
    node = ReplayRecorder()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    # A report of an earlier replay must not stand beside the results of this one.
    (node.out / REPORT).unlink(missing_ok=True)
    with McapWriter(node.out / RESULTS) as bag:
        node.record(bag)
        while not node.is_done:
            if signals.received:
                raise KeyboardInterrupt
            executor.spin_once(timeout_sec=LOOK_EVERY_S)
    node.get_logger().info(f"report: {node.report()}")
