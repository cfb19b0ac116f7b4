"""Several processes compute what one does, and begin and end together."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.config import load_yaml
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.models.checkpoint import load_checkpoint
from evdistill_core.recordings.columns import NpzWriter
from evdistill_core.training.run_log import read_records
from evdistill_core.training.stages import load_experiment, make_trainer

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ("onboard", "evdistill-2021")
STEPS = 4
NETWORK = {"name": "onboard-seg", "options": {"width": 0.25, "dropout": 0.2}}
SMALL = {"generator": {"base_channels": 4, "halvings": 1, "blocks": 1}}
SMALL["discriminator"] = {"base_channels": 4, "layers": 1}


def write_recording(path):
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 300_000, 40_000))
    x = (t // 5000 + rng.integers(0, 12, len(t))) % 48
    events = Events.from_columns(
        x, rng.integers(0, 40, len(t)), t, rng.integers(0, 2, len(t)), width=48, height=40
    )
    with NpzWriter(path, width=48, height=40) as writer:
        writer.write(events, Triggers.empty())


def simulation(folder):
    return {
        "images": {"root": str(folder / "camvid")},
        "height": 32,
        "width": 48,
        "unique": 8,
        "cache": str(folder / "windows"),
    }


def common(name):
    return {
        "name": name,
        "steps": STEPS,
        "batch_size": 4,
        "network": NETWORK,
        "device": "cpu",
        "threads": 1,
        "workers": 0,
        "validate_every": 2,
        "checkpoint_every": 2,
    }


def supervised(folder):
    """All supervised losses, drop-out, pixels that do not count, batch norm, clipping."""
    return common("supervised") | {
        "input": {"bins": 2, "window_us": 30_000, "size_multiple": 16},
        "data": {
            "train": [{"name": "stills", "simulation": simulation(folder)}],
            "validation": [{"name": "stills", "simulation": simulation(folder), "count": 2}],
        },
        "loss": {"weights": {"cross_entropy": 1.0, "dice": 1.0, "lovasz": 1.0, "boundary": 1.0}},
        "optimiser": {"name": "sgd", "lr": 0.1, "warmup_steps": 0},
    }


def recurrent(folder):
    """A student with a memory: its batch norms see all windows of all samples."""
    values = supervised(folder)
    options = NETWORK["options"] | {"recurrent": True}
    return values | {
        "name": "recurrent",
        "network": NETWORK | {"options": options},
        "input": values["input"] | {"sequence": 2},
    }


def distillation(folder, profile):
    """The terms and how they are computed as in a profile, on small networks and pictures."""
    values = load_yaml(ROOT / "config" / "train" / f"{profile}.yaml")
    return (
        {key: values[key] for key in ("terms", "transfer", "loss")}
        | common(profile)
        | {
            "input": values["input"] | {"size_multiple": 16},
            "stage": "distill",
            "teacher": str(folder / "teacher" / "last.pt"),
            "data": {
                "stills": {"images": {"root": str(folder / "camvid")}, "crop": [32, 48]},
                "recordings": {
                    "paths": [str(folder / "a.npz")],
                    "cache": str(folder / "index"),
                    "crop": [32, 48],
                },
                "train": [{"name": "stills", "simulation": simulation(folder)}],
            },
            "adversary": SMALL,
            "optimiser": values["optimiser"] | {"name": "sgd", "lr": 1e-3, "warmup_steps": 0},
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_camvid):
    folder = tmp_path_factory.mktemp("processes")
    make_camvid(folder / "camvid")
    write_recording(folder / "a.npz")
    stills = {"images": {"root": str(folder / "camvid")}, "crop": [32, 48]}
    teacher = common("teacher") | {
        "stage": "teacher",
        "data": {"stills": stills, "validation_stills": {}},
    }
    experiments = {"teacher": teacher, "supervised": supervised(folder)}
    experiments |= {"recurrent": recurrent(folder)}
    experiments |= {profile: distillation(folder, profile) for profile in PROFILES}
    for name, experiment in experiments.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(experiment), encoding="utf-8")
    make_trainer(load_experiment(folder / "teacher.yaml"), folder / "teacher").save()
    return folder


RUNS = ("supervised", "recurrent", *PROFILES)


@pytest.fixture(scope="module")
def both(folder):
    """Every run by one process (here) and by two, and the folders of each."""
    two = [str(a) for n in RUNS for a in (folder / f"{n}.yaml", folder / "two" / n)]
    arguments = [sys.executable, str(Path(__file__).with_name("train_each.py")), "2", *two]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for name in RUNS:
            make_trainer(load_experiment(folder / f"{name}.yaml"), folder / "one" / name).run()
        output, _ = process.communicate(timeout=150)
    assert process.returncode == 0, output
    return folder / "one", folder / "two"


def records(out, kind="step"):
    return [r for r in read_records(out / "metrics.jsonl") if r["kind"] == kind]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_have_the_losses_of_one(both, name):
    one, two = (records(out / name) for out in both)
    assert len(one) == STEPS
    for mine, other in zip(one, two, strict=True):
        assert set(mine) == set(other)
        for key, value in mine.items():
            if key != "kind":
                assert other[key] == pytest.approx(value, rel=2e-4, abs=1e-6), (key, mine["step"])


def tensors(content, where=""):
    """Yield every tensor of a checkpoint by its place."""
    if isinstance(content, torch.Tensor):
        yield where, content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from tensors(value, f"{where}.{key}")


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_have_the_weights_of_one(both, name):
    one, two = (load_checkpoint(out / name / "last.pt") for out in both)
    start = make_trainer(load_experiment(both[0].parent / f"{name}.yaml"), both[0] / "fresh")
    fresh = start.state.network.state_dict()
    assert one.state_dict.keys() == two.state_dict.keys() == fresh.keys()
    far = total = 0
    pairs = zip(tensors(one.training), tensors(two.training), strict=True)
    for (where, mine), (other_where, other) in pairs:
        assert where == other_where
        if "translation" in where or "optimisers" in where:
            # Adam divides by the size of gradients: where they are rounding alone, so is its step.
            far += int((mine - other).abs().gt(2e-5 + 1e-3 * mine.abs()).sum())
            total += mine.numel()
        else:
            torch.testing.assert_close(other, mine, atol=2e-5, rtol=1e-3)
    assert far <= 0.002 * total
    moved = [float((one.training["network"][k] - fresh[k]).abs().max()) for k in fresh]
    assert max(moved) > 1e-3
    # Drop-out drew as often and in the same way.
    assert torch.equal(one.training["torch_rng"], two.training["torch_rng"])


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(both):
    for name in RUNS:
        one, two = (sorted(p.name for p in (out / name).iterdir()) for out in both)
        assert one == two
    validations = [records(out / "supervised", "validation") for out in both]
    assert [v["step"] for v in validations[0]] == [v["step"] for v in validations[1]] == [1, 3]


def test_a_batch_that_cannot_be_shared_out_is_refused(folder):
    values = yaml.safe_load((folder / "supervised.yaml").read_text())
    path = folder / "odd.yaml"
    path.write_text(yaml.safe_dump(values | {"devices": 3}))
    with pytest.raises(ConfigError, match="multiple of their number 3, got 4"):
        make_trainer(load_experiment(path), folder / "odd")
    path.write_text(yaml.safe_dump(values | {"devices": 0}))
    with pytest.raises(ConfigError, match="devices must be at least 1"):
        load_experiment(path)
    path.write_text(yaml.safe_dump(values | {"devices": 2, "device": "cpu:0"}))
    with pytest.raises(ConfigError, match="auto, cpu or cuda"):
        make_trainer(load_experiment(path), folder / "odd")
