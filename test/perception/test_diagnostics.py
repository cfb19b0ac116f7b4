import pytest

from evdistill_core.foundation.latency import Percentiles
from evdistill_core.messages.standard import DiagnosticArray, DiagnosticStatus
from evdistill_core.perception.diagnostics import (
    camera_status,
    diagnostics,
    rates,
    state_status,
)
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.perception.pipeline import STAGES, Snapshot

S = 1_000_000_000


def snapshot(time_s, *, silent_s=0.0, **counters):
    time_ns = round(time_s * S)
    return Snapshot(
        time_ns=time_ns,
        counters=counters,
        latency_ms=dict.fromkeys(STAGES, Percentiles(1.0, 2.0, 3.0, 10)),
        queue_packets=1,
        queue_bytes=100,
        last_message_ns=time_ns - round(silent_s * S),
        width=346,
        height=260,
    )


def made(after, before=None, **more):
    return diagnostics(
        before or snapshot(10),
        after,
        SegmentationParameters(),
        stamp_ns=5 * S,
        node="/left/segmentation",
        camera="/left_camera/events",
        student="s on r",
        **more,
    )


def test_rates_are_changes_a_second():
    period = rates(
        snapshot(10, events=100, windows_done=4), snapshot(12, events=300, windows_done=44)
    )
    assert (period.events_per_s, period.windows_per_s) == (100, 20)


@pytest.mark.parametrize(
    ("after", "level", "words"),
    [
        (snapshot(11, events=500), DiagnosticStatus.OK, "million events/s"),
        (snapshot(11, silent_s=1.5), DiagnosticStatus.WARN, "no packet for 1.5 s"),
        (snapshot(11, silent_s=5), DiagnosticStatus.ERROR, "no packet for 5.0 s"),
        (snapshot(11, messages_lost_queue=3), DiagnosticStatus.ERROR, "3 packets lost"),
        (snapshot(11, breaks_seq=1), DiagnosticStatus.WARN, "breaks_seq 1"),
        (snapshot(11, messages_damaged=2), DiagnosticStatus.WARN, "messages_damaged 2"),
    ],
)
def test_the_stream_status_follows_its_limits(after, level, words):
    stream, _ = made(after).status
    assert (stream.level, stream.name) == (level, "/left/segmentation: events")
    assert words in stream.message


def test_every_status_names_its_camera_and_values_say_size_and_student():
    stream, results = made(snapshot(11)).status
    own = state_status(node="/left/segmentation", camera="/left_camera/events", level=1, message="")
    assert {s.hardware_id for s in (stream, results, own)} == {"/left_camera/events"}
    assert own.name == "/left/segmentation: state"
    assert {row.key: row.value for row in stream.values}["sensor"] == "346x260"
    assert {row.key: row.value for row in results.values}["student"] == "s on r"


def test_silence_is_no_trouble_where_nobody_wants_events():
    stream, _ = made(snapshot(11, silent_s=60), is_on=False).status
    assert (stream.level, stream.message) == (DiagnosticStatus.OK, "switched off")


def test_trouble_of_an_earlier_period_is_over():
    before, after = snapshot(10, breaks_seq=4), snapshot(11, breaks_seq=4)
    assert made(after, before).status[0].level == DiagnosticStatus.OK


def test_dropped_windows_are_a_warning():
    _, results = made(snapshot(11, windows_dropped=2)).status
    assert results.level == DiagnosticStatus.WARN
    assert "2 windows dropped" in results.message


def test_before_the_first_packet():
    first = Snapshot(S, {}, dict.fromkeys(STAGES, Percentiles(0, 0, 0, 0)), 0, 0, 0, 0, 0)
    stream, _ = made(first, first).status
    assert (stream.level, stream.message) == (DiagnosticStatus.WARN, "no packet yet")


def test_the_message_survives_the_wire_with_every_stage():
    array = DiagnosticArray.parse(made(snapshot(11, windows_done=3)).serialize())
    values = {row.key: row.value for row in array.status[1].values}
    assert values["windows_done"] == "3"
    assert all(f"{stage}_ms_p95" in values for stage in STAGES)
    assert array.header.stamp.to_ns() == 5 * S


def test_what_a_camera_lost_is_a_warning_once():
    zero = {"events": 0, "lost_events": 0, "triggers_not_published": 0, "restarts": 0}
    first = zero | {"events": 900, "triggers_not_published": 2}
    lost = first | {"lost_events": 70, "restarts": 1}
    steps = [({}, zero), (zero, first), (first, lost), (lost, lost)]
    states = [camera_status(*s, node="/segmentation", camera="DAVIS346 7") for s in steps]
    ok, warn = DiagnosticStatus.OK, DiagnosticStatus.WARN
    assert [s.level for s in states] == [ok, ok, warn, ok]
    assert states[2].message == "lost_events 70, restarts 1"
    assert {(s.name, s.hardware_id) for s in states} == {("/segmentation: camera", "DAVIS346 7")}
    assert {v.key: v.value for v in states[3].values} == {k: str(v) for k, v in lost.items()}
