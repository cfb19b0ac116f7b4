"""Every message against rosbags' CDR, both ways, and against hostile bytes."""

import dataclasses
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from evdistill_core.foundation.errors import MessageError
from evdistill_core.messages.discovery import (
    Gid,
    Gid24,
    NodeEntitiesInfo,
    ParticipantEntitiesInfo,
)
from evdistill_core.messages.event_messages import EventArray, EventBlock, EventPacket
from evdistill_core.messages.message import Message
from evdistill_core.messages.standard import (
    CameraInfo,
    Clock,
    DiagnosticArray,
    DiagnosticStatus,
    Header,
    Image,
    KeyValue,
    Log,
    RegionOfInterest,
    StringMessage,
    Time,
)
from evdistill_core.messages.types import message_type
from evdistill_core.messages.vision import (
    BoundingBox2D,
    Classification,
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
    VisionClass,
)

HEADER = Header(Time(1_700_000_000, 999_999_999), "camera_optical")


def events(n):
    index = np.arange(n)
    return EventBlock.pack(
        (index % 640).astype(np.uint16), (index % 479).astype(np.uint16),
        1_700_000_000_123_456_789 + index * 1_000_001, (index % 3 == 0).astype(np.uint8),
    )  # fmt: skip


SAMPLES: list[Message] = [
    Time(-3, 4),
    HEADER,
    StringMessage("grüße"),
    Clock(Time(5, 6)),
    Image(HEADER, 2, 3, "mono8", 0, 3, bytes(range(6))),
    CameraInfo(
        HEADER, 260, 346, "plumb_bob", (0.1, -0.2, 0.0, 0.0, 0.3), tuple(range(9)),
        tuple(range(9)), tuple(range(12)), 1, 2, RegionOfInterest(1, 2, 3, 4, True),
    ),
    DiagnosticArray(
        HEADER,
        (
            DiagnosticStatus(DiagnosticStatus.WARN, "n", "m", "h", (KeyValue("a", "1"),)),
            DiagnosticStatus(DiagnosticStatus.STALE, "n2"),
        ),
    ),
    Log(Time(1, 2), Log.ERROR, "node", "text", "file.py", "f", 77),
    Detection2DArray(
        HEADER,
        (
            Detection2D(
                HEADER,
                (ObjectHypothesisWithPose(ObjectHypothesis("vehicle", 0.75)),),
                BoundingBox2D(Pose2D(Point2D(10.5, 20.25), 0.0), 30.0, 40.0),
                "12",
            ),
            Detection2D(),
        ),
    ),
    Classification(HEADER, (ObjectHypothesis("7", 0.5), ObjectHypothesis("1", 0.25))),
    LabelInfo(HEADER, (VisionClass(0, "flat"), VisionClass(255, "unlabelled")), 0.5),
    ParticipantEntitiesInfo(
        Gid(bytes(range(16))),
        (NodeEntitiesInfo("/", "node", (Gid(bytes(16)),), (Gid(b"x" * 16), Gid(b"y" * 16))),),
    ),
    EventPacket(HEADER, 480, 640, 2**63 + 5, 10**18, "evt3", False, b"\x01\x02\x03"),
    EventArray(HEADER, 480, 640, events(0)),
    EventArray(Header(Time(), "abc"), 480, 640, events(1)),
    EventArray(HEADER, 480, 640, events(57)),
]  # fmt: skip


def store(message):
    known = message_type(message.TYPE)
    made = get_typestore(Stores.EMPTY)
    made.register(get_types_from_msg(known.schema, known.name))
    return made


def plain(value):
    """Reduce our messages and those of rosbags to comparable plain data."""
    if isinstance(value, EventBlock):
        return plain_block(value)
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value) if not f.name.startswith("__")]
        return {n: plain(getattr(value, n)) for n in names}
    if isinstance(value, bytes | bytearray | memoryview):
        return list(value)
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def plain_block(block):
    """Read a block element by element, by the rules of alignment alone."""
    data, at, found = bytes(block.data), 0, []
    for _ in range(block.count):
        at += at % 2
        x, y = (int.from_bytes(data[at + i : at + i + 2], "little") for i in (0, 2))
        at += 4
        at += -at % 4
        sec, nanosec = (int.from_bytes(data[at + i : at + i + 4], "little") for i in (0, 4))
        time_ = {"sec": sec, "nanosec": nanosec}
        found.append({"x": x, "y": y, "ts": time_, "polarity": bool(data[at + 8])})
        at += 9
    assert at == len(data)
    return found


@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: m.TYPE)
def test_ours_is_read_by_rosbags_and_theirs_by_us(message):
    peer = store(message)
    ours = message.serialize()
    assert len(ours) % 4 == 0
    theirs = peer.deserialize_cdr(ours, message.TYPE)
    assert plain(theirs) == plain(message)
    written = bytes(peer.serialize_cdr(theirs, message.TYPE))
    assert ours.startswith(written)
    assert len(ours) - len(written) < 4
    for data in (ours, written, memoryview(bytearray(written))):
        assert plain(type(message).parse(data)) == plain(message)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: m.TYPE)
