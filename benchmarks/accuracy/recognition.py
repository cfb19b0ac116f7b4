"""Recognition rows: labelled MNIST images to unlabelled, unpaired real N-MNIST events.

A row that adapts is trained twice: with all recordings, and is then scored on them transductively;
and with the first ``seen`` recordings, and is then scored on the others. No label of a recording is
read but to score, nothing is selected: the averaged weights of the last step count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from methods import PICTURE_GAIN, Predict, adapt_batch_norm, budget_of, on_torch, train_once
from rows import EVDISTILL_2021, GROUPS, SCALED, without
from settings import FREE, Budget
from windows import digest

from evdistill_core.data.build import DataConfig, SourceConfig
from evdistill_core.data.labelled_images import ImagesConfig
from evdistill_core.data.stills import StillsConfig
from evdistill_core.data.unlabelled import RecordingsConfig
from evdistill_core.data.unpaired import DistillDataConfig, TeacherDataConfig
from evdistill_core.data.whole_recordings import RecognitionSet, RecognitionSetConfig, read_whole
from evdistill_core.foundation.class_maps import named_classes
from evdistill_core.foundation.config import from_mapping, to_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.models.checkpoint import load_checkpoint
from evdistill_core.models.discriminators import DiscriminatorOptions
from evdistill_core.models.generators import GeneratorOptions
from evdistill_core.representations import InputSpec, represent
from evdistill_core.training.config import TrainConfig
from evdistill_core.training.distill_config import (
    TERMS,
    AdversaryConfig,
    DistillConfig,
    TeacherConfig,
    TransferConfig,
)
from evdistill_core.training.distillation import DistillTrainer
from evdistill_core.training.loop import Trainer
from evdistill_core.training.processes import pick_device
from evdistill_core.training.teacher import TeacherTrainer, load_teacher

Entry = dict[str, Any]
ALL, UNSEEN = "all", "unseen"
DRAWS = 2000
# Every term that recognition knows; weights of its own, not those of config/train/onboard.yaml.
ONBOARD = {
    "task_generated": 0.5,
    "task_events": 1.0,
    "gan_image": 1.0,
    "gan_event": 1.0,
    "cycle_image": 10.0,
    "cycle_event": 10.0,
    "consistency_image": 1.0,
    "consistency_event": 1.0,
    "kd_generated": 0.5,
    "kd_event": 1.0,
    "matching_generated": 0.1,
    "matching_event": 0.1,
    "affinity_generated": 1.0,
    "affinity_event": 1.0,
    "pseudo_label": 1.0,
}
SELF_TRAINING: dict[str, object] = {
    "pseudo_judges": "averaged",
    "pseudo_threshold": 0.9,
    "pseudo_mean": "all",
    "pseudo_ramp": 0.5,
    "view": {"dropout": 0.2, "strength": [0.7, 1.3], "shift_px": 2},
    "joint_batch": True,
}
# Self-training without labelled windows of any simulator: generated ones, which are unlike the
# camera's, are normalised apart.
ALONE: dict[str, object] = SELF_TRAINING | {
    "joint_batch": False,
    "target_statistics": True,
    "teacher_fade": 0.8,
}
PAPER: dict[str, object] = {"affinity_graph": "batch", "affinity_norm": "l2"}
OURS: dict[str, object] = {
    "affinity_graph": "batch",
    "affinity_norm": "l1",
    "confidence": "max",
    "confidence_floor": 0.4,
}


@dataclass(frozen=True, kw_only=True)
class RecognitionSettings:
    """One budget of the recognition rows.

    Attributes:
        name: stands in every result.
        nmnist: ``events/<n>.bs2`` and ``labels.txt``.
        seen: recordings that adaptation sees where the rest is scored.
        work: folder of simulated windows and runs; made again when lost.
        input: of every student.
        images: labelled.
        held_out: images that score the teacher.
        simulators: labelled windows, by name.
        teacher: how T is trained, once.
        student: how every student is trained.
        generator: of the rows that translate.
        discriminator: of the rows that translate.
        seeds: of the rows; teacher and simulated windows are the same for all.
        device: as in training.
        threads: CPU threads.
        workers: processes that make samples.
    """

    name: str
    nmnist: Path
    seen: int = 500
    work: Path = Path("cache/accuracy")
    input: InputSpec
    images: ImagesConfig
    held_out: ImagesConfig
    simulators: dict[str, SourceConfig]
    teacher: Budget
    student: Budget
    generator: GeneratorOptions = field(default_factory=GeneratorOptions)
    discriminator: DiscriminatorOptions = field(default_factory=DiscriminatorOptions)
    seeds: tuple[int, ...] = (1, 2, 3)
    device: str = "cpu"
    threads: int = 1
    workers: int = 0

    def __post_init__(self) -> None:
        """Refuse simulators that are none."""
        if any(s.moving_stills is None for s in self.simulators.values()):
            raise ConfigError("simulators of recognition are moving_stills")


@dataclass(frozen=True, kw_only=True)
class RecognitionRow:
    """One method.

    Attributes:
        name: in results and on the command line.
        title: in the table.
        kind: which code makes it.
        simulator: whose labelled windows it learns from; empty: none.
        base: row whose student it starts from.
        terms: of a distillation, by weight.
        transfer: of a distillation.
    """

    name: str
    title: str
    kind: Literal["pictures", "supervised", "adabn", "distill"]
    simulator: str = ""
    base: str = ""
    terms: dict[str, float] = field(default_factory=dict)
    transfer: dict[str, object] = field(default_factory=dict)

    @property
    def adapts(self) -> bool:
        """Whether it sees unlabelled recordings."""
        return self.kind in {"adabn", "distill"}

    def facts(self) -> dict[str, object]:
        """Return what decides the result."""
        return {k: v for k, v in asdict(self).items() if k != "title"}


def _rows() -> dict[str, RecognitionRow]:
    paper = RecognitionRow(
        name="evdistill-2021",
        title="EvDistill 2021 terms",
        kind="distill",
        terms=EVDISTILL_2021,
        transfer=PAPER,
    )
    scaled = replace(
        paper,
        name="evdistill-2021-scaled",
        title="EvDistill 2021 profile (gradient into G_ie scaled)",
        transfer=PAPER | SCALED,
    )
    alone = replace(
        scaled,
        name="evdistill-self",
        title="EvDistill 2021 profile that fades into EMA self-training",
        terms=EVDISTILL_2021 | {"pseudo_label": EVDISTILL_2021["kd_event"]},
        transfer=scaled.transfer | ALONE,
    )
    rows = [
        RecognitionRow(name="pictures", title="teacher on event pictures", kind="pictures"),
        # Dense predictions, which class_mix pastes, do not exist here.
        paper,
        scaled,
        alone,
    ]
    for name in ("calibrated", "mismatched"):
        rows += [
            RecognitionRow(
                name=f"source-{name}",
                title=f"supervised, {name} simulator",
                kind="supervised",
                simulator=name,
            ),
            RecognitionRow(
                name=f"adabn-{name}",
                title=f"{name} + AdaBN",
                kind="adabn",
                simulator=name,
                base=f"source-{name}",
            ),
            RecognitionRow(
                name=f"self-{name}",
                title=f"{name} + EMA self-training",
                kind="distill",
                simulator=name,
                terms={"task_events": 1.0, "pseudo_label": 1.0},
                transfer=SELF_TRAINING,
            ),
            RecognitionRow(
                name=f"self-apart-{name}",
                title=f"{name} + EMA self-training, passes apart",
                kind="distill",
                simulator=name,
                terms={"task_events": 1.0, "pseudo_label": 1.0},
                transfer=SELF_TRAINING | {"joint_batch": False},
            ),
            RecognitionRow(
                name=f"onboard-{name}",
                title=f"onboard terms, {name} simulator",
                kind="distill",
                simulator=name,
                terms=ONBOARD,
                transfer=OURS | SELF_TRAINING,
            ),
            RecognitionRow(
                name=f"onboard-read-{name}",
                title=f"onboard terms, {name} simulator, reconstructions that the teacher can read",
                kind="distill",
                simulator=name,
                terms=ONBOARD | {"task_reconstructed": 1.0},
                transfer=OURS | SELF_TRAINING,
            ),
            # A simulator's windows count as much as pseudo-labels do, and teach G_ei what T can
            # read as much as generated ones teach S.
            replace(
                alone,
                name=f"evdistill-self-{name}",
                title=f"{alone.title}, {name} simulator",
                simulator=name,
                terms=alone.terms
                | {
                    "task_events": alone.terms["pseudo_label"],
                    "task_reconstructed": alone.terms["task_generated"],
                },
                transfer=alone.transfer | {"joint_batch": True, "target_statistics": False},
            ),
        ]
    for whole in (paper, scaled):
        rows += [
            replace(
                whole,
                name=f"{whole.name}-without-{group}",
                title=f"{whole.title}, without {group}",
                terms=without(whole.terms, group),
            )
            for group, names in GROUPS.items()
            if set(names) & set(whole.terms)
        ]
    return {row.name: row for row in rows}


ROWS = _rows()
# Forms of the method that are compared with every other row.
COMPARED = (
    "evdistill-2021-scaled",
    "evdistill-self",
    "evdistill-self-calibrated",
    "evdistill-self-mismatched",
)


class RecognitionMethods:
    """Trains what a row needs, once, and scores it.

    Args:
        settings: of the benchmark.
    """

    task = "recognition"
    rows = ROWS

    def __init__(self, settings: RecognitionSettings) -> None:
        self.settings = settings
        self.device = pick_device(settings.device)
        self.classes = named_classes(tuple("0123456789"))
        self.windows = RecognitionSet(
            RecognitionSetConfig(layout="list", root=settings.nmnist), settings.input, self.classes
        )

    def key(self, row: RecognitionRow) -> str:
        """Return the name of everything that decides a row's result, whatever the commit."""
        base = self.key(ROWS[row.base]) if row.base else ""
        return digest([self._facts(), row.facts(), base])

    def budget(self, row: RecognitionRow) -> dict[str, object]:
        """Return what stands in a result about steps and student, the same for every row."""
        del row
        return budget_of(self.settings.name, self.settings.student)

    def is_label_free(self, row: RecognitionRow) -> bool:
        """Return True: no row reads a label of a recording."""
        del row
        return True

    def scores(self, row: RecognitionRow, seed: int) -> dict[str, object]:
        """Train what is missing; return the scores on all recordings and on the unseen ones."""
        if row.kind == "pictures":
            see = on_torch(self._teacher_network(), self.device)
            predict = dict.fromkeys((ALL, UNSEEN), lambda x: see(_picture(x)))
        elif not row.adapts:
            predict = dict.fromkeys((ALL, UNSEEN), self._network(self._supervised(row, seed)))
        else:
            make = self._adabn if row.kind == "adabn" else self._distilled
            predict = {
                ALL: make(row, seed, 0),
                UNSEEN: make(row, seed, self.settings.seen),
            }
        inputs, labels = self._recordings()
        numbers = range(len(labels))
        return {
            ALL: _score(predict[ALL], inputs, labels, numbers),
            UNSEEN: _score(predict[UNSEEN], inputs, labels, numbers[self.settings.seen :]),
        }

    def headline(self, sets: dict[str, Any]) -> str:
        """Return one line about a result."""
        return f"top-1 {sets[ALL]['top1']} of all, {sets[UNSEEN]['top1']} of the unseen"

    def teacher(self) -> Path:
        """Return the teacher's checkpoint."""
        settings = self.settings
        stills = self._stills()
        config = TeacherConfig(
            **self._common("teacher", settings.teacher, 0),
            data=TeacherDataConfig(
                stills=replace(stills, scale=(0.8, 1.2), jitter=0.3, noise=10.0, blur=0.5),
                validation_stills={"held-out": replace(stills, images=settings.held_out)},
            ),
        )
        facts = self._facts()
        name = digest([facts["teacher"], facts["images"], facts["input"]])
        return self._train(TeacherTrainer, config, f"recognition-teacher-{name}")

    @cache  # noqa: B019 - one object, which lives as long as the run
    def _recordings(self) -> tuple[npt.NDArray[np.float32], list[int]]:
        """Return inputs and labels; the order of ``WholeFiles``, so that the fold is the same."""
        spec = self.settings.input
        labels = dict(self.windows.files)
        inputs = []
        for path in sorted(labels, key=lambda path: int(path.stem)):
            events, t_start_us = read_whole(path, spec.window_us)
            inputs.append(represent(events, spec, t_start_us, t_start_us + spec.window_us))
        return np.stack(inputs), [labels[p] for p in sorted(labels, key=lambda p: int(p.stem))]

    def _supervised(self, row: RecognitionRow, seed: int) -> Path:
        config = TrainConfig(
            **self._common(row.name, self.settings.student, seed),
            input=self.settings.input,
            data=DataConfig(train=self._simulated(row)),
        )
        return self._train(Trainer, config, f"{row.name}-{self.key(row)}-s{seed}")

    def _distilled(self, row: RecognitionRow, seed: int, seen: int) -> Predict:
        settings = self.settings
        config = DistillConfig(
            **self._common(row.name, settings.student, seed),
            input=settings.input,
            data=DistillDataConfig(
                stills=replace(self._stills(), scale=(0.8, 1.1)),
                train=self._simulated(row),
                recordings=RecordingsConfig(
                    paths=(settings.nmnist / "events",), whole=True, limit=seen, flip=0.0
                ),
            ),
            teacher=self.teacher(),
            terms={name: 0.0 for name in TERMS} | row.terms,
            transfer=from_mapping(TransferConfig, row.transfer),
            adversary=AdversaryConfig(
                generator=settings.generator, discriminator=settings.discriminator
            ),
        )
        name = f"{row.name}-{self.key(row)}-{seen or 'all'}-s{seed}"
        return self._network(self._train(DistillTrainer, config, name))

    def _adabn(self, row: RecognitionRow, seed: int, seen: int) -> Predict:
        path = self._supervised(ROWS[row.base], seed)
        network = load_checkpoint(path).build().to(self.device)
        inputs, _ = self._recordings()
        adapt_batch_norm(network, inputs[: seen or None], self.device)
        return on_torch(network, self.device)

    def _simulated(self, row: RecognitionRow) -> tuple[SourceConfig, ...]:
        if not row.simulator:
            return ()
        source = self.settings.simulators[row.simulator]
        assert source.moving_stills is not None  # the settings refuse others
        moving = replace(source.moving_stills, cache=self.settings.work / "moving-stills")
        return (replace(source, moving_stills=moving),)

    def _stills(self) -> StillsConfig:
        height, width = self.windows.sample(0).active.shape
        return StillsConfig(images=self.settings.images, crop=(height, width), border="edge")

    def _teacher_network(self) -> torch.nn.Module:
        return load_teacher(self.teacher(), self.classes, self.device).network

    def _network(self, path: Path) -> Predict:
        return on_torch(load_checkpoint(path).build().to(self.device).eval(), self.device)

    def _train(self, kind: type[Trainer], config: TrainConfig, name: str) -> Path:
        return train_once(kind, config, self.settings.work / "runs" / name, self.classes)

    def _common(self, name: str, budget: Budget, seed: int) -> dict[str, Any]:
        settings = self.settings
        return {
            "name": name,
            "seed": seed,
            "steps": budget.steps,
            "batch_size": budget.batch_size,
            "classes": "digits",
            "network": budget.network,
            "optimiser": budget.optimiser,
            "device": settings.device,
            "threads": settings.threads,
            "workers": settings.workers,
            "validate_every": 0,
        }

    def _facts(self) -> dict[str, Any]:
        facts = to_mapping(self.settings)
        facts["recordings"] = len(self.windows)
        return {k: v for k, v in facts.items() if k not in (*FREE, "nmnist")}


