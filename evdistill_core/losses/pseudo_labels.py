"""Pseudo-labels for target windows, and samples mixed with labelled ones. Not in the paper.

Shape letters: B batch, C channels, K classes, H and W the labels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import IGNORE
from evdistill_core.losses.divergence import log_posterior, weighted_mean
from evdistill_core.models.joined import joined_draw


def hybrid_pseudo_labels(
    teacher_log_BKX: Tensor, averaged_log_BKX: Tensor, *, threshold: float
) -> tuple[Tensor, Tensor]:
    """Return labels on which two judges agree or are sure, and what they count.

    The class is that of the mean posterior q = (p_T + p_E) / 2, with p_T the teacher on the
    reconstructed image and p_E the averaged student on the events. It stays where both judges
    name it, or where max q reaches the threshold; elsewhere it is 255. Its weight is max q.

    Args:
        teacher_log_BKX: log posterior over the student's classes.
        averaged_log_BKX: same shape.
        threshold: 0..1; above 1 only agreement counts.

    Returns:
        Labels (B, X) int64 and weights (B, X) float32, 0 where ignored; both without gradient.

    Raises:
        ConfigError: the shapes differ.

    Source:
        Ours. The threshold .968 and the averaged network are those of DAFormer (Hoyer et al., CVPR
        2022), which weighs whole images by their share of sure pixels instead.
    """
    if teacher_log_BKX.shape != averaged_log_BKX.shape:
        raise ConfigError(
            f"two posteriors must have one shape, got {tuple(teacher_log_BKX.shape)} and "
            f"{tuple(averaged_log_BKX.shape)}"
        )
    teacher, averaged = teacher_log_BKX.detach(), averaged_log_BKX.detach()
    sure, label = (0.5 * (teacher.exp() + averaged.exp())).max(1)
    agree = (teacher.argmax(1) == label) & (averaged.argmax(1) == label)
    kept = agree | (sure >= threshold)
    return label.masked_fill(~kept, IGNORE), sure * kept


def averaged_pseudo_labels(averaged_log_BKX: Tensor, *, threshold: float) -> tuple[Tensor, Tensor]:
    """Return what the averaged student alone is sure of: its labels, and what they count.

    The class is that of its posterior; it stays where its probability reaches the threshold and is
    255 elsewhere. A label that stays weighs 1.

    Args:
        averaged_log_BKX: log posterior over the classes.
        threshold: 0..1.

    Returns:
        Labels (B, X) int64 and weights (B, X) float32; both without gradient.

    Source:
        Mean teacher (Tarvainen and Valpola, NeurIPS 2017) with the fixed threshold of FixMatch
        (Sohn et al., NeurIPS 2020): self-training, in which no teacher of images has a say.
    """
    sure, label = averaged_log_BKX.detach().exp().max(1)
    kept = sure >= threshold
    return label.masked_fill(~kept, IGNORE), kept.to(sure.dtype)


def weighted_entropy(logits_BKX: Tensor, weight_BX: Tensor) -> Tensor:
    """Return the mean entropy of posteriors as a share of the largest, log K.

    Args:
        logits_BKX: of the student; the gradient flows here.
        weight_BX: >= 0, what a pixel counts.

    Returns:
        Scalar, 0..1: 0 where the student is sure of everything; zero with a gradient when no pixel
        counts.

    Source:
        Entropy minimisation (Grandvalet and Bengio, NeurIPS 2004). That pixels count by how often
        the target is active there follows EventFly (CVPR 2025); the weight is the caller's.
    """
    log_p = log_posterior(logits_BKX)
    entropy = -(log_p.exp() * log_p).sum(1) / math.log(max(2, logits_BKX.shape[1]))
    return weighted_mean(entropy, weight_BX)


def changed_view(
    x_BCHW: Tensor, *, dropout: float, strength: tuple[float, float], shift_px: int
) -> Tensor:
    """Return windows as another camera or moment might have given them; labels stay.

    Cells of the input are emptied at random in all bins, values are scaled by one factor a window,
    and every window is moved by whole cells, with nothing coming in at its edge.

    Args:
        x_BCHW: inputs of the student.
        dropout: share of the cells that are emptied, 0 <= dropout < 1.
        strength: (low, high) of the factor.
        shift_px: most cells along an axis; above 0 for recognition alone, where a label has no
            place.

    Source:
        Ours. The judge sees the window as it is and the student sees it changed, so that the
        student learns more than to repeat itself (noisy student, FixMatch).
    """
    count, _, height, width = x_BCHW.shape
    kept = joined_draw(lambda n: torch.rand(n, 1, height, width), count) >= dropout
    draw = joined_draw(lambda n: torch.rand(n, 1, 1, 1), count)
    factor = strength[0] + (strength[1] - strength[0]) * draw
    view = x_BCHW * (kept * factor).to(x_BCHW)
    if shift_px == 0:
        return view
    padded = F.pad(view, (shift_px,) * 4)
    places = joined_draw(lambda n: torch.randint(2 * shift_px + 1, (n, 2)), count).tolist()
    return torch.stack(
        [padded[i, :, y : y + height, x : x + width] for i, (y, x) in enumerate(places)]
    )


def class_mix(
    source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor, Tensor], draw_BK: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return target windows with about half of the classes of a source window pasted in.

    Args:
        source: input (B, C, H, W) and labels (B, H, W), ids or 255.
        target: input, pseudo-labels and weights (B, H, W) of the same size.
        draw_BK: uniform in 0..1; a class is pasted where its draw is below one half, and the
            class with the lowest draw among those present always is.

    Returns:
        Input, labels, weights; pasted pixels weigh 1.

    Raises:
        ConfigError: sizes differ.

    Source:
        ClassMix (Olsson et al., WACV 2021), on event inputs: they add up over time, not over
        surfaces, but a pasted region is still one that a sensor could have seen.
    """
    _check_one_size(source, target)
    source_label = source[1]
    classes = torch.arange(draw_BK.shape[1], device=source_label.device)
    is_class_BKHW = source_label[:, None] == classes[:, None, None]
    present_BK = is_class_BKHW.flatten(2).any(2)
    draw_BK = draw_BK.to(source_label.device).masked_fill(~present_BK, 2.0)
    chosen_BK = present_BK & ((draw_BK < 0.5) | (draw_BK == draw_BK.amin(1, keepdim=True)))
    paste_BHW = (is_class_BKHW & chosen_BK[:, :, None, None]).any(1)
    return _pasted(source, target, paste_BHW)


