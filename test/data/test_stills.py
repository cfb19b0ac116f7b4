"""Which thing each pixel of a labelled image shows, through all changes of the image."""

import numpy as np
import pytest

from evdistill_core.data.labelled_images import ImagesConfig
from evdistill_core.data.samples import Prefix
from evdistill_core.data.stills import Stills, StillsConfig
from evdistill_core.foundation.labels import SIX_CLASSES


def stills(root, **changes):
    images = ImagesConfig(root=root, split="train")
    return Stills(StillsConfig(images=images, **changes), SIX_CLASSES, seed=3)


@pytest.fixture
def root(tmp_path, make_camvid):
    make_camvid(tmp_path / "camvid", height=72, width=96)
    return tmp_path / "camvid"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"flip": 1.0},
        {"crop": (40, 56)},
        {"crop": (120, 140)},
        {"crop": (120, 140), "border": "edge"},
        {"scale": (0.4, 1.7), "crop": (64, 64), "flip": 0.5},
    ],
)
def test_instances_move_with_the_labels(root, changes):
    source, things = stills(root, **changes), 0
    for index in range(6):
        sample = source.sample(index)
        assert sample.instances.dtype == np.uint16
        assert sample.instances.shape == sample.label.shape
        np.testing.assert_array_equal(
            sample.instances > 0, np.isin(sample.label, SIX_CLASSES.thing_ids)
        )
        for number in set(sample.instances.ravel().tolist()) - {0}:
            assert len(np.unique(sample.label[sample.instances == number])) == 1
            things += 1
    assert things > 0


def test_a_mirrored_image_has_the_mirrored_instances(root):
    one, other = stills(root).sample(0), stills(root, flip=1.0).sample(0)
    np.testing.assert_array_equal(other.instances, one.instances[:, ::-1])
    assert other.instances.flags.c_contiguous


def test_the_kept_image_has_its_instances_too(root):
    source = Prefix(stills(root), 2)
    np.testing.assert_array_equal(source.sample(0).instances, source.sample(0).instances)
