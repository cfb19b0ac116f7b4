"""Several processes compute what one does, and begin and end together."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import torch
import yaml

from evdistill_core.data.batches import load_batches, stack
from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.config import load_yaml
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.models.checkpoint import load_checkpoint
from evdistill_core.recordings.writers.npz import NpzWriter
from evdistill_core.training.distill_config import (
    FRAME_TERMS,
    INSTANCE_TERMS,
    PICTURE_TERMS,
    TERMS,
)
from evdistill_core.training.run_log import read_records
from evdistill_core.training.stages import load_experiment, make_trainer

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ("onboard", "evdistill-2021")
STEPS = 4
pytestmark = pytest.mark.timeout(600)  # two processes wait for each other, and for others
NETWORK = {"name": "onboard-seg", "options": {"width": 0.25, "dropout": 0.2}}
NOT_RECOGNITION = (
    *FRAME_TERMS,
    *PICTURE_TERMS,
    "output",
    "class_mix",
    "density_mix",
    *INSTANCE_TERMS,
)
CLASSIFIER = {"name": "onboard-cls", "options": {"width": 0.25, "stages": 2, "dropout": 0.0}}
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


def recognition(folder):
    """Terms that tie samples to each other, and one pass for several kinds of input."""
    rng = np.random.default_rng(0)
    for name in ("bar", "disc"):
        (folder / "pictures" / "train" / name).mkdir(parents=True)
        (folder / "events" / name).mkdir(parents=True)
        for i in range(4):
            picture = np.zeros((16, 16), np.uint8)
            picture[2:14, 3 + i : 6 + i] = 255 if name == "bar" else 90
            cv2.imwrite(str(folder / "pictures" / "train" / name / f"{i}.png"), picture)
            t = np.sort(rng.integers(0, 90_000, 200))
            x, y = rng.integers(5, 11 if name == "bar" else 18, (2, 200))
            rows = np.stack([x, y, (i % 2 << 7) | (t >> 16), (t >> 8) & 255, t & 255], 1)
            (folder / "events" / name / f"{i}.bin").write_bytes(rows.astype(np.uint8).tobytes())
    images = {"root": str(folder / "pictures"), "layout": "class-folders"}
    moving = {"images": images, "height": 34, "width": 34}
    values = load_yaml(ROOT / "config" / "train" / "recognition.yaml")
    return common("recognition") | {
        "stage": "distill",
        "classes": ["bar", "disc"],
        "network": CLASSIFIER,
        "frame_network": CLASSIFIER,
        "teacher": str(folder / "recognition-teacher" / "last.pt"),
        "input": {"bins": 3, "window_us": 100_000, "size_multiple": 2},
        "data": {
            "stills": {"images": images, "crop": [20, 20], "border": "edge"},
            "recordings": {"paths": [str(folder / "events")], "whole": True},
            "train": [{"name": "simulated", "moving_stills": moving}],
        },
        "terms": {t: float(t not in NOT_RECOGNITION) for t in TERMS},
        "transfer": values["transfer"] | {"pseudo_threshold": 0.3, "pseudo_ramp": 0.0},
        "adversary": SMALL,
        "optimiser": {"name": "sgd", "lr": 1e-2, "warmup_steps": 0},
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
    digits = recognition(folder)
    images = digits["data"]["stills"]
    judge = common("recognition-teacher") | {
        "stage": "teacher",
        "classes": digits["classes"],
        "network": digits["network"],
        "data": {"stills": images, "validation_stills": {}},
    }
    experiments |= {"recognition": digits, "recognition-teacher": judge}
    for name, experiment in experiments.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(experiment), encoding="utf-8")
    for name in ("teacher", "recognition-teacher"):
        make_trainer(load_experiment(folder / f"{name}.yaml"), folder / name).save()
    return folder


RUNS = ("supervised", "recurrent", *PROFILES, "recognition")


def _train_each(devices, pairs, *launcher):
    script = str(Path(__file__).with_name("train_each.py"))
    return subprocess.Popen(
        [sys.executable, *launcher, script, devices, *pairs],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _torchrun():
    """Return what makes a command one of two machines with a process each, on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    words = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    words += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"]
    return [*words, "--rdzv-id", "evdistill-test", "--local-addr", "127.0.0.1"]


