"""Own recordings with own masks: which windows there are, what is in them, what is counted."""

import cv2
import numpy as np
import pytest

from evdistill_core.data.build import SourceConfig, build_evaluation_sets, build_source
from evdistill_core.data.recorded_masks import RecordedMasks, RecordedMasksConfig
from evdistill_core.data.samples import notes_of
from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.class_file import ClassEntry, ClassFile
from evdistill_core.foundation.errors import ConfigError, DataError, RecordingError
from evdistill_core.recordings.writers.npz import NpzWriter
from evdistill_core.representations import InputSpec

SPEC = InputSpec(bins=2, window_us=20_000)
TABLE = ClassFile(
    classes=(ClassEntry(name="floor", ids=(0,)), ClassEntry(name="ball", ids=(3,), thing=True))
).table()
START_US = 1_000_000


@pytest.fixture
def drive(tmp_path):
    """Write a recording of 200 ms with one event a millisecond, and masks; return its folder."""
    folder = tmp_path / "drive"
    (folder / "masks").mkdir(parents=True)
    t_us = START_US + np.arange(0, 200_000, 1000)
    x = np.arange(len(t_us)) % 12
    events = Events.from_columns(x, x % 8, t_us, x % 2, width=12, height=8)
    with NpzWriter(folder / "drive.npz", width=12, height=8) as writer:
        writer.write(events, Triggers.empty())
    for t_us in (1_050_000, 1_020_000, 1_100_500):
        write_mask(folder, str(t_us), t_us // 1000 % 2 * 3)
    return folder


def write_mask(folder, stem, value, size=(8, 12)):
    cv2.imwrite(str(folder / "masks" / f"{stem}.png"), np.full(size, value, np.uint8))


def opened(folder, **how):
    config = RecordedMasksConfig(paths=(folder,), cache=folder.parent / "cache", **how)
    return RecordedMasks(config, SPEC, TABLE)


def test_windows_end_at_their_masks(drive):
    (drive / "masks" / "1050000.png").unlink()
    write_mask(drive, "1050000", 3)
    source = opened(drive)
    assert (len(source), source.notes, source.name) == (3, [], "drive")
    windows = [source.window(k) for k in range(3)]
    assert [w.t_end_us for w in windows] == [1_020_000, 1_050_000, 1_100_500]
    for window in windows:
        assert window.t_start_us == window.t_end_us - 20_000
        inside = np.arange(START_US, START_US + 200_000, 1000)
        inside = inside[(inside >= window.t_start_us) & (inside < window.t_end_us)]
        assert window.events.t_us.tolist() == inside.tolist()
    assert [int(w.labels[0, 0]) for w in windows] == [0, 1, 0]
    sample = source.sample(4)  # begins again
    assert sample.input.shape[0] == 2
    assert sample.label[:8, :12].tolist() == windows[1].labels.tolist()


def test_a_window_may_reach_a_little_beyond_the_events(drive):
    # The windows of `simulate --seconds` begin and end at round times, its events do not.
    for stem in ("1018500", "1200900"):
        write_mask(drive, stem, 0)
    source = opened(drive)
    assert (len(source), source.notes) == (5, [])
    assert len(source.window(0).events) == 19
    assert len(source.window(4).events) == 19


def test_masks_that_are_not_used_are_counted_with_the_reason(drive):
    for stem in ("999999", "1010000", "1250000", "mask_1", "1.5"):
        write_mask(drive, stem, 0)
    (drive / "masks" / "notes.txt").touch()
    source = opened(drive)
    assert len(source) == 3
    assert source.skipped == {
        "not named after a time in microseconds": 2,
        "outside of the recording, or in a gap of it": 2,
        "less than 20 ms after the beginning or a gap": 1,
    }
    assert "2 masks not used: outside of the recording, or in a gap of it" in source.notes


def test_the_edges_of_a_recording(drive):
    for path in (drive / "masks").iterdir():
        path.unlink()
    # Half open: the last event is at 1 199 000, so the recording ends just after it. A tenth of a
    # window, 2 ms, may lie outside.
    for stem in ("1018000", "1017999", "1201001", "1201002"):
        write_mask(drive, stem, 0)
    assert [w.t_end_us for w in map(opened(drive).window, range(2))] == [1_018_000, 1_201_001]


def test_no_mask_in_the_recording_says_where_the_recording_is(drive):
    for path in (drive / "masks").iterdir():
        path.unlink()
    write_mask(drive, "5", 0)
    with pytest.raises(DataError, match=r"none of 1 mask .* 1000000 \.\. 1199001 us"):
        opened(drive)


def test_parts_of_a_list_share_no_window(drive):
    first, second = opened(drive, limit=2), opened(drive, skip=2)
    assert [first.window(k).t_end_us for k in range(2)] == [1_020_000, 1_050_000]
    assert [second.window(k).t_end_us for k in range(len(second))] == [1_100_500]


def test_damaged_masks_are_named(drive):
    write_mask(drive, "1020000", 0, size=(8, 11))
    with pytest.raises(DataError, match=r"1020000\.png is 11x8, the sensor of .* is 12x8"):
        opened(drive).window(0)
    write_mask(drive, "1020000", 4)
    with pytest.raises(DataError, match=r"1020000\.png holds the value 4 \(96 pixels\)"):
        opened(drive).window(0)


def test_folders_that_lack_something(drive, tmp_path):
    with pytest.raises(DataError, match="no labelled recording"):
        opened(tmp_path / "nowhere")
    (tmp_path / "empty" / "masks").mkdir(parents=True)
    with pytest.raises(RecordingError, match="no recording in"):
        opened(tmp_path / "empty")
    second = drive / "other.npz"
    second.write_bytes((drive / "drive.npz").read_bytes())
    with pytest.raises(DataError, match="holds 2 recordings"):
        opened(drive)
    with pytest.raises(ConfigError, match="paths"):
        RecordedMasksConfig(paths=())
    with pytest.raises(ConfigError, match="skip"):
        RecordedMasksConfig(paths=(drive,), skip=-1)


def test_several_folders_are_one_set(drive, tmp_path):
    (tmp_path / "all").mkdir()
    drive.rename(tmp_path / "all" / "a")
    second = tmp_path / "all" / "b"
    (second / "masks").mkdir(parents=True)
    (second / "b.npz").write_bytes((tmp_path / "all" / "a" / "drive.npz").read_bytes())
    write_mask(second, "1150000", 3)
    source = opened(tmp_path / "all")
    assert len(source) == 4
    assert source.window(3).labels.max() == 1


def test_a_folder_with_nothing_to_score_says_what_is_expected(tmp_path):
    with pytest.raises(DataError, match=r"index\.json.*recording beside masks"):
        build_evaluation_sets(tmp_path, SPEC, TABLE)


def test_a_source_of_training_and_a_set_of_scoring(drive, monkeypatch):
    monkeypatch.chdir(drive.parent)
    write_mask(drive, "5", 0)
    config = SourceConfig(name="mine", recorded=RecordedMasksConfig(paths=(drive,)))
    assert len(build_source(config, SPEC, TABLE, seed=0)) == 3
    assert config.describe()["set"] == "recordings with masks: drive"
    (name, windows), *none = build_evaluation_sets(drive, SPEC, TABLE, limit=2).items()
    assert (name, len(windows), none) == ("drive", 2, [])
    assert notes_of(windows) == ["1 mask not used: outside of the recording, or in a gap of it"]


def test_masks_of_recordings_say_of_what_a_pixel_is_none(drive):
    table = ClassFile(
        classes=(ClassEntry(name="floor", ids=(0,)), ClassEntry(name="ball", ids=(3,), thing=True)),
        complete_for=("ball",),
        other=(9,),
    ).table()
    write_mask(drive, "1050000", 9)
    config = RecordedMasksConfig(paths=(drive,), cache=drive.parent / "cache")
    sample = RecordedMasks(config, SPEC, table).sample(1)
    assert sample.excluded.tolist() == [False, True]
    assert (sample.label[:8, :12] == 254).all()
