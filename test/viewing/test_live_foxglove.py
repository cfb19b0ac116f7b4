"""Windows for Foxglove: what is sent, with a fake of its library and through a real WebSocket."""

import asyncio
import json
import socket
import struct
import sys
import threading
import types

import cv2
import numpy as np
import pytest

from evdistill_core.cli._errors import explain
from evdistill_core.drawing.colours import color_mask, event_picture
from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.inference.prediction import Detection, Guess, Prediction, Recognition
from evdistill_core.viewing.live.address import ViewAddress, ViewError
from evdistill_core.viewing.live.foxglove_sink import FoxgloveSink, parse_foxglove
from evdistill_core.viewing.live.frames import Shot
from evdistill_core.viewing.live.live_view import Status

STATUS = Status(12_000.0, 20.0, 41, dropped=3)
T0_NS = 1_700_000_000_250_000_000
IMAGES = ("/events", "/mask", "/overlay", "/image")


def shot(answer=None):
    events = Events.from_columns([1, 2], [0, 2], [10, 20], [1, 0], width=5, height=3)
    return Shot(7, 0, 50_000, T0_NS, events, answer, latency_ms=7.5)


def street():
    mask = np.full((3, 5), 255, np.uint8)
    mask[0, 1] = 5
    boxes = (Detection(5, 0.87, (1, 0, 3, 2), 2, track_id=12),)
    return shot(Prediction(mask, np.zeros(mask.shape, np.float32), boxes))


class Message:
    """Remembers its arguments, as any message of the library would take them."""

    def __init__(self, *arguments, **fields):
        self.arguments = arguments
        self.__dict__.update(fields)


class FakeChannel:
    def __init__(self, topic, *, context, schema=None):
        self.topic, self.logged, self.is_watched = topic, [], True

    def has_sinks(self):
        return self.is_watched

    def log(self, message, *, log_time):
        self.logged.append((message, log_time))


class Server:
    def __init__(self, **options):
        self.options, self.is_stopped = options, False
        self.port = options["port"] or 40_000

    def stop(self):
        self.is_stopped = True


@pytest.fixture
def library(monkeypatch):
    """A fake of the library; the real one has no part in these tests."""
    fake = types.ModuleType("foxglove")
    fake.Context, fake.Channel, fake.start_server = object, FakeChannel, Server
    fake.channels = types.ModuleType("foxglove.channels")
    fake.channels.CompressedImageChannel = fake.channels.ImageAnnotationsChannel = FakeChannel
    fake.messages = types.ModuleType("foxglove.messages")
    for name in (
        "CompressedImage", "ImageAnnotations", "PointsAnnotation", "TextAnnotation", "Color",
        "Point2", "Timestamp",
    ):  # fmt: skip
        setattr(fake.messages, name, type(name, (Message,), {}))
    fake.messages.PointsAnnotationType = types.SimpleNamespace(LineLoop="loop")
    monkeypatch.setitem(sys.modules, "foxglove", fake)
    monkeypatch.setitem(sys.modules, "foxglove.channels", fake.channels)
    monkeypatch.setitem(sys.modules, "foxglove.messages", fake.messages)
    return fake


def sink_at(address=":0"):
    return FoxgloveSink(parse_foxglove(address), title="/events", classes=SIX_CLASSES)


def picture_of(channel):
    ((message, log_time),) = channel.logged
    assert log_time == T0_NS
    assert message.timestamp.arguments == (1_700_000_000, 250_000_000)
    return message.format, cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "foxglove", None)
    with pytest.raises(ModuleNotFoundError) as it:
        sink_at()
    text, _ = explain(it.value)
    assert text == (
        'this needs foxglove, which is not installed: pip install "evdistill_ros[foxglove]"'
    )


@pytest.mark.parametrize("text", ["http://x", "a b", ":70000"])
def test_another_address_is_one_clear_line(text):
    with pytest.raises(ConfigError, match=r"^--foxglove: the (address|port) of a view") as it:
        parse_foxglove(text)
    assert repr(text) in str(it.value)


def test_it_is_served_on_loopback_unless_told_otherwise(library):
    sink = FoxgloveSink(parse_foxglove(""), title="t", classes=None)
    assert sink.where == "ws://127.0.0.1:8765"
    assert sink._server.options["host"] == "127.0.0.1"
    assert sink_at(":0").where == "ws://127.0.0.1:40000"


def test_a_taken_port_is_one_clear_line(library):
    def refuse(**options):
        raise RuntimeError("address in use")

    library.start_server = refuse
    with pytest.raises(ViewError, match=r"cannot serve at 127\.0\.0\.1:8765: address in use; cho"):
        sink_at("")


