"""What the rclpy nodes and the DDS front end share: everything but topics.

A front end brings serialized packets and carries serialized messages away; the student, the
pipeline, the messages and the diagnostics are here, so that both publish the same bytes.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import psutil

from evdistill_core.events.array import Events
from evdistill_core.events.packet import Packet
from evdistill_core.events.warm_up import warm_up as warm_up_events
from evdistill_core.foundation.errors import StudentError
from evdistill_core.foundation.latency import LatencyRing
from evdistill_core.inference.runner import Runner
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import ASSETS, StudentFile, student_path
from evdistill_core.messages.calibration import load_camera_info
from evdistill_core.messages.standard import CameraInfo, DiagnosticStatus, Image
from evdistill_core.perception.diagnostics import Rates, diagnostics, rates
from evdistill_core.perception.ingest import RestartReason
from evdistill_core.perception.messages import COMPRESSED
from evdistill_core.perception.parameters import PerceptionParameters
from evdistill_core.perception.pipeline import Perception, Snapshot
from evdistill_core.perception.predictor import sensor_stride
from evdistill_core.perception.result import Result
from evdistill_core.perception.stream_news import StreamNews
from evdistill_core.perception.tasks import SEGMENTATION, TASKS, PerceptionTask, task_of
from evdistill_core.perception.working_size import run_network
from evdistill_core.representations import represent

_log = logging.getLogger(__name__)
SHIPPED_STUDENT = ASSETS / "street6.evstudent"


def check_student(parameters: PerceptionParameters) -> StudentFile:
    """Return the student file that the parameters name, opened and checked but not loaded.

    Raises:
        StudentError: missing, damaged, or a student of another task.
    """
    path = student_path(parameters.student) if parameters.student else SHIPPED_STUDENT
    task = task_of(parameters)
    if not parameters.student and (task is not SEGMENTATION or not path.exists()):
        raise StudentError(
            f"this installation has no shipped student of {task.name}: name one with --student "
            "FILE, or `student` in the parameter file"
        )
    student = StudentFile.open(path)
    if student.info.task != task.name:
        raise StudentError(
            f"{path} is a student of {student.info.task}; this node publishes {_listed(task)} and "
            f"needs one of {task.name}. {_cure(student.info.task)}"
        )
    return student


def _listed(task: PerceptionTask) -> str:
    return ", ".join(f"~/{name}" for name in task.recorded)


def _cure(task: str) -> str:
    files = next(t.files for t in TASKS.values() if t.name == task)
    return (
        f"Start {task}_node ({files}.launch.py) for it, or take the parameters of "
        f"config/{files}.yaml"
    )


def check_files(parameters: PerceptionParameters) -> None:
    """Read the files that the parameters name beside the student, to refuse them early.

    Raises:
        ConfigError: one is missing or damaged.
    """
    parameters.filter_config()
    if parameters.camera_info_url:
        load_camera_info(parameters.camera_info_url)


def open_student(parameters: PerceptionParameters) -> tuple[StudentFile, Runner]:
    """Return the student that the parameters name, loaded.

    Raises:
        StudentError: missing or damaged.
        ConfigError: runtime, device or precision are not to be had here.
    """
    student = check_student(parameters)
    runner = make_student_runner(student, parameters)
    _log.info("student %s on %s", student.path, runner.description)
    return student, runner


def make_student_runner(student: StudentFile, parameters: PerceptionParameters) -> Runner:
    """Return a runner of a student as the parameters say; a recurrent one serves one stream."""
    return make_runner(
        student,
        runtime=parameters.runtime,
        device=parameters.device,
        precision=parameters.precision,
        threads=parameters.threads,
    )


def warm_up(
    student: StudentFile,
    runner: Runner,
    parameters: PerceptionParameters,
    *,
    size: tuple[int, int],
) -> None:
    """Compile and load everything that the first window would otherwise wait for.

    Args:
        student: as opened.
        runner: as made.
        parameters: those that will be used.
        size: (height, width) of the sensor, or a likely one.
    """
    import cv2  # noqa: PLC0415

    # One core for pictures: the network's threads and the decoder have work for the others.
    cv2.setNumThreads(1)
    warm_up_events()
    # The region of interest need not lie inside of a likely size.
    height, width = parameters.roi[:1:-1] if parameters.roi[2] else size
    height, width = (width, height) if parameters.rotation_deg % 180 else (height, width)
    i = np.arange(64)
    events = Events.from_columns(i % width, i % height, i, i % 2, width=width, height=height)
    working = parameters.working_size(student.info.input, runner, (height, width))
    spec = working.spec
    if working.tiles == (1, 1):
        runner.warm_up(*spec.shape(height=height, width=width)[1:])
    logits, head = run_network(runner, working, represent(events, spec, 0, 64))
    interpreter = parameters.interpreter(student.info.classes)
    stride = sensor_stride(spec, logits, events)
    answer = interpreter.warm_up(logits, events, stride=stride, head=head, factor=working.factor)
    messages = task_of(parameters).messages(student.info.classes)
    result = Result(0, 0, 64, 64_000, "", events, answer, student.info.classes)
    for _ in range(2):
        for _ in messages.make(result, messages.TYPES):
            pass
        messages.push_picture(np.zeros((height, width), np.uint8), 64_000)


class FrontEnd:
    """A running student between somebody's topics.

    Args:
        student: as opened.
        runner: as made.
        parameters: those of the student's task.
        publish: carries one serialized message away; called in the inference thread with the
            name of the topic below the node's (``topics``).
        is_wanted: tells whether anybody listens to a topic; what nobody wants is not made.
        node: fully qualified name of the node, for diagnostics.
        camera: what the events come from, for diagnostics: their topic, or the camera.
        on_result: told about each result after it was published.
        now_ns: the time that stamps are of: the host's clock, or that of ``/clock`` (0 while it is
            not known).
        log: takes level (of ``logging``) and text when events begin to come, stop or come back;
            called by ``diagnostics``.

    Attributes:
        camera: as given; may be changed.
        lost_on_the_way: event messages that the middleware knows to be lost before they came here;
            set by whoever receives them.
        topics: topic below the node's name -> message type, of what is published for each window.
        messages: what makes them.
        perception: the pipeline.
    """

    def __init__(  # noqa: PLR0913
        self,
        student: StudentFile,
        runner: Runner,
        parameters: PerceptionParameters,
        *,
        publish: Callable[[str, bytes], None],
        is_wanted: Callable[[str], bool],
        node: str,
        camera: str = "",
        on_result: Callable[[Result], None] | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        log: Callable[[int, str], None] | None = None,
    ) -> None:
        self._publish = publish
        self._is_wanted = is_wanted
        self._node = node
        self.camera = camera
        self.lost_on_the_way = 0
        self._log_news = log
        self._news = StreamNews()
        self._is_on = True
        self._left_out = 0
        self._on_result = on_result
        self._now_ns = now_ns
        self._hardware = f"{student.path.name} on {runner.description}"
        task = task_of(parameters)
        self.topics = task.topics
        self.messages = task.messages(student.info.classes)
        self.messages.configure(parameters)
        self._wants_camera_info = not parameters.camera_info_url
        if parameters.camera_info_url:
            self.messages.calibration = load_camera_info(parameters.camera_info_url)
        self.perception = Perception(student, runner, parameters, self._carry)
        self._before = self.perception.snapshot()
        self._process = psutil.Process()
        self._ages_ms = LatencyRing()
        self._age_lock = threading.Lock()

    def start(self) -> None:
        """Start the pipeline."""
        self.perception.start()

    def push_events(self, packet: Packet) -> None:
        """Take an event packet; ``perception.check`` tells whether anybody works on it."""
        if self._is_on:
            self.perception.push(packet)
        else:
            self._left_out += 1

    def inputs(self) -> dict[str, tuple[str, Callable[[Packet], None]]]:
        """Return what is wanted beside events: topic below the node's -> type, what takes it."""
        found: dict[str, tuple[str, Callable[[Packet], None]]] = {
            "image": (Image.TYPE, self.push_image)
        }
        if self._wants_camera_info:
            found["camera_info_in"] = (CameraInfo.TYPE, self.push_camera_info)
        return found

    def push_image(self, packet: Packet) -> None:
        """Take an image of the same camera."""
        self.messages.push_image(packet.data, packet.type_name)

    def push_camera_info(self, packet: Packet) -> None:
        """Take a calibration of the same camera."""
        self.messages.push_camera_info(packet.data)

    def start_anew(self, reason: RestartReason) -> None:
        """Forget the stream so far; see ``Perception.start_anew``."""
        self.perception.start_anew(reason)

    def reset(self) -> str:
        """Forget the stream so far because somebody asks for it; return what was done, in words."""
        self.start_anew("reset")
        return "decoder, windows, filters, tracks and memory restart"

    @property
    def is_on(self) -> bool:
        """Whether events are worked on; see ``switch``."""
        return self._is_on

    def switch(self, *, on: bool) -> bool:
        """Work on events, or leave them out (counted); return whether that is a change.

        Switched on again, the stream restarts: what was left out is no gap.
        """
        if on == self._is_on:
            return False
        self.start_anew("reset")
        self._news.forget()
        self._is_on = on
        return True

    def reconfigure(self, parameters: PerceptionParameters) -> None:
        """Take new values of dynamic parameters."""
        self.messages.configure(parameters)
        self.perception.reconfigure(parameters)

    def diagnostics(
        self, stamp_ns: int | None = None, *, beside: Sequence[DiagnosticStatus] = ()
    ) -> tuple[bytes, Snapshot, Rates]:
        """Return a serialized DiagnosticArray of the time since the last call, and its numbers.

        Args:
            stamp_ns: of the message; None: now.
            beside: more states.
        """
        after = self.perception.snapshot()
        before, self._before = self._before, after
        parameters = self.perception.parameters
        if self._is_on and self._log_news is not None:
            news = self._news(after, silent_after_ms=parameters.stall_warn_ms)
            if news is not None:
                self._log_news(*news)
        message = diagnostics(
            before,
            after,
            parameters,
            stamp_ns=self._now_ns() if stamp_ns is None else stamp_ns,
            node=self._node,
            camera=self.camera,
            student=self._hardware,
            is_on=self._is_on,
            extra={
                "rss_mb": f"{self._process.memory_info().rss / 1e6:.1f}",
                **self._age(),
                **_gpu_memory(),
                "messages_while_off": str(self._left_out),
                "messages_lost_dds": str(self.lost_on_the_way),
                "damaged_images": str(self.messages.left_out_images.total),
                "damaged_camera_infos": str(self.messages.damaged_camera_infos),
            },
            beside=beside,
        )
        return message.serialize(), after, rates(before, after)

    def label_info(self) -> bytes:
        """Return the serialized LabelInfo, to be published once, latched."""
        return self.messages.label_info(self._now_ns(), self.perception.parameters.frame_id)

    def stop(self, *, drain: bool = False) -> None:
        """Stop the pipeline; see ``Perception.stop``."""
        self.perception.stop(drain=drain)

    def _age(self) -> dict[str, str]:
        """Return how old results were by their own stamp when they were published."""
        with self._age_lock:
            found = self._ages_ms.percentiles().to_dict()
        return {f"age_ms_{name}": f"{value_ms:.2f}" for name, value_ms in found.items()}

    def _carry(self, result: Result) -> None:
        parameters = self.perception.parameters
        wanted = {
            name
            for name in self.topics
            if getattr(parameters, f"publish_{name.removesuffix(COMPRESSED)}", True)
            and self._is_wanted(name)
        }
        for name, data in self.messages.make(result, wanted):
            self._publish(name, data)
        if now_ns := self._now_ns():
            with self._age_lock:
                self._ages_ms.add((now_ns - result.stamp_ns) / 1e6)
        if self._on_result is not None:
            self._on_result(result)


def _gpu_memory() -> dict[str, str]:
    """Return the GPU memory that torch holds; nothing where torch runs no GPU here."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    return {"gpu_memory_mb": f"{torch.cuda.memory_reserved() / 1e6:.1f}"}
