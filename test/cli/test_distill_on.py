"""`evdistill distill-on` as a user runs it: tiny recordings, tiny images, a student at the end."""

import itertools
import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from onnx_models import write_model
from report_pages import check_page
from typer.testing import CliRunner

from evdistill_core.cli.main import build_app
from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages
from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import (
    ConfigError,
    DataError,
    EvdistillError,
    OutputError,
    RecordingError,
)
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.inference.student import StudentFile
from evdistill_core.models.checkpoint import load_checkpoint
from evdistill_core.recordings.base import Frame
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.writers.aedat4 import Aedat4Writer
from evdistill_core.recordings.writers.npz import NpzWriter
from evdistill_core.training.distill_config import TERMS, DistillConfig
from evdistill_core.training.distill_on import (
    FRAME_TERMS,
    find_labelled,
    open_profile,
    split_images,
)
from evdistill_core.training.distill_on_report import last_scores
from evdistill_core.training.stages import load_experiment

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "batch_size": 2,
    "network": {"name": "onboard-seg", "options": {"width": 0.25}},
    "optimiser": {"warmup_steps": 50},
    "device": "cpu",
    "threads": 1,
    "workers": 0,
    "validate_every": 0,
}


def invoke(*arguments):
    return CliRunner().invoke(build_app(), [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def command(tmp_path, make_camvid):
    """Write a user's data and two small profiles; return the command line."""
    stems = [f"0001TP_{k:06d}" for k in range(6)]
    make_camvid(tmp_path / "images", stems=stems)
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 200_000, 20_000))
    x, y, p = (rng.integers(0, n, len(t)) for n in (48, 40, 2))
    events = Events.from_columns(x, y, t, p, width=48, height=40)
    (tmp_path / "mine").mkdir()
    with NpzWriter(tmp_path / "mine" / "a.npz", width=48, height=40) as writer:
        writer.write(events, Triggers.empty())
    stills = {"images": {"root": "elsewhere"}, "crop": [32, 48]}
    whole = {"images": {"root": "elsewhere"}, "multiple": 32}
    teacher = {
        **SMALL,
        "stage": "teacher",
        "name": "t",
        "steps": 500,
        "data": {"stills": stills, "validation_stills": {"val": whole}},
    }
    terms = {name: 0.0 for name in TERMS} | {"kd_event": 1.0, "task_events": 1.0, "gan_image": 1.0}
    simulation = {"images": {"root": "elsewhere"}, "height": 32, "width": 48, "unique": 2}
    window = {"name": "sim", "simulation": simulation}
    student = {
        **SMALL,
        "stage": "distill",
        "name": "s",
        "steps": 500,
        "teacher": "elsewhere.pt",
        "input": {"bins": 2, "window_us": 20_000},
        "terms": terms,
        "adversary": {
            "generator": {"base_channels": 4, "halvings": 1, "blocks": 1},
            "discriminator": {"base_channels": 4, "layers": 1},
        },
        "data": {
            "stills": stills,
            "recordings": {
                "paths": ["elsewhere"],
                "crop": [32, 48],
                "cache": str(tmp_path / "cache"),
            },
            "train": [window],
            "validation": [{**window, "count": 2}],
        },
    }
    for name, values in (("teacher", teacher), ("student", student)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return [
        "distill-on", tmp_path / "mine", "--images", tmp_path / "images",
        "--out", tmp_path / "run", "--profile", tmp_path / "student.yaml",
        "--teacher-profile", tmp_path / "teacher.yaml", "--teacher-steps", 2,
    ]  # fmt: skip


def test_a_student_and_reports_are_left_and_an_interrupted_run_goes_on(command, tmp_path):
    run = tmp_path / "run"
    result = invoke(*command, "--steps", 3)
    assert result.exit_code == 0
    student = StudentFile.open(run / "student.evstudent")
    assert student.info.input.bins == 2
    assert load_checkpoint(run / "teacher" / "last.pt").network == "image:onboard-seg"
    for stage in ("teacher", "student"):
        assert (run / stage / "report.html").stat().st_size > 0
    page = check_page((run / "report.html").read_text(encoding="utf-8"))
    links = [a["href"] for t, a in page.elements if t == "a"]
    assert links == ["teacher/report.html", "student/report.html"]
    assert "it failed" not in page.text
    ends = [line.partition(":")[0] for line in result.output.splitlines()[-5:]]
    assert ends == ["student", "score", "verdict", "report", "next"]
    (score,) = last_scores(run / "student").values()
    assert f"score: mIoU near events {100 * score:.1f} % on sim" in result.output
    assert "% against" in result.output  # both were scored on the same windows
    with pytest.raises(OutputError, match="--resume"):
        invoke(*command, "--steps", 3)
    # As if it had been ended after the last checkpoint of the student.
    teacher_bytes = (run / "teacher" / "last.pt").read_bytes()
    (run / "student" / "sessions.json").unlink()
    (run / "student.evstudent").unlink()
    assert invoke(*command, "--steps", 3, "--resume").exit_code == 0
    assert (run / "teacher" / "last.pt").read_bytes() == teacher_bytes
    again = StudentFile.open(run / "student.evstudent").weights()
    for name, value in student.weights().items():
        assert np.array_equal(value, again[name]), name


def test_a_teacher_that_is_there_is_taken(command, tmp_path):
    invoke(*command, "--steps", 1)
    teacher = tmp_path / "run" / "teacher" / "last.pt"
    other = [*command, "--teacher", teacher, "--steps", 1]
    other[other.index("--out") + 1] = tmp_path / "other"
    assert invoke(*other).exit_code == 0
    assert not (tmp_path / "other" / "teacher").exists()


def test_a_model_of_another_library_teaches(command, tmp_path):
    weights = np.random.default_rng(0).normal(0, 4, (6, 3, 1, 1)).astype(np.float32)
    model = write_model(tmp_path / "m.onnx", [("Conv", ["image", "w"], "logits", {})],
                        constants={"w": weights})  # fmt: skip
    described = {"onnx": str(model), "classes": "street6", "normalise": "imagenet"}
    (tmp_path / "described.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"m\.onnx alone does not say.*keys onnx, classes"):
        invoke(*command, "--teacher", model)
    wrong = described | {"classes": ["x", "y"]}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong), encoding="utf-8")
    with pytest.raises(ConfigError, match="no map from the teacher's classes x, y"):
        invoke(*command, "--teacher", tmp_path / "wrong.yaml")
    assert not (tmp_path / "run").exists()
    assert invoke(*command, "--teacher", tmp_path / "described.yaml", "--steps", 2).exit_code == 0
    assert not (tmp_path / "run" / "teacher").exists()
    first = StudentFile.open(tmp_path / "run" / "student.evstudent").weights()
    # The same, where the profile names it.
    profile = yaml.safe_load((tmp_path / "student.yaml").read_text(encoding="utf-8"))
    (tmp_path / "student.yaml").write_text(yaml.safe_dump(profile | {"teacher": described}))
    other = [*command, "--steps", 2]
    other[other.index("--out") + 1] = tmp_path / "other"
    assert invoke(*other).exit_code == 0
    assert not (tmp_path / "other" / "teacher").exists()
    second = StudentFile.open(tmp_path / "other" / "student.evstudent").weights()
    for name, value in first.items():
        assert np.array_equal(value, second[name]), name


