"""A live view: takes windows from a pipeline that it never holds up, and shows them on a page.

::

    offer --> room for one --> [view: encode, at most 30 a second] --> [server] --> room for one
                                                                                    each viewer

``offer`` puts a window where the last one stood, and does nothing while nobody looks. One thread
encodes; the server's thread sends. A slow viewer misses pictures, counted, and nothing else waits.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from evdistill_core.drawing.colours import BACKGROUND_BGR, BRIGHTER_BGR, DARKER_BGR, Bgr
from evdistill_core.events.packet import Packet
from evdistill_core.foundation.errors import EvdistillError
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.foundation.latency import percentiles_ms
from evdistill_core.foundation.version import VERSION
from evdistill_core.foundation.worker import Mailbox, Worker
from evdistill_core.viewing.live.address import ViewAddress
from evdistill_core.viewing.live.controls import Controls
from evdistill_core.viewing.live.frames import Shot, encode
from evdistill_core.viewing.live.recorder import PacketRecorder, RecordingState
from evdistill_core.viewing.live.viewers import answer

MAX_RATE_HZ = 30.0
STATUS_S = 0.5
STALLED_S = 1.0
LATENCIES = 64
"""The latest windows that the latencies on the page are of."""


@dataclass(frozen=True)
class Status:
    """The numbers beside the picture; what is not known is None.

    Attributes:
        events_per_s: that arrive.
        windows_per_s: that are shown or computed.
        windows: computed since the start.
        dropped: windows that a newer one replaced, since the network was busy.
        gaps: breaks in the numbering of the packets.
        silence_s: since the last packet; None: none came yet.
    """

    events_per_s: float
    windows_per_s: float
    windows: int
    dropped: int | None = None
    gaps: int | None = None
    silence_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a view is about; said to every page that opens.

    Attributes:
        title: what runs, such as "evdistill live".
        source: where the events come from.
        student: what computes; empty: nothing does.
        classes: of the student; None: there are none.
    """

    title: str
    source: str
    student: str = ""
    classes: ClassTable | None = None