def summarise(entry: Entry) -> Entry:
    """Return top-1 by seed, and the interval of their mean over recordings."""
    runs = entry["runs"]
    return {
        "seeds": [run["seed"] for run in runs],
        "scores": {n: [run["sets"][n]["top1"] for run in runs] for n in (ALL, UNSEEN)},
        "interval_95": {n: _interval(_draws(runs, n)) for n in (ALL, UNSEEN)},
    }


def print_tables(entries: list[Entry]) -> None:
    """Print the rows, what they are worth beside the supervised, and what their terms are worth."""
    entries = [e for e in entries if e["runs"]]
    by_name = {e["name"]: e for e in entries}
    print("\n| row | seeds | top-1 of all, seen | of seeds | top-1 of the unseen fold |", end="")
    print(" minus supervised, unseen |\n|---|---|---|---|---|---|")
    for e in entries:
        if "-without-" in e["name"]:
            continue
        seeds = ", ".join(f"{s:.1f}" for s in e["scores"][ALL])
        base = by_name.get(f"source-{e['name'].rpartition('-')[2]}")
        print(
            f"| {e['title']} | {len(e['runs'])} | {_cell(e, ALL)} | {seeds} | {_cell(e, UNSEEN)} | "
            f"{_difference(e, base)} |"
        )
    for name in COMPARED:
        if name in by_name:
            _print_profile(by_name[name], entries)
    for name in dict.fromkeys(e["name"].split("-without-")[0] for e in entries):
        removed = [e for e in entries if e["name"].startswith(f"{name}-without-")]
        if removed and name in by_name:
            _print_removals(by_name[name], removed)


