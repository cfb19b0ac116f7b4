"""Packets that are taken together give what they give one after the other."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.array import Events
from evdistill_core.events.decoders import make_decoder
from evdistill_core.events.packet import Packet
from evdistill_core.foundation.errors import MessageError
from evdistill_core.foundation.worker import BoundedQueue
from evdistill_core.messages.cdr import CdrWriter
from evdistill_core.messages.event_messages import EventPacket, EventPacketParser
from evdistill_core.messages.standard import Header, Time
from evdistill_core.perception.ingest import Incoming, Ingest
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.recordings.encoders.evt3 import encode_evt3
from evdistill_core.recordings.encoders.libcaer_cmp import encode_libcaer_cmp
from evdistill_core.representations import InputSpec

SIZE = {"width": 32, "height": 24}
STEP_US = 1000


def message(number, encoding, *, count=20, at_us=None, **changes):
    """A message of a millisecond."""
    rng = np.random.default_rng(number)
    start_us = 5_000_000 + number * STEP_US if at_us is None else at_us
    t_us = np.sort(rng.integers(0, STEP_US, count)) + start_us
    events = Events.from_columns(
        rng.integers(0, SIZE["width"], count), rng.integers(0, SIZE["height"], count), t_us,
        rng.integers(0, 2, count), **SIZE,
    )  # fmt: skip
    if encoding == "evt3":
        payload, base_ns = encode_evt3(events, 0), 0
    else:
        payload, base_ns = encode_libcaer_cmp(events, start_us), start_us * 1000
    header = Header(Time(1000, number * STEP_US * 1000), "camera")
    made = EventPacket(header, SIZE["height"], SIZE["width"], number, base_ns, encoding, False,
                       payload)  # fmt: skip
    return replace(made, **changes)


def packets(messages):
    return [
        Incoming(Packet(EventPacket.TYPE, m.serialize(), 10**18 + i, "t"), 1000 + i)
        for i, m in enumerate(messages)
    ]


class Side:
    def __init__(self, **parameters):
        self.jobs, self.counts, self.latencies = [], Counter(), Counter()
        self.ingest = Ingest(
            InputSpec(window_us=6000), SegmentationParameters(**parameters),
            hand_over=self.jobs.append, count=lambda name, n: self.counts.update({name: n}),
            record=lambda found: self.latencies.update(found.keys()), lossless=False,
        )  # fmt: skip

    def seen(self):
        jobs = [
            (j.window.t_start_us, j.window.t_end_us, j.window.index, j.window.first_event,
             j.stamp_ns, j.frame_id, j.epoch, j.stretch, j.received_ns,
             [c.tolist() for c in (j.window.events.x, j.window.events.y, j.window.events.t_us,
                                   j.window.events.p)])
            for j in self.jobs
        ]  # fmt: skip
        return (jobs, self.counts, self.latencies, self.ingest.stream_counters(),
                self.ingest.last_error, self.ingest.size)  # fmt: skip


def compare(messages, cuts, **parameters):
    items = packets(messages)
    alone, together = Side(**parameters), Side(**parameters)
    lost = {k for k, cut in enumerate(sorted(cuts)) if cut % 7 == 6}
    edges = [0, *sorted(min(c, len(items)) for c in cuts), len(items)]
    for k, (a, b) in enumerate(pairwise(edges)):
        for i, item in enumerate(items[a:b]):
            alone.ingest.take(item, k in lost and i == 0)
        if a < b:
            together.ingest.take_all(items[a:b], k in lost)
    for side in (alone, together):
        side.ingest.flush()
    assert together.seen() == alone.seen()
    return alone


def altered(kind, number, encoding):
    """One message of a stream, as it should be or not."""
    far_us = 5_000_000 + number * STEP_US
    return {
        "plain": lambda: message(number, encoding),
        "empty": lambda: message(number, encoding, count=0),
        "no payload": lambda: message(number, encoding, events=b""),
        "cut": lambda: message(number, encoding, events=message(number, encoding).events[:-1]),
        "lost before": lambda: message(number, encoding, seq=number + 1000),
        "overtaken": lambda: message(number, encoding, seq=max(0, number - 3)),
        "early": lambda: message(number, encoding, at_us=far_us - 3000),
        "far back": lambda: message(number, encoding, at_us=far_us - 900_000),
        "far ahead": lambda: message(number, encoding, at_us=far_us + 3_000_000),
        "pause": lambda: message(
            number, encoding, header=Header(Time(1009, number * STEP_US * 1000), "camera")
        ),
        "no stamp": lambda: message(number, encoding, header=Header(Time(0, 0), "camera")),
        "other frame": lambda: message(
            number, encoding, header=Header(Time(1000, number * STEP_US * 1000), "other")
        ),
        "other size": lambda: message(number, encoding, width=64),
        "no size": lambda: message(number, encoding, width=0),
        "other encoding": lambda: message(number, "evt3" if encoding != "evt3" else "libcaer_cmp"),
        "big endian": lambda: message(number, encoding, is_bigendian=True),
        "time base": lambda: message(number, encoding, time_base=1 << 63),
    }[kind]()


KINDS = ["empty", "no payload", "cut", "lost before", "overtaken", "early", "far back",
         "far ahead", "pause", "no stamp", "other frame", "other size", "no size",
         "other encoding", "big endian", "time base"]  # fmt: skip


@given(
    st.lists(st.sampled_from(["plain"] * 40 + KINDS), max_size=40),
    st.lists(st.integers(0, 40), max_size=8),
    st.sampled_from(["evt3", "libcaer_cmp"]),
    st.sampled_from([
        {}, {"stride_us": 2000}, {"window_count": 50}, {"background_us": 300},
        {"max_events_per_s": 9000}, {"max_rate_hz": 90.0}, {"roi": (3, 3, 20, 9)},
    ]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_any_stream_in_any_runs(kinds, cuts, encoding, parameters):
    messages = [altered(kind, number, encoding) for number, kind in enumerate(kinds)]
    compare(messages, cuts, **parameters)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encoding", ["evt3", "libcaer_cmp", "mono"])
def test_one_message_that_is_not_plain(kind, encoding):
    if encoding == "mono":
        messages = [replace(message(i, "evt3"), encoding="mono", events=bytes(16))
                    for i in range(20)]  # fmt: skip
        compare(messages, [3, 11])
        return
    messages = [altered(kind if i == 9 else "plain", i, encoding) for i in range(20)]
    for cuts in ([], [8], [9], [10], [5, 15]):
        assert compare(messages, cuts).jobs


def test_most_packets_of_a_run_are_joined(monkeypatch):
    side = Side()
    pushed = []
    push = side.ingest._push
    monkeypatch.setattr(side.ingest, "_push", lambda e, t: (pushed.append(len(e)), push(e, t)))
    side.ingest.take_all(packets([message(i, "evt3") for i in range(31)]))
    # The first one alone, then to the ends of the windows at 6 ms, 12 ms, ...
    assert sum(pushed) == 620
    assert len(pushed) <= 8


@given(st.binary(max_size=12), st.text(max_size=9), st.binary(max_size=9), st.booleans())
@settings(max_examples=80, deadline=None)
def test_the_fast_parser_reads_what_the_other_reads(payload, frame_id, tail, learns):
    made = EventPacket(
        Header(Time(-3, 9), frame_id), 5, 1 << 31, 1 << 63, 77, "evt3", True, payload
    )
    parse = EventPacketParser()
    if learns:
        parse(EventPacket(Header(Time(1, 2), frame_id), 1, 2, 3, 4, "evt3").serialize())
    data = made.serialize()
    for text in (data, data + tail, data[: len(data) - len(tail)], b"\0\0" + data[2:]):
        assert outcome(parse, memoryview(text)) == outcome(EventPacket.parse, text)


def outcome(parse, data):
    """Return a message, or why there is none."""
    try:
        found = parse(data)
    except MessageError as error:
        return str(error)
    return replace(found, events=bytes(found.events))


def test_the_fast_parser_leaves_big_endian_messages_to_the_other():
    parse, data = EventPacketParser(), message(1, "evt3").serialize()
    wanted = parse(data)
    writer = CdrWriter(EventPacket.TYPE)
    assert writer.finish()[:2] == data[:2] == b"\0\1"
    assert parse(data) == wanted
    with pytest.raises(MessageError):
        parse(b"\0\0" + data[2:])


@pytest.mark.parametrize("encoding", ["evt3", "libcaer_cmp", "evt2"])
def test_a_decoder_of_runs_counts_what_one_of_payloads_counts(encoding):
    rng = np.random.default_rng(1)
    payloads = [rng.bytes(n) for n in (40, 0, 2, 400, 8, 33, 64)]
    for some in (payloads[:5], payloads, payloads[:1], [b""]):
        alone, run = (make_decoder(encoding, **SIZE) for _ in range(2))
        bases = [10**9 * i for i in range(len(some))]
        decoded = [alone.decode(p, b) for p, b in zip(some, bases, strict=True)]
        found = run.decode_run(some, bases)
        assert found.events.equals(Events.concatenate([d.events for d in decoded]))
        assert found.ends == np.cumsum([len(d.events) for d in decoded]).tolist()
        assert found.t_ends_us == [d.t_end_us for d in decoded]
        assert run.counters == alone.counters


def test_a_queue_gives_several_items_up_to_its_limits():
    queue = BoundedQueue(max_items=9, max_bytes=100)
    limits = {"max_items": 3, "max_bytes": 50}
    assert queue.get_all(0.0, **limits) == ([], False)
    for i in range(8):
        queue.offer(i, 10)
    assert queue.get_all(0.0, **limits) == ([0, 1, 2], False)
    assert queue.fill == (5, 50)
    assert queue.get_all(0.0, max_items=9, max_bytes=15) == ([3, 4], False)
    assert queue.offer(99, 95) == [5, 6, 7]
    assert queue.get_all(0.0, **limits) == ([99], True)
    queue.close()
    assert queue.get_all(**limits) == ([], False)
