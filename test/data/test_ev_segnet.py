import cv2
import numpy as np
import pytest

from evdistill_core.data.ev_segnet import EvSegNetSet
from evdistill_core.foundation.errors import DataError


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("events", "labels", "images"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    for i in range(3):
        stem = f"rec1487417411_export_{i}"
        np.save(tmp_path / "train/events" / f"{stem}.npy", rng.random((20, 30, 6)))
        label = rng.integers(0, 6, (20, 30)).astype(np.uint8)
        label[0] = 255
        cv2.imwrite(str(tmp_path / "train/labels" / f"{stem}.png"), label)
        cv2.imwrite(str(tmp_path / "train/images" / f"{stem}.png"), label * 2)
    return tmp_path


def test_windows_with_labels_and_pictures(root):
    windows = EvSegNetSet(root)
    assert len(windows) == 3
    sample = windows[1]
    stored = np.load(root / "train/events" / f"{sample.stem}.npy")
    assert sample.planes.shape == (6, 20, 30)
    assert sample.planes.dtype == np.float32
    assert np.array_equal(sample.planes[4], stored[:, :, 4].astype(np.float32))
    assert np.array_equal(sample.image[1:], sample.label[1:] * 2)
    assert set(np.unique(sample.label)) <= {0, 1, 2, 3, 4, 5, 255}
    (root / "train/labels" / f"{sample.stem}.png").unlink()
    assert windows[1].label is None


def test_damage_is_told(root):
    with pytest.raises(DataError, match=r"no \.npy files"):
        EvSegNetSet(root, "test")
    path = root / "train/events/rec1487417411_export_0.npy"
    for content, message in (
        (np.zeros((4, 5)), r"must be \(H, W, 6\)"),
        (np.zeros((4, 5, 6)), "its events have"),
        (np.array([{"a": 1}], object), "no plain array"),
    ):
        np.save(path, content, allow_pickle=True)
        with pytest.raises(DataError, match=message):
            EvSegNetSet(root)[0]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="no plain array"):
        EvSegNetSet(root)[0]
    np.save(path, np.zeros((20, 30, 6)))
    cv2.imwrite(
        str(root / "train/labels/rec1487417411_export_0.png"), np.full((20, 30), 9, np.uint8)
    )
    with pytest.raises(DataError, match="must be 0"):
        EvSegNetSet(root)[0]
