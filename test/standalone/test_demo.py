"""`evdistill demo`: three processes, measured from outside."""

import io
import json
import signal
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from evdistill_core.cli.main import run
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.messages.standard import Image
from evdistill_core.recordings.opening import open_recording
from evdistill_ros.standalone import demo as demo_module
from evdistill_ros.standalone.children import ChildError
from evdistill_ros.standalone.console import StatusView
from evdistill_ros.standalone.demo import dropped_note
from evdistill_ros.standalone.observer import end_to_end_ms, read_log


def test_end_to_end_is_from_the_windows_last_packet_to_the_masks_arrival():
    sent = [
        {"last_event_us": 100, "sent_monotonic_ns": 1_000_000},
        {"last_event_us": None, "sent_monotonic_ns": 2_000_000},
        {"last_event_us": 200, "sent_monotonic_ns": 3_000_000},
        {"last_event_us": 300, "sent_monotonic_ns": 4_000_000},
    ]
    results = [
        {"stamp_ns": 11, "last_event_us": 100},
        {"stamp_ns": 12, "last_event_us": 150},
        {"stamp_ns": 13, "last_event_us": None},
        {"stamp_ns": 14, "last_event_us": 250},
    ]
    masks = {11: 21_000_000, 12: 22_000_000, 13: 23_000_000}
    assert end_to_end_ms(masks, sent, results) == [20.0, 19.0]


def test_damaged_logs_are_named(tmp_path):
    (tmp_path / "log").write_text("{\n")
    with pytest.raises(ConfigError, match="log"):
        read_log(tmp_path / "log")


def test_a_pipe_gets_no_line_before_there_is_something_to_say(capsys):
    unknown = [("events/s", "-"), ("windows", "3")]
    known = [("events/s", "33,000"), ("windows", "20")]
    with StatusView(Console(file=io.StringIO())) as view:
        view.show(unknown)
        view.show(known)
        view.show([("events/s", "1"), ("windows", "21")])  # within 5 s
    assert capsys.readouterr().err == "events/s 33,000  windows 20\n"


@pytest.mark.parametrize(
    ("done", "dropped", "start"),
    [(47, 1, "1 of 48 windows was dropped"), (30, 18, "18 of 48 windows were dropped")],
)
def test_dropped_windows_are_told_with_their_cause_and_a_cure(done, dropped, start):
    note = dropped_note({"windows": done, "windows_dropped": dropped})
    assert note.startswith(f"{start} because this machine was busy")
    assert "Close other programs" in note
    assert "max_rate_hz" in note
    assert not dropped_note({"windows": 48, "windows_dropped": 0})


def test_the_demo_replaces_its_own_results_and_no_others(tiny_student, tmp_path, monkeypatch):
    """`make run` works twice, for out/demo belongs to the demo."""
    started = []

    def run_demo(options, **_):
        started.append(options.out)
        raise ChildError("as far as we go")

    monkeypatch.setattr(demo_module, "run_demo", run_demo)
    monkeypatch.chdir(tmp_path)
    for folder in ("out/demo", "mine"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "report.json").write_text("{}")
    recording = ["demo", "--student", str(tiny_student)]
    assert run(recording) == 1
    assert run([*recording, "--out", "mine"]) == 2
    assert run([*recording, "--out", "mine", "--overwrite"]) == 1
    assert started == [Path("out/demo"), Path("mine")]


@pytest.mark.slow
def test_demo_leaves_everything_and_counts_every_event(
    evdistill, tiny_student, street_packets, tmp_path
):
    out = tmp_path / "demo"
    demo = evdistill("demo", "--student", tiny_student, "--out", out)
    assert demo.wait(150) == 0, demo.output
    names = sorted(p.name for p in out.iterdir())
    assert names == ["masks.mcap", "overlay.mp4", "overlay.png", "report.json"]
    report = json.loads((out / "report.json").read_text())
    assert report["events"] == report["events_sent"] == 78_830
    assert report["windows"] >= report["windows_received"] >= 40
    assert report["seq_gaps"] == 0
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p95"]
    assert set(report["stages_ms"]) >= {"decode", "infer", "publish", "total"}
    assert 50 < report["rss_mb"] < 1200
    assert "events/s 0 " not in demo.output
    assert "windows 0" not in demo.output
    assert ("dropped because this machine was busy" in demo.output) == (
        report["windows_dropped"] > 0
    )
    with open_recording(out / "masks.mcap") as recording:
        topics = {t.name: t.message_count for t in recording.info.topics}
        masks = list(recording.packets(["/segmentation/mask"]))
    assert len(masks) == topics["/segmentation/overlay"] == report["windows_received"]
    assert Image.parse(masks[0].data).width == 346
    assert {"/segmentation/label_info", "/diagnostics"} <= set(topics)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "after_s"), [(1, 0.0), (2, 0.0), (2, 2.0)])
def test_ctrl_c_ends_all_three_and_leaves_nothing(
    evdistill, tiny_student, tmp_path, count, after_s
):
    out = tmp_path / "demo"
    demo = evdistill("demo", "--student", tiny_student, "--out", out)
    demo.wait_for_children(count)
    time.sleep(after_s)
    children = psutil.Process(demo.process.pid).children(recursive=True)
    demo.send(signal.SIGINT)
    assert demo.wait(40) == 130, demo.output
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, [(p.cmdline(), p.status()) for p in alive]
    assert not out.exists() or list(out.iterdir()) == []
    assert "Traceback" not in demo.output


@pytest.mark.slow
def test_children_do_not_outlive_a_killed_demo(evdistill, tiny_student, tmp_path):
    demo = evdistill("demo", "--student", tiny_student, "--out", tmp_path / "demo")
    children = demo.wait_for_children(2)
    time.sleep(2.0)
    demo.process.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, [(p.cmdline(), p.status()) for p in alive]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--recording", "nowhere.mcap"], "there is no recording nowhere.mcap"),
        (["--student", "nowhere.evstudent"], "no student file at nowhere.evstudent"),
        (["--recording", "setup.py"], "setup.py is of a kind that we do not know"),
    ],
)
def test_what_failed_is_said(evdistill, tiny_student, tmp_path, arguments, words):
    more = [] if "--student" in arguments else ["--student", tiny_student]
    demo = evdistill("demo", "--out", tmp_path / "demo", *arguments, *more)
    assert demo.wait(90) in (1, 2)
    assert words in demo.output
    assert "Traceback" not in demo.output
    assert not (tmp_path / "demo" / "report.json").exists()
