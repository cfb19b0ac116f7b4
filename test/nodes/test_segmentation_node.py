"""The rclpy node, its launch file and the DDS front end on a real ROS 2."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ros_graph import (
    Process,
    change_state,
    node_process,
    parameter_client,
    set_parameter,
    stamps,
    state,
)

from evdistill_core.foundation.worker import wait_until

pytestmark = [pytest.mark.ros, pytest.mark.slow]

S = 1_000_000_000


def check_results(graph, packets):
    masks, detections = graph.got["mask"], graph.got["detections"]
    assert len(masks) >= 15
    first = masks[0]
    assert (first.encoding, first.width, first.height, first.step) == ("mono8", 346, 260, 346)
    assert len(first.data) == 346 * 260
    assert {m.header.frame_id for m in masks} == {"event_camera"}
    assert stamps(masks) == stamps(detections) == stamps(graph.got["overlay"])
    assert (np.diff(stamps(masks)) > 0).all()
    first_ns = packets[0].receive_time_ns
    assert abs(stamps(masks)[0] - first_ns) < 0.2 * S
    values = np.unique(np.frombuffer(bytes(first.data), np.uint8))
    assert 255 in values
    assert values[values != 255].max() < 6
    labels = graph.got["label_info"][-1]
    names = {c.class_id: c.class_name for c in labels.class_map}
    assert names[5] == "vehicle"
    assert names[255] == "UNLABELED"
    status = {s.name: s for s in graph.got["diagnostics"][-1].status}
    assert set(status) == {f"/segmentation: {s}" for s in ("events", "results", "state")}
    assert {s.hardware_id for s in status.values()} == {"/event_camera/events"}


def test_launch_file_packets_in_masks_out(installed, tiny_student, graph, packets):
    with Process(
        "ros2", "launch", "evdistill_ros", "seg.launch.py", f"student:={tiny_student}"
    ) as launch:
        graph.send(packets)
        check_results(graph, packets)
        assert "/segmentation" in graph.names()
        assert launch.end(signal.SIGINT, times=2) == 0
        assert "Traceback" not in launch.output
    assert str(installed) in os.environ["AMENT_PREFIX_PATH"]


def test_launch_arguments_are_described(installed):
    shown = subprocess.run(
        ["ros2", "launch", "evdistill_ros", "seg.launch.py", "--show-args"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    for name in ("events", "image", "student", "params_file", "namespace", "camera"):
        assert f"'{name}':" in shown
    assert "no description given" not in shown


def test_dds_front_end_and_rclpy_see_each_other(tiny_student, graph, packets):
    with Process(sys.executable, "-m", "evdistill_core", "live", "--student", tiny_student) as live:
        graph.send(packets)
        check_results(graph, packets)
        listed = subprocess.run(
            ["ros2", "node", "list", "--no-daemon", "--spin-time", "2"],
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout  # fmt: skip
        assert "/segmentation" in listed.split()
        assert live.end(signal.SIGTERM) == 0
    assert graph.spin(10, lambda: "/segmentation" not in graph.names()), "a stale entry is left"


def test_node_and_run_give_the_same_masks(tiny_student, graph, packets, tmp_path):
    from evdistill_core.messages.standard import Image
    from evdistill_core.perception.offline import run_recording
    from evdistill_core.perception.parameters import SegmentationParameters
    from evdistill_core.recordings.opening import open_recording
    from evdistill_core.recordings.writers.mcap import McapWriter

    bag = tmp_path / "bag.mcap"
    with McapWriter(bag) as writer:
        for p in packets:
            writer.write("/event_camera/events", p.type_name, bytes(p.data), p.receive_time_ns)
    parameters = SegmentationParameters(student=str(tiny_student))
    run_recording(bag, tmp_path / "out", parameters, show_progress=False)
    with open_recording(tmp_path / "out" / "masks.mcap") as recording:
        found = recording.packets(["/segmentation/mask"])
        expected = {Image.parse(p.data).header.stamp.to_ns(): Image.parse(p.data) for p in found}
    # On a busy machine a deadline would cut windows short, and the newest would win.
    with node_process(tiny_student, "-p", "deadline_ms:=0.0", "-p", "keep_windows:=true"):
        graph.send(packets, period_s=0.02)
    masks = {t: m for t, m in zip(stamps(graph.got["mask"]), graph.got["mask"], strict=True)}
    common = sorted(set(masks) & set(expected))
    assert len(common) >= len(expected) - 1
    for t in common:
        assert bytes(masks[t].data) == bytes(expected[t].data)


def test_parameters_are_checked_and_take_effect(tiny_student, graph, packets):
    with node_process(tiny_student):
        assert graph.spin(60, lambda: graph.events.get_subscription_count() > 0)
        refused = set_parameter(graph, "threads", 2)
        assert not refused.successful
        assert "threads cannot change while the node is configured" in refused.reason
        assert set_parameter(graph, "min_score", 1).successful  # a whole number
        assert set_parameter(graph, "roi", [0, 0, 0, 0]).successful  # what it is
        assert not set_parameter(graph, "roi", [1, 2, 30, 40]).successful
        assert not set_parameter(graph, "min_score", 7.0).successful
        refused = set_parameter(graph, "stall_warn_ms", 3_000_000)
        assert not refused.successful
        assert "stall_error_ms must not be below" in refused.reason
        assert set_parameter(graph, "unlabelled_radius_px", -1).successful
        graph.send(packets[:30])
    last = np.frombuffer(bytes(graph.got["mask"][-1].data), np.uint8)
    assert last.max() < 6


def test_lifecycle_there_and_back(tiny_student, graph, packets):
    with node_process(tiny_student, "-p", "autostart:=false") as node:
        assert state(graph) == "unconfigured"
        for _ in range(2):
            assert change_state(graph, "CONFIGURE")
            assert state(graph) == "inactive"
            assert change_state(graph, "ACTIVATE")
            before = len(graph.got["mask"])
            graph.send(packets[:30])
            assert len(graph.got["mask"]) > before
            assert change_state(graph, "DEACTIVATE")
            assert graph.spin(5, lambda: graph.events.get_subscription_count() == 0)
            assert change_state(graph, "CLEANUP")
        assert state(graph) == "unconfigured"
        assert node.end() == 0
        assert "Traceback" not in node.output


def test_a_node_without_its_student_says_why_and_takes_another_one(
    graph, tmp_path, tiny_student, packets
):
    with node_process(tmp_path / "none.evstudent") as node:
        assert graph.spin(60, lambda: graph.values("/segmentation: state"))
        level, said, _ = graph.values("/segmentation: state")
        assert level == 2
        assert said.startswith("unconfigured: no student file at")
        assert state(graph) == "unconfigured"
        # Everything may change now: a fixed parameter, one with a list, the period of reports.
        for name, value in (
            ("student", str(tiny_student)), ("tiles", [1, 1]), ("roi", [10, 10, 300, 200]),
            ("diagnostics_period_ms", 200),
        ):  # fmt: skip
            assert set_parameter(graph, name, value).successful, name
        assert not set_parameter(graph, "roi", [1, 2]).successful
        assert change_state(graph, "CONFIGURE")
        assert graph.spin(10, lambda: graph.values("/segmentation: state")[0] == 1)
        assert change_state(graph, "ACTIVATE")
        graph.send(packets[:30])
        assert graph.values("/segmentation: state")[:2] == (0, "active")
        assert int(graph.values()[2]["filter_outside_roi"]) > 0
        assert graph.got["mask"]
        assert node.end(signal.SIGTERM) == 0
    for line in (
        "active: waiting for events on /event_camera/events",
        "events arrive, sensor 346x",
    ):
        assert line in node.output
    assert "Traceback" not in node.output


def test_events_that_stop_and_come_back_are_in_the_log(tiny_student, graph, packets):
    with node_process(tiny_student) as node:
        graph.send(packets[:20])
        graph.spin(2.5)
        graph.send(packets[20:40])
        graph.spin(1.5)
        assert change_state(graph, "DEACTIVATE")
        assert node.end() == 0
    for line in (
        "events have stopped: no packet for",
        "events are back after",
        "inactive: 40 messages",
    ):
        assert line in node.output


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("min_score:=7.0", "min_score must lie in 0..1, got 7.0"),
        ("min_score:=much", "min_score must be a number, got 'much'"),
        ("student:=5", "student must be text, got 5"),
        ("roi:=[1,2]", "roi must hold 4 values, got 2"),
        ("min_score:", "ROS refuses its arguments: Couldn't parse"),
        ("autostart:=1", "autostart must be true or false, got 1"),
        ("track_max_missed:=4", "parameter track_max_missed is now track_max_missed_s, which"),
    ],
)
def test_a_wrong_value_at_the_start_ends_the_node_with_one_line(given, words):
    with node_process("none.evstudent", "-p", given) as node:
        node.output, _ = node.process.communicate(timeout=60)
    # rcl itself logs that it could not read its arguments.
    said = [line for line in node.output.strip().splitlines() if "[rcl]" not in line]
    assert node.process.returncode == 2
    assert len(said) == 1, node.output
    assert said[0].startswith("segmentation_node: error: ")
    assert words in said[0]


def test_whole_numbers_are_fractions_and_unknown_names_are_warned_of(tiny_student, graph):
    given = ["-p", "min_score:=1", "-p", "min_scor:=0.5", "-p", "tiles:=[1, 1]"]
    with node_process(tiny_student, *given) as node:
        assert graph.spin(60, lambda: graph.events.get_subscription_count() > 0)
        assert node.end() == 0
    assert "there is no parameter min_scor, its value is ignored; did you mean 'min_score'?" in (
        node.output
    )
    assert "Traceback" not in node.output


def catches_sigterm(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1


@pytest.mark.parametrize("after_s", [0.0, 0.7, 2.0, 5.0])
def test_sigterm_ends_it_in_order_whenever_it_comes(tiny_student, after_s):
    with node_process(tiny_student) as node:
        # Until Python itself is up, a signal just ends the process.
        assert wait_until(lambda: catches_sigterm(node.process), timeout_s=30)
        time.sleep(after_s)
        assert node.end(signal.SIGTERM, times=2) == 0
    assert "Traceback" not in node.output
    assert "Error" not in node.output


def test_reset_and_enable(tiny_student, graph, packets):
    from std_srvs.srv import SetBool, Trigger

    def switch(on):
        return parameter_client(graph, SetBool, ("enable", SetBool.Request(data=on)))

    with node_process(tiny_student) as node:
        graph.send(packets[:20])
        reply = parameter_client(graph, Trigger, ("reset", Trigger.Request()))
        assert (reply.success, "restart" in reply.message) == (True, True)
        assert switch(False).success
        before = len(graph.got["mask"])
        graph.send(packets[20:40])
        assert len(graph.got["mask"]) == before
        assert graph.spin(5, lambda: "off by ~/enable" in graph.values("/segmentation: state")[1])
        assert graph.values()[:2] == (0, "switched off")
        assert switch(True).success
        graph.send(packets[40:60])
        assert len(graph.got["mask"]) > before
        values = {**graph.values()[2], **graph.values("/segmentation: results")[2]}
        assert node.end() == 0
    assert int(values["breaks_reset"]) == 3  # asked for, off, on
    assert int(values["messages_while_off"]) == 20
    assert int(values["messages_used"]) == 40
    assert int(values.get("stream_lost_messages", 0)) == 0


def test_a_topic_that_never_comes_is_named_with_what_is_there(tiny_student, graph):
    with Process(
        sys.executable, "-m", "evdistill_ros.nodes.segmentation_node", "--ros-args",
        "-r", "~/events:=/nowhere/events", "-p", f"student:={tiny_student}",
    ) as node:  # fmt: skip
        assert graph.spin(60, lambda: graph.got["diagnostics"])
        graph.spin(6.0)
        assert node.end() == 0
    assert "/nowhere/events has no publisher" in node.output
    assert "/event_camera/events (event_camera_msgs/msg/EventPacket)" in node.output
    (stream, _, _) = graph.got["diagnostics"][-1].status
    assert (stream.level, stream.message) == (b"\x01", "no packet yet")
