"""Of every event that was read the report says what became of it."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from evdistill_core.events.account import LEFT_OUT
from evdistill_core.events.account import account_of_stream as account
from evdistill_core.events.array import Events
from evdistill_core.events.packet import Packet
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.inference.prediction import Detection, Guess, Prediction, Recognition
from evdistill_core.messages.event_messages import EventArray, EventBlock, EventPacket
from evdistill_core.messages.standard import Header, Time
from evdistill_core.perception.ingest import Incoming, Ingest
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.perception.result import Result
from evdistill_core.perception.run_report import Found
from evdistill_core.perception.run_table import print_run, run_rows
from evdistill_core.recordings.encoders.evt3 import encode_evt3
from evdistill_core.representations import InputSpec

WIDTH, HEIGHT = 64, 48


class Counted:
    """The ingest side alone, without threads, and what it handed over."""

    def __init__(self, **parameters):
        self.counters = Counter()
        self.windows = []
        self.ingest = Ingest(
            InputSpec(window_us=50_000),
            SegmentationParameters(**parameters),
            hand_over=lambda job: self.windows.append(job.window),
            count=lambda name, amount: self.counters.update({name: amount}),
            record=lambda latencies: None,
            lossless=True,
        )

    def run(self, packets):
        for packet in packets:
            self.ingest.take(Incoming(packet, 0))
        self.ingest.flush()
        return account(self.counters | self.ingest.stream_counters(), {})


def array_packet(x, y, t_us, stamp_ns):
    block = EventBlock.pack(
        np.asarray(x, np.uint16), np.asarray(y, np.uint16), np.asarray(t_us) * 1000,
        np.zeros(len(x), np.uint8),
    )  # fmt: skip
    message = EventArray(Header(Time.from_ns(stamp_ns), "dvs"), HEIGHT, WIDTH, block)
    return Packet(EventArray.TYPE, message.serialize(), stamp_ns)


@st.composite
def streams(draw):
    """Messages whose events all have an address of their own, some of them outside the frame."""
    t_us, number, packets, sent = 1_000_000, 0, [], 0
    for _ in range(draw(st.integers(1, 12))):
        t_us += draw(st.sampled_from([0, 5_000, 40_000, 90_000, -12_000, 20_000_000, -900_000]))
        t_us = max(t_us, 1)
        count = draw(st.integers(0, 40))
        steps = draw(st.lists(st.sampled_from([0, 1, 700, 9_000, -3_000, -15_000, -400_000]),
                              min_size=count, max_size=count))  # fmt: skip
        times = np.maximum(t_us + np.cumsum(np.array(steps, np.int64)), 1)
        places = number + np.arange(count)
        x, y = places % WIDTH, places // WIDTH
        outside = draw(st.integers(0, 3))
        x, y = np.r_[x, np.full(outside, WIDTH)], np.r_[y, np.zeros(outside, int)]
        times = np.r_[times, np.full(outside, t_us)]
        packet = array_packet(x, y, times, int(t_us) * 1000)
        if draw(st.integers(0, 9)) == 0:
            packet = Packet(packet.type_name, bytes(packet.data)[:-5], packet.receive_time_ns)
        else:
            number += count
            sent += count + outside
        packets.append(packet)
    return packets, sent


@settings(max_examples=150, deadline=None)
@given(
    stream=streams(),
    stride_us=st.sampled_from([0, 1_000, 17_000]),
    window_count=st.sampled_from([0, 7]),
    max_rate_hz=st.sampled_from([0.0, 15.0, 200.0]),
    refractory_us=st.sampled_from([0, 5_000]),
    background_us=st.sampled_from([0, 2_000]),
    max_events_per_s=st.sampled_from([0, 1_000]),
)
def test_read_is_used_and_left_out(stream, **parameters):
    packets, sent = stream
    counted = Counted(window_us=20_000, **parameters)
    found = counted.run(packets)
    used = {
        (int(x), int(y))
        for window in counted.windows
        for x, y in zip(window.events.x, window.events.y, strict=True)
    }
    assert found.read == sent
    assert found.used == len(used)
    assert found.read == found.used + sum(found.left_out.values())
    assert min(found.left_out.values()) >= 0
    assert set(found.left_out) == set(LEFT_OUT)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99))
def test_damaged_evt3_adds_up_too(data, seed):
    rng = np.random.default_rng(seed)
    packets = []
    for i in range(6):
        start_us = 1_000_000 + 30_000 * i
        t_us = np.sort(rng.integers(start_us, start_us + 30_000, 60))
        events = Events.from_columns(
            rng.integers(0, WIDTH, 60), rng.integers(0, HEIGHT, 60), t_us, rng.integers(0, 2, 60),
            width=WIDTH, height=HEIGHT,
        )  # fmt: skip
        raw = bytearray(encode_evt3(events, start_us))
        for _ in range(data.draw(st.integers(0, 4))):
            raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        header = Header(Time.from_ns(start_us * 1000), "camera")
        message = EventPacket(header, HEIGHT, WIDTH, i, 0, "evt3", False, bytes(raw))
        if data.draw(st.integers(0, 5)):
            packets.append(Packet(EventPacket.TYPE, message.serialize(), start_us * 1000))
    counted = Counted(window_us=20_000)
    found = counted.run(packets)
    assert found.used == sum(len(window.events) for window in counted.windows)
    assert found.read == found.used + sum(found.left_out.values())


def test_what_a_reader_left_out_is_in_the_account():
    counters = {"stream_events": 90, "events_in_windows": 88, "window_used": 88, "window_late": 2}
    counters["stream_discarded_at_jump"] = 3
    found = account(counters, {"out_of_frame": 7})
    assert (found.read, found.used) == (100, 88)
    assert {n: c for n, c in found.left_out.items() if c} == {
        "out_of_frame": 7, "at_jump": 3, "late": 2,
    }  # fmt: skip


def result(prediction, *, epoch=0):
    events = Events.empty(8, 6)
    return Result(0, 0, 50_000, 0, "", events, prediction, SIX_CLASSES, epoch=epoch)


def detection(name, track):
    return Detection(0, 0.9, (0, 0, 2, 2), 4, track, name)


def test_a_track_is_counted_once_under_the_name_that_it_had_most():
    found = Found()
    nothing = np.zeros((6, 8), np.float32)
    for epoch, names in ((0, ["human", "vehicle", "vehicle"]), (1, ["vehicle"])):
        for name in names:
            mask = np.zeros((6, 8), np.uint8)
            seen = (detection(name, 1), detection("human", 2))
            found.add(result(Prediction(mask, nothing, seen), epoch=epoch))
    # After a jump of time ids restart: number 1 is another one then.
    assert found.to_dict() == {
        "human": {"boxes": 5, "tracks": 2},
        "vehicle": {"boxes": 3, "tracks": 2},
    }


def test_windows_are_counted_by_their_likeliest_class():
    found = Found()
    for name in ("seven", "one", "seven"):
        found.add(result(Recognition((Guess(0, 0.8, name), Guess(1, 0.1, "two")))))
    found.add(result(Recognition()))
    assert found.to_dict() == {"seven": {"windows": 2}, "one": {"windows": 1}}


REPORT = {
    "windows": 1200,
    "windows_skipped": 0,
    "sensor_s": 60.0,
    "wall_s": 20.0,
    "event_account": {
        "read": 1_000_012,
        "used": 1_000_000,
        "left_out": {"out_of_frame": 12} | {n: 0 for n in LEFT_OUT if n != "out_of_frame"},
        "damage": {"damaged_messages": 0, "lost_messages": 3, "unknown_words": 1, "time_jumps": 0},
    },
    "found": {"vehicle": {"boxes": 40, "tracks": 5}},
    "pictures": {"drawn": 1190, "above_rate": 0, "too_slow": 10},
    "files": [{"name": "overlay.mp4", "bytes": 2_340_000}, {"name": "masks.mcap", "bytes": 999}],
}


def test_the_table_says_what_the_report_does(tmp_path, capsys):
    print_run(REPORT, tmp_path, Console(width=40))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "windows computed 1,200 60.0 s of sensor time in 20.0 s, 3.0 x real time"
    assert "12 outside the sensor's frame" in lines
    assert "damage 3 messages missing" in lines
    assert "1 words unknown" in lines
    assert "vehicle 40 boxes, of 5 tracks" in lines
    (video,) = [line for line in lines if line.startswith("video")]
    assert video == (
        f"video 2.3 MB {tmp_path}/overlay.mp4 (1,190 of 1,200 windows; 10 left out: drawing is "
        "slower than computing)"
    )
    assert lines[-2:] == [f"numbers {tmp_path}/report.json", f"report {tmp_path}/report.html"]


def test_a_terminal_gets_the_same_rows(tmp_path):
    console = Console(width=200, force_terminal=True, record=True, file=SimpleNamespace(
        write=lambda text: None, flush=lambda: None))  # fmt: skip
    print_run(REPORT, tmp_path, console)
    shown = [line.split() for line in console.export_text().splitlines()]
    assert shown == [" ".join(row).split() for row in run_rows(REPORT, tmp_path)]


@pytest.mark.parametrize("found", [{}, {"seven": {"windows": 2}}])
def test_what_was_found_is_said_in_any_case(tmp_path, found):
    rows = run_rows(REPORT | {"found": found, "pictures": None, "files": []}, tmp_path)
    (row,) = [r for r in rows if r[0] in {"found", "seven"}]
    assert row in [
        ("found", "0", "nothing that the student is sure of"),
        ("seven", "2", "windows of this class"),
    ]
