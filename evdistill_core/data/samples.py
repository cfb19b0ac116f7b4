"""What training and evaluation are made of: samples by index, mixed and loaded in order.

A source answers ``sample(index)`` and nothing else. The same index always gives the same sample,
whatever was asked before and however many workers ask, so a run that was killed goes on with the
very batches it would have seen, and a batch that failed can be made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import ConfigError

Part = tuple[int, int]
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)


@dataclass(frozen=True)
class Sample:
    """One window with dense labels, at the size of the network's input.

    Attributes:
        input: (C, H, W) float32, what ``represent`` made of the events.
        label: (H, W) uint8, class ids, 255, or 254 ("none of ``excluded``"); (1, 1): the class of
            the whole window.
        active: (H, W) uint8, 1 where an event fired, 0 elsewhere.
        picture: (1, H, W) float32 in -1..1, what a camera saw at the end of the window; None where
            nobody knows.
        past: (T - 1, C, H, W) float32, the windows before it, oldest first; None: there are none.
        excluded: (K,) bool, the classes that pixels of the value 254 are not of; None: the label
            has no such pixels.
        instances: (H, W) uint16, the number of the thing that a pixel shows, 0: no thing; numbers
            mean something within this sample alone. None: nobody knows.
    """

    input: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8]
    active: npt.NDArray[np.uint8]
    picture: npt.NDArray[np.float32] | None = None
    past: npt.NDArray[np.float32] | None = None
    excluded: npt.NDArray[np.bool_] | None = None
    instances: npt.NDArray[np.uint16] | None = None

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
