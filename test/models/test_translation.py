"""Generators, discriminators and the recogniser: shapes, ranges, views, sizes."""

import pytest
import torch

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.models.discriminators import (
    DiscriminatorOptions,
    OutputDiscriminator,
    PatchDiscriminator,
)
from evdistill_core.models.generators import (
    EventHead,
    GeneratorOptions,
    event_to_image,
    image_to_event,
)
from evdistill_core.models.network import fold_batch_norm, parameter_count
from evdistill_core.models.registry import build_network, build_student
from evdistill_core.representations.spec import InputSpec

SMALL = GeneratorOptions(base_channels=4, halvings=1, blocks=1)
FOLDED = GeneratorOptions(base_channels=4, halvings=1, fold=2, blocks=1)
VOXEL = InputSpec(kind="voxel", bins=3, clip=1.5)
COUNTS = InputSpec(kind="counts2")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("options", [SMALL, FOLDED])
def test_image_generator_makes_images_of_the_same_size(options):
    made = event_to_image(VOXEL, options)(torch.randn(2, 3, 16, 24))
    assert made.shape == (2, 1, 16, 24)
    assert float(made.detach().abs().max()) <= 1.0


@pytest.mark.parametrize("options", [SMALL, FOLDED])
@pytest.mark.parametrize("spec", [VOXEL, COUNTS, InputSpec(kind="voxel", normalisation="nonzero")])
def test_event_generator_keeps_the_rules_of_the_representation(spec, options):
    generator = image_to_event(spec, options)
    for p in generator.parameters():
        p.data.mul_(20)  # far out: limits must hold everywhere
    made = generator(torch.rand(2, 1, 16, 16) * 2 - 1).detach()
    assert made.shape == (2, spec.channels, 16, 16)
    if spec.kind == "counts2":
        assert float(made.min()) >= 0.0
        assert float(made[:, 2].abs().max()) == 0.0
        assert float(made.max()) <= 1.0
    else:
        assert float(made.min()) < 0.0
        assert float(made.abs().max()) <= (1.5 if spec.normalisation == "fixed" else 8.0)


def test_small_values_are_exactly_empty_but_still_learn():
    head = EventHead(GeneratorOptions(base_channels=1), VOXEL)
    with torch.no_grad():
        head.last.conv.weight.zero_()
        head.last.conv.bias.zero_()
        head.last.conv.bias[0] = 0.005  # strength of the first bin: below half a level
    x = torch.zeros(1, 1, 4, 4)
    made = head(x)
    assert float(made.detach().abs().max()) == 0.0
    made.sum().backward()
    assert float(head.last.conv.bias.grad[0]) > 0.0


@pytest.mark.parametrize("options", [SMALL, FOLDED])
def test_a_fresh_event_generator_is_dim(options):
    made = image_to_event(VOXEL, options)(torch.rand(1, 1, 16, 16)).detach()
    assert float(made.abs().mean()) < 0.1


def test_cyclegan_sizes():
    # The CycleGAN generator with 9 blocks has 11.4 M parameters, its discriminator 2.8 M.
    generator = event_to_image(InputSpec(kind="counts2"), GeneratorOptions())
    assert 11.0e6 < parameter_count(generator) < 12.0e6
    assert 2.7e6 < parameter_count(PatchDiscriminator(3, DiscriminatorOptions())) < 2.9e6


def test_a_folded_generator_moves_with_its_input():
    # What is folded must come back to its place: a shift by whole folds shifts the result.
    generator = event_to_image(
        VOXEL, GeneratorOptions(base_channels=4, halvings=0, fold=2, blocks=0)
    )
    x = torch.randn(1, 3, 32, 32)
    made, moved = generator(x).detach(), generator(x.roll(2, 3)).detach()
    inner = (..., slice(8, -8), slice(8, -8))
    # Instance norm sees the seam, so equality is not exact.
    assert torch.allclose(moved[inner], made.roll(2, 3)[inner], atol=0.02)
    assert not torch.allclose(moved[inner], made[inner], atol=0.02)


@pytest.mark.parametrize("size", [(15, 16), (16, 18), (4, 16)])
def test_sizes_that_do_not_fit_are_refused(size):
    with pytest.raises(ValueError, match="multiples of 4 and at least 16"):
        event_to_image(VOXEL, GeneratorOptions(base_channels=2, blocks=0))(torch.zeros(1, 3, *size))


@pytest.mark.parametrize(("layers", "view"), [(1, 16), (2, 34), (3, 70)])
def test_a_patch_score_sees_exactly_its_patch(layers, view):
    network = PatchDiscriminator(1, DiscriminatorOptions(base_channels=2, layers=layers))
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 0.1)
    # Instance norm looks at the whole picture by design; what is left is the reach of the patches.
    bare = torch.nn.Sequential(
        *[m for m in network.body if not isinstance(m, torch.nn.InstanceNorm2d)]
    )
    x = torch.rand(1, 1, 150, 150, requires_grad=True)
    scores = bare(x)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    seen = x.grad[0, 0].abs() > 0
    assert int(seen.any(0).sum()) == view
    assert int(seen.any(1).sum()) == view


def test_output_discriminator_scores_each_image_by_itself():
    critic = OutputDiscriminator(6, DiscriminatorOptions(base_channels=4))
    posterior = torch.randn(3, 6, 40, 56).softmax(1)
    scores = critic(posterior)
    assert scores.shape == (3,)
    torch.testing.assert_close(scores[1:2], critic(posterior[1:2]))


def test_recogniser_maps_pictures_to_logits_and_folds():
    network = build_student("onboard-cls", {"width": 0.5}, in_channels=2, num_classes=10)
    x = torch.randn(4, 2, 34, 34)
    network(x)
    network.eval()
    logits, features = network.forward_with_features(x)
    assert logits.shape == (4, 10)
    assert features.shape[:1] + features.shape[2:] == (4, 5, 5)
    torch.testing.assert_close(fold_batch_norm(network)(x), logits, rtol=1e-4, atol=1e-4)
    assert parameter_count(network) < 100_000


@pytest.mark.parametrize("name", ["onboard-seg", "evdistill-2021"])
def test_features_come_with_the_logits_of_forward(name):
    options = {"width": 0.25} if name == "onboard-seg" else {}
    network = build_network(name, options, in_channels=2, num_classes=6).eval()
    x = torch.randn(1, 2, 32, 48)
    with torch.inference_mode():
        logits, features = network.forward_with_features(x)
        assert torch.equal(logits, network(x))
    assert features.shape[2:] == (2, 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GeneratorOptions(base_channels=0),
        lambda: DiscriminatorOptions(layers=9),
        lambda: build_student("resnet", in_channels=2, num_classes=10),
        lambda: build_student("onboard-cls", {"stages": 9}, in_channels=2, num_classes=10),
        lambda: build_student("onboard-cls", in_channels=0, num_classes=10),
    ],
)
def test_bad_options_are_refused(make):
    with pytest.raises(ConfigError):
        make()
