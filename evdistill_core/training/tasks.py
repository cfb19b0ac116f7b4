"""What differs between segmentation and recognition: everything else of a run is the same code.

Recognition is treated as segmentation of an image of one pixel: logits (B, K, 1, 1), labels and
weights (B, 1, 1). So every loss means the same for both tasks. Shape letters: B batch, K classes,
H and W the input, h and w what the network gives.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from evdistill_core.data.batches import Batch
from evdistill_core.evaluation.page import Panel, Result, panel_row
from evdistill_core.evaluation.pictures import input_picture
from evdistill_core.evaluation.recognition import caption_picture, score_recognition
from evdistill_core.evaluation.segmentation import (
    LabelledWindow,
    Predict,
    near_events,
    predict_mask,
    score_windows,
)
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.losses.instances import InstanceTargets, instance_targets
from evdistill_core.models.network import InstanceMaps
from evdistill_core.models.registry import network_task
from evdistill_core.models.task_name import TaskName
from evdistill_core.training.config import LossConfig

Logits = npt.NDArray[np.float32]


class Task(Protocol):
    """An end task.

    Attributes:
        name: as the student file says it.
        score_name: what ``selection_score`` of its results is.
        pools_samples: whether ``as_regions`` pools over the samples of a batch.
    """

    name: TaskName
    score_name: str
    pools_samples: bool

    def at_labels(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Return a network's logits as (B, K, H, W) float32 where labels are compared.

        Args:
            logits: of the network.
            size: (H, W) of dense labels before ``labels``.
        """
        ...

    def at_size(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Return a network's logits as (B, K, H, W) float32 at a size that ``at_labels`` gave."""
        ...

    def labels(self, label_BHW: Tensor) -> Tensor:
        """Return the labels that are compared."""
        ...

    def at_label_size(self, weight_BHW: Tensor) -> Tensor:
        """Return what a label counts, by what the pixels of the input count."""
        ...

    def as_regions(self, x_BXhw: Tensor) -> Tensor:
        """Return logits (B, K, h, w) or weights (B, h, w) so that regions are what is pooled."""
        ...

    def label_weights(self, active_BHW: Tensor, config: LossConfig) -> Tensor:
        """Return what every label that is compared counts, float32."""
        ...

    def score(
        self,
        predict: Predict,
        windows: Iterable[LabelledWindow],
        classes: ClassTable,
        *,
        activity_radius_px: int,
    ) -> Result:
        """Count predictions against labels."""
        ...

    def mask(self, logits_KHW: Logits, *, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Return (H, W) class ids to be drawn beside an input."""
        ...

    def panels(
        self,
        predict: Predict,
        windows: Iterable[LabelledWindow],
        classes: ClassTable,
        *,
        kind: str,
        activity_radius_px: int,
    ) -> Panel:
        """Return rows of images of windows and what is predicted of them."""
        ...


class Segmentation:
    """One class a pixel.

    Args:
        stride: losses look at every such row and column. Networks answer at a quarter of the size,
            so neighbouring labels say nearly the same, and 2 saves three quarters of the work.
    """

    name: TaskName = "segmentation"
    score_name = "mIoU near events"
    pools_samples = False

    def __init__(self, stride: int = 1) -> None:
        self._stride = stride

    def at_labels(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Enlarge bilinearly."""
        return self.at_size(logits, (size[0] // self._stride, size[1] // self._stride))

    def at_size(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Enlarge bilinearly."""
        if tuple(logits.shape[2:]) == tuple(size):
            return logits.float()
        return F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)

    def labels(self, label_BHW: Tensor) -> Tensor:
        """Return every ``stride``-th row and column, from the middle of the first square on."""
        if self._stride == 1:
            return label_BHW
        height, width = (n // self._stride * self._stride for n in label_BHW.shape[1:])
        picked = slice(self._stride // 2, None, self._stride)
        return label_BHW[:, :height, :width][:, picked, picked]

    def at_label_size(self, weight_BHW: Tensor) -> Tensor:
        """Return the weights of the labels that are compared."""
        return self.labels(weight_BHW)

    def as_regions(self, x_BXhw: Tensor) -> Tensor:
        """Return it as it is: the pixels of an image are pooled."""
        return x_BXhw

    def label_weights(self, active_BHW: Tensor, config: LossConfig) -> Tensor:
        """Return 1 near an event, ``inactive_weight`` elsewhere."""
        return self.labels(pixel_weights(active_BHW, config))

    def score(
        self,
        predict: Predict,
        windows: Iterable[LabelledWindow],
        classes: ClassTable,
        *,
        activity_radius_px: int,
    ) -> Result:
        """Return IoU and its kin, everywhere and near events."""
        return score_windows(predict, windows, classes, activity_radius_px=activity_radius_px)

    def mask(self, logits_KHW: Logits, *, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Return the class of every pixel."""
        return predict_mask(logits_KHW, height=size[0], width=size[1])

    def panels(
        self,
        predict: Predict,
        windows: Iterable[LabelledWindow],
        classes: ClassTable,
        *,
        kind: str,
        activity_radius_px: int,
    ) -> Panel:
        """Return a row a window: input, labels, prediction; all of one size."""
        rows: Panel = []
        for window in windows:
            if rows and rows[0][0].shape[:2] != window.label.shape:
                continue
            mask = self.mask(predict(window.sequence), size=window.label.shape)
            rows.append(
                panel_row(window, mask, classes, kind=kind, activity_radius_px=activity_radius_px)
            )
        return rows


class Recognition:
    """One class a window."""

    name: TaskName = "recognition"
    score_name = "top-1"
    pools_samples = True

    def at_labels(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Return (B, K, 1, 1): the size of the input does not matter."""
        return self.at_size(logits, size)

    def at_size(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Return (B, K, 1, 1)."""
        del size
        return logits.float()[:, :, None, None]

    def labels(self, label_BHW: Tensor) -> Tensor:
        """Return the labels: one a window."""
        return label_BHW

    def at_label_size(self, weight_BHW: Tensor) -> Tensor:
        """Return (B, 1, 1): a window counts as much as its weightiest pixel."""
        return weight_BHW.amax((1, 2), keepdim=True)

    def as_regions(self, x_BXhw: Tensor) -> Tensor:
        """Return (1, K, B, 1) or (1, B, 1): the images of a batch are pooled.

        Pooling the one pixel of an image would make the matching of distributions the same as KD.
        """
        return x_BXhw.transpose(0, -2)

    def label_weights(self, active_BHW: Tensor, config: LossConfig) -> Tensor:
        """Return (B, 1, 1) ones."""
        del config
        return torch.ones(len(active_BHW), 1, 1)

    def score(
        self,
        predict: Predict,
        windows: Iterable[LabelledWindow],
        classes: ClassTable,
        *,
        activity_radius_px: int,
    ) -> Result:
        """Return top-1 and accuracy of every class."""
        del activity_radius_px
        return score_recognition(predict, windows, classes)

    def mask(self, logits_KHW: Logits, *, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Return the class on every pixel."""
        return np.full(size, int(np.argmax(logits_KHW.reshape(-1))), np.uint8)

    def panels(
        self,
        predict: Predict,
        windows: Iterable[LabelledWindow],
        classes: ClassTable,
        *,
        kind: str,
        activity_radius_px: int,
    ) -> Panel:
        """Return one row of inputs in green (recognised) and orange frames."""
        del classes, activity_radius_px
        row = []
        for window in windows:
            guess = int(np.argmax(predict(window.sequence)))
            picture = input_picture(window.input, kind)
            row.append(caption_picture(picture, int(window.label[0, 0]), guess))
        return [[p for p in row if p.shape == row[0].shape]] if row else []


def task_of(network: str, *, label_stride: int = 1) -> Task:
    """Return the task of a network by its name.

    Args:
        network: its name.
        label_stride: of ``LossConfig``.

    Raises:
        ConfigError: no network has this name, or a stride for recognition.
    """
    if network_task(network) == "segmentation":
        return Segmentation(label_stride)
    if label_stride != 1:
        raise ConfigError(
            f"loss.label_stride is for dense labels; {network} recognises: leave it at 1"
        )
    return Recognition()


def instance_targets_of(
    batch: Batch, maps: InstanceMaps, classes: ClassTable, config: LossConfig
) -> InstanceTargets:
    """Return what the instance maps of a batch should say, on the device of the maps.

    Args:
        batch: on the CPU; nothing counts in samples that do not know their instances.
        maps: what the network says.
        classes: says which are things.
        config: what a pixel counts.
    """
    label = batch.label
    instances = torch.full_like(label, -1) if batch.instances is None else batch.instances
    height, width = maps.centre.shape[2:]
    found = instance_targets(
        instances,
        label,
        pixel_weights(batch.active, config),
        size=(height, width),
        thing_ids=classes.thing_ids,
        excluded_BK=batch.excluded,
    )
    return found.to(maps.centre.device)


def pixel_weights(active: torch.Tensor, config: LossConfig) -> torch.Tensor:
    """Return what every pixel counts: 1 near an event, ``inactive_weight`` elsewhere.

    Args:
        active: (B, H, W) uint8, 1 where an event fired.
        config: radius and weight.

    Returns:
        (B, H, W) float32.
    """
    near = np.stack([near_events(a, config.activity_radius_px) for a in active.numpy()])
    weight = np.where(near, np.float32(1.0), np.float32(config.inactive_weight))
    return torch.from_numpy(weight)
