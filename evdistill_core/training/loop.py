"""The training loop: batches in, a checkpoint after every so many steps, a report at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from evdistill_core.data.batches import Batch, load_batches, stack
from evdistill_core.data.build import build_training_source, build_validation_sources
from evdistill_core.data.samples import SampleSource
from evdistill_core.evaluation.page import Result
from evdistill_core.evaluation.pictures import Panels, panel_grid
from evdistill_core.foundation.config import check_is_there, dump_yaml, to_mapping
from evdistill_core.foundation.errors import ConfigError, TrainingError
from evdistill_core.foundation.extras import install_command
from evdistill_core.foundation.files import atomic_path, write_text_atomic
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.foundation.outputs import remove_results
from evdistill_core.inference.student import StudentFile, student_path
from evdistill_core.inference.torch_runner import load_network
from evdistill_core.losses.segmentation import (
    INSTANCE_LOSSES,
    SegmentationBatch,
    weighted_sum,
)
from evdistill_core.models.checkpoint import load_checkpoint, start_weights
from evdistill_core.models.joined import join_batches, joined_batch
from evdistill_core.models.network import StudentNetwork, logits_of, output_of
from evdistill_core.models.pretrained import start_encoder
from evdistill_core.models.registry import build_student
from evdistill_core.reports.page import PAGE
from evdistill_core.training.checkpoint import TrainingSnapshot, load_snapshot, save_snapshot
from evdistill_core.training.config import TrainConfig
from evdistill_core.training.larger import LargerStudent
from evdistill_core.training.optimisation import (
    AveragedWeights,
    learning_rate,
    make_optimiser,
    swapped_weights,
)
from evdistill_core.training.processes import Processes, start_processes
from evdistill_core.training.run_log import NoLog, RunLog
from evdistill_core.training.sessions import SESSIONS
from evdistill_core.training.tasks import instance_targets_of, task_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_log = logging.getLogger(__name__)
Moved = tuple[torch.optim.Optimizer, list[nn.Parameter]]
LAST = "last.pt"
BEST = "best.pt"
METRICS = "metrics.jsonl"
#: What a run is worth keeping for: one that is there is not replaced without being told to.
CHECKPOINTS = (LAST, BEST)
#: Everything that a run may leave in its folder.
RESULTS = (
    *CHECKPOINTS,
    METRICS,
    "config.yaml",
    "nonfinite_batch.pt",
    SESSIONS,
    PAGE,
    "curves.png",  # this and the next two: of version 0.1
    "confusion_*.png",
    "panels_*.png",
    "tensorboard/events.out.tfevents.*",
)


@dataclass(frozen=True)
class StepReport:
    """What one step was like.

    Attributes:
        step: steps done, counting this one.
        steps: of the whole run.
        loss: the weighted sum.
        terms: every loss by name.
        seconds: since the previous step ended.
        wait_seconds: of these, how long the loop waited for data.
    """

    step: int
    steps: int
    loss: float
    terms: dict[str, float]
    seconds: float
    wait_seconds: float


@dataclass
class TrainingState:
    """Everything that changes during a run."""

    network: nn.Module
    average: AveragedWeights
    optimiser: torch.optim.Optimizer
    step: int
    best_score: float
    scores: dict[str, object]


class Trainer:
    """One run, in one process or several.

    Several processes compute what one would: each makes its part of every batch, losses and batch
    norms are those of the joined batch (``models.joined``), gradients are summed. The first one
    alone validates, talks and writes files.

    Other stages (teacher, distillation) are subclasses: they replace where batches come from and
    what their loss is, and add state of their own; steps, checkpoints, resume, validation and the
    log stay these.

    Args:
        config: the experiment.
        out: folder of the run.
        resume: go on from ``last.pt`` in ``out``.
        overwrite: replace a run that ``out`` holds.
        classes: what the labels mean; None: as configured.

    Raises:
        ConfigError: the configuration cannot run here, or ``resume`` finds another one.
        DataError: training data is missing.
        TrainingError: ``out`` holds a run already, and neither ``resume`` nor ``overwrite`` is on.
    """

    stage = "student"

    def __init__(
        self,
        config: TrainConfig,
        out: Path,
        *,
        resume: bool = False,
        overwrite: bool = False,
        classes: ClassTable | None = None,
    ) -> None:
        self.config = config
        self.out = out
        self.classes = config.class_table() if classes is None else classes
        self.task = task_of(config.network.name, label_stride=config.loss.label_stride)
        if not resume and not overwrite and (out / LAST).exists():
            raise TrainingError(
                f"{out} already holds a run; go on with --resume, replace it with --overwrite, or "
                "choose another --out"
            )
        self._build_data()
        self.processes: Processes = start_processes(config)
        self.device = self.processes.device
        if config.threads:
            torch.set_num_threads(config.threads)
        self.class_weight_K = self._class_weights()
        self._larger = self._load_larger()
        self.state = self._fresh_state()
        if resume:
            self._load(out / LAST)
        if self.processes.count > 1:
            self._join()
        self._out_of_time = False

    def run(
        self,
        on_step: Callable[[StepReport], None] | None = None,
        on_validation: Callable[[dict[str, Result]], None] | None = None,
    ) -> bool:
        """Train to the last step.

        Args:
            on_step: called after every step.
            on_validation: called with the results by set after every validation.

        Returns:
            True when the run is complete, False when ``stop`` ended it early; both leave
            ``last.pt``.

        Raises:
            TrainingError: the loss is not finite; the batch lies in ``nonfinite_batch.pt``.
        """
        log, board = self._open_log()
        try:
            for report in self._steps():
                log.write(
                    kind="step", step=report.step - 1, loss=report.loss, **_prefixed(report.terms)
                )
                if board is not None:
                    board.add_scalar("loss", report.loss, report.step)
                    for name, value in report.terms.items():
                        board.add_scalar(f"loss/{name}", value, report.step)
                if on_step is not None:
                    on_step(report)
                if self._due(self.config.validate_every):
                    self._validate(log, on_validation)
                    self._show_panels(board)
                # Read once: a signal may come at any moment, and to one of several processes.
                stopping = self.processes.agree(self._out_of_time)
                if stopping or self._due(self.config.checkpoint_every):
                    self.save()
                if stopping:
                    return False
            self._validate(log, on_validation)
            self._show_panels(board)
            self.save()
            self.processes.wait()
        finally:
            log.close()
            if board is not None:
                board.close()
        return True

    def _open_log(self) -> tuple[RunLog | NoLog, SummaryWriter | None]:
        if not self.processes.is_first:
            return NoLog(), None
        self.out.mkdir(parents=True, exist_ok=True)
        if self.state.step == 0:
            remove_results(self.out, RESULTS)
        text = f"stage: {self.stage}\n{dump_yaml(self.config)}"
        write_text_atomic(self.out / "config.yaml", text)
        log = RunLog(self.out / METRICS, keep_below=self.state.step)
        return log, _board(self.out) if self.config.tensorboard else None

    def stop(self) -> None:
        """Let ``run`` end after the step at hand, with a checkpoint (from any thread or signal)."""
        self._out_of_time = True

    def save(self) -> None:
        """Write ``last.pt``."""
        if not self.processes.is_first:
            return
        save_snapshot(self.out / LAST, self._snapshot())

    @property
    def picture_kind(self) -> str:
        """How panels show an input (see ``input_picture``)."""
        return self.config.input.kind

    def panels(self) -> list[Panels]:
        """Return images beside those of validation."""
        return []

    def predict(self, network_input: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the logits (K, h, w), or (K,), of one input with the weights at hand.

        Args:
            network_input: (C, H, W), or (T, C, H, W) windows in a row; the last one is answered.
        """
        with torch.inference_mode(), self._mixed():
            batch = torch.from_numpy(network_input)[None].to(self.device)
            logits = logits_of(self.state.network, batch)[0].float().cpu().numpy()
        return np.asarray(logits, np.float32)

    @contextlib.contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Let ``predict`` use the averaged weights, without drop-out, inside the block."""
        network = self.state.network
        was_training = network.training
        with swapped_weights(network, self.state.average.weights()):
            network.eval()
            try:
                yield
            finally:
                network.train(was_training)

    def validate(self) -> dict[str, Result]:
        """Score the averaged weights on every validation set."""
        with self.evaluation_weights():
            return {
                name: self.task.score(
                    self.predict,
                    (source.sample(i) for i in range(len(source))),
                    self.classes,
                    activity_radius_px=self.config.loss.activity_radius_px,
                )
                for name, source in self.validation.items()
            }

    def _build_data(self) -> None:
        """Open what is learnt from and what is scored."""
        config = self.config
        self.training: SampleSource = build_training_source(
            config.data, config.input, self.classes, seed=config.seed
        )
        self.validation: dict[str, SampleSource] = build_validation_sources(
            config.data, config.input, self.classes
        )

    def _batches(self) -> Iterator[Batch]:
        """Yield the batches from the step at hand to the last."""
        config = self.config
        return load_batches(
            self.training,
            stack,
            batch_size=config.batch_size,
            first_batch=self.state.step,
            last_batch=config.steps,
            workers=config.workers,
            part=self.processes.part,
        )

    def _steps(self) -> Iterator[StepReport]:
        self.state.network.train()
        ended = time.perf_counter()
        for batch in self._batches():
            arrived = time.perf_counter()
            loss, terms = self._step(batch)
            now = time.perf_counter()
            yield StepReport(
                self.state.step, self.config.steps, loss, terms, now - ended, arrived - ended
            )
            ended = time.perf_counter()

    def _step(self, batch: Batch) -> tuple[float, dict[str, float]]:
        state, config = self.state, self.config
        rate = learning_rate(config.optimiser, state.step, config.steps)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        with joined_batch(self.processes.count > 1):
            total, terms = self._loss(batch)
            value = float(total.detach())
            if not math.isfinite(value):
                self._keep_bad_batch(batch, value)
            self._optimise(total)
        self.processes.scaler.update()
        state.average.update(state.network)
        state.step += 1
        return value, {name: float(term.detach()) for name, term in terms.items()}

    def _optimise(self, total: torch.Tensor) -> None:
        """Move the weights down the gradient of the loss."""
        self._descend(total, [self._moved_by_the_student()], self.config.optimiser.clip_norm)

    def _moved_by_the_student(self) -> Moved:
        return self.state.optimiser, list(self.state.network.parameters())

    def _descend(self, total: torch.Tensor, moved: Sequence[Moved], clip_norm: float) -> None:
        """Take one step down the gradient of a loss, of all processes and in any precision.

        Args:
            total: the loss.
            moved: optimisers, each with what it moves.
            clip_norm: largest norm of the gradient of each; 0 does not clip.
        """
        scaler = self.processes.scaler
        for optimiser, _ in moved:
            optimiser.zero_grad(set_to_none=True)
        scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        self.processes.sum_gradients(p for _, parameters in moved for p in parameters)
        for optimiser, parameters in moved:
            if all(p.grad is None for p in parameters):
                continue
            scaler.unscale_(optimiser)
            if clip_norm > 0:
                nn.utils.clip_grad_norm_(parameters, clip_norm)
            scaler.step(optimiser)

    def _loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the weighted sum of a batch and what of it is logged by name."""
        inputs = batch.sequence.to(self.device)
        target_BHW = batch.label.to(self.device)
        with self._mixed():
            logits, maps = output_of(self.state.network, inputs)
        instances = None
        if maps is not None:
            instances = (maps, instance_targets_of(batch, maps, self.classes, self.config.loss))
        logits_BKHW = self.task.at_labels(logits, (target_BHW.shape[1], target_BHW.shape[2]))
        target_BHW = self.task.labels(target_BHW)
        weight_BHW = self.task.label_weights(batch.active, self.config.loss).to(self.device)
        segmentation = SegmentationBatch(
            logits_BKHW,
            target_BHW,
            weight_BHW,
            self.class_weight_K,
            None if batch.excluded is None else batch.excluded.to(self.device),
            instances,
        )
        total, terms = weighted_sum(segmentation, self.config.loss.weights)
        if self._larger is not None:
            with self._mixed():
                imitated = self._larger.losses(inputs, logits_BKHW, weight_BHW, self.task, maps)
            total = total + torch.stack(list(imitated.values())).sum()
            terms = {**terms, **imitated}
        return total, terms

    def _load_larger(self) -> LargerStudent | None:
        config = self.config
        if not config.larger.student:
            return None
        if self.stage not in {"student", "distill"}:
            raise ConfigError(
                f"larger.student is for students of events, got stage {self.stage}: leave it out"
            )
        return LargerStudent(
            config.larger, spec=config.input, classes=self.classes, device=self.device
        )

    def _mixed(self) -> contextlib.AbstractContextManager[object]:
        return self.processes.mixed()

    def _validate(
        self, log: RunLog | NoLog, on_validation: Callable[[dict[str, Result]], None] | None
    ) -> None:
        if not (self.validation and self.processes.is_first):
            return
        results = self.validate()
        state = self.state
        state.scores = {name: r.to_dict(self.classes) for name, r in results.items()}
        score = float(np.mean([r.selection_score for r in results.values()]))
        log.write(kind="validation", step=state.step - 1, score=score, sets=state.scores)
        if on_validation is not None:
            on_validation(results)
        if score > state.best_score:
            state.best_score = score
            save_snapshot(self.out / BEST, self._snapshot())

    def _show_panels(self, board: SummaryWriter | None) -> None:
        if board is None:
            return
        for shown in self.panels():
            grid = panel_grid(shown.rows, self.classes)
            name = f"{shown.title}: {', '.join(shown.heads)}"
            board.add_image(name, grid, self.state.step, dataformats="HWC")

    def _due(self, every: int) -> bool:
        # The last step is validated and saved by run itself.
        return every > 0 and self.state.step % every == 0 and self.state.step < self.config.steps

    def _class_weights(self) -> torch.Tensor:
        weights = self.config.loss.class_weights or (1.0,) * len(self.classes)
        if len(weights) != len(self.classes):
            raise ConfigError(
                f"loss.class_weights must hold {len(self.classes)} values, one a class of "
                f"{list(self.classes.names)}, got {len(weights)}"
            )
        return torch.tensor(weights, dtype=torch.float32, device=self.device)

    def _fresh_state(self) -> TrainingState:
        config = self.config
        torch.manual_seed(config.seed)
        network: StudentNetwork = build_student(
            config.network.name,
            config.network.options,
            in_channels=config.input.channels,
            num_classes=len(self.classes),
        )
        if network.state_channels and config.input.sequence < 2:
            raise ConfigError(
                "a recurrent network learns to remember from windows in a row: set input.sequence "
                f"to 2 or more (4, say), got {config.input.sequence}"
            )
        self._check_head(network)
        start_encoder(network, config.network.pretrained)
        if config.network.start_from:
            start = student_path(config.network.start_from)
            check_is_there(start, "network.start_from")
            fresh = start_weights(network, _weights_of(start), str(start))
            if fresh:
                _log.info("%s has no %s: random weights there", start, " and no ".join(fresh))
        network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = AveragedWeights(network, config.optimiser.ema_decay)
        return TrainingState(
            network, average, make_optimiser(network, config.optimiser), 0, -1.0, {}
        )

    def _check_head(self, network: StudentNetwork) -> None:
        """Refuse losses without a head, and a head that nothing trains or that tells nothing."""
        weighted = [n for n in INSTANCE_LOSSES if self.config.loss.weights.get(n, 0) > 0]
        if network.has_instances and not self.classes.thing_ids:
            raise ConfigError(
                "network.options.instances needs classes of things, and none of the classes "
                f"{', '.join(self.classes.names)} is one: set is_thing: true in the class file"
            )
        if weighted and not network.has_instances:
            raise ConfigError(
                f"loss.weights has {' and '.join(weighted)}, and the network has no instance head: "
                "set network.options.instances: true, or leave them out"
            )
        if network.has_instances and len(weighted) < len(INSTANCE_LOSSES):
            raise ConfigError(
                "an instance head learns nothing without its losses: give loss.weights centre and "
                "offset (0.1 and 1, say), or leave network.options.instances out"
            )

    def _join(self) -> None:
        """Take part with others: the same weights, and layers that see the joined batch."""
        self.processes.share(self.state.network)
        join_batches(self.state.network)

    def _snapshot(self) -> TrainingSnapshot:
        state = self.state
        return TrainingSnapshot(
            config=self.config,
            classes=self.classes,
            step=state.step,
            network=state.network.state_dict(),
            average=state.average.weights(),
            average_updates=state.average.updates,
            optimiser=state.optimiser.state_dict(),
            torch_rng=torch.get_rng_state(),
            device_rng=_device_rng(self.device),
            scaler=self.processes.scaler.state_dict(),
            best_score=state.best_score,
            scores=state.scores,
            extra=self._extra_state(),
        )

    def _extra_state(self) -> dict[str, object]:
        """Return what else is needed to go on: tensors and plain data."""
        return {} if self._larger is None else {"larger_sha256": self._larger.sha256}

    def _load_extra_state(self, extra: dict[str, object]) -> None:
        """Take what ``_extra_state`` returned."""
        larger = self._larger
        if larger is not None and extra.get("larger_sha256", larger.sha256) != larger.sha256:
            raise ConfigError(
                f"{larger.path} is not the larger.student that this run was started with; bring "
                "that file back, or start a new run with --overwrite"
            )

    def _load(self, path: Path) -> None:
        saved = load_snapshot(path, type(self.config))
        changed = _changed_keys(to_mapping(saved.config), to_mapping(self.config))
        if changed:
            raise ConfigError(
                f"{path} was made with another configuration ({', '.join(changed)} differ); resume "
                "with the one it was started with, or start a new run with network.start_from"
            )
        state = self.state
        state.network.load_state_dict(saved.network)
        state.average.load(saved.average, saved.average_updates)
        state.optimiser.load_state_dict(saved.optimiser)
        state.step, state.best_score, state.scores = saved.step, saved.best_score, saved.scores
        self._load_extra_state(saved.extra)
        if saved.scaler:
            self.processes.scaler.load_state_dict(saved.scaler)
        torch.set_rng_state(saved.torch_rng)
        if saved.device_rng.numel() and self.device.type == "cuda":
            torch.cuda.set_rng_state(saved.device_rng, self.device)

    def _keep_bad_batch(self, batch: Batch, value: float) -> None:
        path = self.out / "nonfinite_batch.pt"
        content = _with_same_fields(dataclasses.asdict(batch), len(self.classes))
        whole = self.processes.gathered(content)
        if self.processes.is_first:
            with atomic_path(path) as temporary:
                torch.save(whole, temporary)
        raise TrainingError(
            f"the loss of step {self.state.step} is {value}; its batch is kept in {path}. "
            "Lower optimiser.lr, or look into the batch for values that are not finite"
        )


