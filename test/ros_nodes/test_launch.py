"""The launch files on a real ROS 2."""

import json
import signal
import subprocess

import numpy as np
import pytest
from ros_graph import Graph, Process

pytestmark = [pytest.mark.ros, pytest.mark.slow]

LAUNCH_FILES = ("seg", "recognition", "replay", "camera")


def masks_of(path):
    from evdistill_core.evaluation.replay import read_masks

    return read_masks(path)


def test_replay_gives_the_masks_of_run_and_a_score(installed, tiny_student, packets, tmp_path):
    from evdistill_core.offline import run_recording
    from evdistill_core.parameter_files import load_parameters
    from evdistill_core.recordings.mcap_writer import McapWriter

    bag, out = tmp_path / "bag.mcap", tmp_path / "out"
    with McapWriter(bag) as writer:
        for p in packets:
            writer.write("/event_camera/events", p.type_name, bytes(p.data), p.receive_time_ns)
    config = next(installed.glob("share/evdistill_ros/config/replay.yaml"))
    parameters = load_parameters(config, {"student": str(tiny_student)})
    run_recording(bag, tmp_path / "run", parameters, show_progress=False)
    expected = masks_of(tmp_path / "run" / "masks.mcap")
    done = subprocess.run(
        ["ros2", "launch", "evdistill_ros", "replay.launch.py", f"bag:={bag}", f"out:={out}",
         f"student:={tiny_student}", f"labels:={tmp_path / 'run' / 'masks.mcap'}"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (out / "report.json").exists(), done.stdout + done.stderr
    got = masks_of(out / "results.mcap")
    assert sorted(got) == sorted(expected), "the same windows"
    for stamp_ns, mask in expected.items():
        np.testing.assert_array_equal(got[stamp_ns], mask)
    report = json.loads((out / "report.json").read_text())
    assert report["masks"] == len(expected) >= 19
    assert report["counters"]["messages_used"] == len(packets)
    # Against its own masks every scored pixel is right.
    assert report["score"]["accuracy"] == 1.0
    assert report["score"]["labels_scored"] == len(expected)


@pytest.mark.parametrize("name", LAUNCH_FILES)
def test_arguments_are_described(installed, name):
    shown = subprocess.run(
        ["ros2", "launch", "evdistill_ros", f"{name}.launch.py", "--show-args"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    assert "'student':" in shown
    assert "no description given" not in shown.lower()


def nodes_of(path, **arguments):
    """Return what a launch file would start, without starting it."""
    from launch.actions import IncludeLaunchDescription, OpaqueFunction
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    from launch_ros.actions import Node

    from launch import LaunchContext

    context = LaunchContext()
    context.launch_configurations.update(arguments)

    def walk(entity):
        if isinstance(entity, IncludeLaunchDescription | OpaqueFunction) or not hasattr(
            entity, "describe_sub_entities"
        ):
            for sub in entity.visit(context) or []:
                yield from walk(sub)
        elif isinstance(entity, Node):
            if entity.condition is None or entity.condition.evaluate(context):
                yield entity
        else:
            for sub in entity.visit(context) or []:
                yield from walk(sub)

    source = PythonLaunchDescriptionSource(str(path))
    return list(walk(IncludeLaunchDescription(source))), context


@pytest.mark.parametrize(
    ("driver", "node"), [("libcaer", "seg"), ("metavision", "seg"), ("libcaer", "recognition")]
)
def test_a_camera_is_its_driver_and_the_node(installed, driver, node):
    from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions

    path = next(installed.glob("share/evdistill_ros/launch/camera.launch.py"))
    nodes, context = nodes_of(path, driver=driver, camera="left_camera", node=node)

    def text(value):
        return perform_substitutions(context, normalize_to_list_of_substitutions(value))

    assert [text(n._Node__package) for n in nodes] == [f"{driver}_driver", "evdistill_ros"]
    executable = {"seg": "segmentation_node", "recognition": "recognition_node"}[node]
    assert text(nodes[1]._Node__node_executable) == executable
    assert text(context.launch_configurations["params_file"]).endswith(f"/{node}.yaml")
    remaps = {text(a): text(b) for a, b in nodes[1]._Node__remappings}
    assert remaps["~/events"] == "/left_camera/events"


def test_two_cameras_in_one_graph(installed, tiny_student, packets):
    left = Graph("/left/segmentation", "/left_camera/events")
    launches = [
        Process("ros2", "launch", "evdistill_ros", "seg.launch.py", f"student:={tiny_student}",
                f"namespace:={side}", f"camera:={side}_camera")
        for side in ("left", "right")
    ]  # fmt: skip
    try:
        with launches[0], launches[1]:
            assert left.spin(
                60, lambda: {"/left/segmentation", "/right/segmentation"} <= left.names()
            )
            left.send(packets[:45])
            masks = left.got["mask"]
            assert len(masks) >= 7
            names = {s.name for d in left.got["diagnostics"] for s in d.status}
            assert names
            right = left.node.get_publisher_names_and_types_by_node("segmentation", "/right")
            assert ("/right/segmentation/mask", ["sensor_msgs/msg/Image"]) in right
            for launch in launches:
                assert launch.end(signal.SIGINT) == 0
    finally:
        left.close()


def test_the_rviz_configuration_shows_our_topics(installed):
    import yaml

    path = next(installed.glob("share/evdistill_ros/rviz/segmentation.rviz"))
    content = yaml.safe_load(path.read_text())
    topics = {d["Topic"]["Value"] for d in content["Visualization Manager"]["Displays"]}
    assert {"/segmentation/overlay", "/segmentation/mask_color"} <= topics
