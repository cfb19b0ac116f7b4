"""Students with networks of a user's own: exported, compared, run with and without the package."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from evdistill_core.export.student import export_student
from evdistill_core.foundation.errors import ConfigError, PluginError, StudentError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import StudentFile
from evdistill_core.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from evdistill_core.models.registry import NETWORKS, build_student
from evdistill_core.representations import InputSpec

MODULE = '''
import torch
from torch import nn
from evdistill_core.models.network import SegmentationNetwork

class Seg(SegmentationNetwork):
    """One convolution, and batch norm after the activation."""
    size_multiple = 8
    output_stride = 4
    def __init__(self, *, in_channels, num_classes):
        super().__init__(in_channels=in_channels, num_classes=num_classes)
        self.first = nn.Conv2d(in_channels, 4, 3, stride=4, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, num_classes, 1)
    def forward(self, x):
        return self.head(self.norm(torch.relu(self.first(x))))

class Honest(Seg):
    """The same, and says so."""

    folds_batch_norm = False
'''
RUN_ALONE = """
import sys
import numpy as np
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import StudentFile
runner = make_runner(StudentFile.open(sys.argv[1]))
logits = runner.run(np.load(sys.argv[2]))
assert "export_guest_nets" not in sys.modules
np.save(sys.argv[3], logits)
print(runner.description)
"""


@pytest.fixture(autouse=True)
def guests(tmp_path, monkeypatch):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "export_guest_nets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.setattr(NETWORKS, "_found", {})
    yield
    sys.modules.pop("export_guest_nets", None)


def random_checkpoint(name):
    torch.manual_seed(0)
    spec = InputSpec(bins=2, size_multiple=8)
    network = build_student(name, in_channels=spec.channels, num_classes=6)
    for _ in range(3):
        network(torch.randn(4, 2, 32, 32))  # batch norms of a fresh network change nothing
    return Checkpoint(
        network=name,
        options={},
        state_dict=network.state_dict(),
        input=spec,
        classes=SIX_CLASSES,
    )


def test_a_batch_norm_after_the_activation_is_noticed_and_has_a_cure(tmp_path):
    path = tmp_path / "a.evstudent"
    with pytest.raises(StudentError, match=r"the folded network differs.*folds_batch_norm = False"):
        export_student(random_checkpoint("export_guest_nets:Seg"), path)
    rows = export_student(random_checkpoint("export_guest_nets:Honest"), path)
    assert {row.form for row in rows} == {"folded", "onnx"}
    assert "# export_guest_nets:Honest: The same, and says so." in StudentFile.open(path).card()


def test_onnx_runtime_needs_no_package_and_torch_needs_leave(tmp_path, monkeypatch):
    name, path = "export_guest_nets:Honest", tmp_path / "a.evstudent"
    export_student(random_checkpoint(name), path)
    student = StudentFile.open(path)
    x = np.random.default_rng(0).normal(size=(2, 64, 64)).astype(np.float32)
    on_torch = make_runner(student, runtime="torch").run(x)  # the name was ours to give

    np.save(tmp_path / "x.npy", x)
    alone = subprocess.run(
        [sys.executable, "-c", RUN_ALONE, path, tmp_path / "x.npy", tmp_path / "y.npy"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert alone.stdout.startswith(f"{name} on ONNX Runtime")
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), on_torch, atol=1e-5)

    monkeypatch.setattr(NETWORKS, "_found", {})  # as in another process
    with pytest.raises(PluginError, match=r"a.evstudent names .*EVDISTILL_PLUGINS=export_guest"):
        make_runner(student, runtime="torch")
    monkeypatch.setenv("EVDISTILL_PLUGINS", "export_guest_nets")
    np.testing.assert_array_equal(make_runner(student, runtime="torch").run(x), on_torch)


def test_a_checkpoint_needs_leave_as_well(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "a.pt", random_checkpoint("export_guest_nets:Honest"))
    assert load_checkpoint(tmp_path / "a.pt").build()
    monkeypatch.setattr(NETWORKS, "_found", {})
    with pytest.raises(PluginError, match=r"a.pt names the network"):
        load_checkpoint(tmp_path / "a.pt")


def test_a_network_that_is_not_installed_is_missed_by_torch_alone(tmp_path):
    path = tmp_path / "a.evstudent"
    checkpoint = random_checkpoint("export_guest_nets:Honest")
    NETWORKS._found["visitor"] = NETWORKS.get("export_guest_nets:Honest")  # as an entry point
    export_student(Checkpoint(**{**vars(checkpoint), "network": "visitor"}), path)
    del NETWORKS._found["visitor"]
    student = StudentFile.open(path)
    runner = make_runner(student, runtime="onnxruntime")
    assert runner.description.startswith("visitor on ONNX Runtime")
    with pytest.raises(ConfigError, match="unknown network 'visitor'; known: "):
        make_runner(student, runtime="torch")
