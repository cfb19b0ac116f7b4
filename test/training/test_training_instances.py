"""A student with an instance head is trained."""

import logging

import numpy as np
import pytest
import torch

from evdistill_core.export.student import export_student
from evdistill_core.foundation.config import from_mapping, load_yaml
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.inference.student import StudentFile
from evdistill_core.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from evdistill_core.models.network import output_of
from evdistill_core.models.registry import build_student
from evdistill_core.training.config import TrainConfig
from evdistill_core.training.loop import Trainer
from evdistill_core.training.run_log import read_records

HEADED = {"name": "onboard-seg", "options": {"width": 0.25, "instances": True}}
LOSS = {"weights": {"cross_entropy": 1.0, "centre": 0.1, "offset": 1.0}, "label_stride": 2}


def trainer_of(path, out, **options):
    return Trainer(from_mapping(TrainConfig, load_yaml(path)), out, **options)


def steps(out):
    return [r for r in read_records(out / "metrics.jsonl") if r["kind"] == "step"]


def test_the_losses_of_the_head_fall_and_it_is_exported(tiny_run, tmp_path):
    path = tiny_run(
        network=HEADED,
        loss=LOSS,
        steps=60,
        optimiser={"lr": 0.01, "warmup_steps": 2, "ema_decay": 0.0},
    )
    assert trainer_of(path, tmp_path / "run").run()
    log = steps(tmp_path / "run")
    for name in ("centre", "offset"):
        series = [r[f"loss_{name}"] for r in log]
        assert np.isfinite(series).all()
        assert np.mean(series[-8:]) < 0.7 * np.mean(series[:8]), name
    by_hand = sum(w * log[0][f"loss_{n}"] for n, w in LOSS["weights"].items())
    assert log[0]["loss"] == pytest.approx(by_hand, rel=1e-5)
    checkpoint = load_checkpoint(tmp_path / "run" / "last.pt")
    export_student(checkpoint, tmp_path / "s.evstudent", onnx=False)
    assert StudentFile.open(tmp_path / "s.evstudent").info.network.has_instances


def test_resume_goes_on_identically(tiny_run, tmp_path):
    path = tiny_run(network=HEADED, loss=LOSS, steps=6, checkpoint_every=3)
    assert trainer_of(path, tmp_path / "whole").run()
    part = trainer_of(path, tmp_path / "part")
    part.run(lambda report: part.stop() if report.step == 3 else None)
    assert trainer_of(path, tmp_path / "part", resume=True).run()
    assert [r["loss"] for r in steps(tmp_path / "part")] == [
        r["loss"] for r in steps(tmp_path / "whole")
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": LOSS}, r"loss\.weights has centre and offset, and the network has no instance"),
        ({"network": HEADED}, r"learns nothing without its losses: give loss\.weights centre"),
        (
            {"network": HEADED, "loss": LOSS, "classes": ["road", "sky"]},
            r"none of the classes road, sky is one",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(tiny_run, tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        trainer_of(tiny_run(**changes), tmp_path / "run")


def test_a_start_without_a_head(tiny_run, tmp_path, caplog):
    assert trainer_of(tiny_run(steps=1), tmp_path / "first").run()
    start = tmp_path / "first" / "last.pt"
    changed = {**HEADED, "start_from": str(start)}
    with caplog.at_level(logging.INFO):
        trainer = trainer_of(tiny_run(network=changed, loss=LOSS), tmp_path / "second")
    assert f"{start} has no instance_head: random weights there" in caplog.text
    own = trainer.state.network.state_dict()
    assert all(torch.equal(own[k], v) for k, v in load_checkpoint(start).state_dict.items())


def write_headed(path, spec, classes, *, instances=True):
    torch.manual_seed(3)
    options = {"width": 0.5, "instances": instances}
    network = build_student(
        "onboard-seg", options, in_channels=spec.channels, num_classes=len(classes)
    )
    if instances:
        torch.nn.init.normal_(network.instance_head.maps.weight, std=0.5)
    checkpoint = Checkpoint(
        network="onboard-seg",
        options=options,
        state_dict=network.state_dict(),
        input=spec,
        classes=classes,
    )
    save_checkpoint(path, checkpoint)
    return path


@pytest.mark.parametrize("larger_has", [True, False])
def test_a_larger_student_passes_its_instances_on(tiny_run, tmp_path, larger_has):
    known = from_mapping(TrainConfig, load_yaml(tiny_run()))
    larger = write_headed(
        tmp_path / "larger.pt", known.input, known.class_table(), instances=larger_has
    )
    path = tiny_run(
        network=HEADED, loss=LOSS, steps=2, larger={"student": str(larger), "instances": 4.0}
    )
    assert trainer_of(path, tmp_path / "run").run()
    first = steps(tmp_path / "run")[0]
    assert ("loss_larger_instances" in first) == larger_has
    parts = [w * first[f"loss_{n}"] for n, w in LOSS["weights"].items()]
    parts += [first[f"loss_{n}"] for n in ("larger", "larger_instances") if f"loss_{n}" in first]
    assert first["loss"] == pytest.approx(sum(parts), rel=1e-5)


def test_a_batch_of_unknown_things_moves_no_head(tiny_run, tmp_path):
    trainer = trainer_of(tiny_run(network=HEADED, loss=LOSS), tmp_path / "run")
    batch = next(iter(trainer._batches()))
    assert (batch.instances > 0).any()
    object.__setattr__(batch, "instances", None)
    total, terms = trainer._loss(batch)
    total.backward()
    head = trainer.state.network.instance_head
    assert terms["centre"].item() == terms["offset"].item() == 0
    assert all(float(p.grad.abs().sum()) == 0 for p in head.parameters())
    with torch.no_grad():
        assert output_of(trainer.state.network, batch.sequence).instances is not None
