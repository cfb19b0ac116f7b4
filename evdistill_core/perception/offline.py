"""A recording through the live pipeline, without dropping anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2

from evdistill_core.drawing.colours import video_size
from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import DecodedPacket, PacketDecoder
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.foundation.kernel_cache import telling_of_compilation
from evdistill_core.foundation.memory import keep_freed_memory
from evdistill_core.foundation.progress import ProgressView
from evdistill_core.foundation.reasons import sentences
from evdistill_core.inference.prediction import Prediction
from evdistill_core.messages.images import IMAGE_TYPES
from evdistill_core.messages.standard import DiagnosticArray
from evdistill_core.messages.vision import LabelInfo
from evdistill_core.perception.diagnostics import OFFLINE, diagnostics
from evdistill_core.perception.feed import in_order
from evdistill_core.perception.front_end import open_student
from evdistill_core.perception.messages import LABEL_INFO, ResultMessages
from evdistill_core.perception.parameters import PerceptionParameters
from evdistill_core.perception.pipeline import Perception
from evdistill_core.perception.result import Result
from evdistill_core.perception.result_files import ResultFiles, write_report
from evdistill_core.perception.run_page import write_run_page
from evdistill_core.perception.run_progress import RunProgress
from evdistill_core.perception.run_report import Found, build_report
from evdistill_core.perception.run_series import RunSeries
from evdistill_core.perception.tasks import PerceptionTask, task_of
from evdistill_core.recordings.base import Frame, Recording
from evdistill_core.recordings.opening import open_recording
from evdistill_core.reports.origin import Stopwatch


def run_recording(  # noqa: PLR0913 - the command's own options
    path: Path,
    out: Path,
    parameters: PerceptionParameters,
    *,
    reading: Mapping[str, str | None] | None = None,
    span_s: tuple[float, float | None] = (0.0, None),
    pictures: bool = True,
    show_progress: bool = True,
) -> dict[str, object]:
    """Put a recording through a student and write the results.

    Args:
        path: of the recording.
        out: folder of the results.
        parameters: those of the student's task.
        reading: how to read it: what ``open_recording`` takes besides the path.
        span_s: start and end in seconds after the first event; None: to the end.
        pictures: write overlay.mp4 and overlay.png too.
        show_progress: draw a bar on stderr.

    Returns:
        The report, as written to report.json; report.html is for people.

    Raises:
        EvdistillError: the recording or the student is missing or damaged.
    """
    stopwatch = Stopwatch()
    with open_recording(path, **(reading or {})) as recording:
        info = recording.info
        if not info.width:
            raise RecordingError(f"{path} holds no events that we can read: {_reason(recording)}")
        span_us = recording.span_us(*span_s)
        student, runner = open_student(parameters)
        # The network's thread, the decoder and the pictures have work for the other cores.
        cv2.setNumThreads(1)
        keep_freed_memory()
        task = task_of(parameters)
        messages = task.messages(student.info.classes, pictures=64)
        messages.configure(parameters)
        legend = student.info.classes if task.has_legend else None
        files = ResultFiles(out, legend, bag=task.bag, pictures=pictures)
        hardware = f"{student.path.name} on {runner.description}"
        with ProgressView("computing", shown=show_progress) as view:
            progress = RunProgress(view)
            with files, telling_of_compilation(view.say):
                keep = _Keep(files, messages, task, progress)
                pipeline = Perception(student, runner, parameters, keep.add, lossless=True)
                before = pipeline.snapshot()
                reader = _compute(recording, span_us, pipeline, messages, progress)
                after = pipeline.snapshot()
                keep.finish(
                    diagnostics(
                        before, after, parameters, stamp_ns=keep.last_stamp_ns,
                        node=f"/{task.name}", camera=path.name, student=hardware,
                        extra={OFFLINE: "true"},
                    )
                )  # fmt: skip
        report = build_report(
            after, info=recording.info, student=hardware, seconds=stopwatch.seconds,
            sensor_s=progress.sensor_s, reader=reader, found=keep.found, files=files.written(),
            pictures=files.picture_counts,
        )  # fmt: skip
        report |= _images(recording, messages)
        write_report(out, report)
        write_run_page(
            report, out, student=student.path, classes=student.info.classes,
            charts=keep.series.charts(), stopwatch=stopwatch,
        )  # fmt: skip
    return report


def _images(recording: Recording, messages: ResultMessages) -> dict[str, object]:
    """Return what the report says of camera images, and what was odd in the recording."""
    # Messages of a rosbag2 are read by the one, images of other files by the other.
    by_messages, by_recording = messages.left_out_images.as_dict(), recording.left_out_frames
    return {
        "images": {
            "read": messages.images + sum(by_recording.values()),
            "left_out": by_recording | by_messages,
        },
        "warnings": [*recording.info.warnings, *sentences("camera image", by_messages)],
    }


class _Keep:
    """Takes the pipeline's results into files."""

    def __init__(
        self,
        files: ResultFiles,
        messages: ResultMessages,
        task: PerceptionTask,
        progress: RunProgress,
    ) -> None:
        self._files = files
        self._messages = messages
        self._task = task
        self._progress = progress
        self._windows = 0
        self.found = Found()
        self.series = RunSeries()
        self.last_stamp_ns = 0

    def add(self, result: Result) -> None:
        stamp_ns = result.stamp_ns
        if not self._windows:
            info = self._messages.label_info(stamp_ns, result.frame_id)
            self._write(LABEL_INFO, LabelInfo.TYPE, info, stamp_ns)
        for name, data in self._messages.make(result, self._task.recorded):
            self._write(name, self._task.topics[name], data, stamp_ns)
        self.found.add(result)
        if self._files.wants_pictures:
            self._draw(result)
        self._windows += 1
        self.last_stamp_ns = max(self.last_stamp_ns, stamp_ns)
        self._progress.computed(result)
        self.series.add(result, self._progress.sensor_s)

    def finish(self, final: DiagnosticArray) -> None:
        if self._windows:
            data = final.serialize()
            self._files.write("/diagnostics", DiagnosticArray.TYPE, data, self.last_stamp_ns)

    def _draw(self, result: Result) -> None:
        # The image is chosen now: when the window is drawn, later ones may have replaced it.
        image = self._messages.camera_image(result)
        caption = f"{result.index}: {len(result.events)} events, {self._messages.caption(result)}"
        height, width = result.events.height, result.events.width
        if isinstance(result.prediction, Prediction):
            result = replace(result, prediction=result.prediction.without_confidence())
        self._files.add_picture(
            lambda: self._messages.draw(result, image, video_size(height, width), legend=False),
            result.stamp_ns,
            caption,
            size_bytes=13 * len(result.events) + height * width,
        )

    def _write(self, name: str, type_name: str, data: bytes, stamp_ns: int) -> None:
        self._files.write(f"/{self._task.name}/{name}", type_name, data, stamp_ns)


