"""Recordings played over real DDS."""

import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from evdistill_core.events.array import Events
from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import PacketDecoder
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import CompressedImage, Header, Image, Time
from evdistill_core.recordings.encoders.libcaer_cmp import encode_libcaer_cmp
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.writers.mcap import McapWriter
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode
from evdistill_ros.standalone.player import PlayConfig, Player, _seq_offset, _Sequence

SOURCE_EPOCH_NS = 1_000_000_000_000
PACKETS = 30
SEQ_GAP_AT = 20


def event_packet(index, frame_id="cam"):
    rng = np.random.default_rng(index)
    t_us = index * 10_000 + np.sort(rng.integers(0, 10_000, 40))
    events = Events(
        x=rng.integers(0, 64, 40).astype(np.uint16),
        y=rng.integers(0, 48, 40).astype(np.uint16),
        t_us=t_us.astype(np.int64),
        p=rng.integers(0, 2, 40).astype(np.uint8),
        width=64,
        height=48,
    )
    return EventPacket(
        header=Header(Time.from_ns(SOURCE_EPOCH_NS + index * 10_000_000), frame_id),
        height=48,
        width=64,
        seq=7 + index + (index >= SEQ_GAP_AT),
        time_base=index * 10_000_000,
        encoding="libcaer_cmp",
        events=encode_libcaer_cmp(events, index * 10_000),
    )


@pytest.fixture
def bag(tmp_path):
    path = tmp_path / "small.mcap"
    with McapWriter(path) as writer:
        for i in range(PACKETS):
            stamp_ns = SOURCE_EPOCH_NS + i * 10_000_000
            writer.write("/cam/events", EventPacket.TYPE, event_packet(i).serialize(), stamp_ns)
            if i % 10 == 0:
                header = Header(Time.from_ns(stamp_ns), "cam")
                image = Image.from_array(header, np.full((4, 6), i, np.uint8), "mono8")
                writer.write("/cam/image_raw", Image.TYPE, image.serialize(), stamp_ns + 1)
    return path


@pytest.fixture
def jpeg_bag(tmp_path):
    path = tmp_path / "jpeg.mcap"
    with McapWriter(path) as writer:
        for i in range(3):
            stamp_ns = SOURCE_EPOCH_NS + i * 10_000_000
            writer.write("/cam/events", EventPacket.TYPE, event_packet(i).serialize(), stamp_ns)
            image = CompressedImage(Header(Time.from_ns(stamp_ns), "cam"), "jpeg", bytes([i] * 9))
            writer.write(
                "/cam/image_raw/compressed", CompressedImage.TYPE, image.serialize(), stamp_ns + 1
            )
    return path


class Listener:
    """Collects what a player sends."""

    def __init__(self, node, topic):
        self.packets = []
        self.images = []
        node.create_subscription(topic, EventPacket.TYPE, qos.EVENTS, self.packets.append)
        node.create_subscription(f"{topic}_image", Image.TYPE, qos.RESULTS, self.images.append)


def play(bag, topic, log=None, **options):
    config = PlayConfig(events_topic=topic, image_topic=f"{topic}_image", **options)
    with DdsNode("camera") as camera, DdsNode("ears") as ears, open_recording(bag) as recording:
        listener = Listener(ears, topic)
        player = Player(camera, recording, config, log)
        assert player.wait_for_subscriber(30)
        assert player.images.wait_for_subscriber(30)
        result = player.play()
        arrived(listener.packets, result.packets)
        arrived(listener.images, result.images)
        return result, listener


def arrived(messages, count):
    """Wait until so many are there; what lacks is for the test to say."""
    deadline = time.monotonic() + 10
    while len(messages) < count and time.monotonic() < deadline:
        time.sleep(0.01)


def test_compressed_images_are_played_under_their_own_name(domain, topic, jpeg_bag):
    got = []
    config = PlayConfig(events_topic=topic, image_topic=f"{topic}_image")
    with DdsNode("camera") as camera, DdsNode("ears") as ears:
        name = f"{topic}_image/compressed"
        ears.create_subscription(name, CompressedImage.TYPE, qos.RESULTS, got.append)
        ears.create_subscription(topic, EventPacket.TYPE, qos.EVENTS, lambda packet: None)
        with open_recording(jpeg_bag) as recording:
            player = Player(camera, recording, config)
            assert player.wait_for_subscriber(30)
            assert player.images.wait_for_subscriber(30)
            assert player.play().images == 3
            arrived(got, 3)
    assert [CompressedImage.parse(p.data).data[0] for p in got] == [0, 1, 2]


