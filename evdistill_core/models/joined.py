"""The joined batch: several processes that train one network, each on its part of every batch.

Inside ``joined_batch`` every process computes the loss of the whole batch, the same number
everywhere: it adds up what the others have (``joined_sums``) and goes on alone. Its gradient is
then that of its own samples, through its own part of each sum; the gradient of the whole is the
sum over processes. So a function here that communicates forward does not do so backward, save
batch norm, whose statistics tie samples of different processes to each other.

Outside, and with one process, everything here is the plain operation, bit for bit.

Source:
    Ours; the batch norm is that of Ioffe and Szegedy, ICML 2015, with sums over processes as in
    ``torch.nn.SyncBatchNorm``, which knows no CPU. docs/adr/0014 says why not DDP's wrapper.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


class _Scope:
    """Whether this module speaks of several processes now."""

    active = False


_scope = _Scope()


@contextlib.contextmanager
def joined_batch(active: bool = True) -> Iterator[None]:
    """Let sums, draws and norms be those of all processes inside the block.

    Every process must enter it and make the same calls inside: each waits for the others.

    Args:
        active: False leaves everything plain, as with one process; also inside another block,
            where all processes hold the same tensors already.
    """
    before = _scope.active
    _scope.active = active
    try:
        yield
    finally:
        _scope.active = before


def joined_sums(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return each tensor summed over the processes; the gradient is that of the own summand."""
    if not _scope.active:
        return tensors
    flat = torch.cat([t.reshape(-1).float() for t in tensors])
    parts = _Sum.apply(flat).split([t.numel() for t in tensors])  # type: ignore[no-untyped-call]
    return tuple(part.view(t.shape) for part, t in zip(parts, tensors, strict=True))


def joined_mean(x: Tensor) -> Tensor:
    """Return the mean over all elements of all processes, which hold as many each."""
    if not _scope.active:
        return x.mean()
    return joined_sums(x.sum())[0] / (x.numel() * dist.get_world_size())


def joined_gather(x_BX: Tensor) -> Tensor:
    """Return the tensors of all processes one after the other along axis 0, as one process has it.

    What is computed of it is the same everywhere: do so inside ``joined_batch(False)``.
    """
    if not _scope.active:
        return x_BX
    gathered: Tensor = _Gather.apply(x_BX)  # type: ignore[no-untyped-call]
    return gathered


def joined_draw(draw: Callable[[int], Tensor], count: int) -> Tensor:
    """Return this process's rows of one draw for the joined batch.

    All processes draw for all: their generators stay alike, and sample k of a batch meets the same
    numbers whoever computes it.

    Args:
        draw: number of rows to a random tensor with so many, from a generator that all share.
        count: rows of this process.
    """
    if not _scope.active:
        return draw(count)
    first = dist.get_rank() * count
    return draw(dist.get_world_size() * count)[first : first + count]


class JoinedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics in training are those of the joined batch.

    Parameters, buffers and evaluation are those of its base class, and so is what is stored.
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        if not (self.training and _scope.active):
            return super().forward(x_BCHW)
        y_BCHW, mean_C, variance_C = _Normalise.apply(  # type: ignore[no-untyped-call]
            x_BCHW, self.weight, self.bias, self.eps
        )
        self._follow(mean_C, variance_C, x_BCHW.numel() // x_BCHW.shape[1] * dist.get_world_size())
        normalised: Tensor = y_BCHW
        return normalised

    @torch.no_grad()
    def _follow(self, mean_C: Tensor, variance_C: Tensor, count: int) -> None:
        assert self.running_mean is not None  # our networks keep running statistics
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 0.1 if self.momentum is None else self.momentum
        # A pass in evaluation mode before this one keeps the statistics for its backward. Like
        # torch's own batch norm, which moves them unseen by autograd, this must not stop it.
        self.running_mean.data.lerp_(mean_C, momentum)
        self.running_var.data.lerp_(variance_C * (count / max(1, count - 1)), momentum)


class JoinedDropout(nn.Dropout):
    """Drop-out that treats a sample alike whichever process has it."""

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor to the same shape."""
        if not (self.training and _scope.active and 0 < self.p < 1):
            return super().forward(x)
        return x * _kept(x, x.shape[1:], self.p)


class JoinedDropout2d(nn.Dropout2d):
    """The same for whole channels."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        if not (self.training and _scope.active and 0 < self.p < 1):
            return super().forward(x_BCHW)
        return x_BCHW * _kept(x_BCHW, (x_BCHW.shape[1], 1, 1), self.p)


_JOINED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: JoinedBatchNorm2d,
    nn.Dropout: JoinedDropout,
    nn.Dropout2d: JoinedDropout2d,
}


def join_batches(network: nn.Module) -> None:
    """Let the layers of a network that look beyond a sample look at the joined batch.

    They stay the same objects with the same parameters and buffers; only their class changes. A
    state dict fits either kind.
    """
    for module in network.modules():
        joined = _JOINED.get(type(module))
        if joined is not None:
            module.__class__ = joined


def _kept(x: Tensor, shape: tuple[int, ...] | torch.Size, p: float) -> Tensor:
    # As torch draws it on the CPU: one process and several then drop the same.
    last = x.ndim == 4 and not x.is_contiguous()
    layout = torch.channels_last if last and len(shape) == 3 else torch.contiguous_format

    def draw(count: int) -> Tensor:
        noise = torch.empty((count, *shape), dtype=x.dtype, device=x.device, memory_format=layout)
        return noise.bernoulli_(1 - p)

    return joined_draw(draw, len(x)).div_(1 - p)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        del ctx
        return gradient


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BX: Tensor) -> Tensor:
        ctx.count = len(x_BX)
        own = x_BX.contiguous()
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        first = dist.get_rank() * ctx.count
        return gradient[first : first + ctx.count]


class _Normalise(torch.autograd.Function):
    """Batch norm of the joined batch: output, mean (C,), variance (C,), the latter two detached."""

    @staticmethod
    def forward(
        ctx: Any, x_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Means of equal parts, and deviations around them: stable where E[x^2] - E[x]^2 is not.
        variance_C, mean_C = torch.var_mean(x_BCHW.float(), (0, 2, 3), correction=0)
        own = torch.stack([mean_C, variance_C])
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own)
        mean_PC, variance_PC = torch.stack(parts, 1)
        mean_C = mean_PC.mean(0)
        variance_C = (variance_PC + (mean_PC - mean_C).square()).mean(0)
        ctx.save_for_backward(x_BCHW, weight_C, mean_C, (variance_C + eps).rsqrt())
        ctx.mark_non_differentiable(mean_C, variance_C)
        y_BCHW = F.batch_norm(x_BCHW, mean_C, variance_C, weight_C, bias_C, eps=eps)
        return y_BCHW, mean_C, variance_C

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, gradient_BCHW: Tensor, _mean: Tensor, _variance: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        x_BCHW, weight_C, mean_C, scale_C = ctx.saved_tensors
        gradient = gradient_BCHW.float()
        unit = (x_BCHW.float() - mean_C[:, None, None]) * scale_C[:, None, None]
        own = torch.stack([gradient.sum((0, 2, 3)), (gradient * unit).sum((0, 2, 3))])
        both = own.clone()
        dist.all_reduce(both)
        count = x_BCHW.numel() // x_BCHW.shape[1] * dist.get_world_size()
        shared_C, along_C = (both / count)[:, :, None, None]
        moved = (weight_C * scale_C)[:, None, None] * (gradient - shared_C - unit * along_C)
        return moved.to(x_BCHW.dtype), own[1], own[0], None
