from dataclasses import replace

import cv2
import numpy as np
import pytest

from evdistill_core.drawing.colours import BACKGROUND_BGR, BRIGHTER_BGR, screen_factor
from evdistill_core.events.array import Events
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.inference.prediction import Detection, Maps, Prediction
from evdistill_core.inference.support import Support
from evdistill_core.messages.images import decode_image
from evdistill_core.messages.standard import CameraInfo, CompressedImage, Header, Image, Time
from evdistill_core.messages.vision import Detection2DArray, LabelInfo
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.perception.result import Result
from evdistill_core.perception.segmentation_messages import SegmentationMessages

STAMP_NS = 1_700_000_000_123_456_789


@pytest.fixture
def result():
    mask = np.full((48, 64), 255, np.uint8)
    mask[10:20, 10:30] = 5
    confidence = np.where(mask == 5, np.float32(0.75), np.float32(0))
    prediction = Prediction(mask, confidence, (Detection(5, 0.75, (10, 10, 30, 20), 200, 3),))
    events = Events.from_columns([1], [2], [3], [1], width=64, height=48)
    return Result(0, 0, 50_000, STAMP_NS, "camera", events, prediction, SIX_CLASSES)


def test_all_messages_of_a_window_have_one_header(result):
    messages = SegmentationMessages(SIX_CLASSES)
    assert "camera_info" not in dict(messages.make(result, SegmentationMessages.TYPES))
    messages.push_camera_info(b"no calibration")
    assert messages.damaged_camera_infos == 1
    messages.push_camera_info(CameraInfo(width=2, height=2, k=[1.0] * 9).serialize())
    made = dict(messages.make(result, SegmentationMessages.TYPES))
    assert set(made) == set(SegmentationMessages.TYPES)
    kinds = {"detections": Detection2DArray, "camera_info": CameraInfo}
    headers = {
        name: kinds.get(name, CompressedImage if name.endswith("/compressed") else Image)
        .parse(data)
        .header
        for name, data in made.items()
    }
    assert set(headers.values()) == {Header(Time.from_ns(STAMP_NS), "camera")}


def test_mask_and_confidence_carry_the_prediction(result):
    made = dict(
        SegmentationMessages(SIX_CLASSES).make(result, {"mask", "confidence", "mask_color"})
    )
    mask = Image.parse(made["mask"])
    assert (mask.encoding, mask.width, mask.height, mask.step) == ("mono8", 64, 48, 64)
    np.testing.assert_array_equal(mask.to_array(), result.prediction.mask)
    confidence = Image.parse(made["confidence"])
    assert confidence.encoding == "32FC1"
    np.testing.assert_array_equal(confidence.to_array(), result.prediction.confidence)
    color = Image.parse(made["mask_color"])
    assert color.encoding == "bgr8"
    assert color.to_array()[15, 15].tolist() == [142, 0, 0]


def test_compressed_results_hold_the_same_pixels(result):
    messages = SegmentationMessages(SIX_CLASSES)
    wanted = {"mask", "mask/compressed", "overlay", "overlay/compressed"}
    made = dict(messages.make(result, wanted))
    mask, overlay = (CompressedImage.parse(made[f"{n}/compressed"]) for n in ("mask", "overlay"))
    assert mask.format == "mono8; png compressed "  # as image_transport writes it
    assert bytes(mask.data[:4]) == b"\x89PNG"
    np.testing.assert_array_equal(decode_image(mask), Image.parse(made["mask"]).to_array())
    assert overlay.format == "bgr8; jpeg compressed bgr8"
    drawn = Image.parse(made["overlay"]).to_array()
    shown = decode_image(overlay)[..., ::-1]  # RGB
    assert shown.shape == drawn.shape
    assert np.abs(shown.astype(int) - drawn).mean() < 12


