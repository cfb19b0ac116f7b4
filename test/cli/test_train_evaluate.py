"""`evdistill train` and `evaluate` as a user runs them, on two small stills."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import evdistill_core as evdistill
from evdistill_core.cli.main import build_app
from evdistill_core.foundation.errors import ConfigError, OutputError, StudentError
from evdistill_core.models.checkpoint import load_checkpoint

DEMO = Path(__file__).parents[2] / "demo" / "davis346_street.mcap"


def invoke(*arguments):
    return CliRunner().invoke(build_app(), [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def experiment(tmp_path, make_camvid):
    """Write stills, an experiment of three steps, and a set to score."""
    make_camvid(tmp_path / "camvid", height=72, width=96)
    simulation = {"images": {"root": str(tmp_path / "camvid")}, "height": 32, "width": 48}
    train = {
        "name": "tiny",
        "steps": 3,
        "batch_size": 2,
        "network": {"name": "onboard-seg", "options": {"width": 0.25}},
        "input": {"bins": 2, "window_us": 20_000},
        "data": {"train": [{"name": "stills", "simulation": simulation}]},
        "threads": 1,
        "workers": 0,
    }
    sets = {"sets": [{"name": n, "count": 4, "seed": 3, "simulation": simulation} for n in "ab"]}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(train), encoding="utf-8")
    (tmp_path / "sets.yaml").write_text(yaml.safe_dump(sets), encoding="utf-8")
    return tmp_path


def test_train_export_evaluate(experiment):
    run, student = experiment / "run", experiment / "tiny.evstudent"
    assert invoke("train", experiment / "train.yaml", "--out", run).exit_code == 0
    assert invoke("export", run / "last.pt", student).exit_code == 0
    reports = {}
    for kind, path in (("checkpoint", run / "last.pt"), ("student", student)):
        out = experiment / kind
        result = invoke("evaluate", path, experiment / "sets.yaml", "--out", out)
        assert result.exit_code == 0
        reports[kind] = json.loads((out / "report.json").read_text(encoding="utf-8"))
        for name, found in reports[kind]["sets"].items():
            near, everywhere = (100 * found[w]["miou"] for w in ("near_events", "everywhere"))
            line = f"{name}: mIoU near events {near:.1f} %, everywhere {everywhere:.1f} %\n"
            assert line in result.output
        page = (out / "report.html").read_text(encoding="utf-8")
        assert page.count('table class="confusion"') == 2
        assert page.count("<img ") == 2 * 4 * 3
        assert "https://" not in page
    assert reports["student"]["sets"]["a"]["windows"] == 4
    # Both sets have the same seed and stills, and both files hold the same weights.
    assert reports["student"]["sets"]["a"] == reports["student"]["sets"]["b"]
    scores = [reports[k]["sets"]["a"]["everywhere"]["accuracy"] for k in reports]
    assert scores[0] == pytest.approx(scores[1], abs=0.01)
    assert 0 <= scores[0] <= 1


@pytest.mark.parametrize("kind", ["time_surface", "histogram"])
def test_a_student_of_each_representation_is_trained_exported_and_run(experiment, kind):
    config = yaml.safe_load((experiment / "train.yaml").read_text(encoding="utf-8"))
    config |= {"steps": 2, "input": {"kind": kind, "bins": 2, "window_us": 20_000}}
    (experiment / "train.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    run, student = experiment / "run", experiment / "tiny.evstudent"
    assert invoke("train", experiment / "train.yaml", "--out", run).exit_code == 0
    assert invoke("export", run / "last.pt", student).exit_code == 0
    loaded = evdistill.Student.load(student)
    assert loaded.input.kind == kind
    assert loaded.input.channels == {"time_surface": 2, "histogram": 4}[kind]
    results = list(loaded.predict(DEMO, end_s=0.2))
    assert len(results) >= 9
    assert results[0].mask.shape == (260, 346)


def test_settings_win_over_the_file_and_the_whole_is_printed(experiment):
    path = experiment / "train.yaml"
    changes = ["--set", "optimiser.lr=1e-3", "--set", "steps=7", "--set", "data.train.0.count=9"]
    result = invoke("train", path, *changes, "--batch-size", 1, "--print-config")
    assert result.exit_code == 2
    result = invoke("train", path, *changes, "--steps", 5, "--print-config")
    assert result.exit_code == 0
    printed = yaml.safe_load(result.stdout)
    assert (printed["stage"], printed["steps"], printed["optimiser"]["lr"]) == ("student", 5, 1e-3)
    assert printed["data"]["train"][0]["count"] == 9
    assert printed["network"]["options"] == {"width": 0.25}
    (experiment / "again.yaml").write_text(result.stdout, encoding="utf-8")
    again = invoke("train", experiment / "again.yaml", "--print-config")
    assert again.stdout == result.stdout
    assert [p.name for p in experiment.iterdir() if p.is_dir()] == ["camvid"]
    for change, told in (
        ("optimizer.lr=1", "unknown key optimizer; did you mean 'optimiser'?"),
        ("data.train[1].count=1", r"places 0 \.\. 0"),
        ("stage=teecher", "did you mean 'teacher'?"),
        ("steps", "KEY=VALUE"),
    ):
        with pytest.raises(ConfigError, match=told):
            invoke("train", path, "--set", change, "--print-config")


def test_results_are_replaced_only_when_told_to_and_json_is_all_of_stdout(experiment):
    run, student, out = experiment / "run", experiment / "tiny.evstudent", experiment / "scores"
    train = ("train", experiment / "train.yaml", "--out", run)
    score = ("evaluate", run / "last.pt", experiment / "sets.yaml", "--out", out, "--windows", 1)
    export = ("export", run / "last.pt", "--out", student, "--no-onnx", "--json")
    invoke(*train, "--steps", 1)
    first = (run / "last.pt").read_bytes()
    facts = json.loads(invoke(*score, "--json").stdout)
    assert facts["report"] == str(out / "report.html")
    assert facts["sets"]["a"]["windows"] == 1
    rows = json.loads(invoke(*export).stdout)["parity"]
    assert {row["form"] for row in rows} >= {"torch, folded"} or rows
    (out / "panels_old.png").touch()
    (out / "notes.md").write_text("mine")
    for command in (train, score, export):
        with pytest.raises(OutputError, match="--overwrite"):
            invoke(*command)
    for command in (train, score, export):
        assert invoke(*command, "--overwrite").exit_code == 0
    assert (run / "last.pt").read_bytes() != first
    assert load_checkpoint(run / "last.pt").provenance["steps"] == 3
    assert not (out / "panels_old.png").exists()
    assert (out / "notes.md").read_text() == "mine"


def test_limit_and_seed(experiment):
    run = experiment / "run"
    invoke("train", experiment / "train.yaml", "--out", run)
    contents = []
    for seed in (1, 2):
        out = experiment / f"seed{seed}"
        arguments = ["--out", out, "--windows", 2, "--seed", seed]
        invoke("evaluate", run / "last.pt", experiment / "sets.yaml", *arguments)
        contents.append(json.loads((out / "report.json").read_text(encoding="utf-8"))["sets"]["a"])
    assert [c["windows"] for c in contents] == [2, 2]
    assert contents[0] != contents[1]


def test_errors_are_ours(experiment):
    with pytest.raises(StudentError):
        invoke("evaluate", experiment / "none.evstudent", experiment / "sets.yaml")
    with pytest.raises(StudentError):
        invoke("evaluate", experiment / "train.yaml", experiment / "sets.yaml")
    with pytest.raises(ConfigError, match="there is no configuration"):
        invoke("train", experiment / "none.yaml")
    with pytest.raises(ConfigError, match=r"no class file nope\.yaml; .* presets .*street6"):
        invoke("train", experiment / "train.yaml", "--classes", "nope.yaml")


@pytest.mark.parametrize("name", ["street6", "street6.yaml"])
def test_a_shipped_experiment_is_named_with_its_folder(monkeypatch, name):
    monkeypatch.chdir(DEMO.parents[1])
    with pytest.raises(ConfigError, match=r"street6.*; did you mean 'config/train/street6\.yaml'"):
        invoke("train", name)
    with pytest.raises(ConfigError, match=r"config/train has .*onboard, .*street6"):
        invoke("train", "wholly/different")
    with pytest.raises(ConfigError, match=r"seg\.yaml is a ROS parameter file"):
        invoke("train", "config/seg.yaml")
