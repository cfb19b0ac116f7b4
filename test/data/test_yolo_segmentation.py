"""Polygons in YOLO's layout: the numbers of a real set, what lies where, and damaged files."""

import contextlib
from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.data.masks import UnknownValuesError
from evdistill_core.data.yolo_segmentation import (
    Polygon,
    YoloSegmentation,
    draw_polygons,
    is_yolo,
    read_polygons,
    yolo_classes,
    yolo_names,
)
from evdistill_core.foundation.class_file import ClassEntry, ClassFile
from evdistill_core.foundation.class_maps import named_classes
from evdistill_core.foundation.errors import ConfigError, DataError

SQUARE = "0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75"
INNER = "1 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6"
TWO = named_classes(("box", "dot"))


def make_set(root, labels, *, split="train", by_split=False, size=(20, 40)):
    """Write grey images and label files; text None: no label file."""
    folders = [
        root / split / kind if by_split else root / kind / split for kind in ("images", "labels")
    ]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for stem, text in labels.items():
        cv2.imwrite(str(folders[0] / f"{stem}.png"), np.full((*size, 3), 90, np.uint8))
        if text is not None:
            (folders[1] / f"{stem}.txt").write_text(text, encoding="utf-8")


def test_the_golden_numbers_of_coco128(shared_data):
    root = shared_data / "coco128-seg"
    assert is_yolo(root, "train2017")
    names = [f"c{k}" for k in range(80)]
    source = YoloSegmentation(root, "train2017", named_classes(tuple(names)))
    assert len(source.names) == 128
    assert source.notes == [
        "2 images without a label file: no object is in them",
        "2 label files without an image, not used",
    ]
    polygons, images = Counter(), Counter()
    for path in sorted((root / "labels" / "train2017").glob("*.txt")):
        numbers = [p.number for p in read_polygons(path)]
        polygons.update(numbers)
        images.update(set(numbers))
    assert (polygons[0], images[0]) == (261, 62)
    assert (polygons[2], images[2]) == (48, 13)
    image = cv2.imread(str(source.image_path(0)))
    label = source.label(0, height=image.shape[0], width=image.shape[1])
    assert label.shape == image.shape[:2]
    assert set(np.unique(label)) - {255}


def test_every_way_in_which_the_folders_lie(tmp_path):
    ways = {"a": {}, "b": {"by_split": True}, "c": {"split": ""}}
    for name, how in ways.items():
        make_set(tmp_path / name, {"x": SQUARE, "y": ""}, **how)
        assert is_yolo(tmp_path / name, "train")
        source = YoloSegmentation(tmp_path / name, "train", TWO)
        assert source.names == ["x.png", "y.png"]
        assert (source.label(0, height=20, width=40) == 0).sum() == pytest.approx(200, abs=40)
        assert (source.label(1, height=20, width=40) == 255).all()
    make_set(tmp_path / "a", {"z": INNER}, split="val")
    assert YoloSegmentation(tmp_path / "a", "train+val", TWO).names == ["x.png", "y.png", "z.png"]
    with pytest.raises(DataError, match="no split 'test'; there are train, val"):
        YoloSegmentation(tmp_path / "a", "test", TWO)
    with pytest.raises(DataError, match="there are none"):
        YoloSegmentation(tmp_path / "nothing", "test", TWO)
    assert not is_yolo(tmp_path / "nothing", "train")


def test_the_smaller_polygon_is_on_top_and_the_rest_is_background():
    both = [_parsed(INNER), _parsed(SQUARE)]
    for polygons in (both, both[::-1]):
        label, _ = draw_polygons(polygons, {0: 0, 1: 1}, height=100, width=200, background=7)
        assert label[50, 100] == 1
        assert label[30, 60] == 0
        assert label[10, 10] == 7
        # 0.25 .. 0.75 of 200 columns, pixel k covers k .. k + 1
        assert np.flatnonzero(label[30] == 0)[[0, -1]] == pytest.approx([50, 149], abs=1)


def test_a_thing_of_no_class_has_a_number_of_its_own_where_it_covers_none():
    """A tie (254) lies on a person, a bag beside it: the tie's pixels stay the person's."""
    person = Polygon(0, np.array([[0.1, 0.1], [0.5, 0.1], [0.5, 0.9], [0.1, 0.9]]))
    tie = Polygon(1, np.array([[0.2, 0.2], [0.3, 0.2], [0.3, 0.5], [0.2, 0.5]]))
    bag = Polygon(1, np.array([[0.6, 0.6], [0.8, 0.6], [0.8, 0.8], [0.6, 0.8]]))
    label, objects = draw_polygons(
        [person, tie, bag], {0: 4, 1: 254}, height=100, width=100, background=254
    )
    assert (label[50, 40], objects[50, 40]) == (4, 1)
    assert (label[30, 25], objects[30, 25]) == (255, 1)
    assert (label[70, 70], objects[70, 70]) == (254, 2)
    assert (label[95, 95], objects[95, 95]) == (254, 0)


