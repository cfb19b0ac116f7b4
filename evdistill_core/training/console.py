"""A run at the terminal: progress, Ctrl-C, the report at the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console

from evdistill_core.evaluation.page import Result
from evdistill_core.foundation.errors import TrainingError
from evdistill_core.foundation.progress import ProgressView
from evdistill_core.foundation.signals import Interrupts, interruption
from evdistill_core.training.loop import StepReport, Trainer
from evdistill_core.training.report import NextStep, write_training_report
from evdistill_core.training.sessions import Sessions

#: Share of a step that is worth telling about: more ``workers`` would help.
SLOW_DATA = 0.2


def run_with_progress(
    trainer: Trainer, *, next_steps: Sequence[NextStep] | None = None
) -> dict[str, Result]:
    """Run to the end, showing step, loss, rate and time left.

    The page of the run is written at each validation, at the end, and when it is stopped.

    Args:
        trainer: at its first step, or resumed.
        next_steps: for the page of a finished run; None: what fits the stage.

    Returns:
        The results of the last validation by set; empty in other processes than the first.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM (``Terminated``) ended the run; its checkpoint is
            written.
    """
    first = trainer.processes.is_first
    console = Console(quiet=not first)
    last: dict[str, Result] = {}
    sessions = Sessions(trainer.out, trainer.state.step)

    def on_step(report: StepReport) -> None:
        steps.show(report)
        if first:
            sessions.note(report.step)

    def on_validation(results: dict[str, Result]) -> None:
        last.update(results)
        for name, result in results.items():
            console.print(f"step {trainer.state.step}  {name}: {result.summary}")
        sessions.note(trainer.state.step, now=True)
        if trainer.state.step < trainer.config.steps:
            write_training_report(trainer, {}, sessions, "running")

    with Interrupts(trainer.stop) as signals, _Steps(console, trainer) as steps:
        try:
            finished = trainer.run(on_step, on_validation)
        except TrainingError:
            if first:
                raise
            finished = False
    if not finished and not first:
        # All ended for one reason, which the first tells. Were this a failure, Fabric would kill
        # the first before it has spoken.
        sys.exit(0)
    if not first:
        return {}
    sessions.note(trainer.state.step, now=True)
    if not finished:
        console.print(f"stopped at step {trainer.state.step}; go on with --resume")
        write_training_report(trainer, {}, sessions, "stopped")
        raise interruption(signals.received)
    page = write_training_report(trainer, last, sessions, "finished", next_steps=next_steps)
    sessions.note(trainer.state.step, now=True, is_finished=True)
    console.print(f"done: {page}")
    return last


class _Steps:
    """Steps, loss, rate and time left: a bar on a terminal, a line every 30 s elsewhere."""

    def __init__(self, console: Console, trainer: Trainer) -> None:
        step, steps = trainer.state.step, trainer.config.steps
        name = trainer.config.name
        self._view = ProgressView(name, console=console, fraction=step / max(1, steps))
        self._start = f"step {step}/{steps}"
        self._loss = self._seconds = self._wait_s = 0.0
        self._shown = 0

    def __enter__(self) -> _Steps:
        self._view.__enter__()
        self._view.update(None, self._start, "preparing")
        return self

    def __exit__(self, *exception: object) -> None:
        self._view.__exit__(*exception)

    def show(self, report: StepReport) -> None:
        """Show a step; loss and rate are running means."""
        self._shown += 1
        # The first step waits for the data and compiles: it is forgotten soon.
        share = max(0.02, 1 / self._shown)
        self._loss += share * (report.loss - self._loss)
        share = max(0.1, 1 / self._shown)
        self._seconds += share * (report.seconds - self._seconds)
        self._wait_s += share * (report.wait_seconds - self._wait_s)
        facts = [
            f"step {report.step}/{report.steps}",
            f"loss {self._loss:.4f}",
            f"{1 / max(self._seconds, 1e-9):.2f} steps/s",
        ]
        waiting = self._wait_s / max(self._seconds, 1e-9)
        if waiting >= SLOW_DATA:
            facts.append(f"{waiting:.0%} waiting for data")
        self._view.update(report.step / report.steps, *facts)
