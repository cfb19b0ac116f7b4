"""A student of recognition through the same pipeline, messages and files as one of masks."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from evdistill_core.drawing.colours import BACKGROUND_BGR
from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import StudentError
from evdistill_core.foundation.labels import ClassInfo, ClassTable
from evdistill_core.foundation.worker import wait_until
from evdistill_core.inference.prediction import Guess, Recognition
from evdistill_core.inference.runner import Output
from evdistill_core.messages.standard import CameraInfo, DiagnosticArray, Header, Image, Time
from evdistill_core.messages.vision import Classification, LabelInfo
from evdistill_core.perception.front_end import FrontEnd, check_student, open_student, warm_up
from evdistill_core.perception.offline import run_recording
from evdistill_core.perception.parameters import KINDS, RecognitionParameters
from evdistill_core.perception.pipeline import Perception
from evdistill_core.perception.recognition_messages import RecognitionMessages
from evdistill_core.perception.result import Result
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.writers.mcap import McapWriter
from evdistill_core.representations import InputSpec

STAMP_NS = 1_700_000_000_123_456_789


class SideRunner:
    """Class 0 while events are in the left half, 1 in the right one; without a network."""

    description = "stub"
    is_recurrent = False

    def reset(self):
        """Nothing to forget."""

    def run(self, input_chw):
        activity = np.abs(input_chw).sum((0, 1))
        left, right = np.array_split(activity, 2)
        return np.array([left.sum(), right.sum(), 0.0], np.float32)

    def run_whole(self, input_chw):
        return Output(self.run(input_chw))

    def warm_up(self, height, width):
        """Nothing to warm."""


@pytest.fixture
def classes(tiny_recogniser):
    return check_student(RecognitionParameters(student=str(tiny_recogniser))).classes


SIDES = ClassTable(tuple(ClassInfo(n, (0, 0, 0)) for n in ("left", "right", "nowhere")))


@pytest.fixture
def side_student():
    info = SimpleNamespace(input=InputSpec(window_us=50_000, size_multiple=2), classes=SIDES)
    return SimpleNamespace(info=info)


@pytest.fixture
def pipeline(side_student):
    made = []

    def make(results, *, lossless=True, **parameters):
        given = RecognitionParameters(**parameters)
        made.append(
            Perception(side_student, SideRunner(), given, results.append, lossless=lossless)
        )
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.stop(drain=False)


def test_every_window_is_ranked(pipeline, scene):
    results = []
    running = pipeline(results, top_k=2)
    for i in range(50):
        assert running.push(scene.packet(i))
    running.stop()
    running.check()
    assert [r.index for r in results] == list(range(10))
    for result in results:
        assert [g.class_id for g in result.prediction.guesses][:1] == [
            int(np.median(result.events.x) >= 32)
        ]
        assert len(result.prediction.guesses) == 2
    counts = running.snapshot().counters
    assert (counts["windows_done"], counts["events"]) == (10, 50 * 200)


def test_parameters_change_while_it_runs(pipeline, scene):
    results = []
    running = pipeline(results, lossless=False, deadline_ms=0.0)
    for i in range(6):
        running.push(scene.packet(i))
    assert wait_until(lambda: len(results) == 1, timeout_s=10)
    running.reconfigure(RecognitionParameters(deadline_ms=0.0, min_events=1_000_000))
    for i in range(6, 12):
        running.push(scene.packet(i))
    assert wait_until(lambda: len(results) == 2, timeout_s=10)
    assert [len(r.prediction.guesses) for r in results] == [3, 0]


@pytest.fixture
def result(classes):
    events = Events.from_columns([1], [2], [3], [1], width=160, height=130)
    guesses = Recognition((Guess(2, 0.75, classes.names[2]), Guess(0, 0.125, classes.names[0])))
    return Result(4, 0, 50_000, STAMP_NS, "camera", events, guesses, classes)


def test_a_classification_names_classes_best_first_under_the_windows_header(result, classes):
    messages = RecognitionMessages(classes)
    wanted = {"classification", "overlay", "camera_info", "mask"}
    assert "camera_info" not in dict(messages.make(result, wanted)), "of a camera without one"
    messages.push_camera_info(CameraInfo(width=320, height=260, k=[1.0] * 9).serialize())
    made = dict(messages.make(result, wanted))
    assert list(made) == ["classification", "overlay", "camera_info"]
    found = Classification.parse(made["classification"])
    assert found.header == Header(Time.from_ns(STAMP_NS), "camera")
    assert [(h.class_id, h.score) for h in found.results] == [("2", 0.75), ("0", 0.125)]
    calibration = CameraInfo.parse(made["camera_info"])
    assert calibration.header == found.header
    assert (calibration.width, calibration.height, calibration.k[0]) == (160, 130, 0.5)
    overlay = Image.parse(made["overlay"])
    assert overlay.header == found.header
    assert (overlay.encoding, overlay.height, overlay.width) == ("bgr8", 5 * 130 + 24, 800)
    assert messages.facts(result) == {"class": "ball", "score": 0.75}
    assert messages.caption(result) == "ball 0.75"
    assert dict(messages.make(result, ())) == {}


def test_nothing_is_said_of_a_window_with_nothing_in_it(result, classes):
    empty = Result(0, 0, 1, STAMP_NS, "c", result.events, Recognition(), classes)
    messages = RecognitionMessages(classes)
    (_, data), *_ = messages.make(empty, {"classification"})
    assert list(Classification.parse(data).results) == []
    assert messages.facts(empty) == {"class": None, "score": None}
    assert messages.caption(empty) == "no class"


def test_the_overlay_lies_on_the_cameras_picture(result, classes):
    messages = RecognitionMessages(classes)
    last = 5 * 130 - 1  # above the legend
    assert messages.overlay(result)[last, -1].tolist() == list(BACKGROUND_BGR)
    messages.push_picture(np.full((130, 160), 7, np.uint8), STAMP_NS - 1)
    assert messages.overlay(result)[last, -1].tolist() == [7, 7, 7]


def test_label_info_names_the_classes_and_the_threshold(classes):
    messages = RecognitionMessages(classes)
    messages.configure(RecognitionParameters(min_score=0.25))
    info = LabelInfo.parse(messages.label_info(STAMP_NS, "camera"))
    assert [(c.class_id, c.class_name) for c in info.class_map] == [
        (0, "cup"),
        (1, "hand"),
        (2, "ball"),
        (3, "door"),
    ]
    assert info.threshold == 0.25
    assert info.header == Header(Time.from_ns(STAMP_NS), "camera")


@pytest.mark.parametrize("task", list(KINDS))
def test_a_student_of_the_other_task_is_refused(task, tiny_student, tiny_recogniser):
    own = {"segmentation": tiny_student, "recognition": tiny_recogniser}
    for name, path in own.items():
        parameters = KINDS[task](student=str(path))
        if name == task:
            assert check_student(parameters).info.task == task
            continue
        with pytest.raises(StudentError, match=f"is a student of {name}.*needs one of {task}") as e:
            open_student(parameters)
        assert f"{name}_node" in str(e.value)


def test_no_student_of_recognition_is_shipped():
    with pytest.raises(StudentError, match="no shipped student of recognition: name one"):
        check_student(RecognitionParameters())


def test_the_front_end_publishes_what_is_wanted_and_counts(tiny_recogniser, scene):
    parameters = RecognitionParameters(student=str(tiny_recogniser), deadline_ms=0.0, top_k=2)
    student, runner = open_student(parameters)
    warm_up(student, runner, parameters, size=(48, 64))
    published = []
    front = FrontEnd(
        student, runner, parameters, node="/recognition",
        publish=lambda name, data: published.append((name, data)),
        is_wanted=lambda name: name == "classification",
    )  # fmt: skip
    assert list(front.inputs()) == ["image", "camera_info_in"]
    front.start()
    for i in range(21):
        front.push_events(scene.packet(i))
    front.stop(drain=True)
    found = [Classification.parse(data) for name, data in published if name == "classification"]
    assert len(found) == len(published) == front.perception.snapshot().counters["windows_done"] >= 1
    assert all(len(c.results) == 2 for c in found)
    status = DiagnosticArray.parse(front.diagnostics()[0]).status
    assert [s.name for s in status] == ["/recognition: events", "/recognition: results"]


@pytest.fixture
def bag(tmp_path, scene):
    path = tmp_path / "bag.mcap"
    with McapWriter(path) as writer:
        for packet in (scene.packet(i) for i in range(40)):
            writer.write("/camera/events", packet.type_name, packet.data, packet.receive_time_ns)
    return path


def read(path, topic, message):
    with open_recording(path) as recording:
        return [message.parse(p.data) for p in recording.packets([topic])]


def test_run_leaves_film_sheet_classifications_and_report(tmp_path, bag, tiny_recogniser, classes):
    out = tmp_path / "out"
    command = ["run", bag, "--out", out, "--student", tiny_recogniser, "-p", "top_k:=4"]
    done = subprocess.run(
        [sys.executable, "-m", "evdistill_core", *map(str, command)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in out.iterdir()) == [
        "classifications.mcap",
        "overlay.mp4",
        "overlay.png",
        "report.html",
        "report.json",
    ]
    report = json.loads((out / "report.json").read_text())
    assert (report["windows"], report["windows_dropped"], report["events"]) == (8, 0, 8000)
    bag_out = out / "classifications.mcap"
    found = read(bag_out, "/recognition/classification", Classification)
    assert len({c.header.stamp.to_ns() for c in found}) == 8
    for c in found:
        scores = [h.score for h in c.results]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1.0)
        assert {h.class_id for h in c.results} == {"0", "1", "2", "3"}
    assert len({tuple(h.score for h in c.results) for c in found}) == 8, "not from the events"
    (labels,) = read(bag_out, "/recognition/label_info", LabelInfo)
    assert [c.class_name for c in labels.class_map] == list(classes.names)


def test_two_runs_say_the_same(tmp_path, bag, tiny_recogniser):
    parameters = RecognitionParameters(student=str(tiny_recogniser))
    for name in ("a", "b"):
        run_recording(bag, tmp_path / name, parameters, show_progress=False)
    a, b = (
        read(tmp_path / n / "classifications.mcap", "/recognition/classification", Classification)
        for n in "ab"
    )
    assert a == b


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-p", "top_k:=0"], "top_k must lie in 1..255"),
        (["-p", "min_score:=2.0"], "min_score must lie in 0..1"),
        (["-p", "closing_px:=2"], "is a student of recognition; this node publishes ~/mask"),
    ],
)
def test_bad_parameters_are_one_clear_line(tmp_path, bag, tiny_recogniser, arguments, words):
    command = ["run", bag, "--out", tmp_path / "o", "--student", tiny_recogniser, *arguments]
    done = subprocess.run(
        [sys.executable, "-m", "evdistill_core", *map(str, command)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
