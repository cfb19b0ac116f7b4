"""Loaders on files made in exactly the layouts that users have."""

import gzip
import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest

from evdistill_core.data.image_layouts import LAYOUTS, ImageLayout, LabelledImage
from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages, recognition_names
from evdistill_core.foundation.class_file import ClassEntry, ClassFile
from evdistill_core.foundation.class_maps import CITYSCAPES_CLASSES, ELEVEN_CLASSES, named_classes
from evdistill_core.foundation.errors import ConfigError, DataError
from evdistill_core.foundation.labels import SIX_CLASSES

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
    assert list(both.names) == ["0001TP_006690.jpg", "0016E5_00001.jpg", "0016E5_07959.png"]
    unpaired = LabelledImages(ImagesConfig(root=tmp_path, exclude=("0016E5",)))
    assert list(unpaired.names) == ["0001TP_006690.jpg"]
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


@pytest.mark.parametrize("masks", ["labels", "masks", "label", "mask"])
def test_folders_find_their_masks_and_splits(tmp_path, masks):
    for split, size in (("train", 2), ("val", 1)):
        for folder in ("images", masks):
            (tmp_path / folder / split).mkdir(parents=True)
        for i in range(size):
            cv2.imwrite(str(tmp_path / "images" / split / f"{split}{i}.png"), np.zeros((4, 5, 3)))
            cv2.imwrite(str(tmp_path / masks / split / f"{split}{i}.png"), np.full((4, 5), i))

    def opened(split):
        return LabelledImages(ImagesConfig(root=tmp_path, layout="folders", split=split))

    assert opened("train").names == ("train0.png", "train1.png")
    assert opened("train")[1].label.max() == 1
    assert opened("train+val").names == ("train0.png", "train1.png", "val0.png")
    with pytest.raises(DataError, match="no split 'tran'; there are train, val; did you mean"):
        opened("tran")
    named = ImagesConfig(
        root=tmp_path, layout="folders", images="images/val", labels=f"{masks}/val"
    )
    assert LabelledImages(named).names == ("val0.png",)
    if masks != "labels":
        with pytest.raises(DataError, match=f"beside {masks}; .*write layout: folders"):
            LabelledImages(ImagesConfig(root=tmp_path))


def test_folders_without_splits_ignore_the_split_and_count_once(tmp_path):
    for folder in ("images", "labels", "images/notes"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((4, 5, 3)))
    cv2.imwrite(str(tmp_path / "labels" / "a.png"), np.zeros((4, 5)))
    images = LabelledImages(ImagesConfig(root=tmp_path, layout="folders", split="train+val"))
    assert images.names == ("a.png",)


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
    cv2.imwrite(str(path), np.full((36, 48, 3), (0, 0, 9), np.uint8))
    with pytest.raises(DataError, match="colour image"):
        LabelledImages(ImagesConfig(root=tmp_path))[0]
    cv2.imwrite(str(path), np.zeros((35, 48), np.uint8))
    with pytest.raises(DataError, match="its image"):
        LabelledImages(ImagesConfig(root=tmp_path))[0]
    cv2.imwrite(str(path), np.full((36, 48), 12, np.uint8))
    with pytest.raises(DataError, match=r"holds the value 12 \(1,728 pixels\)"):
        LabelledImages(ImagesConfig(root=tmp_path))[0]


def test_real_camvid(shared_data):
    images = LabelledImages(ImagesConfig(root=shared_data / "camvid"))
    assert len(images) == 367
    still = images[0]
    assert still.image.shape == (360, 480, 3)
    assert set(np.unique(still.label)) <= {0, 1, 2, 3, 4, 5, 255}
    lower = still.label[300:][still.label[300:] != 255]
    assert np.mean(lower == 0) > 0.8  # the road lies at the bottom of a driver's view


