"""`evdistill live` over real DDS: results, bad input, signals."""

import json
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from evdistill_core.events.array import Events
from evdistill_core.foundation.worker import wait_until
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import (
    CompressedImage,
    DiagnosticArray,
    Header,
    Image,
    Log,
    Time,
)
from evdistill_core.messages.vision import Classification, Detection2DArray, LabelInfo
from evdistill_core.perception.offline import run_recording
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.recordings.encoders.libcaer_cmp import encode_libcaer_cmp
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.writers.mcap import McapWriter
from evdistill_ros import qos

pytestmark = pytest.mark.slow

MASK = "/segmentation/mask"
ROOT = Path(__file__).resolve().parents[2]


def masks_of(packets):
    return [Image.parse(p.data) for p in packets]


def test_masks_come_out_with_one_header_and_the_process_leaves_the_graph(
    evdistill, camera, tiny_student, street_packets, tmp_path
):
    camera.advertise()
    masks = camera.listen(MASK, Image.TYPE)
    detections = camera.listen("/segmentation/detections", Detection2DArray.TYPE)
    labels = camera.listen("/segmentation/label_info", LabelInfo.TYPE, qos.LATCHED)
    diagnostics = camera.listen("/diagnostics", DiagnosticArray.TYPE)
    log = tmp_path / "results.jsonl"
    live = evdistill("live", "--student", tiny_student, "--result-log", log)
    camera.send(street_packets[:120])
    assert wait_until(lambda: len(masks) >= 24 and len(diagnostics) >= 2, timeout_s=20)
    live.send(signal.SIGTERM)
    assert live.wait() == 0, live.output
    parsed = masks_of(masks)
    assert {(m.encoding, m.width, m.height, m.header.frame_id) for m in parsed} == {
        ("mono8", 346, 260, "event_camera")
    }
    headers = [Detection2DArray.parse(p.data).header for p in detections]
    assert headers == [m.header for m in parsed]
    assert len(LabelInfo.parse(labels[0].data).class_map) == 7
    final = {s.name: s for s in DiagnosticArray.parse(diagnostics[-1].data).status}
    values = {row.key: row.value for row in final["/segmentation: results"].values}
    assert int(values["windows_done"]) == len(masks)
    # The last line says what became of everything, as the diagnostics do.
    last = live.output.splitlines()[-1]
    assert last.startswith("in all: messages_received 120, events ")
    windows = f"windows_done {len(masks)}, windows_dropped {values.get('windows_dropped', 0)}"
    assert last.split(", ", 2)[2].startswith(windows)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["stamp_ns"] for line in lines] == [m.header.stamp.to_ns() for m in parsed]
    gone = wait_until(lambda: not camera.node.graph.publishers(MASK), timeout_s=10)
    assert gone, "a stale entry is left in the graph"


def test_compressed_images_lie_behind_the_overlay_and_what_is_left_out_is_said(
    evdistill, camera, tiny_student, street_packets
):
    camera.advertise()
    kind = CompressedImage.TYPE
    topic = "/event_camera/image_raw/compressed"
    images = camera.node.create_publisher(topic, kind, qos.DEFAULT)
    overlays = camera.listen("/segmentation/overlay", Image.TYPE)
    live = evdistill("live", "--student", tiny_student)
    assert images.wait_for_subscriber(60)
    green = np.full((260, 346, 3), (0, 200, 0), np.uint8)
    jpeg = cv2.imencode(".jpg", green)[1].tobytes()
    stamp = EventPacket.parse(street_packets[0].data).header.stamp
    for name, data in (("jpeg", jpeg), ("h264", bytes(20))):
        images.publish(CompressedImage(Header(stamp, "cam"), name, data).serialize())
    time.sleep(0.5)
    camera.send(street_packets[:40])
    assert wait_until(lambda: len(overlays) >= 4, timeout_s=20)
    live.send(signal.SIGTERM)
    assert live.wait() == 0, live.output
    corner = Image.parse(overlays[0].data).to_array()[:8, :8].reshape(-1, 3)
    assert np.abs(np.median(corner, axis=0) - (0, 200, 0)).max() < 5
    assert f"images from {topic} ({kind})" in live.output
    assert "1 camera image left out: a 'h264' image is neither JPEG nor PNG" in live.output
    assert "damaged_images 1" in live.output.splitlines()[-1]


