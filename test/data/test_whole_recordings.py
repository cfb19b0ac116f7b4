"""N-MNIST, N-Caltech101 and the flat list, on files made in exactly those layouts."""

import pickle

import numpy as np
import pytest

from evdistill_core.data import unlabelled
from evdistill_core.data.build import SourceConfig, build_evaluation_sets, build_source
from evdistill_core.data.unlabelled import RecordingsConfig, WholeFiles, open_windows
from evdistill_core.data.whole_recordings import (
    RecognitionSet,
    RecognitionSetConfig,
    read_whole,
    whole_files,
)
from evdistill_core.foundation.class_maps import named_classes
from evdistill_core.foundation.errors import ConfigError, DataError, RecordingError
from evdistill_core.representations import InputSpec

DIGITS = named_classes(tuple("0123456789"))
SPEC = InputSpec(kind="counts2", window_us=300_000, normalisation="fixed", scale=1.0, clip=9.0)


def five_bytes(path, x, y, p, t):
    """Write events as the spec of N-MNIST says: x, y, p and 23 bits of time, big end first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = bytearray()
    for k in range(len(x)):
        rows += bytes([x[k], y[k], (p[k] << 7) | (t[k] >> 16), (t[k] >> 8) & 255, t[k] & 255])
    path.write_bytes(bytes(rows))


def write_nmnist(root, digits, *, split="Test"):
    """One event a file, whose place tells the file."""
    for number, digit in enumerate(digits):
        path = root / split / str(digit) / f"{number + 1:05d}.bin"
        five_bytes(path, [number, 33], [digit, 33], [1, 0], [1000, 200_000])


def test_nmnist_folders(tmp_path):
    digits = [7, 0, 9, 7]
    write_nmnist(tmp_path, digits)
    source = RecognitionSet(RecognitionSetConfig(root=tmp_path, split="Test"), SPEC, DIGITS)
    assert len(source) == 4
    seen = []
    for i in range(4):
        sample = source.sample(i)
        assert sample.label.shape == (1, 1)
        digit = int(sample.label[0, 0])
        rows, columns = np.nonzero(sample.input[0])  # ON
        assert list(rows) == [digit]
        assert sample.input[1, 33, 33] == 1
        assert sample.active.sum() == 2
        seen.append((int(columns[0]), digit))
    assert sorted(seen) == [(0, 7), (1, 0), (2, 9), (3, 7)]
    np.testing.assert_array_equal(source.sample(2).input, source.sample(2).input)


def test_list_layout(tmp_path):
    for number, digit in ((1, 5), (2, 0), (10, 3)):
        five_bytes(tmp_path / "events" / f"{number}.bs2", [number], [digit], [0], [5])
    (tmp_path / "labels.txt").write_text("#sample #class\n1\t5\n2\t0\n10\t3\n")
    config = RecognitionSetConfig(root=tmp_path, layout="list")
    source = RecognitionSet(config, SPEC, DIGITS)
    assert [(f.stem, k) for f, k in source.files] == [("1", 5), ("2", 0), ("10", 3)]
    part = RecognitionSetConfig(root=tmp_path, layout="list", skip=1, limit=1)
    assert [f.stem for f, _ in RecognitionSet(part, SPEC, DIGITS).files] == ["2"]
    (tmp_path / "labels.txt").write_text("1 5\n4 4\n")
    with pytest.raises(DataError, match=r"4\.bs2"):
        RecognitionSet(config, SPEC, DIGITS)
    (tmp_path / "labels.txt").write_text("1 5 6\n")
    with pytest.raises(DataError, match="expected 'number class'"):
        RecognitionSet(config, SPEC, DIGITS)


def test_ncaltech101_folders_maps_and_sizes(tmp_path):
    for name in ("BACKGROUND_Google", "Faces_easy", "airplanes"):
        five_bytes(tmp_path / name / "image_0001.bin", [200, 3], [170, 4], [0, 1], [7, 90])
    classes = named_classes(("Faces_easy", "airplanes"))
    with pytest.raises(DataError, match="BACKGROUND_Google"):
        RecognitionSet(RecognitionSetConfig(root=tmp_path), SPEC, classes)
    wanted = {"Faces_easy": "Faces_easy", "airplanes": "airplanes", "zebra": "airplanes"}
    source = RecognitionSet(RecognitionSetConfig(root=tmp_path, class_map=wanted), SPEC, classes)
    assert sorted(k for _, k in source.files) == [0, 1]
    assert source.sample(0).input.shape == (3, 192, 256)  # 180x240 padded to 32


@pytest.mark.parametrize("unit", [1e-6, 1])
def test_est_arrays(tmp_path, unit):
    """EST's N-Caltech101: training/validation/testing, N x 4 of x, y, t, p, p -1 or 1."""
    folder = tmp_path / "testing" / "airplanes"
    folder.mkdir(parents=True)
    rows = np.array([[5, 6, 1000 * unit, 1], [7, 8, 301_500 * unit, -1], [9, 9, 900_000 * unit, 1]])
    np.save(folder / "a_0.npy", rows.astype(np.float64))
    config = RecognitionSetConfig(root=tmp_path, split="testing")
    source = RecognitionSet(config, SPEC, named_classes(("airplanes",)))
    events, start = read_whole(source.files[0][0], 300_501)
    assert start == 1000
    assert list(events.t_us) == [1000, 301_500]
    assert list(events.p) == [1, 0]
    assert (events.width, events.height) == (240, 180)
    np.save(folder / "a_0.npy", np.zeros((3, 5)))
    with pytest.raises(DataError, match="N x 4"):
        source.sample(0)
    (folder / "a_0.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match="cannot read"):
        source.sample(0)


def test_sources_are_built_by_configuration(tmp_path):
    write_nmnist(tmp_path, [1, 2])
    recognition = RecognitionSetConfig(root=tmp_path, split="Test")
    source = build_source(SourceConfig(name="n", recognition=recognition), SPEC, DIGITS, seed=0)
    assert len(source) == 2
    assert pickle.loads(pickle.dumps(source)).sample(1).label == source.sample(1).label
    with pytest.raises(ConfigError, match="exactly one"):
        SourceConfig(name="n", recognition=recognition, folder=tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        RecognitionSet(RecognitionSetConfig(root=tmp_path, split="Train"), SPEC, DIGITS)


def test_recorded_sets_are_scored_whole_and_once(tmp_path):
    write_nmnist(tmp_path, [1, 2, 3])
    path = tmp_path / "sets.yaml"
    for count, limit, expected in ((0, 0, 3), (2, 0, 2), (100, 0, 3), (0, 1, 1), (2, 9, 2)):
        path.write_text(
            f"sets: [{{name: n, count: {count}, recognition: {{root: {tmp_path}, split: Test}}}}]"
        )
        (scored,) = build_evaluation_sets(path, SPEC, DIGITS, limit=limit).values()
        digits = [int(scored.sample(i).label[0, 0]) for i in range(len(scored))]
        assert len(digits) == len(set(digits)) == expected


def test_unlabelled_whole_files(tmp_path):
    write_nmnist(tmp_path, [1, 2, 3, 4, 5])
    config = RecordingsConfig(paths=(tmp_path / "Test" / "2", tmp_path / "Test" / "4"), whole=True)
    windows = open_windows(config, SPEC, seed=0)
    assert isinstance(windows, WholeFiles)
    assert len(windows) == 2
    samples = [windows.sample(i) for i in range(20)]
    assert all(s.input.shape == (3, 64, 64) and not s.has_frame for s in samples)
    assert {int(s.valid.sum()) for s in samples} == {34 * 34}
    # Mirrors are among them, and nothing but the two files: file k has its event in column k.
    columns = {int(np.nonzero(s.input[0])[1][0]) for s in samples}
    assert columns == {1, 3, 32, 30}
    part = RecordingsConfig(paths=(tmp_path / "Test" / "3",), whole=True, skip=1)
    with pytest.raises(DataError, match="no recording left"):
        open_windows(part, SPEC, seed=0)
    for changes in ({"frame_within_us": 5, "whole": True}, {"limit": 3}):
        with pytest.raises(ConfigError, match="whole"):
            RecordingsConfig(paths=(tmp_path,), **changes)


@pytest.mark.parametrize("files_in_room", [0, 1, 2])
def test_small_files_are_read_once(tmp_path, monkeypatch, files_in_room):
    write_nmnist(tmp_path, [1, 2, 3])
    config = RecordingsConfig(paths=(tmp_path / "Test" / "1", tmp_path / "Test" / "2"), whole=True)
    plain = [open_windows(config, SPEC, seed=0).sample(i).input for i in range(12)]
    opened = []

    def read(path, window_us):
        opened.append(path)
        return read_whole(path, window_us)

    monkeypatch.setattr(unlabelled, "read_whole", read)
    monkeypatch.setattr(unlabelled, "KEPT_EVENTS", 2 * files_in_room)  # two events a file
    windows = open_windows(config, SPEC, seed=0)
    for i in range(12):
        np.testing.assert_array_equal(windows.sample(i).input, plain[i])
    times = sorted(opened.count(path) for path in windows.paths)
    assert [n == 1 for n in times] == [k < files_in_room for k in range(2)]
    assert files_in_room or sum(times) == 12
    copy = pickle.loads(pickle.dumps(windows))
    before = len(opened)
    copy.sample(0)
    assert len(opened) == before + 1


def test_numbers_in_names_count(tmp_path):
    for name in ("10.bs2", "2.bs2", "1.bs2"):
        five_bytes(tmp_path / name, [1], [1], [1], [1])
    (tmp_path / "notes.md").write_text("")
    assert [p.name for p in whole_files(tmp_path)] == ["1.bs2", "2.bs2", "10.bs2"]
    with pytest.raises(RecordingError, match=r"there is no recording .*nowhere"):
        whole_files(tmp_path / "nowhere")


def test_real_nmnist(shared_data):
    source = RecognitionSet(
        RecognitionSetConfig(root=shared_data / "nmnist", layout="list"), SPEC, DIGITS
    )
    assert len(source) == 1000
    assert source.files[0][0].name == "1.bs2"
    assert source.files[0][1] == 5
    samples = [source.sample(i) for i in range(10)]
    assert all(s.input.shape == (3, 64, 64) for s in samples)
    assert all(s.active[34:].sum() == 0 and s.active[:34, :34].sum() > 200 for s in samples)


def test_real_ncaltech101_file(shared_data):
    path = shared_data / "recordings" / "ncaltech101_faces_easy_0001.bin"
    events, start_us = read_whole(path, 1 << 30)
    assert len(events) == 67_445
    assert (events.width, events.height) == (240, 180)
    assert len(read_whole(path, 100_000)[0]) < len(events)
    assert start_us == events.t_us[0]