def test_frames_of_the_camera_are_learnt_from(command, tmp_path):
    with pytest.raises(DataError, match="frames are wanted"):
        invoke(*command, "--steps", 1, "--frames")
    assert not (tmp_path / "run").exists()
    (source,) = (tmp_path / "mine").iterdir()
    with open_recording(source) as recording:
        events = Events.concatenate([b.events for b in recording.batches()])
    path = tmp_path / "mine" / "b.aedat4"
    with Aedat4Writer(path, width=48, height=40, frame_size=(48, 40)) as writer:
        writer.write(events, Triggers.empty())
        for t_us in range(5000, 200_000, 10_000):
            image = np.full((40, 48), t_us // 1000, np.uint8)
            writer.write_frame(Frame(image, t_us, t_us * 1000), t_us)
    source.unlink()
    assert invoke(*command, "--steps", 2, "--frames").exit_code == 0
    lines = (tmp_path / "run" / "student" / "metrics.jsonl").read_text().splitlines()
    steps = [row for row in map(json.loads, lines) if row["kind"] == "step"]
    assert len(steps) == 2
    for name, weight in FRAME_TERMS.items():
        for row in steps:
            assert row[f"loss_{name}_scaled"] == pytest.approx(weight * row[f"loss_{name}"])
            assert row[f"loss_{name}"] > 0


def test_wrong_paths_are_refused_before_anything_is_trained(command, tmp_path):
    for position, value in ((1, tmp_path / "nothing"), (7, tmp_path / "teacher.yaml")):
        wrong = list(command)
        wrong[position] = value
        with pytest.raises(EvdistillError):
            invoke(*wrong)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def recognition(tmp_path):
    """Write pictures in class folders, recordings and two profiles; return the command line."""
    rng = np.random.default_rng(0)
    for split, name in itertools.product(("train", "val"), ("bar", "disc")):
        folder = tmp_path / "pictures" / split / name
        folder.mkdir(parents=True)
        for i in range(3):
            picture = np.zeros((20, 20), np.uint8)
            picture[4:16, 4 + i : 8 + i] = 255 if name == "bar" else 90
            cv2.imwrite(str(folder / f"{i}.png"), picture)
    (tmp_path / "mine").mkdir()
    for i in range(3):
        t = np.sort(rng.integers(0, 20_000, 300))
        x, y, p = (rng.integers(0, n, len(t)) for n in (20, 20, 2))
        with NpzWriter(tmp_path / "mine" / f"{i}.npz", width=20, height=20) as writer:
            writer.write(Events.from_columns(x, y, t, p, width=20, height=20), Triggers.empty())
    small = SMALL | {
        "classes": "digits",
        "network": {"name": "onboard-cls", "options": {"width": 0.25, "stages": 2}},
    }
    images = {"root": "elsewhere", "layout": "mnist", "skip": 900}
    stills = {"images": images, "crop": [20, 20], "border": "edge"}
    moving = {"images": images, "height": 20, "width": 20}
    terms = {name: 0.0 for name in TERMS} | {"kd_event": 1.0, "task_events": 1.0, "gan_image": 1.0}
    teacher = {"stage": "teacher", "name": "t", "steps": 5, "data": {
        "stills": stills, "validation_stills": {"held-out": stills},
    }}  # fmt: skip
    student = {
        "stage": "distill",
        "name": "s",
        "steps": 5,
        "teacher": "elsewhere.pt",
        "input": {"bins": 2, "window_us": 20_000, "size_multiple": 2},
        "terms": terms,
        "transfer": {"affinity_graph": "batch"},
        "adversary": {
            "generator": {"base_channels": 4, "halvings": 1, "blocks": 1},
            "discriminator": {"base_channels": 4, "layers": 1},
        },
        "data": {
            "stills": stills,
            "recordings": {"paths": ["elsewhere"], "whole": True, "flip": 0.0},
            "train": [{"name": "simulated", "moving_stills": moving}],
        },
    }
    for name, values in (("teacher", teacher), ("student", student)):
        text = yaml.safe_dump(small | values)
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return [
        "distill-on", tmp_path / "mine", "--images", tmp_path / "pictures",
        "--out", tmp_path / "run", "--profile", tmp_path / "student.yaml",
        "--teacher-profile", tmp_path / "teacher.yaml", "--teacher-steps", 2, "--steps", 2,
    ]  # fmt: skip


def test_classes_of_recognition_are_the_names_of_folders(recognition, tmp_path):
    with pytest.raises(ConfigError, match="--validation"):
        invoke(*recognition)
    assert not (tmp_path / "run").exists()
    assert invoke(*recognition, "--validation", "val").exit_code == 0
    info = StudentFile.open(tmp_path / "run" / "student.evstudent").info
    assert info.task == "recognition"
    assert info.classes.names == ("bar", "disc")


def test_digits_without_a_split_that_judges_keep_a_fifth(recognition, tmp_path):
    folder = tmp_path / "digits"
    folder.mkdir()
    for kind, shape in (("images-idx3", (10, 20, 20)), ("labels-idx1", (10,))):
        head = bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)
        body = (np.arange(np.prod(shape)) % 10).astype(np.uint8).tobytes()
        (folder / f"train-{kind}-ubyte").write_bytes(head + body)
    recognition[recognition.index("--images") + 1] = folder
    assert invoke(*recognition).exit_code == 0
    info = StudentFile.open(tmp_path / "run" / "student.evstudent").info
    assert info.classes.names == tuple("0123456789")
    config = load_experiment(tmp_path / "run" / "teacher" / "config.yaml")
    stills, held_out = config.data.stills, config.data.validation_stills["held-out"]
    assert (stills.images.skip, stills.images.limit) == (0, 8)
    assert (held_out.images.skip, held_out.images.limit) == (8, 0)