def test_an_overlay_is_drawn_once_for_both_of_its_topics(result, monkeypatch):
    messages = SegmentationMessages(SIX_CLASSES)
    drawn = []
    draw = messages.overlay
    monkeypatch.setattr(messages, "overlay", lambda r: drawn.append(r) or draw(r))
    dict(messages.make(result, {"overlay", "overlay/compressed"}))
    assert len(drawn) == 1
    dict(messages.make(result, {"overlay/compressed"}))
    assert len(drawn) == 2


def test_masks_are_as_large_as_the_networks_input_where_told_so(result):
    image = np.zeros((48, 64), np.uint8)
    image[9:20, 10:30] = 1
    support = Support.of(image, 4)
    small = np.where(support.counts > 0, np.uint8(5), np.uint8(255))
    maps = Maps(small, (small == 5) * np.float32(0.5))
    reduced = replace(result, prediction=Prediction.of_maps(maps, support, ()))
    messages = SegmentationMessages(SIX_CLASSES)
    sizes = {}
    for mask_size in ("sensor", "network"):
        messages.configure(SegmentationParameters(mask_size=mask_size))
        made = dict(messages.make(reduced, SegmentationMessages.TYPES))
        images = {n: Image.parse(made[n]).to_array() for n in ("mask", "confidence", "mask_color")}
        sizes[mask_size] = {n: i.shape[:2] for n, i in images.items()}
        expected = reduced if mask_size == "sensor" else reduced.small
        np.testing.assert_array_equal(images["mask"], expected.mask)
        np.testing.assert_array_equal(images["confidence"], expected.confidence)
        assert Image.parse(made["overlay"]).width % 64 == 0
    assert set(sizes["sensor"].values()) == {(48, 64)}
    assert set(sizes["network"].values()) == {(12, 16)}


def test_detections_have_box_class_score_and_id(result):
    made = dict(SegmentationMessages(SIX_CLASSES).make(result, {"detections"}))
    (found,) = Detection2DArray.parse(made["detections"]).detections
    assert found.id == "3"
    assert (found.bbox.center.position.x, found.bbox.center.position.y) == (20.0, 15.0)
    assert (found.bbox.size_x, found.bbox.size_y) == (20.0, 10.0)
    assert (found.results[0].hypothesis.class_id, found.results[0].hypothesis.score) == ("5", 0.75)
    assert found.header.frame_id == "camera"


def test_only_what_is_wanted_is_made(result, monkeypatch):
    messages = SegmentationMessages(SIX_CLASSES)
    monkeypatch.setattr(messages, "overlay", lambda _: pytest.fail("nobody asked for it"))
    assert [name for name, _ in messages.make(result, {"mask"})] == ["mask"]
    assert list(messages.make(result, set())) == []


def camera_image(value, *, stamp_ns=STAMP_NS, encoding="mono8", size=(48, 64)):
    dtype = np.uint16 if encoding.endswith("16") else np.uint8
    channels = (3,) if encoding[:3] in ("rgb", "bgr") else ()
    pixels = np.full(size + channels, value, dtype)
    return Image.from_array(Header(Time.from_ns(stamp_ns), "camera"), pixels, encoding).serialize()


def overlay_of(messages, result):
    """Return one pixel for each of the sensor's: small pictures are enlarged, with a legend."""
    picture = Image.parse(dict(messages.make(result, {"overlay"}))["overlay"]).to_array()
    factor = screen_factor(48, 64)
    assert picture.shape[0] > factor * 48
    assert picture.shape[1] == factor * 64
    return picture[: factor * 48 : factor, ::factor]


def test_overlay_stands_on_the_latest_picture_before_the_windows_end(result):
    messages = SegmentationMessages(SIX_CLASSES)
    messages.push_image(camera_image(40, stamp_ns=STAMP_NS - 40_000_000))
    messages.push_image(camera_image(80, stamp_ns=STAMP_NS - 10_000_000))
    messages.push_image(camera_image(120, stamp_ns=STAMP_NS + 30_000_000))
    assert overlay_of(messages, result)[40, 5].tolist() == [80, 80, 80]


