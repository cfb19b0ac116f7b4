"""Affinity-graph distillation: alike places stay alike, whatever the features mean.

Shape letters: B batch, C and D feature widths of student and teacher, N nodes, H and W a feature
map. Only similarities between places are compared, so the two networks need no common feature
space, width or resolution.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.losses.divergence import weighted_mean
from evdistill_core.models.joined import joined_draw, joined_mean

Norm = Literal["l1", "l2"]


def scaled_nodes(features_BCHW: Tensor, pool_scale: float) -> Tensor:
    """Return nodes (B, C, N): the maximum over windows of ``pool_scale`` of the map's size.

    Windows of int(H s) x int(W s) side by side, the last one cut at the border: s = 0.8 gives 2x2
    nodes, one large and three thin ones.

    Raises:
        ConfigError: pool_scale outside 0 < s <= 1.

    Source:
        [release]: pool_scale 0.8. Maximum and cut windows as in the code family of that option.
    """
    if not 0 < pool_scale <= 1:
        raise ConfigError(f"pool_scale must lie above 0 and at most at 1, got {pool_scale}")
    height, width = features_BCHW.shape[2:]
    window = (max(1, int(height * pool_scale)), max(1, int(width * pool_scale)))
    return F.max_pool2d(features_BCHW, window, window, ceil_mode=True).flatten(2)


def grid_nodes(features_BCHW: Tensor, nodes: int) -> Tensor:
    """Return nodes (B, C, N) with N = ``nodes`` squared: means over a regular grid.

    Raises:
        ConfigError: nodes below 1.

    Source:
        Ours. A dense graph is reported to be worth +2.2 mIoU on DDD17 in a later, paired setting
        (ScaleEvent, CVPR 2026), where 2x2 nodes are a very weak term.
    """
    if nodes < 1:
        raise ConfigError(f"nodes must be at least 1, got {nodes}")
    return F.adaptive_avg_pool2d(features_BCHW, nodes).flatten(2)


def event_nodes(
    student_BCHW: Tensor, teacher_BDhw: Tensor, active_BHW: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same cells of two feature maps, drawn where events are.

    A cell is one of the student's feature map; the teacher's map is brought to that size. Cells
    with an event are drawn first, others only fill up where there are too few. Those weigh 0.

    Args:
        student_BCHW: the student's features of events.
        teacher_BDhw: the teacher's features of the image of the same moment; any width and size.
        active_BHW: above 0 where a pixel has an event, at any size.
        count: most cells of a sample.

    Returns:
        Student nodes (B, C, N), teacher nodes (B, D, N) and weights (B, N) of 0 or 1, where N is
        ``count`` or the number of cells, whichever is less.

    Raises:
        ConfigError: count below 1.

    Source:
        Ours. That pairwise relations of features of a paired frame help more than the features
        themselves is reported by ScaleEvent (CVPR 2026); taking them where events are is a
        [choice]: elsewhere the student has seen nothing that it could relate.
    """
    if count < 1:
        raise ConfigError(f"count must be at least 1, got {count}")
    samples, size = len(student_BCHW), student_BCHW.shape[2:]
    teacher_BDHW = F.interpolate(teacher_BDhw, size=size, mode="bilinear", align_corners=False)
    lit_BX = (F.adaptive_max_pool2d(active_BHW[:, None].float(), size) > 0).flatten(1)
    cells = lit_BX.shape[1]
    draw_BX = joined_draw(lambda n: torch.rand(n, cells), samples).to(lit_BX.device)
    drawn_BN = (lit_BX + draw_BX).topk(min(count, cells), dim=1).indices

    def taken(features_BXHW: Tensor) -> Tensor:
        flat = features_BXHW.flatten(2)
        return flat.gather(2, drawn_BN[:, None].expand(-1, flat.shape[1], -1))

    return taken(student_BCHW), taken(teacher_BDHW), lit_BX.gather(1, drawn_BN).float()


def batch_nodes(features_BC: Tensor) -> Tensor:
    """Return nodes (1, C, N = B) for recognition: every image of a batch is one node.

    Source:
        Ours; relations between samples, as in relational KD (Park et al., CVPR 2019).
    """
    return features_BC.flatten(1).T[None]


def cosine_affinity(nodes_BCN: Tensor) -> Tensor:
    """Return (B, N, N) cosine similarities; a zero node is similar to nothing."""
    unit = F.normalize(nodes_BCN.float(), dim=1, eps=1e-6)
    return unit.transpose(1, 2) @ unit


def affinity_kd(
    student_BCN: Tensor,
    teacher_BDN: Tensor,
    weight_BN: Tensor | None = None,
    *,
    norm: Norm = "l2",
) -> Tensor:
    """Return how far the student's similarities between places are from the teacher's.

    L_AG = mean_{b, i, j} |cos_ij(T) - cos_ij(S)|^n, n = 2 (``l2``) or 1 (``l1``); with weights a
    pair counts w_i w_j.

    Args:
        student_BCN: nodes from ``scaled_nodes``, ``grid_nodes``, ``event_nodes`` or
            ``batch_nodes``; the gradient flows here only.
        teacher_BDN: as many nodes, any width; detached inside.
        weight_BN: >= 0, what a node counts; None: all 1.
        norm: square or absolute difference.

    Returns:
        Scalar, 0..4 (``l2``) or 0..2 (``l1``). Zero when the graphs are equal, as with one node.

    Raises:
        ConfigError: batch or number of nodes differ.

    Source:
        L_AG of EvDistill: similarity between locations instead of features is [abstract], the
        weight 0.1 [release]. Graph and norm are named by the profile.
    """
    if student_BCN.shape[0] != teacher_BDN.shape[0] or student_BCN.shape[2] != teacher_BDN.shape[2]:
        raise ConfigError(
            f"two affinity graphs need one batch and as many nodes, got {tuple(student_BCN.shape)} "
            f"and {tuple(teacher_BDN.shape)}"
        )
    apart = cosine_affinity(student_BCN) - cosine_affinity(teacher_BDN.detach())
    apart = apart.abs() if norm == "l1" else apart.square()
    if weight_BN is None:
        return joined_mean(apart)
    return weighted_mean(apart, weight_BN[:, :, None] * weight_BN[:, None, :])
