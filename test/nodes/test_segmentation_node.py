"""The rclpy node, its launch file and the DDS front end on a real ROS 2."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from ros_graph import Process, change_state, node_process, set_parameter, stamps, state

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
        assert "read-only" in refused.reason
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


def test_a_student_that_cannot_be_loaded_leaves_the_node_unconfigured(graph, tmp_path):
    with node_process(tmp_path / "none.evstudent") as node:
        assert graph.spin(30, lambda: "/segmentation" in graph.names())
        assert state(graph) == "unconfigured"
        assert node.process.poll() is None
        assert node.end() == 0
        assert "no student file at" in node.output
        assert "Traceback" not in node.output


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
    (stream, _) = graph.got["diagnostics"][-1].status
    assert (stream.level, stream.message) == (b"\x01", "no packet yet")
