"""What training and evaluation are made of: samples by index, mixed and loaded in order.

A source answers ``sample(index)`` and nothing else. The same index always gives the same sample,
whatever was asked before and however many workers ask, so a run that was killed goes on with the
very batches it would have seen, and a batch that failed can be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from evdistill_core.foundation.errors import ConfigError

Part = tuple[int, int]
S = TypeVar("S")
B = TypeVar("B")
S_co = TypeVar("S_co", covariant=True)


@dataclass(frozen=True)
class Sample:
    """One window with dense labels, at the size of the network's input.

    Attributes:
        input: (C, H, W) float32, what ``represent`` made of the events.
        label: (H, W) uint8, class ids or 255; (1, 1): the class of the whole window.
        active: (H, W) uint8, 1 where an event fired, 0 elsewhere.
        picture: (1, H, W) float32 in -1..1, what a camera saw at the end of the window; None where
            nobody knows.
        past: (T - 1, C, H, W) float32, the windows before it, oldest first; None: there are none.
    """

    input: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8]
    active: npt.NDArray[np.uint8]
    picture: npt.NDArray[np.float32] | None = None
    past: npt.NDArray[np.float32] | None = None

    @property
    def sequence(self) -> npt.NDArray[np.float32]:
        """All that a student is fed: (C, H, W), or (T, C, H, W) where there is a past."""
        if self.past is None:
            return self.input
        return np.concatenate([self.past, self.input[None]])


class IndexedSource(Protocol[S_co]):
    """Anything that makes samples of one kind by index."""

    def sample(self, index: int) -> S_co:
        """Return the sample of this index (>= 0), always the same one."""
        ...


class SampleSource(Protocol):
    """Anything that makes samples by index."""

    def __len__(self) -> int:
        """Return how many different samples there are; indices above wrap or make new ones."""
        ...

    def sample(self, index: int) -> Sample:
        """Return the sample of this index (>= 0), always the same one."""
        ...


def notes_of(source: object) -> list[str]:
    """Return what a source says about data that it does not use (its ``notes``, if it has any)."""
    return list(getattr(source, "notes", ()))


def seed_of(*words: int) -> np.random.SeedSequence:
    """Return a seed that depends on every word, independent for neighbouring words."""
    return np.random.SeedSequence([w & 0xFFFFFFFF for w in words])


class Shuffle:
    """A new order of ``count`` things every round: sets sorted by class give mixed batches.

    Args:
        count: how many things, at least 1.
        seed: of all orders.
    """

    def __init__(self, count: int, *, seed: int) -> None:
        self._count, self._seed = count, seed
        self._round, self._order = -1, np.empty(0, np.int64)

    def at(self, index: int) -> int:
        """Return which thing an index (>= 0) means; count indices in a row name each once."""
        number, place = divmod(index, self._count)
        if number != self._round:
            rng = np.random.default_rng(seed_of(self._seed, number, 41))
            self._round, self._order = number, rng.permutation(self._count)
        return int(self._order[place])


class Mixture:
    """Several sources with shares; the source of an index is drawn by its own seed.

    Args:
        sources: at least one.
        shares: one positive number a source; they need not add up to 1.
        seed: of the draw.

    Raises:
        ConfigError: no source, or a share that is not above 0.
    """

    def __init__(
        self, sources: Sequence[SampleSource], shares: Sequence[float], *, seed: int
    ) -> None:
        if not sources or len(sources) != len(shares) or any(not s > 0 for s in shares):
            raise ConfigError(f"a mixture needs sources and shares above 0, got {list(shares)}")
        self._sources = list(sources)
        self._edges = np.cumsum(shares) / np.sum(shares)
        self._seed = seed

    def __len__(self) -> int:
        return sum(len(s) for s in self._sources)

    def sample(self, index: int) -> Sample:
        """Return the sample of this index: which source, then that source's own sample."""
        draw = np.random.default_rng(seed_of(self._seed, index, 1)).random()
        chosen = int(np.searchsorted(self._edges, draw, side="right"))
        return self._sources[min(chosen, len(self._sources) - 1)].sample(index)


class Prefix:
    """The first ``count`` samples of a source: an evaluation set of fixed size."""

    def __init__(self, source: SampleSource, count: int) -> None:
        if count < 1:
            raise ConfigError(f"an evaluation set needs at least 1 sample, got {count}")
        self._source = source
        self._count = count

    def __len__(self) -> int:
        return self._count

    @property
    def notes(self) -> list[str]:
        """What the source must say about data that it does not use."""
        return notes_of(self._source)

    def sample(self, index: int) -> Sample:
        """Return the sample of this index.

        Raises:
            IndexError: the index is not below the count.
        """
        if not 0 <= index < self._count:
            raise IndexError(f"index {index} is not in 0..{self._count - 1}")
        return self._source.sample(index)


@dataclass(frozen=True)
class Batch:
    """Samples stacked for the network.

    Attributes:
        first_index: index of the first sample; the others follow it.
        input: (B, C, H, W) float32.
        label: (B, H, W) int64; (B, 1, 1) for recognition.
        active: (B, H, W) uint8.
        picture: (B, 1, H, W) float32 in -1..1; None unless every window has one.
        past: (B, T - 1, C, H, W) float32, the windows before ``input``; None: there are none.
    """

    first_index: int
    input: torch.Tensor
    label: torch.Tensor
    active: torch.Tensor
    picture: torch.Tensor | None = field(default=None, kw_only=True)
    past: torch.Tensor | None = field(default=None, kw_only=True)

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
    for first_index, samples in zip(starts, loader, strict=True):
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
    """Return samples of one size as a batch."""
    pictures = [s.picture for s in samples if s.picture is not None]
    return Batch(
        first_index,
        torch.from_numpy(np.stack([s.input for s in samples])),
        torch.from_numpy(np.stack([s.label for s in samples])).long(),
        torch.from_numpy(np.stack([s.active for s in samples])),
        picture=torch.from_numpy(np.stack(pictures)) if len(pictures) == len(samples) else None,
        past=stack_past([s.past for s in samples]),
    )


def stack_past(past: Sequence[npt.NDArray[np.float32] | None]) -> torch.Tensor | None:
    """Return earlier windows of every sample as (B, T - 1, C, H, W); None where there are none."""
    known = [p for p in past if p is not None]
    return torch.from_numpy(np.stack(known)) if known else None


def _prepare_worker(_: int) -> None:
    import signal  # noqa: PLC0415 - only workers need it

    # Ctrl-C reaches the whole process group; the parent decides when workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
