"""A run at the terminal: progress, Ctrl-C, the report at the end."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from evdistill_core.evaluation.page import Result
from evdistill_core.foundation.errors import TrainingError
from evdistill_core.training.loop import StepReport, Trainer
from evdistill_core.training.report import write_training_report

SAME_SIGNAL_S = 1.0


def run_with_progress(trainer: Trainer) -> None:
    """Run to the end, showing step, loss, rate and time left; then write the report.

    Raises:
        KeyboardInterrupt: Ctrl-C (or SIGTERM) ended the run; its checkpoint is written.
    """
    first = trainer.processes.is_first
    console = Console(quiet=not first)
    last: dict[str, Result] = {}

    def on_validation(results: dict[str, Result]) -> None:
        last.update(results)
        for name, result in results.items():
            console.print(f"step {trainer.state.step}  {name}: {result.summary}")

    with _stopping_on_signals(trainer), _Steps(console, trainer) as steps:
        try:
            finished = trainer.run(steps.show, on_validation)
        except TrainingError:
            if first:
                raise
            finished = False
    if not finished and not first:
        # All ended for one reason, which the first tells. Were this a failure, Fabric would kill
        # the first before it has spoken.
        sys.exit(0)
    if not first:
        return
    if not finished:
        console.print(f"stopped at step {trainer.state.step}; go on with --resume")
        raise KeyboardInterrupt
    page = write_training_report(trainer, last)
    console.print(f"done: {page}")


class _Steps:
    """A progress bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, trainer: Trainer) -> None:
        self._console = console
        self._every = trainer.config.log_every
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  {task.fields[rate]:.2f} steps/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=console.quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task(
            trainer.config.name,
            total=trainer.config.steps,
            completed=trainer.state.step,
            loss=float("nan"),
            rate=0.0,
        )
        self._loss = float("nan")
        self._seconds = self._wait = 0.0
        self._pending = 0

    def __enter__(self) -> _Steps:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def show(self, report: StepReport) -> None:
        fresh = self._loss != self._loss
        self._loss = report.loss if fresh else 0.98 * self._loss + 0.02 * report.loss
        self._seconds += report.seconds
        self._wait += report.wait_seconds
        self._pending += 1
        rate = self._pending / max(self._seconds, 1e-9)
        self._bar.update(self._task, completed=report.step, loss=self._loss, rate=rate)
        if report.step % self._every == 0:
            if not self._console.is_terminal:
                left_min = (report.steps - report.step) / rate / 60
                self._console.print(
                    f"step {report.step}/{report.steps}  loss {self._loss:.4f}  "
                    f"{rate:.2f} steps/s  waiting for data {self._wait / self._seconds:.0%}  "
                    f"{left_min:.1f} min left"
                )
            self._seconds = self._wait = 0.0
            self._pending = 0


@contextmanager
def _stopping_on_signals(trainer: Trainer) -> Iterator[None]:
    def ask(number: int, _frame: FrameType | None) -> None:
        trainer.stop()
        # The second one does not wait for the step. What comes within a second is the first once
        # more: torchrun passes on what the terminal has sent to all.
        now = time.monotonic()
        if now - heard.setdefault(number, now) > SAME_SIGNAL_S:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)

    heard: dict[int, float] = {}
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {n: signal.getsignal(n) for n in numbers}
    for n in numbers:
        signal.signal(n, ask)
    try:
        yield
    finally:
        for n in numbers:
            signal.signal(n, before[n])
