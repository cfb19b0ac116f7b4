import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import CompressedImage, Header, Image, StringMessage, Time
from evdistill_core.recordings.encoders.packets import events_to_packets
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.summary import summarise
from evdistill_core.recordings.writers.mcap import McapWriter

EVENTS, IMAGES = "/event_camera/events", "/event_camera/image_raw"
OLD_TYPE = "event_array_msgs/msg/EventArray"


def packets_of(events, *, encoding="libcaer_cmp", skip=()):
    """Yield (log time, serialized EventPacket)."""
    for seq, packet in enumerate(events_to_packets([events])):
        if seq in skip:
            continue
        stamp = packet.end_us * 1000
        message = EventPacket(
            Header(Time.from_ns(stamp), "cam"), packet.height, packet.width, seq,
            packet.time_base_ns, encoding, False, packet.payload,
        )  # fmt: skip
        yield stamp, message.serialize()


def write_bag(path, messages, *, topic=EVENTS, type_name=EventPacket.TYPE):
    with McapWriter(path) as writer:
        for stamp, data in messages:
            writer.write(topic, type_name, data, stamp)


def read(path, **options):
    with open_recording(path, **options) as recording:
        return Events.concatenate([b.events for b in recording.batches()])


@pytest.fixture(scope="module")
def events(make_events):
    return make_events(np.random.default_rng(3), 3000, span_us=200_000)


@pytest.mark.parametrize(
    ("bag", "format_", "encoding", "size", "on", "off", "triggers"),
    [
        ("evt3_vga_person", "sqlite3", "evt3", (640, 480), 125_183, 218_291, 4157),
        ("libcaer_cmp_davis346_tags", "mcap", "libcaer_cmp", (346, 260), 211_043, 360_223, 0),
        ("evt3_hd_trigger", "sqlite3", "evt3", (1280, 720), 41_439, 41_030, 2),
        ("mono_legacy", "sqlite3", "mono", (640, 480), 50, 50, 0),
    ],
)
def test_golden_values_of_real_bags(  # noqa: PLR0917
    shared_data, bag, format_, encoding, size, on, off, triggers
):
    folder = shared_data / "bags" / bag
    file = next(p for p in folder.iterdir() if p.suffix in {".db3", ".mcap"})
    for path in (folder, file):
        with open_recording(path) as recording:
            summary = summarise(recording)
            info, counters = recording.info, recording.counters
        assert (info.format, info.encoding) == (f"rosbag2-{format_}", encoding)
        assert (info.width, info.height) == size
        assert (summary.on, summary.off, summary.triggers) == (on, off, triggers)
        assert info.warnings == ()
        assert counters["damaged_messages"] == counters["seq_gaps"] == 0
        assert info.topics[0].message_count == counters["messages"] == summary.batches


@pytest.mark.parametrize(
    ("bag", "sum_x", "sum_y"),
    [("evt3_hd_trigger", 42_078_718, 31_656_267), ("mono_legacy", 34_450, 26_450)],
)
def test_golden_sums_of_real_bags(shared_data, bag, sum_x, sum_y):
    with open_recording(shared_data / "bags" / bag) as recording:
        summary = summarise(recording)
    assert (summary.sum_x, summary.sum_y) == (sum_x, sum_y)


def test_golden_times_of_real_bags(shared_data):
    with open_recording(shared_data / "bags" / "libcaer_cmp_davis346_tags") as recording:
        batch = next(recording.batches())
        assert int(batch.events.t_us[0]) == 1744227144732712
        # The driver stamps with the host's clock; in this bag within a second of sensor time.
        assert abs(batch.stamp_ns - int(batch.events.t_us[0]) * 1000) < 10**9
    mono = read(shared_data / "bags" / "mono_legacy")
    assert int(mono.t_us.sum()) * 1000 == 4_950_000


def test_a_real_bag_without_its_metadata_is_read_the_same(shared_data, tmp_path):
    for bag in ("libcaer_cmp_davis346_tags", "evt3_hd_trigger"):
        folder = tmp_path / bag
        shutil.copytree(shared_data / "bags" / bag, folder)
        folder.chmod(0o755)
        metadata = folder / "metadata.yaml"
        metadata.chmod(0o644)
        whole = read(folder)
        for text in ("{ broken", "rosbag2_bagfile_information: 3", "[]", "\x00"):
            metadata.write_text(text)
            with open_recording(folder) as recording:
                assert "metadata.yaml is damaged" in recording.info.warnings[0]
            assert read(folder).equals(whole)
        metadata.unlink()
        with open_recording(folder) as recording:
            assert "no metadata.yaml" in recording.info.warnings[0]
        assert read(folder).equals(whole)