@pytest.fixture(scope="module")
def both(folder):
    """Every run by one process (here) and by those of two machines, and the folders of each."""
    outs = {name: folder / "two" / name for name in RUNS}
    pairs = [str(a) for name, out in outs.items() for a in (folder / f"{name}.yaml", out)]
    pairs += [str(folder / "onboard.yaml"), str(folder / "two-again" / "onboard")]
    launcher = _torchrun()
    with contextlib.ExitStack() as stack:
        machines = [stack.enter_context(_train_each("2", pairs, *launcher)) for _ in range(2)]
        for name in RUNS:
            make_trainer(load_experiment(folder / f"{name}.yaml"), folder / "one" / name).run()
        outputs = [machine.communicate(timeout=500)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], "\n".join(outputs)
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


@pytest.mark.slow
def test_the_same_seed_gives_two_processes_the_same_losses_twice(both):
    folder = both[0].parent
    first, second = (records(folder / n / "onboard") for n in ("two", "two-again"))
    assert len(first) == STEPS
    assert first == second


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
        elif ".momentum_buffer" in where:
            # A unit that rounding puts on the other side of its ReLU turns single gradients, which
            # a KD of weight 640 enlarges; how many depends on the processor. Half of a batch, or
            # twice of it, would be far outside.
            apart, size = (float(torch.linalg.vector_norm(x)) for x in (other - mine, mine))
            assert apart <= 0.1 * size + 2e-5 * mine.numel() ** 0.5, where
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


@pytest.fixture
def start(folder):
    """Return a function that starts `evdistill train` with two processes."""
    started = []

    def start_one(*arguments, **changes):
        started.append(_start(folder, *arguments, **changes))
        return started[-1]

    yield start_one
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children():
                child.kill()
        process.kill()
        process.wait()


