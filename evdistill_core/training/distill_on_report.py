"""How ``distill-on`` ends: a score, a verdict in words, the next command, and a page of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evdistill_core.evaluation.pictures import LABEL_COLOURS
from evdistill_core.foundation.invocation import command_text
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.reports.numbers import duration, percent, points
from evdistill_core.reports.origin import Origin, Stopwatch, machine, software
from evdistill_core.reports.page import PAGE, Cell, ReportPage
from evdistill_core.training.comparison import EXAMPLE_HEADS, Comparison, Pair
from evdistill_core.training.curves import curve_groups, scores_by_set
from evdistill_core.training.loop import METRICS
from evdistill_core.training.run_log import read_records
from evdistill_core.training.sessions import SESSIONS, Session, origin_of, read_sessions

_MOODS: Mapping[str, Literal["plain", "good", "warn"]] = {
    "better": "good",
    "same": "plain",
    "worse": "warn",
    "mixed": "warn",
    "unknown": "plain",
}

_WORDS = {
    "better": "better than",
    "same": "about as good as",
    "worse": "worse than",
    "mixed": "better by one measure and worse by the other than",
}


@dataclass(frozen=True)
class Outcome:
    """What ``distill-on`` made.

    Attributes:
        out: folder of the run; ``student/`` and, where one was trained, ``teacher/`` are in it.
        student: the student file.
        score_name: "mIoU near events" or "top-1".
        classes: of the student.
        recordings: what the user named.
        images: what the user named.
        comparison: with the shipped student.
    """

    out: Path
    student: Path
    score_name: str
    classes: ClassTable
    recordings: Sequence[Path]
    images: Path
    comparison: Comparison

    @property
    def scores(self) -> dict[str, float]:
        """Score of each validation set at the end of the training, 0..1; empty without sets."""
        return last_scores(self.out / "student")

    def next_steps(self) -> list[tuple[str, str]]:
        """Return what to do next, and how."""
        recording = self.recordings[0]
        return [
            (
                "See what it finds in your recordings:",
                command_text(
                    "run", recording, "--student", self.student, "--out", self.out / "seen"
                ),
            ),
            (
                "Score it on recordings with masks of your own:",
                command_text("evaluate", self.student, "LABELLED_RECORDINGS"),
            ),
            ("Use it live:", command_text("live", "--student", self.student)),
        ]

    def lines(self) -> list[str]:
        """Return what the terminal says at the end."""
        return [
            f"student: {self.student}",
            f"score: {self.score_text()}",
            f"verdict: {verdict(self.comparison)}",
            f"report: {self.out / PAGE}",
            f"next: {self.next_steps()[0][1]}",
        ]

    def score_text(self) -> str:
        """Return the score in words."""
        found = self.scores
        if not found:
            return "none: the profile has no validation windows"
        sets = ", ".join(f"{percent(value)} % on {name}" for name, value in found.items())
        return f"{self.score_name} {sets}"


def last_scores(run: Path) -> dict[str, float]:
    """Return the score of each set at the last validation of a run."""
    rows = [r for r in read_records(run / METRICS) if r.get("kind") == "validation"]
    return scores_by_set(rows[-1]) if rows else {}


def verdict(comparison: Comparison) -> str:
    """Return in one or two sentences how the student compares with the shipped one."""
    if comparison.reason:
        return f"no comparison: {comparison.reason}."
    judged = comparison.judged
    if not judged:
        return (
            f"it cannot be told whether it is better than the shipped {comparison.shipped}: no "
            "labelled windows were kept apart, and the recordings have too few camera images, or "
            f"a teacher that says one class nearly everywhere. {_agreement(comparison)}"
        ).strip()
    measured = "; ".join(
        f"{percent(pair.new)} % against {percent(pair.shipped)} % ({points(pair.difference)} "
        f"points) {where}"
        for where, pair in judged
    )
    over = f"over the {len(comparison.classes)} classes that both know"
    text = f"{_WORDS[comparison.mood]} the shipped {comparison.shipped}: mIoU near events, {over}, "
    return f"{text}{measured}. {_agreement(comparison)}".strip()


def _agreement(comparison: Comparison) -> str:
    if comparison.agreement is None:
        return ""
    return (
        f"On {comparison.windows} windows of your recordings both agree on "
        f"{percent(comparison.agreement)} % of the labelled pixels."
    )


def write_outcome(outcome: Outcome, stopwatch: Stopwatch) -> Path | None:
    """Write the page of ``distill-on``.

    Args:
        outcome: what was made.
        stopwatch: started with this call of the command.

    Returns:
        The page; None where it cannot be written, which is a warning.
    """
    stages = {name: read_sessions(outcome.out / name / SESSIONS) for name in ("teacher", "student")}
    stages = {name: sessions for name, sessions in stages.items() if sessions}
    origin = _origin(stages, stopwatch)
    names = ", ".join(path.name or str(path) for path in outcome.recordings)
    page = ReportPage(
        "Distillation on your camera",
        outcome.student.name,
        f"A student of {len(outcome.classes)} classes, distilled from the unlabelled recordings "
        f"{names} and the labelled images {outcome.images}, begun on {origin.began:%Y-%m-%d}.",
    )
    comparison = outcome.comparison
    text = verdict(comparison)
    page.verdict(
        text[:1].upper() + text[1:],
        _MOODS[comparison.mood],
        head=f"Verdict: beside the shipped {comparison.shipped}",
    )
    for name, value in outcome.scores.items():
        page.score(f"{name}: {outcome.score_name}", f"{percent(value)} %", "windows kept apart")
    for where, pair in comparison.judged:
        page.score("Beside the shipped one", f"{points(pair.difference)} points", f"mIoU, {where}")
    page.score("Time", duration(origin.seconds), "teacher and student")
    for step, command in outcome.next_steps():
        page.next_step(step, command)
    _add_comparison(page, comparison, outcome.classes)
    _add_curves(page, outcome, list(stages))
    page.heading("Stages", "Each has a page of its own with curves and examples.")
    rows: list[list[Cell]] = [
        [name, sessions[-1].last_step, duration(sum(s.seconds for s in sessions)), len(sessions)]
        for name, sessions in stages.items()
    ]
    page.table(["stage", "steps", "time", "sessions"], rows)
    page.links({f"{name}/{PAGE}": f"report of the {name}" for name in stages})
    page.origin(
        origin,
        {
            "Recordings": ", ".join(map(str, outcome.recordings)),
            "Images": str(outcome.images),
            "Folder": str(outcome.out),
        },
    )
    return page.write(outcome.out / PAGE)


def _origin(stages: Mapping[str, list[Session]], stopwatch: Stopwatch) -> Origin:
    """Return the origin of all stages; a stage of an earlier call counts with its time."""
    here = stopwatch.origin()
    if not stages:
        return here
    origins = [origin_of(sessions) for sessions in stages.values()]
    return Origin(
        min(origin.began for origin in origins),
        sum(origin.seconds for origin in origins),
        here.command,
        software(),
        machine(),
    )


def _add_comparison(page: ReportPage, comparison: Comparison, classes: ClassTable) -> None:
    if comparison.reason:
        return
    page.heading(
        "Compared with the shipped student",
        "mIoU near events of both, on the same windows and over the classes that both know.",
    )
    rows: list[list[Cell]] = []
    if comparison.teacher is not None:
        name = "your recordings, against the teacher on their camera images"
        rows.append(_row(name, comparison.teacher))
    for name, pair in (comparison.validation or {}).items():
        rows.append(_row(f"{name}: labelled windows that were kept apart", pair))
    if rows:
        page.table(
            ["windows", "number", "new, %", "shipped, %", "difference, points"],
            rows,
        )
    page.paragraph(f"Classes compared: {', '.join(comparison.classes)}.")
    page.paragraph(_agreement(comparison))
    if comparison.unused:
        page.paragraph(f"The teacher is no reference here: {comparison.unused}.")
    if comparison.teacher is not None:
        page.paragraph(
            "A teacher is no truth. The new student learnt from it and the shipped one did not, so "
            "agreement with it favours the new one. Only labels of your own decide."
        )
    page.subheading("Colours")
    page.legend(classes, LABEL_COLOURS)
    if comparison.examples:
        note = "Black: no label; of the shipped student also classes that the new one lacks."
        page.subheading("Windows of your recordings", note)
        page.panels(EXAMPLE_HEADS, comparison.examples)


def _add_curves(page: ReportPage, outcome: Outcome, stages: Sequence[str]) -> None:
    """Add how the losses fell and the scores rose in each stage."""
    for i, name in enumerate(stages):
        records = list(read_records(outcome.out / name / METRICS))
        groups = curve_groups(records, outcome.score_name)
        if groups:
            add = page.heading if i == 0 else page.subheading
            add(f"Curves of the {name}", groups[0].note)
            page.charts(groups[0].charts)


def _row(name: str, pair: Pair) -> list[Cell]:
    difference = points(pair.difference) if math.isfinite(pair.difference) else "-"
    return [name, pair.windows, percent(pair.new), percent(pair.shipped), difference]
