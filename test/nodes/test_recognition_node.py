"""The recognition node on a real ROS 2: rclpy, its launch file, and the DDS front end."""

import signal
import sys

import pytest
from ros_graph import Graph, Process, change_state, node_process, set_parameter, stamps, state

pytestmark = [pytest.mark.ros, pytest.mark.slow]

NAMES = ["cup", "hand", "ball", "door"]


@pytest.fixture
def graph():
    graph = Graph("/recognition")
    yield graph
    graph.close()


def of_run(student, packets, folder):
    """Return what `evdistill run` says of the packets: stamp -> frame_id and results."""
    from evdistill_core.messages.vision import Classification
    from evdistill_core.perception.offline import run_recording
    from evdistill_core.perception.parameters import RecognitionParameters
    from evdistill_core.recordings.opening import open_recording
    from evdistill_core.recordings.writers.mcap import McapWriter

    with McapWriter(folder / "bag.mcap") as writer:
        for p in packets:
            writer.write("/event_camera/events", p.type_name, bytes(p.data), p.receive_time_ns)
    parameters = RecognitionParameters(student=str(student))
    run_recording(folder / "bag.mcap", folder / "out", parameters, show_progress=False)
    with open_recording(folder / "out" / "classifications.mcap") as recording:
        found = [
            Classification.parse(p.data) for p in recording.packets(["/recognition/classification"])
        ]
    return {c.header.stamp.to_ns(): (c.header.frame_id, results(c)) for c in found}


def results(message):
    return [(h.class_id, h.score) for h in message.results]


def said(graph):
    found = graph.got["classification"]
    return {t: (m.header.frame_id, results(m)) for t, m in zip(stamps(found), found, strict=True)}


def check_results(graph, expected):
    got = said(graph)
    assert set(got) <= set(expected)
    # Nobody says that the stream has ended, so the last window stays open.
    assert len(got) >= len(expected) - 1 >= 15
    assert {t: expected[t] for t in got} == got
    assert {frame_id for frame_id, _ in got.values()} == {"event_camera"}
    assert {len(guesses) for _, guesses in got.values()} == {3}
    assert len({str(guesses) for _, guesses in got.values()}) > 1, "not from the events"
    labels = graph.got["label_info"][-1]
    assert [c.class_name for c in labels.class_map] == NAMES
    overlays = graph.got["overlay"]
    assert stamps(overlays) == stamps(graph.got["classification"])
    # A small sensor is enlarged by a whole factor, with a legend below it.
    assert (overlays[0].encoding, overlays[0].width) == ("bgr8", 2 * 346)
    assert 2 * 260 < overlays[0].height < 2 * 260 + 100
    status = {s.name for s in graph.got["diagnostics"][-1].status}
    assert status == {f"/recognition: {s}" for s in ("events", "results", "state")}


def test_launch_file_packets_in_classifications_out(
    installed, tiny_recogniser, graph, packets, tmp_path
):
    expected = of_run(tiny_recogniser, packets, tmp_path)
    # No window is dropped and none is closed by the host's clock, however slow this machine is.
    exact = next(installed.glob("share/evdistill_ros/config/replay.yaml"))
    with Process(
        "ros2", "launch", "evdistill_ros", "recognition.launch.py",
        f"student:={tiny_recogniser}", f"params_file:={exact}",
    ) as launch:  # fmt: skip
        graph.send(packets)
        graph.spin(20, lambda: len(graph.got["overlay"]) >= len(expected) - 1)
        graph.spin(1.5)
        check_results(graph, expected)
        assert "/recognition" in graph.names()
        assert launch.end(signal.SIGINT, times=2) == 0
        assert "Traceback" not in launch.output