def test_overlay_stands_on_events_when_there_is_no_fresh_picture(result):
    messages = SegmentationMessages(SIX_CLASSES)
    messages.push_image(camera_image(40, stamp_ns=STAMP_NS - 2_000_000_000))
    picture = overlay_of(messages, result)
    assert picture[40, 5].tolist() == list(BACKGROUND_BGR)
    assert picture[2, 1].tolist() == list(BRIGHTER_BGR)


@pytest.mark.parametrize(
    ("encoding", "value"), [("mono16", 0x5000), ("rgb8", 0x50), ("bgr8", 0x50)]
)
def test_pictures_of_every_encoding_become_backgrounds(result, encoding, value):
    messages = SegmentationMessages(SIX_CLASSES)
    messages.push_image(camera_image(value, encoding=encoding, size=(24, 32)))
    assert overlay_of(messages, result)[40, 5].tolist() == [0x50] * 3


def test_colors_of_an_image_are_those_of_the_overlay(result):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:] = (10, 20, 30)
    for encoding in ("rgb8", "bgr8"):
        messages = SegmentationMessages(SIX_CLASSES)
        header = Header(Time.from_ns(STAMP_NS), "camera")
        messages.push_image(Image.from_array(header, pixels, encoding).serialize())
        found = overlay_of(messages, result)[40, 5].tolist()
        assert found == ([30, 20, 10] if encoding == "rgb8" else [10, 20, 30])


def test_a_compressed_image_becomes_a_background(result):
    _, jpeg = cv2.imencode(".jpg", np.full((48, 64), 80, np.uint8))
    header = Header(Time.from_ns(STAMP_NS), "camera")
    image = CompressedImage(header, "mono8; jpeg compressed ", jpeg.tobytes())
    messages = SegmentationMessages(SIX_CLASSES)
    messages.push_image(image.serialize(), CompressedImage.TYPE)
    assert overlay_of(messages, result)[40, 5].tolist() == [80, 80, 80]
    assert messages.left_out_images.total == 0


def test_an_image_is_decoded_once_and_counted_once_if_it_is_damaged(result):
    _, jpeg = cv2.imencode(".jpg", np.full((48, 64), 80, np.uint8))
    body = bytearray(jpeg.tobytes())
    at = body.index(b"\xff\xc0") + 9
    body[at] = 99  # channels: the size can still be read, the pixels cannot
    messages = SegmentationMessages(SIX_CLASSES)
    header = Header(Time.from_ns(STAMP_NS), "camera")
    damaged = CompressedImage(header, "jpeg", bytes(body))
    messages.push_image(damaged.serialize(), CompressedImage.TYPE)
    first, second = overlay_of(messages, result), overlay_of(messages, result)
    assert first[40, 5].tolist() == second[40, 5].tolist() == list(BACKGROUND_BGR)
    assert messages.left_out_images.total == 1
    assert messages.images == 1
    image = Image.parse(camera_image(40))
    assert messages.background(image) is messages.background(image)


def test_damaged_pictures_are_counted_and_left_out(result):
    messages = SegmentationMessages(SIX_CLASSES)
    messages.push_image(b"\x00\x01\x00\x00")
    messages.push_image(camera_image(9, encoding="mono8").replace(b"mono8", b"nono8"))
    assert overlay_of(messages, result)[40, 5].tolist() == list(BACKGROUND_BGR)
    assert messages.left_out_images.total == 2


def test_label_info_names_every_value_of_the_mask():
    info = LabelInfo.parse(SegmentationMessages(SIX_CLASSES).label_info(STAMP_NS, "camera"))
    names = {row.class_id: row.class_name for row in info.class_map}
    assert names == dict(enumerate(SIX_CLASSES.names)) | {255: "UNLABELED"}
    assert info.header.stamp.to_ns() == STAMP_NS
