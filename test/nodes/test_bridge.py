"""cv_bridge in the place of our own reader of images: a stand-in here, the real one with ROS."""

import sys
import types

import numpy as np
import pytest

from evdistill_core.messages.image_encodings import ENCODINGS
from evdistill_core.messages.images import ImageReader, decode_image
from evdistill_core.messages.standard import Header, Image, Time
from evdistill_ros.nodes.bridge import TARGETS, Bridge

HEADER = Header(Time(1, 2), "cam")


class CvBridge:
    """Answers like cv_bridge for two encodings."""

    asked: list = []  # noqa: RUF012 - cleared by the fixture

    def imgmsg_to_cv2(self, message, desired_encoding):
        self.asked.append((message.encoding, desired_encoding))
        if message.encoding not in {"bgr8", "rgb8"}:
            raise TypeError(f"[{message.encoding}] is not a color format")
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        return pixels[..., ::-1] if message.encoding == "bgr8" else pixels


@pytest.fixture
def stand_in(monkeypatch):
    module = types.ModuleType("cv_bridge")
    module.CvBridge = CvBridge
    CvBridge.asked.clear()
    monkeypatch.setitem(sys.modules, "cv_bridge", module)
    return module


def image(encoding, height=2, width=2, channels=3):
    data = bytes(range(height * width * channels))
    return Image(HEADER, height, width, encoding, 0, width * channels, data)


def test_what_cv_bridge_converts_is_taken_from_it(stand_in):
    said = []
    bridge = Bridge(said.append)
    reader = ImageReader()
    reader.convert = bridge
    found = reader.decode(image("bgr8"))
    np.testing.assert_array_equal(found, decode_image(image("bgr8")))
    assert not found.flags.writeable
    assert CvBridge.asked == [("bgr8", "rgb8"), ("bgr8", "rgb8")]  # the first is its own trial
    assert (said, bridge.failed, bridge.is_usable) == ([], 0, True)


def test_what_it_cannot_convert_is_read_by_us(stand_in):
    said = []
    bridge = Bridge(said.append)
    reader = ImageReader()
    reader.convert = bridge
    np.testing.assert_array_equal(
        reader.decode(image("mono8", channels=1)), decode_image(image("mono8", channels=1))
    )
    assert reader.decode(image("8UC3")) is not None  # not even asked
    assert ("8UC3", "rgb8") not in CvBridge.asked
    assert (bridge.failed, bridge.is_usable, said) == (1, True, [])
    # A damaged one is left out with our own reason.
    assert reader.decode(Image(HEADER, 2, 2, "rgb8", 0, 6, b"123")) is None
    assert "do not fit" in next(iter(reader.left_out.as_dict()))


@pytest.mark.parametrize(
    "error",
    [
        ImportError("numpy.core.multiarray failed to import"),
        AttributeError("_ARRAY_API not found"),
        KeyError(16),
    ],
)
def test_a_broken_cv_bridge_is_one_warning(stand_in, monkeypatch, error):
    def fail(self, *_):
        raise error

    said = []
    monkeypatch.setattr(CvBridge, "imgmsg_to_cv2", fail)
    bridge = Bridge(said.append)
    assert not bridge.is_usable
    assert [bridge(image("bgr8")) for _ in range(3)] == [None] * 3
    assert len(said) == 1
    assert "cv_bridge does not work here" in said[0]
    assert str(error).strip("'") in said[0]


def test_without_cv_bridge_nothing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    said = []
    bridge = Bridge(said.append)
    monkeypatch.delitem(sys.modules, "cv_bridge")
    assert (bridge.is_usable, said) == (False, [])


def test_every_target_is_an_encoding_that_we_read_too():
    assert set(TARGETS) <= set(ENCODINGS)


def pixels_of(encoding, height, width):
    """Return an image of an encoding with random numbers and padded rows."""
    depth = 2 if encoding.endswith("16") else 1
    channels = {"rgb": 3, "bgr": 3, "yuv": 2, "uyv": 2, "yuy": 2}.get(encoding[:3], 1)
    channels += encoding[:4] in {"rgba", "bgra"}
    step = width * channels * depth + 2 * channels * depth  # cv_bridge wants whole pixels
    rng = np.random.default_rng(len(encoding))
    data = rng.integers(0, 256, height * step, np.uint8).tobytes()
    return Image(HEADER, height, width, encoding, 0, step, data)


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.parametrize("size", [(24, 32), (25, 34)])
def test_the_real_cv_bridge_gives_the_pixels_of_our_reader(size):
    pytest.importorskip("cv_bridge")
    said = []
    bridge = Bridge(said.append)
    assert bridge.is_usable, said
    height, width = size
    compared, differ = [], {}
    for encoding in ENCODINGS:
        message = pixels_of(encoding, height, width)
        theirs = bridge(message)
        if theirs is None:
            continue
        ours = decode_image(message)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), encoding
        if encoding.startswith("bayer"):  # OpenCV repeats the border, we mirror it
            ours, theirs = ours[2:-2, 2:-2], theirs[2:-2, 2:-2]
        if not np.array_equal(ours, theirs):
            differ[encoding] = int(np.abs(ours.astype(int) - theirs.astype(int)).max())
        compared.append(encoding)
    assert differ == {}
    assert set(compared) == set(TARGETS), set(TARGETS) ^ set(compared)
