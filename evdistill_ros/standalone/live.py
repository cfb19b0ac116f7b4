"""The front end of a student over bare DDS: a ROS 2 node without a ROS install."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from evdistill_core.cameras.address import CameraAddress
from evdistill_core.events.packet import Packet
from evdistill_core.foundation.errors import EvdistillError
from evdistill_core.foundation.reasons import sentences
from evdistill_core.messages.event_messages import EVENT_ARRAY_TYPES, EVENT_PACKET_TYPES
from evdistill_core.messages.standard import DiagnosticArray, DiagnosticStatus
from evdistill_core.messages.vision import LabelInfo
from evdistill_core.perception.diagnostics import Rates, camera_status, state_status
from evdistill_core.perception.front_end import FrontEnd, open_student, warm_up
from evdistill_core.perception.messages import LABEL_INFO
from evdistill_core.perception.parameters import PerceptionParameters
from evdistill_core.perception.pipeline import Snapshot
from evdistill_core.perception.result import Result
from evdistill_core.viewing.live.feed import Feed
from evdistill_core.viewing.live.live_view import LiveView
from evdistill_core.viewing.live.of_pipeline import offer_result
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode, Publisher, Subscription
from evdistill_ros.dds.clock import GraphClock
from evdistill_ros.dds.names import check_namespace, parse_remap, resolve_topic
from evdistill_ros.dds.rosout import RosoutHandler
from evdistill_ros.image_source import ImageSource
from evdistill_ros.standalone.camera_feed import CameraFeed
from evdistill_ros.standalone.camera_images import camera_images
from evdistill_ros.standalone.live_services import LiveServices

_log = logging.getLogger("evdistill.live")
_log.setLevel(logging.INFO)
_log.propagate = False  # the terminal is told by `log`; this one goes to /rosout

EVENT_TYPES = (*EVENT_PACKET_TYPES, *EVENT_ARRAY_TYPES)
DEFAULT_EVENTS = "/event_camera/events"
CAMERA_FRAME = "event_camera"
OPEN_TIMEOUT_S = 10.0
ACK_TIMEOUT_S = 0.5
LIKELY_SIZE = (260, 346)  # warm-up before the first packet tells the real one

_DRIVER_NAMES = {"image": "image_raw", "camera_info_in": "camera_info"}


class TopicError(EvdistillError):
    """The event topic did not come, or carries something else."""


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """Where in the graph the node stands.

    Attributes:
        name: of the node; empty: its task.
        namespace: of the node, "/" for none.
        remaps: topic rules; ``~/events`` goes to ``/event_camera/events`` when no rule says else.
        domain: DDS domain; None: ROS_DOMAIN_ID.
        timeout_s: give up when the event topic has no publisher for so long; None: never.
        use_sim_time: take the time of diagnostics and log from ``/clock``, and restart when it
            jumps.
        qos_overrides: what to offer or ask for instead of our defaults.
        hint_after_s: say what else is there when the topic does not come.
        camera: read this camera instead of a topic, and publish what it gives where the topic
            would be; None: a topic.
    """

    name: str = ""
    namespace: str = "/"
    remaps: Mapping[str, str] = field(default_factory=dict)
    domain: int | None = None
    timeout_s: float | None = None
    use_sim_time: bool = False
    qos_overrides: qos.QosOverrides = field(default_factory=qos.QosOverrides)
    hint_after_s: float = 3.0
    camera: CameraAddress | None = None


class LivePerception:
    """Subscribes to events, or reads a camera, and publishes results, until stopped.

    The student is loaded and warm before the node joins the graph: who sees the node can rely on
    it. Leaves the graph cleanly at the end of the ``with`` block.

    Args:
        parameters: those of the student's task.
        options: names and topics.
        log: takes one line of text for people.
        result_log: gets one JSON line a window: ``index``, ``t_start_us``, ``t_end_us``,
            ``last_event_us`` (null without events), ``stamp_ns``, ``events``, ``latency_ms``, and
            ``detections`` or ``class`` and ``score``; together with the send log of
            ``evdistill play`` it tells how long the whole way took.
    """

    def __init__(
        self,
        parameters: PerceptionParameters,
        options: GraphOptions,
        *,
        log: Callable[[str], None],
        result_log: TextIO | None = None,
    ) -> None:
        self._options = options
        self._name = options.name or parameters.TASK
        space = check_namespace(options.namespace)
        self._remaps = {"~/events": DEFAULT_EVENTS, **options.remaps}
        self._full_name = f"{space.rstrip('/')}/{self._name}"
        self._log = log
        self._result_log = result_log
        self._period_s = parameters.diagnostics_period_ms / 1000
        self._stopping = threading.Event()
        self._now_ns = time.time_ns
        student, runner = open_student(parameters)
        warm_up(student, runner, parameters, size=LIKELY_SIZE)
        self.student_text = f"{student.path.name} on {runner.description}"
        log(f"student {self.student_text}")
        self._publishers: dict[str, Publisher] = {}
        self._events: Subscription | None = None
        self._view: LiveView | None = None
        self._feeds: list[Feed] = []
        self._feed: CameraFeed | None = None
        self._images: ImageSource | None = None
        self._of_camera: dict[str, int] = {}
        self.front_end = FrontEnd(
            student,
            runner,
            parameters,
            publish=self._publish,
            is_wanted=self._is_wanted,
            node=self._full_name,
            camera=resolve_topic("~/events", self._name, space, self._remaps),
            on_result=self._tell,
            now_ns=self._time_ns,
            log=lambda level, text: (self._warn if level >= logging.WARNING else self._say)(text),
        )

    def __enter__(self) -> LivePerception:
        options = self._options
        self.node = DdsNode(
            self._name,
            options.namespace,
            domain=options.domain,
            remaps=self._remaps,
            qos_overrides=options.qos_overrides,
            on_warning=self._warn,
        )
        try:
            if options.use_sim_time:
                self._now_ns = GraphClock(self.node, self._on_jump).now_ns
            self._rosout = RosoutHandler(self.node, self._now_ns)
            _log.addHandler(self._rosout)
            for name, type_name in self.front_end.topics.items():
                self._publishers[name] = self.node.create_publisher(
                    f"~/{name}", type_name, qos.RESULTS
                )
            self._labels = self.node.create_publisher(
                f"~/{LABEL_INFO}", LabelInfo.TYPE, qos.LATCHED
            )
            self._publish_labels()
            self._diagnostics = self.node.create_publisher(
                "/diagnostics", DiagnosticArray.TYPE, qos.DIAGNOSTICS
            )
            self.front_end.start()
            LiveServices(
                self.node,
                self.front_end,
                use_sim_time=options.use_sim_time,
                on_change=self._publish_labels,  # they hold a threshold
                log=self._say,
            )
        except BaseException:
            self.node.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._feed is not None:
                self._feed.close()
            self.front_end.stop()
        finally:
            _log.removeHandler(self._rosout)
            self.node.close()

    def stop(self) -> None:
        """End ``run``; from any thread, of signals see ``StopSignals``."""
        self._stopping.set()

    @property
    def source_text(self) -> str:
        """Where the events come from, for people."""
        camera = self._options.camera
        return str(camera) if camera is not None else self.node.resolve("~/events")

    def reconfigure(self, parameters: PerceptionParameters) -> None:
        """Take new values of dynamic parameters, and tell them where the graph shows them."""
        self.front_end.reconfigure(parameters)
        self._publish_labels()

    def show_on(self, view: LiveView) -> None:
        """Show every result on a live view from now on, and let it record what arrives."""
        self._view = view

    def show_on_feed(self, feed: Feed) -> None:
        """Hand every result to a viewer of somebody else from now on."""
        self._feeds.append(feed)

    def run(self, on_period: Callable[[Snapshot, Rates], None]) -> None:
        """Wait for the event topic, then work until ``stop``.

        Args:
            on_period: told the counters and rates of each diagnostics period.

        Raises:
            TopicError: the topic did not come in time, or carries no events.
            CameraError: the camera cannot be opened; one that goes away later is waited for.
            EvdistillError, RuntimeError: the pipeline has ended, see ``Perception.check``.
        """
        events = self._subscribe() if self._options.camera is None else self._open_camera()
        while events is not None and not self._stopping.wait(self._period_s):
            self._check()
            on_period(*self._tick())
        if events is not None:
            events.close()
            self.front_end.stop(drain=True)
            on_period(*self._tick())
            for publisher in (*self._publishers.values(), self._diagnostics):
                publisher.wait_for_acks(ACK_TIMEOUT_S)
        self._check()

    def totals(self) -> dict[str, int]:
        """Return every counter since the start, those of a camera as ``camera_NAME``."""
        of_camera = {} if self._feed is None else self._feed.counters
        return (
            self.front_end.perception.snapshot().counters
            | {"damaged_images": self.front_end.messages.left_out_images.total}
            | {f"camera_{name}": count for name, count in of_camera.items()}
        )

    def losses(self) -> list[str]:
        """Return a sentence for each reason for which camera images were left out."""
        return sentences("camera image", self.front_end.messages.left_out_images.as_dict())

    def _publish_labels(self) -> None:
        self._labels.publish(self.front_end.label_info())

    def _time_ns(self) -> int:
        return self._now_ns()  # that of the graph, once there is one

    def _say(self, text: str) -> None:
        self._log(text)
        _log.info(text)

    def _warn(self, text: str) -> None:
        self._log(f"warning: {text}")
        _log.warning(text)

    def _check(self) -> None:
        try:
            self.front_end.perception.check()
        except (EvdistillError, RuntimeError) as error:
            _log.critical("%s", error)
            raise
        if self._feed is not None and self._feed.failure is not None:
            raise self._feed.failure
        if self.node.failure is not None:
            raise RuntimeError(f"DDS has stopped: {self.node.failure}") from self.node.failure

    def _on_jump(self, before_ns: int, after_ns: int) -> None:
        self._warn(f"/clock jumped by {(after_ns - before_ns) / 1e9:.3f} s: restarting")
        self.front_end.start_anew("clock")

    def _tick(self) -> tuple[Snapshot, Rates]:
        beside = [self._own_status()]
        if self._images is not None:
            self._images.follow()
        if self._feed is not None:
            before, self._of_camera = self._of_camera, self._feed.counters
            beside.append(
                camera_status(
                    before, self._of_camera, node=self._full_name, camera=self._feed.info.name
                )
            )
        if self._events is not None:
            self.front_end.lost_on_the_way = self._events.lost
        message, snapshot, rates = self.front_end.diagnostics(self._now_ns(), beside=beside)
        self._diagnostics.publish(message)
        return snapshot, rates

    def _own_status(self) -> DiagnosticStatus:
        said = "active" if self.front_end.is_on else "active, switched off by ~/enable"
        return state_status(
            node=self._full_name, camera=self.front_end.camera, level=DiagnosticStatus.OK,
            message=said,
        )  # fmt: skip

    def _publish(self, name: str, data: bytes) -> None:
        self._publishers[name].publish(data)

    def _tell(self, result: Result) -> None:
        if self._view is not None:
            offer_result(self._view, self.front_end, result)
        for feed in self._feeds:
            offer_result(feed, self.front_end, result)
        self._write_log(result)

    def _take_events(self, packet: Packet) -> None:
        self.front_end.push_events(packet)
        if self._view is not None:
            self._view.take(packet, self.node.resolve("~/events"))

    def _recorded(self, take: Callable[[Packet], None], topic: str) -> Callable[[Packet], None]:
        """Return what takes an image or calibration for us, and for the view's recording."""

        def both(packet: Packet) -> None:
            take(packet)
            if self._view is not None:
                self._view.take(packet, packet.topic or topic)

        return both

    def _write_log(self, result: Result) -> None:
        if self._result_log is None:
            return
        t_us = result.events.t_us
        line = {
            "index": result.index,
            "t_start_us": result.t_start_us,
            "t_end_us": result.t_end_us,
            "last_event_us": int(t_us[-1]) if len(t_us) else None,
            "stamp_ns": result.stamp_ns,
            "events": len(t_us),
            **self.front_end.messages.facts(result),
            "latency_ms": {k: round(v, 3) for k, v in result.latency_ms.items()},
        }
        self._result_log.write(json.dumps(line) + "\n")

    def _is_wanted(self, name: str) -> bool:
        return self._publishers[name].matched_count > 0

    def _subscribe(self) -> Subscription | None:
        """Return the subscription, made with the type that the publisher has."""
        topic = self.node.resolve("~/events")
        type_name = self._wait_for_type(topic)
        if type_name is None:
            return None
        self._say(f"events from {topic} ({type_name})")
        self._subscribe_beside(topic)
        self._events = self.node.create_subscription(
            "~/events", type_name, qos.EVENTS, self._take_events
        )
        return self._events

    def _subscribe_beside(self, events_topic: str, *, without: str = "") -> None:
        for name, (input_type, take_input) in self.front_end.inputs().items():
            beside = self._beside(name, events_topic)
            if not beside or name == without:
                continue
            take = self._recorded(take_input, self.node.resolve(beside))
            if name == "image":
                self._images = camera_images(self.node, beside, take, self._say)
            else:
                self.node.create_subscription(beside, input_type, qos.SENSOR_DATA, take)

    def _open_camera(self) -> CameraFeed:
        """Return the camera, which feeds the pipeline and its own topics."""
        assert self._options.camera is not None
        topic = self.node.resolve("~/events")
        timeout_s = self._options.timeout_s
        image = self.front_end.inputs().get("image")
        image_topic = self._beside("image", topic) if image is not None else ""
        image_topic = image_topic and self.node.resolve(image_topic)
        self._feed = feed = CameraFeed(
            self._options.camera,
            self.node,
            take_events=self._take_events,
            take_picture=None if image is None else self._recorded(image[1], image_topic),
            events_topic=topic,
            image_topic=image_topic,
            frame_id=CAMERA_FRAME,
            open_timeout_s=OPEN_TIMEOUT_S if timeout_s is None else timeout_s,
            warn=self._warn,
        )
        self.front_end.camera = feed.info.name
        size = f"{feed.info.width}x{feed.info.height}"
        self._say(f"events from {feed.info.name} ({size}), also on {topic}")
        # Who has its own images needs no topic of them; a calibration comes from a topic still.
        self._subscribe_beside(topic, without="image" if feed.info.frame_size else "")
        feed.start()
        return feed

    def _beside(self, name: str, events_topic: str) -> str:
        """Return where an input comes from: its remap, else what drivers publish beside events.

        Empty where that would be a topic of our own.
        """
        if self.node.resolve(f"~/{name}") != f"{self.node.fully_qualified_name}/{name}":
            return f"~/{name}"
        beside = f"{events_topic.rsplit('/', 1)[0]}/{_DRIVER_NAMES[name]}"
        ours = {self.node.resolve(f"~/{result}") for result in self.front_end.topics}
        return "" if beside in ours else beside

    def _wait_for_type(self, topic: str) -> str | None:
        began = time.monotonic()
        hint_at = began + self._options.hint_after_s
        while not self._stopping.is_set():
            found = self.node.wait_for_publisher(topic, 0.2)
            if found:
                return self._event_type(topic, sorted({e.type_name for e in found}))
            now = time.monotonic()
            timeout_s = self._options.timeout_s
            if timeout_s is not None and now - began >= timeout_s:
                raise TopicError(f"{self._missing(topic)} Gave up after {timeout_s:g} s.")
            if now >= hint_at:
                hint_at = float("inf")
                self._warn(f"{self._missing(topic)} Waiting.")
        return None

    def _event_type(self, topic: str, types: list[str]) -> str:
        known = [t for t in types if t in EVENT_TYPES]
        if not known:
            raise TopicError(
                f"{topic} carries {', '.join(types)}, which are no events; event types are: "
                f"{', '.join(EVENT_TYPES)}"
            )
        return known[0]

    def _missing(self, topic: str) -> str:
        there = [
            f"{name} ({', '.join(sorted(types & set(EVENT_TYPES)))})"
            for name, types in sorted(self.node.graph.topics().items())
            if types & set(EVENT_TYPES) and self.node.graph.publishers(name)
        ]
        what = (
            f"Topics with events: {', '.join(there)}; take one with --events TOPIC."
            if there
            else f"No topic with events is there in domain {self.node.domain}: is the driver "
            "running, with the same ROS_DOMAIN_ID?"
        )
        return f"{topic} has no publisher. {what}"


def split_rules(rules: Sequence[str]) -> tuple[str, str, dict[str, str]]:
    """Return node name, namespace and topic rules from remap rules as ROS writes them.

    The name is empty when no rule gives one.

    Raises:
        ConfigError: a rule is not of the form FROM:=TO.
    """
    remaps = dict(parse_remap(rule) for rule in rules)
    name = remaps.pop("__node", remaps.pop("__name", ""))
    return name, remaps.pop("__ns", "/"), remaps
