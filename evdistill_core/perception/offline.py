"""A recording through the live pipeline, without dropping anything."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import DecodedPacket, PacketDecoder
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.inference.pictures import video_size
from evdistill_core.inference.prediction import Prediction
from evdistill_core.messages.standard import DiagnosticArray, Image
from evdistill_core.messages.vision import LabelInfo
from evdistill_core.perception.diagnostics import diagnostics
from evdistill_core.perception.feed import in_order
from evdistill_core.perception.front_end import open_student
from evdistill_core.perception.messages import LABEL_INFO, ResultMessages
from evdistill_core.perception.parameters import PerceptionParameters
from evdistill_core.perception.pipeline import STAGES, Perception, Snapshot
from evdistill_core.perception.result import Result
from evdistill_core.perception.result_files import ResultFiles, write_report
from evdistill_core.perception.tasks import PerceptionTask, task_of
from evdistill_core.recordings.base import Frame, Recording, RecordingInfo
from evdistill_core.recordings.opening import open_recording


def run_recording(  # noqa: PLR0913 - the command's own options
    path: Path,
    out: Path,
    parameters: PerceptionParameters,
    *,
    topic: str | None = None,
    span_s: tuple[float, float | None] = (0.0, None),
    pictures: bool = True,
    show_progress: bool = True,
) -> dict[str, object]:
    """Put a recording through a student and write the results.

    Args:
        path: of the recording.
        out: folder of the results.
        parameters: those of the student's task.
        topic: event topic, needed when there are several.
        span_s: start and end in seconds after the first event; None: to the end.
        pictures: write overlay.mp4 and overlay.png too.
        show_progress: draw a bar on stderr.

    Returns:
        The report, as written to report.json.

    Raises:
        EvdistillError: the recording or the student is missing or damaged.
    """
    began = time.monotonic()
    with open_recording(path, topic=topic) as recording:
        info = recording.info
        if not info.width:
            raise RecordingError(f"{path} holds no events that we can read: {_reason(recording)}")
        span_us = recording.span_us(*span_s)
        student, runner = open_student(parameters)
        # The network's thread, the decoder and the pictures have work for the other cores.
        cv2.setNumThreads(1)
        task = task_of(parameters)
        messages = task.messages(student.info.classes, pictures=64)
        messages.configure(parameters)
        legend = student.info.classes if task.has_legend else None
        with ResultFiles(out, legend, bag=task.bag, pictures=pictures) as files:
            keep = _Keep(files, messages, task)
            pipeline = Perception(student, runner, parameters, keep.add, lossless=True)
            before = pipeline.snapshot()
            pipeline.start()
            try:
                _feed(recording, span_us, pipeline, messages, show_progress=show_progress)
                pipeline.stop(drain=True, timeout_s=600)
                pipeline.check()
            finally:
                pipeline.stop(drain=False)
            after = pipeline.snapshot()
            stamp_ns = keep.last_stamp_ns
            hardware = f"{student.path.name} on {runner.description}"
            final = diagnostics(
                before, after, parameters, stamp_ns=stamp_ns, node=task.name, student=hardware
            )
            if keep.windows:
                files.write("/diagnostics", DiagnosticArray.TYPE, final.serialize(), stamp_ns)
        report = build_report(after, info=info, student=hardware, seconds=time.monotonic() - began)
        write_report(out, report)
    return report


def build_report(
    snapshot: Snapshot, *, info: RecordingInfo, student: str, seconds: float
) -> dict[str, object]:
    """Return what report.json holds; latencies in milliseconds, memory in MB (1e6 bytes)."""
    counters = snapshot.counters
    return {
        "recording": str(info.path),
        "encoding": info.encoding,
        "width": info.width,
        "height": info.height,
        "student": student,
        "events": counters.get("events", 0),
        "windows": counters.get("windows_done", 0),
        "windows_dropped": counters.get("windows_dropped", 0),
        "seq_gaps": counters.get("stream_seq_gaps", 0),
        "latency_ms": snapshot.latency_ms["total"].to_dict(),
        "stages_ms": {
            stage: snapshot.latency_ms[stage].to_dict() for stage in STAGES if stage != "total"
        },
        "counters": counters,
        "rss_mb": round(psutil.Process().memory_info().rss / 1e6, 1),
        "wall_s": round(seconds, 2),
    }


class _Keep:
    """Takes the pipeline's results into files."""

    def __init__(self, files: ResultFiles, messages: ResultMessages, task: PerceptionTask) -> None:
        self._files = files
        self._messages = messages
        self._task = task
        self.windows = 0
        self.last_stamp_ns = 0

    def add(self, result: Result) -> None:
        stamp_ns = result.stamp_ns
        if not self.windows:
            info = self._messages.label_info(stamp_ns, result.frame_id)
            self._write(LABEL_INFO, LabelInfo.TYPE, info, stamp_ns)
        for name, data in self._messages.make(result, self._task.recorded):
            self._write(name, self._task.topics[name], data, stamp_ns)
        if self._files.wants_pictures:
            self._draw(result)
        self.windows += 1
        self.last_stamp_ns = max(self.last_stamp_ns, stamp_ns)

    def _draw(self, result: Result) -> None:
        # The image is chosen now: when the window is drawn, later ones may have replaced it.
        image = self._messages.camera_image(result)
        caption = f"{result.index}: {len(result.events)} events, {self._messages.caption(result)}"
        height, width = result.events.height, result.events.width
        if isinstance(result.prediction, Prediction):
            result = replace(result, prediction=result.prediction.without_confidence())
        self._files.add_picture(
            lambda: self._messages.draw(result, image, video_size(height, width)),
            result.stamp_ns,
            caption,
            size_bytes=13 * len(result.events) + height * width,
        )

    def _write(self, name: str, type_name: str, data: bytes, stamp_ns: int) -> None:
        self._files.write(f"/{self._task.name}/{name}", type_name, data, stamp_ns)


def _feed(
    recording: Recording,
    span_us: tuple[int | None, int | None],
    pipeline: Perception,
    messages: ResultMessages,
    *,
    show_progress: bool,
) -> None:
    columns = (TextColumn("computing"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not show_progress) as progress:
        task = progress.add_task("", total=1.0)
        for item in in_order(recording, *span_us):
            if not _push(item, pipeline, messages):
                return  # the pipeline has ended; its check() says why
            progress.update(task, completed=recording.fraction_read or 0.0)


def _push(
    item: Packet | DecodedPacket | Frame, pipeline: Perception, messages: ResultMessages
) -> bool:
    if isinstance(item, Frame):
        messages.push_picture(_bgr(item), item.stamp_ns)
        return True
    if isinstance(item, DecodedPacket):
        return pipeline.push_events(item)
    if item.type_name == Image.TYPE:
        messages.push_image(item.data)
        return True
    return pipeline.push(item)


def _reason(recording: Recording) -> str:
    """Tell why a recording gives no events."""
    info = recording.info
    if info.topic and info.format.startswith("rosbag2"):
        decoder = PacketDecoder()
        for packet in recording.packets():
            if decoder.push(packet) is None:
                return decoder.last_error
    return "; ".join(info.warnings) or "it is empty"


def _bgr(frame: Frame) -> npt.NDArray[np.uint8]:
    image = frame.image
    return image if image.ndim == 2 else np.ascontiguousarray(image[:, :, ::-1])
