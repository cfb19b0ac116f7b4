import pickle
import sys

import cv2
import numpy as np
import pytest

from evdistill_core.data.image_layouts import LAYOUTS
from evdistill_core.data.labelled_images import (
    ImagesConfig,
    LabelledImages,
    find_images,
    recognition_names,
)
from evdistill_core.foundation.errors import ConfigError, DataError

MODULE = """
import numpy as np
from evdistill_core.data.image_layouts import ImageLayout, LabelledImage, MaskImages, mask_reader

def flat_folder(config, classes):
    pairs = [(p, p.with_suffix(".ids.png")) for p in sorted((config.root / config.split).glob("*.jpg"))]
    return MaskImages(pairs, mask_reader(config, classes, ("asphalt", "lorry")))

def find(root, split, names):
    return {"split": split, "class_map": {"lorry": "vehicle"}} if (root / "FLAT").exists() else None

known = ImageLayout(flat_folder, find=find)

class Held:
    def __init__(self):
        self.names = ["a", "b"]
        self.complete_for = ()
        self.handle = open("/dev/null")
    def read(self, number):
        return LabelledImage(self.names[number], np.zeros((4, 6, 3), np.uint8), np.full((4, 6), 1, np.uint8))

def held(config, classes):
    return Held()

number = 3
"""  # noqa: E501


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.setattr(LAYOUTS, "_found", {})
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "my_layouts.py").write_text(MODULE)
    info = tmp_path / "code" / "my_layouts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_layouts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[evdistill.layouts]\nflat = my_layouts:known\n")
    yield
    sys.modules.pop("my_layouts", None)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images" / "day"
    folder.mkdir(parents=True)
    (tmp_path / "images" / "FLAT").touch()
    cv2.imwrite(str(folder / "a.jpg"), np.zeros((4, 6, 3), np.uint8))
    cv2.imwrite(str(folder / "a.ids.png"), np.array([[0, 1, 255] * 2] * 4, np.uint8))
    return tmp_path / "images"


def test_a_function_of_a_users_module_is_a_layout(module, images):
    config = ImagesConfig(
        root=images, layout="my_layouts:flat_folder", split="day", class_map={"asphalt": "flat"}
    )
    assert not config.is_recognition
    (still,) = LabelledImages(config)
    np.testing.assert_array_equal(still.label[0], [0, 255, 255, 0, 255, 255])
    with pytest.raises(ConfigError, match="no class names on disk"):
        recognition_names(config)


def test_an_installed_layout_is_found_out_after_ours(module, images, tmp_path, make_camvid):
    found = find_images(images, "day")
    assert (found.layout, found.class_map) == ("flat", {"lorry": "vehicle"})
    np.testing.assert_array_equal(LabelledImages(found)[0].label[0][:3], [255, 5, 255])
    make_camvid(tmp_path / "both")
    (tmp_path / "both" / "FLAT").touch()
    assert find_images(tmp_path / "both", "train").layout == "camvid"
    assert find_images(tmp_path / "both", "train", layout="flat").layout == "flat"


def test_a_layout_that_cannot_guess_is_taken_when_it_is_named(module, images):
    found = find_images(images, "day", layout="my_layouts:held")
    assert (found.layout, found.split) == ("my_layouts:held", "day")
    with pytest.raises(ConfigError, match=r"one class an image are needed.*my_layouts:held has"):
        find_images(images, "day", layout="my_layouts:held", is_recognition=True)


def test_files_that_a_layout_keeps_open_do_not_go_to_workers(module, images):
    kept = LabelledImages(ImagesConfig(root=images, layout="my_layouts:held", skip=1))
    again = pickle.loads(pickle.dumps(kept))
    assert again.names == ("b",)
    assert again[0].name == "b"


def test_wrong_layouts_are_refused(module, images):
    with pytest.raises(ConfigError, match=r"unknown layout 'camvit'.*did you mean 'camvid'"):
        ImagesConfig(root=images, layout="camvit")
    with pytest.raises(ConfigError, match="is int, neither an ImageLayout nor a function"):
        ImagesConfig(root=images, layout="my_layouts:number")


def test_what_ours_expect_is_said_where_none_fits(tmp_path):
    with pytest.raises(DataError, match=r"one class a pixel: .*leftImg8bit.*CamVid.*masks"):
        find_images(tmp_path, "train")
    with pytest.raises(DataError, match=r"one class an image: .*idx files .*one folder a class"):
        find_images(tmp_path, "train", is_recognition=True)
