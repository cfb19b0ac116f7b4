"""Supervised segmentation losses on dense labels.

Shape letters: B batch, K classes, H and W the size of the labels. Every function takes the same
batch, so that a configuration can mix them by name, and every one is zero (with a gradient) when
no pixel counts.

A pixel of the value 254 is known to be of none of some classes (``excluded_BK``), and not of which
of the others. ``cross_entropy`` and ``dice`` learn from it, ``lovasz`` and ``boundary`` ignore it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import IGNORE, OTHER
from evdistill_core.foundation.suggestions import did_you_mean
from evdistill_core.losses.instances import InstanceTargets, centre, offset
from evdistill_core.models.joined import joined_gather, joined_sums
from evdistill_core.models.network import InstanceMaps

DICE_SMOOTH = 1.0  # pixels added to both sides of the ratio: a class that is absent costs nothing


@dataclass(frozen=True)
class SegmentationBatch:
    """What the supervised losses look at.

    Attributes:
        logits_BKHW: float, the network's output at the size of the labels.
        target_BHW: int64, class ids below K, 255 where the pixel is ignored, or 254 where it is of
            none of the excluded classes of its sample.
        weight_BHW: float >= 0, what a pixel counts; 0 is the same as ignored.
        class_weight_K: float >= 0, what a class counts.
        excluded_BK: bool, True for the classes that a pixel of the value 254 is not of. Where a row
            excludes no class or all of them, such pixels are ignored; None: in all samples.
        instances: what the instance head says and should say; None: there is no head.
    """

    logits_BKHW: torch.Tensor
    target_BHW: torch.Tensor
    weight_BHW: torch.Tensor
    class_weight_K: torch.Tensor
    excluded_BK: torch.Tensor | None = None
    instances: tuple[InstanceMaps, InstanceTargets] | None = None

    def __post_init__(self) -> None:
        """Refuse tensors that do not belong together."""
        batch, classes, height, width = self.logits_BKHW.shape
        for name, tensor in (("target", self.target_BHW), ("weight", self.weight_BHW)):
            if tuple(tensor.shape) != (batch, height, width):
                raise ConfigError(
                    f"{name} must have shape {(batch, height, width)} like the logits, "
                    f"got {tuple(tensor.shape)}"
                )
        if tuple(self.class_weight_K.shape) != (classes,):
            raise ConfigError(
                f"class weights must be {classes} values, got {tuple(self.class_weight_K.shape)}"
            )
        if self.excluded_BK is not None and tuple(self.excluded_BK.shape) != (batch, classes):
            raise ConfigError(
                f"excluded classes must have shape {(batch, classes)}, got "
                f"{tuple(self.excluded_BK.shape)}"
            )

    @property
    def has_class(self) -> torch.Tensor:
        """Where the class of a pixel is known, (B, H, W) bool."""
        return (self.target_BHW != IGNORE) & (self.target_BHW != OTHER)

    @property
    def ruled_out(self) -> torch.Tensor | None:
        """``excluded_BK``, all False in rows that exclude every class, which no pixel can be."""
        if self.excluded_BK is None:
            return None
        return self.excluded_BK & ~self.excluded_BK.all(1, keepdim=True)

    def pixel_weight(self) -> torch.Tensor:
        """Return the product of pixel and class weight, 0 on ignored pixels.

        A pixel of the value 254 counts as much as the classes that it may be of do on average.
        """
        known = self.has_class
        by_class = self.class_weight_K[torch.where(known, self.target_BHW, 0)] * known
        ruled_out_BK = self.ruled_out
        if ruled_out_BK is not None:
            possible_BK = (~ruled_out_BK).to(by_class.dtype)
            mean_B = possible_BK @ self.class_weight_K / possible_BK.sum(1)
            mean_B = mean_B * ruled_out_BK.any(1)
            by_class = by_class + mean_B[:, None, None] * (self.target_BHW == OTHER)
        return self.weight_BHW * by_class


def cross_entropy(batch: SegmentationBatch) -> torch.Tensor:
    """Return the weighted mean of -log of what softmax gives to the truth, nats per pixel.

    The sum over pixels of weight x class weight x -log p(true class), divided by the sum of the
    weights. Zero where no pixel counts. Where the truth is "none of these classes", its probability
    is that of all other classes together.

    Source:
        Standard. Differs from ``torch.nn.functional.cross_entropy`` in the pixel weights, and in
        being 0 instead of NaN when everything is ignored. The sum over the classes that are
        possible is the usual likelihood of a set of labels (Cour et al., Learning from Partial
        Labels, JMLR 2011, use it in another form).
    """
    logits_BKHW = batch.logits_BKHW.float()
    weight = batch.pixel_weight()
    target = torch.where(batch.has_class, batch.target_BHW, 0)
    nats = F.cross_entropy(logits_BKHW, target, reduction="none")
    ruled_out_BK = batch.ruled_out
    if ruled_out_BK is not None:
        possible = logits_BKHW.masked_fill(ruled_out_BK[:, :, None, None], -torch.inf)
        not_these = logits_BKHW.logsumexp(1) - possible.logsumexp(1)
        nats = torch.where(batch.target_BHW == OTHER, not_these, nats)
    value, total = joined_sums((nats * weight).sum(), weight.sum())
    return value / total.clamp_min(1e-6)


def dice(batch: SegmentationBatch) -> torch.Tensor:
    """Return 1 minus the soft Dice overlap, averaged over the classes present in the batch.

    Dice of a class = (2 sum(p y) + 1) / (sum(p) + sum(y) + 1), summed over the counted pixels of
    the whole batch. Classes without a labelled pixel are left out of the mean. Pixels of the value
    254 count for the excluded classes, with y = 0, and not for the others.

    Source:
        Milletari et al., V-Net, 3DV 2016, eq. 3; differs: no squares in the denominator, one sum
        over the batch instead of one per image, and smoothing by one pixel.
    """
    counted = batch.has_class[:, None]
    ruled_out_BK = batch.ruled_out
    if ruled_out_BK is not None:
        is_other = (batch.target_BHW == OTHER)[:, None]
        counted = counted | (is_other & ruled_out_BK[:, :, None, None])
    probability = batch.logits_BKHW.float().softmax(1) * (counted * batch.weight_BHW[:, None])
    truth = _one_hot(batch) * batch.weight_BHW[:, None]
    dims = (0, 2, 3)
    overlap, guessed, true = joined_sums(
        (probability * truth).sum(dims), probability.sum(dims), truth.sum(dims)
    )
    total = guessed + true
    present = true > 0
    score = (2 * overlap + DICE_SMOOTH) / (total + DICE_SMOOTH)
    return ((1 - score) * present).sum() / present.sum().clamp_min(1)


def lovasz(batch: SegmentationBatch) -> torch.Tensor:
    """Return the Lovasz extension of the Jaccard loss over softmax, mean over present classes.

    Source:
        Berman et al., CVPR 2018, algorithm 1, the "present classes" variant over the whole batch.
        Pixels of weight 0 and of the value 254 are left out; other weights do not scale it (the
        loss has no per-pixel terms).
    """
    # The pixels are put in order, so all of them must be here.
    logits_BKHW, target_BHW, weight_BHW = (
        joined_gather(x)
        for x in (batch.logits_BKHW, batch.target_BHW, batch.weight_BHW * batch.has_class)
    )
    counted = (weight_BHW > 0).flatten()
    probability = logits_BKHW.float().softmax(1).permute(0, 2, 3, 1).flatten(0, 2)[counted]
    target = target_BHW.flatten()[counted]
    terms = []
    for k in torch.unique(target).tolist():
        truth = (target == k).float()
        error, order = (truth - probability[:, k]).abs().sort(descending=True)
        terms.append(error @ _jaccard_gradient(truth[order]))
    if not terms:
        return batch.logits_BKHW.sum() * 0.0
    return torch.stack(terms).mean()


def boundary(batch: SegmentationBatch) -> torch.Tensor:
    """Return the cross entropy of the pixels that touch another class, nats per such pixel.

    A pixel counts when its 3x3 neighbourhood holds a label other than its own; ignored pixels and
    those of the value 254 neither count nor make their neighbours count.

    Source:
        Ours; the common "boundary-weighted cross entropy" with a hard band of one pixel.
    """
    labels = batch.target_BHW.float()
    ignored = ~batch.has_class
    high = F.max_pool2d(labels.masked_fill(ignored, -1.0)[:, None], 3, 1, 1)[:, 0]
    low = -F.max_pool2d((-labels).masked_fill(ignored, -float(IGNORE))[:, None], 3, 1, 1)[:, 0]
    edge = (high != low) & ~ignored
    return cross_entropy(
        SegmentationBatch(
            batch.logits_BKHW, batch.target_BHW, batch.weight_BHW * edge, batch.class_weight_K
        )
    )


def _of_instances(
    loss: Callable[[InstanceMaps, InstanceTargets], torch.Tensor],
) -> Callable[[SegmentationBatch], torch.Tensor]:
    def on_batch(batch: SegmentationBatch) -> torch.Tensor:
        if batch.instances is None:
            raise ConfigError(
                f"the loss {loss.__name__} needs a network with an instance head: set "
                "network.options.instances: true"
            )
        return loss(*batch.instances)

    return on_batch


LOSSES: dict[str, Callable[[SegmentationBatch], torch.Tensor]] = {
    "cross_entropy": cross_entropy,
    "dice": dice,
    "lovasz": lovasz,
    "boundary": boundary,
    "centre": _of_instances(centre),
    "offset": _of_instances(offset),
}
INSTANCE_LOSSES = ("centre", "offset")


def check_names(weights: dict[str, float]) -> None:
    """Refuse a table of weights that names no loss, an unknown one, or a negative weight.

    Raises:
        ConfigError: see above.
    """
    unknown = sorted(set(weights) - set(LOSSES))
    if unknown:
        near = did_you_mean(unknown[0], LOSSES)
        raise ConfigError(f"unknown loss {unknown[0]!r}; known: {', '.join(sorted(LOSSES))}{near}")
    if any(not w >= 0 for w in weights.values()) or not any(weights.values()):
        raise ConfigError(f"loss weights must be >= 0 and one must be above 0, got {weights}")


def weighted_sum(
    batch: SegmentationBatch, weights: dict[str, float]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the sum of weight x loss, and every (unweighted) loss by name.

    Args:
        batch: logits, labels and weights.
        weights: loss name to weight; a loss of weight 0 is not computed.

    Raises:
        ConfigError: an unknown name or a weight that is not a number >= 0.
    """
    check_names(weights)
    terms = {name: LOSSES[name](batch) for name, weight in weights.items() if weight > 0}
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return total, terms


def _one_hot(batch: SegmentationBatch) -> torch.Tensor:
    classes = torch.arange(batch.logits_BKHW.shape[1], device=batch.target_BHW.device)
    return (batch.target_BHW[:, None] == classes[:, None, None]).float()


def _jaccard_gradient(truth_sorted: torch.Tensor) -> torch.Tensor:
    union = truth_sorted.sum() + (1 - truth_sorted).cumsum(0)
    jaccard = 1 - (truth_sorted.sum() - truth_sorted.cumsum(0)) / union
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
