"""Events, masks and boxes of topics on a live view."""

from dataclasses import replace

import numpy as np
import pytest

from evdistill_core.events.array import Events
from evdistill_core.events.packet import Packet
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.foundation.worker import wait_until
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import Header, Image, Time
from evdistill_core.messages.vision import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
    VisionClass,
)
from evdistill_core.recordings.encoders.libcaer_cmp import encode_libcaer_cmp
from evdistill_core.viewing.live.live_view import Scene
from evdistill_core.viewing.live.of_topics import TopicScene

T0_NS = 1_700_000_000_000_000_000
HEIGHT, WIDTH = 24, 32


class View:
    """What stands where the page would: keeps what it is offered."""

    def __init__(self):
        self.is_watched = True
        self.shots = []
        self.scenes = []
        self.recorded = []

    def offer(self, shot):
        self.shots.append(shot)

    def set_scene(self, scene):
        self.scenes.append(scene)

    def take(self, packet, topic):
        self.recorded.append((topic, packet.type_name))


@pytest.fixture
def view():
    return View()


@pytest.fixture
def scene(view):
    with TopicScene(Scene(title="test", source="/e")) as scene:
        scene.show_on(view)
        yield scene


def header(index):
    return Header(Time.from_ns(T0_NS + index * 10_000_000), "camera")


def packet(index, *, t_us=None, seq=None):
    """10 ms with 20 events; time and number go on unless they are given."""
    start_us = index * 10_000 if t_us is None else t_us
    t = start_us + np.arange(20) * 400
    events = Events.from_columns(
        np.arange(20), np.arange(20), t, np.arange(20) % 2, width=WIDTH, height=HEIGHT
    )
    message = EventPacket(
        header(index), HEIGHT, WIDTH, index if seq is None else seq, start_us * 1000,
        "libcaer_cmp", False, encode_libcaer_cmp(events, start_us),
    )  # fmt: skip
    return Packet(EventPacket.TYPE, message.serialize(), T0_NS + index * 10_000_000, "/e")


def mask_packet(index, value=5):
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[5:10, 5:10] = value
    return Packet(Image.TYPE, Image.from_array(header(index), mask, "mono8").serialize(), 0, "/m")


def boxes_packet(index):
    hypothesis = ObjectHypothesisWithPose(ObjectHypothesis("5", 0.75))
    box = BoundingBox2D(Pose2D(Point2D(7.5, 7.5)), 5.0, 5.0)
    found = Detection2D(header(index), [hypothesis], box, "12")
    message = Detection2DArray(header(index), [found])
    return Packet(Detection2DArray.TYPE, message.serialize(), 0, "/d")


def push(scene, view, indices, **more):
    for index in indices:
        scene.push_events(packet(index, **more))
    assert wait_until(lambda: scene._queue.fill == (0, 0), timeout_s=5)
    wait_until(lambda: False, timeout_s=0.05)  # the last one may still be cut


def test_every_event_is_shown_once_in_windows_of_a_thirtieth_of_a_second(scene, view):
    push(scene, view, range(21))
    spans = {shot.t_end_us - shot.t_start_us for shot in view.shots}
    assert spans == {33_333}
    times = np.concatenate([shot.events.t_us for shot in view.shots])
    assert np.array_equal(times, np.unique(times))
    assert len(times) == 20 * 20 - 20 + np.count_nonzero(times >= 190_000)
    assert all(shot.answer is None for shot in view.shots)
    status = scene.status()
    assert status.dropped is None
    assert status.silence_s < 5


def test_a_loop_of_the_recording_is_no_end_of_the_view(scene, view):
    push(scene, view, range(100, 110))
    before = len(view.shots)
    for turn in range(10):
        scene.push_events(packet(110 + turn, t_us=turn * 10_000))
    assert wait_until(lambda: len(view.shots) >= before + 2, timeout_s=5)
    assert view.shots[-1].t_end_us < 110_000


def test_nobody_looks_and_nothing_is_decoded_but_the_recording_gets_it(scene, view):
    view.is_watched = False
    push(scene, view, range(20))
    assert view.shots == []
    assert scene.status().events_per_s == 0
    assert view.recorded == [("/e", EventPacket.TYPE)] * 20
    view.is_watched = True
    push(scene, view, range(20, 40))
    assert view.shots, "whoever looks later sees what comes then"
    assert min(shot.t_start_us for shot in view.shots) >= 200_000


def test_mask_and_boxes_of_a_node_lie_over_the_events_while_they_are_fresh(scene, view):
    names = [*(VisionClass(i, n) for i, n in enumerate(SIX_CLASSES.names))]
    info = LabelInfo(header(0), [*names, VisionClass(255, "unlabelled")])
    scene.push_label_info(Packet(LabelInfo.TYPE, info.serialize(), 0, "/l"))
    scene.push_mask(mask_packet(0))
    scene.push_detections(boxes_packet(0))
    push(scene, view, range(8))
    assert view.scenes[-1].classes == SIX_CLASSES
    answer = view.shots[-1].answer
    assert answer.mask[7, 7] == 5
    (box,) = answer.detections
    assert (box.class_id, box.track_id, box.box_xyxy) == (5, 12, (5, 5, 10, 10))
    push(scene, view, range(100, 108))
    old = view.shots[-1].answer
    assert (old.mask == 255).all()
    assert old.detections == ()


def test_a_mask_of_another_size_is_fitted(scene, view):
    mask = np.full((HEIGHT // 2, WIDTH // 2), 2, np.uint8)
    data = Image.from_array(header(0), mask, "mono8").serialize()
    scene.push_mask(Packet(Image.TYPE, data, 0, "/m"))
    push(scene, view, range(8))
    assert view.shots[-1].answer.mask.shape == (HEIGHT, WIDTH)
    assert (view.shots[-1].answer.mask == 2).all()


def test_the_cameras_image_lies_behind_and_an_old_one_does_not(scene, view):
    grey = np.full((HEIGHT, WIDTH), 77, np.uint8)
    data = Image.from_array(header(0), grey, "mono8").serialize()
    scene.push_image(Packet(Image.TYPE, data, 0, "/i"))
    push(scene, view, range(8))
    assert (view.shots[-1].camera_image() == 77).all()
    push(scene, view, range(100, 108))
    assert view.shots[-1].camera_image() is None


@pytest.mark.parametrize("take", ["push_mask", "push_detections", "push_label_info", "push_image"])
def test_damaged_messages_are_left_out_and_counted(scene, view, take):
    getattr(scene, take)(Packet(Image.TYPE, b"\x00\x01\x00\x00broken", 0, "/x"))
    assert scene.damaged == 1
    assert scene.lines() == ["view: 1 damaged masks, boxes or images left out"]
    push(scene, view, range(8))
    assert view.shots


def test_damaged_events_do_not_end_the_view(scene, view):
    push(scene, view, range(6))
    broken = replace(packet(6), data=packet(6).data[:40])
    scene.push_events(broken)
    push(scene, view, range(7, 20))
    assert view.shots[-1].t_end_us > 150_000
    assert scene.lines() == []
