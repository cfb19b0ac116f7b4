"""The template of report pages: content, escaping, well-formed HTML, charts, origin."""

import math
import subprocess
from datetime import datetime, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_pages import Page, check_page

from evdistill_core.drawing.overlay import EVENT_COLOURS
from evdistill_core.foundation.invocation import command_text, resume_text, set_arguments
from evdistill_core.foundation.labels import SIX_CLASSES, ClassInfo, ClassTable
from evdistill_core.foundation.version import VERSION
from evdistill_core.reports.charts import Chart, Line, figure, ticks
from evdistill_core.reports.numbers import duration, percent, points, short, size
from evdistill_core.reports.origin import Origin, Stopwatch, git_commit, machine, software
from evdistill_core.reports.page import BarCell, ClassCell, ReportPage

HOSTILE = (
    "<script>alert(1)</script>",
    '" onerror="alert(1)',
    "' onload='alert(1)",
    "</style><img src=x onerror=alert(1)>",
    "--><b>&lt;&amp;",
    "javascript:alert(1)",
    "]]></svg>",
    "a" * 300,
    "\N{RIGHT-TO-LEFT OVERRIDE}txt",
)


def full_page(text):
    """Return a page that has the text wherever a page takes any."""
    page = ReportPage(text, text, text)
    page.verdict(text, "good", head=text)
    page.score(text, text, text)
    page.next_step(text, command_text("run", text))
    page.heading(text, text)
    page.subheading(text, text)
    page.paragraph(text)
    classes = ClassTable((ClassInfo(text, (1, 2, 3)), ClassInfo(text + "2", (0, 0, 0))))
    page.legend(classes, [(text, (1, 2, 3))], text)
    cells = [text, 3, 0.5, None, ClassCell(text, (9, 9, 9)), BarCell(0.25), BarCell(math.nan)]
    page.table([text] * 7, [cells, cells], caption=text, totals=1, text_columns=(0,))
    page.confusion(np.array([[3, 1, 0], [0, 0, 0]]), classes, unit=text)
    page.charts([Chart(text, text, [Line(text, [0, 1], [1, 2])] * 2, text, is_wide=True)])
    picture = np.random.default_rng(0).integers(0, 255, (8, 12, 3)).astype(np.uint8)
    page.panels([text, text], [[picture, picture]], text)
    page.panels([], [[picture, picture]], text)
    page.picture(picture, text)
    page.links({text: text})
    page.details(text, text)
    page.origin(Origin(command=text, software=text, machine=text), {text: text})
    return page.html()


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup(text):
    page, plain = check_page(full_page(text)), check_page(full_page("plain"))
    names = [tag for tag, _ in page.elements]
    assert names == [tag for tag, _ in plain.elements]
    # Shown as it was given, in more than the places where one reads it.
    assert page.text.count(text) >= plain.text.count("plain") - 4


@given(st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=30))
def test_any_text_is_shown_as_it_is(text):
    page = ReportPage("Kind", "Title", "Lead.")
    page.table(["head"], [[text]])
    (row,) = [data for tag, data in Page(page.html()).texts if tag == "td"] or [""]
    # The parser of HTML takes carriage returns for line ends, and NUL for a damaged character.
    if text.strip() and not {"\r", "\0"} & set(text) and text != "-":
        assert row == text


def test_the_page_has_what_a_reader_looks_for():
    page = ReportPage("Evaluation", "a student", "What, when, with what.")
    page.score("mIoU", "45.3 %", "near events")
    page.next_step("Go on:", command_text("run", "my file.mcap", "--out", "out/x"))
    page.legend(SIX_CLASSES, EVENT_COLOURS)
    page.table(["class", "IoU, %"], [["all", BarCell(0.453)], ["none", BarCell(None)]], totals=1)
    began = datetime(2026, 5, 4, 3, 2, 1, tzinfo=timezone.utc)
    page.origin(Origin(began, 75.0, "evdistill x", "evdistill 1, commit ab", "2 cores"))
    text = page.html()
    found = check_page(text)
    assert [d for t, d in found.texts if t == "h1"] == ["a student"]
    assert "evdistill run 'my file.mcap' --out out/x" in found.text
    for words in ("45.3 %", "near events", "2026-05-04 03:02:01", "1 min 15 s", "commit ab"):
        assert words in found.text
    for info in SIX_CLASSES.classes:
        assert info.name in found.text
        assert "background:rgb({},{},{})".format(*info.color_rgb) in text
    assert "background:rgb(250,228,66)" in text  # the yellow of brighter events
    assert [d for t, d in found.texts if t == "td"][:4] == ["all", "45.3", "none", "\N{EN DASH}"]
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_a_confusion_is_percent_of_the_true_class():
    page = ReportPage("k", "t", "l")
    classes = ClassTable((ClassInfo("a", (0, 0, 0)), ClassInfo("b", (0, 0, 0))))
    page.confusion(np.array([[3, 1, 4], [0, 0, 0]]), classes)
    cells = [d for t, d in check_page(page.html()).texts if t == "td"]
    assert cells == ["a", "37.5", "12.5", "50.0", "8", "b", *["\N{EN DASH}"] * 3, "0"]