class LiveView:
    """Serves a page until the block ends.

    Args:
        address: where.
        scene: what is shown.
        status: returns the numbers of this moment.
        controls: of the pipeline; None: nothing can be changed.
        folder: where the record button writes; None: there is no such button.
        max_rate_hz: pictures a second.

    Attributes:
        skipped: windows that were not encoded, since a newer one came within 1 / ``max_rate_hz``.
        encoded: windows that were.
    """

    def __init__(  # noqa: PLR0913
        self,
        address: ViewAddress,
        *,
        scene: Scene,
        status: Callable[[], Status],
        controls: Controls | None = None,
        folder: Path | None = None,
        max_rate_hz: float = MAX_RATE_HZ,
    ) -> None:
        self.scene = scene
        self._status = status
        self._controls = controls
        self._recorder = None if folder is None else PacketRecorder(folder)
        # aiohttp comes with an extra: who shows no page needs none.
        from evdistill_core.viewing.live.server import ViewServer  # noqa: PLC0415

        self._step_s = 1 / max_rate_hz
        self._room: Mailbox[Shot] = Mailbox()
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES)
        self._closing = threading.Event()
        self._failure = ""
        self._told_values = {} if controls is None else controls.values()
        self.skipped = self.encoded = 0
        self.server = ViewServer(address, hello=self._hello, command=self._command)
        self._worker = Worker("view", self._run, self._fail)

    def __enter__(self) -> LiveView:
        self.server.start()
        self._worker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._room.close()
        self._worker.join(5.0)
        self.server.close()
        if self._recorder is not None:
            self._recorder.stop()

    @property
    def url(self) -> str:
        """What to open in a browser."""
        return self.server.url

    @property
    def is_watched(self) -> bool:
        """Whether anybody looks."""
        return self.server.is_watched

    def offer(self, shot: Shot) -> None:
        """Show a window, unless a newer one comes first; returns at once, from any thread."""
        if not self.server.is_watched:
            return
        if shot.latency_ms is not None:
            self._latencies_ms.append(shot.latency_ms)
        self.skipped += self._room.replace(shot) is not None

    def take(self, packet: Packet, topic: str) -> None:
        """Record a packet, if the button was pressed; returns at once."""
        if self._recorder is not None:
            self._recorder.take(packet, topic)

    def set_scene(self, scene: Scene) -> None:
        """Show something else: other classes, another source."""
        self.scene = scene
        self.server.tell("hello", self._hello()["hello"])

    def lines(self) -> list[str]:
        """Return what to say at the end: pictures of each viewer, recordings, and failures."""
        found = []
        for count in self.server.counts():
            dropped = (
                f", {count.dropped:,} dropped since the page was slow" if count.dropped else ""
            )
            found.append(f"view: {count.sent:,} pictures to {count.name}{dropped}")
        finished = [] if self._recorder is None else self._recorder.finished
        found += [f"recorded {state.text()}" for state in finished]
        return found + ([f"the view has ended early: {self._failure}"] if self._failure else [])

    def _run(self) -> None:
        due_s = told_s = 0.0
        while not self._closing.is_set():
            now_s = time.monotonic()
            if self.server.is_watched and now_s - told_s >= STATUS_S:
                told_s = now_s
                self.server.tell("status", self._state())
                self._tell_values()
            # First the pause, then the newest window: it must not grow old while we wait.
            self._closing.wait(max(0.0, due_s - now_s))
            shot = self._room.get(STATUS_S / 2)
            if shot is None:
                continue
            due_s = time.monotonic() + self._step_s
            self.server.send(encode(shot, wants_image=self.server.wants_image))
            self.encoded += 1

    def _fail(self, report: str, error: Exception) -> None:
        del error
        self._failure = report
        self.server.tell("failure", answer(False, f"the view has ended: {report}"))

    def _tell_values(self, *, always: bool = False) -> None:
        """Tell the parameters in force, if somebody has changed one (`ros2 param set` does too)."""
        if self._controls is None:
            return
        values = self._controls.values()
        if always or values != self._told_values:
            self._told_values = values
            self.server.tell("values", json.dumps({"type": "values", "values": values}))

    def _hello(self) -> dict[str, str]:
        scene = self.scene
        hello = {
            "type": "hello",
            "version": VERSION,
            "title": scene.title,
            "source": scene.source,
            "student": scene.student,
            "classes": [] if scene.classes is None else _classes(scene.classes),
            "colours": {
                "background": _rgb(BACKGROUND_BGR),
                "darker": _rgb(DARKER_BGR),
                "brighter": _rgb(BRIGHTER_BGR),
            },
            "controls": [] if self._controls is None else self._controls.table(),
            "can_record": self._recorder is not None,
            "stalled_s": STALLED_S,
        }
        return {"hello": json.dumps(hello), "status": self._state()}

    def _state(self) -> str:
        recording = None if self._recorder is None else self._recorder.state
        latency = percentiles_ms(list(self._latencies_ms))
        return json.dumps(
            {
                "type": "status",
                "viewers": self.server.viewers,
                "recording": None if recording is None else _plain(recording),
                "has_latency": bool(self.scene.student),
                "p50_ms": latency.p50 if latency.count else None,
                "p95_ms": latency.p95 if latency.count else None,
            }
            | asdict(self._status())
        )

    def _command(self, request: Mapping[str, object]) -> str:
        """Do what a page asks for; called in a thread of its own."""
        try:
            return answer(True, self._do(request))
        except (EvdistillError, OSError) as error:
            return answer(False, str(error))

    def _do(self, request: Mapping[str, object]) -> str:
        what = request.get("do")
        if what == "record" and self._recorder is not None:
            return self._record(bool(request.get("on")))
        if what in ("set", "reset") and self._controls is not None:
            name = str(request.get("name"))
            try:
                if what == "reset":
                    return self._controls.reset()
                return self._controls.set(name, request.get("value"))
            finally:
                # After a refusal too: the page shows what is in force.
                self._tell_values(always=True)
        raise EvdistillError(f"this view cannot do {what!r}")

    def _record(self, is_on: bool) -> str:
        assert self._recorder is not None
        if is_on:
            return f"recording into {self._recorder.start()}"
        state = self._recorder.stop()
        self.server.tell("status", self._state())
        return "nothing was recorded" if state is None else f"recorded {state.text()}"


def _plain(state: RecordingState) -> dict[str, Any]:
    return asdict(state) | {"path": str(state.path)}


def _classes(classes: ClassTable) -> list[dict[str, object]]:
    return [{"name": c.name, "rgb": c.color_rgb, "is_thing": c.is_thing} for c in classes.classes]


def _rgb(color: Bgr) -> tuple[int, int, int]:
    blue, green, red = color
    return red, green, blue