def test_the_dds_front_end_publishes_the_same(tiny_recogniser, graph, packets, tmp_path):
    expected = of_run(tiny_recogniser, packets, tmp_path)
    given = ["-p", "keep_windows:=true", "-p", "deadline_ms:=0.0"]
    with Process(
        sys.executable, "-m", "evdistill_core", "live", "--params-file", "config/recognition.yaml",
        "--student", tiny_recogniser, *given,
    ) as live:  # fmt: skip
        graph.send(packets)
        graph.spin(20, lambda: len(graph.got["overlay"]) >= len(expected) - 1)
        graph.spin(1.5)
        check_results(graph, expected)
        assert "/recognition" in graph.names()
        assert live.end(signal.SIGTERM) == 0
        assert "Traceback" not in live.output


@pytest.mark.parametrize("task", ["segmentation", "recognition"])
def test_a_student_of_the_other_task_leaves_the_node_unconfigured(
    task, tiny_student, tiny_recogniser
):
    other, student = {
        "segmentation": ("recognition", tiny_recogniser),
        "recognition": ("segmentation", tiny_student),
    }[task]
    graph = Graph(f"/{task}")
    try:
        with node_process(student, task=task) as node:
            assert graph.spin(60, lambda: f"/{task}" in graph.names())
            assert state(graph) == "unconfigured"
            assert not change_state(graph, "CONFIGURE")
            assert state(graph) == "unconfigured"
            assert node.process.poll() is None
            assert node.end() == 0
    finally:
        graph.close()
    assert f"is a student of {other}" in node.output
    assert f"needs one of {task}. Start {other}_node" in node.output
    assert "Traceback" not in node.output


def test_lifecycle_and_parameters(tiny_recogniser, graph, packets):
    given = ["-p", "autostart:=false", "-p", "top_k:=1", "-p", "deadline_ms:=0.0"]
    with node_process(tiny_recogniser, *given, task="recognition") as node:
        assert state(graph) == "unconfigured"
        # rclpy itself dies of a transition that the state does not allow.
        assert not change_state(graph, "ACTIVATE")
        assert state(graph) == "unconfigured"
        for top_k in (2, 4):
            assert change_state(graph, "CONFIGURE")
            assert change_state(graph, "ACTIVATE")
            assert not set_parameter(graph, "top_k", 0).successful
            assert "cannot change while" in set_parameter(graph, "threads", 2).reason
            assert set_parameter(graph, "top_k", top_k).successful
            threshold = top_k / 1024  # the random student says about a quarter of each class
            assert set_parameter(graph, "min_score", threshold).successful
            assert graph.spin(10, lambda t=threshold: graph.got["label_info"][-1].threshold == t)
            before = len(graph.got["classification"])
            graph.send(packets[:30])
            got = graph.got["classification"][before:]
            assert got
            assert {len(m.results) for m in got} == {top_k}
            assert change_state(graph, "DEACTIVATE")
            assert graph.spin(5, lambda: graph.events.get_subscription_count() == 0)
            assert change_state(graph, "CLEANUP")
        assert node.end() == 0
        assert "Traceback" not in node.output
    assert "transition refused" in node.output


def test_a_transition_that_raises_is_told_and_can_be_tried_again(tiny_recogniser, graph, capfd):
    from rclpy.lifecycle import TransitionCallbackReturn as Answer
    from rclpy.parameter import Parameter

    from evdistill_core.perception.tasks import RECOGNITION
    from evdistill_ros.nodes.perception_node import PerceptionNode

    class Broken(PerceptionNode):
        attempts = 0

        def _advertise(self):
            self.attempts += 1
            if self.attempts == 1:
                raise RuntimeError("no memory left")
            super()._advertise()

    given = [Parameter("student", value=str(tiny_recogniser))]
    node = Broken(RECOGNITION, namespace="/broken", parameter_overrides=given)
    try:
        assert node.trigger_configure() == Answer.ERROR
        assert "no memory left" in capfd.readouterr().err
        assert node.trigger_configure() == Answer.SUCCESS
    finally:
        node.close()
        node.destroy_node()
