"""Representations of a user's own: with and without torch, and what is refused."""

import sys

import numpy as np
import pytest
import torch

from evdistill_core.data.unlabelled import invert_polarity
from evdistill_core.evaluation.pictures import input_picture
from evdistill_core.events.array import Events
from evdistill_core.foundation.config import from_mapping, to_mapping
from evdistill_core.foundation.errors import ConfigError, PluginError
from evdistill_core.models.generators import GeneratorOptions, image_to_event
from evdistill_core.representations import InputSpec, represent
from evdistill_core.representations.on_torch import represent_batch, represent_torch
from evdistill_core.representations.registry import REPRESENTATIONS

MODULE = """
import numpy as np
from evdistill_core.representations import Representation

def first_seen(out, events, window):
    assert not out.any() and not (events.x >= events.width).any()
    age = 1 - window.elapsed_us(events) / (window.span_us * window.spec.options["stretch"])
    np.maximum.at(out[0].reshape(-1), window.cells(events), age)

def count(out, events, window):
    np.add.at(out.reshape(-1), window.cells(events) + (events.p == 0) * window.plane, 1)

def count_on_torch(out, events, window):
    index = events.cell + (1 - events.p) * window.plane
    out.view(-1).index_add_(0, index, out.new_ones(len(index)))

surface = Representation(
    channels=lambda spec: 1, fill=first_seen, polarity="ignored", options={"stretch": 1.0},
)
def counts():
    return Representation(
        channels=lambda spec: 2, fill=count, fill_torch=count_on_torch,
        normalisations=("robust", "fixed"),
    )
wide = Representation(channels=lambda spec: 2000, fill=count)
def wrong_word():
    return Representation(channels=lambda spec: 1, fill=count, polarity="both")
number = 3
"""
T0, T1 = 1000, 2000


@pytest.fixture(autouse=True)
def guests(tmp_path, monkeypatch):
    (tmp_path / "guest_inputs.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(REPRESENTATIONS, "_found", {})
    yield
    sys.modules.pop("guest_inputs", None)


@pytest.fixture
def events():
    rng = np.random.default_rng(0)
    n = 300
    x = rng.integers(0, 20, n).astype(np.uint16)
    x[:5] = 500  # outside of the frame
    y = rng.integers(0, 12, n).astype(np.uint16)
    t_us, p = rng.integers(T0 - 50, T1 + 50, n), rng.integers(0, 2, n).astype(np.uint8)
    return Events(x, y, t_us, p, 20, 12)


def test_one_without_torch_gives_the_same_through_numpy(events):
    spec = InputSpec(kind="guest_inputs:surface", options={"stretch": 2}, size_multiple=4)
    assert (spec.channels, spec.normalisation) == (1, "none")
    surface = represent(events, spec, T0, T1)
    assert 0.4 < surface[surface > 0].min() < surface.max() <= 1
    on_torch = represent_torch(events, spec, T0, T1)
    assert isinstance(on_torch, torch.Tensor)
    np.testing.assert_array_equal(on_torch.numpy(), surface)
    batch = represent_batch([(events, T0, T1)], spec)
    np.testing.assert_array_equal(batch[0].numpy(), surface)


def test_one_with_torch_equals_itself_and_ours(events):
    spec = InputSpec(kind="guest_inputs:counts", max_pixels=100, size_multiple=4)
    counts = represent(events, spec, T0, T1)
    np.testing.assert_array_equal(represent_torch(events, spec, T0, T1).numpy(), counts)
    ours = InputSpec(kind="counts2", normalisation="robust", max_pixels=100, size_multiple=4)
    np.testing.assert_array_equal(counts, represent(events, ours, T0, T1)[:2])


def test_pictures_inversion_and_generators_need_no_more_than_its_polarity(events):
    for kind in ("guest_inputs:surface", "guest_inputs:counts"):
        spec = InputSpec(kind=kind, size_multiple=16)
        x = represent(events, spec, T0, T1)
        assert input_picture(x, kind).shape == (16, 32, 3)
        twice = invert_polarity(invert_polarity(x, spec), spec)
        np.testing.assert_array_equal(twice, x)
        made = image_to_event(spec, GeneratorOptions(base_channels=4, blocks=1))
        assert made(torch.zeros(1, 1, 64, 64)).shape == (1, spec.channels, 64, 64)


def test_options_are_checked_and_kept(events):
    spec = InputSpec(kind="guest_inputs:surface")
    assert spec.options == {"stretch": 1.0}
    assert from_mapping(InputSpec, to_mapping(spec)) == spec
    with pytest.raises(ConfigError, match=r"has no option 'strech'.*did you mean 'stretch'"):
        InputSpec(kind="guest_inputs:surface", options={"strech": 1.0})
    with pytest.raises(ConfigError, match=r"option stretch of .* must be a number, got 'far'"):
        InputSpec(kind="guest_inputs:surface", options={"stretch": "far"})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("number", "is int, neither a Representation nor a function"),
        ("wide", "channels must lie in 1..1024, got 2000"),
        ("wrong_word", "polarity must be one of signed, halves, ignored, got 'both'"),
        ("surfaces", "has no 'surfaces'; did you mean 'surface'"),
    ],
)
def test_what_is_none_is_refused(name, said):
    with pytest.raises(ConfigError, match=said):
        InputSpec(kind=f"guest_inputs:{name}")


def test_a_description_out_of_a_file_needs_leave(monkeypatch):
    values = {"kind": "guest_inputs:counts"}
    with pytest.raises(PluginError, match=r"x.pt names the representation .*PLUGINS=guest_inputs"):
        InputSpec.from_mapping(values, source="x.pt")
    assert "guest_inputs" not in sys.modules
    monkeypatch.setenv("EVDISTILL_PLUGINS", "guest_inputs")
    assert InputSpec.from_mapping(values, source="x.pt").channels == 2
