import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    shrink,
    to_bgr,
    video_size,
    write_image,
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


def slow_overlay(background, mask, alpha):
    """By the definition, one pixel at a time; rounding may differ by one level."""
    palette = SIX_CLASSES.palette_rgb()[:, ::-1].astype(float)
    out = background.astype(float)
    for y, x in np.argwhere(mask != 255):
        out[y, x] = (1 - alpha) * out[y, x] + alpha * palette[mask[y, x]]
    return out


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), alpha=st.sampled_from([0, 0.25, 0.5, 0.8, 1]))
def test_overlay_and_color_equal_slow_references(seed, alpha):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 40, 2)
    mask = rng.choice(np.array([0, 1, 4, 5, 9, 255], np.uint8), (height, width))
    background = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    prediction = Prediction(mask, np.zeros(mask.shape, np.float32))
    before = background.copy()
    picture = overlay(background, prediction, SIX_CLASSES, alpha=alpha)
    np.testing.assert_allclose(picture, slow_overlay(background, mask, alpha), atol=0.51)
    np.testing.assert_array_equal(picture[mask == 255], background[mask == 255])
    np.testing.assert_array_equal(background, before)
    palette = SIX_CLASSES.palette_rgb()[:, ::-1]
    np.testing.assert_array_equal(color_mask(mask, SIX_CLASSES), palette[mask])
    np.testing.assert_array_equal(color_mask(mask.T, SIX_CLASSES), palette[mask.T])


@pytest.mark.parametrize(
    ("sensor", "size"),
    [((260, 346), (260, 346)), ((720, 1280), (540, 960)), ((1280, 720), (960, 540)),
     ((2, 16384), (1, 960))],
)  # fmt: skip
def test_pictures_of_a_video_are_at_most_960_pixels_long(sensor, size):
    assert video_size(*sensor) == size


def middles(length, small):
    """Return the pixel in the middle of each small pixel, rounded down and up."""
    tops = [((2 * i + 1) * length, 2 * small) for i in range(small)]
    return [top // bottom for top, bottom in tops], [-(-top // bottom) - 1 for top, bottom in tops]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_small_picture_shows_what_the_large_one_does(seed):
    rng = np.random.default_rng(seed)
    height, width, small_h, small_w = (int(v) for v in rng.integers(1, 50, 4))
    small_h, small_w = min(small_h, height), min(small_w, width)
    n = int(rng.integers(0, 30))
    events = Events.from_columns(
        rng.integers(0, width, n), rng.integers(0, height, n), np.arange(n), rng.integers(0, 2, n),
        width=width, height=height,
    )  # fmt: skip
    expected = np.full((small_h, small_w), 96)
    for x, y, p in zip(events.x, events.y, events.p, strict=True):
        expected[int(y) * small_h // height, int(x) * small_w // width] = 255 * int(p)
    picture = event_picture(events, (small_h, small_w))
    np.testing.assert_array_equal(picture, np.repeat(expected[:, :, None], 3, axis=2))

    mask = rng.integers(0, 6, (height, width)).astype(np.uint8)
    left, top = int(rng.integers(0, width)), int(rng.integers(0, height))
    right, bottom = int(rng.integers(left, width)) + 1, int(rng.integers(top, height)) + 1
    found = Detection(5, 0.5, (left, top, right, bottom), 1, 3)
    small = shrink(Prediction(mask, np.ones(mask.shape, np.float32), (found,)), (small_h, small_w))
    # Where the middle lies between two pixels, either may be shown.
    shown = [
        mask[np.ix_(rows, columns)]
        for rows in middles(height, small_h)
        for columns in middles(width, small_w)
    ]
    assert np.any([small.mask == choice for choice in shown], axis=0).all()
    (box,) = (d.box_xyxy for d in small.detections)
    assert 0 <= box[0] <= left * small_w / width < right * small_w / width <= box[2] <= small_w
    assert 0 <= box[1] <= top * small_h / height < bottom * small_h / height <= box[3] <= small_h


def test_to_bgr_takes_grey_and_rgb():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(to_bgr(grey), np.stack([grey] * 3, axis=-1))
    rgb = np.stack([grey, grey + 10, grey + 20], axis=-1)
    found = to_bgr(rgb)
    np.testing.assert_array_equal(found[:, :, 0], grey + 20)
    np.testing.assert_array_equal(found[:, :, 2], grey)
    assert found.flags.c_contiguous


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


def test_a_narrow_legend_has_more_rows_and_still_every_color():
    assert legend(SIX_CLASSES, width=600).shape == (22, 600, 3)
    strip = legend(SIX_CLASSES, width=150)
    assert strip.shape[0] > 22
    assert strip.shape[0] % 22 == 0
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


@pytest.mark.parametrize(("width", "scale"), [(400, 2), (402, 1)])
def test_small_pictures_are_doubled_in_a_film(tmp_path, width, scale):
    with FilmWriter(tmp_path / "film.mp4") as film:
        film.add(np.full((20, width, 3), (200, 20, 90), np.uint8), 0)
    with av.open(str(tmp_path / "film.mp4")) as container:
        (frame,) = container.decode(video=0)
    assert (frame.width, frame.height) == (width * scale, 20 * scale)
    # Blue, green and red are not exchanged on the way to YUV.
    np.testing.assert_allclose(frame.to_ndarray(format="bgr24").mean((0, 1)), (200, 20, 90), atol=5)


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
    write_image(tmp_path / "a" / "b.png", image)
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
