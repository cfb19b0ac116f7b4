"""ROS 1 bags, zstd files of rosbag2, Matlab files and ESS's folders."""

import struct

import cv2
import numpy as np
import pytest
import zstandard

from evdistill_core.data.recording_index import index_recording
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.recordings.convert import ConvertConfig, bag_messages, convert
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.readers import unpacking


@pytest.fixture
def events(make_events):
    return make_events(np.random.default_rng(3), 5_000, span_us=2_000_000)


# ROS 1 bags

HEADER = "Header header\nuint32 height\nuint32 width\n"
DEFINITIONS = {
    "dvs_msgs/msg/Event": "uint16 x\nuint16 y\ntime ts\nbool polarity\n",
    "dvs_msgs/msg/EventArray": HEADER + "dvs_msgs/Event[] events\n",
}

PACKET = (
    f"{HEADER}uint64 seq\nuint64 time_base\nstring encoding\nbool is_bigendian\nuint8[] events\n"
)


def ros1_header(seq, t_us, frame=b"cam"):
    return struct.pack("<IIII", seq, t_us // 10**6, t_us % 10**6 * 1000, len(frame)) + frame


def ros1_array(seq, part):
    body = b"".join(
        struct.pack("<HHIIB", x, y, t // 10**6, t % 10**6 * 1000, p)
        for x, y, t, p in zip(
            part.x.tolist(), part.y.tolist(), part.t_us.tolist(), part.p.tolist(), strict=True
        )
    )
    head = ros1_header(seq, int(part.t_us[-1])) + struct.pack("<II", part.height, part.width)
    return head + struct.pack("<I", len(part)) + body


def ros1_image(seq, t_us, pixels):
    height, width = pixels.shape
    head = ros1_header(seq, t_us) + struct.pack("<II", height, width)
    head += struct.pack("<I", 5) + b"mono8" + struct.pack("<BII", 0, width, height * width)
    return head + pixels.tobytes()


def ros1_text(text):
    return struct.pack("<I", len(text)) + text


@pytest.fixture
def rosbag1(tmp_path, events):
    writer_module = pytest.importorskip("rosbags.rosbag1")
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    for name, text in DEFINITIONS.items():
        store.register(get_types_from_msg(text, name))
    path = tmp_path / "a.bag"
    writer = writer_module.Writer(path)
    writer.set_compression(writer.CompressionFormat.BZ2)
    with writer:
        left = writer.add_connection("/dvs/events", "dvs_msgs/msg/EventArray", typestore=store)
        image = writer.add_connection("/dvs/image_raw", "sensor_msgs/msg/Image", typestore=store)
        other = writer.add_connection("/clock", "std_msgs/msg/String", typestore=store)
        for i in range(50):
            part = events[100 * i : 100 * (i + 1)]
            stamp_ns = int(part.t_us[-1]) * 1000
            writer.write(left, stamp_ns, ros1_array(i, part))
            if i % 10 == 0:
                pixels = np.full((260, 346), i, np.uint8)
                writer.write(image, stamp_ns, ros1_image(i, int(part.t_us[-1]), pixels))
            writer.write(other, stamp_ns, struct.pack("<I", 2) + b"ab")
    return path


def test_a_ros1_bag(rosbag1, events, read):
    with open_recording(rosbag1) as recording:
        assert recording.info.format == "rosbag1"
        assert {t.name: t.message_count for t in recording.info.topics} == {
            "/dvs/events": 50, "/dvs/image_raw": 5, "/clock": 50,
        }  # fmt: skip
        frames = list(recording.frames())
        stamps = [b.stamp_ns for b in recording.batches()]
    assert read(rosbag1).equals(events)
    assert stamps == [int(events.t_us[100 * i + 99]) * 1000 for i in range(50)]
    assert [int(f.image[0, 0]) for f in frames] == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("kind", ["Image", "CompressedImage"])
def test_images_of_a_ros1_bag_in_yuv_and_as_jpeg(tmp_path, events, kind):
    writer_module = pytest.importorskip("rosbags.rosbag1")
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    for name, text in DEFINITIONS.items():
        store.register(get_types_from_msg(text, name))
    if kind == "Image":
        pairs = np.tile(np.array([180, 128], np.uint8), 6 * 4)
        body = struct.pack("<II", 4, 6) + ros1_text(b"yuv422_yuy2")
        body += struct.pack("<BI", 0, 12) + ros1_text(pairs.tobytes())
    else:
        _, jpeg = cv2.imencode(".jpg", np.full((4, 6, 3), 191, np.uint8))
        body = ros1_text(b"bgr8; jpeg compressed bgr8") + ros1_text(jpeg.tobytes())
    path = tmp_path / "a.bag"
    with writer_module.Writer(path) as writer:
        left = writer.add_connection("/dvs/events", "dvs_msgs/msg/EventArray", typestore=store)
        topic = writer.add_connection("/dvs/image", f"sensor_msgs/msg/{kind}", typestore=store)
        for i in range(5):
            part = events[1000 * i : 1000 * (i + 1)]
            t_us = int(part.t_us[-1])
            writer.write(left, t_us * 1000, ros1_array(i, part))
            writer.write(topic, t_us * 1000, ros1_header(i, t_us) + body)
    for suffix in (".mcap", ".aedat4"):
        with open_recording(path) as recording:
            assert convert(recording, tmp_path / f"b{suffix}").frames == 5
        with open_recording(tmp_path / f"b{suffix}") as recording:
            frames = list(recording.frames())
            compressed = kind == "CompressedImage" and suffix == ".mcap"
            assert recording.info.frame_topic.endswith("/compressed") == compressed
        assert len(frames) == 5
        assert all(f.image.shape == (4, 6, 3) and set(f.image.flat) == {191} for f in frames)


def test_a_ros1_bag_in_evt3_gives_its_frames_on_the_sensors_clock(tmp_path, events):
    """A training found no frame near its events: frames carry host time, events the sensor's."""
    writer_module = pytest.importorskip("rosbags.rosbag1")
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(get_types_from_msg(PACKET, "event_camera_msgs/msg/EventPacket"))
    host_us = 1_700_000_000_000_000
    np.savez(tmp_path / "a.npz", x=events.x, y=events.y, t=events.t_us, p=events.p)
    with open_recording(tmp_path / "a.npz", size=(346, 260)) as recording:
        messages = list(bag_messages(recording, ConvertConfig(encoding="evt3")))
    path = tmp_path / "a.bag"
    with writer_module.Writer(path) as writer:
        left = writer.add_connection(
            "/camera/events", "event_camera_msgs/msg/EventPacket", typestore=store
        )
        image = writer.add_connection("/camera/image", "sensor_msgs/msg/Image", typestore=store)
        for i, (stamp_ns, _, _, data) in enumerate(messages):
            packet = EventPacket.parse(data)
            t_us = host_us + stamp_ns // 1000 - 10_000  # that of the first event, as drivers stamp
            body = ros1_header(i, t_us) + struct.pack("<IIQQ", 260, 346, i, packet.time_base)
            body += ros1_text(b"evt3") + b"\0" + ros1_text(bytes(packet.events))
            writer.write(left, t_us * 1000, body)
            if i % 50 == 0:
                writer.write(image, t_us * 1000, ros1_image(i, t_us, np.full((260, 346), i, "u1")))
    indexed = index_recording(path, tmp_path / "cache")
    (segment,) = indexed.segments
    assert len(indexed.frame_t_us) == 4
    since_us = indexed.frame_t_us - segment.t_start_us
    assert np.abs(since_us - np.arange(4) * 500_000).max() < 12_000


def test_a_ros1_bag_converts_and_damage_is_told(rosbag1, events, tmp_path, read):
    with open_recording(rosbag1) as recording:
        convert(recording, tmp_path / "b.mcap")
    assert read(tmp_path / "b.mcap").equals(events)
    data = rosbag1.read_bytes()
    rosbag1.write_bytes(data[: len(data) // 2])
    with pytest.raises(RecordingError, match="rosbag reindex"):
        open_recording(rosbag1)
    rng = np.random.default_rng(0)
    for _ in range(30):
        damaged = np.frombuffer(data, np.uint8).copy()
        at = rng.integers(13, len(data), 4)
        damaged[at] ^= rng.integers(1, 256, 4).astype(np.uint8)
        rosbag1.write_bytes(damaged.tobytes())
        try:
            found = read(rosbag1)
        except RecordingError:
            continue
        assert len(found) <= len(events)


# rosbag2 compressed as a whole


@pytest.mark.parametrize("name", ["evt3_vga_person", "libcaer_cmp_davis346_tags"])
def test_files_compressed_as_a_whole(shared_data, tmp_path, name, read):
    source = shared_data / "bags" / name
    whole = read(source)
    compressor = zstandard.ZstdCompressor()
    (container,) = [p for p in source.iterdir() if p.suffix in {".db3", ".mcap"}]
    packed = tmp_path / "bag" / f"{container.name}.zstd"
    packed.parent.mkdir()
    packed.write_bytes(compressor.compress(container.read_bytes()))
    assert read(packed).equals(whole)
    assert read(packed.parent).equals(whole)
    packed.with_name("metadata.yaml").write_text(
        f"rosbag2_bagfile_information:\n  relative_file_paths: [{packed.name}]\n"
        "  compression_format: zstd\n  compression_mode: FILE\n"
    )
    with open_recording(packed.parent) as recording:
        assert sum(len(b.events) for b in recording.batches()) == len(whole)
        assert not recording.info.warnings


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "SPARE_BYTES", 1 << 60)
    (tmp_path / "a.db3.zstd").write_bytes(zstandard.ZstdCompressor().compress(bytes(1 << 24)))
    with pytest.raises(RecordingError, match="does not fit on the disk"):
        open_recording(tmp_path / "a.db3.zstd")
    monkeypatch.undo()
    twice = zstandard.ZstdCompressor().compress(zstandard.ZstdCompressor().compress(b"x" * 99))
    (tmp_path / "a.db3.zstd").write_bytes(twice)
    with pytest.raises(RecordingError, match="compressed twice"):
        open_recording(tmp_path / "a.db3.zstd")


# Matlab

COLUMNS = ("t_us", "x", "y", "p")


def columns_of(events):
    return [getattr(events, name).astype(np.float64) for name in COLUMNS]


def same_columns(found, events):
    return all(np.array_equal(getattr(found, n), getattr(events, n)) for n in COLUMNS)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [1, 2, 0, 3]])
@pytest.mark.parametrize("seconds", [False, True])
@pytest.mark.parametrize("version", [5, 73])
def test_matlab_tables(tmp_path, events, read, *, order, seconds, version):
    table = np.stack(columns_of(events), axis=1)
    table[:, 0] *= 1e-6 if seconds else 1
    table = table[:, order]
    path = tmp_path / "a.mat"
    save(path, version, {"events": table})
    assert same_columns(read(path), events)
    assert same_columns(read(path, start_us=2_000_000), events[events.t_us >= 2_000_000])


@pytest.mark.parametrize("version", [5, 73])
@pytest.mark.parametrize("one_based", [False, True])
def test_matlab_structs(tmp_path, events, version, one_based, read):
    t, x, y, p = columns_of(events)
    fields = {"x": x + one_based, "y": y + one_based, "p": p + one_based, "ts": t}
    path = tmp_path / "a.mat"
    save(path, version, {"TD": {n: v[:, None] for n, v in fields.items()}})
    assert same_columns(read(path), events)


def save(path, version, variables):
    if version == 5:
        pytest.importorskip("scipy.io").savemat(path, variables)
        return
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            if isinstance(value, dict):
                for field, column in value.items():
                    file[f"{name}/{field}"] = column.T
            else:
                file[name] = value.T
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")


def test_matlab_damage(tmp_path, events, read):
    scipy_io = pytest.importorskip("scipy.io")
    path = tmp_path / "a.mat"
    scipy_io.savemat(path, {"a": np.zeros(3)})
    with pytest.raises(RecordingError, match="expected a table of N x 4"):
        open_recording(path)
    scipy_io.savemat(path, {"a": np.stack([events.t_us] * 4, axis=1)})
    with pytest.raises(RecordingError, match=r"not clear.*--columns xypt.*column 4: .*rising"):
        open_recording(path)
    scipy_io.savemat(path, {"a": np.stack(columns_of(events), axis=1)}, do_compression=True)
    data = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(40):
        damaged = np.frombuffer(data, np.uint8).copy()
        at = rng.integers(128, min(len(data), 400), 3)
        damaged[at] ^= rng.integers(1, 256, 3).astype(np.uint8)
        path.write_bytes(damaged.tobytes()[: int(rng.integers(100, len(data)))])
        with pytest.raises(RecordingError):
            read(path)


# ESS's mirror of DDD17


def test_ess_folder(tmp_path, events, read):
    folder = tmp_path / "dir1"
    folder.mkdir()
    (events.t_us * 1000 + 7).astype("<i8").tofile(folder / "events.dat.t")
    places = np.stack([events.x, events.y, events.p], axis=1).astype("<i2")
    places.tofile(folder / "events.dat.xyp")
    found = read(folder)
    assert found.equals(events)
    assert read(folder, start_us=2_500_000).equals(events[events.t_us >= 2_500_000])
    places[:-1].tofile(folder / "events.dat.xyp")
    with pytest.raises(RecordingError, match="one of them is cut off"):
        open_recording(folder)
