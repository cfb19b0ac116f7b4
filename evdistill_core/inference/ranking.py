"""Logits of a student of recognition -> its likeliest classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import StudentError
from evdistill_core.foundation.ranges import Ranges, check_ranges
from evdistill_core.inference.prediction import (
    Guess,
    InstanceOutput,
    Recognition,
    refuse_unfinite,
)


@dataclass(frozen=True, kw_only=True)
class RankingConfig:
    """What is said of a window.

    Attributes:
        top_k: at most so many classes, the likeliest.
        min_score: less likely ones are left out.
        min_events: windows with fewer events say nothing: where nothing moved, a network guesses
            from its prior, and a guess looks like knowledge.
    """

    top_k: int = 3
    min_score: float = 0.0
    min_events: int = 1

    RANGES: ClassVar[Ranges] = {
        "top_k": (1, 255),
        "min_score": (0, 1),
        "min_events": (0, 100_000_000),
    }

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        check_ranges(self, **self.RANGES)


class Ranker:
    """Turns the logits of each window into guesses; windows do not depend on each other.

    Args:
        config: what is said.
        names: class names by id.
    """

    def __init__(self, config: RankingConfig, names: Sequence[str]) -> None:
        self._config = config
        self._names = tuple(names)

    def configure(self, config: RankingConfig) -> None:
        """Take new settings from the next window on."""
        self._config = config

    def reset(self) -> None:
        """Nothing is kept from window to window."""

    def warm_up(
        self,
        logits: npt.NDArray[np.float32],
        events: Events,
        *,
        stride: float,
        head: InstanceOutput | None = None,
        factor: int = 1,
    ) -> Recognition:
        """Return the answer: nothing is compiled here."""
        del head, factor
        return self(logits, events, stride=stride, span_us=(0, 1))

    def __call__(  # noqa: PLR0913 - as every interpreter
        self,
        logits: npt.NDArray[np.float32],
        events: Events,
        *,
        stride: float,
        span_us: tuple[int, int],
        head: InstanceOutput | None = None,
        factor: int = 1,
    ) -> Recognition:
        """Return the guesses of one window.

        Args:
            logits: (K,) float32.
            events: those of the window; only their number counts.
            stride: not used: there is one answer for the whole window.
            span_us: not used: windows are ranked one by one.
            head: not used.
            factor: not used.

        Raises:
            StudentError: not one logit a class, or not finite.
        """
        del stride, span_us, head, factor
        if logits.shape != (len(self._names),):
            raise StudentError(
                f"the student must give ({len(self._names)},) logits, one a class, "
                f"got {logits.shape}; export it again with `evdistill export`"
            )
        refuse_unfinite(logits)
        if len(events) < self._config.min_events:
            return Recognition()
        scores = softmax(logits)
        likeliest = np.argsort(-scores, kind="stable")[: self._config.top_k]
        guesses = (Guess(int(i), float(scores[i]), self._names[i]) for i in likeliest)
        return Recognition(tuple(g for g in guesses if g.score >= self._config.min_score))


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the probabilities of (K,) logits, float64."""
    powers = np.exp(logits.astype(np.float64) - float(logits.max()))
    probabilities: npt.NDArray[np.float64] = powers / powers.sum()
    return probabilities
