"""The mean of two stages."""

import pytest
import torch

from evdistill_core.cli.main import run
from evdistill_core.export.averaging import averaged
from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.foundation.labels import CAMVID_CLASSES, SIX_CLASSES
from evdistill_core.inference.student import StudentFile
from evdistill_core.models.checkpoint import Checkpoint, save_checkpoint
from evdistill_core.models.registry import build_student
from evdistill_core.representations.spec import InputSpec

SPEC = InputSpec(bins=2)


def stage(seed, *, classes=SIX_CLASSES, spec=SPEC, width=0.25, **others):
    torch.manual_seed(seed)
    options = {"width": width, **others}
    network = build_student(
        "onboard-seg", options, in_channels=spec.channels, num_classes=len(classes)
    )
    return Checkpoint(
        network="onboard-seg",
        options=options,
        state_dict=network.state_dict(),
        input=spec,
        classes=classes,
    )


def test_weights_lie_between_and_the_rest_is_of_the_later():
    later, earlier = stage(0), stage(1)
    mixed = averaged(later, earlier, 0.25, origin="first.pt")
    for key, value in mixed.state_dict.items():
        expected = later.state_dict[key] * 0.75 + earlier.state_dict[key] * 0.25
        torch.testing.assert_close(value, expected.to(value.dtype))
    assert mixed.provenance["averaged_with"] == {"checkpoint": "first.pt", "share": 0.25}
    same = averaged(later, earlier, 0.0, origin="first.pt")
    assert all(torch.equal(v, later.state_dict[k]) for k, v in same.state_dict.items())


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"classes": CAMVID_CLASSES}, "classes"),
        ({"spec": InputSpec()}, "input"),
        ({"width": 0.5}, "network"),
    ],
)
def test_what_has_no_mean_is_refused(changes, what):
    with pytest.raises(StudentError, match=f"the {what} of first.pt is another one"):
        averaged(stage(0), stage(1, **changes), 0.5, origin="first.pt")


def test_a_head_that_only_the_later_stage_has_keeps_its_weights():
    later, earlier = stage(0, instances=True), stage(1)
    mixed = averaged(later, earlier, 0.5, origin="first.pt")
    for key, value in mixed.state_dict.items():
        own = later.state_dict[key]
        if key.startswith("instance_head."):
            torch.testing.assert_close(value, own, rtol=0, atol=0)
        elif value.is_floating_point():
            torch.testing.assert_close(value, (own + earlier.state_dict[key]) / 2)
    assert mixed.build().has_instances
    with pytest.raises(StudentError, match=r"the network of first\.pt is another one"):
        averaged(earlier, later, 0.5, origin="first.pt")


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_out_of_range(share):
    with pytest.raises(ConfigError, match=r"--share must lie in 0\.\.1, got"):
        averaged(stage(0), stage(1), share, origin="first.pt")


def test_the_command_notes_it_in_the_file(tmp_path):
    for seed in (0, 1):
        save_checkpoint(tmp_path / f"{seed}.pt", stage(seed))
    arguments = [str(tmp_path / "0.pt"), str(tmp_path / "x.evstudent"), "--no-onnx"]
    assert run(["export", *arguments, "--average", str(tmp_path / "1.pt"), "--share", "0.4"]) == 0
    provenance = StudentFile.open(tmp_path / "x.evstudent").info.provenance
    assert provenance["averaged_with"]["share"] == 0.4


def test_a_share_without_the_other_checkpoint_is_refused(tmp_path, capsys):
    save_checkpoint(tmp_path / "0.pt", stage(0))
    target = tmp_path / "x.evstudent"
    assert run(["export", str(tmp_path / "0.pt"), str(target), "--share", "0.4"]) == 2
    assert "--share is of the weights of --average" in capsys.readouterr().err
    assert not target.exists()
