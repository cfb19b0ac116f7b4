import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from evdistill_core.foundation import progress
from evdistill_core.training import console as training_console


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(s=0.0)
    monkeypatch.setattr(
        training_console,
        "ProgressView",
        lambda *a, **k: progress.ProgressView(*a, **k, clock=lambda: now.s),
    )
    return now


def trainer(step=0, steps=1000):
    config = SimpleNamespace(name="street", steps=steps)
    return SimpleNamespace(config=config, state=SimpleNamespace(step=step))


def report(step, *, steps=1000, loss=2.0, seconds=0.5, wait_seconds=0.0):
    return SimpleNamespace(
        step=step, steps=steps, loss=loss, seconds=seconds, wait_seconds=wait_seconds
    )


def test_a_pipe_gets_step_loss_rate_and_both_times_every_30_s(clock):
    file = io.StringIO()
    with training_console._Steps(Console(file=file, width=40), trainer()) as steps:
        for step in range(1, 141):
            clock.s += 0.5
            steps.show(report(step, wait_seconds=0.3 if step > 80 else 0.0))
    assert file.getvalue().splitlines() == [
        "street: 1%, step 10/1000, loss 2.0000, 2.00 steps/s, elapsed 0:05, left 8:15",
        "street: 7%, step 70/1000, loss 2.0000, 2.00 steps/s, elapsed 0:35, left 7:45",
        "street: 13%, step 130/1000, loss 2.0000, 2.00 steps/s, 60% waiting for data, "
        "elapsed 1:05, left 7:15",
    ]


def on_terminal(reports, clock):
    file = io.StringIO()
    console = Console(file=file, width=120, force_terminal=True)
    with training_console._Steps(console, trainer(40, 100)) as steps:
        for shown in reports:
            clock.s += 2.0
            steps.show(shown)
    return file.getvalue()


def test_a_terminal_says_neither_nan_nor_zero_steps_before_the_first_step(clock):
    text = on_terminal([], clock)
    assert "step 40/100  preparing  elapsed 0:00" in text
    assert "nan" not in text
    assert "loss" not in text
    assert "steps/s" not in text


def test_a_terminal_names_both_times(clock):
    text = on_terminal([report(40 + i, steps=100, seconds=2.0) for i in (1, 2, 3)], clock)
    # The third of sixty steps: 57 at 2 s each.
    assert "43%  step 43/100  loss 2.0000  0.50 steps/s  elapsed 0:06  left 1:54" in text


def test_the_first_slow_step_does_not_spoil_the_rate_for_long(clock):
    file = io.StringIO()
    with training_console._Steps(Console(file=file), trainer(steps=400)) as steps:
        clock.s = 40.0
        steps.show(report(1, steps=400, seconds=40.0))
        for step in range(2, 100):
            clock.s += 0.5
            steps.show(report(step, steps=400))
    first, last = file.getvalue().splitlines()
    assert "left" not in first  # one step tells nothing yet
    assert "left 2:50" in last or "left 2:49" in last
    assert "2.00 steps/s" in last or "1.9" in last
