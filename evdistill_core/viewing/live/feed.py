"""Hands the windows of a running pipeline to a viewer of somebody else, and never holds it up.

::

    offer --> room for one --> [thread: convert and send] --> Rerun, Foxglove

``offer`` puts a window where the last one stood. A viewer that is slow misses windows; they are
counted and told at the end (docs/adr/0035-live-view.md).
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from evdistill_core.foundation.worker import Mailbox, Worker
from evdistill_core.viewing.live.frames import Shot
from evdistill_core.viewing.live.live_view import Status

CLOSE_S = 5.0
"""How long the end of a command waits for a viewer."""


class Sink(Protocol):
    """Where the windows go; used by one thread, except ``is_watched``."""

    name: str
    """Of the viewer, for people."""
    where: str
    """File or address."""

    @property
    def is_watched(self) -> bool:
        """Whether a window would reach anybody; from any thread."""

    def show(self, shot: Shot, status: Status, dropped: int) -> None:
        """Convert and send a window.

        Args:
            shot: the window.
            status: numbers of this moment.
            dropped: windows that this viewer has missed so far.
        """

    def close(self, timeout_s: float) -> None:
        """Send what is held, and let go."""


class Feed:
    """Feeds a viewer until the block ends.

    Args:
        sink: the viewer; closed at the end.
        status: returns the numbers of this moment.
        say: told at once when the viewer fails.

    Attributes:
        sent: windows that the viewer got.
        dropped: windows that it missed, since it was slow or has failed.
    """

    def __init__(
        self, sink: Sink, *, status: Callable[[], Status], say: Callable[[str], None]
    ) -> None:
        self._sink = sink
        self._status = status
        self._say = say
        self._room: Mailbox[Shot] = Mailbox()
        self._worker = Worker(f"{sink.name} feed", self._run, self._fail)
        self._failure = ""
        self.sent = self.dropped = 0

    def __enter__(self) -> Feed:
        self._worker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._room.close()
        if not self._worker.join(CLOSE_S):
            self._failure = self._failure or f"it did not take a window within {CLOSE_S:g} s"
            return
        try:
            self._sink.close(CLOSE_S)
        # A viewer's library may raise anything; the run itself is done and its counts must be told.
        except Exception as reason:  # noqa: BLE001
            self._failure = self._failure or f"{type(reason).__name__}: {reason}"

    @property
    def is_watched(self) -> bool:
        """Whether a window would reach anybody."""
        return self._sink.is_watched

    def offer(self, shot: Shot) -> None:
        """Show a window, unless a newer one comes first; returns at once, from any thread."""
        self.dropped += self._room.replace(shot) is not None

    def lines(self) -> list[str]:
        """Return what to say at the end."""
        name, where = self._sink.name, self._sink.where
        dropped = f", {self.dropped:,} dropped since it was slow" if self.dropped else ""
        if self._failure:
            dropped = f", {self.dropped:,} dropped; it has ended early: {self._failure}"
        return [f"{name}: {self.sent:,} windows to {where}{dropped}"]

    def _run(self) -> None:
        while not self._room.is_finished:
            shot = self._room.get(0.25)
            if shot is not None:
                self._sink.show(shot, self._status(), self.dropped)
                self.sent += 1

    def _fail(self, report: str, error: Exception) -> None:
        del error
        self._failure = report
        self.dropped += 1  # the window at which it failed
        self._room.close()
        self._say(f"{self._sink.name} gets no more windows: {report}")
