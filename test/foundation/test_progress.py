import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from evdistill_core.foundation.progress import ProgressView, TimeLeft, duration


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def view_on(file, clock, **options):
    console = Console(file=file, width=100, **options.pop("console", {}))
    return ProgressView("working", console=console, clock=clock, **options)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (750, "12:30"), (3723, "1:02:03"),
     (2 * 86_400 + 3 * 3600, "2 d 3:00:00")],
)  # fmt: skip
def test_durations_read_as_people_write_them(seconds, text):
    assert duration(seconds) == text


def test_time_left_is_told_from_the_second_step_and_leaves_loading_out():
    left = TimeLeft(0.2, now_s=0.0)
    assert left.left_s(0.0) is None
    left.add(0.21, 50.0)  # loading took 49 s
    assert left.left_s(50.0) is None
    left.add(0.22, 51.0)
    assert left.left_s(51.0) == pytest.approx(78.0)
    assert left.left_s(61.0) == pytest.approx(68.0)


def test_time_left_follows_a_change_of_pace():
    left = TimeLeft(now_s=0.0)
    for second in range(1, 101):
        left.add(second / 10_000, second)
    for second in range(101, 301):
        left.add(0.01 + (second - 100) * 0.003, second)
    assert left.left_s(300.0) == pytest.approx(0.39 / 0.003, rel=0.05)


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 100_000)), max_size=300))
def test_time_left_is_never_negative(steps):
    left, now_s = TimeLeft(now_s=0.0), 0.0
    for permille, after_ms in steps:
        now_s += after_ms / 1000
        left.add(permille / 1000, now_s)
        assert (left.left_s(now_s) or 0.0) >= 0.0
        assert (left.left_s(now_s + 1e6) or 0.0) >= 0.0


def test_a_pipe_gets_a_plain_line_every_30_s(clock):
    file = io.StringIO()
    with view_on(file, clock) as view:
        for second in range(100):
            clock.now_s = 1000.0 + second
            view.update(second / 100, f"{second} [b]done[/b]")
    assert file.getvalue() == (
        "working: 5%, 5 [b]done[/b], elapsed 0:05, left 1:35\n"
        "working: 35%, 35 [b]done[/b], elapsed 0:35, left 1:05\n"
        "working: 65%, 65 [b]done[/b], elapsed 1:05, left 0:35\n"
        "working: 95%, 95 [b]done[/b], elapsed 1:35, left 0:05\n"
    )


def test_without_a_known_length_neither_percent_nor_time_left(clock):
    file = io.StringIO()
    with view_on(file, clock) as view:
        clock.now_s += 40
        view.update(None, "7 things")
    assert file.getvalue() == "working: 7 things, elapsed 0:40\n"


def test_a_terminal_gets_a_bar(clock):
    file = io.StringIO()
    with view_on(file, clock, console={"force_terminal": True}) as view:
        view.update(0.0, "no step")
        clock.now_s += 10
        view.update(0.25, "1 step")
        clock.now_s += 10
        view.update(0.5, "2 steps")
        view.say("a word in between")
    text = file.getvalue()
    assert "50%" in text
    assert "2 steps  elapsed 0:20  left 0:20" in text
    assert "a word in between" in text


@pytest.mark.parametrize("options", [{"shown": False}, {"console": {"quiet": True}}])
def test_nothing_is_shown_to_those_who_want_quiet(clock, options):
    file = io.StringIO()
    with view_on(file, clock, **options) as view:
        clock.now_s += 100
        view.update(0.5, "x")
        view.say("y")
    assert file.getvalue() == ""
