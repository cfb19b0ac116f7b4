import pickle

import pytest
import torch

from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.models.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_tensors,
    load_weights,
    save_checkpoint,
)
from evdistill_core.models.registry import build_network
from evdistill_core.representations.spec import InputSpec

SPEC = InputSpec(kind="voxel", bins=3, size_multiple=8)


def make(**changes):
    torch.manual_seed(0)
    network = build_network("onboard-seg", {"width": 0.25}, in_channels=3, num_classes=6)
    values = {
        "network": "onboard-seg",
        "options": {"width": 0.25},
        "state_dict": network.state_dict(),
        "input": SPEC,
        "classes": SIX_CLASSES,
        "provenance": {"trained_on": "nothing", "steps": 0},
        "training": {"step": 7, "optimizer": {"state": {0: torch.ones(3)}, "lr": 0.1}},
    }
    return Checkpoint(**{**values, **changes})


def test_round_trip(tmp_path):
    checkpoint = make()
    save_checkpoint(tmp_path / "a.pt", checkpoint)
    again = load_checkpoint(tmp_path / "a.pt")
    assert (again.network, again.options) == ("onboard-seg", {"width": 0.25})
    assert (again.input, again.classes) == (SPEC, SIX_CLASSES)
    assert again.provenance == checkpoint.provenance
    assert again.training["optimizer"]["state"][0].tolist() == [1, 1, 1]
    x = torch.randn(1, 3, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(again.build()(x), checkpoint.build()(x), atol=0, rtol=0)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    save_checkpoint(tmp_path / "a.pt", make())
    before = (tmp_path / "a.pt").read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        save_checkpoint(tmp_path / "a.pt", make(training={"step": lambda: 0}))
    assert (tmp_path / "a.pt").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_missing_file(tmp_path):
    with pytest.raises(StudentError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello", b"\x80\x02", bytes(1000)])
def test_damaged_file(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(StudentError):
        load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_file(tmp_path, share):
    save_checkpoint(tmp_path / "a.pt", make())
    data = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(StudentError):
        load_checkpoint(tmp_path / "a.pt")


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_code_in_a_file_is_not_run(tmp_path):
    torch.save({"state_dict": Evil(str(tmp_path / "ran"))}, tmp_path / "a.pt")
    with pytest.raises(StudentError, match="save the state_dict alone"):
        load_tensors(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "import-checkpoint"),
        ({"format_version": 99}, "format 99, this version reads 1"),
        ({"classes": "none"}, "classes is str"),
        ({"state_dict": None}, "state_dict is NoneType"),
        ({"input": {"kind": "image"}}, "damaged: input: unknown representation"),
        ({"classes": [{"name": "a"}]}, "damaged: a class needs"),
    ],
)
def test_wrong_content(tmp_path, change, message):
    save_checkpoint(tmp_path / "a.pt", make())
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    torch.save({**content, **change}, tmp_path / "a.pt")
    with pytest.raises(StudentError, match=message):
        load_checkpoint(tmp_path / "a.pt")


def test_weights_that_do_not_fit():
    with pytest.raises(
        StudentError, match=r"misshapen: stages.1.0.0.weight is \(8, 8, 3, 3\), not"
    ):
        make(options={"width": 0.5}).build()
    state = dict(make().state_dict)
    head = state.pop("head.bias")
    with pytest.raises(StudentError, match=r"1 missing: head.bias; 1 unexpected: tail.bias"):
        make(state_dict={**state, "tail.bias": head}).build()
    with pytest.raises(StudentError, match=r"not finite, first in head.bias; the training"):
        make(state_dict={**state, "head.bias": head * float("nan")}).build()


def test_batch_counters_may_be_absent():
    checkpoint = make()
    network = checkpoint.build()
    kept = {k: v for k, v in checkpoint.state_dict.items() if "num_batches" not in k}
    load_weights(network, kept, "an old file")


def test_input_that_the_network_cannot_take():
    with pytest.raises(ConfigError, match="must be a multiple of 8 for this network, got 12"):
        make(input=InputSpec(bins=3, size_multiple=12)).build()
