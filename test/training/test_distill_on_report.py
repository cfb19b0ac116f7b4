"""What ``distill-on`` says at the end: score, verdict, next command, page."""

import json
import math

import numpy as np
import pytest
from report_pages import check_page

from evdistill_core.foundation.labels import SIX_CLASSES, ClassInfo, ClassTable
from evdistill_core.reports.origin import Stopwatch
from evdistill_core.training.comparison import Comparison, Pair, _columns, _Renamed
from evdistill_core.training.distill_on_report import Outcome, verdict, write_outcome

NAMES = SIX_CLASSES.names


def comparison(new=0.5, shipped=0.4, *, images=True, **more):
    pair = Pair(new, shipped, 24)
    given = {"teacher": pair} if images else {"validation": {"val": pair}}
    return Comparison("street6.evstudent", NAMES, **(given | more))


@pytest.mark.parametrize(
    ("new", "shipped", "word"),
    [
        (0.5, 0.4, "better than the shipped street6.evstudent"),
        (0.4, 0.5, "worse than the shipped street6.evstudent"),
        (0.41, 0.4, "about as good as the shipped street6.evstudent"),
        (0.4, 0.419, "about as good as"),
        (math.nan, 0.4, "it cannot be told"),
    ],
)
def test_the_verdict_is_in_words_and_percent(new, shipped, word):
    text = verdict(comparison(new, shipped))
    assert word in text
    if math.isfinite(new):
        assert f"{100 * new:.1f} % against {100 * shipped:.1f} %" in text
        assert f"({100 * (new - shipped):+.1f} points)" in text
        assert "24 camera images of your recordings" in text
        assert "mIoU near events, over the 6 classes that both know, " in text


def test_without_images_labelled_windows_decide():
    text = verdict(comparison(images=False, agreement=0.631, windows=48))
    assert "(+10.0 points) on 24 labelled windows that were kept apart." in text
    assert "camera images" not in text
    assert "On 48 windows of your recordings both agree on 63.1 % of the labelled pixels." in text
    unknown = verdict(Comparison("s", NAMES, agreement=0.5, windows=3))
    assert unknown.startswith("it cannot be told")
    assert "50.0 %" in unknown
    assert verdict(Comparison("s", reason="it knows other classes")) == (
        "no comparison: it knows other classes."
    )


@pytest.mark.parametrize(
    ("teacher", "validation", "mood"),
    [
        ((0.5, 0.4), (0.5, 0.4), "better"),
        ((0.5, 0.4), (0.41, 0.4), "better"),
        ((0.4, 0.4), (0.41, 0.4), "same"),
        ((0.5, 0.4), (0.3, 0.4), "mixed"),
        ((0.3, 0.4), (0.4, 0.4), "worse"),
        ((math.nan, 0.4), (0.4, 0.5), "worse"),
        ((math.nan, 0.4), (0.4, math.nan), "unknown"),
    ],
)
def test_two_measures_must_not_contradict_each_other(teacher, validation, mood):
    sets = {"a": Pair(*validation, 10), "b": Pair(*validation, 10)}
    found = Comparison("s", NAMES, teacher=Pair(*teacher, 24), validation=sets)
    assert found.mood == mood
    text = verdict(found)
    assert ("on 20 labelled windows" in text) == math.isfinite(sum(validation))
    assert ("by one measure" in text) == (mood == "mixed")


def test_logits_are_brought_to_other_classes():
    own = ClassTable(tuple(ClassInfo(n, (0, 0, 0)) for n in ("b", "x", "a")))
    wanted = ClassTable(tuple(ClassInfo(n, (0, 0, 0)) for n in ("a", "b", "c")))
    columns = _columns(own, wanted, ("a", "b"))
    assert columns.tolist() == [2, 0, -1]
    logits = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    renamed = _Renamed(lambda _: logits, columns)(np.zeros(1, np.float32))
    assert np.array_equal(renamed[0], logits[2])
    assert np.array_equal(renamed[1], logits[0])
    assert renamed[2].max() < -1e8
    assert logits.min() == 0  # not changed


def outcome(folder, **more):
    student = folder / "student"
    student.mkdir(parents=True)
    rows = [{"kind": "validation", "step": 9, "score": 0.25,
             "sets": {"sim": {"near_events": {"miou": 0.25}}}}]  # fmt: skip
    (student / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    session = {"began": "2026-01-02T03:04:05+00:00", "seconds": 90.0, "first_step": 0,
               "last_step": 10, "command": "c", "software": "s", "machine": "m"}  # fmt: skip
    content = {"finished": True, "sessions": [session, session | {"first_step": 10}]}
    (student / "sessions.json").write_text(json.dumps(content))
    given = {
        "out": folder, "student": folder / "student.evstudent", "score_name": "mIoU near events",
        "classes": SIX_CLASSES, "recordings": [folder / "<my> recordings"],
        "images": folder / "images", "comparison": comparison(),
    }  # fmt: skip
    return Outcome(**(given | more))


def test_the_terminal_ends_with_score_verdict_and_next_command(tmp_path):
    lines = outcome(tmp_path / "run").lines()
    keys = [line.partition(":")[0] for line in lines]
    assert keys == ["student", "score", "verdict", "report", "next"]
    assert lines[1] == "score: mIoU near events 25.0 % on sim"
    assert lines[-1].startswith(f"next: evdistill run '{tmp_path}/run/<my> recordings' --student")


def test_the_page_says_the_same_and_links_the_stages(tmp_path):
    made = outcome(tmp_path / "run")
    path = write_outcome(made, Stopwatch())
    page = check_page(path.read_text(encoding="utf-8"))
    for words in (
        "mIoU near events", "25.0 %", "+10.0 points", "Better than the shipped",
        "50.0", "40.0", "A teacher is no truth.", "<my> recordings", "3 min 0 s", "2026-01-02",
    ):  # fmt: skip
        assert words in page.text, words
    links = [a["href"] for t, a in page.elements if t == "a"]
    assert links == ["student/report.html"]  # no teacher was trained here
    for info in SIX_CLASSES.classes:
        assert info.name in page.text
    assert "Curves of the student" in page.text


def test_the_page_says_why_the_teacher_is_no_reference_and_shows_masks(tmp_path):
    picture = np.zeros((4, 6, 3), np.uint8)
    told = comparison(images=False, unused="3 camera images were found; 8 are needed",
                      examples=[[picture] * 3] * 2)  # fmt: skip
    path = write_outcome(outcome(tmp_path / "run", comparison=told), Stopwatch())
    text = path.read_text(encoding="utf-8")
    assert "3 camera images were found; 8 are needed." in check_page(text).text
    assert text.count("<img ") == 6


def test_a_page_without_comparison_and_scores(tmp_path):
    reason = "the shipped s is a student of segmentation, this one of recognition"
    made = outcome(tmp_path / "run", comparison=Comparison("s", reason=reason))
    (tmp_path / "run" / "student" / "metrics.jsonl").unlink()
    (tmp_path / "run" / "student" / "sessions.json").unlink()
    assert made.lines()[1].startswith("score: none")
    page = check_page(write_outcome(made, Stopwatch()).read_text(encoding="utf-8"))
    assert reason in page.text
    assert "Compared with the shipped student" not in page.text
