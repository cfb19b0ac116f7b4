"""The rclpy node of a student, whatever its task: a managed (lifecycle) node, wiring only.

configure reads the parameters and loads and warms the student, activate subscribes, deactivate and
cleanup undo it. Subscriptions are raw and their callback only enqueues, so that a single-threaded
executor keeps up; results are published as bytes from the inference thread. Diagnostics are
published in every state: while nothing works they say why.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from typing import Any

import rclpy
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, State, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_srvs.srv import SetBool, Trigger

from evdistill_core.events.packet import Packet
from evdistill_core.foundation.errors import ConfigError, EvdistillError
from evdistill_core.messages.event_messages import EVENT_ARRAY_TYPES, EVENT_PACKET_TYPES
from evdistill_core.messages.standard import DiagnosticArray, DiagnosticStatus, Header, Time
from evdistill_core.messages.vision import LabelInfo
from evdistill_core.perception.diagnostics import state_status
from evdistill_core.perception.front_end import FrontEnd, check_files, open_student, warm_up
from evdistill_core.perception.messages import LABEL_INFO
from evdistill_core.perception.parameter_changes import changed
from evdistill_core.perception.parameters import PerceptionParameters
from evdistill_core.perception.tasks import PerceptionTask
from evdistill_ros import qos
from evdistill_ros.image_source import ImageSource
from evdistill_ros.nodes import parameters as ros_parameters
from evdistill_ros.nodes.bridge import Bridge
from evdistill_ros.nodes.lifecycle import answer_every_request, told
from evdistill_ros.nodes.message_classes import message_class
from evdistill_ros.nodes.process import Ending, initialise, spin

EVENT_TYPES = (*EVENT_PACKET_TYPES, *EVENT_ARRAY_TYPES)
LIKELY_SIZE = (260, 346)
FIND_TOPIC_S = 0.2
CLOCK_JUMP_S = 5.0
"""A longer step forward of ``/clock`` is a jump (a seek); any step backward is one (a loop)."""
HINT_EVERY = 25  # looks for the event topic between two hints

_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class PerceptionNode(LifecycleNode):
    """Events in, results of a student out.

    Args:
        task: of its student; says name, parameters and topics.
        options: of rclpy's node.

    Attributes:
        trouble: why the node is unconfigured; empty: nobody has configured it yet.

    Raises:
        ConfigError: a parameter that was given at the start is refused.
    """

    def __init__(self, task: PerceptionTask, **options: Any) -> None:
        super().__init__(task.name, **options)
        self._task = task
        answer_every_request(self)
        # rclpy has no public list of what was given and nobody has declared yet.
        warnings = ros_parameters.declare(self, task.parameters, self._parameter_overrides)
        for warning in warnings:
            self.get_logger().warning(warning)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        if hasattr(self, "add_pre_set_parameters_callback"):  # not in Humble
            self.add_pre_set_parameters_callback(
                lambda changes: ros_parameters.with_declared_types(self, changes)
            )
        self.trouble = ""
        self._student: Any = None
        self._runner: Any = None
        self._front_end: FrontEnd | None = None
        self._results: dict[str, Any] = {}
        self._label_info: Any = None
        self._bridge = Bridge(lambda text: self.get_logger().warning(text))
        self._events: Any = None
        self._events_type = ""
        self._images: ImageSource | None = None
        self._refused: set[str] = set()
        self._made: list[tuple[Any, Any]] = []
        self._looks = 0
        # Timers by the host's clock: with use_sim_time a paused bag would stop them too.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(
            message_class(DiagnosticArray.TYPE),
            "/diagnostics",
            qos.DIAGNOSTICS.to_rclpy(),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._reporting: Any = None
        self._report_every(self._read().diagnostics_period_ms / 1000)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(SetBool, "~/enable", self._on_enable)

    def autostart(self) -> None:
        """Configure and activate, unless the parameter says that somebody else will."""
        if self.get_parameter("autostart").value and self.trigger_configure() == _SUCCESS:
            self.trigger_activate()

    @told
    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Load and warm the student, make the publishers; FAILURE keeps the node unconfigured."""
        try:
            given = self._read()
            check_files(given)
            student, runner = open_student(given)
            warm_up(student, runner, given, size=LIKELY_SIZE)
            self._advertise()
        except EvdistillError as error:
            self.get_logger().error(f"not configured: {error}")
            self._release()
            self.trouble = str(error)
            return _FAILURE
        self._student, self._runner = student, runner
        self.trouble = ""
        self._report_every(given.diagnostics_period_ms / 1000)
        self.get_logger().info(f"student {student.path.name} on {runner.description}")
        return _SUCCESS

    @told
    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Start the pipeline and look for the event topic."""
        self._front_end = FrontEnd(
            self._student,
            self._runner,
            self._read(),
            publish=self._publish,
            is_wanted=lambda name: self._results[name].get_subscription_count() > 0,
            node=self.get_fully_qualified_name(),
            camera=self._camera(),
            now_ns=lambda: self.get_clock().now().nanoseconds,
            log=self._log,
        )
        if self._bridge.is_usable:
            self._front_end.messages.use_converter(self._bridge)
        result = super().on_activate(state)
        self._front_end.start()
        self._label_info.publish(self._front_end.label_info())
        for name, (type_name, take) in self._front_end.inputs().items():
            if name == "image":
                self._images = self._image_source(take)
            else:
                self._subscribe_to(f"~/{name}", type_name, qos.SENSOR_DATA, take)
        self._watch_clock()
        self._timer(FIND_TOPIC_S, self._find_topics)
        self._looks = 0
        self.get_logger().info(f"active: waiting for events on {self._camera()}")
        return result

    @told
    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Unsubscribe and stop the pipeline; what it holds is thrown away, counted.

        With ``keep_windows`` it is finished and published instead, the last window included.
        """
        counters = self._stop(drain=bool(self.get_parameter("keep_windows").value))
        said = ", ".join(
            f"{counters.get(n, 0)} {n.replace('_', ' ')}"
            for n in ("messages_received", "windows_done", "windows_dropped")
        )
        self.get_logger().info(f"inactive: {said} since it was activated")
        return super().on_deactivate(state)

    @told
    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Give back the student and the publishers."""
        self._release()
        return _SUCCESS

    @told
    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """Do both."""
        self._stop()
        self._release()
        return _SUCCESS

    def on_error(self, state: State) -> TransitionCallbackReturn:
        """Be unconfigured after a transition that raised; it may be tried again."""
        self._stop()
        self._release()
        return _SUCCESS

    def close(self) -> None:
        """Stop whatever runs; idempotent, for the end of the process."""
        self._stop()

    def _read(self) -> PerceptionParameters:
        return ros_parameters.read(self, self._task.parameters)

    def _camera(self) -> str:
        return str(self.resolve_topic_name("~/events"))

    def _log(self, level: int, text: str) -> None:
        # rclpy remembers the severity of each line that logs: two lines for two of them.
        if level >= logging.WARNING:
            self.get_logger().warning(text)
        else:
            self.get_logger().info(text)

    def _stop(self, *, drain: bool = False) -> dict[str, int]:
        """Undo the activation; return the counters of what ended."""
        counters: dict[str, int] = {}
        for destroy, made in self._made:
            destroy(made)
        self._made.clear()
        self._events, self._events_type = None, ""
        self._images = None
        self._refused.clear()
        if self._front_end is not None:
            self._front_end.stop(drain=drain)
            if drain:
                self._report()
            counters = self._front_end.perception.snapshot().counters
            self._front_end = None
        return counters

    def _release(self) -> None:
        for publisher in (*self._results.values(), self._label_info):
            if publisher is not None:
                self.destroy_lifecycle_publisher(publisher)
        self._results.clear()
        self._label_info = None
        self._student = self._runner = None

    def _advertise(self) -> None:
        for name, type_name in self._task.topics.items():
            self._results[name] = self._publisher(f"~/{name}", type_name, qos.RESULTS)
        self._label_info = self._publisher(f"~/{LABEL_INFO}", LabelInfo.TYPE, qos.LATCHED)

    def _publisher(self, topic: str, type_name: str, profile: qos.QosProfile) -> Any:
        return self.create_lifecycle_publisher(
            message_class(type_name),
            topic,
            profile.to_rclpy(),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _publish(self, name: str, data: bytes) -> None:
        self._results[name].publish(data)

    def _subscribe_to(
        self,
        topic: str,
        type_name: str,
        profile: qos.QosProfile,
        callback: Any,
        on_lost: Any = None,
    ) -> Any:
        name = self.resolve_topic_name(topic)

        def take(data: bytes) -> None:
            callback(Packet(type_name, data, time.time_ns(), name))

        subscription = self.create_subscription(
            message_class(type_name),
            topic,
            take,
            profile.to_rclpy(),
            event_callbacks=_qos_events(lambda _: self._incompatible(name), on_lost),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            raw=True,
        )
        self._made.append((self.destroy_subscription, subscription))
        return subscription

    def _timer(self, period_s: float, callback: Any) -> None:
        timer = self.create_timer(period_s, callback, clock=self._steady)
        self._made.append((self.destroy_timer, timer))

    def _watch_clock(self) -> None:
        threshold = JumpThreshold(
            min_forward=Duration(seconds=CLOCK_JUMP_S),
            min_backward=Duration(nanoseconds=-1),
            on_clock_change=False,
        )
        handle = self.get_clock().create_jump_callback(threshold, post_callback=self._on_jump)
        self._made.append((lambda made: made.unregister(), handle))

    def _on_jump(self, jump: TimeJump) -> None:
        # The first message of /clock is a step from 0, not a jump.
        before_ns = self.get_clock().now().nanoseconds - jump.delta.nanoseconds
        if self._front_end is not None and before_ns > 0:
            self.get_logger().warning(
                f"/clock jumped by {jump.delta.nanoseconds / 1e9:.3f} s: restarting"
            )
            self._front_end.start_anew("clock")

    def _image_source(self, take: Any) -> ImageSource:
        """Subscribe to the camera's images, raw or compressed, as they are published."""

        def subscribe(topic: str, type_name: str) -> Any:
            made = self._subscribe_to(topic, type_name, qos.SENSOR_DATA, take)
            return lambda: self._unsubscribe(made)

        return ImageSource(
            self.resolve_topic_name("~/image"),
            types_of=self._types_of,
            subscribe=subscribe,
            log=lambda text: self.get_logger().info(text),
        )

    def _types_of(self, topic: str) -> set[str]:
        return {info.topic_type for info in self.get_publishers_info_by_topic(topic)}

    def _unsubscribe(self, subscription: Any) -> None:
        self._made.remove((self.destroy_subscription, subscription))
        self.destroy_subscription(subscription)

    def _find_topics(self) -> None:
        self._find_events()
        if self._images is not None:
            self._images.follow()

    def _find_events(self) -> None:
        """Subscribe with the type that the event topic has, as soon as it has one.

        A publisher that went away may come back as another driver, with another type.
        """
        topic = self.resolve_topic_name("~/events")
        types = self._types_of(topic)
        known = sorted((types & set(EVENT_TYPES)) - self._refused)
        if self._events is not None and (not known or self._events_type in known):
            return
        if not known or self._front_end is None:
            self._looks += 1
            if self._looks % HINT_EVERY == 1 and self._looks > 1 and not self._refused:
                self.get_logger().warning(self._missing(topic, sorted(types)))
            return
        self._follow(topic, known[0])

    def _follow(self, topic: str, type_name: str) -> None:
        if self._front_end is None:
            return
        if self._events is not None:
            self._unsubscribe(self._events)
            self._events = None
        try:
            self._events = self._subscribe_to(
                "~/events", type_name, qos.EVENTS, self._front_end.push_events, self._lost
            )
        except ConfigError as error:
            self._refused.add(type_name)
            self.get_logger().error(str(error))
            return
        self._events_type = type_name
        self.get_logger().info(f"events from {topic} ({type_name})")

    def _lost(self, status: Any) -> None:
        if self._front_end is not None:
            self._front_end.lost_on_the_way += status.total_count_change

    def _missing(self, topic: str, types: Sequence[str]) -> str:
        if types:
            return f"{topic} carries {', '.join(types)}, which are no events that we read"
        others = [
            f"{name} ({kind})"
            for name, kinds in self.get_topic_names_and_types()
            for kind in kinds
            if kind in EVENT_TYPES
        ]
        there = f"topics with events: {', '.join(others)}" if others else "no topic has events"
        return f"{topic} has no publisher; {there}. Remap it: --ros-args -r ~/events:=TOPIC"

    def _incompatible(self, topic: str) -> None:
        self.get_logger().warning(
            f"a publisher of {topic} offers another QoS than we ask for and is not received: set "
            f"qos_overrides.{topic}.subscription.reliability to what `ros2 topic info -v` shows"
        )

    def _report_every(self, period_s: float) -> None:
        if self._reporting is not None:
            self.destroy_timer(self._reporting)
        self._reporting = self.create_timer(period_s, self._report, clock=self._steady)

    def _report(self) -> None:
        stamp_ns = self.get_clock().now().nanoseconds
        own = self._own_status()
        if self._front_end is None:
            message = DiagnosticArray(Header(Time.from_ns(stamp_ns)), [own]).serialize()
        else:
            self._front_end.perception.check()
            message, _, _ = self._front_end.diagnostics(stamp_ns, beside=[own])
        self._diagnostics.publish(message)

    def _own_status(self) -> DiagnosticStatus:
        if self._front_end is not None:
            level = DiagnosticStatus.OK
            said = "active" if self._front_end.is_on else "active, switched off by ~/enable"
        elif self._student is not None:
            level, said = DiagnosticStatus.WARN, "inactive: waits to be activated"
        elif self.trouble:
            level, said = DiagnosticStatus.ERROR, f"unconfigured: {self.trouble}"
        else:
            level, said = DiagnosticStatus.WARN, "unconfigured: waits to be configured"
        name = self.get_fully_qualified_name()
        return state_status(node=name, camera=self._camera(), level=level, message=said)

    def _on_reset(self, request: Any, response: Any) -> Any:
        response.success = self._front_end is not None
        if self._front_end is None:
            response.message = "the node is not active"
        else:
            response.message = self._front_end.reset()
        return response

    def _on_enable(self, request: Any, response: Any) -> Any:
        response.success = self._front_end is not None
        if self._front_end is None:
            response.message = "the node is not active"
        else:
            is_change = self._front_end.switch(on=bool(request.data))
            response.message = f"switched {'on' if request.data else 'off'}"
            if is_change:
                self.get_logger().info(f"{response.message} by ~/enable")
        return response

    def _on_set_parameters(self, changes: list[Parameter]) -> Any:
        from rcl_interfaces.msg import SetParametersResult  # noqa: PLC0415 - ROS only

        try:
            wanted = changed(
                self._read(),
                {p.name: p.value for p in changes},
                may_change_all=self._student is None,
            )
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._front_end is not None:
            self._front_end.reconfigure(wanted)
            # It holds a threshold that may have changed.
            self._label_info.publish(self._front_end.label_info())
        return SetParametersResult(successful=True)


def _qos_events(on_incompatible: Any, on_lost: Any) -> Any:
    try:
        from rclpy.event_handler import SubscriptionEventCallbacks  # noqa: PLC0415
    except ImportError:  # Humble
        from rclpy.qos_event import SubscriptionEventCallbacks  # noqa: PLC0415
    return SubscriptionEventCallbacks(incompatible_qos=on_incompatible, message_lost=on_lost)


def run_node(task: PerceptionTask, signals: Ending, args: Sequence[str] | None = None) -> int:
    """Run a node until a signal comes; return the exit code: 0 then, else that of the error."""
    node: PerceptionNode | None = None
    code = 0
    try:
        initialise(args)
        node = PerceptionNode(task)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        if not signals.received:
            node.autostart()
        spin(executor, signals)
    except EvdistillError as error:
        print(f"{task.name}_node: error: {error}", file=sys.stderr)  # noqa: T201
        code = error.exit_code
    finally:
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return code
