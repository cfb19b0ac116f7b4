"""The distillation stage: student, generators and discriminators trained end to end.

One step: the student and both generators go down the gradient of the whole objective; then the
discriminators go down theirs, on the same generated samples. The file that comes out is a
student's like any other. All other trained networks are in the training part of the checkpoint,
which export drops.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evdistill_core.data.batches import Batch, load_batches
from evdistill_core.data.build import build_validation_sources
from evdistill_core.data.samples import Part
from evdistill_core.data.unpaired import UnpairedBatch, UnpairedSource, stack_unpaired
from evdistill_core.evaluation.pictures import Panels, input_picture, label_picture
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.losses.consistency import as_judge
from evdistill_core.losses.terms import sum_terms
from evdistill_core.models.checkpoint import load_weights
from evdistill_core.models.joined import join_batches
from evdistill_core.models.network import StudentNetwork, logits_of
from evdistill_core.training.checkpoint import load_snapshot
from evdistill_core.training.distill_config import DistillConfig
from evdistill_core.training.distill_terms import (
    DistillStep,
    Networks,
    Translation,
    build_frame_student,
)
from evdistill_core.training.loop import Moved, Trainer, TrainingState
from evdistill_core.training.optimisation import learning_rate, make_optimiser
from evdistill_core.training.teacher import load_teacher

Picture = npt.NDArray[np.uint8]
PANEL_ROWS = 4
_EVENT_HEADS = ("events", "reconstruction", "teacher on it", "student on the events")
_IMAGE_HEADS = ("image", "generated events", "teacher on the image", "student on them", "labels")
ACTIVITY_WINDOWS = 64  # of the target, to see where it is usually active


class DistillTrainer(Trainer):
    """A run of the distillation stage; see ``Trainer`` for what it shares with the others.

    Source:
        EvDistill. End-to-end training of the generators with the task and KD losses is [abstract];
        the order within a step, Adam for generators and discriminators, and the absence of a pool
        of old samples are a [choice].
    """

    stage = "distill"
    config: DistillConfig

    def panels(self) -> list[Panels]:
        """Return rows (event, reconstruction, teacher, student) and (image, generated, ...).

        None where no term moves a generator: their images would be noise.
        """
        if not self.config.translates:
            return []
        batch = next(iter(self._unpaired(0, 1)))
        with self.evaluation_weights(), torch.no_grad():
            step = self._step_of(batch)
            events = [self._event_row(step, i) for i in range(min(PANEL_ROWS, len(batch.input)))]
            images = [self._image_row(step, i) for i in range(min(PANEL_ROWS, len(batch.image)))]
        return [
            Panels("Windows of the camera", _EVENT_HEADS, events),
            Panels("Labelled images", _IMAGE_HEADS, images),
        ]

    def _build_data(self) -> None:
        config = self.config
        self.unpaired = UnpairedSource(config.data, config.input, self.classes, seed=config.seed)
        self.validation = build_validation_sources(config.data, config.input, self.classes)

    def _batches(self) -> Iterator[Batch]:
        yield from self._unpaired(self.state.step, self.config.steps, self.processes.part)

    def _unpaired(self, first: int, last: int, part: Part = (0, 1)) -> Iterator[UnpairedBatch]:
        return load_batches(
            self.unpaired,
            stack_unpaired,
            batch_size=self.config.batch_size,
            first_batch=first,
            last_batch=last,
            workers=self.config.workers if last - first > 1 else 0,
            part=part,
        )

    def _fresh_state(self) -> TrainingState:
        config, classes = self.config, len(self.classes)
        state = super()._fresh_state()
        self.teacher = load_teacher(config.teacher, self.classes, self.device)
        if self.teacher.task != self.task.name:
            raise ConfigError(
                f"teacher {self.teacher.path} is for {self.teacher.task}, and network "
                f"{config.network.name} for {self.task.name}: take a teacher of the same task"
            )
        if config.passes_instances and not (
            self.teacher.has_instances and state.network.has_instances
        ):
            raise ConfigError(
                "the terms kd_instances_generated and kd_instances_event need an instance head in "
                "student and teacher: set network.options.instances: true in both experiments, or "
                "leave the terms out"
            )
        self.translation = Translation(config.adversary, config.input, classes).to(self.device)
        if config.adversary.start_from:
            self._start_translation(Path(config.adversary.start_from))
        frame = build_frame_student(config, classes)
        self.frame_student = frame.to(self.device) if frame is not None else None
        self.optimisers = self._other_optimisers()
        self._usual_activity_HW = self._usual_activity()
        return state

    def _usual_activity(self) -> Tensor | None:
        if not self.config.all_terms["entropy"] > 0:
            return None
        return torch.from_numpy(self.unpaired.usual_activity(ACTIVITY_WINDOWS)).to(self.device)

    def _join(self) -> None:
        super()._join()
        self.processes.share(self.translation, self.frame_student)
        if self.frame_student is not None:
            join_batches(self.frame_student)

    def _other_optimisers(self) -> dict[str, torch.optim.Optimizer]:
        adversary, betas = self.config.adversary, (self.config.adversary.beta1, 0.999)
        optimisers: dict[str, torch.optim.Optimizer] = {
            "generators": torch.optim.Adam(
                self.translation.generator_parameters(), adversary.lr, betas
            ),
            "critics": torch.optim.Adam(
                self.translation.critic_parameters(), adversary.critic_lr, betas
            ),
        }
        if self.frame_student is not None:
            optimisers["frame_student"] = make_optimiser(self.frame_student, self.config.optimiser)
        return optimisers

    def _start_translation(self, path: Path) -> None:
        saved = load_snapshot(path, DistillConfig)
        weights = cast("dict[str, Tensor]", saved.extra["translation"])
        load_weights(self.translation, weights, f"translation of {path}")

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(batch, UnpairedBatch)  # what _batches yields
        self._current = self._step_of(batch)
        result = sum_terms(self._current.terms(), self.config.weights_at(self.state.step))
        self._terms = result.unscaled | {f"{n}_scaled": v for n, v in result.scaled.items()}
        self._terms |= self._current.watched()
        return result.total, self._terms

    def _translates_now(self) -> bool:
        return self.state.step % self.config.translation_every == 0

    def _optimise(self, total: Tensor) -> None:
        self._follow_schedule()
        others = [_moved_by(o) for name, o in self.optimisers.items() if name != "critics"]
        moved = [self._moved_by_the_student(), *others]
        self._descend(total, moved, self.config.optimiser.clip_norm)
        if self._translates_now():
            self._optimise_critics()

    def _optimise_critics(self) -> None:
        terms = self._current.critic_terms()
        if not terms:
            return
        penalty = self.config.adversary.gradient_penalty
        weights = {n: penalty if n.endswith("_penalty") else 1.0 for n in terms}
        result = sum_terms(terms, weights)
        if not math.isfinite(float(result.total.detach())):
            self._keep_bad_batch(self._current.batch, float(result.total.detach()))
        self._descend(result.total, [_moved_by(self.optimisers["critics"])], clip_norm=0.0)
        # The loop logs this table after the step: discriminators are part of it.
        self._terms.update(result.unscaled)

    def _follow_schedule(self) -> None:
        config = self.config
        share = learning_rate(config.optimiser, self.state.step, config.steps) / config.optimiser.lr
        rates = {
            "generators": config.adversary.lr,
            "critics": config.adversary.critic_lr,
            "frame_student": config.optimiser.lr,
        }
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = rates[name] * share

    def _step_of(self, batch: UnpairedBatch) -> DistillStep:
        student = cast("StudentNetwork", self.state.network)
        networks = Networks(
            student=student,
            averaged=self._averaged,
            translation=self.translation,
            teacher=self.teacher,
            frame_student=self.frame_student,
            task=self.task,
            thing_ids=self.classes.thing_ids,
            mixed=self._mixed,
            usual_activity=self._usual_activity_HW,
            trained=self._larger,
        )
        return DistillStep(
            _on(batch, self.device),
            networks,
            self.config,
            self.class_weight_K,
            step=self.state.step,
        )

    def _averaged(self, x: Tensor) -> Tensor:
        student = self.state.network
        with as_judge(student):
            return logits_of(student, x, self.state.average.weights())

    def _extra_state(self) -> dict[str, object]:
        content = super()._extra_state() | {
            "teacher_sha256": self.teacher.sha256,
            "translation": self.translation.state_dict(),
            "optimisers": {n: o.state_dict() for n, o in self.optimisers.items()},
        }
        if self.frame_student is not None:
            content["frame_student"] = self.frame_student.state_dict()
        return content

    def _load_extra_state(self, extra: dict[str, object]) -> None:
        super()._load_extra_state(extra)
        if extra["teacher_sha256"] != self.teacher.sha256:
            raise ConfigError(
                f"{self.teacher.path} is not the teacher that this run was started with; bring "
                "that file back, or start a new run with --overwrite"
            )
        self.translation.load_state_dict(cast("dict[str, Tensor]", extra["translation"]))
        optimisers = cast("dict[str, dict[str, object]]", extra["optimisers"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(optimisers[name])
        if self.frame_student is not None:
            self.frame_student.load_state_dict(cast("dict[str, Tensor]", extra["frame_student"]))

    def _event_row(self, step: DistillStep, i: int) -> list[Picture]:
        batch, kind = step.batch, self.config.input.kind
        return [
            input_picture(batch.input[i].cpu().numpy(), kind),
            input_picture(step.fake_image[i].cpu().numpy(), "image"),
            self._mask_picture(self.teacher.log_posterior(step.t_fake[0])[i], batch.input),
            self._mask_picture(step.s_event[0][i], batch.input),
        ]

    def _image_row(self, step: DistillStep, i: int) -> list[Picture]:
        batch, kind = step.batch, self.config.input.kind
        return [
            input_picture(batch.image[i].cpu().numpy(), "image"),
            input_picture(step.fake_event[i].cpu().numpy(), kind),
            self._mask_picture(self.teacher.log_posterior(step.t_image[0])[i], batch.image),
            self._mask_picture(step.s_generated[0][i], batch.image),
            self._label_picture(batch.image_label[i], batch.image),
        ]

    def _mask_picture(self, logits_KHW: Tensor, like_BCHW: Tensor) -> Picture:
        size = (like_BCHW.shape[2], like_BCHW.shape[3])
        return label_picture(self.task.mask(logits_KHW.cpu().numpy(), size=size), self.classes)

    def _label_picture(self, label_HW: Tensor, like_BCHW: Tensor) -> Picture:
        # The one label of a recognition image is drawn on all of it.
        label = label_HW.cpu().numpy().astype(np.uint8)
        return label_picture(np.broadcast_to(label, like_BCHW.shape[2:]), self.classes)


def _moved_by(optimiser: torch.optim.Optimizer) -> Moved:
    return optimiser, [p for group in optimiser.param_groups for p in group["params"]]


def _on(batch: UnpairedBatch, device: torch.device) -> UnpairedBatch:
    """Return the batch with its tensors on a device."""
    moved: dict[str, Any] = {
        f.name: value.to(device)
        for f in dataclasses.fields(batch)
        if isinstance(value := getattr(batch, f.name), Tensor)
    }
    labelled = batch.labelled
    if labelled is not None:
        labelled = Batch(
            labelled.first_index,
            labelled.input.to(device),
            labelled.label.to(device),
            labelled.active.to(device),
            picture=None if labelled.picture is None else labelled.picture.to(device),
            past=None if labelled.past is None else labelled.past.to(device),
            excluded=None if labelled.excluded is None else labelled.excluded.to(device),
            instances=None if labelled.instances is None else labelled.instances.to(device),
        )
    return dataclasses.replace(batch, **moved, labelled=labelled)
