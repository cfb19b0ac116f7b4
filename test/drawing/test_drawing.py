import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.drawing.colours import (
    BACKGROUND_BGR,
    BRIGHTER_BGR,
    DARKER_BGR,
    color_mask,
    enlarge,
    event_picture,
    polarity_picture,
    screen_factor,
    to_bgr,
    video_size,
)
from evdistill_core.drawing.films import FilmWriter
from evdistill_core.drawing.overlay import (
    draw_boxes,
    legend,
    overlay,
    shrink,
    with_legend,
    write_guesses,
)
from evdistill_core.drawing.sheets import contact_sheet, write_image
from evdistill_core.events.array import Events
from evdistill_core.foundation.labels import SIX_CLASSES
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
    assert picture[0, 1].tolist() == list(BRIGHTER_BGR)
    assert picture[1, 2].tolist() == list(DARKER_BGR)
    assert (picture == BACKGROUND_BGR).all(axis=2).sum() == 6


def test_the_stronger_polarity_gives_the_colour():
    brighter, darker = np.float32([[0, 1, 0.5, 0, 3]]), np.float32([[0, 0, 0, 0.25, 9]])
    picture = polarity_picture(brighter, darker)[0]
    ground = np.array(BACKGROUND_BGR)
    expected = [ground, BRIGHTER_BGR, (ground + BRIGHTER_BGR) / 2, 0.75 * ground
                + 0.25 * np.array(DARKER_BGR), DARKER_BGR]  # fmt: skip
    np.testing.assert_allclose(picture, expected, atol=0.51)


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
    assert picture[30, 59].tolist() == [198, 127, 127]  # the frame


def test_overlay_draws_events_over_the_mask_and_letters_after_the_enlargement():
    mask = np.full((60, 80), 255, np.uint8)
    mask[30:50, 30:60] = 5
    events = Events.from_columns([31, 5], [40, 6], [0, 1], [1, 0], width=80, height=60)
    found = (Detection(5, 0.8, (28, 30, 60, 50), 600, 7),)
    prediction = Prediction(mask, np.zeros(mask.shape, np.float32), found)
    background = np.full((60, 80, 3), 200, np.uint8)
    picture = overlay(background, prediction, SIX_CLASSES, events=events, factor=8)
    assert picture.shape == (480, 640, 3)
    assert (picture[320:328, 248:256] == BRIGHTER_BGR).all()
    assert (picture[48:56, 40:48] == DARKER_BGR).all()
    assert (background == 200).all()
    # The plate has the colour of the class and stands above the box, as wide as the letters need.
    plate = (picture[225:238] == (142, 0, 0)).all(axis=2)
    assert 60 < plate.sum(axis=1).max() < 160
    assert not (picture[:215] == (142, 0, 0)).all(axis=2).any()


def labels_of(picture, classes):
    """Return the rectangles of the plates of each class, whose colour nothing else has."""
    found = []
    for info in classes.classes:
        exact = (picture == np.array(info.color_rgb[::-1])).all(axis=2).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(exact)
        found += [tuple(s[:4]) for s in stats[1:] if s[3] >= 11 and s[2] > 40]
    return found


@pytest.mark.parametrize("size", [(260, 346), (480, 640), (540, 960), (720, 1280)])
def test_labels_are_as_many_as_boxes_and_high_enough_to_read(size):
    height, width = size
    factor = screen_factor(height, width)
    boxes = [(0, 0, 30, 20), (width - 20, 0, width, 30), (width - 30, height - 20, width, height),
             (40, 100, 70, 130), (50, 105, 80, 135), (45, 110, 75, 128)]  # fmt: skip
    found = [Detection(4 + i % 2, 0.5, box, 100, i + 1) for i, box in enumerate(boxes)]
    picture = np.full((factor * height, factor * width, 3), 90, np.uint8)
    draw_boxes(picture, found, SIX_CLASSES, factor=factor)
    plates = labels_of(picture, SIX_CLASSES)
    assert len(plates) == len(boxes)
    assert min(high for _, _, _, high in plates) >= max(picture.shape) // 80 + 3


def test_an_untracked_box_has_no_number():
    def width_of(track_id):
        picture = np.full((200, 640, 3), 90, np.uint8)
        draw_boxes(picture, [Detection(5, 0.5, (9, 99, 99, 150), 1, track_id)], SIX_CLASSES)
        ((_, _, wide, _),) = labels_of(picture, SIX_CLASSES)
        return wide

    assert width_of(0) < width_of(1) < width_of(11)