@pytest.mark.parametrize("size", [3000, 500_000, 1_500_000, 2_900_000])
def test_cut_off_real_bags_are_refused_or_read_in_part(shared_data, tmp_path, size):
    bags = shared_data / "bags"
    sqlite = tmp_path / "a.db3"
    sqlite.write_bytes((bags / "evt3_vga_person" / "test_events_1.db3").read_bytes()[:size])
    with pytest.raises(RecordingError, match=r"a\.db3 is damaged"):
        read(sqlite)
    mcap = tmp_path / "a.mcap"
    source = bags / "libcaer_cmp_davis346_tags"
    mcap.write_bytes((source / "test_events_2_0.mcap").read_bytes()[:size])
    whole = read(source)
    with open_recording(mcap) as recording:
        assert any("cut off or damaged" in w for w in recording.info.warnings)
        if recording.info.topic:
            part = Events.concatenate([b.events for b in recording.batches()])
            assert part.equals(whole[: len(part)])
            assert len(part) > 0.5 * size / 3_118_257 * len(whole) - 200_000
        else:
            assert size <= 500_000  # within the first chunk
            with pytest.raises(
                RecordingError, match=r"0 messages before that place.*no event topic"
            ):
                next(recording.batches())


def test_events_are_read_back_exactly_with_stamps(tmp_path, events):
    path = tmp_path / "a.mcap"
    write_bag(path, packets_of(events))
    with open_recording(path) as recording:
        batches = list(recording.batches())
        assert recording.info.topic == EVENTS
        assert recording.fraction_read == 1.0
        fractions = [recording.fraction_read for _ in recording.packets()]
        assert fractions == pytest.approx(np.arange(1, len(batches) + 1) / len(batches))
        assert [p.receive_time_ns for p in recording.packets()] == [b.stamp_ns for b in batches]
    assert Events.concatenate([b.events for b in batches]).equals(events)
    assert all(b.discontinuity == "" for b in batches)
    assert all(b.stamp_ns >= int(b.events.t_us[-1]) * 1000 for b in batches)


def test_the_old_type_name_is_read_too(tmp_path, events):
    write_bag(tmp_path / "a.mcap", packets_of(events), type_name=OLD_TYPE)
    assert read(tmp_path / "a.mcap").equals(events)


def test_lost_messages_are_a_discontinuity(tmp_path, events):
    write_bag(tmp_path / "a.mcap", packets_of(events, skip=(4, 5)))
    with open_recording(tmp_path / "a.mcap") as recording:
        breaks = [b.discontinuity for b in recording.batches()]
        assert breaks.count("seq") == 1 == len([b for b in breaks if b])
        assert recording.counters["lost_messages"] == 2
        first_us = int(events.t_us[0])
        # The batch that carried the mark is cut away; the next one that is kept carries it.
        (*_, last) = recording.batches(start_us=first_us)
        part = list(recording.batches(start_us=int(last.events.t_us[0])))
        assert [b.discontinuity for b in part] == ["seq"]


def test_damaged_messages_are_counted_and_told(tmp_path, events):
    messages = list(packets_of(events))
    messages[2] = (messages[2][0], messages[2][1][:30])
    write_bag(tmp_path / "a.mcap", messages)
    with open_recording(tmp_path / "a.mcap") as recording:
        assert sum(len(b.events) for b in recording.batches()) < len(events)
        assert recording.counters["damaged_messages"] == 1
        assert f"1 of {len(messages)} event messages" in recording.info.warnings[0]


def test_an_unknown_encoding_is_named(tmp_path, events):
    write_bag(tmp_path / "a.mcap", packets_of(events, encoding="evt99"))
    with open_recording(tmp_path / "a.mcap") as recording:
        assert "evt99" in recording.info.warnings[0]
        with pytest.raises(RecordingError, match="evt99"):
            list(recording.batches())


def test_several_files_of_a_bag_are_read_in_order(tmp_path, events):
    messages = list(packets_of(events))
    third = len(messages) // 3
    names = ["bag_10.mcap", "bag_9.mcap", "bag_8.mcap"]  # not the order of the names
    folder = tmp_path / "bag"
    for i, name in enumerate(names):
        end = len(messages) if i == 2 else (i + 1) * third
        write_bag(folder / name, messages[i * third : end])
    assert read(folder).equals(events)
    with open_recording(folder) as recording:
        assert recording.info.topics[0].message_count == len(messages)


