"""From a row to something that maps a window to eleven-class logits."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from rows import ROWS, Row
from scoring import score
from settings import Budget, Settings
from splits import SOURCE_DRIVES, make_splits
from torch import nn
from windows import TEST_SETS, WindowSets, bound_settings, digest

from evdistill_core.data.augment import AugmentConfig
from evdistill_core.data.build import DataConfig, SourceConfig
from evdistill_core.data.labelled_images import ImagesConfig
from evdistill_core.data.simulated import StoredWindows
from evdistill_core.data.stills import StillsConfig
from evdistill_core.data.unpaired import DistillDataConfig, TeacherDataConfig
from evdistill_core.foundation.config import from_mapping
from evdistill_core.foundation.labels import CAMVID_CLASSES, ClassTable
from evdistill_core.models.checkpoint import load_checkpoint
from evdistill_core.simulation.dataset import SetWriter, SimulatedSet, write_windows
from evdistill_core.simulation.window import SimulatedWindow
from evdistill_core.training.config import (
    LargerConfig,
    LossConfig,
    NetworkConfig,
    TrainConfig,
)
from evdistill_core.training.distill_config import (
    DistillConfig,
    TeacherConfig,
    TransferConfig,
)
from evdistill_core.training.distillation import DistillTrainer
from evdistill_core.training.loop import LAST, StepReport, Trainer
from evdistill_core.training.processes import pick_device
from evdistill_core.training.teacher import NetworkTeacher, TeacherTrainer, load_teacher

Array = npt.NDArray[np.float32]
Predict = Callable[[Array], Array]
STILL_ROWS = 360  # of CamVid
ADABN_BATCHES, ADABN_BATCH = 24, 16
PICTURE_GAIN = 0.5  # grey of an event image, per unit of the summed input


def budget_of(name: str, student: Budget) -> dict[str, object]:
    """Return what stands in a result about steps and student."""
    return {
        "name": name,
        "steps": student.steps,
        "batch_size": student.batch_size,
        "student": student.network.name,
        "options": student.network.options,
    }


class Methods:
    """Trains what a row needs, once, and scores it.

    Args:
        settings: of the benchmark.
    """

    task = "segmentation"
    rows = ROWS

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.splits = make_splits(settings.camvid)
        self.sets = WindowSets(settings, self.splits)
        self.device = pick_device(settings.device)

    def key(self, row: Row) -> str:
        """Return the name of everything that decides a row's result, whatever the commit."""
        base = self.key(ROWS[row.base]) if row.base else ""
        larger = [self.key(ROWS[row.larger])] if row.larger else []
        facts = [bound_settings(self.settings), row.facts(), base, self.sets.root.name]
        return digest([*facts, *larger])

    def budget(self, row: Row) -> dict[str, object]:
        """Return what stands in a result about steps, size and student."""
        size = [self.settings.height, self.settings.width]
        return budget_of(self.settings.name, self._plain_student(row)) | {"size": size}

    def is_label_free(self, row: Row) -> bool:
        """Return whether a row reads no label of the target."""
        return not row.reads_target_labels

    def scores(self, row: Row, seed: int) -> dict[str, object]:
        """Train what is missing; return the scores on every test set."""
        predict = self.predictor(row, seed)
        scored = {}
        for name in TEST_SETS:
            windows = self.windows(name)
            samples = (windows.sample(i) for i in range(len(windows)))
            scored[name] = score(predict, samples, self.sets.blocks(name).tolist())
        return scored

    def headline(self, sets: dict[str, Any]) -> str:
        """Return one line about a result."""
        return f"mIoU {sets['target_target']['miou_6']}, run {sets['run']['miou_6']}"

    def predictor(self, row: Row, seed: int) -> Predict:
        """Return (C, H, W) input -> (11, h, w) logits of a row, trained now where it is not yet."""
        return {
            "prior": lambda: self._prior(row),
            "pictures": self._pictures,
            "supervised": lambda: self._network(self._supervised(row, seed)),
            "adabn": lambda: self._adabn(row, seed),
            "pseudo": lambda: self._network(self._supervised(row, seed)),
            "reconstruct": lambda: self._reconstruct(row, seed),
            "distill": lambda: self._network(self._distil(row, seed)[0]),
        }[row.kind]()

    def windows(self, name: str) -> StoredWindows:
        """Return the samples of a set, in the order on disk."""
        return StoredWindows(self.sets.folder(name), self.settings.input, CAMVID_CLASSES)

    def teacher(self) -> Path:
        """Return the teacher's checkpoint."""
        base = self.settings.height / STILL_ROWS
        largest = base / self.settings.scene.zoom[0]
        config = TeacherConfig(
            **self._common("teacher", self.settings.teacher, 0),
            data=TeacherDataConfig(
                stills=self._stills(base, largest),
                validation_stills={"held-out": self._held_out()},
            ),
        )
        return self._train(TeacherTrainer, config, f"teacher-{self._teacher_key()}")

    def _teacher_key(self) -> str:
        facts = bound_settings(self.settings)
        names = ("teacher", "height", "width", "scene", "class_weights", "precision")
        return digest([facts[k] for k in names])

    def _stills(self, low: float, high: float) -> StillsConfig:
        return StillsConfig(
            images=ImagesConfig(root=self.settings.camvid, include=SOURCE_DRIVES),
            crop=(self.settings.height, self.settings.width),
            scale=(low, high),
            flip=0.5,
            jitter=0.4,
            noise=8.0,
            blur=0.3,
            rare_temperature=0.1,
        )

    def _held_out(self) -> StillsConfig:
        scale = self.settings.height / STILL_ROWS
        return StillsConfig(
            images=ImagesConfig(root=self.settings.camvid, split="test", include=SOURCE_DRIVES),
            scale=(scale, scale),
        )

    def _common(self, name: str, budget: Budget, seed: int) -> dict[str, object]:
        settings = self.settings
        return {
            "name": name,
            "seed": seed,
            "steps": budget.steps,
            "batch_size": budget.batch_size,
            "network": budget.network,
            "optimiser": budget.optimiser,
            "loss": LossConfig(
                weights={"cross_entropy": 1.0, "dice": 0.5},
                class_weights=settings.class_weights,
                inactive_weight=1.0,
                label_stride=1 if name == "teacher" else settings.label_stride,
            ),
            "device": settings.device,
            "precision": settings.precision,
            "threads": settings.threads,
            "workers": settings.workers,
            "validate_every": 0,
        }

    def _train(self, kind: type[Trainer], config: TrainConfig, name: str) -> Path:
        return train_once(kind, config, self.settings.work / "runs" / name, CAMVID_CLASSES)

    def _supervised(self, row: Row, seed: int) -> Path:
        labelled = {name: self.sets.folder(name) for name in row.labelled}
        if row.kind == "pseudo":
            labelled["pseudo"] = self._pseudo_set()
        config = TrainConfig(
            **self._common(row.name, self._student(row, seed), seed),
            input=self.settings.input,
            data=DataConfig(train=tuple(_mirrored(n, f) for n, f in labelled.items())),
        )
        return self._train(Trainer, config, self._run_name(row, seed))

    def _student(self, row: Row, seed: int) -> Budget:
        student = self._plain_student(row)
        if row.start == "teacher":
            network = replace(student.network, pretrained=str(self.teacher()))
            student = replace(student, network=network)
        if row.start == "base":
            path = str(self._student_of(row.base, seed))
            network = replace(student.network, pretrained="none", start_from=path)
            student = replace(student, network=network)
        return student

    def _plain_student(self, row: Row) -> Budget:
        student = self.settings.student
        steps = max(1, round(row.steps_share * student.steps))
        network = from_mapping(NetworkConfig, row.network) if row.network else student.network
        return replace(student, steps=steps, network=network)

    def _student_of(self, name: str, seed: int) -> Path:
        row = ROWS[name]
        return self._distil(row, seed)[0] if row.kind == "distill" else self._supervised(row, seed)

    def _distil(self, row: Row, seed: int) -> tuple[Path, DistillConfig]:
        settings = self.settings
        base = settings.height / STILL_ROWS
        adversary = settings.adversary
        larger = LargerConfig()
        if row.start == "base":
            if row.terms.get("kd_ensemble", 0) > 0:
                larger = LargerConfig(student=str(self._student_of(row.larger or row.base, seed)))
        elif row.base:
            generators, _ = self._distil(ROWS[row.base], seed)
            adversary = replace(adversary, start_from=str(generators))
        config = DistillConfig(
            **self._common(row.name, self._student(row, seed), seed),
            input=settings.input,
            data=DistillDataConfig(
                stills=self._stills(base, base / settings.scene.zoom[0]),
                train=tuple(_mirrored(n, self.sets.folder(n)) for n in row.labelled),
                target=(SourceConfig(name="target", folder=self.sets.folder("target")),),
                target_frames=row.frames,
            ),
            teacher=self.teacher(),
            terms=row.all_terms(),
            transfer=from_mapping(TransferConfig, row.transfer),
            adversary=adversary,
            larger=larger,
        )
        return self._train(DistillTrainer, config, self._run_name(row, seed)), config

    def _run_name(self, row: Row, seed: int) -> str:
        return f"{row.name}-{self.key(row)}-s{seed}"

    def _network(self, path: Path) -> Predict:
        return on_torch(load_checkpoint(path).build().to(self.device).eval(), self.device)

    def _prior(self, row: Row) -> Predict:
        """The share of every class at every place, over the labelled windows; blurred a little."""
        counts: npt.NDArray[np.float64] | None = None
        for name in row.labelled:
            for label in _labels(self.windows(name)):
                hot = np.eye(256, dtype=np.float64)[label][..., : len(CAMVID_CLASSES)]
                counts = hot if counts is None else counts + hot
        assert counts is not None
        prior = np.log(counts.transpose(2, 0, 1) + 1e-3).astype(np.float32)
        return lambda network_input: prior

    def _load_teacher(self) -> NetworkTeacher:
        return load_teacher(self.teacher(), CAMVID_CLASSES, self.device)

    def _pictures(self) -> Predict:
        see = on_torch(self._load_teacher().network, self.device)
        return lambda x: see(np.clip(PICTURE_GAIN * x.sum(0, keepdims=True), -1, 1))

    def _adabn(self, row: Row, seed: int) -> Predict:
        network = load_checkpoint(self._supervised(ROWS[row.base], seed)).build().to(self.device)
        target = self.windows("target")
        inputs = [target.sample(i).input for i in range(ADABN_BATCHES * ADABN_BATCH)]
        adapt_batch_norm(network, np.stack(inputs), self.device)
        return on_torch(network.eval(), self.device)

    def _reconstruct(self, row: Row, seed: int) -> Predict:
        """G_ei learns images of simulated windows of many cameras (as E2VID does); then T."""
        path, config = self._distil(row, seed)
        trainer = DistillTrainer(config, path.parent, resume=True, classes=CAMVID_CLASSES)
        to_image, teacher = trainer.translation.to_image.eval(), self._load_teacher().network
        return on_torch(nn.Sequential(to_image, teacher).eval(), self.device)

    def _pseudo_set(self) -> Path:
        """The target's windows with what the teacher says of their frames as labels."""
        folder = self.sets.root / f"pseudo-{self._teacher_key()}"
        if (folder / "done").exists():
            return folder
        windows = SimulatedSet(self.sets.folder("target"))
        see = on_torch(self._load_teacher().network, self.device)
        size = (windows.height, windows.width)

        def labelled(numbers: range) -> Iterator[SimulatedWindow]:
            for n in numbers:
                known = windows[n]
                grey = known.image.astype(np.float32)[None] / np.float32(127.5) - 1
                logits = nn.functional.interpolate(
                    torch.from_numpy(see(grey))[None], size=size, mode="bilinear"
                )
                label = logits[0].argmax(0).numpy().astype(np.uint8)
                yield SimulatedWindow(
                    known.events, label, known.image, known.t_start_us, known.t_end_us
                )

        writer = SetWriter(
            folder,
            {"labels": "teacher", "of": str(windows.root.name)},
            CAMVID_CLASSES,
            height=size[0],
            width=size[1],
        )
        write_windows(writer, labelled, count=len(windows), windows_per_shard=64)
        (folder / "done").touch()
        return folder