def test_live_and_run_give_the_same_masks(
    evdistill, camera, tiny_student, street_packets, tmp_path
):
    packets = street_packets[:100]
    bag = tmp_path / "bag.mcap"
    with McapWriter(bag) as writer:
        for p in packets:
            writer.write("/event_camera/events", p.type_name, bytes(p.data), p.receive_time_ns)
    parameters = SegmentationParameters(student=str(tiny_student))
    run_recording(bag, tmp_path / "out", parameters, show_progress=False)
    with open_recording(tmp_path / "out" / "masks.mcap") as recording:
        expected = masks_of(recording.packets([MASK]))
    camera.advertise()
    masks = camera.listen(MASK, Image.TYPE)
    # A busy machine may drop windows, which is counted; a deadline would also cut them short.
    live = evdistill("live", "--student", tiny_student, "-p", "deadline_ms:=0.0")
    camera.send(packets, period_s=0.02)
    by_stamp = {m.header.stamp: m for m in expected}
    # Nobody says that the stream has ended, so the last window stays open.
    wait_until(lambda: len(masks) >= len(expected) - 1, timeout_s=10)
    live.send(signal.SIGTERM)
    assert live.wait() == 0
    found = masks_of(masks)
    assert len(found) > len(expected) // 2
    for mask in found[:-1]:
        same = by_stamp[mask.header.stamp]
        assert mask.header == same.header
        np.testing.assert_array_equal(mask.to_array(), same.to_array())


def test_quality_of_service_follows_the_parameters(evdistill, camera, tiny_student, tmp_path):
    file = tmp_path / "seg.yaml"
    wish = {"/event_camera/events": {"subscription": {"reliability": "reliable"}}}
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"qos_overrides": wish}}}))
    camera.advertise()
    evdistill(
        "live", "--student", tiny_student, "--params-file", file,
        "-p", f"qos_overrides.{MASK}.publisher.reliability:=best_effort",
    )  # fmt: skip
    (mask,) = camera.node.wait_for_publisher(MASK, 40)
    assert mask.qos.reliability == "best_effort"
    topic = "/event_camera/events"
    assert wait_until(lambda: camera.node.graph.subscribers(topic), timeout_s=20)
    (events,) = camera.node.graph.subscribers(topic)
    assert events.qos.reliability == "reliable"


def test_a_recogniser_classifies_under_its_own_name(
    evdistill, camera, tiny_recogniser, street_packets, tmp_path
):
    camera.advertise()
    found = camera.listen("/recognition/classification", Classification.TYPE)
    overlays = camera.listen("/recognition/overlay", Image.TYPE)
    labels = camera.listen("/recognition/label_info", LabelInfo.TYPE, qos.LATCHED)
    diagnostics = camera.listen("/diagnostics", DiagnosticArray.TYPE)
    log = tmp_path / "results.jsonl"
    live = evdistill(
        "live", "--params-file", ROOT / "config" / "recognition.yaml", "--result-log", log,
        "--student", tiny_recogniser, "-p", "keep_windows:=true",
    )  # fmt: skip
    camera.send(street_packets[:60])
    assert wait_until(lambda: len(overlays) >= 11 and diagnostics, timeout_s=20)
    live.send(signal.SIGTERM)
    assert live.wait() == 0, live.output
    parsed = [Classification.parse(p.data) for p in found]
    assert [c.header for c in parsed] == [Image.parse(p.data).header for p in overlays]
    assert all(len(c.results) == 3 for c in parsed)
    names = [c.class_name for c in LabelInfo.parse(labels[0].data).class_map]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["class"] for line in lines] == [names[int(c.results[0].class_id)] for c in parsed]
    status = DiagnosticArray.parse(diagnostics[-1].data).status
    names = ["events", "results", "state"]
    assert [s.name for s in status] == [f"/recognition: {name}" for name in names]
    assert {s.hardware_id for s in status} == {"/event_camera/events"}


def packet(index, width, height):
    rng = np.random.default_rng(index)
    start_us = 1_000_000 + index * 10_000
    events = Events.from_columns(
        rng.integers(0, width, 300),
        rng.integers(0, height, 300),
        np.sort(rng.integers(start_us, start_us + 10_000, 300)),
        rng.integers(0, 2, 300),
        width=width,
        height=height,
    )
    message = EventPacket(
        Header(Time.from_ns(time.time_ns()), "cam"), height, width, index, start_us * 1000,
        "libcaer_cmp", False, encode_libcaer_cmp(events, start_us),
    )  # fmt: skip
    return message


def values_of(diagnostics):
    statuses = DiagnosticArray.parse(diagnostics.data).status
    return {row.key: row.value for status in statuses for row in status.values}


class Bytes:
    def __init__(self, data):
        self.data = data


