"""The process that holds a camera: dv-processing in, pieces out (see ``wire``).

A process of its own, because the library crashes, hangs or ends the process on input that is
damaged (measured in docs/adr/0012): none of that may take a recording or the live node with it.
It is started by ``Camera`` as a script, and imports nothing that takes long.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from evdistill_core.cameras.address import TCP, USB, CameraAddress
from evdistill_core.cameras.wire import (
    EVENT,
    EVENTS_A_PIECE,
    PICTURE,
    TRIGGER,
    Kind,
    Piece,
)
from evdistill_core.foundation.signals import StopSignals

TICK_S = 0.2
IDLE_S = 0.001
DRAIN_S = 0.2
# dv-processing's numbers of edges on the input pin; the others are resets and exposures.
RISING, FALLING, PULSE = 1, 2, 3
UNPLUGGED = "the camera was unplugged, or its USB connection failed"
CLOSED = "the other side closed the stream"


class RefusedError(Exception):
    """The camera cannot be had; ``kind`` tells `Camera` which cure to name."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Source(Protocol):
    """The parts of dv-processing's inputs that we use."""

    def getCameraName(self) -> str: ...  # noqa: D102, N802
    def getEventResolution(self) -> tuple[int, int] | None: ...  # noqa: D102, N802
    def getFrameResolution(self) -> tuple[int, int] | None: ...  # noqa: D102, N802
    def isEventStreamAvailable(self) -> bool: ...  # noqa: D102, N802
    def isFrameStreamAvailable(self) -> bool: ...  # noqa: D102, N802
    def isTriggerStreamAvailable(self) -> bool: ...  # noqa: D102, N802
    def getNextEventBatch(self) -> Any: ...  # noqa: D102, N802
    def getNextFrame(self) -> Any: ...  # noqa: D102, N802
    def getNextTriggerBatch(self) -> Any: ...  # noqa: D102, N802
    def isRunning(self) -> bool: ...  # noqa: D102, N802


class Outbox:
    """Sends pieces in a thread; holds a bounded number of bytes and counts what it gives up.

    Args:
        handle: pipe to write to.
        max_bytes: most bytes held.
    """

    def __init__(self, handle: int, max_bytes: int) -> None:
        self._handle = handle
        self._max_bytes = max_bytes
        self._pieces: deque[Piece] = deque()
        self._bytes = 0
        self._lost_events = 0
        self._lost_frames = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def offer(self, kind: Kind, payload: bytes, *, events: int = 0, frames: int = 0) -> None:
        """Take a piece, or count what it holds as lost when there is no room."""
        arrival_ns = time.time_ns()
        with self._changed:
            if kind is Kind.TICK and self._pieces:
                return  # who reads those knows that we live
            is_full = self._pieces and self._bytes + len(payload) > self._max_bytes
            if is_full and (events or frames):
                self._lost_events += events
                self._lost_frames += frames
                return
            lost = (self._lost_events, self._lost_frames)
            self._lost_events = self._lost_frames = 0
            self._pieces.append(Piece(kind, payload, arrival_ns, *lost))
            self._bytes += len(payload)
            self._changed.notify()

    def finish(self) -> None:
        """Send all that is held, then return."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (piece := self._next()) is not None:
            try:
                _write(self._handle, piece.head())
                _write(self._handle, piece.payload)
            except OSError:
                # Whoever started us is gone; the library must not keep the camera.
                os._exit(1)
            with self._changed:
                self._bytes -= len(piece.payload)

    def _next(self) -> Piece | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._pieces))
            return self._pieces.popleft() if self._pieces else None


def _write(handle: int, data: bytes | bytearray) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def main() -> None:
    """Open the camera that the arguments name and send what it gives until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--pipe", type=int, required=True)
    parser.add_argument("--max-bytes", type=int, required=True)
    arguments = parser.parse_args()
    stopping = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started us
    with StopSignals(signal.SIGTERM) as signals:
        signals.call(stopping.set)
        outbox = Outbox(arguments.pipe, arguments.max_bytes)
        try:
            address = CameraAddress.parse(arguments.address)
            sources = open_sources(address)
            outbox.offer(Kind.HELLO, json.dumps(describe(sources)).encode())
            if not pump(sources, outbox, stopping):
                outbox.offer(Kind.END, (UNPLUGGED if address.kind == USB else CLOSED).encode())
            else:
                outbox.offer(Kind.END, b"")
        except RefusedError as error:
            text = json.dumps({"kind": error.kind, "text": str(error)})
            outbox.offer(Kind.ERROR, text.encode())
        outbox.finish()
    # Not sys.exit: after damaged input a thread of the library may never end.
    sys.stderr.flush()
    os._exit(0)


def open_sources(address: CameraAddress) -> list[Source]:
    """Open the camera, or every stream of it.

    Raises:
        RefusedError: no library, no camera, or it cannot be opened.
    """
    try:
        import dv_processing  # noqa: PLC0415
    except ImportError as error:
        raise RefusedError("library", str(error)) from error
    try:
        if address.kind == USB:
            return [open_usb(dv_processing.io.camera, address.name)]
        reader = dv_processing.io.NetworkReader
        if address.kind == TCP:
            host = socket.getaddrinfo(address.host, None, type=socket.SOCK_STREAM)[0][4][0]
            return [reader(host, port) for port in address.ports]
        return [reader(dv_processing.Path(path)) for path in address.paths]
    except (RuntimeError, OSError) as error:
        raise RefusedError("open", plain(error)) from error


