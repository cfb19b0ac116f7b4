import logging
from dataclasses import replace

from evdistill_core.foundation.latency import Percentiles
from evdistill_core.perception.pipeline import STAGES, Snapshot
from evdistill_core.perception.stream_news import StreamNews

S = 1_000_000_000
NOTHING = Snapshot(S, {}, dict.fromkeys(STAGES, Percentiles(0, 0, 0, 0)), 0, 0, 0, 0, 0)


def told(ages, news=None):
    """Return what is said at one look a second, given the age of the latest packet each time."""
    news = news or StreamNews()
    said = []
    for second, age_s in enumerate(ages, start=10):
        last_ns = 0 if age_s is None else round((second - age_s) * S)
        now = replace(NOTHING, time_ns=second * S, last_message_ns=last_ns, width=346, height=260)
        said.append(news(now, silent_after_ms=1000))
    return said


def test_the_first_packet_a_stop_and_the_return_are_said_once_each():
    said = told([None, None, 0.1, 0.1, 0.9, 1.9, 2.9, 0.3, 0.1, 1.5])
    assert said == [
        None,
        None,
        (logging.INFO, "events arrive, sensor 346x260"),
        None,
        None,
        (logging.WARNING, "events have stopped: no packet for 1.9 s"),
        None,
        (logging.INFO, "events are back after 3.9 s"),
        None,
        (logging.WARNING, "events have stopped: no packet for 1.5 s"),
    ]


def test_a_single_packet_long_ago_has_stopped():
    assert told([None, 2.0]) == [
        None,
        (logging.WARNING, "events have stopped: no packet for 2.0 s"),
    ]


def test_after_a_pause_that_was_wanted_the_first_packet_is_new():
    news = StreamNews()
    told([0.1, 5.0], news)
    news.forget()
    assert told([0.1], news) == [(logging.INFO, "events arrive, sensor 346x260")]
