"""A live front end at a terminal: signals, a status table on a tty, plain lines elsewhere."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from evdistill_core.events.account import account_of_stream
from evdistill_core.foundation.files import atomic_path
from evdistill_core.foundation.signals import StopSignals
from evdistill_core.perception.diagnostics import Rates
from evdistill_core.perception.parameters import PerceptionParameters
from evdistill_core.perception.pipeline import Snapshot
from evdistill_core.viewing.live.address import ViewAddress
from evdistill_core.viewing.live.controls import Controls
from evdistill_core.viewing.live.feed import Feed, Sink
from evdistill_core.viewing.live.foxglove_sink import FoxgloveSink
from evdistill_core.viewing.live.live_view import LiveView, Scene
from evdistill_core.viewing.live.of_pipeline import PipelineStatus
from evdistill_core.viewing.live.rerun_sink import RerunSink, RerunTarget
from evdistill_ros.standalone.live import GraphOptions, LivePerception

INTERRUPTED = 130
PLAIN_EVERY_S = 5.0
_ALWAYS_TOLD = ("messages_received", "events", "windows_done", "windows_dropped")
# Counters that rise while all is well, and say nothing that those do not.
_USUAL = frozenset(
    {
        "events_in_windows",
        "messages_used",
        "stream_bytes",
        "stream_events",
        "stream_messages",
        "window_empty_skipped",
        "window_empty_windows",
        "window_pushed",
        "window_used",
        "window_windows",
        "windows",
    }
)

Row = tuple[str, str]
UNKNOWN = "-"
"""What stands in a row for a value that nothing tells yet."""


@dataclass(frozen=True)
class Feeds:
    """Viewers of others that get the windows; None: not that one."""

    rerun: RerunTarget | None = None
    foxglove: ViewAddress | None = None


def run_live(
    parameters: PerceptionParameters,
    options: GraphOptions,
    *,
    result_log: Path | None = None,
    view_at: ViewAddress | None = None,
    feeds: Feeds = Feeds(),
) -> int:
    """Run the DDS front end until a signal; return the exit code: 0 SIGTERM, 130 SIGINT.

    Args:
        parameters: see ``PerceptionParameters``.
        options: names and topics.
        result_log: where to write one line a window, see ``LivePerception``.
        view_at: serve the page of a live view there; None: serve none.
        feeds: viewers of others that get the windows too.
    """
    console = Console(stderr=True)
    with StopSignals() as signals, StatusView(console) as view, ExitStack() as stack:
        log = stack.enter_context(_log_file(result_log))
        front = LivePerception(parameters, options, log=view.say, result_log=log)
        signals.call(front.stop)
        if not signals.received:
            with front, ExitStack() as page_stack:
                # First the feeds: a page that finds its port taken chooses another one.
                shown = [page_stack.enter_context(f) for f in _feeds_of(front, feeds, view.say)]
                page = _page_of(front, view_at)
                if page is not None:
                    page_stack.enter_context(page)
                    front.show_on(page)
                    view.say(f"live view: {page.url}")
                try:
                    front.run(lambda snapshot, rates: view.show(status_rows(snapshot, rates)))
                finally:
                    page_stack.close()
                    totals = front.totals()
                    account = account_of_stream(totals).lines()
                    told = [] if page is None else page.lines()
                    told += [text for feed in shown for text in feed.lines()]
                    for text in (*told, *front.losses(), *account, totals_line(totals)):
                        view.say(text)
    return INTERRUPTED if signal.SIGINT in signals.received else 0


def _page_of(front: LivePerception, view_at: ViewAddress | None) -> LiveView | None:
    """Return the live view of a front end, not served yet; None if none is wanted."""
    if view_at is None:
        return None
    return LiveView(
        view_at,
        scene=Scene(
            title="evdistill live",
            source=front.source_text,
            student=front.student_text,
            classes=front.front_end.messages.classes,
        ),
        status=PipelineStatus(front.front_end.perception),
        controls=Controls(lambda: front.front_end.perception.parameters, front.reconfigure),
        folder=Path(),
    )


def _feeds_of(front: LivePerception, feeds: Feeds, say: Callable[[str], None]) -> Iterator[Feed]:
    """Open each viewer that is asked for and let the front end feed it."""
    title, classes = front.source_text, front.front_end.messages.classes
    sink: Sink
    if feeds.rerun is not None:
        sink = RerunSink(feeds.rerun, title=title, classes=classes)
        yield _fed(front, sink, say)
    if feeds.foxglove is not None:
        sink = FoxgloveSink(feeds.foxglove, title=title, classes=classes)
        yield _fed(front, sink, say)


def _fed(front: LivePerception, sink: Sink, say: Callable[[str], None]) -> Feed:
    feed = Feed(sink, status=PipelineStatus(front.front_end.perception), say=say)
    front.show_on_feed(feed)
    say(f"{sink.name}: {sink.where}")
    return feed


@contextmanager
def _log_file(path: Path | None) -> Iterator[TextIO | None]:
    """Open the result log, which appears only when the run has ended."""
    if path is None:
        yield None
        return
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


def status_rows(snapshot: Snapshot, rates: Rates) -> list[Row]:
    """Return what a person wants to see of a running pipeline."""
    counters, latency = snapshot.counters, snapshot.latency_ms["total"]
    return [
        ("events/s", f"{rates.events_per_s:,.0f}"),
        ("windows/s", f"{rates.windows_per_s:.1f}"),
        ("windows", f"{counters.get('windows_done', 0)}"),
        ("dropped", f"{counters.get('windows_dropped', 0)}"),
        ("gaps", f"{counters.get('stream_seq_gaps', 0)}"),
        ("p50 ms", f"{latency.p50:.1f}"),
        ("p95 ms", f"{latency.p95:.1f}"),
    ]


def totals_line(totals: Mapping[str, int]) -> str:
    """Return what came and what became of it, under the names that diagnostics have for it."""
    told = {name: totals.get(name, 0) for name in _ALWAYS_TOLD}
    told |= {n: count for n, count in sorted(totals.items()) if count and n not in _USUAL}
    return "in all: " + ", ".join(f"{name} {count}" for name, count in told.items())


class StatusView:
    """A table that stays in place on a terminal; one line every few seconds elsewhere."""

    def __init__(self, console: Console, title: str = "") -> None:
        self._console = console
        self._title = title
        self._live = (
            Live(console=console, refresh_per_second=4, transient=False)
            if console.is_terminal
            else None
        )
        self._last_line_s = float("-inf")

    def __enter__(self) -> StatusView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print one line of text."""
        if self._live is not None:
            self._console.print(text, highlight=False)
        else:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def show(self, rows: Sequence[Row]) -> None:
        """Show the present values; elsewhere than on a terminal at most every 5 s.

        There a row in which a value is not known yet ("-") is no line.
        """
        if self._live is not None:
            table = Table(title=self._title or None)
            for name, _ in rows:
                table.add_column(name, justify="right", min_width=8)
            table.add_row(*(value for _, value in rows))
            self._live.update(table)
            return
        now = time.monotonic()
        is_known = all(value != UNKNOWN for _, value in rows)
        if is_known and now - self._last_line_s >= PLAIN_EVERY_S:
            self._last_line_s = now
            self.say("  ".join(f"{name} {value}" for name, value in rows))
