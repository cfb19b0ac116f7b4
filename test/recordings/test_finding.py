import pytest

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.finding import find_recordings, is_recording
from evdistill_core.recordings.opening import open_recording


def test_folders_of_recordings_skip_what_is_none(tmp_path):
    for name in ("b.txt", "a.txt", ".hidden"):
        (tmp_path / name).write_text("8 4\n1000 1 2 1\n")
    (tmp_path / "notes.txt").write_text("nothing of interest")
    assert [p.name for p in find_recordings(tmp_path)] == ["a.txt", "b.txt"]
    assert find_recordings(tmp_path / "a.txt") == [tmp_path / "a.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordingError, match="no recording in"):
        find_recordings(tmp_path / "empty")
    with pytest.raises(RecordingError, match="there is no recording"):
        find_recordings(tmp_path / "missing")


def test_a_file_that_is_refused_says_why_and_takes_what_was_said(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{i % 2} {i * 100} {i % 2} {i % 9}\n" for i in range(500)))
    with pytest.raises(RecordingError, match="not clear"):
        find_recordings(path)
    with pytest.raises(RecordingError, match="no recording in"):
        find_recordings(tmp_path)
    reading = {"columns": "xtpy"}
    assert find_recordings(path, reading) == find_recordings(tmp_path, reading) == [path]


def test_a_bag_is_recording(shared_data):
    bag = shared_data / "bags" / "evt3_hd_trigger"
    assert find_recordings(bag) == [bag]


def test_files_of_one_bag_are_told_from_bags_beside_each_other(tmp_path, shared_data):
    (file,) = (shared_data / "bags" / "libcaer_cmp_davis346_tags").glob("*.mcap")
    for folder, names in (
        ("killed", ("drive_0.mcap", "drive_1.mcap")),
        ("bags", ("drive.mcap", "street.mcap")),
    ):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).symlink_to(file)
    assert is_recording(tmp_path / "killed")
    assert find_recordings(tmp_path / "killed") == [tmp_path / "killed"]
    assert [p.name for p in find_recordings(tmp_path / "bags")] == ["drive.mcap", "street.mcap"]
    with pytest.raises(
        RecordingError, match=r"several recordings.*: drive\.mcap, street\.mcap\. Name"
    ):
        open_recording(tmp_path / "bags")
    (tmp_path / "killed" / "notes.md").write_text("no recording")
    assert find_recordings(tmp_path / "killed") == [tmp_path / "killed"]
    (tmp_path / "killed" / "other.txt").write_text("8 4\n1000 1 2 1\n")
    found = [p.name for p in find_recordings(tmp_path / "killed")]
    assert found == ["drive_0.mcap", "drive_1.mcap", "other.txt"]
    with pytest.raises(RecordingError, match=r"several recordings.*: drive_0\.mcap, other\.txt\. "):
        open_recording(tmp_path / "killed")
    whole = shared_data / "bags"
    assert find_recordings(whole) == sorted(p for p in whole.iterdir() if p.is_dir())
