"""The record button: what arrives goes into a bag, without holding up who brings it."""

from __future__ import annotations

import datetime
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evdistill_core.events.packet import Packet
from evdistill_core.foundation.errors import EvdistillError, RecordingError
from evdistill_core.foundation.worker import BoundedQueue, Worker
from evdistill_core.recordings.writers.mcap import McapWriter

KEEP_FREE_BYTES = 256_000_000
MAX_WAITING_BYTES = 64_000_000
_MAX_WAITING = 20_000
_CHECK_DISK_S = 1.0


@dataclass(frozen=True)
class RecordingState:
    """Where a recording stands.

    Attributes:
        path: the file that is made.
        messages: taken so far.
        payload_bytes: of them.
        lost: messages that came faster than they could be written.
        elapsed_s: since the button was pressed.
        trouble: why it ended by itself; empty: it did not.
    """

    path: Path
    messages: int
    payload_bytes: int
    lost: int
    elapsed_s: float
    trouble: str = ""

    def text(self) -> str:
        """Return what a person wants to know at the end."""
        lost = f", {self.lost:,} lost since writing did not keep up" if self.lost else ""
        size = f"{self.messages:,} messages, {self.payload_bytes / 1e6:.1f} MB{lost}"
        return f"{self.path}: {size}" + (f"; ended early: {self.trouble}" if self.trouble else "")


class PacketRecorder:
    """Writes packets into bags ``events_TIME.mcap`` (a rosbag2), one a press of the button.

    Args:
        folder: where.
        free_bytes: room on the disk that holds a folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        self._folder = folder
        self._free_bytes = free_bytes
        self._lock = threading.Lock()
        self._running: _Bag | None = None
        self.finished: list[RecordingState] = []

    @property
    def state(self) -> RecordingState | None:
        """Where the recording stands; None: none is made."""
        running = self._running
        return None if running is None else running.state()

    def take(self, packet: Packet, topic: str) -> None:
        """Record a packet, if a recording is made; never waits."""
        running = self._running
        if running is not None:
            running.take(packet, topic)

    def start(self) -> Path:
        """Begin a recording and return its path; the file appears when it ends.

        Raises:
            RecordingError: one is made already, or the disk is full.
        """
        with self._lock:
            if self._running is not None:
                raise RecordingError(f"{self._running.path} is being recorded already")
            _require_room(self._folder, self._free_bytes)
            name = f"events_{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}.mcap"
            self._running = _Bag(self._folder / name, self._free_bytes)
            return self._running.path

    def stop(self) -> RecordingState | None:
        """End the recording and return what it holds; None: none is made."""
        with self._lock:
            running, self._running = self._running, None
            if running is None:
                return None
            state = running.finish()
            self.finished.append(state)
            return state


class _Bag:
    def __init__(self, path: Path, free_bytes: Callable[[Path], int]) -> None:
        self.path = path
        self._free_bytes = free_bytes
        self._queue: BoundedQueue[tuple[str, Packet]] = BoundedQueue(
            max_items=_MAX_WAITING, max_bytes=MAX_WAITING_BYTES
        )
        self._messages = self._bytes = self._lost = 0
        self._trouble = ""
        self._began_s = time.monotonic()
        self._worker = Worker("record", self._run, self._fail)
        self._worker.start()

    def state(self) -> RecordingState:
        elapsed_s = time.monotonic() - self._began_s
        return RecordingState(
            self.path, self._messages, self._bytes, self._lost, elapsed_s, self._trouble
        )

    def take(self, packet: Packet, topic: str) -> None:
        # A copy: DDS wants its memory back, and a recording may be far behind.
        held = Packet(packet.type_name, bytes(packet.data), packet.receive_time_ns)
        if not self._queue.try_put((topic, held), len(held.data)):
            self._lost += 1

    def finish(self) -> RecordingState:
        self._queue.close()
        self._worker.join()
        return self.state()

    def _run(self) -> None:
        checked_s = 0.0
        with McapWriter(self.path) as writer:
            while not self._queue.is_finished:
                taken = self._queue.get()
                if taken is None:
                    continue
                (topic, packet), _ = taken
                writer.write(topic, packet.type_name, bytes(packet.data), packet.receive_time_ns)
                self._messages += 1
                self._bytes += len(packet.data)
                if time.monotonic() - checked_s > _CHECK_DISK_S:
                    checked_s = time.monotonic()
                    if self._ends_for_lack_of_room():
                        return

    def _ends_for_lack_of_room(self) -> bool:
        """Tell whether the disk is nearly full; what was written is kept then."""
        try:
            _require_room(self.path.parent, self._free_bytes)
        except RecordingError as error:
            self._trouble = str(error)
            self._queue.close()
            self._lost += len(self._queue.clear())
            return True
        return False

    def _fail(self, report: str, error: Exception) -> None:
        is_theirs = isinstance(error, EvdistillError | OSError)
        self._trouble = f"{error}; nothing was kept" if is_theirs else report
        self._queue.close()
        self._lost += len(self._queue.clear())


def _require_room(folder: Path, free_bytes: Callable[[Path], int]) -> None:
    free = free_bytes(folder)
    if free < KEEP_FREE_BYTES:
        raise RecordingError(
            f"the disk of {folder} has {free / 1e6:,.0f} MB left, {KEEP_FREE_BYTES / 1e6:,.0f} MB "
            "are kept free"
        )
