"""DSEC-Semantic and DDD17, on files made in exactly the layouts of the releases."""

import pickle

import cv2
import numpy as np
import pytest

from evdistill_core.data.build import SourceConfig, build_source
from evdistill_core.data.street_sets import StreetSet, StreetSetConfig
from evdistill_core.data.unlabelled import RecordingsConfig, UnlabelledWindows
from evdistill_core.foundation.class_maps import (
    CITYSCAPES_CLASSES,
    ELEVEN_CLASSES,
    ELEVEN_TO_SIX,
    NINETEEN_TO_ELEVEN,
    NINETEEN_TO_SIX,
)
from evdistill_core.foundation.errors import ConfigError, DataError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.representations import InputSpec

# A count is itself: one event gives 1.0, and cells are pixels.
SPEC = InputSpec(
    kind="counts2",
    window_us=50_000,
    normalisation="fixed",
    scale=1.0,
    clip=99.0,
    max_pixels=1 << 20,
    size_multiple=8,
)


def write_dsec(root, *, folder="left/11classes", classes=11, labels=3, split="test"):
    """One event a millisecond, in column = millisecond; labels every 20 ms from 100 ms on."""
    h5py = pytest.importorskip("h5py")
    sequence = root / split / "zurich_city_13_a"
    events = sequence / "events" / "left"
    events.mkdir(parents=True, exist_ok=True)
    t = np.arange(200, dtype=np.uint32) * 1000
    with h5py.File(events / "events.h5", "w") as file:
        group = file.create_group("events")
        group["x"] = np.arange(200, dtype=np.uint16)
        group["y"] = np.where(np.arange(200) % 2, 470, 20).astype(np.uint16)
        group["t"] = t
        group["p"] = (np.arange(200) % 3 == 0).astype(np.uint8)
        file["ms_to_idx"] = np.arange(200, dtype=np.uint64)
        file["t_offset"] = np.int64(5_000_000_000)
    columns, rows = np.meshgrid(np.arange(640.0), np.arange(480.0))
    place = np.stack([columns + 3.4, rows - 2.3], 2).astype(np.float32)
    with h5py.File(events / "rectify_map.h5", "w") as file:
        file["rectify_map"] = place
    semantic = sequence / "semantic"
    (semantic / folder / "data").mkdir(parents=True)
    stamps = [5_000_100_000 + 20_000 * i for i in range(labels)]
    (semantic / "timestamps.txt").write_text("".join(f"{s}\n" for s in stamps))
    for i in range(labels):
        label = np.full((440, 640), i, np.uint8)
        label[:, :classes] = np.arange(classes)
        label[-1] = 255
        cv2.imwrite(str(semantic / folder / "data" / f"{i:06d}.png"), label)
    return sequence


@pytest.mark.parametrize("folder", ["left/11classes", "11classes"])
def test_dsec_windows_end_at_their_labels(tmp_path, folder):
    write_dsec(tmp_path, folder=folder)
    config = StreetSetConfig(layout="dsec", root=tmp_path, rectify=False)
    source = StreetSet(config, SPEC, ELEVEN_CLASSES)
    assert len(source) == 3
    for i in range(3):
        sample = source.sample(i)
        assert sample.label.shape == (440, 640)
        np.testing.assert_array_equal(sample.label[5, :11], range(11))
        assert sample.label[5, 300] == i
        assert (sample.label[-1] == 255).all()
        # 50 ms before 100 + 20 i ms, every second event; the others lie in the 40 rows cut off.
        rows, columns = np.nonzero(sample.input.sum(0))
        assert set(rows) == {20}
        end = 100 + 20 * i
        assert sorted(columns) == list(range(end - 50, end, 2))
        on = np.nonzero(sample.input[0])[1]
        assert all(c % 3 == 0 for c in on)


def test_dsec_events_are_rectified(tmp_path):
    sequence = write_dsec(tmp_path)
    config = StreetSetConfig(layout="dsec", root=tmp_path)
    rows, columns = np.nonzero(StreetSet(config, SPEC, ELEVEN_CLASSES).sample(0).input.sum(0))
    assert set(rows) == {18}
    assert sorted(columns) == list(range(53, 103, 2))
    # Workers get a copy that opens its files again.
    source = StreetSet(config, SPEC, ELEVEN_CLASSES)
    before = source.sample(1)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).sample(1).input, before.input)
    (sequence / "events" / "left" / "rectify_map.h5").unlink()
    with pytest.raises(DataError, match="rectify: false"):
        StreetSet(config, SPEC, ELEVEN_CLASSES).sample(0)