def test_a_bag_is_played_in_real_time_with_stamps_of_now(domain, topic, bag):
    log = io.StringIO()
    before_ns = time.time_ns()
    result, heard = play(bag, topic, log)
    assert (result.packets, result.images, result.finished) == (PACKETS, 3, True)
    assert 0.28 < result.elapsed_s < 6
    messages = [EventPacket.parse(p.data) for p in heard.packets]
    stamps = [m.header.stamp.to_ns() for m in messages]
    assert all(before_ns < s < time.time_ns() for s in stamps)
    for i, message in enumerate(messages):
        original = event_packet(i)
        assert bytes(message.events) == bytes(original.events)
        assert message.time_base == original.time_base
        assert message.header.frame_id == "cam"
    # The first number is new, the gap of the recording stays.
    assert [m.seq for m in messages] == [i + (i >= SEQ_GAP_AT) for i in range(PACKETS)]
    assert len(heard.images) == 3
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["seq"] for line in lines] == [m.seq for m in messages]
    decoder = PacketDecoder()
    for i, line in enumerate(lines):
        packet = Packet(EventPacket.TYPE, event_packet(i).serialize(), 0)
        assert line["last_event_us"] == int(decoder.push(packet).events.t_us[-1])
        assert line["events"] == 40
        assert stamps[i] == line["sent_ns"]


def test_kept_stamps_leave_every_byte(domain, topic, bag):
    _, heard = play(bag, topic, keep_stamps=True, rate=10)
    assert [bytes(p.data) for p in heard.packets] == [
        event_packet(i).serialize() for i in range(PACKETS)
    ]


def test_loops_count_on(domain, topic, bag):
    result, heard = play(bag, topic, rate=20, loops=3)
    assert result.packets == 3 * PACKETS
    seq = [EventPacket.parse(p.data).seq for p in heard.packets]
    one = [i + (i >= SEQ_GAP_AT) for i in range(PACKETS)]
    assert seq == [s + turn * (PACKETS + 1) for turn in range(3) for s in one]


def test_start_end_and_rate(domain, topic, bag):
    result, heard = play(bag, topic, start_us=100_000, end_us=200_000, rate=0.5)
    assert [bytes(EventPacket.parse(p.data).events) for p in heard.packets] == [
        bytes(event_packet(i).events) for i in range(10, 20)
    ]
    assert result.elapsed_s > 0.17


def test_a_broken_message_is_left_out_and_counted(domain, topic, tmp_path):
    path = tmp_path / "broken.mcap"
    with McapWriter(path) as writer:
        for i in range(4):
            data = event_packet(i).serialize()
            writer.write("/e", EventPacket.TYPE, b"\0\1\0\0" if i == 2 else data, i * 1_000_000)
    config = PlayConfig(events_topic=topic)
    with DdsNode("camera") as camera, open_recording(path) as recording:
        result = Player(camera, recording, config).play()
    assert (result.packets, result.damaged) == (3, 1)


def test_stop_ends_an_endless_loop(domain, topic, bag):
    with DdsNode("camera") as camera, open_recording(bag) as recording:
        player = Player(camera, recording, PlayConfig(events_topic=topic, loops=0))
        threading.Timer(0.3, player.stop).start()
        result = player.play()
    assert not result.finished
    assert 0 < result.packets < 2 * PACKETS


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 0},
        {"rate": -1},
        {"rate": float("nan")},
        {"loops": -1},
        {"start_us": -1},
        {"start_us": 5, "end_us": 5},
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(ConfigError, match="must"):
        PlayConfig(**options)


@pytest.mark.parametrize("frame_id", ["", "a", "abc", "abcd", "event_camera"])
def test_seq_is_found_behind_any_frame_id(frame_id):
    data = bytearray(event_packet(3, frame_id).serialize())
    assert struct.unpack_from("<Q", data, _seq_offset(data))[0] == 10
    struct.pack_into("<Q", data, _seq_offset(data), 2**40)
    assert EventPacket.parse(data).seq == 2**40


def test_numbers_never_go_back():
    sequence = _Sequence()
    sequence.start_pass()
    assert [sequence.next(n) for n in (100, 101, 105, 3, 4)] == [0, 1, 5, 6, 7]
    sequence.start_pass()
    assert [sequence.next(n) for n in (100, 101)] == [8, 9]


def run_play(*arguments):
    command = [sys.executable, "-m", "evdistill_core", "play", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )


@pytest.mark.slow
def test_ctrl_c_ends_play_cleanly_and_keeps_the_log(domain, topic, bag, tmp_path):
    log = tmp_path / "sent.jsonl"
    process = run_play(bag, "--events", topic, "--loop", "--send-log", log)
    with DdsNode("ears") as ears:
        listener = Listener(ears, topic)
        deadline = time.monotonic() + 30
        while len(listener.packets) < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)  # `ros2 launch` may send it twice
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert "stopped after" in out
    assert "Traceback" not in err
    assert len(log.read_text().splitlines()) >= 5
    assert list(tmp_path.glob(".*")) == []


