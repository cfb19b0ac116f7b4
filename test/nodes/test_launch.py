"""The launch files on a real ROS 2."""

import json
import signal
import subprocess

import pytest
from ros_graph import Graph, Process

pytestmark = [pytest.mark.ros, pytest.mark.slow]

LAUNCH_FILES = ("seg", "recognition", "replay", "camera")


def masks_of(path):
    from evdistill_core.evaluation.replay_labels import read_masks

    return {t: mask.tobytes() for t, mask in read_masks(path).items()}


def classes_of(path):
    from evdistill_core.messages.vision import Classification
    from evdistill_core.recordings.opening import open_recording

    with open_recording(path) as recording:
        packets = recording.packets(["/recognition/classification"])
        found = [Classification.parse(p.data) for p in packets]
    return {m.header.stamp.to_ns(): [(h.class_id, h.score) for h in m.results] for m in found}


def write_bag(path, packets):
    from evdistill_core.recordings.writers.mcap import McapWriter

    with McapWriter(path) as writer:
        for p in packets:
            writer.write("/event_camera/events", p.type_name, bytes(p.data), p.receive_time_ns)
    return path


def replay(**arguments):
    return subprocess.run(
        ["ros2", "launch", "evdistill_ros", "replay.launch.py",
         *(f"{name}:={value}" for name, value in arguments.items())],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(params=["segmentation", "recognition"])
def student(request):
    """A student; its task."""
    fixture = {"segmentation": "tiny_student", "recognition": "tiny_recogniser"}[request.param]
    return request.getfixturevalue(fixture), request.param


def test_replay_gives_the_results_of_run_and_a_score(installed, student, packets, tmp_path):
    from evdistill_core.perception.offline import run_recording
    from evdistill_core.perception.parameter_files import load_parameters

    bag, run, out = write_bag(tmp_path / "bag.mcap", packets), tmp_path / "run", tmp_path / "out"
    student, task = student
    name, read, count = {
        "segmentation": ("masks.mcap", masks_of, "masks"),
        "recognition": ("classifications.mcap", classes_of, "classifications"),
    }[task]
    config = next(installed.glob("share/evdistill_ros/config/replay.yaml"))
    parameters = load_parameters(config, {"student": str(student)})
    run_recording(bag, run, parameters, show_progress=False)
    expected = read(run / name)
    # The student alone says which node it is.
    done = replay(bag=bag, out=out, student=student, labels=run / name)
    assert (out / "report.json").exists(), done.stdout + done.stderr
    assert read(out / "results.mcap") == expected
    report = json.loads((out / "report.json").read_text())
    assert report["task"] == task
    assert report[count] == len(expected) >= 19
    assert report["counters"]["messages_used"] == len(packets)
    # Against its own results everything that is scored is right.
    score = report["score"]
    assert score["accuracy" if task == "segmentation" else "top1"] == 1.0
    assert score["labels_scored" if task == "segmentation" else "windows"] == len(expected)


def test_a_replay_that_cannot_be_ends_and_says_why(installed, tiny_student, packets, tmp_path):
    out = tmp_path / "out"
    done = replay(bag=tmp_path / "none.mcap", out=out, student=tiny_student)
    check_one_reason(done, "nothing to replay: there is no recording")
    bad = tmp_path / "bad.yaml"
    bad.write_text("nothing")
    bag = write_bag(tmp_path / "bag.mcap", packets[:5])
    done = replay(bag=bag, out=out, student=tiny_student, params_file=bad)
    check_one_reason(done, "nothing to replay: ", "bad.yaml")
    done = replay(bag=bag, out=out, student=tiny_student, node="recognition")
    check_one_reason(done, "nothing to replay: ", "is a student of segmentation")
    damaged = tmp_path / "damaged.evstudent"
    damaged.write_bytes(tiny_student.read_bytes()[:1000])
    check_one_reason(replay(bag=bag, out=out, student=damaged), "nothing to replay: ", "damaged.ev")
    assert not out.exists()


def test_a_check_that_breaks_off_is_not_taken_for_a_wrong_bag(installed, monkeypatch):
    from evdistill_ros.nodes import launching
    from launch import LaunchContext

    broken = subprocess.CompletedProcess([], 1, "", "Traceback ...\nStopIteration\n")
    monkeypatch.setattr(launching.subprocess, "run", lambda *_, **__: broken)
    with pytest.raises(launching.ReplayError, match=r"/replay_check failed: StopIteration; build"):
        launching.check_replay(LaunchContext())


def check_one_reason(done, *words):
    """Nothing was started, and the launch has failed with one line that says why."""
    said = done.stdout + done.stderr
    reasons = [line for line in said.splitlines() if "ERROR" in line]
    assert done.returncode == 1, said
    assert len(reasons) == 1, said
    assert all(word in reasons[0] for word in words), said
    assert "Traceback" not in said
    assert "process started" not in said


def test_arguments_are_described(installed):
    for name in LAUNCH_FILES:
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


def test_a_camera_is_its_driver_and_the_node(installed):
    path = next(installed.glob("share/evdistill_ros/launch/camera.launch.py"))
    for driver, node in (("libcaer", "seg"), ("metavision", "seg"), ("libcaer", "recognition")):
        check_camera(path, driver, node)


def check_camera(path, driver, node):
    from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions

    nodes, context = nodes_of(path, driver=driver, camera="left_camera", node=node)

    def text(value):
        return perform_substitutions(context, normalize_to_list_of_substitutions(value))

    assert [text(n._Node__package) for n in nodes] == [f"{driver}_driver", "evdistill_ros"]
    executable = {"seg": "segmentation_node", "recognition": "recognition_node"}[node]
    assert text(nodes[1]._Node__node_executable) == executable
    assert text(context.launch_configurations["params_file"]).endswith(f"/{node}.yaml")
    remaps = {text(a): text(b) for a, b in nodes[1]._Node__remappings}
    assert remaps == {
        "~/events": "/left_camera/events",
        "~/image": "/left_camera/image_raw",
        "~/camera_info_in": "/left_camera/camera_info",
    }


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