def test_a_page_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("x")
    page = ReportPage("k", "t", "l")
    assert page.write(tmp_path / "file" / "report.html") is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "report.html cannot be written: " in record.getMessage()
    assert page.write(tmp_path / "report.html") == tmp_path / "report.html"
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page.html()


def test_a_large_picture_is_shrunk_and_small_ones_stay_exact():
    noise = np.random.default_rng(0).integers(0, 255, (40, 4000, 3)).astype(np.uint8)
    page = ReportPage("k", "t", "l")
    page.picture(noise, "noise")
    assert len(page.html()) < 200_000
    page.panels(["a"], [[np.zeros((4, 4, 3), np.uint8)]])
    assert "data:image/png" in page.html()


# --- charts


@given(st.floats(-1e9, 1e9, allow_subnormal=False), st.floats(1e-6, 1e9, allow_subnormal=False))
def test_ticks_are_round_and_inside(low, width):
    high = low + width
    if high - low < 1e-9 * max(abs(low), abs(high)):
        return  # no numbers between them
    found = ticks(low, high)
    step = found[1] - found[0] if len(found) > 1 else width
    assert 1 <= len(found) <= 6
    assert found == sorted(set(found))
    assert low - 1e-6 * step <= found[0]
    assert found[-1] <= high + 1e-6 * step


@pytest.mark.parametrize(
    "y", [[math.nan, math.nan], [], [1.0], [2.0, 2.0, 2.0], [1, math.nan, math.inf, 3, 4], [-1, 1]]
)
def test_charts_bear_gaps_and_constant_values(y):
    html = figure(Chart("t", "n", [Line("a", list(range(len(y))), y)], "x"))
    Page(html)
    assert "nan" not in html
    assert "inf" not in html
    finite = [v for v in y if math.isfinite(v)]
    assert html.count("<circle") == len(finite)
    assert ("No value." in html) == (not finite)


def test_a_gap_breaks_the_line_and_the_highest_value_is_at_the_top():
    html = figure(Chart("t", "n", [Line("a", [0, 1, 2, 3, 4], [0, 1, math.nan, 5, 10])], "x"))
    lines = [a["points"].split() for t, a in Page(html).elements if t == "polyline"]
    assert [len(points) for points in lines] == [2, 2]
    heights = [float(point.split(",")[1]) for points in lines for point in points]
    assert heights == sorted(heights, reverse=True)


def test_several_lines_have_a_key_and_differ_without_colour():
    lines = [Line(name, [0, 1], [0, 1]) for name in "abc"]
    html = figure(Chart("t", "n", lines, "x"))
    classes = [a["class"] for t, a in Page(html).elements if t == "polyline"]
    assert classes == ["s0", "s1 dash", "s2 dots"]
    assert [d for t, d in Page(html).texts if t == "li"] == ["a", "b", "c"]


# --- numbers and origin


def test_numbers():
    assert [percent(v) for v in (0.4534, 1.0, 0.0, None, math.nan)] == [
        "45.3", "100.0", "0.0", "-", "-",
    ]  # fmt: skip
    assert [points(v) for v in (0.021, -0.3, 0.0)] == ["+2.1", "-30.0", "+0.0"]
    spans = (0.25, 12.34, 59.97, 245, 3599.7, 12_000, 400_000)
    assert [duration(s) for s in spans] == [
        "250 ms", "12.3 s", "60.0 s", "4 min 5 s", "1 h 0 min", "3 h 20 min", "111 h 7 min",
    ]  # fmt: skip
    assert [size(n) for n in (12, 1500, 2_500_000, 3_000_000_000)] == [
        "12 bytes", "1.5 kB", "2.5 MB", "3.0 GB",
    ]  # fmt: skip
    assert [short(v) for v in (0.0, 0.012345, 1234.5, math.inf)] == ["0", "0.0123", "1,234", "-"]


def test_the_origin_names_version_command_and_machine():
    set_arguments(("train", "my file.yaml", "--overwrite"))
    origin = Stopwatch().origin()
    assert origin.command == "evdistill train 'my file.yaml' --overwrite"
    assert resume_text() == "evdistill train 'my file.yaml' --resume"
    assert f"evdistill {VERSION}" in origin.software
    assert "numpy" in origin.software
    assert " core" in machine()
    assert 0 <= origin.seconds < 60
    set_arguments(())
    assert Stopwatch().origin().command == ""
    assert resume_text() == ""


def test_the_commit_is_that_of_our_own_clone_alone(tmp_path):
    def git(*words):
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", "-C", tmp_path, *identity, *words], check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "first")
    head = subprocess.run(
        ["git", "-C", tmp_path, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert git_commit(tmp_path) == head[:12]
    git_commit.cache_clear()
    (tmp_path / "a").write_text("2")
    assert git_commit(tmp_path) == f"{head[:12]}-dirty"
    # A package that is installed somewhere inside another project's repository.
    inside = tmp_path / "venv" / "lib"
    inside.mkdir(parents=True)
    assert git_commit(inside) == ""
    assert VERSION in software()
