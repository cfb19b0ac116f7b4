"""What becomes of sensor time that falls, leaps, strays or comes unsorted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.stream import DecodedPacket, StreamCounters
from evdistill_core.events.time_watch import MAX_HELD, MAX_STRAY, SORTED_FALL_US, TimeWatch

S = 1_000_000


class Stream:
    """A watch, and everything that came out of it as lists of times."""

    def __init__(self, *, can_wait=False):
        self.counters = StreamCounters()
        self._watch = TimeWatch(self.counters)
        self._can_wait = can_wait
        self._number = 0
        self.stretches = []
        self.parts = []

    def push(self, *pieces, stamp_ns=0, size=(100, 100), why="", t_end_us=None):
        t_us = np.concatenate([np.atleast_1d(p) for p in pieces] or [[]]).astype(np.int64)
        # Each event carries its number in x, so that losses and repetitions show.
        x = (np.arange(len(t_us)) + self._number) % size[0]
        self._number += len(t_us)
        events = Events.from_columns(x, x, t_us, x * 0, width=size[0], height=size[1])
        self.counters.events += len(events)
        given = DecodedPacket(events, Triggers.empty(), stamp_ns, "", why, t_end_us)
        return self._keep(self._watch.split(given, can_wait=self._can_wait))

    def end(self):
        self._keep(self._watch.flush())
        return self.stretches

    def _keep(self, parts):
        self.parts += parts
        for part in parts:
            if part.discontinuity in {"time", "size"} or not self.stretches:
                self.stretches.append([])
            self.stretches[-1] += part.events.t_us.tolist()
        return parts


def steps(start_us, count, step_us=100):
    return start_us + step_us * np.arange(count)


def test_time_that_rises_passes_as_it_is():
    stream = Stream()
    (part,) = stream.push(steps(0, 1000))
    assert part.events.t_us.tolist() == steps(0, 1000).tolist()
    assert stream.push(steps(100_000, 10))[0].discontinuity == ""
    assert stream.counters.time_jumps == stream.counters.discarded_at_jump == 0


def test_a_restart_keeps_both_parts():
    stream = Stream()
    parts = stream.push(steps(0, 6000), steps(0, 6000))
    assert [len(p.events) for p in parts] == [6000, 6000]
    assert [p.discontinuity for p in parts] == ["", "time"]
    assert (stream.counters.time_jumps, stream.counters.discarded_at_jump) == (1, 0)


@pytest.mark.parametrize("stray_us", [-300_000, 300_000, -90 * S, 90 * S, 1 << 50])
@pytest.mark.parametrize("place", [1, 5000, 11_998])
def test_one_stray_event_costs_itself(stray_us, place):
    stream = Stream()
    t_us = steps(100 * S, 12_000)
    t_us[place] += stray_us
    stream.push(t_us)
    (kept,) = stream.end()
    assert kept == np.delete(t_us, place).tolist()
    assert (stream.counters.discarded_at_jump, stream.counters.time_jumps) == (1, 0)
    assert stream.counters.events == 11_999


def test_a_stray_at_the_end_waits_for_the_next_message():
    stream = Stream()
    stream.push(steps(10 * S, 500), [1 * S])
    assert sum(map(len, stream.stretches)) == 500
    stream.push(steps(10 * S + 50_000, 500))
    assert [len(s) for s in stream.end()] == [1000]
    assert stream.counters.discarded_at_jump == 1


def test_what_waited_is_kept_when_time_goes_on_from_there():
    stream = Stream()
    stream.push(steps(10 * S, 500), steps(1 * S, 3))
    stream.push(steps(1 * S + 300, 500))
    assert [len(s) for s in stream.end()] == [500, 503]
    assert (stream.counters.discarded_at_jump, stream.counters.time_jumps) == (0, 1)


def test_what_waited_is_kept_at_the_end():
    stream = Stream()
    stream.push(steps(10 * S, 500), steps(1 * S, 3))
    assert [len(s) for s in stream.end()] == [500, 3]


def test_nothing_waits_for_more_than_one_message():
    stream = Stream()
    stream.push(steps(10 * S, 500), [50 * S], stamp_ns=S)
    stream.push([90 * S], stamp_ns=S)
    stream.push([200 * S], stamp_ns=S)
    assert [len(s) for s in stream.end()] == [500, 1, 1, 1]


def test_a_whole_message_never_waits():
    stream = Stream()
    stream.push(steps(10 * S, 500))
    assert stream.push([1 * S])[0].discontinuity == "time"


def test_more_strays_than_can_be_are_a_stretch_of_their_own():
    stream = Stream()
    pieces = steps(10 * S, 500), steps(0, MAX_STRAY + 1), steps(10 * S + 50_000, 500)
    stream.push(*pieces, stamp_ns=S)
    assert [len(s) for s in stream.end()] == [500, MAX_STRAY + 1, 500]
    assert stream.counters.discarded_at_jump == 0


def test_small_steps_back_are_no_jump_and_do_not_add_up():
    stream = Stream()
    stream.push([10_000_000])
    assert stream.push([9_900_000, 9_850_000, 10_000_001])[0].discontinuity == ""
    stream.push([9_850_000])
    stream.push(steps(9_700_000, MAX_HELD + 1, 1))
    assert stream.parts[-1].discontinuity == "time"


def test_a_step_forward_is_a_jump_unless_the_stamps_confirm_it():
    stream, many = Stream(), np.arange(MAX_HELD + 1)
    stream.push(many, stamp_ns=100 * S * 1000)
    found = [
        stream.push(start_us + many, stamp_ns=stamp_s * S * 1000)[-1].discontinuity
        for start_us, stamp_s in ((8 * S, 101), (16 * S, 109), (16_900_000, 109), (19 * S, 109))
    ]
    assert found == ["time", "", "", "time"]
    assert stream.counters.time_jumps == 2


def test_without_stamps_a_quiet_scene_is_no_jump():
    stream = Stream()
    stream.push([0, 10], [60 * S, 60 * S + 5])
    stream.push([500 * S])
    assert [len(s) for s in stream.end()] == [5]


def test_a_leap_inside_a_message_with_a_stamp_keeps_both_parts():
    stream = Stream()
    parts = stream.push([1_000_000, 1_000_010], steps(7_000_000, 20), stamp_ns=S)
    assert [(len(p.events), p.discontinuity) for p in parts] == [(2, ""), (20, "time")]


@pytest.mark.parametrize("why", ["size", "encoding", "seq"])
def test_other_breaks_pass_and_a_new_size_has_a_time_of_its_own(why):
    stream = Stream()
    stream.push(steps(50 * S, 100))
    parts = stream.push(steps(0, 100), why=why)
    assert parts[0].discontinuity == ("time" if why == "seq" else why)
    assert stream.counters.time_jumps == (why == "seq")


def test_the_end_of_a_message_is_told_only_where_it_is_plausible():
    def end(t_us, t_end_us, stamp_s):
        return stream.push(t_us, stamp_ns=stamp_s * 1000 * S, t_end_us=t_end_us)[-1].t_end_us

    stream = Stream()
    assert end([1000], 1000, 1) == 1000
    assert end([], 90_000, 1) == 90_000
    # One damaged word puts the time 4 s ahead; the next message is right again.
    assert end([], 4_000_000, 1) is None
    assert end([], 95_000, 1) == 95_000
    assert end([], 3_000_000, 4) == 3_000_000
    # A jump back is a new beginning.
    assert end(steps(500, 20), 2500, 4) == 2500
    assert stream.parts[-1].discontinuity == "time"


def test_times_unsorted_inside_a_message_are_sorted_and_counted():
    rng = np.random.default_rng(1)
    t_us = np.repeat(np.arange(30) * 33_333, 200) + rng.integers(1, 33_333, 6000)
    stream = Stream()
    (part,) = stream.push(t_us)
    assert part.events.t_us.tolist() == sorted(t_us.tolist())
    assert stream.counters.time_sorted > 5000
    # Equal times keep their order, and every event keeps its other columns.
    order = np.argsort(t_us, kind="stable")
    assert part.events.x.tolist() == (order % 100).tolist()


@pytest.mark.parametrize("cut", [1, 7, 150, 200, 333])
def test_files_are_sorted_across_their_batches(cut):
    rng = np.random.default_rng(2)
    t_us = np.repeat(np.arange(10) * 33_333, 200) + rng.integers(1, 33_333, 2000)
    stream = Stream(can_wait=True)
    stream.push(t_us[:500])
    for start in range(500, 2000, cut):
        stream.push(t_us[start : start + cut])
    (kept,) = stream.end()
    assert sorted(kept) == sorted(t_us.tolist())
    late_us = np.maximum.accumulate(kept) - kept
    assert late_us.max() <= SORTED_FALL_US


def test_a_tail_that_waits_is_not_joined_across_a_break():
    stream = Stream(can_wait=True)
    stream.push([0, 50_000, 20_000, 60_000])
    stream.push([70_000], why="size", size=(50, 50))
    assert sum(map(len, stream.end())) == 5
    told = [(len(p.events), p.events.width) for p in stream.parts if len(p.events)]
    assert told == [(2, 100), (2, 100), (1, 50)]


def test_reset_counts_what_it_drops():
    stream = Stream()
    stream.push(steps(10 * S, 100), [0])
    stream._watch.reset()
    assert stream.counters.discarded_at_jump == 1
    assert stream.push(steps(0, 50))[0].discontinuity == ""


PIECE = st.tuples(
    st.sampled_from([0, 1, 5, 100, -(1 << 40), 1 << 40]) | st.integers(-(10**9), 10**9),
    st.integers(0, 40),
    st.sampled_from([0, 1, 100, 30_000, 150_000, -20_000, 250_000]),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(PIECE, max_size=5), max_size=6), st.booleans(), st.sampled_from([0, S * 1000])
)
def test_every_event_comes_out_once_or_is_counted(messages, can_wait, stamp_ns):
    stream = Stream(can_wait=can_wait)
    given_us = []
    for number, pieces in enumerate(messages):
        made = [start + step * np.arange(count) for start, count, step in pieces]
        given_us += [t for piece in made for t in piece.tolist()]
        stream.push(*made, stamp_ns=stamp_ns * (number + 1))
    stream.end()
    kept = [t for part in stream.parts for t in part.events.t_us.tolist()]
    assert stream.counters.events == len(kept)
    assert len(kept) + stream.counters.discarded_at_jump == len(given_us)
    left = list(given_us)
    for t in kept:
        left.remove(t)
    for part in stream.parts:
        t_us = part.events.t_us
        if len(t_us):
            assert (np.maximum.accumulate(t_us) - t_us).max() <= SORTED_FALL_US


@settings(max_examples=120, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [0, 50, 900, 5_000, 150_000, 210_000, 1_500_000, -40, -9_000, -300_000]
            ),
            st.lists(
                st.sampled_from([0, 1, 30, 4_000, 190_000, -20, -15_000, 250_000]), max_size=5
            ),
            st.sampled_from([0, 1, 1, 1, 40]),
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_messages_in_order_are_judged_as_the_slow_way_judges_them(messages, can_wait):
    """A message that simply continues is not looked at event by event; nothing else may differ."""
    quick, slow = Stream(can_wait=can_wait), Stream(can_wait=can_wait)
    slow._watch._simply_continues = lambda *_: False
    t_us, stamp_ns = S, 10**18
    for ahead_us, inside_us, stamps in messages:
        t_us += ahead_us
        stamp_ns += stamps * max(ahead_us, 0) * 1000
        times = t_us + np.cumsum([0, *inside_us])
        t_us = int(times[-1])
        for stream in (quick, slow):
            stream.push(times, stamp_ns=stamp_ns if stamps else 0, t_end_us=t_us + 10)
    assert quick.end() == slow.end()
    assert quick.counters == slow.counters
    assert [p.t_end_us for p in quick.parts] == [p.t_end_us for p in slow.parts]
