"""What an instance head learns: where things have their centres, and how far each cell is from it.

Shape letters: B batch, H and W the size of the labels, h and w that of the maps, T all things of
the batch.

Targets stand at the cells of the maps: no map is enlarged, and the cells are those that grouping
works on later. The centre of a thing is the mean of its visible pixels (docs/adr/0028).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import IGNORE, OTHER
from evdistill_core.models.joined import joined_sums
from evdistill_core.models.network import InstanceMaps

HEAT_SHARE = 0.12  # standard deviation of a thing's heat, of the root of its area ...
HEAT_PX = (3.0, 20.0)  # ... within these limits, pixels of the input
SEEN_SHARE = 0.05  # a thing whose cells are near events to this share counts fully
SMALLEST_PX = 8.0  # of the size that offsets are measured in
OFFSET_UNIT_PX = 32.0  # of the imitation, which knows no sizes: about that of a thing
FOCAL_POWER = 2  # of the error of a cell
NEAR_CENTRE_POWER = 4  # how fast cells near a centre count less


@dataclass(frozen=True)
class InstanceTargets:
    """What the maps of an instance head should say.

    Attributes:
        heat_Bhw: 0..1, 1 at the cell that holds the centre of a thing.
        heat_weight_Bhw: >= 0, what a cell counts for the heat.
        offset_px_B2hw: x first, from the middle of a cell to the centre of its thing, in pixels of
            the input; 0 where there is no thing.
        offset_weight_Bhw: >= 0, 0 outside of things.
        size_px_Bhw: root of the visible area of the thing of a cell, at least ``SMALLEST_PX``.
    """

    heat_Bhw: Tensor
    heat_weight_Bhw: Tensor
    offset_px_B2hw: Tensor
    offset_weight_Bhw: Tensor
    size_px_Bhw: Tensor

    def to(self, device: torch.device) -> InstanceTargets:
        """Return them on a device."""
        return InstanceTargets(*(getattr(self, f.name).to(device) for f in fields(self)))


def instance_targets(  # noqa: PLR0913 - labels, and how they are read
    instances_BHW: Tensor,
    label_BHW: Tensor,
    weight_BHW: Tensor,
    *,
    size: tuple[int, int],
    thing_ids: tuple[int, ...],
    excluded_BK: Tensor | None = None,
) -> InstanceTargets:
    """Return targets and weights for maps of a size.

    A cell of a thing counts for the offsets as much as its pixel does. For the heat, all cells of a
    thing count fully if a twentieth of them is near events, even those inside of it that send
    none: its centre is often one of them. Cells of a thing that sends nothing, and cells of no
    thing, count as their pixels do. Where nobody knows whether there is a thing (the label 255, the
    label 254 where not all thing classes are excluded, an instance of -1), nothing counts.

    Args:
        instances_BHW: int64, number of the thing that a pixel shows, 0: no thing, -1: nobody knows.
        label_BHW: int64, class ids, 255, or 254 ("none of ``excluded_BK``").
        weight_BHW: float >= 0, what a pixel counts.
        size: (h, w) of the maps; H and W are multiples of h and w.
        thing_ids: ids of the thing classes.
        excluded_BK: bool, the classes that pixels of the value 254 are not of.

    Raises:
        ConfigError: the shapes do not fit.
    """
    shape = tuple(instances_BHW.shape)
    if tuple(label_BHW.shape) != shape or tuple(weight_BHW.shape) != shape:
        raise ConfigError(
            f"instances, labels and weights must have one shape, got {shape}, "
            f"{tuple(label_BHW.shape)} and {tuple(weight_BHW.shape)}"
        )
    stride = shape[1] // size[0]
    if (size[0] * stride, size[1] * stride) != shape[1:]:
        raise ConfigError(f"maps of {size} cells do not divide labels of {shape[1:]} pixels")
    things = _Things.of(instances_BHW)
    # The pixel of a cell is the one right below its middle.
    pick = slice(stride // 2, None, stride)
    thing_Bhw, label_Bhw = things.index_BHW[:, pick, pick], label_BHW[:, pick, pick]
    weight_Bhw = weight_BHW[:, pick, pick].float()
    unknown_Bhw = (label_Bhw == IGNORE) | (instances_BHW[:, pick, pick] < 0)
    unknown_Bhw |= (label_Bhw == OTHER) & ~_rules_out(thing_ids, excluded_BK, label_Bhw)

    is_thing_Bhw = thing_Bhw >= 0
    safe_Bhw = thing_Bhw.clamp_min(0)
    centre_T2, size_T = things.centre_T2, things.size_T
    if len(size_T) == 0:
        centre_T2, size_T = centre_T2.new_zeros(1, 2), size_T.new_full((1,), SMALLEST_PX)
    middle_px = [
        (torch.arange(n, device=weight_Bhw.device) + 0.5) * stride - 0.5 for n in (size[1], size[0])
    ]
    columns, rows = middle_px[0][None, :].expand(size), middle_px[1][:, None].expand(size)
    to_centre = centre_T2[safe_Bhw].permute(0, 3, 1, 2) - torch.stack([columns, rows])
    seen_T = _share(thing_Bhw, (weight_Bhw >= 1).float(), len(size_T)) >= SEEN_SHARE
    heat_weight = torch.where(is_thing_Bhw & seen_T[safe_Bhw], 1.0, weight_Bhw)
    known = (~unknown_Bhw).float()
    return InstanceTargets(
        things.heat(size, stride, shape[0]),
        heat_weight * known,
        to_centre * is_thing_Bhw[:, None],
        weight_Bhw * is_thing_Bhw * known,
        torch.where(is_thing_Bhw, size_T[safe_Bhw], SMALLEST_PX),
    )


@dataclass(frozen=True)
class _Things:
    """All things of a batch in a row.

    Attributes:
        index_BHW: place of a pixel's thing in the row, -1: no thing.
        sample_T: which sample a thing is of.
        centre_T2: x and y of the mean of its pixels.
        size_T: root of its area.
    """

    index_BHW: Tensor
    sample_T: Tensor
    centre_T2: Tensor
    size_T: Tensor

    @staticmethod
    def of(instances_BHW: Tensor) -> _Things:
        batch, height, width = instances_BHW.shape
        device = instances_BHW.device
        most = max(0, int(instances_BHW.max())) + 1
        sample = torch.arange(batch, device=device)[:, None, None]
        is_thing = instances_BHW > 0
        key = torch.where(is_thing, sample * most + instances_BHW, 0).flatten()
        count = torch.bincount(key, minlength=batch * most)
        count[0] = 0  # what is no thing
        used = count.nonzero()[:, 0]
        place = torch.full_like(count, -1)
        place[used] = torch.arange(len(used), device=device)
        x = torch.arange(width, device=device, dtype=torch.float64).expand(batch, height, width)
        y = torch.arange(height, device=device, dtype=torch.float64)[:, None].expand_as(x)
        sums = [torch.bincount(key, v.flatten(), batch * most)[used] for v in (x, y)]
        centre = torch.stack(sums, 1) / count[used, None].clamp_min(1)
        size = count[used].double().sqrt().clamp_min(SMALLEST_PX)
        index = torch.where(is_thing, place[key].view_as(instances_BHW), -1)
        return _Things(index, used // most, centre.float(), size.float())

    def heat(self, size: tuple[int, int], stride: int, batch: int) -> Tensor:
        """Return the largest of the Gaussians of the things of each sample, (B, h, w)."""
        device = self.index_BHW.device
        heat_Bhw = torch.zeros(batch, *size, device=device)
        if not len(self.size_T):
            return heat_Bhw
        sigma_T = (HEAT_SHARE * self.size_T).clamp(*HEAT_PX) / stride
        # Cells count from 0; the centre is put on the cell that holds it, where the heat is 1.
        along = []
        for axis, cells in enumerate((size[1], size[0])):
            cell_T = ((self.centre_T2[:, axis] + 0.5) / stride).floor()
            away = torch.arange(cells, device=device) - cell_T[:, None]
            along.append(torch.exp(-0.5 * (away / sigma_T[:, None]) ** 2))
        heat_Thw = along[1][:, :, None] * along[0][:, None, :]
        for sample in set(self.sample_T.tolist()):
            heat_Bhw[sample] = heat_Thw[self.sample_T == sample].amax(0)
        return heat_Bhw


def _share(thing_Bhw: Tensor, value_Bhw: Tensor, count: int) -> Tensor:
    """Return the mean of a value over the cells of each thing, (T,); 0 of things without cells."""
    cells, values = thing_Bhw[thing_Bhw >= 0], value_Bhw[thing_Bhw >= 0]
    total = torch.bincount(cells, minlength=count)
    return torch.bincount(cells, values, count) / total.clamp_min(1)


def _rules_out(thing_ids: tuple[int, ...], excluded_BK: Tensor | None, label_Bhw: Tensor) -> Tensor:
    """Return where the label 254 says that there is no thing: all thing classes are excluded."""
    if excluded_BK is None or not thing_ids:
        return torch.zeros_like(label_Bhw, dtype=torch.bool)
    return excluded_BK[:, list(thing_ids)].all(1)[:, None, None].expand_as(label_Bhw)


def centre(maps: InstanceMaps, targets: InstanceTargets) -> Tensor:
    """Return the focal loss of the centre heat map, nats a centre.

    The cell that holds a centre is the positive, all others are negatives, which count less the
    hotter their target is. The sum is divided by the weight of all centres, at least 1: windows
    without things teach that there are none.

    Source:
        Law and Deng, CornerNet, ECCV 2018, eq. 1 (alpha 2, beta 4); Zhou et al., Objects as
        Points, 2019. Differs: cells have weights.
    """
    logit = maps.centre[:, 0].float()
    heat, weight = targets.heat_Bhw, targets.heat_weight_Bhw
    is_centre = (heat >= 1).float()
    p = logit.sigmoid()
    found = (1 - p) ** FOCAL_POWER * F.softplus(-logit) * is_centre
    wrong = p**FOCAL_POWER * F.softplus(logit) * (1 - heat) ** NEAR_CENTRE_POWER
    value, centres = joined_sums(((found + wrong) * weight).sum(), (is_centre * weight).sum())
    return value / centres.clamp_min(1.0)


def offset(maps: InstanceMaps, targets: InstanceTargets) -> Tensor:
    """Return the error of the offsets, in sizes of the thing: mean over the cells of things.

    The error of a cell is |dx| + |dy| over the root of the thing's area, so that a near person does
    not outweigh ten far cars. Zero, with a gradient, where no cell counts.

    Source:
        Cheng et al., Panoptic-DeepLab, CVPR 2020 (L1); division by the size is ours.
    """
    error = (maps.offset_px.float() - targets.offset_px_B2hw).abs().sum(1) / targets.size_px_Bhw
    weight = targets.offset_weight_Bhw
    value, total = joined_sums((error * weight).sum(), weight.sum())
    return value / total.clamp_min(1e-6)


def nearest(x_BHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Return what stands at the middles of cells: weights of pixels as weights of cells."""
    return F.interpolate(x_BHW[:, None].float(), size=size, mode="nearest-exact")[:, 0]


