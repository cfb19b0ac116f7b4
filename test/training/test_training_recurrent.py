"""Training recurrent students: rolled over windows in a row, in every stage, resumed, exported."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from evdistill_core.data.scoring import load_predictor
from evdistill_core.export.student import export_student
from evdistill_core.foundation.config import from_mapping, load_yaml
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.inference.student import StudentFile
from evdistill_core.models.checkpoint import load_checkpoint
from evdistill_core.training.config import TrainConfig
from evdistill_core.training.loop import Trainer
from evdistill_core.training.run_log import read_records
from evdistill_core.training.stages import load_experiment

ROOT = Path(__file__).resolve().parents[2]
RECURRENT = {"name": "onboard-seg", "options": {"width": 0.25, "recurrent": True}}
INPUT = {"bins": 2, "window_us": 30_000, "size_multiple": 16, "sequence": 3}


def config_of(path):
    return from_mapping(TrainConfig, load_yaml(path))


def losses(folder):
    return [r["loss"] for r in read_records(folder / "metrics.jsonl") if r["kind"] == "step"]


def test_a_recurrent_run_learns_resumes_and_scores_over_the_sequence(tiny_run, tmp_path):
    config = config_of(tiny_run(network=RECURRENT, input=INPUT, steps=6))
    whole = Trainer(config, tmp_path / "whole")
    before = {k: v.clone() for k, v in whole.state.network.state_dict().items()}
    assert whole.run(on_validation=lambda r: None)
    after = whole.state.network.state_dict()
    for name in ("memory.gates.weight", "memory.inputs.weight", "recall.weight"):
        assert not torch.equal(before[name], after[name]), name

    first = Trainer(config, tmp_path / "parts")
    assert not first.run(on_step=lambda r: first.stop() if r.step == 2 else None)
    assert Trainer(config, tmp_path / "parts", resume=True).run()
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")

    # What came before the last window counts in training, in validation and in scoring.
    sample = whole.validation["stills"].sample(0)
    with whole.evaluation_weights():
        rolled, alone = whole.predict(sample.sequence), whole.predict(sample.input)
    assert np.abs(rolled - alone).max() > 1e-6
    checkpoint = load_checkpoint(tmp_path / "whole" / "last.pt")
    assert checkpoint.input.sequence == 3
    predictor = load_predictor(tmp_path / "whole" / "last.pt")
    np.testing.assert_allclose(predictor.predict(sample.sequence), rolled, atol=1e-5)


def test_a_recurrent_network_needs_windows_in_a_row(tiny_run, tmp_path):
    single = {k: v for k, v in INPUT.items() if k != "sequence"}
    with pytest.raises(ConfigError, match=r"set input.sequence to 2 or more"):
        Trainer(config_of(tiny_run(network=RECURRENT, input=single)), tmp_path / "run")


def test_a_network_without_memory_learns_the_last_window_alone(tiny_run, tmp_path):
    """The same scenes for both: what memory is worth can be measured."""
    trainer = Trainer(config_of(tiny_run(input=INPUT, steps=2)), tmp_path / "run")
    batch = next(iter(trainer._batches()))
    assert batch.sequence.shape[1] == 3
    trainer.state.network.eval()
    loss, _ = trainer._loss(batch)
    single, _ = trainer._loss(dataclasses.replace(batch, past=None))
    assert float(loss.detach()) == float(single.detach())


def test_an_exported_run_scores_as_its_checkpoint(tiny_run, tmp_path):
    config = config_of(tiny_run(network=RECURRENT, input=INPUT, steps=2))
    trainer = Trainer(config, tmp_path / "run")
    assert trainer.run()
    path = tmp_path / "a.evstudent"
    export_student(load_checkpoint(tmp_path / "run" / "last.pt"), path, onnx=False)
    assert StudentFile.open(path).info.network.is_recurrent
    sample = trainer.validation["stills"].sample(1)
    file, run = load_predictor(path, device="cpu"), load_predictor(tmp_path / "run" / "last.pt")
    for windows in (sample.sequence, sample.input, sample.sequence):
        np.testing.assert_allclose(file.predict(windows), run.predict(windows), atol=1e-4)


def test_the_tiny_experiment_runs(tmp_path, make_camvid):
    for split in ("train", "val"):
        make_camvid(tmp_path / "camvid", split=split, height=120, width=160)
    given = load_experiment(ROOT / "config/train/recurrent-tiny.yaml")

    def moved(source):
        images = dataclasses.replace(source.simulation.images, root=tmp_path / "camvid")
        cache = tmp_path / "cache"
        simulation = dataclasses.replace(source.simulation, images=images, cache=cache, unique=4)
        return dataclasses.replace(source, simulation=simulation, count=2)

    data = dataclasses.replace(
        given.data,
        train=tuple(moved(s) for s in given.data.train),
        validation=tuple(moved(s) for s in given.data.validation),
    )
    trainer = Trainer(dataclasses.replace(given, steps=3, data=data), tmp_path / "run")
    assert trainer.state.network.state_channels > 0
    assert trainer.run()
    assert all(np.isfinite(losses(tmp_path / "run")))
