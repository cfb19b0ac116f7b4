"""The rows of the table: every method as plain data, all with the same student and steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from evdistill_core.training.distill_config import LABELLED_TERMS, TERMS

Kind = Literal["prior", "pictures", "supervised", "adabn", "pseudo", "reconstruct", "distill"]

# Weights of config/train/evdistill-2021.yaml.
EVDISTILL_2021 = {
    "task_generated": 10.0,
    "gan_image": 10.0,
    "gan_event": 10.0,
    "cycle_image": 10.0,
    "cycle_event": 10.0,
    "consistency_image": 1.0,
    "consistency_event": 1.0,
    "kd_generated": 640.0,
    "kd_event": 640.0,
    "matching_generated": 1.0,
    "matching_event": 1.0,
    "affinity_generated": 0.1,
    "affinity_event": 0.1,
}
# Weights of config/train/onboard.yaml, whose terms need generators.
TRANSLATION = {
    "task_generated": 0.25,
    "task_events": 1.0,
    "gan_image": 1.0,
    "gan_event": 1.0,
    "cycle_image": 10.0,
    "cycle_event": 10.0,
    "paired_simulated": 10.0,
    "consistency_image": 1.0,
    "consistency_event": 1.0,
    "kd_generated": 0.25,
    "kd_event": 0.5,
    "matching_generated": 0.05,
    "matching_event": 0.05,
    "affinity_generated": 0.5,
    "affinity_event": 0.5,
    "pseudo_label": 1.0,
    "class_mix": 0.5,
}
# The profile without generators, and with frames; not run yet, so its weights are round numbers.
ONBOARD = {
    "task_events": 1.0,
    "kd_simulated": 1.0,
    "affinity_simulated": 2.0,
    "pseudo_label": 0.5,
    "density_mix": 0.5,
}
# Goes on from the row ``wide``; the labels of simulated windows stay beside what T says of frames.
ONBOARD_FRAMES = {
    "task_events": 1.0,
    "kd_paired": 1.0,
}
# The same, but what T takes a frame for is learnt as labels are.
ONBOARD_LABELS = {
    "task_events": 1.0,
    "task_paired": 1.0,
}
# The first with the mean of T on frames and of that student on events.
TWO_JUDGES = {
    "task_events": 1.0,
    "kd_ensemble": 1.0,
}
# Generators that learn beside a simulator before a student learns from them.
GENERATORS = {
    "gan_image": 1.0,
    "gan_event": 1.0,
    "cycle_image": 10.0,
    "cycle_event": 10.0,
    "paired_simulated": 10.0,
}
PAPER_TRANSFER: dict[str, object] = {"affinity_graph": "scaled", "affinity_norm": "l2"}
# The gradient into G_ie by the release's weights as they stand: 20 for KD where S has 20 x 32.
SCALED: dict[str, object] = {"generator_gradient": 1 / 32}
# Statistics of the target (AdaBN at every step), and labels that the averaged student is sure of.
SELF_TRANSFER: dict[str, object] = {
    "target_statistics": True,
    "pseudo_judges": "averaged",
    "pseudo_threshold": 0.9,
    "pseudo_mean": "all",
    "pseudo_ramp": 0.5,
    "view": {"dropout": 0.2, "strength": [0.7, 1.3]},
}
STEADY_TRANSFER: dict[str, object] = {
    **SELF_TRANSFER,
    "confidence": "max",
    "confidence_floor": 0.7,
    "matching_cells": 2,
    "affinity_graph": "grid",
    "affinity_nodes": 8,
    "affinity_norm": "l1",
}
TRANSLATION_TRANSFER: dict[str, object] = STEADY_TRANSFER | {"teacher_fade": 0.5}
# What a camera that also gives frames adds: T sees them, and G_ei is told what they show.
FRAMES = {"kd_paired": 1.0, "paired": 10.0}
# Terms that are judged one by one beside the supervised loss on wide windows, and how T's features
# are compared: cells of the student's map (12 x 16 at 192x256), where events are.
SINGLE: dict[str, object] = {"affinity_graph": "events", "affinity_norm": "l1"}
# Beside frames, both kinds of windows share one batch, as in docs/explanation/results.md.
JOINT: dict[str, object] = SINGLE | {"joint_batch": True}
AFFINITY = 2.0
# The averaged student as judge, normalised as it will be in use. Its batch norms need some hundred
# steps to leave the statistics of ImageNet's images; before that it knows nothing.
JUDGED: dict[str, object] = {
    **SINGLE,
    "labelled_statistics": True,
    "pseudo_judges": "averaged",
    "pseudo_threshold": 0.9,
    "pseudo_mean": "all",
    "pseudo_from": 0.4,
    "pseudo_ramp": 0.3,
    "view": {"dropout": 0.2, "strength": [0.7, 1.3]},
}
# Of a student that knows simulated windows already: the judge is good from the first step.
ADAPTED: dict[str, object] = JUDGED | {"pseudo_from": 0.0, "pseudo_ramp": 0.2}
# The smallest student; it has no ImageNet weights. As plain data, so that keys of rows hold it.
SMALL: dict[str, object] = {"name": "onboard-seg", "options": {"width": 1.0}}
# G_ei comes from the row `reconstruct` and is not trained further.
RECONSTRUCTED: dict[str, object] = {"confidence": "max", "confidence_floor": 0.7}
# What is removed together: both directions of one idea.
GROUPS = {
    "task": ("task_generated",),
    "simulated": ("task_events",),
    "gan": ("gan_image", "gan_event"),
    "cycle": ("cycle_image", "cycle_event"),
    "paired-simulated": ("paired_simulated",),
    "consistency": ("consistency_image", "consistency_event"),
    "kd-generated": ("kd_generated",),
    "kd-event": ("kd_event",),
    "matching": ("matching_generated", "matching_event"),
    "affinity": ("affinity_generated", "affinity_event"),
    "kd-simulated": ("kd_simulated",),
    "affinity-simulated": ("affinity_simulated",),
    "labels-frames": ("task_paired",),
    "kd-frames": ("kd_paired",),
    "affinity-frames": ("affinity_paired",),
    "density-mix": ("density_mix",),
    "pseudo-labels": ("pseudo_label",),
    "class-mix": ("class_mix",),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method.

    Attributes:
        name: in results and on the command line.
        title: in the table.
        kind: which code makes it.
        labelled: sets of labelled windows that it learns from.
        base: row whose student it starts from; of a distillation, whose generators.
        start: what the student starts from. Empty: as the settings say. ``teacher``: its encoder
            is that of T. ``base``: all of it is the student of ``base``.
        larger: row whose student is the trained one of ``kd_ensemble``; empty: ``base``.
        network: ``name`` and ``options`` of the student; empty: as the settings say.
        steps_share: steps, as a share of those of the settings.
        terms: of a distillation, by weight.
        transfer: of a distillation.
        frames: whether it sees the target camera's frames.
        reads_target_labels: the upper bound alone.
    """

    name: str
    title: str
    kind: Kind
    labelled: tuple[str, ...] = ()
    base: str = ""
    terms: dict[str, float] = field(default_factory=dict)
    transfer: dict[str, object] = field(default_factory=dict)
    frames: bool = False
    reads_target_labels: bool = False
    start: Literal["", "teacher", "base"] = ""
    steps_share: float = 1.0
    larger: str = ""
    network: dict[str, object] = field(default_factory=dict)

    def facts(self) -> dict[str, object]:
        """Return what decides the result; later fields only where used, so that keys stay."""
        facts = {k: v for k, v in asdict(self).items() if k != "title"}
        unused = {"start": "", "steps_share": 1.0, "larger": "", "network": {}}
        return {k: v for k, v in facts.items() if k not in unused or v != unused[k]}

    def all_terms(self) -> dict[str, float]:
        """Return a weight for every term."""
        return {name: 0.0 for name in TERMS} | self.terms


