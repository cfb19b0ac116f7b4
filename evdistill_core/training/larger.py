"""Distil a student of events from a trained one: both see the same windows."""

# Shape letters: B batch, K classes, H and W of the labels at hand.
from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from evdistill_core.foundation.config import check_is_there
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.inference.student import StudentFile, student_path
from evdistill_core.inference.torch_runner import load_network
from evdistill_core.losses.distillation import posterior_kd
from evdistill_core.losses.divergence import log_posterior
from evdistill_core.losses.instances import instance_kd, nearest
from evdistill_core.models.checkpoint import load_checkpoint
from evdistill_core.models.network import InstanceMaps, StudentNetwork, output_of
from evdistill_core.models.registry import IMAGE_PREFIX
from evdistill_core.representations.spec import InputSpec
from evdistill_core.training.config import LargerConfig
from evdistill_core.training.tasks import Task


class LargerStudent:
    """A trained student, frozen, that another one imitates.

    Args:
        config: which one, and how much it counts.
        spec: input of the smaller one.
        classes: of the smaller one.
        device: where it runs.

    Attributes:
        path: of the file.
        sha256: of the file, so that a resumed run knows that it is the same.

    Raises:
        StudentError: no checkpoint or student file, or a damaged one.
        ConfigError: it is missing, looks at images, sees another input, or knows other classes.
    """

    def __init__(
        self,
        config: LargerConfig,
        *,
        spec: InputSpec,
        classes: ClassTable,
        device: torch.device,
    ) -> None:
        self._config = config
        path = student_path(config.student)
        check_is_there(path, "larger.student")
        network, own_spec, own_classes = _open(path)
        _check_input(path, own_spec, spec)
        if own_classes.names != classes.names:
            raise ConfigError(
                f"larger.student {path} knows the classes {list(own_classes.names)}, this "
                f"experiment has {list(classes.names)}: both must be the same"
            )
        self._thing_ids = list(classes.thing_ids)
        self._network = network.eval().requires_grad_(False).to(device)
        self.path = path
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()

    def log_posterior(self, inputs: Tensor, size: tuple[int, int], task: Task) -> Tensor:
        """Return what it says of windows: (B, K, *size) log posterior, without a gradient."""
        with torch.no_grad():
            return log_posterior(task.at_size(output_of(self._network, inputs).logits, size))

    def losses(
        self,
        inputs: Tensor,
        logits_BKHW: Tensor,
        weight_BHW: Tensor,
        task: Task,
        maps: InstanceMaps | None = None,
    ) -> dict[str, Tensor]:
        """Return by name how far the smaller student is from the larger; weights included.

        Args:
            inputs: (B, C, H, W) windows, or (B, T, C, H, W) windows in a row.
            logits_BKHW: of the smaller student at the size of the labels.
            weight_BHW: what a pixel counts; pixels without a label count too.
            task: brings the logits of the larger one to that size.
            maps: of the smaller student, where it has an instance head.

        Returns:
            ``larger``: the KL of the posteriors, nats; and ``larger_instances``, see
            ``losses.instances.instance_kd``, where both have an instance head.
        """
        with torch.no_grad():
            larger = output_of(self._network, inputs)
            stride_size = (logits_BKHW.shape[2], logits_BKHW.shape[3])
            target_BKHW = task.at_size(larger.logits, stride_size)
        found = {
            "larger": self._config.weight
            * posterior_kd(
                logits_BKHW, target_BKHW, weight_BHW, temperature=self._config.temperature
            )
        }
        if maps is not None and larger.instances is not None and self._config.instances > 0:
            cells = (maps.centre.shape[2], maps.centre.shape[3])
            thing = task.at_size(larger.logits, cells).softmax(1)[:, self._thing_ids].sum(1)
            weight = nearest(weight_BHW, cells)
            found["larger_instances"] = self._config.instances * instance_kd(
                maps, larger.instances, weight, thing
            )
        return found


#: How an input is cut and padded; each network has its own, and sees the same events all the same.
_OWN = {"max_pixels", "size_multiple", "sequence"}


def _check_input(path: Path, larger: InputSpec, smaller: InputSpec) -> None:
    """Refuse a student to which the same windows would mean something else."""
    for field in fields(InputSpec):
        theirs, ours = getattr(larger, field.name), getattr(smaller, field.name)
        if field.name not in _OWN and theirs != ours:
            raise ConfigError(
                f"larger.student {path} was trained with input.{field.name} {theirs!r}, this "
                f"experiment has {ours!r}: give both the same input"
            )


def _open(path: Path) -> tuple[StudentNetwork, InputSpec, ClassTable]:
    if path.suffix == ".evstudent":
        student = StudentFile.open(path)
        return load_network(student), student.input, student.classes
    checkpoint = load_checkpoint(path)
    if checkpoint.network.startswith(IMAGE_PREFIX):
        raise ConfigError(
            f"larger.student {path} is a teacher: it looks at images; name a student of events, or "
            "use stage: distill"
        )
    return checkpoint.build(), checkpoint.input, checkpoint.classes
