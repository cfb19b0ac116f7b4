"""Knowledge distillation on class posteriors: per pixel, per image, per region, and mutual.

Shape letters: B batch, K classes of the student, T classes of the teacher, H and W the size of
the logits. Every function works on whole images (B, K) too: recognition uses the same losses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.losses.divergence import (
    SMALLEST_WEIGHT_SUM,
    kl_divergence,
    log_posterior,
    merge_log_posterior,
    weighted_mean,
)


def posterior_kd(
    student_BKX: Tensor,
    teacher_BTX: Tensor,
    weight_BX: Tensor | None = None,
    *,
    temperature: float = 1.0,
    class_map: Sequence[int] | None = None,
) -> Tensor:
    """Return tau^2 KL(teacher || student), the weighted mean over pixels (or images).

    L_KD = tau^2 sum_x w_x KL(softmax(t_x / tau) || softmax(s_x / tau)) / sum_x w_x

    Args:
        student_BKX: logits, (B, K, H, W) or (B, K) for recognition; the gradient flows here only.
        teacher_BTX: logits of the same size; detached inside.
        weight_BX: >= 0, what a pixel counts: valid mask times confidence times activity. None: 1.
        temperature: softening tau, above 0.
        class_map: student class by teacher class (255: none) where the class sets differ;
            posteriors are summed before they are compared. None: T = K, same classes.

    Returns:
        Scalar, nats. Zero when both agree, and zero with a gradient when no pixel counts.

    Raises:
        ConfigError: shapes that do not fit, a temperature not above 0, a class map that is none.

    Source:
        L_KD of EvDistill ([abstract]: pixel-wise KD; [release]: weight 20). tau^2 after Hinton et
        al., 2015, sec. 2. Differs: the code family that the release's option names come from sums
        over the batch and minimises the cross entropy, which is the KL plus the teacher's entropy;
        we average, so that the weight does not depend on the batch size, and subtract the entropy,
        so that agreement is zero. At batch 32 their weight 20 is our 640. Weights, temperature
        and class map are ours.
    """
    teacher = log_posterior(teacher_BTX.detach(), temperature=temperature)
    if class_map is not None:
        teacher = merge_log_posterior(teacher, class_map, num_classes=student_BKX.shape[1])
    student = log_posterior(student_BKX, temperature=temperature)
    return temperature**2 * weighted_mean(kl_divergence(teacher, student), weight_BX)


def distribution_matching(
    student_BKHW: Tensor,
    teacher_BTHW: Tensor,
    weight_BHW: Tensor | None = None,
    *,
    cells: int = 1,
    class_map: Sequence[int] | None = None,
) -> Tensor:
    """Return KL(teacher || student) of class posteriors that are pooled over regions first.

    L_DA = mean_r KL(mean_{x in r} p_T(x) || mean_{x in r} p_S(x)), r one of ``cells`` x ``cells``
    regions: both modalities must show the same share of road, of sky, ... in a region, whatever
    the exact pixel.

    Args:
        student_BKHW: logits; the gradient flows here only. Batch 1 and single pixels work.
        teacher_BTHW: logits of the same size; detached inside.
        weight_BHW: >= 0, what a pixel adds to its region's mean; a region without any weight is
            left out. None: all 1.
        cells: regions per axis; 1 pools the whole image.
        class_map: see ``posterior_kd``.

    Returns:
        Scalar, nats per region. Zero when the pooled posteriors agree; zero with a gradient when
        no pixel counts.

    Raises:
        ConfigError: shapes that do not fit, or cells below 1.

    Source:
        L_DA of EvDistill: that class distributions of the two sides are matched is [abstract];
        pooling, regions and KL are a [choice] of ours, no public text fixes the form.
    """
    if cells < 1:
        raise ConfigError(f"cells must be at least 1, got {cells}")
    teacher = log_posterior(teacher_BTHW.detach())
    if class_map is not None:
        teacher = merge_log_posterior(teacher, class_map, num_classes=student_BKHW.shape[1])
    if teacher.shape != student_BKHW.shape:
        raise ConfigError(
            f"teacher and student must have one shape, got {tuple(teacher.shape)} and "
            f"{tuple(student_BKHW.shape)}"
        )
    weight = (teacher.new_ones(teacher[:, 0].shape) if weight_BHW is None else weight_BHW.float())[
        :, None
    ]
    mass = F.adaptive_avg_pool2d(weight, cells)
    pooled = [
        # Renormalised by the mass of weights; the floor keeps log and its gradient finite.
        (F.adaptive_avg_pool2d(p * weight, cells) / mass.clamp_min(SMALLEST_WEIGHT_SUM))
        .clamp_min(1e-8)
        .log()
        for p in (teacher.exp(), log_posterior(student_BKHW).exp())
    ]
    return weighted_mean(kl_divergence(*pooled), (mass[:, 0] > 0).float())


def mutual_distillation(
    event_BKX: Tensor, frame_BKX: Tensor, weight_BX: Tensor | None = None
) -> Tensor:
    """Return KL(p_e || stop(p_a)) + KL(p_a || stop(p_e)), the weighted mean over pixels.

    Two students, one on events and one on the paired APS frame, pull each other. In each summand
    only the student named first moves.

    Args:
        event_BKX: logits of the event student, (B, K, H, W) or (B, K).
        frame_BKX: logits of the frame student, same shape.
        weight_BX: >= 0, what a pixel counts; None: all 1.

    Returns:
        Scalar, nats. Zero when both agree, zero with a gradient when no pixel counts.

    Raises:
        ConfigError: the shapes differ.

    Source:
        L_MD of EvDistill, where paired frames exist ([note]; [release]: an option of that name,
        off). Differs from deep mutual learning (Zhang et al., CVPR 2018), whose moving side is the
        second argument of the KL.
    """
    event, frame = log_posterior(event_BKX), log_posterior(frame_BKX)
    apart = kl_divergence(event, frame.detach()) + kl_divergence(frame, event.detach())
    return weighted_mean(apart, weight_BX)
