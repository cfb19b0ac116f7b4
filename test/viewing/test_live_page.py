"""The page in a real browser: what a person sees and presses."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from evdistill_core.drawing.colours import BRIGHTER_BGR, DARKER_BGR
from evdistill_core.events.array import Events
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.foundation.worker import wait_until
from evdistill_core.inference.prediction import Detection, Prediction
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.viewing.live.address import ViewAddress
from evdistill_core.viewing.live.controls import Controls
from evdistill_core.viewing.live.frames import Shot
from evdistill_core.viewing.live.live_view import LiveView, Scene, Status

pytest.importorskip("aiohttp", reason="needs aiohttp: pip install .[view]")

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 64, 48


class Camera:
    """ON events in the left third, OFF in the right one, a vehicle in the middle, at 20 Hz."""

    def __init__(self, view):
        self.view = view
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        outer = (x < WIDTH // 4) | (x >= 3 * WIDTH // 4)
        x, y = x[outer], y[outer]
        self.events = Events.from_columns(
            x, y, np.arange(len(x)), x < WIDTH // 2, width=WIDTH, height=HEIGHT
        )
        mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
        mask[:, WIDTH // 4 : 3 * WIDTH // 4] = 4  # human: a strong red
        box = Detection(5, 0.91, (20, 15, 40, 30), 100, 7, "vehicle", velocity_px_s=(30.0, 0.0))
        self.answer = Prediction(mask, np.zeros(mask.shape, np.float32), (box,))

    def run(self):
        index = 0
        while not self.stopping.wait(0.05):
            now_ns = time.time_ns()
            shot = Shot(index, 0, 50_000, now_ns, self.events, self.answer, latency_ms=12.0)
            self.view.offer(shot)
            index += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()


@pytest.fixture
def shown(tmp_path):
    state = {"parameters": SegmentationParameters()}
    view = LiveView(
        ViewAddress(port=0),
        scene=Scene(title="evdistill test", source="/e", student="s", classes=SIX_CLASSES),
        status=lambda: Status(40_000.0, 20.0, 100, dropped=2, gaps=0, silence_s=0.0),
        controls=Controls(
            lambda: state["parameters"], lambda changed: state.update(parameters=changed)
        ),
        folder=tmp_path,
    )
    with view, Camera(view):
        yield view, state


@pytest.fixture
def page(browser, shown):
    context = browser.new_context(viewport={"width": 1100, "height": 700}, color_scheme="dark")
    page = context.new_page()
    page.trouble = []
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    page.on("console", lambda m: page.trouble.append(m.text) if m.type == "error" else None)
    page.goto(shown[0].url)
    page.wait_for_function("() => Number(document.body.dataset.pictures) > 5", timeout=60_000)
    yield page
    context.close()


def colour_at(page, x, y):
    """The colour in the middle of a sensor pixel, R, G, B."""
    return page.evaluate(
        """([x, y, w, h]) => {
            const canvas = document.getElementById("picture");
            const at = [(x + 0.5) * canvas.width / w, (y + 0.5) * canvas.height / h];
            return [...canvas.getContext("2d").getImageData(at[0], at[1], 1, 1).data].slice(0, 3);
        }""",
        [x, y, WIDTH, HEIGHT],
    )


def settled(page):
    """Wait until the page has drawn what it was told."""
    before = page.evaluate("() => Number(document.body.dataset.pictures)")
    page.wait_for_function(f"() => Number(document.body.dataset.pictures) > {before + 3}")


def set_opacity(page, percent):
    page.evaluate(
        """(percent) => {
            const slider = document.getElementById("opacity");
            slider.value = percent;
            slider.oninput();
        }""",
        percent,
    )
    settled(page)


def test_events_mask_boxes_numbers_and_controls_are_there(page, shown):
    assert colour_at(page, 5, 40) == list(BRIGHTER_BGR[::-1])
    assert colour_at(page, 60, 40) == list(DARKER_BGR[::-1])
    red, green, blue = colour_at(page, 45, 40)
    assert red > 2 * max(green, blue), "the mask is not there"
    assert page.inner_text("#state") == "live"
    legend = page.inner_text("#legend")
    assert all(name in legend for name in (*SIX_CLASSES.names, "brighter (ON)", "darker (OFF)"))
    # Latency is that of pictures that have arrived, so it comes later than the first picture.
    charts = page.inner_text("#charts")
    for _ in range(100):
        if "12.0" in charts:
            break
        page.wait_for_timeout(100)
        charts = page.inner_text("#charts")
    assert all(name in charts for name in ("Events", "Windows", "Dropped windows", "Latency"))
    assert "40.0 kev/s" in " ".join(charts.split())
    assert "12.0 ms p50" in " ".join(charts.split())
    assert page.inner_text("#things-body").split()[:4] == ["vehicle", "7", "0.91", "30"]
    assert page.locator(".control").count() == len(shown[0]._controls.table())
    assert page.trouble == []


def test_opacity_layers_and_legend_change_the_picture(page):
    strong = colour_at(page, 45, 40)[0]
    page.evaluate(
        "() => { const o = document.getElementById('opacity'); o.value = 0; o.oninput(); }"
    )
    settled(page)
    assert colour_at(page, 45, 40)[0] < strong / 2
    page.evaluate(
        "() => { const o = document.getElementById('opacity'); o.value = 90; o.oninput(); }"
    )
    settled(page)
    assert colour_at(page, 45, 40)[0] > strong
    page.click("#legend button:has-text('human')")
    settled(page)
    assert colour_at(page, 45, 40)[0] < strong / 2
    page.uncheck("#show-events")
    settled(page)
    assert max(colour_at(page, 5, 40)) < 60
    assert page.trouble == []


def test_a_parameter_changes_the_pipeline_and_a_bad_value_is_told(page, shown):
    _, state = shown
    page.fill("#c-window_us", "20000")
    page.press("#c-window_us", "Enter")
    page.wait_for_selector("#toast:has-text('window_us is 20000 us')")
    assert state["parameters"].window_us == 20_000
    page.click("summary:has-text('Detections')")
    page.fill("#c-min_score", "3")
    page.press("#c-min_score", "Enter")
    page.wait_for_selector("#toast[data-bad]:has-text('min_score must lie in 0..1, got 3')")
    page.evaluate("() => document.activeElement.blur()")
    page.click("#reset")
    page.wait_for_function("() => document.getElementById('c-window_us').value === '0'")
    assert state["parameters"] == SegmentationParameters()


def test_record_and_snapshot_make_files(page, tmp_path):
    page.click("#record")
    page.wait_for_selector("#record[aria-pressed=true]")
    page.click("#record")
    page.wait_for_selector("#toast:has-text('recorded')")
    assert list(tmp_path.glob("events_*.mcap"))
    with page.expect_download() as download:
        page.click("#snapshot")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.suffix == ".png"
    picture = cv2.imread(str(path))
    assert picture.shape[0] > 400
    for colour in (BRIGHTER_BGR, DARKER_BGR):
        assert (picture == np.array(colour)).all(axis=2).sum() > 1000


def test_a_paused_page_stops_the_work_and_a_lost_one_comes_back(page, shown):
    view, _ = shown
    page.click("#pause")
    assert wait_until(lambda: not view.is_watched, timeout_s=5)
    encoded = view.encoded
    page.wait_for_selector("#state:has-text('paused')")
    time.sleep(0.3)
    assert view.encoded <= encoded + 1
    page.click("#pause")
    settled(page)
    assert page.inner_text("#state") == "live"


def test_the_theme_can_be_changed_and_stays(page):
    ground = "() => getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.click("#theme")
    light = page.evaluate(ground)
    assert sum(map(int, light[4:-1].split(","))) > sum(map(int, dark[4:-1].split(","))) + 400
    page.reload()
    page.wait_for_function("() => Number(document.body.dataset.pictures) > 2", timeout=60_000)
    assert page.evaluate(ground) == light


def test_a_narrow_window_scrolls_and_cuts_nothing_off(page):
    page.set_viewport_size({"width": 420, "height": 800})
    settled(page)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 420
    box = page.locator("#picture").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 420


@pytest.mark.slow
def test_the_screenshots_of_the_docs_can_be_taken(browser, tmp_path):
    """By the command that the docs name; what is committed is as small as it may be."""
    del browser  # skipped where there is none
    command = [sys.executable, str(ROOT / "docs" / "images" / "make_live_view.py"), str(tmp_path)]
    subprocess.run(command, check=True, timeout=150)
    for name in ("live-view.webp", "live-view-light.webp"):
        taken = cv2.imread(str(tmp_path / name))
        assert taken.shape == (800, 1280, 3)
        assert (np.abs(taken.astype(int) - BRIGHTER_BGR).sum(axis=2) < 60).sum() > 100
        assert (ROOT / "docs" / "images" / name).stat().st_size < 300_000
