"""The windows that a model in 8 bits is measured on are those of the training."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from evdistill_core.cli.main import build_app
from evdistill_core.export import student as exporting
from evdistill_core.export.onnx_model import to_onnx
from evdistill_core.foundation.errors import DataError
from evdistill_core.inference import parity
from evdistill_core.inference.student import StudentFile
from evdistill_core.models.checkpoint import load_checkpoint
from evdistill_core.training.calibration import training_windows
from evdistill_core.training.loop import Trainer
from evdistill_core.training.stages import load_experiment


@pytest.fixture
def trainer(tiny_run, tmp_path):
    made = Trainer(load_experiment(tiny_run()), tmp_path / "out")
    made.save()
    return made


def test_they_are_what_the_run_sees_first(trainer, tmp_path):
    checkpoint = load_checkpoint(tmp_path / "out" / "last.pt")
    found, words = training_windows(checkpoint, 5)
    assert words == "5 training windows of tiny"
    for index, x in enumerate(found):
        np.testing.assert_array_equal(x, trainer.training.sample(index).input)


def test_export_takes_them_and_says_so(trainer, tmp_path, monkeypatch):
    # Nothing was learned yet, so all classes are about as likely.
    monkeypatch.setitem(parity.LIMITS, "int8", parity.Limit(0.25, 0.5))
    # All exports are of the same weights, and torch takes seconds for each.
    models = []

    def once(network):
        if not models:
            models.append(to_onnx(network))
        return models[0]

    monkeypatch.setattr(exporting, "to_onnx", once)
    checkpoint, student = tmp_path / "out" / "last.pt", tmp_path / "s.evstudent"
    done = CliRunner().invoke(
        build_app(), ["export", str(checkpoint), str(student), "--int8", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["int8"] == "64 training windows of tiny"
    opened = StudentFile.open(student)
    assert opened.info.parity["int8"]["windows"] == "64 training windows of tiny"
    assert "of 64 training windows of tiny." in opened.card()
    # A student file knows its experiment too, as long as the data are there.
    again = ["export", str(student), str(tmp_path / "t.evstudent"), "--int8"]
    assert CliRunner().invoke(build_app(), again).exit_code == 0
    shutil.rmtree(tmp_path / "camvid")
    failed = CliRunner().invoke(build_app(), [*again, "--overwrite"])
    assert failed.exit_code != 0


def test_without_the_data_recordings_are_asked_for(trainer, tmp_path):
    checkpoint = load_checkpoint(tmp_path / "out" / "last.pt")
    shutil.rmtree(tmp_path / "camvid")
    with pytest.raises(DataError, match=r"of tiny cannot be made: .*camvid.*--int8-from RECORDING"):
        training_windows(checkpoint)
    with pytest.raises(DataError, match="tiny does not say what it was trained on; name record"):
        training_windows(replace(checkpoint, provenance={"name": "tiny"}))
    config = {**checkpoint.provenance["config"], "unheard_of": 1}
    with pytest.raises(DataError, match="its configuration is of another version"):
        training_windows(replace(checkpoint, provenance={"name": "tiny", "config": config}))
