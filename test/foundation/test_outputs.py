import os

import pytest

from evdistill_core.foundation.errors import OutputError
from evdistill_core.foundation.outputs import (
    check_file,
    check_folder,
    former_results,
    remove_results,
)

RESULTS = ("report.json", "panels_*.png")


def test_a_file_is_replaced_only_when_told_to(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    check_file(target, overwrite=False)
    assert not target.parent.exists()
    target.parent.mkdir()
    target.touch()
    with pytest.raises(OutputError, match=r"a\.txt is there already: .* --overwrite"):
        check_file(target, overwrite=False)
    check_file(target, overwrite=True)


def test_a_source_is_never_replaced(tmp_path):
    source = tmp_path / "a.txt"
    source.touch()
    (tmp_path / "link.txt").symlink_to(source)
    for target in (source, tmp_path / "link.txt", tmp_path / "x" / ".." / "a.txt"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(OutputError, match="is the source itself"):
            check_file(target, overwrite=True, sources=(source,))


def test_folders_and_files_are_told_apart(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OutputError, match="is a folder: give the name of a file"):
        check_file(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match="is a file: give the name of a folder"):
        check_folder(file, RESULTS, overwrite=True)
    with pytest.raises(OutputError, match=r"cannot be made: .*/file is a file, not a folder"):
        check_file(file / "b" / "a.txt", overwrite=True)
    with pytest.raises(OutputError, match=r"cannot be made: .*/file is a file, not a folder"):
        check_folder(file / "b", RESULTS, overwrite=True)


def test_a_folder_with_a_result_is_refused_and_one_with_other_files_is_not(tmp_path):
    (tmp_path / "notes.md").touch()
    check_folder(tmp_path, RESULTS, overwrite=False)
    (tmp_path / "panels_a.png").touch()
    with pytest.raises(
        OutputError, match=r"holds a result already \(panels_a\.png\): resume it, replace it with"
    ):
        check_folder(tmp_path, RESULTS, overwrite=False, cure="resume it")
    check_folder(tmp_path, RESULTS, overwrite=True)
    with pytest.raises(OutputError, match="is read and would be replaced"):
        check_folder(tmp_path, RESULTS, overwrite=True, sources=(tmp_path / "panels_a.png",))
    remove_results(tmp_path, RESULTS)
    assert former_results(tmp_path, RESULTS) == []
    assert [p.name for p in tmp_path.iterdir()] == ["notes.md"]


def test_no_permission_and_read_only_are_told_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    with pytest.raises(OutputError, match="no permission to write into"):
        check_file(tmp_path / "a" / "b.txt", overwrite=False)
    monkeypatch.setattr(os, "statvfs", lambda place: os.statvfs_result((0,) * 8 + (1, 0)))
    with pytest.raises(OutputError, match=r"/.* is on a read-only file system"):
        check_folder(tmp_path, (), overwrite=False)