def test_big_endian_messages_are_read(message):
    peer = store(message)
    theirs = peer.deserialize_cdr(message.serialize(), message.TYPE)
    swapped = bytes(peer.serialize_cdr(theirs, message.TYPE, little_endian=False))
    read = type(message).parse(swapped)
    if isinstance(read, EventArray):
        assert not read.events.little_endian
        assert read.events.count == message.events.count
        with pytest.raises(MessageError, match="big endian"):
            read.serialize()
        return
    assert plain(read) == plain(message)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: m.TYPE)
def test_every_cut_is_an_error_that_names_the_type(message):
    data = message.serialize()
    # The last four bytes may be padding, which need not be there.
    for size in range(len(data) - 4):
        with pytest.raises(MessageError, match=message.TYPE):
            type(message).parse(data[:size])


@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: m.TYPE)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_a_message_or_a_message_error(message, data):
    raw = bytearray(message.serialize())
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=6)):
        raw[at] ^= 1 << data.draw(st.integers(0, 7))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    try:
        type(message).parse(raw)
    except MessageError:
        return


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300), index=st.integers(0, len(SAMPLES) - 1))
def test_random_bytes_give_a_message_or_a_message_error(data, index):
    for prefix in (b"", b"\0\1\0\0", b"\0\0\0\0"):
        try:
            type(SAMPLES[index]).parse(prefix + data)
        except MessageError:
            continue


def test_a_false_count_costs_no_memory():
    data = bytearray(Detection2DArray(HEADER).serialize())
    data[-4:] = b"\xff\xff\xff\xff"
    with pytest.raises(MessageError, match=r"detections\[0\]"):
        Detection2DArray.parse(data)


def test_humble_identifiers_take_24_bytes():
    gid = Gid24(bytes(range(24)))
    data = ParticipantEntitiesInfo(gid, (NodeEntitiesInfo("/ns", "n", (gid,), ()),)).serialize()
    assert data[4:28] == bytes(range(24))
    assert data.count(bytes(range(24))) == 2
    with pytest.raises(MessageError, match="exactly 16 bytes"):
        Gid(bytes(24)).serialize()
    with pytest.raises(MessageError, match="at most 256 bytes"):
        NodeEntitiesInfo("/", "n" * 257).serialize()
    with pytest.raises(MessageError, match="exactly 9 values"):
        CameraInfo(k=(1.0,)).serialize()


@pytest.mark.parametrize(
    ("encoding", "dtype", "shape"),
    [("mono8", np.uint8, (4, 5)), ("mono16", np.uint16, (4, 5)), ("bgr8", np.uint8, (4, 5, 3))],
)
def test_images_come_back_as_the_array_they_were(encoding, dtype, shape):
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    flipped = pixels[:, ::-1]
    for array in (pixels, flipped):
        image = Image.parse(Image.from_array(HEADER, array, encoding).serialize())
        assert (image.height, image.width) == shape[:2]
        back = image.to_array()
        np.testing.assert_array_equal(back, array)
        assert back.dtype == dtype


def test_image_rows_may_be_padded_and_big_endian():
    rows = np.array([[1, 2, 99], [3, 4, 99]], ">u2")
    image = Image(HEADER, 2, 2, "mono16", 1, 6, rows.tobytes())
    assert image.to_array().tolist() == [[1, 2], [3, 4]]


def test_images_that_do_not_add_up_are_refused():
    with pytest.raises(MessageError, match="do not fit"):
        Image(HEADER, 480, 640, "mono8", 0, 640, bytes(10)).to_array()
    with pytest.raises(MessageError, match="do not fit"):
        Image(HEADER, 1, 640, "bgr8", 0, 640, bytes(640)).to_array()
    with pytest.raises(MessageError, match="unknown image encoding 'h264'"):
        Image(HEADER, 1, 1, "h264", 0, 1, bytes(1)).to_array()
    with pytest.raises(MessageError, match="uint8 pixels with 3 channel"):
        Image.from_array(HEADER, np.zeros((2, 2), np.uint8), "bgr8")
    with pytest.raises(MessageError, match="uint8 pixels with 1 channel"):
        Image.from_array(HEADER, np.zeros((2, 2), np.int64), "mono8")


def test_a_large_image_is_not_looped_over_in_python():
    pixels = np.zeros((108, 192, 3), np.uint8)

    def there_and_back():
        Image.parse(Image.from_array(HEADER, pixels, "bgr8").serialize()).to_array()

    # A loop over pixels would run at least a line for each.
    assert 0 < _lines_run(there_and_back) < 108 * 192 / 10


def _lines_run(work):
    lines, before = 0, sys.gettrace()

    def count(_frame, event, _argument):
        nonlocal lines
        lines += event == "line"
        return count

    sys.settrace(count)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines


def test_time_splits_and_joins():
    for stamp_ns in (0, 1, 1_744_227_144_732_712_123, -1):
        assert Time.from_ns(stamp_ns).to_ns() == stamp_ns
    assert Time.from_ns(-1) == Time(-1, 999_999_999)
