"""The names of ``import evdistill_core as evdistill``, as a user types them."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import evdistill_core as evdistill
from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.perception.parameters import SegmentationParameters

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "demo" / "davis346_street.mcap"


def run_python(code, cwd=ROOT, block=()):
    """Run code in a process of its own, in which the libraries in ``block`` are not installed."""
    blocker = (
        "import sys\nclass Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {tuple(block)!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
    )
    return subprocess.run(
        [sys.executable, "-c", blocker + f"sys.path.insert(0, {str(ROOT)!r})\n" + code],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


def test_the_import_loads_nothing_and_reading_and_running_load_no_torch():
    done = run_python(
        "import evdistill_core as e\n"
        "assert not {'numpy', 'numba', 'torch', 'cv2'} & set(sys.modules)\n"
        "e.open_recording, e.Student, e.Events, e.represent, e.create_recording, e.convert\n"
        "assert 'torch' not in sys.modules\n"
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there_and_described():
    assert set(evdistill._HOMES) | {"__version__"} == set(evdistill.__all__)
    assert sorted(evdistill.__all__) == list(evdistill.__all__)
    for name in evdistill._HOMES:
        found = getattr(evdistill, name)
        assert inspect.getdoc(found), name
        assert name in dir(evdistill)


@pytest.mark.parametrize("name", ["open_recordings", "student"])
def test_a_name_that_is_not_there_is_answered_with_those_that_are(name):
    with pytest.raises(AttributeError, match=rf"no attribute '{name}'.*open_recording"):
        getattr(evdistill, name)


def test_a_missing_library_is_named_with_its_cure():
    code = "import evdistill_core as e\ne.Student\ne.WindowDataset\n"
    done = run_python(code, block=["torch"])
    assert done.returncode == 1
    assert "ImportError: WindowDataset needs the library torch" in done.stderr
    assert 'pip install "evdistill_ros[train]"' in done.stderr


@pytest.fixture(scope="module")
def student(tiny_student):
    return evdistill.Student.load(tiny_student)


@pytest.fixture(scope="module")
def results(student):
    return list(student.predict(DEMO, end_s=0.5))


def same(a, b):
    return (
        (a.index, a.t_start_us, a.t_end_us) == (b.index, b.t_start_us, b.t_end_us)
        and a.events.equals(b.events)
        and (a.mask == b.mask).all()
        and a.detections == b.detections
    )


def test_predict_gives_what_run_writes(student, tmp_path):
    from evdistill_core.messages.standard import Image
    from evdistill_core.perception.offline import run_recording

    run_recording(
        DEMO, tmp_path, SegmentationParameters(student=str(student.path)), show_progress=False
    )
    with evdistill.open_recording(tmp_path / "masks.mcap") as bag:
        masks = [Image.parse(p.data) for p in bag.packets(["/segmentation/mask"])]
    found = list(student.predict(DEMO))
    assert [r.stamp_ns for r in found] == [m.header.stamp.to_ns() for m in masks]
    assert all((r.mask == m.to_array()).all() for r, m in zip(found, masks, strict=True))
    assert len(found) > 40


def test_a_path_is_a_str_or_a_path_or_a_recording(student, results):
    with evdistill.open_recording(DEMO) as recording:
        from_recording = list(student.predict(recording, end_s=0.5))
    from_str = list(student.predict(str(DEMO), end_s=0.5))
    for other in (from_recording, from_str):
        assert all(same(a, b) for a, b in zip(results, other, strict=True))


def test_predict_reads_a_path_as_open_recording_does(student, results, tmp_path):
    """Columns x, y, p, t in nanoseconds and no size: every option is needed."""
    with evdistill.open_recording(DEMO) as recording:
        span = recording.span_us(end_s=0.3)
        events = evdistill.Events.concatenate([b.events for b in recording.batches(*span)])
    path = tmp_path / "a.npy"
    columns = (events.x, events.y, events.p, events.t_us * 1000)
    np.save(path, np.column_stack([np.asarray(c, np.int64) for c in columns]))
    told = {"columns": "xypt", "time_unit": "ns", "size": (events.width, events.height)}
    found = list(student.predict(path, **told))
    assert len(found) == 6
    assert all(same(a, b) for a, b in zip(results, found[:-1], strict=False))


def test_how_to_read_means_nothing_for_what_is_open(student):
    with (
        evdistill.open_recording(DEMO) as recording,
        pytest.raises(StudentError, match=r"got a BagRecording: give the path"),
    ):
        student.predict(recording, topic="/nowhere")
    with pytest.raises(StudentError, match="got a list"):
        student.predict([], size="64x48")
    with pytest.raises(ConfigError, match="time-unit must be"):
        student.predict(DEMO, time_unit="hours")


def test_events_piece_by_piece_give_the_same(student, results):
    with evdistill.open_recording(DEMO) as recording:
        batches = [b.events for b in recording.batches(*recording.span_us(end_s=0.5))]
    stream = student.stream()
    pushed = [r for events in batches for r in stream.push(events)] + stream.flush()
    iterated = list(student.predict(batches))
    at_once = list(student.predict(evdistill.Events.concatenate(batches)))
    for other in (pushed, iterated, at_once):
        assert all(same(a, b) for a, b in zip(results, other, strict=True))
    assert stream.counters["windows"] == len(results)
    assert stream.counters["stream_events"] == sum(map(len, batches))


def test_windows_give_the_same_with_ids_and_one_by_one_without(student, results):
    with evdistill.open_recording(DEMO) as recording:
        windows = list(recording.windows(student.input.window_us, end_s=0.5))
    assert all(same(a, b) for a, b in zip(results, student.predict(windows), strict=True))
    alone = student(windows[3])
    assert (alone.mask == results[3].mask).all()
    assert [d.box_xyxy for d in alone.detections] == [d.box_xyxy for d in results[3].detections]
    assert (student(windows[3].events).mask.shape) == alone.mask.shape


def events_at(begin_us, width=40, height=32, count=200):
    t_us = begin_us + np.arange(count) * 100
    places = {"x": np.arange(count) % width, "y": np.arange(count) % height}
    return evdistill.Events.from_columns(
        **places, t_us=t_us, p=np.arange(count) % 2, width=width, height=height
    )


def test_what_predict_left_out_is_counted_and_said_once(student, caplog):
    found = student.predict([events_at(0), events_at(200_000), events_at(60_000)])
    list(found)
    list(found)
    assert found.account.left_out["late"] == 200
    assert (found.account.read, found.account.used) == (600, 400)
    assert [record.getMessage() for record in caplog.records] == [
        "200 of 600 events left out: 200 too late: more than 10 ms out of order"
    ]


def test_the_account_of_a_recording_holds_what_its_reader_left_out(student, tmp_path, caplog):
    path = tmp_path / "outside.csv"
    path.write_text("t,x,y,p\n" + "".join(f"{k * 100},{k % 50},3,1\n" for k in range(500)))
    found = student.predict(path, size="40x32")
    list(found)
    assert found.account.left_out["out_of_frame"] == 100
    assert "100 outside the sensor's frame" in caplog.text


def test_what_a_filter_of_the_users_own_leaves_out_is_no_warning(tiny_student, caplog):
    student = evdistill.Student.load(tiny_student, device="cpu", max_events_per_s=1000)
    found = student.predict([events_at(0)])
    list(found)
    assert found.account.left_out["rate_limit"]
    assert not caplog.records


def test_another_size_ends_a_window_and_costs_no_event(student, caplog):
    found = student.predict([events_at(0), events_at(21_000, width=64, height=48)])
    assert [result.events.width for result in found] == [40, 64]
    assert found.account.used == found.account.read == 400
    assert found.counters["breaks_size"] == 1
    assert not caplog.records


def test_a_recurrent_stream_has_a_memory_of_its_own(recurrent_student):
    student = evdistill.Student.load(recurrent_student)
    alone = [r.mask for r in student.predict(DEMO, end_s=0.3)]
    first, second = student.predict(DEMO, end_s=0.3), student.predict(DEMO, end_s=0.3)
    mixed = [
        (a.mask, student(a.events).mask.shape, b.mask) for a, b in zip(first, second, strict=True)
    ]
    assert all((a == m).all() and (a == n).all() for a, (m, _, n) in zip(alone, mixed, strict=True))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "takes a path, a Recording, Events or an iterable.*got int"),
        ([np.zeros(3)], "Events or Windows one after another, got ndarray"),
    ],
)
def test_what_is_no_source_is_refused(student, source, message):
    with pytest.raises(evdistill.EvdistillError, match=message):
        list(student.predict(source))


def test_a_window_without_events_cannot_tell_its_time(student):
    with pytest.raises(evdistill.EvdistillError, match="no event to tell"):
        student(evdistill.Events.empty(40, 30))
    window = evdistill.Window(evdistill.Events.empty(40, 30), 0, 50_000, 0)
    assert (student(window).mask == 255).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [({"min_scores": 0.5}, "min_score"), ({"min_score": 2.0}, "0..1"), ({"device": "tpu"}, "cpu")],
)
def test_parameters_are_those_of_the_node(tiny_student, given, message):
    with pytest.raises(evdistill.EvdistillError, match=message):
        evdistill.Student.load(tiny_student, **given)
    assert evdistill.Student.load(tiny_student, min_score=0.5).parameters.min_score == 0.5


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize(
    "call",
    [
        evdistill.open_recording,
        evdistill.SimulatedSet,
        evdistill.Student.load,
        lambda path: evdistill.convert(path, "a.npz"),
        evdistill.train,
        lambda path: evdistill.export_student(path, "a.evstudent"),
        lambda path: evdistill.evaluate(path, path),
        lambda path: evdistill.WindowDataset(path, evdistill.InputSpec()),
        lambda path: evdistill.create_recording(path, width=3, height=3),
    ],
)
def test_a_missing_file_is_one_sentence_for_str_and_path(call, kind, tmp_path):
    with pytest.raises(evdistill.EvdistillError) as caught:
        call(kind(tmp_path / "nothing.here"))
    assert "nothing.here" in str(caught.value) or ".here" in str(caught.value)


def test_the_program_of_the_documentation_runs_as_written(tmp_path):
    text = (ROOT / "docs" / "how-to" / "python.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"<!-- tested as it stands -->\n```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "street.mcap").symlink_to(DEMO)
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "street.mcap").symlink_to(DEMO)
    done = run_python(code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


EXAMPLES = sorted((ROOT / "examples").glob("0*.py"))


def test_there_are_eight_short_examples():
    assert [p.name[:2] for p in EXAMPLES] == [f"{i:02}" for i in range(1, 9)]
    for path in EXAMPLES:
        code = path.read_text(encoding="utf-8").split('"""', 2)[2]
        lines = [t for t in code.splitlines() if t.strip() and not t.startswith("#")]
        assert 7 <= len(lines) <= 30, path.name