# labelId: (trainId, eleven, six), by hand from the published tables.
CITYSCAPES_BY_HAND = {
    7: (0, 5, 0),
    8: (1, 6, 0),
    11: (2, 1, 1),
    12: (3, 9, 1),
    13: (4, 2, 1),
    17: (5, 4, 2),
    19: (6, 10, 2),
    20: (7, 10, 2),
    21: (8, 7, 3),
    22: (9, 7, 3),
    23: (10, 0, 1),
    24: (11, 3, 4),
    25: (12, 3, 4),
    26: (13, 8, 5),
    27: (14, 8, 5),
    28: (15, 8, 5),
    31: (16, 8, 5),
    32: (17, 8, 5),
    33: (18, 8, 5),
}


def write_cityscapes(root, split="train", city="aachen", number=0, kind="labelIds"):
    stem = f"{city}_{number:06d}_000019"
    images, labels = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    ids = np.arange(34) if kind == "labelIds" else np.arange(19)
    label = np.tile(np.append(ids, 255).astype(np.uint8), (4, 1))
    cv2.imwrite(str(images / f"{stem}_leftImg8bit.png"), np.zeros((*label.shape, 3), np.uint8))
    cv2.imwrite(str(labels / f"{stem}_gtFine_{kind}.png"), label)
    # What the download also holds, and nobody must take for labels.
    cv2.imwrite(str(labels / f"{stem}_gtFine_color.png"), np.zeros((*label.shape, 3), np.uint8))
    cv2.imwrite(str(labels / f"{stem}_gtFine_instanceIds.png"), label.astype(np.uint16))


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
@pytest.mark.parametrize(
    ("column", "classes"), [(0, CITYSCAPES_CLASSES), (1, ELEVEN_CLASSES), (2, SIX_CLASSES)]
)
def test_cityscapes_labels_become_every_class_set(tmp_path, kind, column, classes):
    write_cityscapes(tmp_path, kind=kind)
    still = LabelledImages(ImagesConfig(root=tmp_path, layout="cityscapes"), classes)[0]
    expected = {i: CITYSCAPES_BY_HAND[i][column] for i in CITYSCAPES_BY_HAND}
    if kind == "labelTrainIds":
        expected = {train: expected[i] for i, (train, _, _) in CITYSCAPES_BY_HAND.items()}
    width = 34 if kind == "labelIds" else 19
    by_hand = [expected.get(i, 255) for i in range(width)] + [255]
    np.testing.assert_array_equal(still.label, np.tile(by_hand, (4, 1)))
    assert still.name == "aachen_000000_000019_leftImg8bit"


def test_cityscapes_cities_splits_and_gaps(tmp_path):
    write_cityscapes(tmp_path, city="aachen")
    write_cityscapes(tmp_path, city="bochum", number=3, kind="labelTrainIds")
    write_cityscapes(tmp_path, "val", "lindau")
    config = ImagesConfig(root=tmp_path, layout="cityscapes", split="train+val")
    assert [n.split("_")[0] for n in LabelledImages(config).names] == ["aachen", "bochum", "lindau"]
    part = ImagesConfig(root=tmp_path, layout="cityscapes", split="train", exclude=("aachen_",))
    assert len(LabelledImages(part)) == 1
    with pytest.raises(ConfigError, match=r"cityscapes labels mean for the classes \['a', 'b'\]"):
        LabelledImages(config, named_classes(("a", "b")))
    two = LabelledImages(config, named_classes(("sky", "bus")))[0].label
    assert (two[0, 23], two[0, 28], two[0, 7]) == (0, 1, 255)  # labelIds of sky, bus and road
    next(tmp_path.glob("gtFine/train/bochum/*labelTrainIds.png")).unlink()
    with pytest.raises(DataError, match="has no label file"):
        LabelledImages(part)
    with pytest.raises(DataError, match="does not exist"):
        LabelledImages(ImagesConfig(root=tmp_path, layout="cityscapes", split="test"))


