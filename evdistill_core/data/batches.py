"""Samples as tensors: batches in order, made here or by workers ahead of time.

Apart from ``samples``, so that whoever only reads samples needs no torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from evdistill_core.data.samples import IndexedSource, Part, Sample
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.signals import end_with_parent, workers_without_signals

S = TypeVar("S")
B = TypeVar("B")


@dataclass(frozen=True)
class Batch:
    """Samples stacked for the network.

    Attributes:
        first_index: index of the first sample; the others follow it.
        input: (B, C, H, W) float32.
        label: (B, H, W) int64, class ids, 255, or 254 ("none of ``excluded``"); (B, 1, 1) for
            recognition.
        active: (B, H, W) uint8.
        picture: (B, 1, H, W) float32 in -1..1; None unless every window has one.
        past: (B, T - 1, C, H, W) float32, the windows before ``input``; None: there are none.
        excluded: (B, K) bool, the classes that pixels of the value 254 are not of; None: no label
            has such pixels.
        instances: (B, H, W) int64, the number of the thing that a pixel shows, 0: no thing, -1:
            nobody knows (a sample without instances). None: no sample has them.
    """

    first_index: int
    input: torch.Tensor
    label: torch.Tensor
    active: torch.Tensor
    picture: torch.Tensor | None = field(default=None, kw_only=True)
    past: torch.Tensor | None = field(default=None, kw_only=True)
    excluded: torch.Tensor | None = field(default=None, kw_only=True)
    instances: torch.Tensor | None = field(default=None, kw_only=True)

    @property
    def sequence(self) -> torch.Tensor:
        """All that a student is fed: (B, C, H, W), or (B, T, C, H, W) where there is a past."""
        if self.past is None:
            return self.input
        return torch.cat([self.past, self.input[:, None]], 1)


def load_batches(  # noqa: PLR0913 - numbers by name
    source: IndexedSource[S],
    stack: Callable[[int, list[S]], B],
    *,
    batch_size: int,
    first_batch: int,
    last_batch: int,
    workers: int,
    part: Part = (0, 1),
) -> Iterator[B]:
    """Yield the batches first_batch .. last_batch - 1, each of consecutive indices.

    Args:
        source: asked for indices ``batch * batch_size + k``.
        stack: makes a batch of the index of its first sample and its samples.
        batch_size: samples a batch, of all parts together.
        first_batch: where to go on (0 for a new run).
        last_batch: where to stop.
        workers: processes that make samples ahead of time; 0 makes them here.
        part: which part of every batch, of how many; they divide ``batch_size``.

    Yields:
        Batches in order. Their content does not depend on ``workers``.
    """
    number, parts = part
    own = batch_size // parts
    starts = range(first_batch * batch_size + number * own, last_batch * batch_size, batch_size)
    # The number of workers is the user's; results do not depend on it.
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    loader: DataLoader[S] = DataLoader(
        _ByIndex(source),
        batch_sampler=_Batches(starts, own),
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=_prepare_worker if workers else None,
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=4 if workers else None,
        # Without one of its own, the loader draws from the generator that drop-out uses, and a
        # resumed run would differ from an uninterrupted one.
        generator=torch.Generator(),
    )
    with workers_without_signals():
        batches = iter(loader)
    for first_index, samples in zip(starts, batches, strict=True):
        yield stack(first_index, samples)


class _Batches(Sampler[list[int]]):
    def __init__(self, starts: range, size: int) -> None:
        self._starts, self._size = starts, size

    def __iter__(self) -> Iterator[list[int]]:
        return (list(range(start, start + self._size)) for start in self._starts)

    def __len__(self) -> int:
        return len(self._starts)


class _ByIndex(Dataset[S]):
    def __init__(self, source: IndexedSource[S]) -> None:
        self._source = source

    def __getitem__(self, index: int) -> S:
        return self._source.sample(index)


def stack(first_index: int, samples: Sequence[Sample]) -> Batch:
    """Return samples of one size as a batch.

    Raises:
        ConfigError: they are of several sizes.
    """
    check_one_size([s.input for s in samples])
    pictures = [s.picture for s in samples if s.picture is not None]
    return Batch(
        first_index,
        torch.from_numpy(np.stack([s.input for s in samples])),
        torch.from_numpy(np.stack([s.label for s in samples])).long(),
        torch.from_numpy(np.stack([s.active for s in samples])),
        picture=torch.from_numpy(np.stack(pictures)) if len(pictures) == len(samples) else None,
        past=stack_past([s.past for s in samples]),
        excluded=_stack_excluded([s.excluded for s in samples]),
        instances=_stack_instances(samples),
    )


def check_one_size(inputs: Sequence[npt.NDArray[np.float32]]) -> None:
    """Raise ConfigError where windows of one batch differ in size, and say what to do."""
    sizes = sorted({tuple(x.shape[-2:]) for x in inputs})
    if len(sizes) > 1:
        raise ConfigError(
            f"windows of one batch have different sizes (height, width): {_listed(sizes)}. "
            "Simulated windows have height and width, recordings and stills have crop: give all "
            "the same"
        )


def _listed(sizes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(f"({height}, {width})" for height, width in sizes)


def stack_past(past: Sequence[npt.NDArray[np.float32] | None]) -> torch.Tensor | None:
    """Return earlier windows of every sample as (B, T - 1, C, H, W); None where there are none."""
    known = [p for p in past if p is not None]
    return torch.from_numpy(np.stack(known)) if known else None


def _stack_excluded(excluded: Sequence[npt.NDArray[np.bool_] | None]) -> torch.Tensor | None:
    """Return (B, K) bool; samples of sets without such pixels exclude nothing."""
    known = [e for e in excluded if e is not None]
    if not known:
        return None
    nothing = np.zeros_like(known[0])
    return torch.from_numpy(np.stack([nothing if e is None else e for e in excluded]))


def _stack_instances(samples: Sequence[Sample]) -> torch.Tensor | None:
    """Return (B, H, W) int64, -1 in samples that do not know; None where none knows."""
    if all(s.instances is None for s in samples):
        return None
    unknown = np.full(samples[0].active.shape, -1, np.int64)
    known = [unknown if s.instances is None else s.instances.astype(np.int64) for s in samples]
    return torch.from_numpy(np.stack(known))


def _prepare_worker(_: int) -> None:
    end_with_parent()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
