"""What a live view costs the pipeline at 30 windows a second: dropped windows, processor time.

    python benchmarks/live_view.py [--seconds 10] [--rounds 3] [--student NAME] [--json FILE]

The street recording (346 x 260, with the camera's images) runs in a loop through the pipeline of
``evdistill live``, in windows of a 30th of a second. The conditions take turns, so that other
programs on the machine disturb all of them alike:

* ``no page``: without a view;
* ``nobody looks``: a page is served, and none is open;
* ``a viewer``: a page in another process draws every picture;
* ``a stalled viewer``: a page in another process reads nothing after it has opened.

``dropped`` is the share of windows that a newer one replaced since the network was busy. ``view
cpu`` is the processor time of the two threads of the view, in percent of one core: it does not
depend on what else runs. ``handing over`` is what the thread of the network spends on the view for
each window. The whole process's time (``process cpu``) is there to compare.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.stream import DecodedPacket
from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.perception.front_end import FrontEnd, open_student, warm_up
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.perception.result import Result
from evdistill_core.recordings.base import Frame
from evdistill_core.recordings.opening import open_recording
from evdistill_core.viewing.live.address import ViewAddress
from evdistill_core.viewing.live.controls import Controls
from evdistill_core.viewing.live.live_view import LiveView, Scene
from evdistill_core.viewing.live.of_pipeline import PipelineStatus, offer_result

RECORDING = Path(__file__).parents[1] / "demo" / "davis346_street.mcap"
WINDOW_US = 33_333
STEP_US = 10_000
CONDITIONS = ("no page", "nobody looks", "a viewer", "a stalled viewer")
PUBLISHED = ("mask", "detections")
VIEW_THREADS = ("view", "view server")


@dataclass
class Row:
    """What one round of a condition cost.

    Attributes:
        condition: of ``CONDITIONS``.
        windows: computed.
        dropped_percent: windows dropped, of all.
        process_cpu_percent: of one core, the whole process.
        view_cpu_percent: of one core, the threads of the view.
        handing_over_us: median time of the network's thread for the view, a window.
        pictures_per_s: sent to the viewer.
        pictures_dropped: that the viewer was too slow for.
    """

    condition: str
    windows: int
    dropped_percent: float
    process_cpu_percent: float
    view_cpu_percent: float
    handing_over_us: float
    pictures_per_s: float
    pictures_dropped: int


class Loop:
    """The recording without an end: pieces of 10 ms whose times go on from turn to turn."""

    def __init__(self, path: Path) -> None:
        with open_recording(path) as recording:
            parts = [batch.events for batch in recording.batches()]
            self.frames: list[Frame] = list(recording.frames())
        first = parts[0]
        t_us = np.concatenate([p.t_us for p in parts])
        order = np.argsort(t_us, kind="stable")
        x, y, p = (np.concatenate([getattr(e, n) for e in parts])[order] for n in "xyp")
        t_us = t_us[order] - t_us[order[0]]
        self.events = Events.from_columns(x, y, t_us, p, width=first.width, height=first.height)
        self.steps = int(t_us[-1]) // STEP_US
        self._cuts = np.searchsorted(t_us, np.arange(self.steps + 1) * STEP_US)

    def piece(self, index: int, stamp_ns: int) -> DecodedPacket:
        """Return the index-th 10 ms since the start of the first turn."""
        turn, step = divmod(index, self.steps)
        part = self.events[self._cuts[step] : self._cuts[step + 1]]
        shift_us = turn * self.steps * STEP_US
        moved = Events.from_columns(
            part.x, part.y, part.t_us + shift_us, part.p, width=part.width, height=part.height
        )
        nothing = Triggers.empty()
        return DecodedPacket(moved, nothing, stamp_ns, "camera", "", (index + 1) * STEP_US)


def measure(loop: Loop, condition: str, seconds: float, student: str) -> Row:
    """Run one condition."""
    parameters = SegmentationParameters(student=student, window_us=WINDOW_US)
    opened, runner = open_student(parameters)
    warm_up(opened, runner, parameters, size=(loop.events.height, loop.events.width))
    spent_s: list[float] = []
    shown: list[LiveView] = []

    def on_result(result: Result) -> None:
        began_s = time.perf_counter()
        if shown:
            offer_result(shown[0], front, result)
        spent_s.append(time.perf_counter() - began_s)

    front = FrontEnd(
        opened, runner, parameters, publish=lambda name, data: None,
        is_wanted=lambda name: name in PUBLISHED, node="segmentation", on_result=on_result,
    )  # fmt: skip
    front.start()
    with ExitStack() as stack:
        view = None
        if condition != "no page":
            view = stack.enter_context(_view(front, Path(stack.enter_context(_scratch()))))
            shown.append(view)
        if condition in ("a viewer", "a stalled viewer"):
            stack.enter_context(_viewer(view, stalls=condition == "a stalled viewer"))
        _feed(loop, front, 1.0, 0)
        before = front.perception.counters()
        cpu_s, view_s, began_s = _process_cpu_s(), _view_cpu_s(), time.monotonic()
        pictures = _pictures(view)
        _feed(loop, front, seconds, round(1e6 / STEP_US))
        span_s = time.monotonic() - began_s
        cpu_s, view_s = _process_cpu_s() - cpu_s, _view_cpu_s() - view_s
        sent, lost = (b - a for a, b in zip(pictures, _pictures(view), strict=True))
        after = front.perception.counters()
        front.stop(drain=False)
    windows = after["windows"] - before["windows"]
    dropped = after.get("windows_dropped", 0) - before.get("windows_dropped", 0)
    return Row(
        condition, windows - dropped, 100 * dropped / windows, 100 * cpu_s / span_s,
        100 * view_s / span_s, 1e6 * median(spent_s), sent / span_s, lost,
    )  # fmt: skip


def _feed(loop: Loop, front: FrontEnd, seconds: float, first: int) -> None:
    """Bring the events at their time, and the camera's images with them."""
    began_s = time.monotonic()
    per_turn = len(loop.frames) / loop.steps
    for index in range(first, first + round(seconds * 1e6 / STEP_US)):
        time.sleep(max(0.0, began_s + (index - first + 1) * STEP_US / 1e6 - time.monotonic()))
        now_ns = time.time_ns()
        if int((index + 1) * per_turn) > int(index * per_turn):
            frame = loop.frames[int(index * per_turn) % len(loop.frames)]
            front.messages.push_picture(frame.image, now_ns)
        front.perception.push_events(loop.piece(index, now_ns))