@pytest.mark.parametrize(
    ("folder", "count", "classes", "expected"),
    [
        ("left/11classes", 11, SIX_CLASSES, ELEVEN_TO_SIX),
        ("left/19classes", 19, ELEVEN_CLASSES, NINETEEN_TO_ELEVEN),
        ("19classes", 19, SIX_CLASSES, NINETEEN_TO_SIX),
        ("left/19classes", 19, CITYSCAPES_CLASSES, tuple(range(19))),
    ],
)
def test_dsec_labels_map_to_ours(tmp_path, folder, count, classes, expected):
    write_dsec(tmp_path, folder=folder, classes=count)
    config = StreetSetConfig(layout="dsec", root=tmp_path, rectify=False)
    label = StreetSet(config, SPEC, classes).sample(0).label
    np.testing.assert_array_equal(label[5, :count], expected)


def test_dsec_protocols_and_damage(tmp_path):
    sequence = write_dsec(tmp_path, labels=4)
    every = StreetSetConfig(layout="dsec", root=tmp_path, skip_first=1, every=2, rectify=False)
    source = StreetSet(every, SPEC, ELEVEN_CLASSES)
    assert [int(source.sample(i).label[5, 300]) for i in range(len(source))] == [1, 3]
    with pytest.raises(DataError, match="no labels that map"):
        StreetSet(every, SPEC, CITYSCAPES_CLASSES)
    (sequence / "semantic" / "timestamps.txt").write_text("1\n2\n")
    with pytest.raises(DataError, match="4 labels"):
        StreetSet(every, SPEC, ELEVEN_CLASSES)
    with pytest.raises(DataError, match="does not exist"):
        StreetSet(StreetSetConfig(layout="dsec", root=tmp_path, split="x"), SPEC, ELEVEN_CLASSES)


def write_ess(folder, *, masks=(2, 4)):
    """One event a millisecond from 1 s on; pictures every 50 ms, counted from 1."""
    (folder / "index").mkdir(parents=True)
    (folder / "segmentation_masks").mkdir()
    (folder / "imgs").mkdir()
    t = 1_000_000_000 + np.arange(300, dtype=np.int64) * 1_000_000
    xyp = np.stack([np.arange(300), np.full(300, 10), np.arange(300) % 2], 1).astype(np.int16)
    xyp[::5, 1] = 230  # in the bottom 60 rows
    t.tofile(folder / "events.dat.t")
    xyp.tofile(folder / "events.dat.xyp")
    ends = np.arange(1, 6) * 50
    for ms in (10, 50, 250):
        rows = np.stack([t[0] + ends * 1_000_000, ends, np.maximum(0, ends - ms)], 1)
        np.save(folder / "index" / f"index_{ms}ms.npy", rows)
    for number in masks:
        label = np.full((200, 346), number, np.uint8)
        label[0] = 255
        cv2.imwrite(str(folder / "segmentation_masks" / f"segmentation_{number:08d}.png"), label)


def test_ess_mirror_of_ddd17(tmp_path):
    write_ess(tmp_path / "dir1")
    config = StreetSetConfig(layout="ddd17-ess", root=tmp_path, split="valid")
    source = StreetSet(config, SPEC, SIX_CLASSES)
    assert len(source) == 2
    for i, number in enumerate((2, 4)):
        sample = source.sample(i)
        assert sample.label[100, 100] == number
        assert (sample.label[0] == 255).all()
        assert sample.input.shape == (3, 200, 352)
        assert (sample.label[:, 346:] == 255).all()
        rows, columns = np.nonzero(sample.input.sum(0))
        assert set(rows) == {10}
        end = 50 * number
        assert sorted(columns) == [c for c in range(end - 50, end) if c % 5]
        assert all(c % 2 for c in np.nonzero(sample.input[0])[1])
    longer = StreetSet(config, InputSpec(window_us=100_000, max_pixels=1 << 20), SIX_CLASSES)
    assert longer.sample(1).active.any(0).sum() == 80


def test_ess_splits_and_damage(tmp_path):
    for name in ("dir0", "dir2", "dir3", "dir5", "dir6"):
        write_ess(tmp_path / name)
    train = StreetSetConfig(layout="ddd17-ess", root=tmp_path, split="train")
    assert len(StreetSet(train, SPEC, SIX_CLASSES)) == 10
    one = StreetSetConfig(layout="ddd17-ess", root=tmp_path, sequences=("dir3",), every=2)
    assert len(StreetSet(one, SPEC, SIX_CLASSES)) == 1
    with pytest.raises(ConfigError, match="6 classes"):
        StreetSet(train, SPEC, ELEVEN_CLASSES)
    with pytest.raises(ConfigError, match="split must be"):
        StreetSet(StreetSetConfig(layout="ddd17-ess", root=tmp_path, split="x"), SPEC, SIX_CLASSES)
    with pytest.raises(DataError, match="ddd17_seg"):
        StreetSet(
            StreetSetConfig(layout="ddd17-ess", root=tmp_path, split="test"), SPEC, SIX_CLASSES
        )
    times = tmp_path / "dir3" / "events.dat.t"
    times.write_bytes(times.read_bytes()[: 8 * 90])
    with pytest.raises(DataError, match="cut off"):
        StreetSet(one, SPEC, SIX_CLASSES).sample(0)
    write_ess(tmp_path / "dir4", masks=(9,))
    with pytest.raises(DataError, match="no row"):
        StreetSet(
            StreetSetConfig(layout="ddd17-ess", root=tmp_path, split="test"), SPEC, SIX_CLASSES
        )