def test_a_file_is_played_and_its_account_is_told(domain, topic, tmp_path):
    path = tmp_path / "a.txt"
    rows = [f"{i * 0.001:.6f} {i % 30} {i % 20} {i % 2}" for i in range(100)]
    path.write_text("30 20\n" + "\n".join([*rows, "0.2 99 5 1"]) + "\n")
    out, err = run_play(path, "--events", topic, "--loops", 2).communicate(timeout=60)
    assert "played 20 packets" in out
    assert "note: 1 of 101 events left out: 1 outside the sensor's frame" in err


def test_the_messages_of_a_bag_are_sent_undecoded(domain, topic, bag):
    assert play(bag, topic, rate=8)[0].account is None


@pytest.mark.slow
def test_nobody_listening_is_an_error_after_the_timeout(domain, topic, bag):
    process = run_play(bag, "--events", topic, "--wait-for-subscriber", "--timeout", "0.5")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "nobody has subscribed" in err


@pytest.mark.slow
def test_an_aedat4_file_is_played_as_event_packets(domain, topic, shared_data):
    source = shared_data / "recordings" / "davis346_street_short.aedat4"
    with open_recording(source) as recording:
        expected = sum(len(b.events) for b in recording.batches())
    decoder, total = PacketDecoder(), [0]
    with DdsNode("camera") as camera, DdsNode("ears") as ears, open_recording(source) as recording:
        heard = []
        ears.create_subscription(topic, EventPacket.TYPE, qos.EVENTS, heard.append)
        player = Player(camera, recording, PlayConfig(events_topic=topic, rate=2))
        assert player.wait_for_subscriber(30)
        result = player.play()
        arrived(heard, result.packets)
    for packet in heard:
        total[0] += len(decoder.push(packet).events)
    assert len(heard) == result.packets
    assert total[0] == expected
    assert decoder.counters.lost_messages == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["evt3_vga_person", "evt3_hd_trigger", "libcaer_cmp_davis346_tags", "mono_legacy"]
)
def test_real_bags_arrive_whole(domain, topic, shared_data, name):
    bag = shared_data / "bags" / name
    expected, heard = PacketDecoder(), PacketDecoder()
    with DdsNode("camera") as camera, DdsNode("ears") as ears, open_recording(bag) as recording:
        sums = np.zeros(4, np.int64)
        for packet in recording.packets():
            sums += columns(expected.push(packet))
        received = []
        player = Player(camera, recording, PlayConfig(events_topic=topic, rate=8, image_topic=""))
        ears.create_subscription(topic, player.events.type_name, qos.EVENTS, received.append)
        assert player.wait_for_subscriber(30)
        result = player.play()
        arrived(received, result.packets)
    assert result.packets == len(received)
    for packet in received:
        sums -= columns(heard.push(packet))
    # Only the bytes differ: DDS rounds a message up to four.
    assert heard.counters.as_dict() | {"bytes": 0} == expected.counters.as_dict() | {"bytes": 0}
    assert sums.tolist() == [0, 0, 0, 0]
    assert heard.counters.events > 0


def columns(decoded):
    e = decoded.events
    since_us = e.t_us - e.t_us[:1].sum()
    return np.array([int(c.sum(dtype=np.int64)) for c in (e.x, e.y, e.p, since_us)])


@pytest.mark.slow
def test_a_megabyte_at_100_hz_keeps_its_schedule(domain, topic, tmp_path):
    path = tmp_path / "large.mcap"
    payload = np.random.default_rng(0).integers(0, 256, 1_000_000, np.uint8).tobytes()
    with McapWriter(path) as writer:
        for i in range(200):
            packet = EventPacket(width=1280, height=720, seq=i, encoding="evt3", events=payload)
            writer.write("/e", EventPacket.TYPE, packet.serialize(), i * 10_000_000)
    received = []
    with DdsNode("camera") as camera, DdsNode("ears") as ears, open_recording(path) as recording:
        note = lambda p: received.append((EventPacket.parse(p.data).seq, len(p.data)))  # noqa: E731
        ears.create_subscription(topic, EventPacket.TYPE, qos.EVENTS, note)
        player = Player(camera, recording, PlayConfig(events_topic=topic))
        assert player.wait_for_subscriber(30)
        result = player.play()
        arrived(received, 200)
    assert [seq for seq, _ in received] == list(range(200))
    assert 1.98 < result.elapsed_s < 6
