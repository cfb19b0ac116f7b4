"""Own classes from the first command to boxes: four classes, two of them things, made-up images."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from evdistill_core.cli.main import build_app
from evdistill_core.data.own_classes import UnknownClassesError
from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import ConfigError, DataError, OutputError
from evdistill_core.inference.student import StudentFile
from evdistill_core.messages.vision import Detection2DArray, LabelInfo
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.writers.npz import NpzWriter
from evdistill_core.simulation.dataset import SimulatedSet
from evdistill_core.training.distill_config import TERMS

DEMO = Path(__file__).resolve().parents[2] / "demo" / "davis346_street.mcap"
CLASSES = """
classes:
  - {name: floor, ids: [0]}
  - {name: wall, ids: [1]}
  - {name: crate, ids: [2], thing: true, color: "#102030"}
  - {name: ball, ids: [3], thing: true}
ignore: [9]
"""
NAMES = ("floor", "wall", "crate", "ball")
SMALL = {
    "batch_size": 2,
    "network": {"name": "onboard-seg", "options": {"width": 0.25}},
    "optimiser": {"warmup_steps": 0, "lr": 0.01},
    # Things win where a network of a few steps knows nothing: there are boxes to look at.
    "loss": {"class_weights": [0.02, 0.02, 1.0, 1.0], "activity_radius_px": -1},
    "device": "cpu",
    "threads": 1,
    "workers": 0,
    "validate_every": 0,
}


def invoke(*arguments):
    return CliRunner().invoke(build_app(), [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Write images, masks and a class file, and make it the working directory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "own" / kind).mkdir(parents=True)
    for k in range(5):
        mask = np.zeros((48, 64), np.uint8)
        mask[:20] = 1
        mask[8:40, 6 + k : 34 + k] = 2
        cv2.circle(mask, (48, 28), 13, 3, -1)
        grey = np.array([90, 200, 40, 240])[mask][..., None] + rng.normal(0, 12, (48, 64, 3))
        mask[-2:] = 9
        mask[0] = 255
        cv2.imwrite(str(tmp_path / "own/images" / f"{k}.png"), np.clip(grey, 0, 255).astype("u1"))
        cv2.imwrite(str(tmp_path / "own/masks" / f"{k}.png"), mask)
    (tmp_path / "classes.yaml").write_text(CLASSES, encoding="utf-8")
    return tmp_path


def write(path, values):
    path.write_text(yaml.safe_dump(values), encoding="utf-8")


@pytest.fixture
def command(home):
    """Write two small profiles and return the command line, without the class file."""
    stills = {"images": {"root": "elsewhere"}, "crop": [32, 48]}
    whole = {"images": {"root": "elsewhere"}, "multiple": 32}
    data = {"stills": stills, "validation_stills": {"val": whole}}
    write(
        home / "teacher.yaml", {**SMALL, "stage": "teacher", "name": "t", "steps": 4, "data": data}
    )
    simulation = {"images": {"root": "elsewhere"}, "height": 32, "width": 48, "unique": 4}
    window = {"name": "sim", "simulation": simulation}
    student = {
        **SMALL,
        "stage": "distill",
        "name": "s",
        "steps": 8,
        "teacher": "elsewhere.pt",
        "input": {"bins": 2, "window_us": 50_000},
        "notes": ["of CamVid"],
        "terms": {name: 0.0 for name in TERMS} | {"kd_event": 0.1, "task_events": 1.0},
        "data": {
            "stills": stills,
            "recordings": {"paths": ["elsewhere"], "crop": [32, 48]},
            "train": [window],
            "validation": [{**window, "count": 2}],
        },
    }
    write(home / "student.yaml", student)
    return [
        "distill-on", DEMO, "--images", "own", "--out", "run", "--profile", "student.yaml",
        "--teacher-profile", "teacher.yaml",
    ]  # fmt: skip


def test_distill_on_asks_for_the_classes_before_it_trains(command, home):
    with pytest.raises(UnknownClassesError, match=r"own mean: they hold 2 \(\d+.\d%\)"):
        invoke(*command)
    printed = CliRunner().invoke(build_app(), [str(a) for a in command]).output
    rows = yaml.safe_load(printed)["classes"]
    assert [row["ids"] for row in rows] == [[0], [1], [2], [3], [9]]
    written = invoke(*command, "--write-classes", "new.yaml")
    assert written.exit_code == 0
    assert written.stderr.splitlines()[-1].endswith(
        "run this again with --classes new.yaml and without --write-classes"
    )
    assert not (home / "run").exists()
    assert (home / "new.yaml").read_text() == printed
    (home / "run").mkdir()
    (home / "run" / "student.evstudent").touch()  # of an earlier run: not in the way
    assert invoke(*command, "--write-classes", "again.yaml").exit_code == 0
    shutil.rmtree(home / "run")
    with pytest.raises(OutputError, match="there already"):
        invoke(*command, "--write-classes", "new.yaml")
    with pytest.raises(ConfigError, match="has no name"):
        invoke(*command, "--classes", "new.yaml")
    with pytest.raises(ConfigError, match=r"other.yaml is not written: the labels have a meaning"):
        invoke(*command, "--classes", "digits", "--write-classes", "other.yaml")
    assert not (home / "other.yaml").exists()
    (home / "two.yaml").write_text("classes: [{name: a, ids: [0]}, {name: b, ids: [1]}]")
    with pytest.raises(DataError, match=r"5 of 5 label files .* 2 \(\d.*first own/masks/0\.png"):
        invoke("simulate", "own", "sim", "--classes", "two.yaml")
    assert not (home / "run").exists()


def test_a_file_beside_the_images_counts_and_values_without_a_class_stop_it(command, home):
    beside = home / "own" / "classes.yaml"
    beside.write_text(CLASSES.replace("ignore: [9]", ""))
    with pytest.raises(DataError, match=r"4 of 4 label files hold values without .*: 9 \(512 pix"):
        invoke(*command)
    assert not (home / "run").exists()


def test_four_own_classes_become_a_student_with_boxes_of_the_things(command, home):
    result = invoke(*command, "--classes", "classes.yaml")
    assert result.exit_code == 0, result.output
    assert "crate" in result.output
    student = home / "run" / "student.evstudent"
    info = StudentFile.open(student).info
    assert info.classes.names == NAMES
    assert info.classes.thing_ids == (2, 3)
    assert info.classes.classes[2].color_rgb == (0x10, 0x20, 0x30)
    assert info.classes.masks is not None
    assert "CamVid" not in json.dumps(dict(info.provenance))
    # The run holds the content of the file: it goes on when the file is gone.
    assert yaml.safe_load((home / "run/student/config.yaml").read_text())["classes"]["ignore"] == [
        9
    ]
    assert invoke(
        "run", DEMO, "--student", student, "--out", "out", "--end", 0.4, "--quiet",
        "-p", "min_score:=0.0", "-p", "min_area_px:=5", "-p", "unlabelled_radius_px:=-1",
    ).exit_code == 0  # fmt: skip
    with open_recording(home / "out" / "masks.mcap") as recording:
        topics = {t.name.rsplit("/", 1)[-1]: t.name for t in recording.info.topics}
        (packet,) = recording.packets([topics["label_info"]])
        told = {r.class_id: r.class_name for r in LabelInfo.parse(packet.data).class_map}
        found = {
            told[int(d.results[0].hypothesis.class_id)]
            for p in recording.packets([topics["detections"]])
            for d in Detection2DArray.parse(p.data).detections
        }
    assert told == dict(enumerate(NAMES)) | {255: "UNLABELED"}
    assert found
    assert found <= {"crate", "ball"}
    _score_on_own_masks(home, student)


def _score_on_own_masks(home, student):
    """Score the student on the demo recording with masks of 4 classes, which it knows."""
    drive = home / "labelled" / "drive"  # away from classes.yaml
    (drive / "masks").mkdir(parents=True)
    (drive / DEMO.name).symlink_to(DEMO)
    with open_recording(DEMO) as recording:
        first = int(next(iter(recording.batches())).events.t_us[0])
        size = (recording.info.height, recording.info.width)
    for after_us in (10_000, 100_000, 200_000):
        mask = np.full(size, 2, np.uint8)
        mask[100:] = 9
        cv2.imwrite(str(drive / "masks" / f"{first + after_us}.png"), mask)
    result = invoke("evaluate", student, drive, "--out", "scores")
    assert "the meaning of the labels comes from the student" in result.output
    assert "drive: 1 mask not used: less than 50 ms after the beginning or a gap" in result.output
    report = json.loads((home / "scores" / "report.json").read_text())
    assert report["sets"]["drive"]["windows"] == 2
    (home / "other.yaml").write_text("classes: [{name: crate, ids: [2]}]")
    with pytest.raises(DataError, match=r"holds the value 9"):
        invoke("evaluate", student, drive, "--out", "b", "--classes", "other.yaml")


def test_own_recordings_with_masks_are_trained_on(home):
    rng = np.random.default_rng(1)
    drive = home / "drive"
    (drive / "masks").mkdir(parents=True)
    t_us = np.sort(rng.integers(0, 300_000, 6000))
    columns = (rng.integers(0, n, len(t_us)) for n in (48, 32, 2))
    x, y, p = columns
    with NpzWriter(drive / "a.npz", width=48, height=32) as writer:
        writer.write(Events.from_columns(x, y, t_us, p, width=48, height=32), Triggers.empty())
    for t_end_us in (100_000, 200_000, 290_000, 400_000):
        mask = (np.indices((32, 48)).sum(0) // 20 % 4).astype(np.uint8)
        cv2.imwrite(str(drive / "masks" / f"{t_end_us}.png"), mask)
    recorded = [{"name": "drives", "recorded": {"paths": ["drive"]}}]
    write(home / "x.yaml", {**SMALL, "name": "x", "steps": 2, "data": {"train": recorded}})
    (home / "classes.yaml").rename(home / "c.yaml")  # else it lies beside the recording
    with pytest.raises(UnknownClassesError):
        invoke("train", "x.yaml")
    result = invoke("train", "x.yaml", "--classes", "c.yaml")
    assert result.exit_code == 0
    assert "1 mask not used: outside of the recording" in result.output
    assert (home / "runs" / "x" / "report.html").stat().st_size > 0


def test_simulated_windows_have_the_classes(home):
    with pytest.raises(UnknownClassesError):
        invoke("simulate", "own", "sim", "--count", 2)
    write(home / "small.yaml", {"height": 32, "width": 48})
    done = invoke(
        "simulate",
        "own",
        "sim",
        "--count",
        2,
        "--classes",
        "classes.yaml",
        "--config",
        "small.yaml",
    )
    assert done.exit_code == 0
    made = SimulatedSet(home / "sim")
    assert made.classes.names == NAMES
    assert made.classes.thing_ids == (2, 3)