def test_images_are_those_of_the_window(library):
    sink, window = sink_at(), street()
    sink.show(window, STATUS, 0)
    kind, events = picture_of(sink._images["/events"])
    assert kind == "png"
    assert np.array_equal(events, event_picture(window.events))
    kind, mask = picture_of(sink._images["/mask"])
    assert kind == "png"
    assert np.array_equal(mask, color_mask(window.answer.mask, SIX_CLASSES))
    kind, overlay = picture_of(sink._images["/overlay"])
    assert (kind, overlay.shape) == ("jpeg", (3, 5, 3))
    assert not sink._images["/image"].logged  # there is no camera image


def test_boxes_carry_class_track_and_colour(library):
    sink = sink_at()
    sink.show(street(), STATUS, 0)
    ((message, _),) = sink._boxes.logged
    (frame,), (text,) = message.points, message.texts
    assert frame.type == "loop"
    assert [(p.x, p.y) for p in frame.points] == [(1, 0), (3, 0), (3, 2), (1, 2)]
    colour = frame.outline_color
    assert [round(255 * c) for c in (colour.r, colour.g, colour.b)] == list(
        SIX_CLASSES.classes[5].color_rgb
    )
    assert text.text == f"{SIX_CLASSES.names[5]} 12 87 %"


def test_statistics_are_numbers_by_name_and_unit(library):
    sink = sink_at()
    sink.show(shot(Recognition((Guess(2, 0.75),))), STATUS, 4)
    ((message, _),) = sink._statistics.logged
    assert message == {
        "window": 7, "t_start_us": 0, "t_end_us": 50_000, "events": 2, "events_per_s": 12_000.0,
        "windows_per_s": 20.0, "windows_dropped": 3.0, "viewer_dropped": 4.0, "latency_ms": 7.5,
        "guesses": [{"class": SIX_CLASSES.names[2], "score": 0.75}],
    }  # fmt: skip


def test_nothing_is_made_for_a_channel_that_nobody_watches(library):
    sink = sink_at()
    for channel in sink._channels:
        channel.is_watched = False
    assert not sink.is_watched
    sink.show(street(), STATUS, 0)
    assert not any(channel.logged for channel in sink._channels)
    sink._statistics.is_watched = True
    assert sink.is_watched


def test_the_end_stops_the_server(library):
    sink = sink_at()
    sink.close(5.0)
    assert sink._server.is_stopped


def test_an_app_receives_every_channel_through_a_real_websocket():
    aiohttp = pytest.importorskip("aiohttp", reason="needs aiohttp: pip install .[view]")
    pytest.importorskip("foxglove", reason="needs foxglove-sdk: pip install .[foxglove]")

    async def receive(url):
        topics, messages = {}, {}
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, protocols=["foxglove.sdk.v1"]) as pipe,
        ):
            assert pipe.protocol == "foxglove.sdk.v1"
            while len(messages) < 5:  # all but the camera's image, which there is not
                message = await pipe.receive()
                if message.type is aiohttp.WSMsgType.BINARY:
                    kind, topic, stamp_ns = struct.unpack_from("<BIQ", message.data)
                    if kind == 1:
                        messages[topics[topic]] = (stamp_ns, message.data[13:])
                    continue
                assert message.type is aiohttp.WSMsgType.TEXT, message
                content = json.loads(message.data)
                if content["op"] == "advertise":
                    asked = [{"id": c["id"], "channelId": c["id"]} for c in content["channels"]]
                    topics |= {c["id"]: c["topic"] for c in content["channels"]}
                    await pipe.send_json({"op": "subscribe", "subscriptions": asked})
        return set(topics.values()), messages

    sink, is_done = sink_at(), threading.Event()

    def drive():
        while not is_done.wait(0.02):
            if sink.is_watched:
                sink.show(street(), STATUS, 0)

    driver = threading.Thread(target=drive)
    driver.start()
    try:
        topics, messages = asyncio.run(asyncio.wait_for(receive(sink.where), 30))
    finally:
        is_done.set()
        driver.join()
        sink.close(5.0)
    assert topics == {*IMAGES, "/detections", "/statistics"}
    assert all(stamp_ns == T0_NS for stamp_ns, _ in messages.values())
    assert json.loads(messages["/statistics"][1])["window"] == 7
    assert f"{SIX_CLASSES.names[5]} 12 87 %".encode() in messages["/detections"][1]
    assert b"\x89PNG" in messages["/mask"][1]


def test_the_real_library_refuses_a_taken_port_in_one_line():
    pytest.importorskip("foxglove", reason="needs foxglove-sdk: pip install .[foxglove]")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        address = ViewAddress("127.0.0.1", port, True)
        with pytest.raises(ViewError, match=rf"--foxglove cannot serve at 127\.0\.0\.1:{port}: "):
            FoxgloveSink(address, title="t", classes=None)
