import pytest

from evdistill_core.foundation.suggestions import did_you_mean, near_path


@pytest.mark.parametrize(
    ("name", "near"),
    [("Voxle", "voxel"), ("time-surface", "time_surface"), ("nothing", None), ("", None)],
)
def test_the_nearest_name_whatever_its_case_and_dashes(name, near):
    expected = "" if near is None else f"; did you mean '{near}'?"
    assert did_you_mean(name, ["voxel", "counts2", "time_surface"]) == expected


def test_the_nearest_file_beside_one_that_is_not_there(tmp_path):
    (tmp_path / "street.mcap").touch()
    found = near_path(tmp_path / "stret.mcap")
    assert found == f"; did you mean '{tmp_path / 'street.mcap'}'?"
    assert near_path(tmp_path / "house.raw") == ""
    assert near_path(tmp_path / "no_folder" / "street.mcap") == ""