@pytest.fixture
def class_folders(tmp_path):
    """Three pictures of two classes, and what else lies about in such folders."""
    for path, grey in (("train/cat/b.png", 10), ("train/cat/a.jpg", 20), ("train/dog/c.png", 30)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / path), np.full((6, 8, 3), grey, np.uint8))
    (tmp_path / "train/cat/readme.txt").write_text("no picture")
    (tmp_path / "train/.cache").mkdir()
    return tmp_path


def test_class_folders_are_one_class_each(class_folders):
    config = ImagesConfig(root=class_folders, layout="class-folders")
    assert recognition_names(config) == ("cat", "dog")
    images = LabelledImages(config, named_classes(("cat", "dog")))
    assert list(images.names) == ["cat/a.jpg", "cat/b.png", "dog/c.png"]
    assert [int(images[i].image[0, 0, 0]) for i in range(3)] == [20, 10, 30]
    for i, expected in enumerate((0, 0, 1)):
        np.testing.assert_array_equal(images[i].label, np.full((6, 8), expected))
    below = ImagesConfig(root=class_folders / "train", layout="class-folders", split=".")
    assert len(LabelledImages(below, named_classes(("cat", "dog")))) == 3


def test_class_folders_map_and_ignore(class_folders):
    config = ImagesConfig(root=class_folders, layout="class-folders")
    with pytest.raises(DataError, match="'dog'"):
        LabelledImages(config, named_classes(("cat",)))
    mapped = ImagesConfig(root=class_folders, layout="class-folders", class_map={"dog": "animal"})
    images = LabelledImages(mapped, named_classes(("stone", "animal")))
    assert list(images.names) == ["dog/c.png"]
    assert images[0].label[0, 0] == 1
    with pytest.raises(DataError, match=r"split: \."):
        LabelledImages(ImagesConfig(root=class_folders, layout="class-folders", split="test"))


def write_idx(path, array, *, pack):
    head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    data = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if pack else data)


DIGITS = named_classes(tuple("0123456789"))


@pytest.mark.parametrize("pack", [False, True])
def test_mnist_idx_files(tmp_path, pack):
    pictures = np.random.default_rng(0).integers(0, 256, (5, 28, 28))
    ids = np.array([3, 0, 9, 9, 1])
    end = ".gz" if pack else ""
    write_idx(tmp_path / f"train-images-idx3-ubyte{end}", pictures, pack=pack)
    write_idx(tmp_path / f"train-labels-idx1-ubyte{end}", ids, pack=pack)
    write_idx(tmp_path / f"t10k-images.idx3-ubyte{end}", pictures[:2], pack=pack)
    write_idx(tmp_path / f"t10k-labels.idx1-ubyte{end}", ids[:2], pack=pack)
    images = LabelledImages(ImagesConfig(root=tmp_path, layout="mnist"), DIGITS)
    for i in range(5):
        np.testing.assert_array_equal(images[i].image[..., 2], pictures[i])
        np.testing.assert_array_equal(images[i].label, np.full((28, 28), ids[i]))
    assert (
        len(LabelledImages(ImagesConfig(root=tmp_path, layout="mnist", split="test"), DIGITS)) == 2
    )
    part = LabelledImages(ImagesConfig(root=tmp_path, layout="mnist", skip=3, limit=1), DIGITS)
    np.testing.assert_array_equal(part[0].image[..., 0], pictures[3])


def test_damaged_idx_files_are_refused(tmp_path):
    config = ImagesConfig(root=tmp_path, layout="mnist")
    images, labels = (tmp_path / f"train-{k}-ubyte" for k in ("images-idx3", "labels-idx1"))
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        LabelledImages(config, DIGITS)
    write_idx(labels, np.array([1, 2]), pack=False)
    noise = np.random.default_rng(0).bytes(729)  # does not shrink
    for content, match in (
        (b"", "no idx file"),
        (b"\0\0\x0d\x03" + bytes(12), "no idx file"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 2, 28, 28) + bytes(99), "holds 99"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "damaged"),
        (b"\x1f\x8b\x08\0 no gzip", "cannot read"),
        (gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 9, 9, 9) + noise)[:90], "cannot read"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 1, 2, 2) + bytes(4), "1 images"),
    ):
        images.write_bytes(content)
        with pytest.raises(DataError, match=match):
            LabelledImages(config, DIGITS)


