"""Ctrl-C and SIGTERM end a run in order, however many of them come."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While its block runs, signals call functions, in a thread of its own.

    Python runs a handler in the main thread between any two of its instructions, also where that
    thread holds the lock inside the very ``threading.Event`` that the handler would set: it then
    waits for itself for ever. So the handler puts the number into a queue made for this, and
    another thread acts. ``ros2 launch``, torchrun and a parent that dies send several signals at
    once; those after the first change nothing.

    Args:
        numbers: signals to listen to. Enter the block in the main thread.

    Attributes:
        received: numbers of the signals that came, first come first; complete when the block ends.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self.received: list[int] = []
        self._numbers = numbers or SIGNALS
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._lock = threading.Lock()
        self._stops: list[Callable[[], None]] = []

    def call(self, stop: Callable[[], None]) -> None:
        """Call ``stop`` when the first signal comes, or now if one has come."""
        with self._lock:
            if not self.received:
                self._stops.append(stop)
                return
        stop()

    def __enter__(self) -> StopSignals:
        self._thread.start()
        self._before = {n: signal.signal(n, self._handle) for n in self._numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._queue.put(None)
        self._thread.join()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._queue.put(number)

    def _listen(self) -> None:
        while (number := self._queue.get()) is not None:
            with self._lock:
                self.received.append(number)
                stops, self._stops = self._stops, []
            for stop in stops:
                stop()


@contextlib.contextmanager
def interrupted_once() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM end the block with an exception, and ignore the next ones.

    For blocks that put away much as they unwind: children, half-written files.

    Raises:
        KeyboardInterrupt: SIGINT came.
        SystemExit: SIGTERM came; its code is 143.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    before = {n: signal.signal(n, handle) for n in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
