"""What a recording says of classes: which, when, how surely, and how often it was right."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from evdistill_core.evaluation.confusion import Confusion
from evdistill_core.evaluation.replay_labels import class_number, nearest, read_classes, read_spans
from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import IGNORE
from evdistill_core.messages.vision import Classification

MAX_PARTS = 60
"""Parts that a recording is told in: enough for a graph, however long it is."""


@dataclass(frozen=True)
class Answer:
    """What was said of one window: classes and scores, best first; none where nothing was."""

    stamp_ns: int
    guesses: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, message: Classification, classes: Sequence[str]) -> Answer:
        """Return what a message says.

        Raises:
            DataError: a class does not exist.
        """
        guesses = ((class_number(h.class_id, classes), h.score) for h in message.results)
        return cls(message.header.stamp.to_ns(), tuple(guesses))

    @property
    def class_id(self) -> int:
        """The likeliest class; 255 where none was named."""
        return self.guesses[0][0] if self.guesses else IGNORE


@dataclass
class Answers:
    """All that was said in a recording.

    Attributes:
        is_there: the recording is one of recognition.
    """

    is_there: bool = False
    _all: list[Answer] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        """Take what was said of the next window."""
        self._all.append(answer)

    @property
    def stamps(self) -> list[int]:
        """Of all windows, in order."""
        return sorted(a.stamp_ns for a in self._all)

    def summary(self, classes: Sequence[str]) -> dict[str, object]:
        """Return how often each class came first, how surely, and the same over time."""
        named = [a for a in self._all if a.guesses]
        by_class: dict[int, list[float]] = {}
        for answer in named:
            by_class.setdefault(answer.class_id, []).append(answer.guesses[0][1])
        return {
            "classifications": len(self._all),
            "unnamed": len(self._all) - len(named),
            "named": {
                classes[i]: {"windows": len(scores), "mean_score": _mean(scores)}
                for i, scores in sorted(by_class.items())
            },
            "over_time": self._over_time(classes),
        }

    def _over_time(self, classes: Sequence[str]) -> list[dict[str, object]]:
        ordered = sorted(self._all, key=lambda a: a.stamp_ns)
        if not ordered:
            return []
        first_ns = ordered[0].stamp_ns
        length_ns = max(1, -(-(ordered[-1].stamp_ns - first_ns + 1) // MAX_PARTS))
        parts: dict[int, list[Answer]] = {}
        for answer in ordered:
            parts.setdefault((answer.stamp_ns - first_ns) // length_ns, []).append(answer)
        return [_part(answers, first_ns, classes) for answers in parts.values()]

    def score(self, truth: Mapping[int, int], classes: Sequence[str]) -> dict[str, object]:
        """Return top-1 and what goes with it, of the windows whose class is known.

        A window without a class counts as wrong.

        Args:
            truth: stamp of a window to its class, see ``read_truth``.
            classes: names, by id.
        """
        scored = [(truth[a.stamp_ns], a) for a in self._all if a.stamp_ns in truth]
        confusion = Confusion(len(classes))
        guesses = np.array([a.class_id for _, a in scored])
        confusion.add(np.array([true for true, _ in scored]), guesses)
        counts = confusion.counts
        right = [a for true, a in scored if a.class_id == true]
        wrong = [a for true, a in scored if a.guesses and a.class_id != true]
        among = [a for true, a in scored if true in {c for c, _ in a.guesses}]
        return {
            "windows": len(scored),
            "not_labelled": len(self._all) - len(scored),
            "unnamed": int(counts[:, -1].sum()),
            "top1": len(right) / len(scored),
            "among_named": len(among) / len(scored),
            "mean_score_right": _mean([a.guesses[0][1] for a in right]),
            "mean_score_wrong": _mean([a.guesses[0][1] for a in wrong]),
            "classes": {
                name: {"windows": int(counts[i].sum()), "right": int(counts[i, i])}
                for i, name in enumerate(classes)
            },
            # Rows are the truth; the last column holds windows without a class.
            "confusion": counts.tolist(),
        }


def read_truth(
    path: Path, stamps: Sequence[int], classes: Sequence[str], tolerance_ns: int
) -> dict[int, int]:
    """Return the true class of windows by their stamps.

    Args:
        path: of a CSV file of spans, else of a bag with classifications: each of them is the truth
            of the window nearest in time.
        stamps: of the windows' ends, sorted.
        classes: names, by id.
        tolerance_ns: how far a bag's label may lie from its window.

    Raises:
        DataError: unreadable, or it knows the class of no window.
    """
    truth: dict[int, int] = {}
    if path.suffix.lower() == ".csv":
        for span in read_spans(path, classes):
            first, end = (bisect_left(stamps, t + 1) for t in (span.start_ns, span.end_ns))
            truth |= dict.fromkeys(stamps[first:end], span.class_id)
    else:
        for stamp_ns, class_id in read_classes(path, classes).items():
            near = nearest(stamps, stamp_ns, tolerance_ns)
            if near is not None:
                truth[near] = class_id
    if not truth:
        there = f"{stamps[0]} to {stamps[-1]} ns" if stamps else "no time: there are none"
        raise DataError(f"{path} has no class for any window; their stamps go from {there}")
    return truth


def _part(answers: Sequence[Answer], first_ns: int, classes: Sequence[str]) -> dict[str, object]:
    named = [a for a in answers if a.guesses]
    most = Counter(a.class_id for a in named).most_common(1)
    return {
        "from_s": round((answers[0].stamp_ns - first_ns) / 1e9, 3),
        "windows": len(answers),
        "class": classes[most[0][0]] if most else None,
        "of_it": most[0][1] if most else 0,
        "mean_score": _mean([a.guesses[0][1] for a in named]),
    }


def _mean(scores: Sequence[float]) -> float | None:
    return round(float(np.mean(scores)), 4) if scores else None
