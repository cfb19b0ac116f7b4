"""Which classes are meant: those given, those beside the data, or an error with a skeleton."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from evdistill_core.data.build import SourceConfig
from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages, find_images
from evdistill_core.data.own_classes import (
    UnknownClassesError,
    chosen,
    classes_of_experiment,
    classes_of_images,
    classes_of_recordings,
    parts_of,
)
from evdistill_core.data.recorded_masks import RecordedMasksConfig
from evdistill_core.data.simulated import SimulationConfig
from evdistill_core.foundation.class_file import ClassEntry, ClassFile, table_of
from evdistill_core.foundation.class_maps import CITYSCAPES_CLASSES
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import SIX_CLASSES

FILE = """
classes: [{name: floor, ids: [0]}, {name: crate, ids: [7], thing: true}]
"""


@pytest.fixture
def masks(tmp_path):
    """Write two images beside masks with the values 0, 7 and 255; return the folder."""
    root = tmp_path / "own"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for k in range(2):
        cv2.imwrite(str(root / "images" / f"{k}.png"), np.zeros((4, 6, 3), np.uint8))
        label = np.zeros((4, 6), np.uint8)
        label[1], label[2] = 7, 255
        cv2.imwrite(str(root / "masks" / f"{k}.png"), label)
    return root


def asked(images, *, given=None, configured=None):
    return classes_of_images(images, given=given, configured=configured, preset="street6")


def test_masks_of_ones_own_are_asked_for(masks):
    with pytest.raises(UnknownClassesError, match=r"0 \(50.0%\), 7 \(25.0%\), 255 \(25.0%\)") as e:
        asked(find_images(masks, "train"))
    assert [c["ids"] for c in yaml.safe_load(e.value.skeleton)["classes"]] == [[0], [7]]


def test_the_first_who_says_it_wins(masks, tmp_path):
    images = find_images(masks, "train")
    (tmp_path / "given.yaml").write_text(FILE.replace("crate", "given"))
    (masks / "classes.yaml").write_text(FILE)
    given, origin = asked(images, given=str(tmp_path / "given.yaml"), configured="six")
    assert table_of(given).names == ("floor", "given")
    assert origin.endswith("given.yaml")
    beside, origin = asked(images, configured="six")
    assert table_of(beside).names == ("floor", "crate")
    assert origin == str(masks / "classes.yaml")
    (masks / "classes.yaml").unlink()
    assert asked(images, configured="six") == ("six", "the configuration")
    assert asked(images, given="cityscapes19")[0] == "cityscapes19"
    with pytest.raises(ConfigError, match="did you mean 'cityscapes19'"):
        asked(images, given="cityscapes91")


def test_labels_of_published_sets_are_not_asked_for(tmp_path, make_camvid):
    make_camvid(tmp_path)
    images = find_images(tmp_path, "train")
    assert images.layout == "camvid"
    assert asked(images) == ("street6", "the layout camvid")


def test_own_masks_in_camvids_folders_are_asked_for(tmp_path, make_camvid):
    make_camvid(tmp_path, stems=("frame_1", "frame_2"))
    images = find_images(tmp_path, "train")
    assert (images.layout, images.labels) == ("folders", "labels/train")
    with pytest.raises(UnknownClassesError):
        asked(images)
    named = find_images(tmp_path, "train", layout="camvid")
    assert asked(named)[0] == "street6"
    assert LabelledImages(named)[0].label.max() == 255


def test_yolo_names_are_classes_and_numbers_without_names_are_asked_for(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind / "train").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "images/train/a.png"), np.zeros((4, 6, 3), np.uint8))
    (tmp_path / "labels/train/a.txt").write_text("5 0 0 1 0 1 1\n5 0 0 1 0 1 1")
    images = find_images(tmp_path, "train")
    assert images.layout == "yolo-seg"
    with pytest.raises(UnknownClassesError, match=r"5 \(100.0%\) of the polygons"):
        asked(images)
    (tmp_path / "data.yaml").write_text("names: {5: dog}")
    classes, origin = asked(images)
    assert origin == f"the names in {tmp_path}"
    table = table_of(classes)
    assert (table.names, table.thing_ids) == (("dog",), (0,))
    assert (LabelledImages(images, table)[0].label == 0).any()


def experiment(*parts):
    return [SourceConfig(name=f"s{k}", **part) for k, part in enumerate(parts)]


def test_an_experiment_names_its_classes_or_is_asked(masks, make_camvid, tmp_path):
    make_camvid(tmp_path / "camvid")
    camvid = ImagesConfig(root=tmp_path / "camvid")
    own = find_images(masks, "train")

    def of(*images, given=None, configured=None):
        data = experiment(*({"simulation": SimulationConfig(images=i)} for i in images))
        return classes_of_experiment(data, given=given, configured=configured, preset="six")

    assert of(camvid) == ("six", "published sets")
    with pytest.raises(UnknownClassesError):
        of(camvid, own)
    assert of(camvid, own, configured=("a", "b")) == (("a", "b"), "the experiment")
    assert of(own, given="street6", configured="eleven")[0] == "street6"
    named = replace(own, names=("floor",))
    assert of(named)[0] == "six"
    (masks / "classes.yaml").write_text(FILE)
    assert isinstance(of(camvid, own)[0], ClassFile)


def test_masks_of_recordings_mean_what_is_said_beside_them_or_by_the_student(masks, tmp_path):
    folders = (masks,)
    data = experiment({"recorded": RecordedMasksConfig(paths=folders)})
    with pytest.raises(UnknownClassesError):
        classes_of_experiment(data, given=None, configured=None, preset="six")
    with pytest.raises(UnknownClassesError, match="7"):
        classes_of_recordings(folders, SIX_CLASSES, given=None)
    assert classes_of_recordings(folders, SIX_CLASSES, given="street6")[0].masks is not None
    (tmp_path / "classes.yaml").write_text(FILE)  # above the folder
    student = chosen(str(tmp_path / "classes.yaml")).table()
    assert classes_of_recordings(folders, student, given=None) == (
        student,
        str(tmp_path / "classes.yaml"),
    )
    with pytest.raises(ConfigError, match="'floor' of the masks is none of"):
        classes_of_recordings(folders, CITYSCAPES_CLASSES, given=None)
    (tmp_path / "classes.yaml").unlink()
    assert classes_of_recordings(folders, student, given=None) == (student, "the student")


def test_class_files_in_folders_of_recordings_must_agree(tmp_path):
    folders = [tmp_path / "drives" / name for name in "ab"]
    for folder in folders:
        (folder / "masks").mkdir(parents=True)
        (folder / "classes.yaml").write_text(FILE)
    student = chosen(str(folders[0] / "classes.yaml")).table()

    def of(*paths):
        return classes_of_recordings(paths, student, given=None)[1]

    assert of(tmp_path / "drives") == str(folders[0] / "classes.yaml")
    (folders[1] / "classes.yaml").write_text(FILE.replace("7", "8"))
    with pytest.raises(ConfigError, match=r"a/classes\.yaml and .*b/classes\.yaml differ"):
        of(tmp_path / "drives")
    (tmp_path / "drives" / "classes.yaml").write_text(FILE)  # further away than their own
    assert of(folders[0]) == str(folders[0] / "classes.yaml")


def test_parts_of_a_configuration_come_once():
    images = ImagesConfig(root=Path("a"))
    other = ImagesConfig(root=Path("b"))
    config = {"x": [images, (other,)], "y": images, "z": 3}
    assert list(parts_of(config, ImagesConfig)) == [images, other]


def test_the_values_of_a_set_win_over_the_class_file(masks):
    table = ClassFile(
        classes=(ClassEntry(name="floor", ids=(0,)), ClassEntry(name="crate", ids=(7,), thing=True))
    ).table()
    own = LabelledImages(find_images(masks, "train"), table)
    assert np.unique(own[0].label).tolist() == [0, 1, 255]
    other = replace(find_images(masks, "train"), names=("crate", *"abcdef", "floor"))
    assert np.unique(LabelledImages(other, table)[0].label).tolist() == [0, 1, 255]
    assert own[0].label[0, 0] == 0
    assert LabelledImages(other, table)[0].label[0, 0] == 1