def _print_profile(profile: Entry, entries: list[Entry]) -> None:
    """Print by how much a form of the method is above every other row, on both scores."""
    print(f"\n| {profile['title']} minus | all, seen | the unseen fold |\n|---|---|---|")
    for e in entries:
        if "-without-" not in e["name"] and e is not profile:
            cells = [_difference(profile, e, name) for name in (ALL, UNSEEN)]
            print(f"| {e['title']} | {' | '.join(cells)} |")


def _print_removals(whole: Entry, removed: list[Entry]) -> None:
    """Print what each term of a row is worth: the whole minus the row without it."""
    print(
        f"\n| {whole['title']} without | top-1 of all, seen | what it is worth | by seed | "
        "top-1 of the unseen fold | what it is worth |\n|---|---|---|---|---|---|"
    )
    of_whole = dict(zip(whole["seeds"], whole["scores"][ALL], strict=True))
    for e in removed:
        of_seed = dict(zip(e["seeds"], e["scores"][ALL], strict=True))
        single = [of_whole[s] - of_seed[s] for s in e["seeds"] if s in of_whole]
        print(
            f"| {e['name'].split('-without-')[1]} | {_cell(e, ALL)} | "
            f"{_difference(whole, e, ALL)} | {', '.join(f'{d:+.1f}' for d in single)} | "
            f"{_cell(e, UNSEEN)} | {_difference(whole, e)} |"
        )


