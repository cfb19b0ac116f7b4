import re

import cv2
import numpy as np
import pytest

from evdistill_core.drawing.colours import BRIGHTER_BGR
from evdistill_core.drawing.overlay import legend
from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import OutputError, ResultError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.inference.prediction import Detection, Guess, Prediction, Recognition
from evdistill_core.perception.result import Result

HEIGHT, WIDTH = 20, 30


@pytest.fixture
def events():
    return Events.from_columns(
        [1, 2, 29], [0, 5, 0], [5, 6, 7], [0, 1, 1], width=WIDTH, height=HEIGHT
    )


@pytest.fixture
def segmented(events):
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[4:9, 3:12] = 5
    confidence = np.where(mask == 5, np.float32(0.75), np.float32(0))
    covariance = tuple(tuple(float(i == k) for k in range(4)) for i in range(4))
    moves = {
        "age_s": 0.5,
        "velocity_px_s": (30.0, -4.0),
        "covariance": covariance,
        "instance_id": 1,
    }
    found = (Detection(5, 0.75, (3, 4, 12, 9), 45, 7, "vehicle", **moves),)
    prediction = Prediction(mask, confidence, found, (mask == 5).astype(np.uint16))
    return Result(3, 50_000, 100_000, 1_000_100_000_000, "cam", events, prediction, SIX_CLASSES)


@pytest.fixture
def recognised(events):
    prediction = Recognition((Guess(5, 0.9, "vehicle"), Guess(4, 0.1, "human")))
    return Result(0, 0, 1_000, 1_000_000, "", events, prediction, SIX_CLASSES)


def test_a_result_gives_the_parts_of_its_task(segmented, recognised):
    assert segmented.mask.dtype == np.uint8
    assert segmented.confidence[5, 5] == 0.75
    assert [d.class_name for d in segmented.detections] == ["vehicle"]
    (car,) = segmented.detections
    assert (segmented.instances == car.instance_id).sum() == 45
    assert [g.class_name for g in recognised.guesses] == ["vehicle", "human"]


@pytest.mark.parametrize("name", ["mask", "confidence", "detections", "instances"])
def test_what_recognition_does_not_have_is_refused(recognised, name):
    with pytest.raises(ResultError, match=f"no {name}: its student recognises.*guesses"):
        getattr(recognised, name)


def test_what_segmentation_does_not_have_is_refused(segmented):
    with pytest.raises(ResultError, match="no guesses: its student segments"):
        _ = segmented.guesses


def test_the_picture_is_rgb_and_draws_the_events_where_nothing_is_said(segmented):
    picture = segmented.plot(scale=1, legend=False)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert picture[0, 29].tolist() == list(BRIGHTER_BGR[::-1])
    red, _, blue = picture[6, 5].astype(int)
    assert blue > red  # vehicle: (0, 0, 142)
    assert segmented.plot(scale=3, legend=False).shape == (3 * HEIGHT, 3 * WIDTH, 3)


def test_a_small_picture_is_enlarged_and_has_a_legend(segmented, recognised):
    picture = segmented.plot()
    assert picture.shape[1] == 26 * WIDTH  # 780 of at most 800 pixels
    strip = picture[26 * HEIGHT :]
    np.testing.assert_array_equal(strip[:, :, ::-1], legend(SIX_CLASSES, width=26 * WIDTH))
    strip = recognised.plot()[26 * HEIGHT :]
    np.testing.assert_array_equal(strip[:, :, ::-1], legend(None, width=26 * WIDTH))


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 3)])
def test_a_background_is_grey_or_rgb(segmented, shape):
    background = np.full(shape, 10, np.uint8)
    if len(shape) == 3:
        background[..., 0] = 200
    picture = segmented.plot(background, scale=1)
    expected = (200, 10, 10) if len(shape) == 3 else (10, 10, 10)
    assert tuple(picture[0, 0]) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale": 0}, r"scale must be a whole number in 1\.\.32, got 0"),
        ({"scale": 1.5}, "scale must be a whole number"),
        ({"alpha": 2}, r"alpha must lie in 0\.\.1, got 2"),
        ({"alpha": float("nan")}, "alpha must lie in"),
        ({"background": np.zeros((4, 4))}, r"background must be .* got float64 \(4, 4\)"),
        ({"background": np.zeros((4, 4, 2), np.uint8)}, "background must be"),
        ({"background": "a.png"}, "background must be .* got str"),
    ],
)
def test_a_picture_that_cannot_be_is_refused(segmented, given, message):
    with pytest.raises(ResultError, match=message):
        segmented.plot(**given)


def test_a_place_that_cannot_hold_a_file_is_refused(segmented, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is a file, not a folder"):
        segmented.save(tmp_path / "file" / "one.png")


def test_a_saved_array_holds_everything(segmented, recognised, tmp_path):
    with np.load(segmented.save(tmp_path / "a" / "one.npz")) as saved:
        assert (saved["mask"] == segmented.mask).all()
        assert saved["boxes_xyxy"].tolist() == [[3, 4, 12, 9]]
        assert (saved["instances"] == segmented.instances).all()
        assert saved["instance_ids"].tolist() == [1]
        assert saved["track_ids"].tolist() == [7]
        assert saved["ages_s"].tolist() == [0.5]
        assert saved["velocities_px_s"].tolist() == [[30, -4]]
        assert saved["covariances"].shape == (1, 4, 4)
        assert int(saved["t_end_us"]) == 100_000
        assert saved["class_names"].tolist() == list(SIX_CLASSES.names)
    with np.load(recognised.save(str(tmp_path / "two.npz"))) as saved:
        assert saved["class_ids"].tolist() == [5, 4]
        assert "mask" not in saved


def test_a_saved_picture_is_the_plot(segmented, tmp_path):
    path = segmented.save(tmp_path / "one.png")
    assert (cv2.imread(str(path))[:, :, ::-1] == segmented.plot()).all()
    assert segmented._repr_png_()[:4] == b"\x89PNG"


def test_another_suffix_is_refused(segmented, tmp_path):
    with pytest.raises(ResultError, match=re.escape(".png or .npz, got 'one.gif'")):
        segmented.save(tmp_path / "one.gif")


def test_the_line_about_a_result_says_when_and_what(segmented, recognised):
    assert repr(segmented) == "Result(3: 0.050 .. 0.100 s, 3 events, 30x20, 1 vehicle)"
    assert "vehicle 0.90, human 0.10" in repr(recognised)
