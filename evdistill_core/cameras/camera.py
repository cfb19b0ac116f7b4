"""An event camera as this process sees it: batches, images, and a clear end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from evdistill_core.cameras import dv_process
from evdistill_core.cameras.address import USB, CameraAddress
from evdistill_core.cameras.unpacking import unpack_events, unpack_frame, unpack_triggers
from evdistill_core.cameras.usb import advice
from evdistill_core.cameras.wire import HEAD, DamagedPipeError, Kind, Piece, parse_head
from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.time_watch import BACKWARD_JUMP_US, FORWARD_JUMP_US
from evdistill_core.foundation.errors import CameraError
from evdistill_core.foundation.extras import install_command
from evdistill_core.recordings.base import EventBatch, Frame

QUEUE_BYTES = 64 << 20
"""Most that the camera's process holds for us: 4 million events."""
STALL_S = 20.0
"""The camera's process says every 0.2 s that it lives; silent for so long, it hangs."""
STOP_S = 10.0
COUNTERS = (
    "events",
    "frames",
    "triggers",
    "lost_events",
    "lost_frames",
    "gaps",
    "out_of_frame",
    "bad_time",
    "damaged_frames",
    "time_jumps",
)
"""What an open camera counts; see ``Camera.counters``."""
MAX_SIDE = 2048
_PIPE_BYTES = 1 << 20
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ; Python names it from 3.10 on Linux alone


@dataclass(frozen=True)
class CameraInfo:
    """What is known once a camera is open.

    Attributes:
        name: model and serial number, or what the network stream says.
        width: columns of the sensor.
        height: rows of the sensor.
        frame_size: width and height of its images; None: it gives none.
    """

    name: str
    width: int
    height: int
    frame_size: tuple[int, int] | None