def _parsed(line):
    words = line.split()
    return Polygon(int(words[0]), np.array(words[1:], float).reshape(-1, 2))


def _inside(points, x, y):
    """Even-odd rule, one point at a time."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            crossings += 1
    return crossings % 2 == 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 999)] * 2), min_size=3, max_size=6, unique=True))
def test_drawing_agrees_with_a_slow_reference(points):
    height, width = 24, 32
    points = np.array(points) / 999
    shape = {"height": height, "width": width, "background": 0}
    label, objects = draw_polygons([Polygon(0, points)], {0: 1}, **shape)
    assert np.array_equal(label, objects)
    scaled = points * (width, height)
    for row, column in np.ndindex(height, width):
        place = np.array([column + 0.5, row + 0.5])
        start, step = scaled, np.roll(scaled, -1, axis=0) - scaled
        along = ((place - start) * step).sum(1) / np.maximum((step**2).sum(1), 1e-12)
        nearest = start + np.clip(along, 0, 1)[:, None] * step
        if np.hypot(*(place - nearest).T).min() > 1.5:  # OpenCV draws the outline too
            assert label[row, column] == _inside(scaled, *place)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.1 0.2 0.3 zero 0.5 0.6", "'zero' is no number"),
        ("0 0.1 0.2 0.3 0.4 0.5 nan", "got nan"),
        ("0 0.1 0.2 0.3 0.4 0.5 inf", "got inf"),
        ("0 0.1 0.2 0.3 0.4 0.5", "at least 3 points, got 5 numbers"),
        ("0 0.1 0.2 0.3 0.4 0.5 0.6 0.7", "at least 3 points, got 7 numbers"),
        ("0 0.1 0.2", "got 2 numbers"),
        ("0", "got 0 numbers"),
        ("0 0.5 0.5 0.2 0.2", "this is a box"),
        ("1.5 0.1 0.2 0.3 0.4 0.5 0.6", "class number"),
        ("-1 0.1 0.2 0.3 0.4 0.5 0.6", "class number"),
        ("person 0.1 0.2 0.3 0.4 0.5 0.6", "class number"),
        ("0 10 20 30 40 50 60", "are these pixels"),
        ("0 0.1 0.2 -0.3 0.4 0.5 0.6", "got -0.3"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, said):
    path = tmp_path / "x.txt"
    path.write_text(f"{SQUARE}\n\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=said) as error:
        read_polygons(path)
    assert "x.txt, line 3" in str(error.value)


words = st.sampled_from(["0", "1", "0.5", "1.0", "-0", "1e-3", "nan", "x", "\n", "\r", "9" * 400])


@given(st.lists(words, max_size=24))
def test_whatever_a_file_holds_it_is_polygons_or_an_error_of_ours(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("labels") / "x.txt"
    path.write_text(" ".join(content), encoding="utf-8")
    with contextlib.suppress(DataError):
        for polygon in read_polygons(path):
            assert polygon.points.min() >= 0
            assert polygon.points.max() <= 1


def test_rounding_beyond_the_edge_is_moved_inside(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("0 -0.004 0 1.002 0 1 1.0001\r\n", encoding="utf-8")
    (polygon,) = read_polygons(path)
    assert polygon.points.tolist() == [[0, 0], [1, 0], [1, 1]]
    assert polygon.area == pytest.approx(0.5)


def test_files_that_are_no_text_and_files_that_are_missing(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"x\.txt"):
        read_polygons(path)
    path.write_bytes(b"")
    assert read_polygons(path) == []
    make_set(tmp_path / "set", {"a": None, "b": SQUARE})
    source = YoloSegmentation(tmp_path / "set", "train", TWO)
    assert source.notes == ["1 image without a label file: no object is in them"]
    assert (source.label(0, height=4, width=4) == 255).all()


def test_numbers_names_and_positions(tmp_path):
    make_set(tmp_path, {"a": SQUARE, "b": INNER})
    by_id = ClassFile(
        classes=(ClassEntry(name="dot", ids=(1,)),), ignore=(0,), background="dot"
    ).table()
    source = YoloSegmentation(tmp_path, "train", by_id)
    label = source.label(0, height=20, width=40)
    assert label[10, 20] == 255  # ignored, though background is a class
    assert label[0, 0] == 0
    dots = ClassFile(classes=(ClassEntry(name="dot", ids=(1,)),)).table()
    with pytest.raises(UnknownValuesError, match=r"a\.txt holds the value 0 \(1 polygon\)"):
        YoloSegmentation(tmp_path, "train", dots).label(0, height=20, width=40)
    rest = ClassFile(classes=(ClassEntry(name="dot"),), ignore="rest").table()
    (tmp_path / "data.yaml").write_text("names: {0: square, 1: dot}", encoding="utf-8")
    source = YoloSegmentation(tmp_path, "train", rest)
    assert (source.label(0, height=20, width=40) == 255).all()
    assert source.label(1, height=20, width=40)[10, 20] == 0
    with pytest.raises(DataError, match=r"'box' is none of the names in data\.yaml"):
        YoloSegmentation(tmp_path, "train", TWO)


def test_names_on_disk(tmp_path):
    assert yolo_classes(tmp_path) is None
    (tmp_path / "classes.yaml").write_text("names: [not, ours]", encoding="utf-8")
    (tmp_path / "coco.yaml").write_text("path: x\nnames: [cat, dog]", encoding="utf-8")
    assert yolo_names(tmp_path) == {0: "cat", 1: "dog"}
    file = yolo_classes(tmp_path)
    assert file is not None
    assert file.table().thing_ids == (0, 1)
    (tmp_path / "data.yaml").write_text("names: {0: a, 7: b}", encoding="utf-8")
    assert yolo_names(tmp_path) == {0: "a", 7: "b"}
    for wrong in ("{a: b}", "{0: a, 1: a}", "5", "[1]", "[a, a]", "{-1: a}"):
        (tmp_path / "data.yaml").write_text(f"names: {wrong}", encoding="utf-8")
        with pytest.raises(DataError, match=r"data\.yaml: names must be"):
            yolo_names(tmp_path)


def test_what_lies_outside_of_all_polygons_is_none_of_the_classes_of_the_map(tmp_path):
    third = "2 0.0 0.0 0.1 0.0 0.1 0.1"
    make_set(tmp_path, {"x": f"{SQUARE}\n{INNER}\n{third}", "y": None})
    names = ("car", "tyre", "dog")
    table = named_classes(("road", "vehicle", "human"))
    source = YoloSegmentation(
        tmp_path, "train", table, number_names=names, class_map={"car": "vehicle"}
    )
    assert source.complete_for == ("vehicle",)
    label = source.label(0, height=20, width=40)
    assert (label[0, 0], label[19, 39], label[6, 12]) == (254, 254, 1)
    assert label[10, 20] == 255  # a tyre on a car: of the car, or a thing of its own
    assert (source.label(1, height=20, width=40) == 254).all()  # no object is in it


def test_whoever_marks_nothing_completely_ignores_what_lies_outside(tmp_path):
    make_set(tmp_path, {"x": SQUARE})
    table = named_classes(("road", "box"))
    how = {"number_names": ("box",), "class_map": {"box": "box"}}
    source = YoloSegmentation(tmp_path, "train", table, complete_for=(), **how)
    assert source.complete_for == ()
    assert set(np.unique(source.label(0, height=20, width=40))) == {1, 255}
    # Where every class is marked, nothing is left that the rest could be.
    only = YoloSegmentation(tmp_path, "train", named_classes(("box",)), **how)
    assert only.complete_for == ()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"class_map": {"lorry": "box"}}, "'lorry', which is no class of the poly"),
        ({"class_map": {"box": "dots"}}, "'dots', which is no class of.*did you mean 'dot'"),
        ({"class_map": {"box": "box"}, "complete_for": ("b",)}, "complete_for names 'b'"),
        ({"class_map": {"box": "box"}, "complete_for": ("box", "dot")}, "names every class"),
    ],
)
def test_maps_that_lead_nowhere_are_refused(tmp_path, how, said):
    make_set(tmp_path, {"x": SQUARE})
    with pytest.raises(ConfigError, match=said):
        YoloSegmentation(tmp_path, "train", TWO, number_names=("box",), **how)


def test_a_map_of_numbers_without_names_is_refused(tmp_path):
    make_set(tmp_path, {"x": SQUARE})
    with pytest.raises(ConfigError, match=r"have none: say them in data\.yaml"):
        YoloSegmentation(tmp_path, "train", TWO, class_map={"box": "box"})
