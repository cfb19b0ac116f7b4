import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))
from students import random_checkpoint

from evdistill_core.cli.main import build_app
from evdistill_core.export import student as export_module
from evdistill_core.export.onnx_model import to_onnx
from evdistill_core.export.student import export_checkpoint, export_student
from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import StudentFile
from evdistill_core.models.checkpoint import save_checkpoint
from evdistill_core.models.network import fold_batch_norm
from evdistill_core.models.registry import build_network
from evdistill_core.representations.spec import InputSpec

VERSION_1 = Path(__file__).parents[1] / "golden" / "students" / "version1.evstudent"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A checkpoint, its student file and the comparison that export made."""
    path = tmp_path_factory.mktemp("export") / "deep" / "a.evstudent"
    checkpoint = random_checkpoint()
    return checkpoint, path, export_student(checkpoint, path)


def test_the_student_says_what_the_checkpoint_said(exported):
    checkpoint, path, rows = exported
    info = StudentFile.open(path).info
    assert (info.input, info.classes) == (checkpoint.input, checkpoint.classes)
    assert (info.network.name, info.network.options) == ("onboard-seg", {"width": 0.25})
    assert (info.network.size_multiple, info.network.output_stride) == (8, 4)
    assert info.network.parameters == sum(p.numel() for p in checkpoint.build().parameters())
    assert info.provenance == checkpoint.provenance
    assert {r["form"] for r in info.parity["rows"]} == {"folded", "onnx"}
    assert [p.name for p in path.parent.iterdir()] == ["a.evstudent"]
    assert len(rows) == 6
    assert all(0 <= r.max_abs_difference < 1e-4 and r.argmax_agreement > 0.999 for r in rows)
    assert max(r.max_abs_difference for r in rows) > 0  # two different computations were compared


def test_weights_are_the_trained_ones(exported):
    checkpoint, path, _ = exported
    weights = StudentFile.open(path).weights()
    assert weights.keys() == checkpoint.state_dict.keys()
    for key, value in checkpoint.state_dict.items():
        np.testing.assert_array_equal(weights[key], value.numpy())


def test_model_card_states_the_facts(exported):
    card = StudentFile.open(exported[1]).card()
    for fact in ("onboard-seg", "5 vehicle", "trained_on: random numbers", "licence: Apache-2.0"):
        assert fact in card
    assert "| onnx | logits | 264x352 |" in card


def test_onnx_model_is_whole_and_free_in_size(exported):
    model = onnx.load_model_from_string(StudentFile.open(exported[1]).onnx())
    onnx.checker.check_model(model)
    assert not [t for t in model.graph.initializer if t.external_data]
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in shape[:2]] == [1, 3]
    assert not any(d.HasField("dim_value") for d in shape[2:])


def test_a_form_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    def damage(network):
        folded = fold_batch_norm(network)
        with torch.no_grad():
            folded.head.bias[2] += 0.01
        return folded

    monkeypatch.setattr(export_module, "fold_batch_norm", damage)
    with pytest.raises(StudentError, match="export refused: the folded network differs"):
        export_student(random_checkpoint(), tmp_path / "a.evstudent", onnx=False)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_export_keeps_the_older_file(tmp_path):
    path = tmp_path / "a.evstudent"
    path.write_bytes(b"older")
    state = dict(random_checkpoint().state_dict)
    state["head.bias"] = state["head.bias"] * float("inf")
    with pytest.raises(StudentError, match="not finite"):
        export_student(random_checkpoint(state_dict=state), path)
    with pytest.raises(ConfigError, match="multiple of 8"):
        export_student(random_checkpoint(input=InputSpec(bins=3, size_multiple=4)), path)
    assert path.read_bytes() == b"older"


def test_an_inexpressible_network_is_an_error():
    class Moody(nn.Module):
        size_multiple, in_channels = 1, 3

        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(StudentError, match="cannot export this network to ONNX"):
        to_onnx(Moody().eval())


def test_command(tmp_path):
    save_checkpoint(tmp_path / "a.pt", random_checkpoint())
    out = tmp_path / "a.evstudent"
    result = CliRunner().invoke(
        build_app(), ["export", str(tmp_path / "a.pt"), str(out), "--no-onnx"]
    )
    assert result.exit_code == 0, result.output
    assert "folded" in result.output
    assert "264x352" in result.output
    assert not StudentFile.open(out).has_onnx


def test_command_writes_an_older_student_anew(tmp_path):
    """Same logits, provenance and text by people; half the size."""
    older, newer = VERSION_1, tmp_path / "newer.evstudent"
    result = CliRunner().invoke(build_app(), ["export", str(older), str(newer)])
    assert result.exit_code == 0, result.output
    old, new = StudentFile.open(older), StudentFile.open(newer)
    assert new.size_bytes < 0.62 * old.size_bytes
    assert replace(new.info, parity={}) == replace(old.info, parity={})
    assert new.card().startswith("# A title\n\nText by people.\n\n---\n\n# onboard-cls: ")
    assert new.card().count("---\n\n#") == 1
    x = np.random.default_rng(0).normal(0, 1, (2, 34, 34)).astype(np.float32)
    for runtime in ("onnxruntime", "torch"):
        before, after = (make_runner(s, runtime=runtime, device="cpu").run(x) for s in (old, new))
        np.testing.assert_allclose(after, before, atol=1e-5)
    with pytest.raises(StudentError, match="no student file at"):
        export_checkpoint(tmp_path / "none.evstudent", newer)


def test_command_without_a_checkpoint(tmp_path):
    result = CliRunner().invoke(
        build_app(), ["export", str(tmp_path / "none.pt"), str(tmp_path / "a.evstudent")]
    )
    assert isinstance(result.exception, StudentError)
    assert "no checkpoint at" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_paper_network_exports_too(tmp_path):
    """DeepLabV3+ with free height and width, rounding up at every stride, on ONNX Runtime."""
    torch.manual_seed(0)
    network = build_network("evdistill-2021", in_channels=3, num_classes=6).eval()
    session = onnxruntime.InferenceSession(to_onnx(network), providers=["CPUExecutionProvider"])
    for height, width in ((65, 97), (50, 86)):
        x = torch.randn(1, 3, height, width)
        with torch.no_grad():
            truth = network(x).numpy()
        logits = session.run(None, {"input": x.numpy()})[0]
        assert np.abs(logits - truth).max() < 1e-3 * np.abs(truth).max()


def test_card_opens_with_what_people_say(tmp_path):
    provenance = {"notes": ["Not for sale.", "Two limits."], "config": {"steps": 7}}
    path = tmp_path / "a.evstudent"
    export_student(
        random_checkpoint(provenance=provenance), path, onnx=False, card_text="# Mine\n\nText."
    )
    card = StudentFile.open(path).card()
    assert card.startswith("# Mine\n\nText.\n")
    assert "- notes: Not for sale. Two limits." in card
    assert "```yaml\nsteps: 7\n```" in card
