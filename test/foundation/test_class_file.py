"""Class files: what they say, how they are refused, and that they come back as they were."""

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evdistill_core.foundation.class_file import (
    ClassEntry,
    ClassFile,
    is_class_file,
    named_table,
    read_class_file,
)
from evdistill_core.foundation.class_maps import CLASS_SETS
from evdistill_core.foundation.config import dump_yaml, from_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import CAMVID_CLASSES, SIX_CLASSES, ClassTable

WAREHOUSE = """
classes:
  - {name: floor, ids: [0], color: [128, 64, 128]}
  - {name: shelf, ids: [1]}
  - {name: forklift, ids: [2, 4], color: "#E6194B", thing: true}
  - {name: person, ids: [3], thing: true}
ignore: [255, 254]
background: floor
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "classes.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def parsed(text: str) -> ClassFile:
    return from_mapping(ClassFile, yaml.safe_load(text))


def test_a_file_becomes_a_table(tmp_path):
    table = named_table(str(write(tmp_path, WAREHOUSE)))
    assert table.names == ("floor", "shelf", "forklift", "person")
    assert table.thing_ids == (2, 3)
    assert table.classes[0].color_rgb == (128, 64, 128)
    assert table.classes[2].color_rgb == (0xE6, 0x19, 0x4B)
    assert len({c.color_rgb for c in table.classes}) == 4  # those left out get some of their own
    masks = table.masks
    assert masks is not None
    assert masks.ids == ((0,), (1,), (2, 4), (3,))
    assert masks.ignored_ids == (255, 254)
    assert masks.background == 0
    assert not masks.has_colors
    assert not masks.ignores_rest


def test_the_first_colour_in_masks_is_the_colour():
    table = parsed(
        'classes: [{name: a, colors: ["#ff0000", [1, 2, 3]]}, {name: b, colors: [[9, 9, 9]]}]\n'
        'ignore: ["#000000"]'
    ).table()
    assert [c.color_rgb for c in table.classes] == [(255, 0, 0), (9, 9, 9)]
    assert table.masks is not None
    assert table.masks.colors == (((255, 0, 0), (1, 2, 3)), ((9, 9, 9),))
    assert table.masks.ignored_colors == ((0, 0, 0),)


def test_without_values_the_layout_of_the_data_tells():
    assert parsed("classes: [{name: car}, {name: person}]").table().masks is None
    rest = parsed("{classes: [{name: car}], ignore: rest}").table().masks
    assert rest is not None
    assert rest.ignores_rest
    assert rest.by_position(1).ids == ((0,),)


def test_the_background_needs_no_values():
    masks = parsed("{classes: [{name: a}, {name: b, ids: [4]}], background: a}").table().masks
    assert masks is not None
    assert (masks.ids, masks.background) == (((), (4,)), 0)


def test_a_table_with_masks_comes_back_from_plain_data():
    table = parsed(WAREHOUSE).table()
    assert ClassTable.from_dict(yaml.safe_load(yaml.safe_dump(table.to_dict()))) == table
    # What holds no masks is written as it always was.
    assert isinstance(SIX_CLASSES.to_dict(), list)


colors = st.one_of(
    st.tuples(*[st.integers(0, 255)] * 3), st.from_regex(r"#[0-9a-f]{6}", fullmatch=True)
)
entries = st.builds(
    ClassEntry,
    name=st.text(min_size=1).filter(lambda t: t.strip()),
    thing=st.booleans(),
    color=st.one_of(st.just(""), colors),
)


@given(
    st.lists(entries, min_size=1, max_size=6, unique_by=lambda e: e.name),
    st.one_of(st.just("rest"), st.lists(st.integers(300, 400), unique=True).map(tuple)),
    st.booleans(),
)
def test_files_come_back_as_they_were(rows, ignore, with_ids):
    if with_ids:
        rows = [
            ClassEntry(name=r.name, thing=r.thing, color=r.color, ids=(2 * k, 2 * k + 1))
            for k, r in enumerate(rows)
        ]
    file = ClassFile(classes=tuple(rows), ignore=ignore, background=rows[0].name)
    again = from_mapping(ClassFile, yaml.safe_load(dump_yaml(file)))
    assert again == file
    assert again.table() == file.table()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "ids", "colors", "color", "thing", "classes", "ignore", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["classes", "ignore", "background", "other", "complete_for"]), anything
    )
)
def test_whatever_a_file_holds_it_is_a_table_or_an_error_of_ours(content):
    for read in (lambda c: from_mapping(ClassFile, c).table(), ClassTable.from_dict):
        with contextlib.suppress(ConfigError):
            assert len(read(content)) > 0


@pytest.mark.parametrize(
    "damage",
    [{"ids": [[70_000]]}, {"ids": [[0], [1]]}, {"background": 7}, {"colors": [[[1, 2]]]}, 5],
)
def test_damaged_masks_of_a_table_are_refused(damage):
    rows = [{"name": "a", "color_rgb": [0, 0, 0]}]
    with pytest.raises(ConfigError):
        ClassTable.from_dict({"classes": rows, "masks": damage})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("classes: []", r"1\.\.254 classes"),
        ("{}", "missing key classes"),
        (
            "classes: [{name: a, colour: [1, 2, 3]}]",
            r"key classes\[0\]\.colour; did you mean 'color'",
        ),
        ('classes: [{name: ""}]', "has no name"),
        ('classes: [{name: " ", ids: [7]}]', r"values \[7\] in masks has no name"),
        ("classes: [{name: a}, {name: a}]", "distinct"),
        ("classes: [{name: a, ids: 3}]", r"ids must be a list"),
        ("classes: [{name: a, ids: [65536]}]", r"0\.\.65535, got 65536"),
        ("classes: [{name: a, ids: [-1]}]", r"got -1"),
        ("classes: [{name: a, ids: [1]}, {name: b, ids: [1]}]", "the id 1 of masks is named twice"),
        ("{classes: [{name: a, ids: [1]}], ignore: [1]}", "the id 1 of masks is named twice"),
        ("classes: [{name: a, ids: [1]}, {name: b}]", "'b' has neither ids nor colors"),
        ('classes: [{name: a, color: "ff0000"}]', '"#rrggbb" in quotes'),
        ("classes:\n- name: a\n  color: #ff0000", "color must not be empty"),
        ("classes: [{name: a, color: [0, 0, 256]}]", r"0\.\.255, got \[0, 0, 256\]"),
        ("classes: [{name: a, color: [0, 0]}]", "must hold 3 values"),
        ("classes: [{name: a, thing: maybe}]", "thing must be true or false"),
        ("{classes: [{name: a}], ignore: others}", "the word rest"),
        ("{classes: [{name: a}], background: b}", r"background must be one of \['a'\]"),
        ("{classes: [{name: a}, {name: b}], complete_for: [c]}", "complete_for names 'c'"),
        ("{classes: [{name: a}, {name: b}], complete_for: [b, a]}", "names every class"),
        ("{classes: [{name: a, ids: [0]}], other: [1]}", "name these classes under complete_for"),
        ("{classes: [{name: a, ids: [0]}], other: some}", "other must be a list.*the word rest"),
        (
            "{classes: [{name: a, ids: [0]}, {name: b, ids: [1]}], ignore: rest, other: rest,"
            " complete_for: [a]}",
            "only one of ignore and other",
        ),
        (
            "{classes: [{name: a, ids: [0]}, {name: b, ids: [1]}], other: [1], complete_for: [a]}",
            "the id 1 of masks is named twice",
        ),
        ("[1, 2]", "must hold a mapping"),
        ("classes: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_with_the_name_of_the_file(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=said) as error:
        read_class_file(path)
    assert str(path) in str(error.value)


def test_presets_and_paths():
    assert named_table("street6") == named_table("six") == SIX_CLASSES
    assert named_table("camvid11") == CAMVID_CLASSES
    assert len(named_table("cityscapes19")) == 19
    assert not any(map(is_class_file, CLASS_SETS))
    assert is_class_file("classes.yaml")
    assert is_class_file("my/classes")
    with pytest.raises(ConfigError, match="did you mean 'street6'"):
        named_table("street5")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        named_table("nowhere.yaml")


def test_values_of_other_masks_are_sorted_into_the_classes_of_a_student():
    student = parsed(WAREHOUSE).table()
    other = parsed(
        "{classes: [{name: person, ids: [9]}, {name: floor, ids: [5]}], background: floor, "
        "complete_for: [person]}"
    ).table()
    masks = student.with_masks_of(other).masks
    assert masks is not None
    assert masks.ids == ((5,), (), (), (9,))
    assert masks.background == 0
    assert masks.complete_for == (3,)
    assert student.with_masks_of(other).names == student.names
    # Without values: the positions in the other table.
    positions = student.with_masks_of(parsed("classes: [{name: person}, {name: shelf}]").table())
    assert positions.masks is not None
    assert positions.masks.ids == ((), (1,), (), (0,))
    with pytest.raises(ConfigError, match="'dog' of the masks"):
        student.with_masks_of(parsed("classes: [{name: dog, ids: [0]}]").table())
