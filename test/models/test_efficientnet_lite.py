"""The encoder is the published one: its names, its sizes, and what it makes of photographs."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from evdistill_core.models.efficientnet_lite import SCALES, EfficientNetLite
from evdistill_core.models.network import fold_batch_norm
from evdistill_core.models.pretrained import imagenet_file, start_encoder


@pytest.mark.parametrize("variant", list(SCALES))
def test_the_published_weights_fit(variant):
    """All names and sizes are there; what is left over is ImageNet's classifier."""
    encoder = EfficientNetLite(variant, in_channels=3)
    published = torch.load(imagenet_file(variant), weights_only=True)
    own = encoder.state_dict()
    assert {k: v.shape for k, v in published.items() if k in own} == {
        k: v.shape for k, v in own.items()
    }
    left = {k.split(".")[0] for k in published if k not in own}
    assert left == {"_conv_head", "_bn1", "_fc"}


def test_features_have_the_strides_that_the_decoder_expects():
    encoder = EfficientNetLite("lite0", in_channels=5).eval()
    with torch.no_grad():
        features = encoder(torch.zeros(1, 5, 72, 104))
    assert encoder.channels == (24, 40, 112, 320)
    assert [tuple(f.shape[1:]) for f in features] == [
        (24, 18, 26),
        (40, 9, 13),
        (112, 5, 7),
        (320, 3, 4),
    ]


def test_photographs_look_as_they_did_when_the_weights_were_learnt(shared_data):
    """A batch norm expects the mean that it learnt.

    With another normalisation, order of layers or activation, what arrives at deep norms is
    another distribution.
    """
    network = nn.Module()
    network.encoder = EfficientNetLite("lite0", in_channels=3)
    start_encoder(network, "imagenet")
    encoder = network.encoder.eval()
    met = {}

    def watch(name):
        def hook(module, inputs, _):
            met[name] = (inputs[0].mean((0, 2, 3)), module.running_mean, module.running_var.sqrt())

        return hook

    for name in ("_blocks.5._bn1", "_blocks.10._bn1", "_blocks.15._bn2"):
        encoder.get_submodule(name).register_forward_hook(watch(name))
    files = sorted((shared_data / "coco128-seg" / "images").rglob("*.jpg"))[:16]
    photos = np.stack([cv2.resize(cv2.imread(str(f))[..., ::-1], (224, 224)) for f in files])
    x = torch.from_numpy((photos.astype(np.float32) - 127) / 128).permute(0, 3, 1, 2)
    with torch.no_grad():
        encoder(x)
    for name, (seen, learnt, deviation) in met.items():
        assert float(((seen - learnt) / deviation.clamp_min(1e-3)).abs().mean()) < 0.4, name
        assert float(torch.corrcoef(torch.stack([seen, learnt]))[0, 1]) > 0.95, name


def test_folding_finds_every_batch_norm():
    torch.manual_seed(0)
    encoder = EfficientNetLite("lite0", in_channels=3)
    encoder(torch.randn(4, 3, 64, 64))  # settles the statistics a little
    encoder.eval()
    folded = fold_batch_norm(encoder)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(folded(x), encoder(x), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
