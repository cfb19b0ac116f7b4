"""The teacher stage, which trains a network on labelled images, and how a teacher is read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from evdistill_core.data.unpaired import build_stills, build_stills_sets
from evdistill_core.foundation.config import check_is_there
from evdistill_core.foundation.errors import StudentError
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.models.checkpoint import load_checkpoint, load_weights
from evdistill_core.models.generators import IMAGE_CHANNELS
from evdistill_core.models.network import Seen, StudentNetwork, seen_by
from evdistill_core.models.registry import IMAGE_PREFIX, build_student
from evdistill_core.models.task_name import TaskName
from evdistill_core.training.distill_config import TeacherConfig
from evdistill_core.training.loop import Trainer
from evdistill_core.training.onnx_teacher import OnnxTeacher
from evdistill_core.training.onnx_teacher_config import OnnxTeacherConfig
from evdistill_core.training.teacher_base import Teacher, class_ids


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
class NetworkTeacher(Teacher):
    """A teacher that a run of the teacher stage made: frozen, in evaluation mode.

    Attributes:
        network: (B, 1, H, W) grey images in -1..1 to logits.
        class_map: student class by teacher class, 255 for none; None where they are the same.
        num_classes: of the student.
        path: its checkpoint.
        sha256: of the checkpoint.
    """

    network: StudentNetwork
    class_map: tuple[int, ...] | None
    num_classes: int
    path: Path = Path()
    sha256: str = ""

    @property
    def task(self) -> TaskName:
        """That of its network."""
        return self.network.task

    @property
    def has_instances(self) -> bool:
        """Whether its network has an instance head."""
        return self.network.has_instances

    def see(self, image_B1HW: Tensor) -> Seen:
        """Return logits, features and instances; see ``Teacher.see``."""
        return seen_by(self.network, image_B1HW)


@overload
def load_teacher(source: Path, classes: ClassTable, device: torch.device) -> NetworkTeacher: ...


@overload
def load_teacher(
    source: OnnxTeacherConfig, classes: ClassTable, device: torch.device
) -> OnnxTeacher: ...


@overload
def load_teacher(
    source: Path | OnnxTeacherConfig, classes: ClassTable, device: torch.device
) -> Teacher: ...


def load_teacher(
    source: Path | OnnxTeacherConfig, classes: ClassTable, device: torch.device
) -> Teacher:
    """Read a teacher: the averaged weights of a checkpoint, or an ONNX model.

    Args:
        source: checkpoint of the teacher stage, or the description of a model from elsewhere.
        classes: of the student; the teacher's are the same, or map to them (19 -> 11 -> 6).
        device: where it runs.

    Raises:
        StudentError: no checkpoint, or not one of a teacher; or no ONNX model.
        ConfigError: its classes do not map to the student's; or the model and its description
            differ.
    """
    if isinstance(source, OnnxTeacherConfig):
        return OnnxTeacher(source, classes, device)
    check_is_there(source, "teacher")
    checkpoint = load_checkpoint(source)
    if not checkpoint.network.startswith(IMAGE_PREFIX):
        raise StudentError(
            f"{source} holds {checkpoint.network!r}, which looks at events; a teacher is made by "
            "`evdistill train` with stage: teacher"
        )
    network = build_student(
        checkpoint.network.removeprefix(IMAGE_PREFIX),
        checkpoint.options,
        in_channels=IMAGE_CHANNELS,
        num_classes=len(checkpoint.classes),
    )
    load_weights(network, checkpoint.state_dict, str(source))
    network = network.eval().requires_grad_(False).to(device)
    return NetworkTeacher(
        network,
        class_ids(checkpoint.classes.names, classes),
        len(classes),
        source,
        hashlib.sha256(source.read_bytes()).hexdigest(),
    )