def test_a_file_named_by_metadata_but_missing_is_told(tmp_path, events):
    folder = tmp_path / "bag"
    write_bag(folder / "bag_0.mcap", packets_of(events))
    (folder / "metadata.yaml").write_text(
        "rosbag2_bagfile_information:\n  relative_file_paths: [bag/bag_0.mcap, bag_1.mcap]\n"
    )
    with open_recording(folder) as recording:
        assert recording.info.warnings == ("files named by metadata.yaml are missing: bag_1.mcap",)
    assert read(folder).equals(events)


def test_topics_are_chosen_or_listed(tmp_path, events):
    path = tmp_path / "a.mcap"
    with McapWriter(path) as writer:
        for stamp, data in packets_of(events):
            for camera in ("left", "right"):
                writer.write(f"/{camera}/events", EventPacket.TYPE, data, stamp)
                image = Image.from_array(Header(), np.zeros((2, 2), np.uint8), "mono8")
                writer.write(f"/{camera}/image_raw", Image.TYPE, image.serialize(), stamp)
    with pytest.raises(RecordingError, match="--topic: /left/events, /right/events"):
        open_recording(path)
    with open_recording(path, topic="/right/events") as recording:
        assert recording.info.frame_topic == "/right/image_raw"
        assert {p.topic for p in recording.packets()} == {"/right/events"}
        both = {p.topic for p in recording.packets(["/left/image_raw", "/right/events"])}
        assert both == {"/left/image_raw", "/right/events"}
        with pytest.raises(RecordingError, match="no topic /other"):
            next(recording.packets(["/other"]))
    assert read(path, topic="/right/events").equals(events)
    with pytest.raises(RecordingError, match="carries sensor_msgs/msg/Image"):
        open_recording(path, topic="/left/image_raw")
    with pytest.raises(RecordingError, match=r"no topic /nowhere. Topics: /left/events"):
        open_recording(path, topic="/nowhere")


def test_a_bag_without_events_lists_its_topics_and_the_types_we_read(tmp_path):
    path = tmp_path / "a.mcap"
    write_bag(
        path, [(1, StringMessage("hello").serialize())], topic="/chatter",
        type_name=StringMessage.TYPE,
    )  # fmt: skip
    with open_recording(path) as recording:
        assert summarise(recording).events == 0
        with pytest.raises(RecordingError, match="/chatter") as caught:
            next(recording.batches())
    assert "event_camera_msgs/msg/EventPacket" in str(caught.value)
    assert "dvs_msgs/msg/EventArray" in str(caught.value)


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        ({"/event_camera/image_raw": Image}, "/event_camera/image_raw"),
        (
            {"/event_camera/image_raw/compressed": CompressedImage},
            "/event_camera/image_raw/compressed",
        ),
        (
            {
                "/event_camera/image_raw/compressed": CompressedImage,
                "/event_camera/image_raw": Image,
            },
            "/event_camera/image_raw",
        ),
        (
            {"/rear/image_raw": Image, "/event_camera/image_raw/compressed": CompressedImage},
            "/event_camera/image_raw/compressed",
        ),
        (
            {"/even/image_raw/compressed": CompressedImage, "/rgb/image_raw": Image},
            "/rgb/image_raw",
        ),
        ({"/cam/depth/image_rect": Image, "/cam/color/image_raw": Image}, "/cam/color/image_raw"),
        ({"/cam/depth/image_rect": Image}, "/cam/depth/image_rect"),
        ({"/segmentation/mask": Image, "/segmentation/overlay": Image}, ""),
        ({}, ""),
    ],
)
def test_the_image_topic_is_that_of_the_event_camera_and_raw_if_there_is_one(
    tmp_path, events, topics, expected
):
    path = tmp_path / "a.mcap"
    with McapWriter(path) as writer:
        for stamp, data in packets_of(events):
            writer.write(EVENTS, EventPacket.TYPE, data, stamp)
        for topic, kind in topics.items():
            writer.write(topic, kind.TYPE, kind().serialize(), 1)
    with open_recording(path) as recording:
        assert recording.info.frame_topic == expected


