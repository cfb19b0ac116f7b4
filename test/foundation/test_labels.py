import numpy as np
import pytest

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import (
    CAMVID_NAMES,
    CAMVID_TO_SIX,
    SIX_CLASSES,
    ClassInfo,
    ClassTable,
    excluded_mask,
    lookup_table,
)


def test_camvid_to_six_is_the_table_of_the_paper():
    table = lookup_table(CAMVID_NAMES, CAMVID_TO_SIX, SIX_CLASSES)
    # sky building pole road pavement tree sign fence car pedestrian bicyclist void
    assert table[:12].tolist() == [1, 1, 2, 0, 0, 3, 2, 1, 5, 4, 4, 255]
    assert (table[12:] == 255).all()


def test_class_table_round_trip_and_things():
    assert ClassTable.from_dict(SIX_CLASSES.to_dict()) == SIX_CLASSES
    assert SIX_CLASSES.thing_ids == (4, 5)
    palette = SIX_CLASSES.palette_rgb()
    assert palette.shape == (256, 3)
    assert palette[5].tolist() == [0, 0, 142]
    assert not np.any(palette[255])


def test_wrong_tables_are_refused():
    with pytest.raises(ConfigError, match=r"0\.\.255"):
        ClassInfo("a", (0, 0, 256))
    with pytest.raises(ConfigError, match="distinct"):
        ClassTable((ClassInfo("a", (0, 0, 0)), ClassInfo("a", (1, 1, 1))))
    with pytest.raises(ConfigError, match=r"1\.\.254"):
        ClassTable(())
    with pytest.raises(ConfigError, match=r"'wheel', which is no class of the labels \(.*road"):
        lookup_table(CAMVID_NAMES, {"wheel": "object"}, SIX_CLASSES)
    for rows in ({}, [3], [{"name": "a"}], [{"name": "a", "color_rgb": 5}]):
        with pytest.raises(ConfigError):
            ClassTable.from_dict(rows)


def test_the_classes_that_a_label_set_marks_completely():
    mask = excluded_mask(("vehicle", "human"), SIX_CLASSES)
    assert mask.tolist() == [False, False, False, False, True, True]
    assert excluded_mask((), SIX_CLASSES) is None
    with pytest.raises(ConfigError, match=r"'vehicles', which is none of.*did you mean 'vehicle'"):
        excluded_mask(("vehicles",), SIX_CLASSES)
    with pytest.raises(ConfigError, match="names every class"):
        excluded_mask(SIX_CLASSES.names, SIX_CLASSES)
