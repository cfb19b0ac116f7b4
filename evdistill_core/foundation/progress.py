"""Progress of long work: a bar on a terminal, a line of text every 30 s elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

FIRST_LINE_S = 5.0
LINE_EVERY_S = 30.0
_SAMPLE_EVERY_S = 1.0
_STRETCH = 120  # samples: the pace of the last two minutes counts


class TimeLeft:
    """Estimates how long work still takes, from its pace of the last two minutes.

    Args:
        fraction: done before, 0..1.
        now_s: any clock's time at the beginning.
    """

    def __init__(self, fraction: float = 0.0, *, now_s: float) -> None:
        self._samples = deque([(now_s, fraction)], maxlen=_STRETCH)
        self._latest = (now_s, fraction)
        self._updates = 0

    def add(self, fraction: float, now_s: float) -> None:
        """Take how much is done now."""
        self._updates += 1
        self._latest = (now_s, fraction)
        if self._updates == 2:
            # What comes before the first result (loading, the first batch) is not the pace.
            self._samples.popleft()
        if self._updates == 1 or now_s - self._samples[-1][0] >= _SAMPLE_EVERY_S:
            self._samples.append((now_s, fraction))

    def left_s(self, now_s: float) -> float | None:
        """Return the seconds that are left; None before the second ``add``."""
        (then_s, before), (last_s, fraction) = self._samples[0], self._latest
        if self._updates < 2 or fraction <= before or last_s <= then_s:
            return None
        rest_s = (1.0 - fraction) * (last_s - then_s) / (fraction - before)
        return max(0.0, rest_s - (now_s - last_s))


class ProgressView:
    """Shows how far work is, what it has done, the time elapsed and the time left.

    On a terminal a bar; elsewhere plain lines without control characters, the first after 5 s and
    one every 30 s. Use it from one thread at a time.

    Args:
        label: what is being done, such as "computing".
        console: where; None: stderr.
        shown: show anything at all.
        fraction: done before, 0..1.
        transient: take the bar away at the end.
        clock: seconds, monotonic.
    """

    def __init__(  # noqa: PLR0913
        self,
        label: str,
        *,
        console: Console | None = None,
        shown: bool = True,
        fraction: float = 0.0,
        transient: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._console = console or Console(stderr=True)
        self._is_bar = self._console.is_terminal and not self._console.is_dumb_terminal
        self._shown = shown and not self._console.quiet
        self._clock = clock
        self._began_s = clock()
        self._next_line_s = self._began_s + FIRST_LINE_S
        self._left = TimeLeft(fraction, now_s=self._began_s)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
            console=self._console,
            refresh_per_second=4,
            transient=transient,
            disable=not (self._shown and self._is_bar),
        )
        self._task = self._bar.add_task(label, total=None, text="")

    def __enter__(self) -> ProgressView:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began_s

    def update(self, fraction: float | None, *facts: str) -> None:
        """Show how far the work is.

        Args:
            fraction: done, 0..1; None where nothing tells.
            facts: what else to show, such as "212 windows".
        """
        if not self._shown:
            return
        now_s = self._clock()
        if fraction is not None:
            self._left.add(fraction, now_s)
        if not self._is_bar and now_s < self._next_line_s:
            return
        parts = [] if fraction is None else [f"{fraction:.0%}"]
        parts += [*facts, f"elapsed {duration(now_s - self._began_s)}"]
        left_s = self._left.left_s(now_s)
        if left_s is not None:
            parts.append(f"left {duration(left_s)}")
        if self._is_bar:
            total = None if fraction is None else 1.0
            self._bar.update(
                self._task, total=total, completed=fraction or 0.0, text="  ".join(parts)
            )
        else:
            self._next_line_s = now_s + LINE_EVERY_S
            self.say(f"{self._label}: {', '.join(parts)}")

    def say(self, text: str) -> None:
        """Print a line of text, above the bar if there is one."""
        if self._shown:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Return a time as people write it: ``0:07``, ``12:30``, ``1:02:03``, ``2 d 3:00:00``."""
    days, rest = divmod(round(seconds), 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, second = divmod(rest, 60)
    clock = f"{hours}:{minutes:02}:{second:02}" if days or hours else f"{minutes}:{second:02}"
    return f"{days} d {clock}" if days else clock
