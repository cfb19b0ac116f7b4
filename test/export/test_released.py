import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from reference_deeplab import published_shapes, random_state, reference_forward

from evdistill_core.cli.main import build_app
from evdistill_core.export import student as export_module
from evdistill_core.export.released import import_released, unwrap
from evdistill_core.foundation.errors import StudentError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import StudentFile


def hollow_state(num_classes=6):
    """Keys and shapes of a published checkpoint; each tensor is one number seen many times."""
    return {
        key: torch.zeros(1).expand(shape) if shape else torch.tensor(1)
        for key, shape in published_shapes(num_classes).items()
    }


def save(path, content):
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"module." + k: v for k, v in s.items()},
        lambda s: {"state_dict": {"module." + k: v for k, v in s.items()}},
        lambda s: {k: v for k, v in s.items() if "num_batches_tracked" not in k},
        lambda s: {**s, "aux_logit.weight": torch.zeros(6, 256, 1, 1)},
    ],
)
def test_every_way_in_which_it_is_saved(tmp_path, wrap):
    checkpoint = import_released(save(tmp_path / "a.pth", wrap(hollow_state())))
    assert checkpoint.network == "evdistill-2021"
    assert checkpoint.classes == SIX_CLASSES
    assert (checkpoint.input.kind, checkpoint.input.channels) == ("counts2", 3)
    assert checkpoint.input.window_us == 50_000
    assert checkpoint.input.shape(height=200, width=346) == (3, 200, 346)


def test_missing_unexpected_and_misshapen_keys(tmp_path):
    state = hollow_state()
    del state["backbone.layer3.22.bn3.weight"]
    state["decoder.extra.weight"] = torch.zeros(1)
    state["aspp.conv1.weight"] = torch.zeros(1).expand(256, 1024, 1, 1)
    with pytest.raises(StudentError) as error:
        import_released(save(tmp_path / "a.pth", state))
    assert "1 missing: backbone.layer3.22.bn3.weight" in str(error.value)
    assert "1 unexpected: decoder.extra.weight" in str(error.value)
    assert "aspp.conv1.weight is (256, 1024, 1, 1), not (256, 1280, 1, 1)" in str(error.value)


def test_six_channel_variant_is_named(tmp_path):
    state = hollow_state()
    del state["backbone.conv1.weight"]
    state["backbone.conv1_.weight"] = torch.zeros(1).expand(64, 6, 7, 7)
    with pytest.raises(StudentError, match=r"1 unexpected: backbone.conv1_.weight"):
        import_released(save(tmp_path / "a.pth", state))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds dict, not a state_dict"),
        ([torch.zeros(1)], "holds list, not a state_dict"),
        (torch.zeros(3), "holds Tensor, not a state_dict"),
        ({"a": 3}, "'a' is int, not a tensor"),
        ({"conv.weight": torch.zeros(1)}, "key decoder.last_conv.8.weight is missing"),
        ({"decoder.last_conv.8.weight": torch.zeros(6)}, "is missing"),
    ],
)
def test_other_content(tmp_path, content, message):
    with pytest.raises(StudentError, match=message):
        import_released(save(tmp_path / "a.pth", content))


def test_number_of_classes(tmp_path):
    path = save(tmp_path / "a.pth", hollow_state(11))
    with pytest.raises(
        StudentError, match=r"has 11 classes, the class table has 6 .*--classes FILE"
    ):
        import_released(path)


def test_unwrap_does_not_modify():
    state = {"module.a": torch.zeros(1)}
    assert unwrap({"state_dict": state}, Path("x")).keys() == {"a"}
    assert state.keys() == {"module.a"}


@pytest.mark.slow
def test_import_command_keeps_the_logits(tmp_path, monkeypatch):
    """Published keys (random values) -> student file -> runner: the logits of the reference."""
    monkeypatch.setattr(export_module, "_PARITY_SIZES", ((65, 97),))  # enough, and quick
    state = random_state(np.random.default_rng(3), published_shapes(11))
    save(tmp_path / "a.pth", {"state_dict": {"module." + k: v for k, v in state.items()}})
    table = {"classes": [{"name": f"class {i}", "color": [i, i, i]} for i in range(11)]}
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(table))
    out = tmp_path / "a.evstudent"
    result = CliRunner().invoke(
        build_app(),
        [
            "import-checkpoint",
            str(tmp_path / "a.pth"),
            str(out),
            "--classes",
            str(tmp_path / "classes.yaml"),
            "--no-onnx",  # half a minute; test_export_student.py runs this network there
        ],
    )
    assert result.exit_code == 0, result.output
    student = StudentFile.open(out)
    assert student.classes.names[10] == "class 10"
    assert not student.has_onnx
    runner = make_runner(student, device="cpu")  # without ONNX: torch, said in the log
    x = np.random.default_rng(0).uniform(0, 1, (3, 50, 86)).astype(np.float32)
    reference = reference_forward(state, torch.from_numpy(x)[None])[0].numpy()
    assert np.abs(runner.run(x) - reference).max() < 1e-4 * np.abs(reference).max()