def without(terms: dict[str, float], group: str) -> dict[str, float]:
    """Return the terms but those of a group."""
    return {name: weight for name, weight in terms.items() if name not in GROUPS[group]}


def _without(row: Row, group: str) -> Row:
    kept = without(row.terms, group)
    return replace(
        row,
        name=f"{row.name}-without-{group}",
        title=f"{row.title}, without {group}",
        labelled=row.labelled if set(LABELLED_TERMS) & set(kept) else (),
        terms=kept,
    )


def _beside_wide(
    name: str, title: str, terms: dict[str, float], transfer: dict[str, object], **more: object
) -> Row:
    """Return a row with terms beside the supervised loss on wide windows."""
    row = Row(
        name=name,
        title=f"wide + {title}",
        kind="distill",
        labelled=("wide",),
        terms={"task_events": 1.0, **terms},
        transfer=transfer,
    )
    return replace(row, **more)  # type: ignore[arg-type]


def _single_terms() -> list[Row]:
    frames = {"frames": True}
    return [
        _beside_wide("wide-kd", "KD on simulated pictures", {"kd_simulated": 1.0}, SINGLE),
        _beside_wide(
            "wide-affinity",
            "affinity on simulated pictures",
            {"affinity_simulated": AFFINITY},
            SINGLE,
        ),
        Row(
            name="wide-teacher-encoder",
            title="wide, encoder of the teacher",
            kind="supervised",
            labelled=("wide",),
            start="teacher",
        ),
        _beside_wide("wide-self", "self-training", {"pseudo_label": 1.0}, JUDGED),
        _beside_wide("wide-entropy", "entropy where active", {"entropy": 0.1}, JUDGED),
        _beside_wide("wide-class-mix", "class mix", {"class_mix": 0.5}, JUDGED),
        _beside_wide("wide-density-mix", "mix by density", {"density_mix": 0.5}, JUDGED),
        _beside_wide(
            "wide-reconstructions",
            "KD on reconstructions",
            {"kd_event": 1.0},
            RECONSTRUCTED,
            base="reconstruct",
        ),
        _beside_wide(
            "wide-few-reconstructions",
            "KD on 5 % of the reconstructions",
            {"kd_event": 1.0},
            RECONSTRUCTED | {"translated_share": 0.05},
            base="reconstruct",
        ),
        _beside_wide("wide-kd-frames", "KD with frames", {"kd_paired": 1.0}, JOINT, **frames),
        _beside_wide(
            "wide-affinity-frames",
            "affinity with frames",
            {"affinity_paired": AFFINITY},
            JOINT,
            **frames,
        ),
    ]


