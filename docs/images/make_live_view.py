"""Takes live-view.webp and live-view-light.webp: the live view of the demo recording, in Chromium.

Run: python docs/images/make_live_view.py

The student computes every window first; then the page sees them at the pace of the recording, so
that a busy machine gives the same picture. Needs `pip install -e ".[view,test]"` and Chromium.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

import evdistill_core as evdistill
from evdistill_core.drawing.colours import to_bgr
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.perception.result import Result
from evdistill_core.viewing.live.address import ViewAddress
from evdistill_core.viewing.live.controls import Controls
from evdistill_core.viewing.live.frames import Shot
from evdistill_core.viewing.live.live_view import LiveView, Scene, Status

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "demo" / "davis346_street.mcap"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1280, "height": 800}
LOOPS = 5
STEP_S = 0.05


class Played:
    """What the numbers beside the picture are of."""

    def __init__(self) -> None:
        self.windows = 0
        self._latest: deque[tuple[float, int]] = deque(maxlen=20)

    def add(self, shot: Shot) -> None:
        """Count a window that was shown."""
        self.windows += 1
        self._latest.append((time.monotonic(), len(shot.events)))

    def status(self) -> Status:
        """Return the rates of the latest windows."""
        latest = list(self._latest)
        if len(latest) < 2:
            return Status(0.0, 0.0, self.windows, 0, 0, silence_s=0.0)
        span_s = latest[-1][0] - latest[0][0]
        events = sum(count for _, count in latest[1:])
        windows_per_s = (len(latest) - 1) / span_s
        return Status(events / span_s, windows_per_s, self.windows, 0, 0, silence_s=0.0)


def shots() -> tuple[list[Shot], evdistill.Student]:
    """Return every window of the recording as the default student sees it."""
    student = evdistill.Student.load()
    with evdistill.open_recording(RECORDING) as recording:
        frames = list(recording.frames())

    def shot(result: Result) -> Shot:
        image = to_bgr([f for f in frames if f.stamp_ns <= result.stamp_ns][-1].image)
        latency_ms = sum(result.latency_ms.values())
        return Shot(
            result.index, result.t_start_us, result.t_end_us, result.stamp_ns, result.events,
            result.prediction, latency_ms, lambda: image,
        )  # fmt: skip

    return [shot(result) for result in student.predict(RECORDING)], student


def in_order(found: list[Shot]) -> Iterator[Shot]:
    """Yield the windows to show: some rounds, then on to the one that shows most."""
    scores = [sum(d.score for d in shot.answer.detections) for shot in found]
    yield from found * LOOPS
    yield from found[: scores.index(max(scores)) + 1]


def take_pictures(folder: Path) -> None:
    """Write both pictures into a folder."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    found, student = shots()
    parameters = SegmentationParameters()
    played = Played()
    scene = Scene(
        title="evdistill live", source="/event_camera/events", student="street6",
        classes=student.classes,
    )  # fmt: skip
    controls = Controls(lambda: parameters, lambda changed: None)
    view = LiveView(
        ViewAddress(port=0), scene=scene, status=played.status, controls=controls, folder=folder
    )
    with view, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"]
        )
        pages = {}
        for theme in ("dark", "light"):
            context = browser.new_context(viewport=SIZE, color_scheme=theme)
            pages[theme] = context.new_page()
            pages[theme].goto(view.url)
        for shot in in_order(found):
            played.add(shot)
            view.offer(shot)
            pages["dark"].wait_for_timeout(1000 * STEP_S)
        for theme, page in pages.items():
            page.wait_for_timeout(1000)
            name = "live-view.webp" if theme == "dark" else "live-view-light.webp"
            _write(folder / name, page.screenshot())
        browser.close()


def _write(path: Path, png: bytes) -> None:
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    _, data = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 88])
    path.write_bytes(data.tobytes())


if __name__ == "__main__":
    take_pictures(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
