"""A camera into a recording: one loop that reads, writes, and always ends in order."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from evdistill_core.cameras.camera import Camera
from evdistill_core.foundation.errors import CameraError, EncodingError, RecordingError
from evdistill_core.foundation.outputs import check_file
from evdistill_core.recordings.base import EventBatch, Frame
from evdistill_core.recordings.convert import ConvertConfig, ConvertResult
from evdistill_core.recordings.sinks import SensorSizes, Sink, check_target, open_sink

READ_S = 0.1
CHECK_DISK_S = 1.0


@dataclass(frozen=True, kw_only=True)
class RecordConfig:
    """How to record.

    Attributes:
        output: encoding, topics and images, see ``ConvertConfig``.
        duration_s: end so long after the first event; None: when stopped.
        timeout_s: give up when no event has come so long after the camera was opened.
        keep_free_bytes: end when the disk has less room than this left.
    """

    output: ConvertConfig = field(default_factory=ConvertConfig)
    duration_s: float | None = None
    timeout_s: float = 10.0
    keep_free_bytes: int = 256_000_000

    def __post_init__(self) -> None:
        """Refuse what cannot be recorded."""
        if self.duration_s is not None and not self.duration_s > 0:
            raise RecordingError(f"duration must be above 0 s, got {self.duration_s}")
        if not self.timeout_s > 0:
            raise RecordingError(f"timeout must be above 0 s, got {self.timeout_s}")


@dataclass(frozen=True)
class RecordStatus:
    """Where a recording stands.

    Attributes:
        elapsed_s: since the first event; 0 before it.
        written_bytes: size on disk.
        result: what was taken.
        counters: of the camera, see ``Camera``.
        silent_s: since the last event or image.
    """

    elapsed_s: float
    written_bytes: int
    result: ConvertResult
    counters: dict[str, int]
    silent_s: float


class NothingRecordedError(CameraError):
    """Stopped before the first event: there is no file."""

    exit_code = 130


class Recorder:
    """Records one open camera into one file; use once.

    Memory is bounded: what waits is held by the camera's process, up to a limit, and beyond it
    given up and counted.

    Args:
        camera: open.
        target: the file to make.
        config: how.
        on_status: told about ten times a second where the recording stands.
        free_bytes: room on the disk that holds a folder.

    Raises:
        RecordingError: unknown suffix, the file is there already, or the disk is full.
    """

    def __init__(
        self,
        camera: Camera,
        target: Path,
        config: RecordConfig,
        *,
        on_status: Callable[[RecordStatus], None] = lambda status: None,
        free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        self._camera = camera
        self._target = target
        self._config = config
        self._on_status = on_status
        self._free_bytes = free_bytes
        self._stopping = threading.Event()
        self._first_s: float | None = None
        self._opened_s = self._heard_s = 0.0
        self._checked_s = self._told_s = float("-inf")
        self._trouble: Exception | None = None

    def stop(self) -> None:
        """End the recording in order; from any thread, of signals see ``StopSignals``."""
        self._stopping.set()

    def run(self) -> RecordStatus:
        """Record until stopped, the duration is over, or it cannot go on.

        Whatever ended it, events that came before are in the file.

        Raises:
            CameraError: nothing came (no file is made), or the camera went away or failed.
            RecordingError: the disk is full, or events no longer fit the format.
        """
        info = self._camera.info
        sizes = SensorSizes(width=info.width, height=info.height, frame_size=info.frame_size)
        sink = open_sink(self._target, sizes, self._config.output)
        try:
            with sink:
                self._opened_s = self._heard_s = time.monotonic()
                self._loop(sink)
                status = self._status(sink)
                if status.result.events == 0:
                    raise self._nothing()
        except OSError as error:
            raise self._disk_full(sink, error) from error
        if self._trouble is not None:
            lost = status.counters.get("lost_events", 0)
            raise type(self._trouble)(
                f"{self._trouble}. What came before is kept: {self._target} "
                f"({status.result.events:,} events{f', {lost:,} lost' if lost else ''})"
            ) from self._trouble
        return status

    def _loop(self, sink: Sink) -> None:
        while not self._camera.has_ended:
            if self._is_over():
                self._camera.stop()
            try:
                self._check_disk(sink)
                found = self._camera.read(READ_S)
                self._take(sink, found)
            except (CameraError, RecordingError, EncodingError) as error:
                self._trouble = error
                return
            self._tell(sink, at_once=found is None)

    def _tell(self, sink: Sink, *, at_once: bool) -> None:
        now_s = time.monotonic()
        if at_once or now_s - self._told_s >= READ_S:
            self._told_s = now_s
            self._on_status(self._status(sink))

    def _take(self, sink: Sink, found: EventBatch | Frame | None) -> None:
        if self._first_s is None:
            self._check_timeout()
        if found is None:
            return
        self._heard_s = time.monotonic()
        if isinstance(found, Frame):
            sink.write_frame(found)
            return
        if self._first_s is None and len(found.events):
            self._first_s = time.monotonic()
        sink.write(found)

    def _is_over(self) -> bool:
        if self._stopping.is_set():
            return True
        limit_s = self._config.duration_s
        if limit_s is None or self._first_s is None:
            return False
        return time.monotonic() - self._first_s >= limit_s

    def _check_timeout(self) -> None:
        limit_s = self._config.timeout_s
        if time.monotonic() - self._opened_s >= limit_s and not self._stopping.is_set():
            raise CameraError(
                f"{self._camera.address} ({self._camera.info.name}) is open, but no event came "
                f"within {limit_s:g} s: is the sender sending? --timeout waits longer"
            )

    def _check_disk(self, sink: Sink) -> None:
        now_s = time.monotonic()
        if now_s - self._checked_s < CHECK_DISK_S:
            return
        self._checked_s = now_s
        free = self._free_bytes(self._target.parent)
        needed = self._config.keep_free_bytes + sink.finishing_bytes
        if free < needed:
            raise RecordingError(
                f"the disk of {self._target.parent} has {free / 1e6:,.0f} MB left, "
                f"{needed / 1e6:,.0f} MB are kept free (--keep-free)"
            )

    def _nothing(self) -> CameraError | RecordingError:
        if isinstance(self._trouble, (CameraError, RecordingError)):
            return type(self._trouble)(f"{self._trouble}. Nothing was recorded")
        return NothingRecordedError("stopped before the first event: nothing was recorded")

    def _disk_full(self, sink: Sink, error: OSError) -> RecordingError:
        text = f"{self._target} cannot be written: {error.strerror or error}"
        if sink.salvage is not None and sink.salvage.exists():
            return RecordingError(
                f"{text}. What was written is kept in {sink.salvage}; it lacks its end, and "
                "`evdistill convert` makes a whole recording of it"
            )
        return RecordingError(f"{text}. Nothing is kept; .mcap and .aedat4 survive this")

    def _status(self, sink: Sink) -> RecordStatus:
        now_s = time.monotonic()
        return RecordStatus(
            0.0 if self._first_s is None else now_s - self._first_s,
            sink.written_bytes,
            sink.result,
            dict(self._camera.counters),
            now_s - self._heard_s,
        )


def check_output(target: Path, *, overwrite: bool) -> None:
    """Refuse a file that cannot be made, before the camera is opened.

    Raises:
        RecordingError: unknown suffix.
        OutputError: it is there already, or cannot be written there.
    """
    check_file(target, overwrite=overwrite)
    check_target(target)
