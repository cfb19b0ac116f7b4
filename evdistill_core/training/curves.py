"""The curves of a run for its report: in groups, each with a sentence of explanation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evdistill_core.losses.segmentation import INSTANCE_LOSSES, LOSSES
from evdistill_core.reports.charts import Chart, Line
from evdistill_core.training.distill_config import (
    PICTURE_TERMS,
    SELF_TERMS,
    TERMS,
    TRANSLATION_TERMS,
)

POINTS = 200
Record = Mapping[str, object]

_SUPERVISED = {
    "cross_entropy": "Minus the log of what the network gives to the true class, nats per pixel.",
    "dice": "1 minus the soft overlap with the labels, mean over the classes of a batch.",
    "lovasz": "A smooth form of 1 minus IoU, mean over the classes of a batch.",
    "boundary": "Cross entropy of the pixels where two classes touch.",
    "centre": "How well the middles of things are marked (instance head).",
    "offset": "How far pixels point beside the middle of their thing, in sizes of the thing.",
    "larger": "How far the student is from the larger one that it imitates, nats, weighted.",
    "larger_instances": "The same for the maps of the instance heads, weighted.",
}
_CRITICS = {
    "critic_image": "How well the critic tells images from reconstructions.",
    "critic_event": "How well the critic tells windows of the camera from generated ones.",
    "critic_output": "How well the critic tells the student's answers from the teacher's.",
    "critic_output_penalty": "How far the slope of that critic is from 1.",
}
_WATCHED = {
    "watch_sure_image": "Largest posterior of the teacher on images, mean, 0..1.",
    "watch_sure_reconstructed": "The same on reconstructions; it falls where T cannot read them.",
    "watch_lit_target": "Share of the sensor with an event, in windows of the camera.",
    "watch_lit_generated": "The same in generated windows; both should be alike.",
    "watch_on_target": "Share of ON among the events of windows of the camera.",
    "watch_on_generated": "The same in generated windows; both should be alike.",
}


@dataclass(frozen=True)
class Group:
    """Curves that belong together.

    Attributes:
        title: of the group.
        note: one sentence.
        charts: at least one.
    """

    title: str
    note: str
    charts: Sequence[Chart]


_FROM_LABELS = ("task_events", "task_generated", "mutual_task")
_KINDS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    (
        "Supervised losses",
        "Learnt from labels, or from a larger student. Lower is better.",
        {
            **_SUPERVISED,
            **{name: TERMS[name] for name in _FROM_LABELS},
        },
    ),
    (
        "Distillation",
        "The student S learns what the teacher T says. x_e: events of the camera, x_i: labelled "
        "images, G_ei and G_ie: the generators from one to the other.",
        {
            name: text
            for name, text in TERMS.items()
            if name not in (*TRANSLATION_TERMS, *SELF_TERMS, *_FROM_LABELS)
            and (name not in PICTURE_TERMS or name.startswith(("kd", "affinity")))
        },
    ),
    (
        "Translation between events and images",
        "Trains the generators, which are thrown away afterwards. Adversarial terms do not fall "
        "steadily: generator and critic learn against each other.",
        {**{name: TERMS[name] for name in TRANSLATION_TERMS}, **_CRITICS},
    ),
    (
        "Learning from its own answers",
        "Where teacher and averaged student agree, their answer serves as a label.",
        {name: TERMS[name] for name in SELF_TERMS},
    ),
    ("Watched, not trained", "Values that warn early when a generator goes wrong.", _WATCHED),
)

KNOWN = frozenset(name for _, _, texts in _KINDS for name in texts)
"""Names of terms that have an explanation."""
assert set(LOSSES) | set(INSTANCE_LOSSES) | set(TERMS) <= KNOWN


def curve_groups(records: Sequence[Record], score_name: str) -> list[Group]:
    """Return the curves of a log.

    Args:
        records: of ``metrics.jsonl``.
        score_name: what validation measures, such as "mIoU near events".
    """
    steps = [r for r in records if r.get("kind") == "step"]
    validations = [r for r in records if r.get("kind") == "validation"]
    first = [
        *_charts(steps, {"loss": "The weighted sum of all losses, which the steps bring down."}),
        *_score_chart(validations, score_name),
    ]
    groups = [Group("Progress", "Losses are means over neighbouring steps.", first)]
    for title, note, texts in _KINDS:
        groups.append(Group(title, note, _charts(steps, texts)))
    others = {name: "A term of a plug-in." for name in _names(steps) if name not in KNOWN}
    others.pop("loss", None)
    groups.append(Group("Other terms", "Logged, and without an explanation here.", _charts(
        steps, others)))  # fmt: skip
    return [group for group in groups if group.charts]


def scores_by_set(record: Record) -> dict[str, float]:
    """Return the score of each set of a validation record, 0..1: mIoU near events, or top-1."""
    found: dict[str, float] = {}
    sets = record.get("sets")
    for name, result in sets.items() if isinstance(sets, Mapping) else ():
        near = result.get("near_events", {})
        value = near.get("miou") if "near_events" in result else result.get("top1")
        found[str(name)] = _number(value)
    return found


def smoothed(
    x: Sequence[float], y: Sequence[float], points: int = POINTS
) -> tuple[list[float], list[float]]:
    """Return means over equal stretches, at most ``points`` of them."""
    size = max(1, -(-len(x) // points))
    starts = range(0, len(x), size)
    return (
        [float(np.mean(x[i : i + size])) for i in starts],
        [float(np.mean(y[i : i + size])) for i in starts],
    )


def _names(steps: Sequence[Record]) -> list[str]:
    """Return the terms of a log; those that are scaled by their weight are the same curve."""
    keys = dict.fromkeys(
        k for r in steps for k in r if k.startswith(("loss", "watch")) and not k.endswith("_scaled")
    )
    return [_plain(key) for key in keys]


def _plain(key: str) -> str:
    return key.removeprefix("loss_")


def _charts(steps: Sequence[Record], texts: Mapping[str, str]) -> list[Chart]:
    charts = []
    for name in _names(steps):
        if name not in texts:
            continue
        key = name if name == "loss" or name.startswith("watch_") else f"loss_{name}"
        # Terms that train translation are missing in the steps between (``adversary.every``).
        known = [r for r in steps if key in r]
        x, y = smoothed([_number(r["step"]) for r in known], [_number(r[key]) for r in known])
        note = texts[name]
        note = note if note.endswith(".") else f"{note[:1].upper()}{note[1:]}."
        title = "total loss" if name == "loss" else name
        charts.append(Chart(title, note, [Line(name, x, y)], "step"))
    return charts


def _score_chart(validations: Sequence[Record], score_name: str) -> list[Chart]:
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for record in validations:
        for name, value in scores_by_set(record).items():
            x, y = lines.setdefault(name, ([], []))
            x.append(_number(record["step"]) + 1)
            y.append(100 * value)
    if not lines:
        return []
    note = "On windows that are not learnt from. Higher is better; the best checkpoint is kept."
    drawn = [Line(name, x, y) for name, (x, y) in lines.items()]
    return [Chart(f"Validation: {score_name}, %", note, drawn, "steps done")]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
