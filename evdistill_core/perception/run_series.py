"""What a run found over time, in bounded memory: for the curves of its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from evdistill_core.foundation.labels import IGNORE
from evdistill_core.inference.prediction import Prediction
from evdistill_core.perception.result import Result
from evdistill_core.reports.charts import Chart, Line

MAX_PARTS = 240
"""Parts that a run is told in: enough for a curve, however long it is."""
_MOST_LINES = 6  # nobody can distinguish more


@dataclass
class _Part:
    """Sums over windows in a row.

    Attributes:
        end_s: sensor time of all windows so far, seconds.
        windows: how many.
        span_us: sum of their lengths.
        events: in them.
        boxes: by class.
        pixels: of the mask by class, at the resolution of the network.
        guesses: first guesses by class.
    """

    end_s: float = 0.0
    windows: int = 0
    span_us: int = 0
    events: int = 0
    boxes: Counter[str] = field(default_factory=Counter)
    pixels: Counter[str] = field(default_factory=Counter)
    guesses: Counter[str] = field(default_factory=Counter)

    def absorb(self, later: _Part) -> None:
        """Add the part that follows."""
        self.end_s = later.end_s
        self.windows += later.windows
        self.span_us += later.span_us
        self.events += later.events
        self.boxes.update(later.boxes)
        self.pixels.update(later.pixels)
        self.guesses.update(later.guesses)


class RunSeries:
    """Collects windows into at most ``MAX_PARTS`` parts; each part then holds twice as many.

    Args:
        parts: limit on their number, even.
    """

    def __init__(self, parts: int = MAX_PARTS) -> None:
        self._most = parts
        self._size = 1
        self._parts: list[_Part] = []

    def __len__(self) -> int:
        return len(self._parts)

    def add(self, result: Result, end_s: float) -> None:
        """Count a window.

        Args:
            result: of the window.
            end_s: sensor time of all windows up to this one, seconds.
        """
        if not self._parts or self._parts[-1].windows >= self._size:
            if len(self._parts) == self._most:
                self._halve()
            self._parts.append(_Part())
        part = self._parts[-1]
        part.end_s = end_s
        part.windows += 1
        part.span_us += result.t_end_us - result.t_start_us
        part.events += len(result.events)
        if isinstance(result.prediction, Prediction):
            part.boxes.update(d.class_name for d in result.prediction.detections)
            counts = np.bincount(result.small.mask.reshape(-1), minlength=IGNORE + 1)
            for name, count in zip(result.classes.names, counts.tolist(), strict=False):
                part.pixels[name] += count
        elif result.prediction.guesses:
            part.guesses[result.prediction.guesses[0].class_name] += 1

    def charts(self) -> list[Chart]:
        """Return the curves of what there is."""
        if not self._parts:
            return []
        x = [part.end_s for part in self._parts]
        rate = [part.events / max(part.span_us, 1) for part in self._parts]
        charts = [
            Chart(
                "Events, million a second",
                "How much the camera saw: motion, texture and noise.",
                [Line("events", x, rate)],
                _TIME,
            )
        ]
        kinds: tuple[tuple[str, str, Callable[[_Part], Counter[str]], bool], ...] = (
            ("Boxes a window", "Mean number of detections by class.", lambda p: p.boxes, False),
            (
                "Share of the mask, %",
                "What the labelled pixels are, by class; pixels without events have no label.",
                lambda p: p.pixels,
                True,
            ),
            ("Windows by class, %", "Which class is most likely.", lambda p: p.guesses, True),
        )
        for title, note, counts_of, is_share in kinds:
            counted = [counts_of(part) for part in self._parts]
            if lines := self._lines(x, counted, is_share=is_share):
                charts.append(Chart(title, note, lines, _TIME))
        return charts

    def _lines(
        self, x: Sequence[float], counted: Sequence[Counter[str]], *, is_share: bool
    ) -> list[Line]:
        total: Counter[str] = Counter()
        for counts in counted:
            total.update(counts)
        lines = []
        for name, count in total.most_common(_MOST_LINES):
            if not count:
                continue
            of = [
                100 / max(1, sum(counts.values())) if is_share else 1 / part.windows
                for counts, part in zip(counted, self._parts, strict=True)
            ]
            y = [counts[name] * share for counts, share in zip(counted, of, strict=True)]
            lines.append(Line(name, x, y))
        return lines

    def _halve(self) -> None:
        pairs = zip(self._parts[::2], self._parts[1::2], strict=True)
        for first, second in pairs:
            first.absorb(second)
        self._parts = self._parts[::2]
        self._size *= 2


_TIME = "sensor time computed, s"
