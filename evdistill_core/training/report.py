"""The page of a run: headline, scores, curves, images, sessions, configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from evdistill_core.data.samples import SampleSource
from evdistill_core.evaluation.page import Result, add_headline_score, add_legend, add_result
from evdistill_core.foundation.config import dump_yaml
from evdistill_core.foundation.invocation import command_text, resume_text
from evdistill_core.inference.student import SUFFIX
from evdistill_core.reports.numbers import duration, percent
from evdistill_core.reports.page import PAGE, ReportPage
from evdistill_core.training.curves import Record, curve_groups, scores_by_set
from evdistill_core.training.loop import BEST, LAST, METRICS, Trainer
from evdistill_core.training.run_log import read_records
from evdistill_core.training.sessions import Sessions, origin_of

PANEL_WINDOWS = 6
State = Literal["running", "stopped", "finished"]
_KINDS = {"student": "Training", "teacher": "Training of a teacher", "distill": "Distillation"}


@dataclass(frozen=True)
class NextStep:
    """What to do after a run.

    Attributes:
        text: why.
        command: as one types it.
    """

    text: str
    command: str


def write_training_report(
    trainer: Trainer,
    results: dict[str, Result],
    sessions: Sessions,
    state: State,
    *,
    next_steps: Sequence[NextStep] | None = None,
) -> Path:
    """Write the page of a run into its folder; a resumed run replaces the page of its beginning.

    Args:
        trainer: at any step.
        results: of the last validation, by set; only a finished run shows their tables.
        sessions: who trained and how long.
        state: of the run.
        next_steps: what to do after a finished run; None: what fits the stage.

    Returns:
        The page; where it cannot be written, a warning was logged.
    """
    config, done = trainer.config, trainer.state.step
    records = list(read_records(trainer.out / METRICS))
    all_sessions = sessions.all(done)
    origin = origin_of(all_sessions)
    page = ReportPage(_KINDS[trainer.stage], config.name, _lead(trainer, origin.began))
    _add_state(page, trainer, records, state)
    _add_scores(page, trainer, records, results, state)
    page.score("Steps", f"{done:,} of {config.steps:,}", f"{config.batch_size} a step")
    page.score("Time", duration(origin.seconds), _sessions_text(len(all_sessions)))
    steps = _steps_of(trainer, next_steps) if state == "finished" else _ways_on(trainer)
    for step in steps:
        page.next_step(step.text, step.command)
    if state == "finished":
        _add_pictures(page, trainer, results)
    for group in curve_groups(records, _score_name(trainer)):
        if group.title == "Progress":
            page.heading("Curves", group.note)
        else:
            page.subheading(group.title, group.note)
        page.charts(group.charts)
    if len(all_sessions) > 1:
        page.heading("Sessions", "The run was stopped and resumed; steps are counted on.")
        page.table(
            ["began", "time", "first step", "last step", "software"],
            [
                [f"{datetime.fromisoformat(s.began):%Y-%m-%d %H:%M}", duration(s.seconds),
                 s.first_step, s.last_step, s.software]
                for s in all_sessions
            ],
            text_columns=(4,),
        )  # fmt: skip
    page.heading("Configuration", "Every value, defaults included; config.yaml is the same.")
    page.details("Show the configuration", f"stage: {trainer.stage}\n{dump_yaml(config)}")
    page.origin(origin, {"Folder": str(trainer.out)})
    page.write(trainer.out / PAGE)
    return trainer.out / PAGE


def _lead(trainer: Trainer, began: datetime) -> str:
    config = trainer.config
    parameters = sum(p.numel() for p in trainer.state.network.parameters())
    if trainer.stage == "teacher":
        what = "labelled images"
    elif trainer.stage == "distill":
        what = "unlabelled events, labelled images and a teacher"
    else:
        what = "labelled windows"
    return (
        f"{config.network.name} with {parameters:,} parameters learns {len(trainer.classes)} "
        f"classes from {what}, on {trainer.device.type}, begun on {began:%Y-%m-%d}."
    )


def _add_state(page: ReportPage, trainer: Trainer, records: Sequence[Record], state: State) -> None:
    done, steps = trainer.state.step, trainer.config.steps
    if state == "running":
        page.verdict(
            f"This page is from step {done:,} of {steps:,}. It is written again at each "
            "validation and at the end.",
            head="Running",
        )
        return
    if state == "stopped":
        page.verdict(
            f"Stopped after step {done:,} of {steps:,}. The checkpoint {LAST} holds everything "
            "that is needed to go on.",
            "warn",
            head="Not finished",
        )
        return
    page.verdict(_outcome(trainer, records), "good", head="Finished")


def _outcome(trainer: Trainer, records: Sequence[Record]) -> str:
    """Return in words what a finished run reached, and in which file."""
    validations = [r for r in records if r.get("kind") == "validation"]
    text = f"All {trainer.config.steps:,} steps are done. "
    if not validations:
        return text + f"Nothing was validated; {LAST} holds the weights."
    scores = [_as_float(r.get("score")) for r in validations]
    best = int(np.argmax(scores))
    at = int(_as_float(validations[best].get("step"))) + 1
    name = _score_name(trainer)
    text += f"The best checkpoint, {BEST}, is of step {at:,}: {name} {percent(scores[best])} %"
    if len(scores_by_set(validations[best])) > 1:
        text += ", mean over the sets"
    if scores[-1] < scores[best]:
        text += f"; the last one, {LAST}, has {percent(scores[-1])} %"
    return text + "."


def _add_scores(
    page: ReportPage,
    trainer: Trainer,
    records: Sequence[Record],
    results: dict[str, Result],
    state: State,
) -> None:
    if state == "finished":
        for name, result in results.items():
            add_headline_score(page, name, result, has_events=_has_events(trainer))
        return
    validations = [r for r in records if r.get("kind") == "validation"]
    if not validations:
        return
    at = int(_as_float(validations[-1].get("step"))) + 1
    for name, value in scores_by_set(validations[-1]).items():
        page.score(f"{name}: {_score_name(trainer)}", f"{percent(value)} %", f"at step {at:,}")


def _sessions_text(count: int) -> str:
    return f"in {count} sessions" if count > 1 else "in one session"


def _ways_on(trainer: Trainer) -> list[NextStep]:
    """Return how an unfinished run goes on; a program of the user's own knows how it began."""
    command = resume_text()
    return [NextStep("Go on from the last checkpoint:", command)] if command else []