@pytest.mark.slow
@pytest.mark.timeout(630)
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_runs(path, tmp_path, make_camvid):
    (tmp_path / "demo").symlink_to(ROOT / "demo")
    arguments = []
    if path.name.startswith("08"):
        make_camvid(tmp_path / "data", "val")
        made = run_python(
            "from evdistill_core.cli.main import main\n"
            "sys.argv = ['evdistill', 'simulate', 'data', 'simulated', '--split', 'val', "
            "'--count', '2']\nmain()",
            cwd=tmp_path,
        )
        assert made.returncode == 0, made.stderr
        arguments = ["simulated"]
    done = run_example(path, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def run_example(path, *arguments, cwd):
    return run_python(
        f"sys.path.insert(0, {str(ROOT / 'examples')!r})\nsys.argv = {[str(path), *arguments]!r}\n"
        f"import runpy\nrunpy.run_path({str(path)!r}, run_name='__main__')",
        cwd=cwd,
    )


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("04_own_network.py", ["data/camvid"], "the folder data/camvid/images/train does not"),
        ("05_own_classes.py", ["data/camvid", "a.yaml"], "the folder data/camvid/images/train"),
        ("05_own_classes.py", ["data/camvid"], "name the class file behind the folder"),
    ],
)
def test_an_example_says_which_images_are_missing(tmp_path, name, arguments, said):
    done = run_example(ROOT / "examples" / name, *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.timeout(630)
def test_an_example_takes_images_and_classes_of_the_user(tmp_path, make_camvid):
    (tmp_path / "demo").symlink_to(ROOT / "demo")
    make_camvid(tmp_path / "camvid", "train")
    done = run_example(EXAMPLES[3], "camvid", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_span_outside_the_recording_is_refused_everywhere(student, tmp_path):
    span = {"start_s": 10.0, "end_s": 11.0}
    with evdistill.open_recording(DEMO) as recording:
        for call in (
            lambda: list(student.predict(DEMO, **span)),
            lambda: list(recording.windows(**span)),
            lambda: evdistill.convert(DEMO, tmp_path / "a.npz", **span),
        ):
            with pytest.raises(evdistill.EvdistillError, match="no events"):
                call()
    assert not (tmp_path / "a.npz").exists()


def test_a_part_is_converted_and_not_replaced_without_asking(tmp_path):
    target = tmp_path / "a.npz"
    result = evdistill.convert(DEMO, target, start_s=0.5, end_s=1.0)
    with evdistill.open_recording(target) as recording:
        t_us = np.concatenate([b.events.t_us for b in recording.batches()])
    assert len(t_us) == result.events
    assert t_us[-1] - t_us[0] < 500_000
    for call in (
        lambda **more: evdistill.convert(DEMO, target, **more),
        lambda **more: evdistill.create_recording(target, width=9, height=9, **more),
    ):
        with pytest.raises(evdistill.EvdistillError, match="already: replace it with overwrite=Tr"):
            call()
        call(overwrite=True)


@pytest.mark.parametrize("size", [(0, 10), (10, 65536), (10.5, 10), (True, -1)])
def test_a_recording_of_a_size_that_no_sensor_has_is_refused(tmp_path, size):
    with pytest.raises(ConfigError, match=r"must be a whole number in 1\.\.4096, got"):
        evdistill.create_recording(tmp_path / "a.npz", width=size[0], height=size[1])


def test_events_of_another_sensor_are_not_written(tmp_path):
    events = evdistill.Events.from_columns([5], [5], [5], [1], width=346, height=260)
    made = evdistill.create_recording(tmp_path / "a.npz", width=100, height=100)
    with made, pytest.raises(evdistill.EvdistillError, match=r"346x260 do not go.*100x100"):
        made.write_events(events)


def test_a_student_is_not_its_input(student):
    window = evdistill.Window(evdistill.Events.empty(40, 30), 0, 50_000, 0)
    for call in (
        lambda: evdistill.represent(window, student),
        lambda: evdistill.WindowDataset(DEMO, student),
    ):
        with pytest.raises(evdistill.EvdistillError, match=r"student\.input, got Student"):
            call()
    with pytest.raises(evdistill.EvdistillError, match="an empty path"):
        evdistill.open_recording("")
    with pytest.raises(evdistill.EvdistillError, match="no recording was given"):
        evdistill.WindowDataset([], student.input)