def density_mix(
    source: tuple[Tensor, Tensor],
    target: tuple[Tensor, Tensor, Tensor],
    active: tuple[Tensor, Tensor],
    *,
    regions: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return target windows with regions of source windows where the density of events differs.

    The windows are cut into ``regions`` x ``regions`` rectangles. The density of a rectangle is the
    share of its pixels with an event. Those whose densities differ more than the median rectangle
    of that pair of windows come from the source, with its labels. So at most half of them do.

    Args:
        source: input (B, C, H, W) and labels (B, H, W), ids or 255.
        target: input, pseudo-labels and weights (B, H, W) of the same size.
        active: (B, H, W) of source and target, above 0 where a pixel has an event.
        regions: rectangles along an axis, at least 2.

    Returns:
        Input, labels, weights; pasted pixels weigh 1.

    Raises:
        ConfigError: sizes differ, or there are fewer regions than 2.

    Source:
        After EventFly (CVPR 2025), which blends events of two platforms by the similarity of their
        densities. Rectangles and the median are a [choice]: where target windows are as dense as
        simulated ones they stay, elsewhere a labelled region stands in.
    """
    if regions < 2:
        raise ConfigError(f"regions must be at least 2, got {regions}")
    _check_one_size(source, target)
    size = source[1].shape[1:]
    source_density, target_density = (
        F.adaptive_avg_pool2d((a > 0).float()[:, None], regions) for a in active
    )
    apart_B1RR = (source_density - target_density).abs()
    middle_B = apart_B1RR.flatten(1).median(1).values
    # Equal differences of other shares are not equal in floating point.
    differs_B1RR = (apart_B1RR > middle_B[:, None, None, None] + 1e-6).float()
    paste_BHW = F.interpolate(differs_B1RR, size=size, mode="nearest")[:, 0] > 0
    return _pasted(source, target, paste_BHW)


def _check_one_size(source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor, Tensor]) -> None:
    if source[0].shape != target[0].shape or source[1].shape != target[1].shape:
        raise ConfigError(
            f"windows that are mixed need one size, got {tuple(source[0].shape)} and "
            f"{tuple(target[0].shape)}: give both the same crop"
        )


def _pasted(
    source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor, Tensor], paste_BHW: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    source_input, source_label = source
    target_input, target_label, target_weight = target
    return (
        torch.where(paste_BHW[:, None], source_input, target_input),
        torch.where(paste_BHW, source_label, target_label),
        torch.where(paste_BHW, torch.ones_like(target_weight), target_weight),
    )