def test_pictures_grey_colour_and_damaged(tmp_path, events):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    header = Header(Time.from_ns(5_000_000), "cam")
    images = [
        Image.from_array(header, pixels[:, :, 0], "mono8"),
        Image.from_array(header, pixels, "rgb8"),
        Image.from_array(header, pixels[:, :, ::-1].copy(), "bgr8"),
        Image.from_array(header, pixels[:, :, 0].astype(np.uint16) << 8, "mono16"),
        replace(Image.from_array(header, pixels[:, :, 0], "mono8"), encoding="h264"),
    ]
    with McapWriter(tmp_path / "a.mcap") as writer:
        for stamp, data in packets_of(events):
            writer.write(EVENTS, EventPacket.TYPE, data, stamp)
        for i, image in enumerate(images):
            writer.write(IMAGES, Image.TYPE, image.serialize(), i)
        writer.write(IMAGES, Image.TYPE, images[0].serialize()[:40], 9)
    with open_recording(tmp_path / "a.mcap") as recording:
        frames = list(recording.frames())
        said = recording.info.warnings
        lost = recording.left_out_frames
    assert list(lost.values()) == [1, 1]
    assert "'h264'" in next(iter(lost))
    assert said == tuple(f"1 camera image left out: {reason}" for reason in lost)
    assert np.array_equal(frames[0].image, pixels[:, :, 0])
    assert np.array_equal(frames[1].image, pixels)
    assert np.array_equal(frames[2].image, pixels)
    assert np.array_equal(frames[3].image, pixels[:, :, 0])
    assert len(frames) == 4
    assert (frames[0].t_us, frames[0].stamp_ns) == (5000, 5_000_000)
    assert not frames[2].image.flags.writeable


def test_a_bag_may_be_read_from_another_thread(shared_data, tmp_path, events):
    import threading

    found = []
    with open_recording(shared_data / "bags" / "evt3_hd_trigger") as recording:
        batches = recording.batches()
        next(batches)
        worker = threading.Thread(target=lambda: found.append(sum(1 for _ in batches)))
        worker.start()
        worker.join()
    assert found == [104]


def test_reading_keeps_no_more_than_a_chunk_in_memory(tmp_path):
    """A 100 MB bag is read with a small part of that."""
    import tracemalloc

    path = tmp_path / "a.mcap"
    payload = np.random.default_rng(0).integers(0, 256, 500_000, np.uint8)
    payload = (payload.view(np.uint16) & 0x07FF | 0x3000).tobytes()
    with McapWriter(path) as writer:
        for seq in range(200):
            header = Header(Time.from_ns(10**18 + seq), "")
            data = EventPacket(header, 64, 64, seq, 0, "libcaer_cmp", False, payload).serialize()
            writer.write(EVENTS, EventPacket.TYPE, data, 10**18 + seq)
    with open_recording(path) as recording:
        next(recording.batches())  # compile first
        tracemalloc.start()
        for _ in recording.batches():
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 20e6


def test_message_compression_and_wal_of_sqlite(tmp_path, events):
    import zstandard

    with sqlite3.connect(tmp_path / "a.db3") as connection:
        connection.executescript(
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT,"
            " serialization_format TEXT, offered_qos_profiles TEXT);"
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER,"
            " data BLOB);"
        )
        connection.execute(
            "INSERT INTO topics VALUES (1, ?, ?, 'cdr', '')", (EVENTS, EventPacket.TYPE)
        )
        pack = zstandard.ZstdCompressor().compress
        rows = [(stamp, pack(data)) for stamp, data in packets_of(events)]
        connection.executemany(
            "INSERT INTO messages(topic_id, timestamp, data) VALUES (1, ?, ?)", rows
        )
    connection.close()
    assert read(tmp_path / "a.db3").equals(events)


GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "bags"


@pytest.mark.parametrize(
    ("bag", "on", "off", "sum_x", "sum_y", "first_us", "triggers"),
    [
        ("evt3_vga_person", 3620, 8216, 3_822_335, 4_165_398, 7_139_845, 319),
        ("libcaer_cmp_davis346_tags", 13_520, 22_202, 7_504_111, 5_883_133, 1744227144732712, 0),
    ],
)
def test_pieces_of_real_bags(bag, on, off, sum_x, sum_y, first_us, triggers):  # noqa: PLR0917
    with open_recording(GOLDEN / bag) as recording:
        summary = summarise(recording)
    assert (summary.on, summary.off, summary.triggers) == (on, off, triggers)
    assert (summary.sum_x, summary.sum_y, summary.first_us) == (sum_x, sum_y, first_us)


@pytest.mark.parametrize("bag", ["evt3_vga_person", "libcaer_cmp_davis346_tags"])
def test_the_pieces_are_the_beginning_of_the_whole(shared_data, bag):
    part, whole = read(GOLDEN / bag), read(shared_data / "bags" / bag)
    assert part.equals(whole[: len(part)])


def test_the_piece_has_what_other_readers_stumble_over():
    folder = GOLDEN / "libcaer_cmp_davis346_tags"
    assert 'storage_identifier: ""' in (folder / "metadata.yaml").read_text()
    with (folder / "test_events_2_0.mcap").open("rb") as file:
        (schema,) = make_reader(file).get_summary().schemas.values()
    assert schema.encoding == "ros2idl"