def test_hostile_packets_and_a_new_size_do_not_end_it(evdistill, camera, tiny_student):
    camera.advertise()
    masks = camera.listen(MASK, Image.TYPE)
    diagnostics = camera.listen("/diagnostics", DiagnosticArray.TYPE)
    live = evdistill("live", "--student", tiny_student)
    camera.send([Bytes(packet(i, 64, 48).serialize()) for i in range(20)])
    good = packet(20, 64, 48).serialize()
    unknown = good.replace(b"libcaer_cmp", b"libcaer_xyz")
    camera.send([Bytes(good[:60]), Bytes(unknown), Bytes(b"\x00\x01\x00\x00" + bytes(64))])
    camera.send([Bytes(packet(i, 96, 64).serialize()) for i in range(24, 50)])
    assert wait_until(lambda: len(masks) >= 7, timeout_s=20)
    values = {}

    def reported():
        values.update(values_of(diagnostics[-1]) if diagnostics else {})
        return values.get("messages_received") == str(20 + 3 + 26)

    assert wait_until(reported, timeout_s=20), values
    live.send(signal.SIGTERM)
    assert live.wait() == 0, live.output
    sizes = [(m.width, m.height) for m in masks_of(masks)]
    assert {(64, 48), (96, 64)} == set(sizes)
    assert sizes == sorted(sizes)
    assert int(values["messages_damaged"]) == 3
    assert int(values["breaks_size"]) == 1


def test_a_topic_that_never_comes(evdistill, camera, tiny_student):
    camera.advertise("/left/events")
    live = evdistill("live", "--student", tiny_student, "--timeout", "4")
    assert live.wait() == 2
    assert "/event_camera/events has no publisher" in live.output
    assert "/left/events (event_camera_msgs/msg/EventPacket)" in live.output
    assert "Traceback" not in live.output


def test_a_topic_that_carries_something_else(evdistill, camera, tiny_student):
    camera.node.create_publisher("/event_camera/events", Image.TYPE, qos.DEFAULT)
    live = evdistill("live", "--student", tiny_student)
    assert live.wait() == 2
    assert "carries sensor_msgs/msg/Image, which are no events" in live.output
    assert "Traceback" not in live.output


def test_what_it_says_is_on_rosout(evdistill, camera, tiny_student):
    said = camera.listen("/rosout", Log.TYPE, qos.ROSOUT)
    camera.advertise()
    live = evdistill("live", "--student", tiny_student)
    words = "events from /event_camera/events"
    assert wait_until(lambda: any(words in Log.parse(p.data).msg for p in list(said)), timeout_s=40)
    live.send(signal.SIGTERM)
    assert live.wait() == 0


def test_remaps_and_namespaces_as_ros_writes_them(evdistill, camera, tiny_student):
    camera.advertise("/left/events")
    live = evdistill(
        "live", "--ros-args", "-p", f"student:={tiny_student}", "-r", "~/events:=/left/events",
        "-r", "__ns:=/left", "-r", "__node:=seg",
    )  # fmt: skip
    found = wait_until(lambda: camera.node.graph.publishers("/left/seg/mask"), timeout_s=40)
    assert found, live.process.poll()
    assert camera._publisher.wait_for_subscriber(30)
    live.send(signal.SIGTERM)
    assert live.wait() == 0


@pytest.mark.parametrize(("cpu_s", "after_s"), [(0.0, 0.1), (0.5, 0.0), (0.5, 3.0)])
def test_ctrl_c_at_any_time(evdistill, tiny_student, cpu_s, after_s):
    live = evdistill("live", "--student", tiny_student)
    live.wait_until_busy(cpu_s)
    time.sleep(after_s)
    live.send(signal.SIGINT)
    # Python dies of the signal after all where it came within code made at run time (dataclasses).
    assert live.wait(30) in (130, -signal.SIGINT)
    if cpu_s:  # before, Python itself starts, and nobody can catch it
        assert "Traceback" not in live.output


def test_many_signals_at_once_end_it_in_order(evdistill, camera, tiny_student):
    camera.advertise()
    live = evdistill("live", "--student", tiny_student)
    assert camera._publisher.wait_for_subscriber(60)
    for _ in range(100):
        live.send(signal.SIGTERM)
    assert live.wait(30) == 0
    assert "Traceback" not in live.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-p", "no_such:=1"], "unknown parameter no_such (parameters are: student, "),
        (["--student", "nowhere.evstudent"], "no student file at nowhere.evstudent"),
        (["--params-file", "nowhere.yaml"], "nowhere.yaml"),
        (["-r", "nonsense"], "must read FROM:=TO"),
        (["-p", "device:=cuda"], "cuda"),
        (["--params-file", ROOT / "config" / "recognition.yaml"], "no shipped student of recog"),
    ],
)
def test_bad_arguments_are_one_clear_line(evdistill, arguments, words):
    live = evdistill("live", *arguments)
    assert live.wait() == 2
    assert words in live.output
    assert "Traceback" not in live.output
