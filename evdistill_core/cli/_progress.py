"""The progress line of commands that read a recording."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

#: (fraction done or None, events so far) -> None
Report = Callable[[float | None, int], None]


@contextlib.contextmanager
def reading_progress(label: str) -> Iterator[Report]:
    """Show how far reading is, its rate and the time left, on stderr while the block runs."""
    from evdistill_core.foundation.progress import ProgressView

    with ProgressView(label, transient=True) as view:

        def report(fraction: float | None, events: int) -> None:
            rate = events / max(view.elapsed_s, 1e-9) / 1e6
            view.update(fraction, f"{events:,} events", f"{rate:.1f} million events/s")

        yield report
