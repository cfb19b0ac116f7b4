"""Masks of every kind that people have: their values, and the errors that name them."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evdistill_core.data.masks import MaskDecoder, UnknownValuesError, decoder_of, read_mask
from evdistill_core.foundation.class_file import ClassEntry, ClassFile
from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import SIX_CLASSES, ClassTable

IDS = ClassFile(
    classes=(ClassEntry(name="a", ids=(0, 7)), ClassEntry(name="b", ids=(3000,))), ignore=(9,)
).table()
RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)
COLORS = ClassFile(
    classes=(ClassEntry(name="a", colors=(RED,)), ClassEntry(name="b", colors=(GREEN, (2, 2, 2)))),
    ignore=(BLACK,),
).table()


def write(folder, array, name="m.png"):
    path = folder / name
    Image.fromarray(np.asarray(array)).save(path)
    return path


def rgb(*colors):
    return np.array([list(colors)] * 2, np.uint8)


def test_ids_of_8_and_16_bits(tmp_path):
    decoder = decoder_of(IDS)
    read = decoder.read(write(tmp_path, np.array([[0, 7, 9, 255]], np.uint8)))
    assert read.dtype == np.uint8
    assert read.tolist() == [[0, 0, 255, 255]]
    path = tmp_path / "wide.png"
    cv2.imwrite(str(path), np.array([[3000, 7]], np.uint16))
    assert decoder.read(path).tolist() == [[1, 0]]


def test_unknown_values_are_listed_with_pixels_and_file(tmp_path):
    path = write(tmp_path, np.array([[0, 5, 5, 8]], np.uint8))
    with pytest.raises(UnknownValuesError, match=r"m\.png holds the values 5 \(2 pixels\), 8 \(1"):
        decoder_of(IDS).read(path)
    with pytest.raises(UnknownValuesError, match=r"a \[0, 7\], b \[3000\]") as error:
        decoder_of(IDS).read(path)
    assert error.value.counts == {5: 2, 8: 1}
    with pytest.raises(UnknownValuesError, match="#010203"):
        decoder_of(COLORS).read(write(tmp_path, rgb(RED, (1, 2, 3))))


def test_rest_is_ignored_where_the_file_says_so(tmp_path):
    table = ClassFile(classes=(ClassEntry(name="a", ids=(1,)),), ignore="rest").table()
    assert decoder_of(table).read(write(tmp_path, np.array([[1, 5]], np.uint8))).tolist() == [
        [0, 255]
    ]
    table = ClassFile(classes=(ClassEntry(name="a", colors=(RED,)),), ignore="rest").table()
    assert decoder_of(table).read(write(tmp_path, rgb(RED, GREEN)))[0].tolist() == [0, 255]


def test_255_is_a_class_where_one_has_it(tmp_path):
    binary = ClassFile(
        classes=(ClassEntry(name="no", ids=(0,)), ClassEntry(name="yes", ids=(255,)))
    ).table()
    assert decoder_of(binary).read(write(tmp_path, np.array([[0, 255]], np.uint8))).tolist() == [
        [0, 1]
    ]


def test_colours_with_and_without_alpha(tmp_path):
    values = rgb(RED, GREEN, BLACK, (2, 2, 2))
    decoder = decoder_of(COLORS)
    assert decoder.read(write(tmp_path, values))[0].tolist() == [0, 1, 255, 1]
    alpha = np.dstack([values, np.full(values.shape[:2], 7, np.uint8)])
    assert decoder.read(write(tmp_path, alpha))[0].tolist() == [0, 1, 255, 1]


def test_a_palette_counts_by_index_or_by_colour(tmp_path):
    image = Image.fromarray(np.array([[0, 7, 1]], np.uint8), "P")
    image.putpalette([*GREEN, *RED, *([0] * 15), *GREEN])
    image.save(tmp_path / "p.png")
    read = read_mask(tmp_path / "p.png", has_ids=True, has_colors=True)
    assert read.codes.tolist() == [[0, 7, 1]]
    assert decoder_of(COLORS).read(tmp_path / "p.png").tolist() == [[1, 1, 0]]
    with pytest.raises(UnknownValuesError, match=r"value 1 \(1 pixel\)"):
        decoder_of(IDS).read(tmp_path / "p.png")


def test_grey_in_three_channels_is_ids_and_colour_is_refused(tmp_path):
    assert decoder_of(IDS).read(write(tmp_path, rgb((7, 7, 7), (9, 9, 9))))[0].tolist() == [0, 255]
    with pytest.raises(DataError, match="colour image"):
        decoder_of(IDS).read(write(tmp_path, rgb(RED, GREEN)))
    grey = write(tmp_path, np.array([[2, 0]], np.uint8))
    assert decoder_of(COLORS).read(grey).tolist() == [[1, 255]]


def test_a_table_without_values_means_positions(tmp_path):
    read = decoder_of(SIX_CLASSES).read(write(tmp_path, np.array([[0, 5, 255]], np.uint8)))
    assert read.tolist() == [[0, 5, 255]]
    with pytest.raises(UnknownValuesError, match="value 6"):
        decoder_of(SIX_CLASSES).read(write(tmp_path, np.array([[6]], np.uint8)))


def test_what_is_no_mask_is_named(tmp_path):
    path = tmp_path / "x.png"
    with pytest.raises(DataError, match=r"x\.png"):
        decoder_of(IDS).read(path)
    path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"x\.png"):
        decoder_of(IDS).read(path)
    # A palette image that is cut off.
    image = Image.fromarray(np.zeros((64, 64), np.uint8), "P")
    image.save(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"x\.png"):
        decoder_of(IDS).read(path)
    cv2.imwrite(str(path), np.zeros((2, 2, 3), np.uint16))
    with pytest.raises(DataError, match="16 bits with one channel"):
        decoder_of(IDS).read(path)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_colours_agree_with_a_loop(tmp_path_factory, data):
    color = st.tuples(*[st.integers(0, 3)] * 3)
    known = data.draw(st.dictionaries(color, st.integers(0, 4), min_size=1, max_size=5))
    pixels = data.draw(st.lists(color, min_size=4, max_size=4))
    path = tmp_path_factory.mktemp("m") / "m.png"
    Image.fromarray(np.array([pixels], np.uint8)).save(path)
    decoder = MaskDecoder({}, known, rest=255, meaning="")
    assert decoder.read(path).tolist() == [[known.get(p, 255) for p in pixels]]


@pytest.mark.parametrize("other", [(9,), "rest"])
def test_values_that_are_none_of_the_complete_classes(tmp_path, other):
    table = ClassFile(
        classes=(ClassEntry(name="a", ids=(0,)), ClassEntry(name="b", ids=(3,))),
        complete_for=("b",),
        other=other,
    ).table()
    assert table.complete_for == ("b",)
    path = write(tmp_path, np.array([[0, 3, 9, 255]], np.uint8))
    assert decoder_of(table).read(path).tolist() == [[0, 1, 254, 255]]
    assert decoder_of(table, other=255).read(path).tolist() == [[0, 1, 255, 255]]
    again = ClassTable.from_dict(table.to_dict())
    assert (again, again.complete_for) == (table, ("b",))


def test_colours_that_are_none_of_the_complete_classes(tmp_path):
    table = ClassFile(
        classes=(ClassEntry(name="a", colors=(RED,)), ClassEntry(name="b", colors=(GREEN,))),
        complete_for=("b",),
        other=((1, 1, 1),),
        ignore=(BLACK,),
    ).table()
    path = write(tmp_path, rgb(RED, GREEN, (1, 1, 1), BLACK))
    assert decoder_of(table).read(path)[0].tolist() == [0, 1, 254, 255]
