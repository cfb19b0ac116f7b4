"""What the distillation asks of a teacher, whatever it runs on.

Shape letters: B batch, T classes of the teacher, K classes of the student, C channels of a feature
map, H and W an image, h and w what the teacher gives, X any further axes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from evdistill_core.foundation.class_maps import known_class_map
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import IGNORE, ClassTable, listed, mapped_ids
from evdistill_core.losses.divergence import log_posterior, merge_log_posterior
from evdistill_core.models.network import Seen
from evdistill_core.models.task_name import TaskName


class Teacher(ABC):
    """A frozen model of images.

    Attributes:
        path: the file it was read from.
        sha256: of what it was read from, so that a resumed run knows that it is the same.
        class_map: student class by teacher class, 255 for none; None where they are the same.
        num_classes: of the student.
    """

    path: Path
    sha256: str
    class_map: tuple[int, ...] | None
    num_classes: int

    @property
    @abstractmethod
    def task(self) -> TaskName:
        """What it is for."""

    @property
    def has_instances(self) -> bool:
        """Whether it has an instance head."""
        return False

    @abstractmethod
    def see(self, image_B1HW: Tensor) -> Seen:
        """Return what it makes of images.

        Args:
            image_B1HW: grey, in -1..1.

        Returns:
            Logits over its own classes, (B, T, h, w), or (B, T) for recognition; and a feature map
            (B, C, h, w), or None where it has none; instance maps where it has an instance head.

        Raises:
            ConfigError: it does not take images of this size.
        """

    def log_posterior(self, logits_BTX: Tensor) -> Tensor:
        """Return the log posterior over the student's classes."""
        log_p = log_posterior(logits_BTX)
        if self.class_map is None:
            return log_p
        return merge_log_posterior(log_p, self.class_map, num_classes=self.num_classes)

    def known_mass(self, logits_BTX: Tensor) -> Tensor:
        """Return the probability of classes that the student has, (B, X) in 0..1, no gradient.

        ``log_posterior`` leaves the other classes out and divides by this. Where it is small, the
        teacher sees something that the student has no class for, and what is left is noise: terms
        weigh a pixel by it. 1 everywhere where all classes have a place.
        """
        if self.class_map is None or IGNORE not in self.class_map:
            return torch.ones_like(logits_BTX[:, 0], dtype=torch.float32)
        known = [i for i, k in enumerate(self.class_map) if k != IGNORE]
        return log_posterior(logits_BTX.detach())[:, known].exp().sum(1)


def class_ids(
    names: tuple[str, ...], classes: ClassTable, class_map: Mapping[str, str] | None = None
) -> tuple[int, ...] | None:
    """Return the student's class by the teacher's class; None where they are the same.

    Args:
        names: of the teacher's classes.
        classes: of the student.
        class_map: student class by teacher class; a class that is absent becomes 255. Empty: equal
            names, or the known map between two presets (``known_class_map``).

    Raises:
        ConfigError: the map names an unknown class, there is no map, or a class of the student has
            no class of the teacher.
    """
    if not class_map and names == classes.names:
        return None
    mapping = dict(class_map or known_class_map(names, classes))
    if not mapping:
        raise ConfigError(
            f"no map from the teacher's classes {listed(names)} to the student's "
            f"{listed(classes.names)}: give both the same names, or an ONNX teacher a class_map "
            "such as {car: vehicle}"
        )
    ids = mapped_ids(names, mapping, classes, source="teacher")
    missing = [n for n in classes.names if n not in mapping.values()]
    if missing:
        raise ConfigError(
            f"no class of the teacher becomes {', '.join(map(repr, missing))} of the student: add "
            f"one to class_map (the teacher has {listed(names)}), or leave the class out of the "
            "student's"
        )
    return ids