def instance_kd(
    maps: InstanceMaps, teacher: InstanceMaps, weight_Bhw: Tensor, thing_Bhw: Tensor
) -> Tensor:
    """Return how far the maps of a student are from those of a teacher.

    The sum of two weighted means: KL(teacher || student) of the heat of a cell, in nats; and
    |dx| + |dy| of the offsets over ``OFFSET_UNIT_PX``, where the teacher sees things.

    Args:
        maps: of the student; the gradient flows here only.
        teacher: of the teacher, of the same size; detached inside.
        weight_Bhw: >= 0, what a cell counts.
        thing_Bhw: 0..1, the probability that the teacher gives to thing classes.

    Raises:
        ConfigError: the maps differ in size.
    """
    if maps.centre.shape != teacher.centre.shape:
        raise ConfigError(
            f"instance maps of teacher and student must have one size, got "
            f"{tuple(teacher.centre.shape[2:])} and {tuple(maps.centre.shape[2:])}"
        )
    logit, truth = maps.centre[:, 0].float(), teacher.centre[:, 0].float().detach()
    p = truth.sigmoid()
    apart = p * (F.logsigmoid(truth) - F.logsigmoid(logit))
    apart = apart + (1 - p) * (F.logsigmoid(-truth) - F.logsigmoid(-logit))
    error = (maps.offset_px.float() - teacher.offset_px.float().detach()).abs().sum(1)
    on_things = weight_Bhw * thing_Bhw.detach()
    heat, heat_total, away, away_total = joined_sums(
        (apart * weight_Bhw).sum(),
        weight_Bhw.sum(),
        (error * on_things).sum() / OFFSET_UNIT_PX,
        on_things.sum(),
    )
    return heat / heat_total.clamp_min(1e-6) + away / away_total.clamp_min(1e-6)