def _table() -> dict[str, Row]:
    paper = Row(
        name="evdistill-2021",
        title="EvDistill 2021 terms",
        kind="distill",
        terms=EVDISTILL_2021,
        transfer=PAPER_TRANSFER,
    )
    scaled = replace(
        paper,
        name="evdistill-2021-scaled",
        title="EvDistill 2021 profile (gradient into G_ie scaled)",
        transfer=PAPER_TRANSFER | SCALED,
    )
    started = replace(
        scaled,
        name="evdistill-2021-started",
        title="EvDistill 2021 terms, G_ei from simulated pairs, encoder of the teacher",
        base="reconstruct-task",
        steps_share=0.5,
        start="teacher",
    )
    longer = replace(
        started,
        name="evdistill-2021-longer",
        title="the same, all steps",
        steps_share=1.0,
    )
    onboard = Row(
        name="onboard",
        title="onboard profile",
        kind="distill",
        labelled=("wide",),
        terms=ONBOARD,
        transfer=JUDGED,
    )
    onboard_frames = Row(
        name="onboard-frames",
        title="onboard profile, with frames",
        kind="distill",
        labelled=("wide",),
        base="wide",
        start="base",
        steps_share=0.5,
        terms=ONBOARD_FRAMES,
        transfer=JOINT,
        frames=True,
    )
    wide_longer = Row(
        name="wide-longer",
        title="wide, twice the steps",
        kind="supervised",
        labelled=("wide",),
        base="wide",
        start="base",
    )
    two_judges = replace(
        onboard_frames,
        name="two-judges",
        title="onboard profile, with frames, two judges",
        terms=TWO_JUDGES,
    )
    self_training = Row(
        name="self-training",
        title="wide + EMA self-training",
        kind="distill",
        labelled=("wide",),
        base="wide",
        start="base",
        steps_share=0.5,
        terms={"task_events": 1.0, "pseudo_label": 1.0},
        transfer=ADAPTED,
    )
    onboard_labels = replace(
        onboard_frames,
        name="onboard-labels",
        title="onboard profile, with frames, T's classes as labels",
        terms=ONBOARD_LABELS,
    )
    # What T says of the camera's images as labels of the same moments, beside simulated windows.
    source_pseudo = Row(
        name="source-pseudo",
        title="clean simulator + pseudo-labels from frames (Ev-SegNet)",
        kind="pseudo",
        labelled=("source",),
        frames=True,
    )
    small_wide = Row(
        name="small-wide",
        title="onboard-seg: wide",
        kind="supervised",
        labelled=("wide",),
        network=SMALL,
    )
    small_frames = replace(
        two_judges,
        name="small-onboard-frames",
        title="onboard-seg: distilled from onboard-frames, with frames",
        base="small-wide",
        larger="onboard-frames",
        network=SMALL,
    )
    rows = [
        Row(name="prior", title="positional prior (no events)", kind="prior", labelled=("source",)),
        Row(name="pictures", title="teacher on event pictures", kind="pictures"),
        Row(
            name="source",
            title="supervised on the clean simulator",
            kind="supervised",
            labelled=("source",),
        ),
        Row(
            name="wide",
            title="supervised, wide randomisation",
            kind="supervised",
            labelled=("wide",),
        ),
        Row(name="source-adabn", title="clean + AdaBN", kind="adabn", base="source"),
        Row(name="wide-adabn", title="wide + AdaBN", kind="adabn", base="wide"),
        Row(
            name="pseudo-labels",
            title="pseudo-labels from frames (Ev-SegNet)",
            kind="pseudo",
            frames=True,
        ),
        Row(
            name="kd-frames",
            title="KD with events and frames",
            kind="distill",
            terms={"kd_paired": 1.0},
            transfer=PAPER_TRANSFER,
            frames=True,
        ),
        Row(
            name="reconstruct",
            title="reconstruction, then teacher",
            kind="reconstruct",
            labelled=("wide",),
            terms={"paired_simulated": 1.0},
        ),
        Row(
            name="reconstruct-task",
            title="reconstruction that the teacher learns to read, then teacher",
            kind="reconstruct",
            labelled=("wide",),
            terms={"paired_simulated": 1.0, "task_reconstructed": 0.1},
        ),
        self_training,
        replace(
            self_training,
            name="self-training-frames",
            title="wide + EMA self-training, with frames",
            terms=self_training.terms | {"kd_paired": 1.0},
            frames=True,
        ),
        *_single_terms(),
        Row(
            name="generators",
            title="reconstruction and generators, then teacher",
            kind="reconstruct",
            labelled=("wide",),
            terms=GENERATORS,
        ),
        paper,
        scaled,
        started,
        longer,
        _beside_wide(
            "wide-translation",
            "all terms on translations (config/train/onboard.yaml)",
            TRANSLATION,
            TRANSLATION_TRANSFER,
        ),
        _beside_wide(
            "wide-translation-frames",
            "all terms on translations, with frames",
            TRANSLATION | FRAMES,
            TRANSLATION_TRANSFER,
            frames=True,
        ),
        onboard,
        wide_longer,
        onboard_frames,
        two_judges,
        onboard_labels,
        source_pseudo,
        small_wide,
        small_frames,
        Row(
            name="upper",
            title="clean simulator + target labels (upper bound)",
            kind="supervised",
            labelled=("source", "target"),
            reads_target_labels=True,
        ),
        Row(
            name="upper-adabn",
            title="clean simulator + target labels + AdaBN (upper bound)",
            kind="adabn",
            base="upper",
            reads_target_labels=True,
        ),
    ]
    for whole in (paper, onboard, onboard_frames, onboard_labels):
        rows += [_without(whole, g) for g, names in GROUPS.items() if set(names) & set(whole.terms)]
    return {row.name: row for row in rows}


ROWS = _table()