@pytest.mark.parametrize("order", ["{split}/{kind}", "{kind}/{split}"])
def test_evsegnet_release_of_ddd17(tmp_path, order):
    planes = np.zeros((200, 346, 6), np.float64)
    planes[..., :2] = -1
    planes[20, 30, 0] = 1.0
    planes[20, 31, 0] = 0.0  # half as many
    planes[40, 50, 1] = -0.5
    for number in (10, 9):
        stem = f"rec1487417411_export_{number}"
        for kind in ("images", "labels", "events"):
            (tmp_path / order.format(split="test", kind=kind)).mkdir(parents=True, exist_ok=True)
        label = np.full((200, 346), number % 6, np.uint8)
        label[0] = 255
        cv2.imwrite(
            str(tmp_path / order.format(split="test", kind="labels") / f"{stem}.png"), label
        )
        np.save(tmp_path / order.format(split="test", kind="events") / f"{stem}.npy", planes)
    config = StreetSetConfig(layout="ddd17-evsegnet", root=tmp_path)
    spec = InputSpec(kind="counts2")
    source = StreetSet(config, spec, SIX_CLASSES)
    assert [int(source.sample(i).label[5, 5]) for i in range(len(source))] == [3, 4]
    sample = source.sample(0)
    assert sample.input.shape == (3, 224, 352)
    assert sample.input[0, 20, 30] == 1
    assert sample.input[0, 20, 31] == pytest.approx(128 / 255)
    assert sample.input[1, 40, 50] == 1
    assert np.count_nonzero(sample.input) == 3
    assert (sample.label[200:] == 255).all()
    assert sample.active.sum() == 3
    with pytest.raises(ConfigError, match="counts2"):
        StreetSet(config, InputSpec(), SIX_CLASSES)


def test_street_sets_are_built_by_configuration(tmp_path):
    write_ess(tmp_path / "dir1")
    street = StreetSetConfig(layout="ddd17-ess", root=tmp_path, split="valid")
    source = build_source(SourceConfig(name="s", street=street), SPEC, SIX_CLASSES, seed=0)
    assert len(source) == 2
    path = next((tmp_path / "dir1").glob("segmentation_masks/*2.png"))
    cv2.imwrite(str(path), np.full((200, 346), 6, np.uint8))
    with pytest.raises(DataError, match=r"holds label 6; this set has 0\.\.5"):
        source.sample(0)


def test_raw_ddd17_gives_unlabelled_windows_with_frames(tmp_path):
    """Rows of time, header and payload, as the recorder of DDD17 wrote them."""
    h5py = pytest.importorskip("h5py")
    rows = []
    for k in range(20):
        t0 = 1_000_000 + k * 10_000
        t = t0 + np.arange(50) * 200
        x, y, p = np.arange(50) + k, np.full(50, 40 + k), np.arange(50) % 2
        data = np.stack([(x << 17) | (y << 2) | (p << 1) | 1, t], 1).astype("<u4")
        head = np.array([(1, 1, 8, 4, 0, 50, 50, 50)], CAER).tobytes()
        rows.append((t0, head, data.tobytes()))
        if k % 5 == 0:
            frame = np.zeros(9, "<u4")
            frame[2] = t0
            picture = np.full((260, 346), (k + 1) << 8, "<u2")
            content = frame.tobytes() + picture.tobytes()
            size = len(content)
            rows.append((t0, np.array([(2, 1, size, 8, 0, 1, 1, 1)], CAER).tobytes(), content))
    with h5py.File(tmp_path / "rec1487417411.hdf5", "w") as file:
        table = file.create_dataset("dvs/data", (len(rows), 3), h5py.vlen_dtype(np.uint8))
        for i, (t0, head, content) in enumerate(rows):
            table[i, 0] = np.frombuffer(np.int64(t0).tobytes(), np.uint8)
            table[i, 1] = np.frombuffer(head, np.uint8)
            table[i, 2] = np.frombuffer(content, np.uint8)
        file["dvs/timestamp"] = 1_490_000_000_000_000 + np.array([t0 for t0, _, _ in rows])
    config = RecordingsConfig(
        paths=(tmp_path / "rec1487417411.hdf5",),
        cache=tmp_path / "cache",
        min_events=10,
        frame_within_us=60_000,
        flip=0.0,
    )
    windows = UnlabelledWindows(config, SPEC, seed=0)
    sample = windows.sample(0)
    assert sample.input.shape == (3, 264, 352)
    assert sample.valid.sum() == 260 * 346
    assert sample.input.sum() == pytest.approx(250, abs=1)
    assert sample.has_frame


CAER = np.dtype([(n, "<i2") for n in ("etype", "esource")] + [(f"n{i}", "<i4") for i in range(6)])