def _steps_of(trainer: Trainer, given: Sequence[NextStep] | None) -> Sequence[NextStep]:
    if given is not None:
        return given
    best = trainer.out / (BEST if (trainer.out / BEST).exists() else LAST)
    if trainer.stage == "teacher":
        command = command_text("distill-on", "RECORDINGS", "--images", "IMAGES", "--teacher", best)
        return [NextStep("Distil a student for your camera from this teacher:", command)]
    student = trainer.out / f"{trainer.config.name}{SUFFIX}"
    return [
        NextStep(
            "Export it to a student file, which nodes and `run` load:",
            command_text("export", best, student),
        ),
        NextStep(
            "Score it on labelled data:",
            command_text("evaluate", best, "DATASET", "--out", trainer.out / "evaluation"),
        ),
    ]


def _add_pictures(page: ReportPage, trainer: Trainer, results: dict[str, Result]) -> None:
    is_dense, has_events = trainer.task.name == "segmentation", _has_events(trainer)
    add_legend(page, trainer.classes, is_dense=is_dense, has_events=has_events)
    for name, result in results.items():
        with trainer.evaluation_weights():
            panels = _panels(trainer, trainer.validation[name])
        add_result(page, name, result, panels, classes=trainer.classes, has_events=has_events)
    for shown in trainer.panels():
        page.heading(shown.title, "The weights are those of the end of the run.")
        page.panels(shown.heads, shown.rows)


def _panels(trainer: Trainer, source: SampleSource) -> list[list[npt.NDArray[np.uint8]]]:
    windows = [source.sample(i) for i in range(min(PANEL_WINDOWS, len(source)))]
    return trainer.task.panels(
        trainer.predict,
        windows,
        trainer.classes,
        kind=trainer.picture_kind,
        activity_radius_px=trainer.config.loss.activity_radius_px,
    )


def _has_events(trainer: Trainer) -> bool:
    """Tell whether validation windows are events; those of a teacher are images."""
    return trainer.stage != "teacher"


def _score_name(trainer: Trainer) -> str:
    # A teacher sees the whole image, so that nothing of it is far from an event.
    name: str = trainer.task.score_name
    return name if _has_events(trainer) else name.removesuffix(" near events")


def _as_float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
