"""`evdistill demo`: three processes, measured from outside."""

import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import typer
from PIL import Image as PillowImage
from rich.console import Console

from evdistill_core.cli.main import build_app, run
from evdistill_core.drawing.colours import BRIGHTER_BGR, DARKER_BGR
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.messages.standard import Image
from evdistill_core.recordings.opening import open_recording
from evdistill_ros.cli.demo import _path_note
from evdistill_ros.standalone import demo as demo_module
from evdistill_ros.standalone.children import ChildError
from evdistill_ros.standalone.console import StatusView
from evdistill_ros.standalone.demo import NEXT, dropped_note
from evdistill_ros.standalone.observer import cut_off_windows, end_to_end_ms, read_log

ROOT = Path(__file__).resolve().parents[2]


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


def test_the_window_in_which_the_recording_ends_is_no_picture():
    sent = [{"last_event_us": 90}, {"last_event_us": None}, {"last_event_us": 149}]
    windows = [(1, 50), (2, 100), (3, 150), (4, 200)]
    results = [{"stamp_ns": stamp, "t_end_us": end} for stamp, end in windows]
    assert cut_off_windows(sent, results) == {4}
    assert cut_off_windows([], results) == {1, 2, 3, 4}


def test_what_comes_next_names_commands_and_options_that_exist():
    lines = NEXT.splitlines()[1:]
    assert len(lines) == 3
    for line in lines:
        words = re.match(r"  evdistill (\S+(?: \S+)*)  ", line)[1].split()
        command = typer.main.get_command(build_app()).commands[words[0]]
        command.make_context(words[0], words[1:])  # raises where an option does not exist


def test_a_command_that_the_shell_does_not_find_is_named_with_its_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [".venv/bin/evdistill", "demo"])
    said = "evdistill is .venv/bin/evdistill; source .venv/bin/activate puts it on your path"
    assert _path_note() == said
    command = tmp_path / "evdistill"
    command.touch()
    command.chmod(0o755)
    assert _path_note() == ""


def test_the_moving_picture_of_the_readme_is_small_and_whole():
    with PillowImage.open(ROOT / "docs" / "images" / "demo.webp") as picture:
        assert picture.n_frames >= 45
        assert picture.width > 900
    assert (ROOT / "docs" / "images" / "demo.webp").stat().st_size < 2_000_000


@pytest.mark.slow
def test_the_moving_picture_can_be_made(tmp_path):
    """Events of both polarities above, masks and boxes below, in every picture."""
    command = [sys.executable, str(ROOT / "docs" / "images" / "make_demo_film.py")]
    subprocess.run([*command, str(tmp_path / "demo.webp")], check=True, timeout=170)
    with PillowImage.open(tmp_path / "demo.webp") as picture:
        for index in range(picture.n_frames):
            picture.seek(index)
            pixels = np.asarray(picture.convert("RGB")).astype(int)
            for colour in (BRIGHTER_BGR, DARKER_BGR):
                near = np.abs(pixels[:400] - colour[::-1]).sum(axis=2) < 80
                assert near.sum() > 200, f"picture {index} lacks a polarity"