def open_usb(library: Any, wanted: str) -> Source:
    """Open the camera whose serial number or name fits, or the only one.

    Raises:
        RefusedError: none or several fit.
        RuntimeError: the library cannot open it.
    """
    there = {f"{d.cameraModel.name}_{d.serialNumber}": d for d in library.discover()}
    names = ", ".join(there)
    if not there:
        raise RefusedError("none", "")
    fits = [d for d in there.values() if d.serialNumber == wanted]
    fits = fits or [d for name, d in there.items() if wanted.lower() in name.lower()]
    if not fits:
        raise RefusedError("name", f"no camera is called '{wanted}'; there are: {names}")
    if len(fits) > 1:
        raise RefusedError(
            "name", f"several cameras fit, name one as inivation:SERIAL; there are: {names}"
        )
    source: Source = library.open(fits[0])
    return source


def describe(sources: list[Source]) -> dict[str, Any]:
    """Return what `Camera` has to know before the first event.

    Raises:
        RefusedError: no stream holds events.
    """
    events = [s for s in sources if s.isEventStreamAvailable()]
    if len(events) != 1:
        raise RefusedError(
            "open", f"{len(events)} of its {len(sources)} streams hold events; one must"
        )
    size = events[0].getEventResolution()
    if size is None:
        raise RefusedError("open", "its stream does not hold the size of the sensor")
    frames = next((s.getFrameResolution() for s in sources if s.isFrameStreamAvailable()), None)
    return {
        "name": events[0].getCameraName(),
        "size": [int(n) for n in size],
        "frame_size": None if frames is None else [int(n) for n in frames],
    }


def pump(sources: list[Source], outbox: Outbox, stopping: threading.Event) -> bool:
    """Carry everything from the sources into the outbox until told to stop.

    What the library holds when a stream ends, or when told to stop, is still carried.

    Returns:
        True when told to stop, False when a source has ended by itself.
    """
    readers = [_reader(s) for s in sources]
    next_tick_s = 0.0
    leave_at_s: float | None = None
    while True:
        # Asked before reading: what comes between the two is read in the next turn.
        is_running = all(s.isRunning() for s in sources)
        if leave_at_s is None and stopping.is_set():
            leave_at_s = time.monotonic() + DRAIN_S
        found = False
        for read in readers:
            for kind, payload, events, frames in read():
                outbox.offer(kind, payload, events=events, frames=frames)
                found = True
        if leave_at_s is not None and (not found or time.monotonic() >= leave_at_s):
            return True
        if not is_running and not found:
            return False
        if time.monotonic() >= next_tick_s:
            outbox.offer(Kind.TICK, b"")
            next_tick_s = time.monotonic() + TICK_S
        if not found:
            time.sleep(IDLE_S)


_Found = Iterator[tuple[Kind, bytes, int, int]]


def _reader(source: Source) -> Any:
    """Return a function that yields what a source has ready, at most one batch of each kind."""
    has_events = source.isEventStreamAvailable()
    has_frames = source.isFrameStreamAvailable()
    has_triggers = source.isTriggerStreamAvailable()

    def read() -> _Found:
        if has_events and (batch := source.getNextEventBatch()) is not None:
            yield from _events(batch.numpy())
        if has_triggers and (edges := source.getNextTriggerBatch()) is not None:
            yield from _triggers(edges)
        if has_frames and (frame := source.getNextFrame()) is not None:
            yield from _picture(frame)

    return read


def _events(records: npt.NDArray[Any]) -> _Found:
    for start in range(0, len(records), EVENTS_A_PIECE):
        part = records[start : start + EVENTS_A_PIECE]
        out = np.zeros(len(part), EVENT)
        for ours, theirs in (("t_us", "timestamp"), ("x", "x"), ("y", "y"), ("p", "polarity")):
            out[ours] = part[theirs]
        yield Kind.EVENTS, out.tobytes(), len(part), 0


def _triggers(edges: Any) -> _Found:
    rows = [
        (edge.timestamp, 0, int(int(edge.type.value) != FALLING))
        for edge in edges
        if int(edge.type.value) in {RISING, FALLING, PULSE}
    ]
    if rows:
        yield Kind.TRIGGERS, np.array(rows, TRIGGER).tobytes(), len(rows), 0


def _picture(frame: Any) -> _Found:
    image = np.ascontiguousarray(frame.image)
    channels = 1 if image.ndim == 2 else image.shape[2]
    if image.dtype != np.uint8 or channels not in {1, 3}:
        return
    head = PICTURE.pack(frame.timestamp, image.shape[0], image.shape[1], channels)
    yield Kind.FRAME, head + image.tobytes(), 0, 1


def plain(error: Exception) -> str:
    """Return the library's message without its source lines and stack trace."""
    text = str(error).partition("Stacktrace")[0].strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else type(error).__name__
    return last.partition(" [system:")[0].removeprefix("RuntimeError: ")[:300]


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
