"""A small student is distilled from a larger one that sees the same windows."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from evdistill_core.export.student import export_student
from evdistill_core.foundation.config import from_mapping, load_yaml
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import CAMVID_CLASSES, SIX_CLASSES
from evdistill_core.losses.divergence import kl_divergence, log_posterior
from evdistill_core.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from evdistill_core.models.registry import build_student
from evdistill_core.representations.spec import BackgroundFilter, InputSpec
from evdistill_core.training.config import LargerConfig, TrainConfig
from evdistill_core.training.distill_config import TeacherConfig
from evdistill_core.training.larger import LargerStudent
from evdistill_core.training.loop import Trainer
from evdistill_core.training.run_log import read_records
from evdistill_core.training.tasks import task_of
from evdistill_core.training.teacher import TeacherTrainer

SPEC = InputSpec(bins=2, window_us=30_000, size_multiple=16)


def write_larger(path, *, network="onboard-seg", spec=SPEC, classes=SIX_CLASSES, width=0.5):
    torch.manual_seed(5)
    built = build_student(
        network.removeprefix("image:"),
        {"width": width},
        in_channels=spec.channels,
        num_classes=len(classes),
    )
    torch.nn.init.normal_(built.head.weight)
    save_checkpoint(
        path,
        Checkpoint(
            network=network,
            options={"width": width},
            state_dict=built.state_dict(),
            input=spec,
            classes=classes,
        ),
    )
    return path


def config_of(path):
    return from_mapping(TrainConfig, load_yaml(path))


def test_the_small_student_comes_to_say_what_the_larger_says(tiny_run, tmp_path):
    larger = write_larger(tmp_path / "larger.pt")
    path = tiny_run(
        steps=40,
        larger={"student": str(larger), "weight": 20.0},
        optimiser={"lr": 0.01, "warmup_steps": 2, "ema_decay": 0.0},
    )
    assert Trainer(config_of(path), tmp_path / "run").run()
    steps = [r for r in read_records(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "step"]
    imitation = [r["loss_larger"] for r in steps]
    assert np.mean(imitation[-5:]) < 0.5 * np.mean(imitation[:5])
    assert np.isclose(steps[0]["loss"], steps[0]["loss_cross_entropy"] + imitation[0], rtol=1e-4)


def test_the_loss_is_the_weighted_divergence(tmp_path):
    """Against the same sum by hand, at a temperature, and alike from a student file."""
    path = write_larger(tmp_path / "larger.pt")
    network = load_checkpoint(path).build()
    x, logits = torch.randn(2, 2, 32, 48), torch.randn(2, 6, 8, 12)
    weight = torch.rand(2, 8, 12)
    with torch.no_grad():
        pointwise = kl_divergence(
            log_posterior(network(x), temperature=2.0), log_posterior(logits, temperature=2.0)
        )
    by_hand = 3.0 * 4.0 * (pointwise * weight).sum() / weight.sum()
    export_student(load_checkpoint(path), tmp_path / "larger.evstudent", onnx=False)
    for file in (path, tmp_path / "larger.evstudent"):
        larger = LargerStudent(
            LargerConfig(student=str(file), weight=3.0, temperature=2.0),
            spec=SPEC,
            classes=SIX_CLASSES,
            device=torch.device("cpu"),
        )
        loss = larger.losses(x, logits, weight, task_of("onboard-seg"))["larger"]
        torch.testing.assert_close(loss, by_hand, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": "image:onboard-seg", "spec": InputSpec()}, "is a teacher: it looks at images"),
        ({"spec": replace(SPEC, bins=3)}, "with input.bins 3, this experiment has 2"),
        ({"spec": replace(SPEC, window_us=9)}, "input.window_us 9, this experiment has 30000"),
        ({"spec": replace(SPEC, scale=3.0)}, "input.scale 3.0, this experiment has 2.0"),
        ({"spec": replace(SPEC, clip=3.0)}, "input.clip 3.0, this experiment has 1.0"),
        (
            {"spec": replace(SPEC, normalisation="nonzero")},
            "'nonzero', this experiment has 'fixed'",
        ),
        (
            {"spec": replace(SPEC, background_filter=BackgroundFilter())},
            "input.background_filter BackgroundFilter.*, this experiment has None",
        ),
        ({"spec": replace(SPEC, kind="histogram", bins=1)}, "input.kind 'histogram', .* 'voxel'"),
        ({"classes": CAMVID_CLASSES}, "knows the classes .*sky.* both must be the same"),
    ],
)
def test_a_student_that_does_not_fit_is_refused(tiny_run, tmp_path, changes, words):
    larger = write_larger(tmp_path / "larger.pt", **changes)
    with pytest.raises(ConfigError, match=words):
        Trainer(config_of(tiny_run(larger={"student": str(larger)})), tmp_path / "run")


def test_a_missing_student_is_named_with_its_key(tiny_run, tmp_path):
    for key in ("larger.student", "network.start_from"):
        section, name = key.split(".")
        given = {section: {name: "runs/nowhere/last.pt"}}
        with pytest.raises(ConfigError, match=f"{key} names runs/nowhere/last.pt, which does not"):
            Trainer(config_of(tiny_run(**given)), tmp_path / "run")


def test_a_teacher_has_no_larger_student(tmp_path, make_camvid):
    make_camvid(tmp_path / "camvid", height=72, width=96)
    stills = {"images": {"root": str(tmp_path / "camvid")}, "crop": [32, 48]}
    config = from_mapping(
        TeacherConfig,
        {
            "name": "t",
            "data": {"stills": stills, "validation_stills": {}},
            "larger": {"student": "x.pt"},
        },
    )
    with pytest.raises(ConfigError, match="for students of events, got stage teacher"):
        TeacherTrainer(config, tmp_path / "run")


def test_a_run_goes_on_with_the_larger_student_that_it_was_started_with(tiny_run, tmp_path):
    larger = write_larger(tmp_path / "larger.pt")
    config = config_of(tiny_run(steps=4, larger={"student": str(larger)}))
    part = Trainer(config, tmp_path / "run")
    part.run(lambda report: part.stop() if report.step == 2 else None)
    kept = larger.read_bytes()
    write_larger(larger, width=1.0)
    with pytest.raises(ConfigError, match=r"not the larger\.student that this run"):
        Trainer(config, tmp_path / "run", resume=True)
    larger.write_bytes(kept)
    assert Trainer(config, tmp_path / "run", resume=True).state.step == 2


def test_a_student_may_cut_and_pad_its_input_in_its_own_way(tmp_path):
    own = replace(SPEC, max_pixels=999, size_multiple=32, sequence=3)
    larger = write_larger(tmp_path / "larger.pt", spec=own)
    config = LargerConfig(student=str(larger))
    LargerStudent(config, spec=SPEC, classes=SIX_CLASSES, device=torch.device("cpu"))