def _start(folder, name, out, *options, **changes):
    values = yaml.safe_load((folder / "supervised.yaml").read_text())
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values | changes), encoding="utf-8")
    command = [sys.executable, "-m", "evdistill_core", "train", str(path), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--devices", "2", *options],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ends(process, timeout_s=60.0):
    """Tell whether a process goes, or dies and is not yet taken notice of.

    It may still be busy dying when its output has ended and its parent is gone.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.05)
                continue
        return True
    return False


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_and_one_goes_on(folder, start):
    out = folder / "stopped"
    changes = {"steps": 100_000, "checkpoint_every": 100_000, "validate_every": 0}
    changes["data"] = yaml.safe_load((folder / "supervised.yaml").read_text())["data"]
    changes["data"]["validation"] = []
    process = start("stopped", out, **changes)
    deadline = time.monotonic() + 400
    while len(records(out)) < STEPS and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    children = psutil.Process(process.pid).children()
    (second,) = (c for c in children if "resource_tracker" not in " ".join(c.cmdline()))
    second.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert output.count("stopped at step") == 1
    assert ends(second)
    done = load_checkpoint(out / "last.pt").provenance["steps"]
    assert done == len(records(out)) >= STEPS
    # One process takes over what two began.
    config = replace(load_experiment(folder / "stopped.yaml"), devices=1)
    trainer = make_trainer(config, out, resume=True)
    assert trainer.state.step == done
    trainer.run(lambda report: trainer.stop() if report.step == done + 2 else None)
    assert [r["step"] for r in records(out)] == list(range(done + 2))


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_all_and_the_joined_batch_is_kept(folder, start):
    out = folder / "nonfinite"
    values = yaml.safe_load((folder / "supervised.yaml").read_text())
    (folder / "nonfinite.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    trainer = make_trainer(load_experiment(folder / "nonfinite.yaml"), out)
    with torch.no_grad():
        trainer.state.network.head.weight.fill_(float("nan"))
    trainer.save()
    process = start("nonfinite", out, "--resume")
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 2, output
    assert "Traceback" not in output
    assert output.count("is kept in") == 1
    kept = torch.load(out / "nonfinite_batch.pt", weights_only=True)
    assert kept["first_index"] == 0
    (whole,) = load_batches(
        trainer.training, stack, batch_size=4, first_batch=0, last_batch=1, workers=0
    )
    assert torch.equal(kept["input"], whole.input)
    assert torch.equal(kept["label"], whole.label)


LACKING = """
import sys
from types import SimpleNamespace
import torch
import torch.distributed as dist
from evdistill_core.training.processes import Processes
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
own = SimpleNamespace(device=torch.device("cpu"), global_rank=rank, world_size=2)
part = torch.full((1, 2), rank)
lacks = [None, part]
batch = {"first": rank, "picture": lacks[rank], "instances": lacks[1 - rank], "past": None,
         "labelled": {"label": part}}
print(Processes(own, "float32").gathered(batch))
"""


@pytest.mark.slow
def test_what_one_process_lacks_keeps_nobody_waiting(tmp_path):
    parts = [
        subprocess.Popen(
            [sys.executable, "-c", LACKING, str(rank), str(tmp_path / "meet")],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for rank, part in enumerate(parts):
        said, _ = part.communicate(timeout=120)
        assert f"{{'first': {rank}, 'picture': None, 'instances': None, 'past': None, " in said
        assert "'label': tensor([[0, 0],\n        [1, 1]])" in said


def half(folder, name, **changes):
    return replace(load_experiment(folder / f"{name}.yaml"), precision="float16", **changes)


def test_float16_learns_the_same_and_goes_on_with_its_scale(folder):
    """On the CPU; the test marked gpu does it there."""
    losses = {}
    for precision in ("float32", "float16"):
        config = half(folder, "onboard", steps=3)
        trainer = make_trainer(replace(config, precision=precision), folder / precision)
        trainer.run(lambda report, trainer=trainer: trainer.stop() if report.step == 2 else None)
        losses[precision] = [r["loss"] for r in records(folder / precision)]
        state = trainer.processes.scaler.state_dict()
    assert losses["float16"] != losses["float32"]
    assert losses["float16"][0] == pytest.approx(losses["float32"][0], rel=0.005)
    # A first step at too large a scale may move some of the networks not at all.
    assert losses["float16"][1] == pytest.approx(losses["float32"][1], rel=0.1)
    config = half(folder, "onboard", steps=3)
    resumed = make_trainer(config, folder / "float16", resume=True)
    assert resumed.processes.scaler.state_dict() == state
    assert state["_growth_tracker"] > 0 or state["scale"] < 2.0**16
    assert resumed.run()
    whole = make_trainer(config, folder / "float16-whole")
    assert whole.run()
    assert [r["loss"] for r in records(folder / "float16")] == [
        r["loss"] for r in records(folder / "float16-whole")
    ]


def test_a_gradient_out_of_range_moves_nobody_and_lowers_the_scale(folder):
    trainer = make_trainer(half(folder, "onboard"), folder / "overflow")
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    trainer.processes.scaler = scaler
    modules = (trainer.state.network, trainer.translation)
    before = [p.detach().clone() for m in modules for p in m.parameters()]
    batches = trainer._batches()
    value, terms = trainer._step(next(batches))
    assert np.isfinite(value)
    assert np.isfinite(terms["critic_image"])
    assert scaler.get_scale() == 2.0**126
    after = [p for m in modules for p in m.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    trainer.processes.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    trainer._step(next(batches))
    assert not any(torch.equal(a, b) for a, b in zip(before[:1], after[:1], strict=True))
    assert trainer.state.step == 2


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_gpu_computes_what_the_cpu_does(folder, precision):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    # Drop-out and class-mix draw from the generator of the device.
    config = replace(load_experiment(folder / "evdistill-2021.yaml"), validate_every=0)
    plain = replace(config.network, options={"width": 0.25, "dropout": 0.0})
    config = replace(config, network=plain)
    losses = []
    for device, kind in (("cpu", "float32"), ("cuda", precision)):
        out = folder / f"gpu-{device}-{precision}"
        assert make_trainer(replace(config, device=device, precision=kind), out).run()
        losses.append([r["loss"] for r in records(out)])
    assert losses[1] == pytest.approx(losses[0], rel=0.005 if precision == "float32" else 0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("name", RUNS)
def test_two_gpus_have_the_losses_of_one(folder, name):
    if torch.cuda.device_count() < 2:
        pytest.skip("no two CUDA devices")
    for devices in ("1", "2"):
        path = folder / f"gpu-{name}.yaml"
        values = yaml.safe_load((folder / f"{name}.yaml").read_text())
        path.write_text(yaml.safe_dump(values | {"device": "cuda"}), encoding="utf-8")
        _train_each(devices, [str(path), str(folder / f"gpus-{devices}-{name}")]).wait(150)
    one, two = ([r["loss"] for r in records(folder / f"gpus-{n}-{name}")] for n in "12")
    assert two == pytest.approx(one, rel=2e-3)
