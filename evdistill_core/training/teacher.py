"""The teacher: a network trained on labelled images, and how the distillation reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from evdistill_core.data.unpaired import build_stills, build_stills_sets
from evdistill_core.foundation.class_maps import class_map_between
from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.losses.divergence import log_posterior, merge_log_posterior
from evdistill_core.models.checkpoint import load_checkpoint, load_weights
from evdistill_core.models.generators import IMAGE_CHANNELS
from evdistill_core.models.network import StudentNetwork
from evdistill_core.models.registry import IMAGE_PREFIX, build_student
from evdistill_core.training.distill_config import TeacherConfig
from evdistill_core.training.loop import Trainer


class TeacherTrainer(Trainer):
    """A run of the teacher stage: the same loop on images.

    Source:
        That the teacher is a network trained on labelled images is [abstract]; grey images and
        the strong augmentation are a [choice]: reconstructions and frames of event cameras are
        grey, and the augmentation decides how well it reads them.
    """

    stage = "teacher"
    config: TeacherConfig

    def _build_data(self) -> None:
        config = self.config
        self.training = build_stills(config.data, self.classes, seed=config.seed)
        self.validation = build_stills_sets(config.data, self.classes)

    @property
    def picture_kind(self) -> str:
        """Panels show grey images."""
        return "image"


@dataclass(frozen=True)
class Teacher:
    """A trained teacher: frozen, in evaluation mode.

    Attributes:
        network: (B, 1, H, W) grey images in -1..1 to logits.
        class_map: student class by teacher class, or None where they are the same.
        num_classes: of the student.
    """

    network: StudentNetwork
    class_map: tuple[int, ...] | None
    num_classes: int

    def log_posterior(self, logits_BTX: Tensor) -> Tensor:
        """Return the log posterior over the student's classes."""
        log_p = log_posterior(logits_BTX)
        if self.class_map is None:
            return log_p
        return merge_log_posterior(log_p, self.class_map, num_classes=self.num_classes)


def load_teacher(path: Path, classes: ClassTable, device: torch.device) -> Teacher:
    """Read the averaged weights of a teacher.

    Args:
        path: checkpoint of the teacher stage.
        classes: of the student; the teacher's are the same, or map to them (19 -> 11 -> 6).
        device: where it runs.

    Raises:
        StudentError: no checkpoint, or not one of a teacher.
        ConfigError: its classes do not map to the student's.
    """
    checkpoint = load_checkpoint(path)
    if not checkpoint.network.startswith(IMAGE_PREFIX):
        raise StudentError(
            f"{path} holds {checkpoint.network!r}, which looks at events; a teacher is made by "
            "`evdistill train` with stage: teacher"
        )
    network = build_student(
        checkpoint.network.removeprefix(IMAGE_PREFIX),
        checkpoint.options,
        in_channels=IMAGE_CHANNELS,
        num_classes=len(checkpoint.classes),
    )
    load_weights(network, checkpoint.state_dict, str(path))
    network = network.eval().requires_grad_(False).to(device)
    return Teacher(network, _class_map(checkpoint.classes, classes), len(classes))


def _class_map(teacher: ClassTable, student: ClassTable) -> tuple[int, ...] | None:
    if teacher.names == student.names:
        return None
    found = class_map_between(len(teacher), len(student))
    if found is None:
        raise ConfigError(
            f"no map from the teacher's classes {list(teacher.names)} to the student's "
            f"{list(student.names)}"
        )
    return found