def test_how_images_lie_is_found(tmp_path, make_camvid, recognition):
    make_camvid(tmp_path / "camvid")
    for folder in ("leftImg8bit", "gtFine"):
        (tmp_path / "city" / folder / "train").mkdir(parents=True)
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "train-images-idx3-ubyte.gz").touch()
    dense = open_profile(DistillConfig, ROOT / "config" / "train" / "onboard.yaml")
    of_one = open_profile(DistillConfig, tmp_path / "student.yaml")
    for root, profile, layout, split in (
        ("camvid", dense, "camvid", "train"),
        ("city", dense, "cityscapes", "train"),
        ("pictures", of_one, "class-folders", "train"),
        ("pictures/val", of_one, "class-folders", "."),
        ("digits", of_one, "mnist", "train"),
    ):
        found = find_labelled(tmp_path / root, "train", profile)
        assert (found.layout, found.split, found.skip) == (layout, split, 0)
        assert found.root == tmp_path / root
    with pytest.raises(DataError, match="leftImg8bit"):
        find_labelled(tmp_path / "digits", "train", dense)


def test_judging_images_are_not_learnt_from(tmp_path, make_camvid):
    make_camvid(tmp_path, stems=[f"0001TP_{k:06d}" for k in range(11)])
    images = ImagesConfig(root=tmp_path)
    learnt, judging = (LabelledImages(c).names for c in split_images(images, None, SIX_CLASSES))
    assert len(learnt) == 9
    assert len(judging) == 2
    assert not set(learnt) & set(judging)
    make_camvid(tmp_path / "one", stems=["0001TP_000001"])
    with pytest.raises(ConfigError, match="at least 2"):
        split_images(ImagesConfig(root=tmp_path / "one"), None, SIX_CLASSES)


def test_a_profile_of_another_stage_is_refused_before_anything_is_read():
    teacher = ROOT / "config" / "train" / "teacher-tiny.yaml"
    with pytest.raises(ConfigError, match=r"teacher-tiny.yaml is not .* stage: distill"):
        invoke("distill-on", "nowhere", "--images", "nowhere", "--profile", teacher)
    pupil = ROOT / "config" / "train" / "distill-tiny.yaml"
    with pytest.raises(ConfigError, match=r"distill-tiny.yaml is not .* stage: teacher"):
        invoke("distill-on", "nowhere", "--images", "nowhere", "--teacher-profile", pupil)


def test_a_wrong_recording_shows_before_the_labels_are_read(command, tmp_path, monkeypatch):
    monkeypatch.setattr("evdistill_core.cli._classes.check_images", lambda *_: pytest.fail("read"))
    command[1] = tmp_path / "nope.mcap"
    with pytest.raises(RecordingError, match=r"there is no recording .*nope\.mcap"):
        invoke(*command)