class Camera:
    """An open camera; the library that talks to it runs in a process of its own.

    That process may crash, hang or send nonsense: each ends as a ``CameraError`` here.

    Args:
        address: which camera.
        open_timeout_s: how long opening may take.
        queue_bytes: how much may wait when `read` is not called often enough; beyond it events and
            images are given up, counted.

    Attributes:
        info: name and sizes.
        counters: ``events``, ``frames``, ``triggers``; ``lost_events`` and ``lost_frames`` (we did
            not keep up), ``gaps`` (times that this happened), ``out_of_frame``, ``bad_time``,
            ``damaged_frames``, ``time_jumps``.
    """

    info: CameraInfo

    def __init__(
        self,
        address: CameraAddress,
        *,
        open_timeout_s: float = 10.0,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self.address = address
        self.counters: Counter[str] = Counter()
        self._open_timeout_s = open_timeout_s
        self._queue_bytes = queue_bytes
        self._has_ended = False
        self._is_stopping = False
        self._process: subprocess.Popen[str] | None = None
        self._said: _LastLines | None = None
        self._pipe = -1
        self._stop_by_s = float("inf")
        self._stall_s = float("inf")  # opening may be silent
        self._silent_s = 0.0
        self._buffer = bytearray()
        self._newest: tuple[int, int] | None = None  # sensor time and arrival of the last event
        self._pending = ""

    def __enter__(self) -> Camera:
        """Open the camera.

        Raises:
            CameraError: not there, not openable, or its size is none.
        """
        ours, theirs = os.pipe()
        with contextlib.suppress(OSError):
            fcntl.fcntl(ours, _SET_PIPE_SIZE, _PIPE_BYTES)
        try:
            self._process = self._start(theirs)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._pipe = ours
        assert self._process.stdout is not None
        self._said = _LastLines(self._process.stdout)
        try:
            self.info = self._wait_for_hello()
        except BaseException:
            self.close()
            raise
        self._stall_s, self._silent_s = STALL_S, 0.0
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def abort(self) -> None:
        """Kill the camera's process; may be called while another thread opens or reads it."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def close(self) -> None:
        """End the camera's process at once; what it still holds is lost. Again does nothing."""
        self.abort()
        if self._process is not None:
            self._process.wait()
        if self._said is not None:
            self._said.close()
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def stop(self) -> None:
        """Ask for the end; `read` gives what had arrived, then `has_ended` is True."""
        if not self._is_stopping:
            self._is_stopping = True
            self._stop_by_s = time.monotonic() + STOP_S
            if self._process is not None:
                self._process.send_signal(signal.SIGTERM)

    @property
    def has_ended(self) -> bool:
        """Whether everything that came before `stop` was read."""
        return self._has_ended

    def read(self, timeout_s: float) -> EventBatch | Frame | None:
        """Return what comes next; None when nothing did in time, or at the end.

        Batches hold events or triggers in the camera's order, every event inside the frame.

        Raises:
            CameraError: the camera is gone, or its process crashed or hangs.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self._has_ended:
            piece = self._next_piece(deadline_s)
            if piece is None:
                return None
            found = self._take(piece)
            if found is not None:
                return found
        return None

    def _start(self, pipe: int) -> subprocess.Popen[str]:
        root = str(Path(dv_process.__file__).parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        script = [sys.executable, dv_process.__file__, str(self.address)]
        return subprocess.Popen(
            [*script, "--pipe", str(pipe), "--max-bytes", str(self._queue_bytes)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=[pipe],
            # Ctrl-C at the terminal is ours to handle.
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )

    def _wait_for_hello(self) -> CameraInfo:
        piece = self._next_piece(time.monotonic() + self._open_timeout_s)
        if piece is None:
            raise CameraError(
                f"{self.address} did not open within {self._open_timeout_s:g} s. Is it a camera "
                "or a stream of dv-processing, of the same version? --timeout allows more"
            )
        if piece.kind is Kind.ERROR:
            told = json.loads(bytes(piece.payload))
            raise _refusal(self.address, str(told["kind"]), str(told["text"]))
        if piece.kind is not Kind.HELLO:
            raise self._failure()
        return _info(self.address, json.loads(bytes(piece.payload)))

    def _next_piece(self, deadline_s: float) -> Piece | None:
        """Return the next piece, or None when it is not complete at the deadline."""
        while (piece := self._complete_piece()) is None:
            now_s = time.monotonic()
            until_s = min(deadline_s, self._stop_by_s)
            ready = select.select([self._pipe], [], [], max(until_s - now_s, 0.0))[0]
            if ready:
                data = os.read(self._pipe, _PIPE_BYTES)
                if not data:
                    raise self._failure()
                self._buffer += data
                self._silent_s = 0.0
                continue
            self._silent_s += time.monotonic() - now_s
            if time.monotonic() >= self._stop_by_s or self._silent_s > self._stall_s:
                raise CameraError(
                    f"{self.address}: dv-processing hangs (it does on damaged data); its process "
                    "was ended"
                )
            if time.monotonic() >= deadline_s:
                return None
        return piece

    def _complete_piece(self) -> Piece | None:
        if len(self._buffer) < HEAD.size:
            return None
        try:
            piece, size = parse_head(self._buffer[: HEAD.size])
        except DamagedPipeError as error:
            raise CameraError(f"{self.address}: its process sends nonsense: {error}") from error
        end = HEAD.size + size
        if len(self._buffer) < end:
            return None
        payload = bytes(memoryview(self._buffer)[HEAD.size : end])
        del self._buffer[:end]
        return replace(piece, payload=payload)

    def _take(self, piece: Piece) -> EventBatch | Frame | None:
        if piece.lost_events or piece.lost_frames:
            self.counters["lost_events"] += piece.lost_events
            self.counters["lost_frames"] += piece.lost_frames
            self.counters["gaps"] += 1
            self._pending = self._pending or ("seq" if piece.lost_events else "")
        if piece.kind is Kind.EVENTS:
            return self._events(piece)
        if piece.kind is Kind.TRIGGERS:
            return self._triggers(piece)
        if piece.kind is Kind.FRAME:
            return self._frame(piece)
        if piece.kind is Kind.END:
            self._has_ended = True
            if piece.payload:
                raise CameraError(f"{self.address}: {bytes(piece.payload).decode()}")
        return None

    def _events(self, piece: Piece) -> EventBatch | None:
        events = unpack_events(piece.payload, self.info.width, self.info.height, self.counters)
        if not len(events):
            return None
        self.counters["events"] += len(events)
        why = self._pending
        self._pending = ""
        if self._has_jumped(events, piece.arrival_ns):
            self.counters["time_jumps"] += 1
            why = "time"
        self._newest = (int(events.t_us[-1]), piece.arrival_ns)
        return EventBatch(events, Triggers.empty(), piece.arrival_ns, why)

    def _has_jumped(self, events: Events, arrival_ns: int) -> bool:
        """Tell whether sensor time restarted, or ran ahead of the host's."""
        if self._newest is None:
            return False
        newest_us, newest_ns = self._newest
        step_us = int(events.t_us[0]) - newest_us
        passed_us = (arrival_ns - newest_ns) // 1000
        return step_us < -BACKWARD_JUMP_US or step_us > max(FORWARD_JUMP_US, 2 * passed_us)

    def _triggers(self, piece: Piece) -> EventBatch | None:
        triggers = unpack_triggers(piece.payload, self.counters)
        if not len(triggers):
            return None
        self.counters["triggers"] += len(triggers)
        none = Events.empty(self.info.width, self.info.height)
        return EventBatch(none, triggers, piece.arrival_ns)

    def _frame(self, piece: Piece) -> Frame | None:
        frame = unpack_frame(piece.payload, piece.arrival_ns)
        if frame is None or self.info.frame_size != frame.image.shape[1::-1]:
            self.counters["damaged_frames"] += 1
            return None
        self.counters["frames"] += 1
        return frame

    def _failure(self) -> CameraError:
        """Return why the process ended silently."""
        self._has_ended = True
        assert self._process is not None
        assert self._said is not None
        try:
            code = self._process.wait(2)
        except subprocess.TimeoutExpired:
            code = 0
        how = f"ended by signal {-code}" if code < 0 else f"ended with {code}"
        said = self._said.text()
        return CameraError(
            f"{self.address}: dv-processing crashed, its process {how}. Damaged data does that to "
            f"it{': ' + said if said else ''}"
        )


class _LastLines:
    """Reads what a process prints, so that it never waits for us, and keeps the end of it."""

    def __init__(self, stream: IO[str]) -> None:
        self._lines: deque[str] = deque(maxlen=3)
        self._stream = stream
        self._thread = threading.Thread(target=self._run, name="camera output", daemon=True)
        self._thread.start()

    def text(self) -> str:
        """Return the last lines, when the process has ended."""
        self._thread.join(1.0)
        return " ".join(" ".join(self._lines).split())[:300]

    def close(self) -> None:
        """Wait for the end of the output."""
        self._thread.join(1.0)
        if not self._thread.is_alive():
            self._stream.close()

    def _run(self) -> None:
        while line := self._stream.readline(1000):
            if line.strip():
                self._lines.append(line.strip())


def _info(address: CameraAddress, told: dict[str, Any]) -> CameraInfo:
    size, frame_size = told["size"], told["frame_size"]
    for sides in filter(None, (size, frame_size)):
        if not all(0 < side <= MAX_SIDE for side in sides):
            raise CameraError(
                f"{address} says that it has {sides[0]}x{sides[1]} pixels; expected 1 .. "
                f"{MAX_SIDE} each"
            )
    name = "".join(c for c in str(told["name"]) if c.isprintable())[:100]
    return CameraInfo(name, size[0], size[1], tuple(frame_size) if frame_size else None)


def _refusal(address: CameraAddress, kind: str, text: str) -> CameraError:
    """Return the error for what the process could not open, with its cure."""
    if kind == "library":
        return CameraError(
            f"cameras without ROS need dv-processing: {install_command('inivation')} ({text})"
        )
    if kind == "none":
        return CameraError(f"no iniVation camera was found. {advice()}")
    if kind == "name":
        return CameraError(text)
    cure = (
        "Is another program using it (DV, a ROS driver)? May this user open it? " + advice()
        if address.kind == USB
        else "Is dv-processing's NetworkWriter, or DV's network output, running there, of the same "
        "version?"
    )
    return CameraError(f"{address} cannot be opened: {text.rstrip('.')}. {cure}")
