"""Reports in a browser: offline, light, dark, narrow, printed; nothing runs, nothing hides."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from evdistill_core.drawing.overlay import EVENT_COLOURS
from evdistill_core.foundation.labels import SIX_CLASSES, ClassInfo, ClassTable
from evdistill_core.reports.charts import Chart, Line
from evdistill_core.reports.origin import Stopwatch
from evdistill_core.reports.page import BarCell, ClassCell, ReportPage

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
HOSTILE = (
    '<img src="http://example.org/x" onerror="document.title=\'owned\'"><script>alert(1)</script>'
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page with everything that a page can have, and hostile names."""
    page = ReportPage("Evaluation", f"a student {HOSTILE}", "What was done. " * 5)
    page.verdict("Better than the shipped one.", "good", head="Verdict")
    for name in ("mIoU near events", "Time", HOSTILE):
        page.score(name, "45.3 %", "of 120 windows")
    page.next_step("Go on:", "evdistill run " + "a_very_long_name/" * 20)
    page.heading("Colours")
    page.legend(SIX_CLASSES, EVENT_COLOURS)
    rows = [
        [ClassCell(c.name, c.color_rgb), 1234, *[BarCell(0.4)] * 4] for c in SIX_CLASSES.classes
    ]
    page.table(["class", "pixels", *["IoU near events, %"] * 4], rows, totals=1, caption=HOSTILE)
    many = ClassTable(tuple(ClassInfo(f"class {i}", (i, 0, 0)) for i in range(19)))
    page.confusion(np.ones((19, 20), np.int64), many)
    x = list(range(50))
    line = Line(HOSTILE, x, [i * 0.1 for i in x])
    page.charts([Chart("loss", "A note.", [line], "step")] * 4)
    page.charts([Chart("many", "A note.", [line] * 7, "step", is_wide=True)])
    noise = np.random.default_rng(0).integers(0, 255, (260, 346, 3)).astype(np.uint8)
    page.panels(["events", "labels", "prediction"], [[noise] * 3] * 2)
    page.picture(np.tile(noise, (2, 8, 1)), "large")
    page.details("Configuration", "key: value\n" * 30)
    page.origin(Stopwatch().origin(), {"Recording": HOSTILE * 3})
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert page.write(path) == path
    return path


@pytest.mark.parametrize("width", [400, 1120])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_whole_offline_and_nothing_in_it_runs(browser, report, width, scheme):
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert page.title().startswith("Evaluation: a student <img")
    # Wide tables scroll for themselves; the page does not.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert page.evaluate(broken) == 0
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = page.evaluate("getComputedStyle(document.body).color")
    brightness = [sum(map(int, c[4:-1].split(","))) for c in (back, ink)]
    assert (brightness[0] > brightness[1]) == (scheme == "light")
    context.close()


def test_a_printed_page_is_dark_on_white_and_shows_what_is_folded(browser, report):
    page = browser.new_page(color_scheme="dark")
    page.goto(report.as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    data = page.pdf(format="A4")
    assert data.startswith(b"%PDF")
    assert data.count(b"/Type /Page\n") + data.count(b"/Type /Page ") >= 2
    page.close()


def test_the_docs_have_a_picture_of_each_report_that_looks_like_one(browser, report):
    del browser  # says where there is none
    spec = importlib.util.spec_from_file_location(
        "make_reports", ROOT / "docs" / "images" / "make_reports.py"
    )
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    page = (ROOT / "docs" / "how-to" / "reports.md").read_text(encoding="utf-8")
    assert set(maker.commands(Path("x"))) == set(maker.pages(Path("x")))
    for name in maker.pages(Path("x")):
        picture = ROOT / "docs" / "images" / f"report-{name}.webp"
        assert 10_000 < picture.stat().st_size < 300_000, name
        assert f"(../images/{picture.name})" in page