def _compute(
    recording: Recording,
    span_us: tuple[int | None, int | None],
    pipeline: Perception,
    messages: ResultMessages,
    progress: RunProgress,
) -> dict[str, int]:
    """Put a recording through a pipeline to its end; return what ``_feed`` does."""
    pipeline.start()
    try:
        reader = _feed(recording, span_us, pipeline, messages, progress)
        pipeline.stop(drain=True, timeout_s=600)
        pipeline.check()
    finally:
        pipeline.stop(drain=False)
    progress.finish()
    return reader


def _feed(
    recording: Recording,
    span_us: tuple[int | None, int | None],
    pipeline: Perception,
    messages: ResultMessages,
    progress: RunProgress,
) -> dict[str, int]:
    """Push a recording; return the reader's counters, none where the pipeline decodes itself."""
    decodes = False
    for item in in_order(recording, *span_us):
        if isinstance(item, DecodedPacket):
            decodes = True
            progress.sent(recording.fraction_read, item.events)
        elif isinstance(item, Packet) and item.topic == recording.info.topic:
            progress.sent(recording.fraction_read)
        if not _push(item, pipeline, messages):
            break  # the pipeline has ended; its check() says why
    return recording.counters if decodes else {}


def _push(
    item: Packet | DecodedPacket | Frame, pipeline: Perception, messages: ResultMessages
) -> bool:
    if isinstance(item, Frame):
        messages.push_picture(item.image, item.stamp_ns)
        return True
    if isinstance(item, DecodedPacket):
        return pipeline.push_events(item)
    if item.type_name in IMAGE_TYPES:
        messages.push_image(item.data, item.type_name)
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