def test_the_real_mnist_part(shared_data):
    config = ImagesConfig(
        root=shared_data / "mnist",
        layout="mnist",
        images="images-9900-idx3-ubyte.gz",
        labels="labels-9900-idx1-ubyte.gz",
    )
    images = LabelledImages(config, DIGITS)
    assert len(images) == 9900
    assert {int(images[i].label[0, 0]) for i in range(200)} == set(range(10))
    assert images[0].image.shape == (28, 28, 3)
    assert images[0].image.max() == 255


def test_coco_says_where_people_and_vehicles_are_and_that_the_rest_is_neither(shared_data):
    root = shared_data / "coco128-seg"
    images = LabelledImages(ImagesConfig(layout="coco-seg", root=root, split="train2017"))
    assert images.complete_for == ("human", "vehicle")
    assert images.excluded.tolist() == [False, False, False, False, True, True]
    counts, holding = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for i in range(len(images)):
        of_image = np.bincount(images[i].label.ravel(), minlength=256)
        counts, holding = counts + of_image, holding + (of_image > 0)
    assert {k: int(holding[k]) for k in np.flatnonzero(holding)} == {
        2: 6, 4: 61, 5: 24, 254: 128, 255: 40
    }  # fmt: skip
    assert counts[254] / counts.sum() == pytest.approx(0.8886, abs=1e-3)
    assert counts[4] / counts.sum() == pytest.approx(0.0823, abs=1e-3)
    assert counts[5] / counts.sum() == pytest.approx(0.0262, abs=1e-3)


def test_coco_in_classes_of_a_users_own(shared_data):
    config = ImagesConfig(layout="coco-seg", root=shared_data / "coco128-seg", split="train2017")
    own = LabelledImages(config, named_classes(("floor", "dog", "person")))
    assert own.complete_for == ("dog", "person")
    things = LabelledImages(config, named_classes(("dog", "person")))
    assert things.excluded is None  # nothing is left that the rest could be
    with pytest.raises(ConfigError, match="has the name of a class of COCO"):
        LabelledImages(config, named_classes(("floor", "shelf")))


def own_folder(root, label=(0, 1, 2, 9, 255)):
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    cv2.imwrite(str(root / "images" / "a.png"), np.zeros((4, 5, 3), np.uint8))
    cv2.imwrite(str(root / "labels" / "a.png"), np.array([label] * 4, np.uint8))


OWN = (ClassEntry(name="floor", ids=(0,)), ClassEntry(name="lorry", ids=(1, 2), thing=True))


def test_own_masks_say_which_values_are_none_of_a_class(tmp_path):
    own_folder(tmp_path)
    table = ClassFile(classes=OWN, complete_for=("lorry",), other=(9,)).table()
    config = ImagesConfig(root=tmp_path, layout="folders")
    images = LabelledImages(config, table)
    assert images.excluded.tolist() == [False, True]
    assert images[0].label[0].tolist() == [0, 1, 1, 254, 255]
    ignoring = LabelledImages(replace(config, complete_for=()), table)
    assert ignoring.excluded is None
    assert ignoring[0].label[0].tolist() == [0, 1, 1, 255, 255]
    plain = ClassFile(classes=OWN, ignore=(9,)).table()
    with pytest.raises(ConfigError, match=r"no value means that.*under other"):
        LabelledImages(replace(config, complete_for=("lorry",)), plain)


def test_names_that_a_map_leaves_out_are_none_of_a_class(tmp_path):
    own_folder(tmp_path, (0, 1, 2, 3, 255))
    config = ImagesConfig(
        root=tmp_path,
        layout="folders",
        names=("asphalt", "lorry", "sticker", "void"),
        class_map={"asphalt": "flat", "lorry": "vehicle"},
        complete_for=("vehicle",),
    )
    images = LabelledImages(config)
    assert images.complete_for == ("vehicle",)
    assert images[0].label[0].tolist() == [0, 5, 254, 255, 255]  # void: nobody looked
    every = {**config.class_map, "sticker": "object"}
    with pytest.raises(ConfigError, match=r"every one of .* has a class or is unknown"):
        LabelledImages(replace(config, class_map=every))


