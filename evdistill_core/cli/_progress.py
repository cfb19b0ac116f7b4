"""The progress line of commands that read a recording."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

#: (fraction done or None, events so far) -> None
Report = Callable[[float | None, int], None]


@contextlib.contextmanager
def reading_progress(label: str) -> Iterator[Report]:
    """Show a bar with rate and time left on stderr while the block runs; silent in a pipe."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[events]:,} events"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(label, total=None, events=0, rate="")

        def report(fraction: float | None, events: int) -> None:
            elapsed_s = progress.tasks[0].elapsed or 0.0
            rate = f"{events / elapsed_s / 1e6:.1f} Mev/s" if elapsed_s > 0.2 else ""
            total = None if fraction is None else 1.0
            progress.update(task, total=total, completed=fraction or 0.0, events=events, rate=rate)

        yield report
