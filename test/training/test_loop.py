"""Runs of a few steps: learning, checkpoints, going on, what stops a run."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import cv2
import numpy as np
import psutil
import pytest
import torch

from evdistill_core.data.build import build_source
from evdistill_core.export.student import export_student
from evdistill_core.foundation.config import from_mapping, load_yaml
from evdistill_core.foundation.errors import ConfigError, DataError, StudentError, TrainingError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.models.checkpoint import load_checkpoint
from evdistill_core.training.config import LossConfig, TrainConfig
from evdistill_core.training.console import run_with_progress
from evdistill_core.training.loop import Trainer
from evdistill_core.training.processes import pick_device, resolve_precision, start_processes
from evdistill_core.training.run_log import read_records
from evdistill_core.training.stages import load_experiment
from evdistill_core.training.tasks import pixel_weights


def config_of(path):
    return from_mapping(TrainConfig, load_yaml(path))


def losses_of(folder):
    return [r["loss"] for r in read_records(folder / "metrics.jsonl") if r["kind"] == "step"]


def run(path, folder, **kwargs):
    trainer = Trainer(config_of(path), folder, **kwargs)
    assert trainer.run()
    return losses_of(folder)


def test_a_run_learns_and_leaves_its_files(tiny_run, tmp_path):
    path = tiny_run(steps=60, optimiser={"lr": 0.01, "warmup_steps": 5, "ema_decay": 0.9})
    out = tmp_path / "run"
    run_with_progress(Trainer(config_of(path), out))
    losses = losses_of(out)
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:10])
    for name in ("last.pt", "best.pt", "report.html", "sessions.json"):
        assert (out / name).stat().st_size > 0, name
    assert load_experiment(out / "config.yaml") == config_of(path)
    checkpoint = load_checkpoint(out / "best.pt")
    assert checkpoint.input == config_of(path).input
    assert checkpoint.provenance["steps"] == 60
    score = [r for r in read_records(out / "metrics.jsonl") if r["kind"] == "validation"][-1]
    assert score["sets"]["stills"]["windows"] == 3
    checkpoint.build()


def test_a_run_on_images_without_people_and_vehicles_learns_what_is_neither(tiny_run, tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / "coco" / kind / "train").mkdir(parents=True)
    picture = np.random.default_rng(0).integers(0, 255, (9, 12, 3)).astype(np.uint8)
    picture = cv2.resize(picture, (96, 72), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(tmp_path / "coco" / "images" / "train" / "a.png"), picture)
    (tmp_path / "coco" / "labels" / "train" / "a.txt").write_text("56 0 0 1 0 1 1")  # a chair
    content = load_yaml(tiny_run(steps=50, optimiser={"lr": 0.01, "warmup_steps": 0}))
    camvid = content["data"]["train"][0]
    scene = camvid["simulation"]["scene"]
    rooms = {
        **camvid["simulation"],
        "images": {"layout": "coco-seg", "root": str(tmp_path / "coco")},
        "scene": {**scene, "people": [0, 0], "vehicles": [0, 0], "distractors": [0, 0]},
    }
    content["data"] = {
        "train": [{"name": "rooms", "share": 2.0, "simulation": rooms}, camvid],
        "validation": [],
    }
    trainer = Trainer(from_mapping(TrainConfig, content), tmp_path / "run")
    source = build_source(trainer.config.data.train[0], trainer.config.input, SIX_CLASSES, seed=99)

    def share_of_people_and_vehicles():
        samples = [source.sample(i) for i in range(6)]
        assert {int(v) for s in samples for v in np.unique(s.label)} <= {254, 255}
        p = [torch.from_numpy(trainer.predict(s.input)).softmax(0) for s in samples]
        return float(torch.stack(p)[:, 4:].sum(1).mean())

    before = share_of_people_and_vehicles()
    assert trainer.run()
    trainer.state.network.eval()
    assert share_of_people_and_vehicles() < 0.3 * before


def test_same_seed_same_losses(tiny_run, tmp_path):
    first = run(tiny_run(), tmp_path / "a")
    assert first == run(tiny_run(), tmp_path / "b")
    assert first != run(tiny_run(seed=1), tmp_path / "c")


def test_stopped_and_resumed_equals_uninterrupted(tiny_run, tmp_path):
    whole = run(tiny_run(), tmp_path / "whole")
    trainer = Trainer(config_of(tiny_run()), tmp_path / "parts")
    seen = []

    def stop_after_five(report):
        seen.append(report.loss)
        if len(seen) == 5:
            trainer.stop()

    assert not trainer.run(stop_after_five)
    assert trainer.state.step == 5
    rest = Trainer(config_of(tiny_run()), tmp_path / "parts", resume=True)
    assert rest.run()
    assert losses_of(tmp_path / "parts") == whole
    a, b = (load_checkpoint(tmp_path / d / "last.pt").state_dict for d in ("whole", "parts"))
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tiny_run, tmp_path):
    # kill -9 in the middle: no handler runs, the last checkpoint on disk must be enough.
    experiment = {"steps": 60, "checkpoint_every": 7}
    whole = run(tiny_run(**experiment), tmp_path / "whole")
    out = tmp_path / "killed"
    arguments = [sys.executable, "-m", "evdistill_core", "train", str(tiny_run(**experiment))]
    process = subprocess.Popen([*arguments, "--out", str(out)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(read_records(out / "metrics.jsonl"))) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 14 <= len(losses_of(out)) < 60, "the run ended before it was killed"
    assert not list(out.glob(".*part*")) or (out / "last.pt").exists()
    subprocess.run(
        [*arguments, "--out", str(out), "--resume"], check=True, stdout=subprocess.DEVNULL
    )
    assert losses_of(out) == whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "number", "code"), [(0, signal.SIGINT, 130), (2, signal.SIGTERM, 143)]
)
def test_a_signal_to_all_processes_leaves_a_checkpoint(tiny_run, tmp_path, workers, number, code):
    """As a terminal sends it, ``timeout`` and systemd: data workers get it too."""
    out = tmp_path / "run"
    path = tiny_run(steps=100_000, checkpoint_every=100_000, workers=workers)
    process = subprocess.Popen(
        [sys.executable, "-m", "evdistill_core", "train", str(path), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while len(list(read_records(out / "metrics.jsonl"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code, output
    assert "Traceback" not in output
    assert output.splitlines()[-1] == "evdistill: interrupted"
    assert len(children) >= workers
    assert psutil.wait_procs(children, 60)[1] == []
    assert load_checkpoint(out / "last.pt").provenance["steps"] >= 3
    assert not list(out.glob(".*part*"))


def test_a_run_is_not_overwritten(tiny_run, tmp_path):
    run(tiny_run(steps=2), tmp_path / "run")
    with pytest.raises(TrainingError, match="--resume"):
        Trainer(config_of(tiny_run(steps=2)), tmp_path / "run")


def test_resume_refuses_another_experiment(tiny_run, tmp_path):
    run(tiny_run(steps=2), tmp_path / "run")
    with pytest.raises(ConfigError, match="optimiser"):
        Trainer(config_of(tiny_run(steps=2, optimiser={"lr": 1.0})), tmp_path / "run", resume=True)
    Trainer(config_of(tiny_run(steps=2, checkpoint_every=7)), tmp_path / "run", resume=True)


def test_resume_without_a_run(tiny_run, tmp_path):
    with pytest.raises(StudentError, match="no checkpoint"):
        Trainer(config_of(tiny_run()), tmp_path / "nowhere", resume=True)


def test_damaged_checkpoint(tiny_run, tmp_path):
    out = tmp_path / "run"
    run(tiny_run(steps=2), out)
    content = (out / "last.pt").read_bytes()
    (out / "last.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(StudentError):
        Trainer(config_of(tiny_run(steps=2)), out, resume=True)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(
    tiny_run, tmp_path, monkeypatch
):
    trainer = Trainer(config_of(tiny_run()), tmp_path / "run")
    with torch.no_grad():
        trainer.state.network.head.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="nonfinite_batch"):
        trainer.run()
    kept = torch.load(tmp_path / "run" / "nonfinite_batch.pt", weights_only=True)
    assert kept["input"].shape == (2, 2, 32, 48)
    assert kept["first_index"] == 0
    # In every process the same tensors, whoever of them has partial labels in its part.
    assert kept["excluded"].tolist() == [[False] * 6] * 2
    assert kept["instances"].shape == (2, 32, 48)
    assert trainer.state.step == 0


def test_starting_from_other_weights(tiny_run, tmp_path):
    run(tiny_run(steps=3), tmp_path / "first")
    start = tmp_path / "first" / "last.pt"
    network = {
        "name": "onboard-seg", "options": {"width": 0.25}, "start_from": str(start)
    }  # fmt: skip
    trainer = Trainer(config_of(tiny_run(network=network)), tmp_path / "second")
    expected = load_checkpoint(start).state_dict
    own = trainer.state.network.state_dict()
    assert all(torch.equal(own[k], expected[k]) for k in expected)
    network["options"] = {"width": 0.5}
    with pytest.raises(StudentError, match="do not fit"):
        Trainer(config_of(tiny_run(network=network)), tmp_path / "third")


def test_starting_from_a_student_file(tiny_run, tmp_path):
    run(tiny_run(steps=2), tmp_path / "first")
    start = tmp_path / "first" / "student.evstudent"
    export_student(load_checkpoint(tmp_path / "first" / "last.pt"), start, onnx=False)
    network = {"name": "onboard-seg", "options": {"width": 0.25}, "start_from": str(start)}
    own = Trainer(
        config_of(tiny_run(network=network)), tmp_path / "second"
    ).state.network.state_dict()
    expected = load_checkpoint(tmp_path / "first" / "last.pt").state_dict
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[k], expected[k]) for k in expected)


def test_wrong_class_weights_and_missing_data(tiny_run, tmp_path):
    with pytest.raises(ConfigError, match="class_weights"):
        Trainer(config_of(tiny_run(loss={"class_weights": [1.0]})), tmp_path / "a")
    path = tiny_run()
    text = path.read_text(encoding="utf-8").replace("camvid", "nowhere")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="nowhere"):
        Trainer(config_of(path), tmp_path / "b")


def test_pixel_weights_near_and_far():
    active = torch.zeros(1, 7, 9, dtype=torch.uint8)
    active[0, 3, 4] = 1
    weights = pixel_weights(active, LossConfig(activity_radius_px=1, inactive_weight=0.25))
    expected = np.full((7, 9), 0.25)
    expected[2:5, 3:6] = 1
    np.testing.assert_array_equal(weights[0].numpy(), expected)
    everywhere = pixel_weights(active, LossConfig(activity_radius_px=-1))
    assert (everywhere == 1).all()


def test_auto_precision_is_what_the_device_is_fast_in(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert resolve_precision("auto", cpu) == "float32"
    for has_units, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda answer=has_units: answer)
        assert resolve_precision("auto", gpu) == expected
    assert resolve_precision("float16", cpu) == "float16"


def test_devices():
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(ConfigError, match="no-such"):
        pick_device("no-such")


def test_several_machines_need_the_address_of_the_first(tiny_run, monkeypatch):
    """Without it, all of them would wait for hours, and no signal would end them."""
    for name in ("MASTER_ADDR", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    config = config_of(tiny_run(nodes=2, batch_size=2))
    with pytest.raises(ConfigError, match="nodes 2 needs MASTER_ADDR, MASTER_PORT and NODE_RANK"):
        start_processes(config)


@pytest.mark.slow
def test_waiting_for_a_machine_that_never_comes_is_said_and_ends_on_a_signal(tiny_run, tmp_path):
    """torch waits in C++, where no handler of Python runs."""
    config = tiny_run(nodes=2, batch_size=2)
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "NODE_RANK": "0"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        environment["MASTER_PORT"] = str(server.getsockname()[1])
    command = [sys.executable, "-m", "evdistill_core", "train", str(config)]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "run")], env=environment, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    said = next(line for line in process.stderr if "waiting" in line)
    assert said == f"waiting for 2 machines at 127.0.0.1:{environment['MASTER_PORT']}\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr.read() == "evdistill: interrupted while waiting\n"


def test_metrics_are_json_lines(tiny_run, tmp_path):
    run(tiny_run(steps=2), tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["step", "step", "validation"]


@pytest.mark.slow
def test_tensorboard_scalars_on_request(tiny_run, tmp_path):
    pytest.importorskip("tensorboard")
    run(tiny_run(steps=2, tensorboard=True), tmp_path / "run")
    assert list((tmp_path / "run" / "tensorboard").glob("events.out.tfevents.*"))