def adapt_batch_norm(network: nn.Module, inputs: Array, device: torch.device) -> None:
    """Replace the statistics of every batch norm by those of these windows (AdaBN, Li et al.)."""
    network.eval()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    with torch.no_grad():
        for start in range(0, len(inputs), ADABN_BATCH):
            network(torch.from_numpy(inputs[start : start + ADABN_BATCH]).to(device))
    network.eval()


def train_once(kind: type[Trainer], config: TrainConfig, out: Path, classes: ClassTable) -> Path:
    """Train to the end, or go on with an interrupted run; return the last checkpoint.

    A second process that wants the same run waits for the first.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_name(f"{out.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _train_now(kind, config, out, classes)


def _train_now(kind: type[Trainer], config: TrainConfig, out: Path, classes: ClassTable) -> Path:
    last, done = out / LAST, out / "done"
    if done.exists():
        return last
    trainer = kind(config, out, resume=last.exists(), classes=classes)
    trainer.run(_Progress(out.name))
    for set_name, scores in trainer.state.scores.items():
        print(f"  {out.name} on {set_name}: {_brief(scores)}", flush=True)
    done.touch()
    return last


def on_torch(network: nn.Module, device: torch.device) -> Predict:
    """Return the network as a function of one input."""

    def predict(network_input: Array) -> Array:
        with torch.inference_mode():
            logits = network(torch.from_numpy(network_input)[None].to(device))[0]
        return cast("Array", logits.float().cpu().numpy())

    return predict


def _mirrored(name: str, folder: Path) -> SourceConfig:
    return SourceConfig(name=name, folder=folder, augment=AugmentConfig(flip=0.5))


def _labels(windows: StoredWindows) -> Iterator[npt.NDArray[np.uint8]]:
    return (windows.sample(i).label for i in range(len(windows)))


def _brief(scores: object) -> str:
    known = cast("dict[str, Any]", scores)
    if "top1" in known:
        return f"top-1 {100 * known['top1']:.1f}"
    everywhere = known["everywhere"]
    return f"mIoU {100 * everywhere['miou']:.1f} (11 classes)"


class _Progress:
    def __init__(self, name: str) -> None:
        self._name, self._last = name, time.perf_counter()

    def __call__(self, report: StepReport) -> None:
        if time.perf_counter() - self._last < 20 and report.step != report.steps:
            return
        self._last = time.perf_counter()
        left_s = report.seconds * (report.steps - report.step)
        print(
            f"  {self._name} {report.step}/{report.steps}  loss {report.loss:.3f}  "
            f"{1 / report.seconds:.2f} steps/s  {left_s / 60:.1f} min left",
            flush=True,
        )