def test_boxes_that_reach_out_of_the_picture_are_drawn_at_its_edge():
    picture = np.full((300, 400, 3), 90, np.uint8)
    boxes = [(-50, -50, 20, 20), (390, 290, 900, 900), (500, 10, 510, 20), (-9, -9, -5, -5)]
    draw_boxes(picture, [Detection(5, 0.5, b, 1, i) for i, b in enumerate(boxes)], SIX_CLASSES)
    assert len(labels_of(picture, SIX_CLASSES)) == 4


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
    expected = np.full((small_h, small_w, 3), BACKGROUND_BGR)
    for x, y, p in zip(events.x, events.y, events.p, strict=True):
        colour = BRIGHTER_BGR if p else DARKER_BGR
        expected[int(y) * small_h // height, int(x) * small_w // width] = colour
    np.testing.assert_array_equal(event_picture(events, (small_h, small_w)), expected)

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
    strip = legend(SIX_CLASSES, width=800)
    colors = [info.color_rgb[::-1] for info in SIX_CLASSES.classes]
    for color in [*colors, BRIGHTER_BGR, DARKER_BGR]:
        assert (strip == np.array(color)).all(axis=2).sum() > 50


def test_a_narrow_legend_has_more_rows_and_still_every_color():
    row_px = legend(SIX_CLASSES, width=800).shape[0]
    strip = legend(SIX_CLASSES, width=150)
    assert strip.shape[0] > row_px
    assert strip.shape[0] % row_px == 0
    for info in SIX_CLASSES.classes:
        assert (strip == np.array(info.color_rgb[::-1])).all(axis=2).sum() > 50


def test_a_legend_stands_below_its_picture():
    picture = np.full((50, 400, 3), 7, np.uint8)
    both = with_legend(picture, None)
    np.testing.assert_array_equal(both[:50], picture)
    np.testing.assert_array_equal(both[50:], legend(None, width=400))


def test_film_has_the_frames_at_their_times(tmp_path):
    path = tmp_path / "film.mp4"
    times_us = [1_000_000, 1_050_000, 1_100_000, 1_500_000]
    with FilmWriter(path) as film:
        for i, t_us in enumerate(times_us):
            film.add(np.full((45, 61, 3), 40 * i, np.uint8), t_us)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        frames = list(container.decode(stream))
    assert [round(f.time, 3) for f in frames] == [0.0, 0.05, 0.1, 0.5]
    assert (frames[0].width, frames[0].height) == (62, 46)
    levels = [f.to_ndarray(format="bgr24").mean() for f in frames]
    np.testing.assert_allclose(levels, [0, 40, 80, 120], atol=4)


def test_an_odd_picture_keeps_its_pixels_and_colours_in_a_film(tmp_path):
    image = np.full((21, 31, 3), (200, 20, 90), np.uint8)
    image[:, 16:] = (30, 30, 30)
    with FilmWriter(tmp_path / "film.mp4") as film:
        film.add(image, 0)
        film.add(np.full((60, 60, 3), (200, 20, 90), np.uint8), 1)  # of another size
    with av.open(str(tmp_path / "film.mp4")) as container:
        first, second = (f.to_ndarray(format="bgr24") for f in container.decode(video=0))
    assert first.shape == second.shape == (22, 32, 3)
    # Blue, green and red are not exchanged on the way to YUV, and nothing is moved or blurred.
    np.testing.assert_allclose(first[:, :14].mean((0, 1)), (200, 20, 90), atol=5)
    np.testing.assert_allclose(first[:, 18:].mean((0, 1)), (30, 30, 30), atol=5)
    np.testing.assert_allclose(second.mean((0, 1)), (200, 20, 90), atol=5)


@pytest.mark.parametrize(
    ("size", "factor"),
    [((260, 346), 2), ((180, 240), 3), ((34, 34), 23), ((480, 640), 1), ((720, 1280), 1),
     ((1280, 720), 1), ((400, 300), 2), ((401, 300), 1)],
)  # fmt: skip
def test_small_pictures_are_enlarged_by_a_whole_factor(size, factor):
    assert screen_factor(*size) == factor
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    np.testing.assert_array_equal(enlarge(image, factor), image.repeat(factor, 0).repeat(factor, 1))


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


def test_guesses_have_bars_as_long_as_their_scores():
    picture = np.full((500, 640, 3), 96, np.uint8)
    write_guesses(picture, [("seven 0.75", 0.75), ("one 0.10", 0.1)])
    # 66 pixels, six letters, are 1; the first pixel counts.
    bars = []
    for y in range(60):
        row = picture[y]
        bars += [(row == c).all(1)[:80].sum() for c in (255, 170) if (row[4:10] == c).all()]
    assert bars == [round(0.75 * 66) + 1] * 2 + [round(0.1 * 66) + 1] * 2
    assert (picture[60:] == 96).all()
    assert (picture[:, 120:] == 96).all()


def test_nothing_recognised_is_said_so():
    picture = np.full((600, 600, 3), 96, np.uint8)
    write_guesses(picture, [])
    assert (picture[:25, :20] > 150).all(2).sum() > 10
