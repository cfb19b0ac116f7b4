"""What stands in masks: the class file to fill in, and the check of a filled one."""

import cv2
import numpy as np
import pytest
import yaml

from evdistill_core.data.class_survey import (
    check_labels,
    class_file_skeleton,
    survey_masks,
    survey_polygons,
)
from evdistill_core.data.masks import decoder_of
from evdistill_core.foundation.class_file import ClassEntry, ClassFile
from evdistill_core.foundation.config import from_mapping
from evdistill_core.foundation.errors import ConfigError, DataError


@pytest.fixture
def masks(tmp_path):
    """Write 4 masks of 10 pixels with the values 0, k and 255; return their paths."""
    paths = []
    for k in range(4):
        paths.append(tmp_path / f"{k}.png")
        row = [0] * 8 + [k, 255]
        cv2.imwrite(str(paths[-1]), np.array([row], np.uint8))
    return paths


def test_values_are_counted_with_their_files(masks):
    found = survey_masks(masks)
    assert found.counts == {0: 33, 1: 1, 2: 1, 3: 1, 255: 4}
    assert found.files == {0: 4, 1: 1, 2: 1, 3: 1, 255: 4}
    assert (found.read, found.total, found.unit) == (4, 4, "pixel")
    assert found.summary().startswith("0 (82.5%), 255 (10.0%), 1 (2.5%)")
    part = survey_masks(masks, limit=2)
    assert part.counts == {0: 17, 2: 1, 255: 2}
    assert "in 2 of 4 files" in part.summary()


def test_the_skeleton_is_a_class_file_but_for_the_names(masks):
    text = class_file_skeleton(survey_masks(masks), "my masks")
    content = yaml.safe_load(text)
    assert [c["ids"] for c in content["classes"]] == [[0], [1], [2], [3]]
    assert content["ignore"] == [255]
    with pytest.raises(ConfigError, match="has no name"):
        from_mapping(ClassFile, content)
    for k, row in enumerate(content["classes"]):
        row["name"] = f"c{k}"
    assert len(from_mapping(ClassFile, content).table()) == 4
    assert "my masks: the values found in 4 of 4 files" in text
    assert "82.5% of the pixels, in 4 files" in text


def test_binary_masks_keep_255(tmp_path):
    cv2.imwrite(str(tmp_path / "m.png"), np.array([[0, 255]], np.uint8))
    content = yaml.safe_load(class_file_skeleton(survey_masks([tmp_path / "m.png"]), "x"))
    assert [c["ids"] for c in content["classes"]] == [[0], [255]]
    assert content["ignore"] == []


def test_colours_are_written_as_a_class_file_has_them(tmp_path):
    image = np.array([[[0, 0, 255], [0, 0, 0]]], np.uint8)  # red and black, as OpenCV has them
    cv2.imwrite(str(tmp_path / "m.png"), image)
    content = yaml.safe_load(class_file_skeleton(survey_masks([tmp_path / "m.png"]), "x"))
    assert [c["colors"] for c in content["classes"]] == [["#000000"], ["#ff0000"]]
    cv2.imwrite(str(tmp_path / "m.png"), np.array([[[7, 7, 7], [0, 0, 0]]], np.uint8))
    content = yaml.safe_load(class_file_skeleton(survey_masks([tmp_path / "m.png"]), "x"))
    assert [c["ids"] for c in content["classes"]] == [[0], [7]]


def test_many_values_are_told_to_be_no_classes(tmp_path):
    cv2.imwrite(str(tmp_path / "m.png"), np.arange(200, dtype=np.uint8)[None])
    text = class_file_skeleton(survey_masks([tmp_path / "m.png"]), "x")
    assert "200 values are no classes" in text
    assert len(yaml.safe_load(text)["classes"]) == 48


def test_polygons_are_counted(tmp_path):
    (tmp_path / "a.txt").write_text("3 0 0 1 0 1 1\n3 0 0 1 0 1 1\n0 0 0 1 0 1 1\n")
    found = survey_polygons([tmp_path / "a.txt"])
    assert found.counts == {3: 2, 0: 1}
    assert "of the polygons" in class_file_skeleton(found, "x")


def test_the_check_counts_every_class(masks):
    table = ClassFile(
        classes=tuple(ClassEntry(name=f"c{k}", ids=(k,)) for k in range(5)), ignore=()
    ).table()
    decoder = decoder_of(table)
    told = []
    shares = check_labels(lambda k: decoder.read(masks[k]), len(masks), table, on_image=told.append)
    assert shares.pixels.tolist() == [33, 1, 1, 1, 0, 0, 4]
    assert shares.images.tolist() == [4, 1, 1, 1, 0, 0, 4]
    assert shares.absent == ("c4",)
    assert told == [1, 2, 3, 4]


def test_the_check_lists_all_values_of_all_files(masks):
    table = ClassFile(classes=(ClassEntry(name="c", ids=(0,)),)).table()
    decoder = decoder_of(table)
    with pytest.raises(DataError) as error:
        check_labels(lambda k: decoder.read(masks[k]), len(masks), table)
    text = str(error.value)
    assert text.startswith("3 of 4 label files hold values without a meaning: 1 (1 pixel in 1 ")
    for k in (1, 2, 3):
        assert f"{k} (1 pixel in 1 file, first {masks[k]})" in text
    assert "c [0]" in text
