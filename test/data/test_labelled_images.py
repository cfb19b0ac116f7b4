"""Loaders on files made in exactly the layouts that users have."""

import cv2
import numpy as np
import pytest

from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages
from evdistill_core.foundation.errors import ConfigError, DataError

# sky building pole road pavement tree sign fence car pedestrian bicyclist void
SIX_BY_HAND = [1, 1, 2, 0, 0, 3, 2, 1, 5, 4, 4, 255]


def test_camvid_labels_become_the_six_classes(tmp_path, make_camvid):
    raw = make_camvid(tmp_path)
    images = LabelledImages(ImagesConfig(root=tmp_path))
    assert len(images) == 2
    for i in range(2):
        still = images[i]
        expected = np.array(SIX_BY_HAND)[raw[still.name]]
        np.testing.assert_array_equal(still.label, expected)
        assert still.image.shape == (36, 48, 3)
        assert still.image.dtype == still.label.dtype == np.uint8


def test_drives_splits_and_limits(tmp_path, make_camvid):
    make_camvid(tmp_path)
    make_camvid(tmp_path, "val", ("0016E5_07959",), ".png")
    both = LabelledImages(ImagesConfig(root=tmp_path, split="train+val"))
    assert [p[0].stem for p in both.pairs] == ["0001TP_006690", "0016E5_00001", "0016E5_07959"]
    unpaired = LabelledImages(ImagesConfig(root=tmp_path, exclude=("0016E5",)))
    assert [p[0].stem for p in unpaired.pairs] == ["0001TP_006690"]
    one = LabelledImages(ImagesConfig(root=tmp_path, split="train+val", limit=1))
    assert len(one) == 1
    with pytest.raises(DataError, match="no labelled image"):
        LabelledImages(ImagesConfig(root=tmp_path, include=("9999",)))


def test_folders_with_their_own_names(tmp_path):
    (tmp_path / "rgb").mkdir()
    (tmp_path / "mask").mkdir()
    cv2.imwrite(str(tmp_path / "rgb" / "a.png"), np.zeros((4, 5, 3), np.uint8))
    label = np.array([[0, 1, 2, 255, 0]] * 4, np.uint8)
    cv2.imwrite(str(tmp_path / "mask" / "a.png"), label)
    config = ImagesConfig(
        root=tmp_path,
        layout="folders",
        images="rgb",
        labels="mask",
        names=("asphalt", "lorry", "sticker"),
        class_map={"asphalt": "flat", "lorry": "vehicle"},
    )
    still = LabelledImages(config)[0]
    np.testing.assert_array_equal(still.label[0], [0, 5, 255, 255, 0])


def test_wrong_class_map_is_refused(tmp_path, make_camvid):
    make_camvid(tmp_path)
    config = ImagesConfig(
        root=tmp_path, layout="folders", names=("a",), class_map={"a": "no such class"}
    )
    with pytest.raises(ConfigError, match="no such class"):
        LabelledImages(config)


def test_missing_folder_and_missing_label(tmp_path, make_camvid):
    with pytest.raises(DataError, match="does not exist"):
        LabelledImages(ImagesConfig(root=tmp_path / "nowhere"))
    make_camvid(tmp_path)
    (tmp_path / "labels" / "train" / "0001TP_006690.png").unlink()
    with pytest.raises(DataError, match="no label file"):
        LabelledImages(ImagesConfig(root=tmp_path))


def test_damaged_files_are_named(tmp_path, make_camvid):
    make_camvid(tmp_path)
    path = tmp_path / "labels" / "train" / "0001TP_006690.png"
    path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="0001TP_006690"):
        LabelledImages(ImagesConfig(root=tmp_path))[0]
    cv2.imwrite(str(path), np.zeros((36, 48, 3), np.uint8))
    with pytest.raises(DataError, match="single-channel"):
        LabelledImages(ImagesConfig(root=tmp_path))[0]
    cv2.imwrite(str(path), np.zeros((35, 48), np.uint8))
    with pytest.raises(DataError, match="its image"):
        LabelledImages(ImagesConfig(root=tmp_path))[0]
    cv2.imwrite(str(path), np.full((36, 48), 12, np.uint8))
    with pytest.raises(DataError, match="holds label 12"):
        LabelledImages(ImagesConfig(root=tmp_path))[0]


def test_real_camvid(shared_data):
    images = LabelledImages(ImagesConfig(root=shared_data / "camvid"))
    assert len(images) == 367
    still = images[0]
    assert still.image.shape == (360, 480, 3)
    assert set(np.unique(still.label)) <= {0, 1, 2, 3, 4, 5, 255}
    lower = still.label[300:][still.label[300:] != 255]
    assert np.mean(lower == 0) > 0.8  # the road lies at the bottom of a driver's view