def _device_rng(device: torch.device) -> torch.Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.empty(0)


def _weights_of(path: Path) -> Mapping[str, torch.Tensor]:
    """Return the weights of a checkpoint or of a student file."""
    if path.suffix == ".evstudent":
        return load_network(StudentFile.open(path)).state_dict()
    return load_checkpoint(path).state_dict


def _changed_keys(old: object, new: object, where: str = "") -> list[str]:
    # How a run is watched may change from one start to the next; what it computes may not.
    # Several processes compute what one does, up to rounding.
    free = {"workers", "threads", "checkpoint_every", "tensorboard", "notes", "devices", "nodes"}
    free |= {"log_every"}  # of checkpoints from before 0.2: lines come every 30 s now
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [k for k in {**old, **new} if where or k not in free]
        return [
            c
            for k in keys
            for c in _changed_keys(old.get(k), new.get(k), f"{where}.{k}" if where else str(k))
        ]
    return [] if old == new else [where]


def _with_same_fields(batch: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """Return a batch whose part without partial labels or instances says so in tensors.

    Another process may have them in its part, and all must gather the same tensors.
    """
    filled: dict[str, Any] = {}
    for name, value in batch.items():
        if isinstance(value, Mapping):
            filled[name] = _with_same_fields(value, num_classes)
        elif value is None and name.endswith("excluded"):
            filled[name] = torch.zeros(len(batch["input"]), num_classes, dtype=torch.bool)
        elif value is None and name.endswith("instances"):
            like = batch["image_valid"] if name.startswith("image") else batch["active"]
            filled[name] = torch.full(like.shape, -1, dtype=torch.int64)
        else:
            filled[name] = value
    return filled


def _prefixed(terms: dict[str, float]) -> dict[str, float]:
    # What is only watched is no loss and keeps its name.
    return {n if n.startswith("watch_") else f"loss_{n}": v for n, v in terms.items()}


def _board(out: Path) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ConfigError(
            f"tensorboard: true needs the tensorboard package: {install_command('train')}"
        ) from error
    return SummaryWriter(out / "tensorboard")
