import cv2
import numpy as np
import pytest

from evdistill_core.foundation.errors import DataError
from evdistill_core.simulation.sensor import SensorModel
from evdistill_core.simulation.video import FramePair, read_video, simulate_frames

CLEAN = SensorModel(noise_hz=0, mismatch=0.0, threshold_on=0.2, threshold_off=0.2)
RATE_HZ = 25


def texture_frame(k, speed=6, height=60, width=90):
    """A textured picture that moves ``speed`` px to the right per frame."""
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 256, (height, width + 200)).astype(np.uint8), (0, 0), 3)
    wide = cv2.normalize(wide, None, 30, 220, cv2.NORM_MINMAX)
    start = 150 - k * speed
    return np.ascontiguousarray(wide[:, start : start + width])


def frames(count, still=False):
    return [(texture_frame(0 if still else k), k * 1_000_000 // RATE_HZ) for k in range(count)]


def test_flow_moves_the_picture_and_linear_fades_it():
    first, second = texture_frame(0), texture_frame(1)
    # the true picture half way: 3 px to the right
    truth = texture_frame(1, speed=3).astype(float)
    inside = (slice(8, -8), slice(12, -12))
    by_flow = FramePair(first, second, "flow")(0.5)[inside]
    by_fading = FramePair(first, second, "linear")(0.5)[inside]
    error_flow = np.abs(by_flow - truth[inside]).mean()
    error_fading = np.abs(by_fading - truth[inside]).mean()
    assert error_flow < 3
    assert error_flow < error_fading / 4


@pytest.mark.parametrize("interpolation", ["flow", "linear"])
def test_the_frames_themselves_are_kept(interpolation):
    pair = FramePair(texture_frame(0), texture_frame(1), interpolation)
    np.testing.assert_array_equal(pair(0.0), texture_frame(0))
    np.testing.assert_array_equal(pair(1.0), texture_frame(1))


def test_windows_follow_one_another_without_gap():
    windows = list(simulate_frames(frames(8), CLEAN, 50_000, np.random.default_rng(0)))
    assert [(w.t_start_us, w.t_end_us) for w in windows] == [
        (k * 50_000, (k + 1) * 50_000) for k in range(5)
    ]
    for window in windows:
        assert len(window.events) > 500
        assert window.events.t_us.min() >= window.t_start_us
        assert window.events.t_us.max() < window.t_end_us
        assert (window.labels == 255).all()
    again = list(simulate_frames(frames(8), CLEAN, 50_000, np.random.default_rng(0)))
    assert all(a.events.equals(b.events) for a, b in zip(windows, again, strict=True))
    # 100 ms is between frames 2 (80 ms) and 3 (120 ms)
    middle = FramePair(texture_frame(2), texture_frame(3), "flow")(0.5)
    np.testing.assert_allclose(windows[1].image, middle, atol=0.51)


def test_a_still_film_makes_no_event():
    windows = list(simulate_frames(frames(5, still=True), CLEAN, 40_000, np.random.default_rng(0)))
    assert len(windows) == 4
    assert all(len(w.events) == 0 for w in windows)


def test_wrong_times_and_windows_are_refused():
    with pytest.raises(ValueError, match="times must rise"):
        list(simulate_frames([*frames(2), frames(1)[0]], CLEAN, 1000, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="at least 100"):
        list(simulate_frames(frames(2), CLEAN, 10, np.random.default_rng(0)))


def test_what_is_no_film_is_refused(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(DataError, match="no video"):
        next(read_video(path, height=20, width=30))


def test_a_cut_video_is_read_as_far_as_it_goes_and_said(tmp_path, caplog):
    path = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (32, 24))
    for number in range(30):
        writer.write(np.full((24, 32, 3), 8 * number, np.uint8))
    writer.release()
    assert len(list(read_video(path, height=24, width=32))) == 30
    assert not caplog.records
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = len(list(read_video(path, height=24, width=32)))
    assert 1 <= found < 25
    assert f"ends after {found} of the 30 frames" in caplog.text


def test_a_real_film_gives_windows(shared_data):
    film = shared_data / "video" / "highway_25hz.mp4"
    source = read_video(film, height=130, width=173)
    first = [next(source) for _ in range(6)]
    assert [t for _, t in first] == [k * 40_000 for k in range(6)]
    windows = list(simulate_frames(first, SensorModel(), 50_000, np.random.default_rng(0)))
    assert len(windows) == 4
    assert all(len(w.events) > 200 for w in windows)