def _cell(entry: Entry, name: str) -> str:
    low, high = entry["interval_95"][name]
    return f"{np.mean(entry['scores'][name]):.1f} [{low:.1f}, {high:.1f}]"


def _difference(entry: Entry, base: Entry | None, name: str = UNSEEN) -> str:
    if base is None or base is entry:
        return "-"
    common = set(entry["seeds"]) & set(base["seeds"])
    if not common:
        return "-"
    sides = [[r for r in e["runs"] if r["seed"] in common] for e in (entry, base)]
    draws = _draws(sides[0], name) - _draws(sides[1], name)
    tops = [np.mean([r["sets"][name]["top1"] for r in side]) for side in sides]
    low, high = _interval(draws)
    return f"{tops[0] - tops[1]:+.1f} [{low:+.1f}, {high:+.1f}]"


def _draws(runs: list[Entry], name: str) -> npt.NDArray[np.float64]:
    """Return the mean top-1 over seeds for every resampling of recordings, in percent."""
    right = np.array([[c == "1" for c in run["sets"][name]["right"]] for run in runs]).mean(0)
    drawn = np.random.default_rng(len(right)).integers(len(right), size=(DRAWS, len(right)))
    return np.asarray(100 * right[drawn].mean(1), np.float64)


def _interval(draws: npt.NDArray[np.float64]) -> list[float]:
    return [round(float(v), 2) for v in np.quantile(draws, (0.025, 0.975))]


def _picture(x_CHW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return an event image in -1..1: where many events were is bright."""
    return np.clip(PICTURE_GAIN * np.abs(x_CHW).sum(0, keepdims=True) - 1, -1, 1)


def _score(
    predict: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    inputs: npt.NDArray[np.float32],
    labels: list[int],
    numbers: range,
) -> dict[str, object]:
    right = [int(np.argmax(predict(inputs[n]))) == labels[n] for n in numbers]
    of_class: dict[int, list[bool]] = {}
    for n, is_right in zip(numbers, right, strict=True):
        of_class.setdefault(labels[n], []).append(is_right)
    return {
        "top1": round(100 * float(np.mean(right)), 2),
        "recall": {str(k): round(100 * float(np.mean(v)), 1) for k, v in sorted(of_class.items())},
        "right": "".join("01"[r] for r in right),
    }
