"""The window assembler against a reference that looks at one event at a time."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.array import Events
from evdistill_core.events.window import MAX_REORDER_US, WindowAssembler, WindowSpec
from evdistill_core.foundation.errors import ConfigError


def make(times, width=64, height=32):
    count = len(times)
    serial = np.arange(count)
    return Events.from_columns(
        serial % width, serial // width % height, np.asarray(times, np.int64), serial % 2,
        width=width, height=height,
    )  # fmt: skip


def reference(times, spec):
    """Return (start, end, ids) of each window, fed one event at a time, and late event ids."""
    duration, count = spec.duration_us, spec.count
    stride_us, stride_count = spec.stride_us or duration, spec.stride_count or count
    held, windows, late = [], [], []  # held: (id, time)
    state = {"start": None, "by": None, "empties": 0}
    newest = None

    def windows_until(now):
        while True:
            if state["start"] is None:
                if held:
                    first = held[0][1]
                    state["start"] = first if state["by"] is None else min(first, state["by"])
                elif state["by"] is not None and now >= state["by"]:
                    state["start"] = state["by"]
                else:
                    return
            start = state["start"]
            inside = [h for h in held if duration is None or h[1] < start + duration]
            if count is not None and len(inside) >= count:
                inside = inside[:count]
                end = inside[-1][1] + 1
            elif duration is not None and now >= start + duration:
                end = start + duration
            else:
                return
            if inside:
                state["empties"] = 0
                windows.append((start, end, [h[0] for h in inside]))
            else:
                state["empties"] += 1
                if state["empties"] <= spec.max_empty:
                    windows.append((start, end, []))
            step(start, now, bool(inside))

    def step(start, now, had_events):
        nonlocal held
        state["start"] = state["by"] = None
        if duration is None:
            held = held[stride_count:]
            return
        before = [h for h in held if h[1] < start + stride_us]
        if count is not None and had_events:
            if len(before) > stride_count:
                held = held[stride_count:]
                state["by"] = start + stride_us
                return
            if now < start + stride_us:  # whether time or count comes first is not known yet
                held = held[min(stride_count, len(held)) :]
                state["by"] = start + stride_us
                return
        held = held[len(before) :]
        state["start"] = start + stride_us

    for i, time in enumerate(times):
        t = int(time)
        if newest is not None and t < newest:
            if t < newest - MAX_REORDER_US:
                late.append(i)
                continue
            t = newest
        newest = t
        held.append((i, t))
        windows_until(t)
    return windows, late


def identify(window, width=64):
    return (window.events.x.astype(int) + width * window.events.y.astype(int)).tolist()


def check_window(window, spec):
    t = window.events.t_us
    if len(t):
        assert window.t_start_us <= t[0]
        assert t[-1] < window.t_end_us
        assert (np.diff(t) >= 0).all()
    assert window.t_start_us < window.t_end_us
    if spec.duration_us is not None:
        assert window.t_end_us - window.t_start_us <= spec.duration_us
    if spec.count is not None:
        assert len(t) <= spec.count


def balanced(assembler):
    c = assembler.counters
    assert c.pushed == c.used + c.late + c.discarded + c.pending, c


@st.composite
def specs(draw):
    mode = draw(st.sampled_from(["time", "count", "both"]))
    duration = draw(st.integers(1, 60)) * 100 if mode != "count" else None
    count = draw(st.integers(1, 12)) if mode != "time" else None
    stride_us = (
        draw(st.none() | st.integers(max(1, duration // 20), duration)) if duration else None
    )
    stride_count = draw(st.none() | st.integers(1, count)) if count else None
    return WindowSpec(duration, count, stride_us, stride_count, None, draw(st.integers(0, 3)))


steps = st.one_of(
    st.integers(0, 3), st.integers(0, 400), st.integers(-300, -1), st.integers(5_000, 90_000),
    st.integers(-20_000, -9_000),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_split_gives_the_windows_of_the_reference(data):
    spec = data.draw(specs())
    times = np.cumsum(data.draw(st.lists(steps, min_size=1, max_size=120))) + 1_000_000
    expected, late = reference(times, spec)
    events = make(times)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(times)), max_size=12)))
    assembler = WindowAssembler(spec)
    windows = []
    for a, b in zip([0, *cuts], [*cuts, len(times)], strict=True):
        windows += assembler.push(events[a:b])
        balanced(assembler)
    for window in windows:
        check_window(window, spec)
    found = [(w.t_start_us, w.t_end_us, identify(w)) for w in windows]
    assert found == expected
    assert [w.index for w in windows] == list(range(len(windows)))
    assert assembler.counters.late == len(late)

    seen = {i for w in windows for i in identify(w)}
    held = assembler.counters.pending
    windows += assembler.flush()
    balanced(assembler)
    assert assembler.counters.pending == 0
    assert assembler.counters.discarded == 0
    # Strides are never longer than windows, so flushing leaves no accepted event unused.
    seen |= {i for w in windows for i in identify(w)}
    assert seen == set(range(len(times))) - set(late)
    assert assembler.counters.used == len(seen)
    assert held <= len(times)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 30_000), min_size=1, max_size=60), st.integers(1, 20_000), st.data())
def test_windows_of_a_duration_tile_time(gaps, duration_us, data):
    times = np.cumsum(gaps)
    spec = WindowSpec(duration_us, max_empty=10**9)
    windows = WindowAssembler(spec).push(make(times))
    for k, window in enumerate(windows):
        assert window.t_start_us == times[0] + k * duration_us
        assert window.t_end_us == window.t_start_us + duration_us
    whole = [i for w in windows for i in identify(w)]
    assert whole == list(range(len(whole)))


def test_a_window_is_given_out_by_the_event_that_ends_it():
    assembler = WindowAssembler(WindowSpec(1000))
    assert assembler.push(make([5, 900, 1004])) == []
    (window,) = assembler.push(make([1005]))
    assert (window.t_start_us, window.t_end_us, len(window.events)) == (5, 1005, 3)
    assert assembler.counters.pending == 1


def test_a_long_gap_gives_no_flood_and_takes_no_time():
    assembler = WindowAssembler(WindowSpec(1000, stride_us=1))
    windows = assembler.push(make([0, 10**15]))
    assert len(windows) == 1 + 1  # the window of event 0, and one empty one
    assert assembler.counters.empty_windows == 1
    assert assembler.counters.empty_skipped == 10**15 - 1000 - 1
    assert assembler.push(make([10**15 + 999]))[0].t_start_us == 10**15 - 999 + 0


def test_a_quiet_camera_is_closed_by_the_clock():
    assembler = WindowAssembler(WindowSpec(1000, max_empty=1))
    assembler.push(make([0, 10]))
    assert assembler.close(999) == []
    (window,) = assembler.close(1000)
    assert (window.t_start_us, window.t_end_us, len(window.events)) == (0, 1000, 2)
    (empty,) = assembler.close(2500)
    assert (empty.t_start_us, len(empty.events)) == (1000, 0)
    assert assembler.close(60_500) == []
    assert assembler.counters.empty_skipped == 58
    # What comes after all belongs to a window that is gone: raised if near, dropped if far.
    assert assembler.push(make([59_000, 40_000, 60_200, 61_100]))[0].t_start_us == 60_000
    assert assembler.counters.late == 1
    assert assembler.counters.reordered == 1
    balanced(assembler)


def test_a_count_window_is_closed_by_the_clock_too():
    assembler = WindowAssembler(WindowSpec(None, 4, stride_count=2))
    assert assembler.close(10**9) == []
    (first,) = assembler.push(make([1, 2, 3, 4, 5]))
    assert len(first.events) == 4
    assert assembler.close(5) == []
    (rest,) = assembler.close(100)
    assert (rest.t_start_us, rest.t_end_us, len(rest.events)) == (3, 6, 3)
    assert assembler.close(200) == []
    balanced(assembler)
    assert dataclasses.asdict(assembler.counters)["discarded"] == 0


def test_sensor_time_without_events_ends_durations_but_not_counts():
    assembler = WindowAssembler(WindowSpec(None, 4))
    assembler.push(make([1, 2]))
    assert assembler.advance_to(10**9) == []
    assert len(assembler.push(make([3, 4]))[0].events) == 4
    assembler = WindowAssembler(WindowSpec(1000, 4))
    assembler.push(make([1, 2]))
    assert assembler.advance_to(1000) == []
    assert len(assembler.advance_to(1001)[0].events) == 2
    # Unlike a deadline it promises nothing of later events but that they are not before it.
    assert assembler.push(make([1500])) == []
    assert assembler.counters.late == assembler.counters.reordered == 0


def test_whichever_comes_first():
    assembler = WindowAssembler(WindowSpec(1000, 3))
    windows = assembler.push(make([0, 1, 2, 400, 1399, 1400, 1401, 5000]))
    spans = [(w.t_start_us, w.t_end_us, len(w.events)) for w in windows]
    assert spans == [(0, 3, 3), (400, 1400, 2), (1400, 2400, 2), (2400, 3400, 0)]


def test_events_that_ran_back_are_raised_or_dropped_and_counted():
    times = [100_000, 100_500, 100_400, 100_500 - MAX_REORDER_US, 100_499 - MAX_REORDER_US, 101_000]
    assembler = WindowAssembler(WindowSpec(1000))
    (window,) = assembler.push(make(times))
    assert window.events.t_us.tolist() == [100_000, 100_500, 100_500, 100_500]
    assert assembler.counters.reordered == 2
    assert assembler.counters.late == 1


def test_inputs_are_not_modified():
    times = np.array([5, 3, 9], np.int64)
    events = make(times)
    WindowAssembler(WindowSpec(2)).push(events)
    assert events.t_us.tolist() == [5, 3, 9]


def test_nothing_spans_a_reset_and_it_is_counted():
    assembler = WindowAssembler(WindowSpec(1000, stride_us=500))
    first = assembler.push(make([0, 600, 1100]))
    assert len(first) == 1
    assembler.reset()
    balanced(assembler)
    # 600 was in a window already; 1100 was in none.
    assert (assembler.counters.used, assembler.counters.discarded) == (2, 1)
    windows = assembler.push(make([-5_000_000, -4_999_000]))
    assert [w.t_start_us for w in windows] == [-5_000_000]
    assert windows[0].index == 1
    assert assembler.counters.resets == 1


def test_another_frame_size_begins_anew():
    assembler = WindowAssembler(WindowSpec(1000))
    assembler.push(make([0, 1]))
    (window,) = assembler.push(make([2, 1500], width=32, height=16))
    assert (window.events.width, len(window.events)) == (32, 1)
    assert assembler.counters.discarded == 2
    balanced(assembler)


def test_memory_is_bounded():
    assembler = WindowAssembler(WindowSpec(1000), max_pending_events=100)
    for _ in range(30):
        assembler.push(make([7] * 10))
        assert assembler.counters.pending <= 100
    balanced(assembler)
    assert assembler.counters.discarded == 220
    assert assembler.counters.resets == 2


def test_no_events_at_all():
    assembler = WindowAssembler(WindowSpec(1000))
    assert assembler.push(make([])) == []
    assert assembler.close(5) == []
    assert assembler.flush() == []
    assembler.reset()
    assert set(assembler.counters.as_dict().values()) == {0}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"duration_us": None}, "needs duration_us, count, or both"),
        ({"duration_us": 0}, "duration_us must be 1 or more, got 0"),
        ({"duration_us": None, "count": 0}, "count must be 1 or more"),
        ({"stride_us": 0}, r"stride_us must be 1\.\.duration_us"),
        ({"stride_us": 60_000}, r"stride_us must be 1\.\.duration_us \(50000\), got 60000"),
        ({"stride_us": 1}, "at least duration_us / 1000"),
        ({"stride_count": 5}, "stride_count needs count"),
        ({"deadline_ms": 0.0}, "deadline_ms must be above 0"),
        ({"deadline_ms": float("nan")}, "deadline_ms must be above 0"),
        ({"duration_us": float("nan")}, r"duration_us must be a whole number \(int\), got nan"),
        ({"duration_us": 5e4}, "duration_us must be a whole number"),
        ({"stride_us": 1.5}, "stride_us must be a whole number"),
        ({"max_empty": -1}, "max_empty must be 0 or more"),
    ],
)
def test_specs_that_cannot_work_are_refused(arguments, text):
    with pytest.raises(ConfigError, match=text):
        WindowSpec(**arguments)