def test_a_part_of_cityscapes_is_none_of_the_rest(tmp_path):
    images, labels = (tmp_path / k / "train" / "x" for k in ("leftImg8bit", "gtFine"))
    for folder in (images, labels):
        folder.mkdir(parents=True)
    cv2.imwrite(str(images / "a_leftImg8bit.png"), np.zeros((4, 4, 3), np.uint8))
    ids = np.array([[7, 26, 24, 29]] * 4, np.uint8)  # road, car, person, caravan (not trained)
    cv2.imwrite(str(labels / "a_gtFine_labelIds.png"), ids)
    config = ImagesConfig(
        root=tmp_path,
        layout="cityscapes",
        class_map={"road": "flat", "car": "vehicle"},
        complete_for=("vehicle",),
    )
    still = LabelledImages(config)[0]
    assert still.label[0].tolist() == [0, 5, 254, 255]


def test_a_class_file_says_which_polygons_are_complete(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind / "train").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "images" / "train" / "a.png"), np.zeros((20, 20, 3), np.uint8))
    text = "1 0 0 0.4 0 0.4 0.4 0 0.4\n7 0.6 0.6 0.9 0.6 0.9 0.9"
    (tmp_path / "labels" / "train" / "a.txt").write_text(text, encoding="utf-8")
    config = ImagesConfig(root=tmp_path, layout="yolo-seg")
    said = ClassFile(classes=OWN, complete_for=("lorry",), other="rest").table()
    images = LabelledImages(config, said)
    assert images.excluded.tolist() == [False, True]
    assert set(np.unique(images[0].label)) == {1, 254}
    ignoring = ClassFile(classes=OWN, complete_for=("lorry",), ignore=(7,)).table()
    label = LabelledImages(config, ignoring)[0].label
    assert (label[3, 3], label[1, 15]) == (1, 254)
    assert label[13, 16] == 255


def test_complete_for_is_refused_where_nothing_lies_outside(tmp_path, make_camvid):
    make_camvid(tmp_path)
    with pytest.raises(ConfigError, match=r"every one of .* has a class or is unknown"):
        LabelledImages(ImagesConfig(root=tmp_path, complete_for=("vehicle",)))
    (tmp_path / "train" / "dog").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "train" / "dog" / "a.png"), np.zeros((4, 4, 3), np.uint8))
    config = ImagesConfig(root=tmp_path, layout="class-folders", complete_for=("dog",))
    with pytest.raises(ConfigError, match="class-folders does not mark classes completely"):
        LabelledImages(config, named_classes(("dog", "cat")))


def test_a_layout_of_a_plugin_must_say_of_what_its_labels_are_none(tmp_path, monkeypatch):
    class Source:
        names = ("a",)

        def read(self, number):
            del number
            return LabelledImage("a", np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 254, np.uint8))

    monkeypatch.setitem(LAYOUTS.own, "guest", ImageLayout(lambda config, classes: Source()))
    config = ImagesConfig(root=tmp_path, layout="guest")
    with pytest.raises(ConfigError, match="guest opens lacks the attribute complete_for"):
        LabelledImages(config)
    Source.complete_for = ()
    with pytest.raises(DataError, match="does not say of which"):
        LabelledImages(config)[0]
    Source.complete_for = ("vehicle",)
    assert LabelledImages(config).excluded.tolist() == [False] * 5 + [True]
    assert (LabelledImages(config)[0].label == 254).all()


def test_complete_for_is_a_list_or_auto(tmp_path):
    with pytest.raises(ConfigError, match="complete_for is a list of classes, or auto"):
        ImagesConfig(root=tmp_path, complete_for="vehicle")