@contextmanager
def _scratch() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def _view(front: FrontEnd, folder: Path) -> LiveView:
    scene = Scene(title="benchmark", source="street", student="s", classes=front.messages.classes)
    return LiveView(
        ViewAddress(port=0), scene=scene, status=PipelineStatus(front.perception),
        controls=Controls(lambda: front.perception.parameters, front.reconfigure), folder=folder,
    )  # fmt: skip


@contextmanager
def _viewer(view: LiveView | None, *, stalls: bool) -> Iterator[None]:
    assert view is not None
    command = [sys.executable, __file__, "--look-at", view.url, *(["--stall"] if stalls else [])]
    with subprocess.Popen(command) as process:
        end_s = time.monotonic() + 60
        while not view.is_watched:
            if process.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError("the viewer did not come")
            time.sleep(0.02)
        yield
        process.terminate()


def _pictures(view: LiveView | None) -> tuple[int, int]:
    counts = [] if view is None else view.server.counts()
    return sum(c.sent for c in counts), sum(c.dropped for c in counts)


def _process_cpu_s() -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system)


def _view_cpu_s() -> float:
    """Return the processor time that the threads of the view have taken."""
    ids = {t.native_id for t in threading.enumerate() if t.name in VIEW_THREADS}
    return sum(t.user_time + t.system_time for t in psutil.Process().threads() if t.id in ids)


async def look(url: str, *, stalls: bool) -> None:
    """Be a page: draw every picture, or none."""
    import aiohttp  # noqa: PLC0415

    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}live") as pipe:
        if stalls:
            await asyncio.sleep(3600)
        drawn = 0
        async for message in pipe:
            if message.type is aiohttp.WSMsgType.BINARY:
                drawn += 1
                await pipe.send_json({"drawn": drawn})


def summary(rows: list[Row]) -> list[Row]:
    """Return the median of the rounds of each condition."""
    found = []
    for condition in CONDITIONS:
        of = [asdict(row) for row in rows if row.condition == condition]
        values = {name: median(row[name] for row in of) for name in of[0] if name != "condition"}
        found.append(Row(condition, **values))
    return found


def print_table(rows: list[Row]) -> None:
    """Print the medians."""
    table = Table(title="live view at 346x260, windows of a 30th of a second (medians)")
    heads = ("condition", "windows", "dropped %", "process cpu %", "view cpu %", "handing over us",
             "pictures/s", "dropped pictures")  # fmt: skip
    for head in heads:
        table.add_column(head, justify="left" if head == "condition" else "right")
    for row in rows:
        table.add_row(
            row.condition, f"{row.windows:.0f}", f"{row.dropped_percent:.1f}",
            f"{row.process_cpu_percent:.1f}", f"{row.view_cpu_percent:.2f}",
            f"{row.handing_over_us:.0f}", f"{row.pictures_per_s:.1f}",
            f"{row.pictures_dropped:.0f}",
        )  # fmt: skip
    Console(width=130).print(table)


def main() -> None:
    """Measure all conditions in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of one round")
    parser.add_argument("--rounds", type=int, default=3, help="of each condition")
    parser.add_argument("--student", default="street6-nano", help="file or name")
    parser.add_argument("--json", type=Path, help="write every round into this file")
    parser.add_argument("--look-at", help=argparse.SUPPRESS)
    parser.add_argument("--stall", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.look_at:
        asyncio.run(look(options.look_at, stalls=options.stall))
        return
    loop = Loop(RECORDING)
    rows: list[Row] = []
    for turn in range(options.rounds):
        # Another order in each round: the machine warms up, and other programs come and go.
        for condition in CONDITIONS[turn % 4 :] + CONDITIONS[: turn % 4]:
            rows.append(measure(loop, condition, options.seconds, options.student))
            print(rows[-1], file=sys.stderr)
    print_table(summary(rows))
    if options.json is not None:
        content = {
            "machine": platform.platform(),
            "cores": psutil.cpu_count(),
            "load": psutil.getloadavg(),
            "student": options.student,
            "rounds": [asdict(row) for row in rows],
        }
        write_text_atomic(options.json, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
