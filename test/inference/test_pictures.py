import numpy as np
import pytest

from evdistill_core.events.array import Events
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.inference.pictures import (
    FilmWriter,
    color_mask,
    contact_sheet,
    event_picture,
    label_picture,
    legend,
    overlay,
    to_bgr,
    write_png,
)
from evdistill_core.inference.prediction import Detection, Prediction

av = pytest.importorskip("av")


def test_color_mask_is_bgr_and_black_where_unlabelled():
    mask = np.array([[0, 5, 255, 200]], np.uint8)
    assert color_mask(mask, SIX_CLASSES).tolist() == [
        [[128, 64, 128], [142, 0, 0], [0, 0, 0], [0, 0, 0]]
    ]


def test_event_picture_shows_the_last_polarity():
    events = Events.from_columns([1, 1, 2], [0, 0, 1], [0, 1, 2], [0, 1, 0], width=4, height=2)
    picture = event_picture(events)
    assert picture[:, :, 0].tolist() == [[96, 255, 96, 96], [96, 96, 0, 96]]


def test_overlay_keeps_the_background_where_nothing_is_said():
    mask = np.full((60, 80), 255, np.uint8)
    mask[30:50, 30:60] = 5
    prediction = Prediction(
        mask,
        np.zeros(mask.shape, np.float32),
        (Detection(5, 0.8, (30, 30, 60, 50), 600, 7),),
    )
    background = np.full((30, 40, 3), 200, np.uint8)
    picture = overlay(background, prediction, SIX_CLASSES, alpha=0.5)
    assert picture.shape == (60, 80, 3)
    assert picture[5, 5].tolist() == [200, 200, 200]
    assert picture[40, 45].tolist() == [171, 100, 100]
    assert picture[30, 59].tolist() == [198, 127, 127]


@pytest.mark.parametrize(
    "image",
    [
        np.full((2, 3), 0x4142, np.uint16),
        np.full((2, 3), 0x41, np.uint8),
        np.full((2, 3, 1), 0x41, np.uint8),
        np.full((2, 3, 3), 0x41, np.uint8),
    ],
)
def test_to_bgr_takes_every_camera_image(image):
    result = to_bgr(image)
    assert result.shape == (2, 3, 3)
    assert result.dtype == np.uint8
    assert (result == 0x41).all()


def test_contact_sheet_holds_every_image():
    images = [np.full((20, 30, 3), 50 * i, np.uint8) for i in range(1, 6)]
    sheet = contact_sheet(images, [str(i) for i in range(5)], columns=3)
    for image in images:
        assert ((sheet == image[0, 0]).all(axis=2)).sum() >= 600
    with pytest.raises(ValueError, match="captions"):
        contact_sheet(images, [])


def test_legend_shows_every_color():
    strip = legend(SIX_CLASSES, width=600)
    for info in SIX_CLASSES.classes:
        assert (strip == np.array(info.color_rgb[::-1])).all(axis=2).sum() > 50


def test_film_has_the_frames_at_their_times(tmp_path):
    path = tmp_path / "film.mp4"
    times_us = [1_000_000, 1_050_000, 1_100_000, 1_500_000]
    with FilmWriter(path, scale=2) as film:
        for i, t_us in enumerate(times_us):
            film.add(np.full((45, 61, 3), 40 * i, np.uint8), t_us)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        frames = list(container.decode(stream))
    assert [round(f.time, 3) for f in frames] == [0.0, 0.05, 0.1, 0.5]
    assert (frames[0].width, frames[0].height) == (122, 90)
    levels = [f.to_ndarray(format="bgr24").mean() for f in frames]
    np.testing.assert_allclose(levels, [0, 40, 80, 120], atol=4)


def test_interrupted_or_empty_film_leaves_no_file(tmp_path):
    with FilmWriter(tmp_path / "empty.mp4"):
        pass

    def interrupted():
        with FilmWriter(tmp_path / "broken.mp4") as film:
            film.add(np.zeros((20, 20, 3), np.uint8), 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_png_is_written(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    write_png(tmp_path / "a" / "b.png", image)
    import cv2

    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a" / "b.png")), image)


@pytest.mark.parametrize(
    ("height", "width", "factor"), [(34, 34, 6), (128, 200, 2), (192, 200, 1), (260, 346, 1)]
)
def test_guesses_are_written_on_a_picture_that_letters_fit_on(height, width, factor):
    background = np.full((height, width, 3), 96, np.uint8)
    picture = label_picture(background, [("seven 0.75", 0.75), ("one 0.10", 0.1)])
    assert picture.shape == (factor * height, factor * width, 3)
    assert (background == 96).all()
    # The bars are as long as the scores, 60 pixels being 1.
    bars = [
        (picture[y] == color).all(1).sum() for y, color in ((17, (90, 255, 255)), (34, (200,) * 3))
    ]
    assert bars == [46, 7]
    assert (picture[38:] == 96).all()
    assert (picture[:, 8 + 70 :] == 96).all()


def test_nothing_recognised_is_said_so():
    background = np.full((130, 130, 3), 96, np.uint8)
    question = label_picture(background, [])[:21, :72]
    assert (question != 24).any(2).sum() > 10
