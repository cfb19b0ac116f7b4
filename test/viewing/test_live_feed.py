"""Windows for viewers of others: the hand-over, and what a viewer that fails does."""

import threading

import numpy as np
import pytest

from evdistill_core.events.array import Events
from evdistill_core.viewing.live.feed import Feed
from evdistill_core.viewing.live.frames import Shot
from evdistill_core.viewing.live.live_view import Status

STATUS = Status(12_000.0, 20.0, 41, dropped=3)


class Viewer:
    """Takes windows when it is let; may fail at one."""

    name, where, is_watched = "viewer", "somewhere", True

    def __init__(self, *, fails_at=None):
        self.shown, self.is_closed = [], False
        self.may_go_on, self.has_begun = threading.Event(), threading.Event()
        self._fails_at = fails_at

    def show(self, shot, status, dropped):
        self.has_begun.set()
        assert self.may_go_on.wait(20)
        if shot.index == self._fails_at:
            raise RuntimeError("the disk is full")
        self.shown.append((shot.index, status, dropped))

    def close(self, timeout_s):
        self.is_closed = True


def shot(index):
    return Shot(index, 0, 50_000, 0, Events.from_columns([], [], [], [], width=4, height=3))


def feed_of(viewer, say=lambda text: None):
    return Feed(viewer, status=lambda: STATUS, say=say)


def test_a_slow_viewer_gets_the_newest_window_and_the_others_are_counted():
    viewer = Viewer()
    with feed_of(viewer) as feed:
        feed.offer(shot(0))
        assert viewer.has_begun.wait(20)
        for index in range(1, 10):
            feed.offer(shot(index))  # returns although the viewer stands still
        viewer.may_go_on.set()
    assert [index for index, *_ in viewer.shown] == [0, 9]
    assert viewer.shown[-1] == (9, STATUS, 8)
    assert viewer.is_closed
    assert feed.lines() == ["viewer: 2 windows to somewhere, 8 dropped since it was slow"]


def test_a_viewer_that_keeps_up_misses_nothing():
    viewer = Viewer()
    viewer.may_go_on.set()
    with feed_of(viewer) as feed:
        feed.offer(shot(3))
    assert feed.lines() == ["viewer: 1 windows to somewhere"]


def test_a_viewer_that_fails_is_told_at_once_and_every_missed_window_is_counted():
    viewer, said = Viewer(fails_at=0), []
    has_said = threading.Event()
    with feed_of(viewer, lambda text: (said.append(text), has_said.set())) as feed:
        viewer.may_go_on.set()
        feed.offer(shot(0))
        assert has_said.wait(20)
        feed.offer(shot(1))
        feed.offer(shot(2))
    assert "viewer gets no more windows: " in said[0]
    assert "the disk is full" in said[0]
    (line,) = feed.lines()
    assert line.startswith("viewer: 0 windows to somewhere, 3 dropped; it has ended early: ")


def test_an_error_at_the_end_is_told_and_does_not_end_the_command():
    class Stuck(Viewer):
        def close(self, timeout_s):
            raise TimeoutError(f"not sent within {timeout_s:g} s")

    with feed_of(Stuck()) as feed:
        pass
    assert feed.lines()[0].endswith("it has ended early: TimeoutError: not sent within 5 s")


def test_a_viewer_that_hangs_does_not_keep_the_command_from_ending(monkeypatch):
    monkeypatch.setattr("evdistill_core.viewing.live.feed.CLOSE_S", 0.2)
    viewer = Viewer()
    try:
        with feed_of(viewer) as feed:
            feed.offer(shot(0))
            assert viewer.has_begun.wait(20)
        assert not viewer.is_closed
        assert "it did not take a window within 0.2 s" in feed.lines()[0]
    finally:
        viewer.may_go_on.set()


def test_events_arrive_as_they_were_offered():
    viewer = Viewer()
    viewer.may_go_on.set()
    seen = []
    viewer.show = lambda shot, status, dropped: seen.append(shot.events)
    events = Events.from_columns([1], [2], [3], [1], width=4, height=3)
    with feed_of(viewer) as feed:
        feed.offer(Shot(0, 0, 1, 0, events))
    assert np.array_equal(seen[0].x, [1])


@pytest.mark.parametrize("is_watched", [True, False])
def test_it_says_whether_anybody_looks(is_watched):
    viewer = Viewer()
    viewer.is_watched = is_watched
    assert feed_of(viewer).is_watched is is_watched
