"""Ctrl-C and SIGTERM end a run in order, however many of them come."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: A signal that comes within this time of the first is the same one once more.
REPEAT_S = 1.0


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


class Terminated(KeyboardInterrupt):
    """SIGTERM ends a block as Ctrl-C does; only the exit code differs."""


class Interrupts:
    """While its block runs, SIGINT and SIGTERM end it with an exception that lets it clean up.

    Both raise between two instructions of the main thread. A signal that was ignored before stays
    ignored (``nohup``, or ``&`` in a script). In other threads than the main one this does nothing,
    because Python runs handlers in the main thread alone.

    Args:
        first: called instead of the exception when the first signal comes, for blocks that end in
            order by themselves. It must only set a flag, see ``StopSignals``.

    Attributes:
        received: number of the first signal; None before one came.

    Raises:
        KeyboardInterrupt: SIGINT came.
        Terminated: SIGTERM came.
    """

    def __init__(self, first: Callable[[], None] | None = None) -> None:
        self.received: int | None = None
        self._first = first
        self._acted_s = -math.inf
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
            outer = getattr(handler, "__self__", None)
            if isinstance(outer, Interrupts):
                # A repeat may come only now, to the block around this one.
                outer._acted_s = max(outer._acted_s, self._acted_s)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now_s = time.monotonic()
        # ``ros2 launch``, torchrun and a parent that dies send several at once. They must not end
        # the cleaning up. Whoever asks again later does not want to wait for it.
        if now_s - self._acted_s < REPEAT_S:
            return
        self._acted_s = now_s
        if self.received is None:
            self.received = number
            if self._first is not None:
                self._first()
                return
        raise interruption(number)


def interruption(number: int | None) -> KeyboardInterrupt:
    """Return the exception that ends a block after a signal."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def exit_code(error: KeyboardInterrupt) -> int:
    """Return what a process exits with that a signal ended: 130 or 143, as shells have it."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


@contextlib.contextmanager
def workers_without_signals() -> Iterator[None]:
    """Let processes that are started in the block, by this thread, never see SIGINT and SIGTERM.

    A terminal, ``timeout`` and systemd signal all processes of a group. Workers that die of it
    before their parent has stopped make it fail. A mask is inherited, so this holds from their
    first instruction; ``end_with_parent`` lets the parent still end them.
    """
    # Its start lifts the mask of this thread in Python 3.10 and 3.11, so it must come first.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """In a worker of ``workers_without_signals``: end on a SIGTERM that the parent sends."""

    def listen() -> None:
        while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=listen, name="signals", daemon=True).start()
