"""Good inputs to start from: small, of every kind, mostly made by our own writers."""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
import struct
import tempfile
import zipfile
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from evdistill_core.events.array import Events, Triggers
from evdistill_core.messages.event_messages import EventArray, EventBlock, EventPacket
from evdistill_core.messages.images import ENCODINGS, IMAGE_TYPES
from evdistill_core.messages.standard import CompressedImage, Header, Image, Time
from evdistill_core.recordings.encoders.evt3 import encode_evt3
from evdistill_core.recordings.encoders.libcaer_cmp import encode_libcaer_cmp
from evdistill_core.recordings.writers.mcap import McapWriter
from evdistill_core.recordings.writers.npz import NpzWriter

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("EVDISTILL_TEST_DATA", ROOT.parent / "shared" / "data"))
GOLDEN = ROOT / "test" / "golden" / "bags"
WIDTH, HEIGHT = 346, 260
STAMP_NS = 1_700_000_000_000_000_000


def events(count: int = 400, start_us: int = 1000, step_us: int = 7) -> Events:
    """A patch that moves: runs in one row, so that vector words occur."""
    i = np.arange(count)
    x, y = 40 + i % 30 + i // 50, 20 + i // 30 % 40
    return Events.from_columns(
        x, y, start_us + i // 30 * 30 * step_us, i // 30 % 2, width=WIDTH, height=HEIGHT
    )


def payloads() -> dict[str, bytes]:
    """Return a few kilobytes of every encoding."""
    e = events()
    x, y, p = (c.astype(np.uint64) for c in (e.x, e.y, e.p))
    t = e.t_us.astype(np.uint64)
    one = np.uint64(1)
    libcaer = t << np.uint64(32) | x << np.uint64(17) | y << np.uint64(2) | p << one | one
    mono = p << np.uint64(63) | y << np.uint64(48) | x << np.uint64(32) | t * np.uint64(1000)
    evt2 = p << np.uint64(28) | (t & np.uint64(63)) << np.uint64(22) | x << np.uint64(11) | y
    high = np.uint64(8 << 28) | t >> np.uint64(6)
    evt2 = np.stack([high, evt2], 1).reshape(-1).astype("<u4")
    evt21 = evt2.astype(np.uint64) << np.uint64(32)
    evt21[1::2] |= np.uint64(0x0F00F0F1)
    trigger = p << np.uint64(63) | (x % np.uint64(8)) << np.uint64(48) | t * np.uint64(1000)
    found = {
        "evt3": encode_evt3(e, 1000) + real_payload("evt3_vga_person"),
        "libcaer_cmp": encode_libcaer_cmp(e, 1000) + real_payload("libcaer_cmp_davis346_tags"),
        "libcaer": libcaer.astype("<u8").tobytes(),
        "mono": mono.astype("<u8").tobytes(),
        "evt2": evt2.tobytes(),
        "evt21": evt21.astype("<u8").tobytes(),
        "trigger": trigger.astype("<u8").tobytes(),
    }
    return {k: v[: 1 << 17] for k, v in found.items()}


def real_messages(bag: str, count: int = 20) -> list[bytes]:
    """Return serialized messages of a committed piece of a real bag."""
    from evdistill_core.recordings.opening import open_recording

    folder = GOLDEN / bag
    found = []
    with open_recording(next(f for f in folder.iterdir() if f.suffix in {".db3", ".mcap"})) as r:
        for packet in r.packets():
            found.append(bytes(packet.data))
            if len(found) == count:
                break
    return found


def real_payload(bag: str) -> bytes:
    """Return the event bytes of a real bag, joined."""
    return b"".join(bytes(EventPacket.parse(m).events) for m in real_messages(bag))


def messages() -> dict[str, list[bytes]]:
    """Return small serialized event messages by type."""
    packets = []
    for encoding, payload in payloads().items():
        for seq in range(3):
            piece = payload[256 * seq : 256 * seq + 256]
            message = EventPacket(
                Header(Time.from_ns(STAMP_NS + seq * 10_000_000), "camera"),
                HEIGHT, WIDTH, seq, 1_000_000 * seq, encoding, False, piece,
            )  # fmt: skip
            packets.append(message.serialize())
    e = events(20)
    block = EventBlock.pack(e.x, e.y, e.t_us * 1000, e.p)
    array = EventArray(Header(Time.from_ns(STAMP_NS), "dvs"), HEIGHT, WIDTH, block)
    return {
        EventPacket.TYPE: packets,
        EventArray.TYPE: [array.serialize(), EventArray(height=4, width=4).serialize()],
    }


def images() -> list[tuple[str, bytes]]:
    """Return a serialized image of every encoding, a JPEG and a PNG, with their types."""
    header = Header(Time(5, 6), "camera")
    # Eight bytes a pixel are enough for all encodings.
    found = [
        (Image.TYPE, Image(header, 4, 6, encoding, 0, 48, bytes(range(192))).serialize())
        for encoding in ENCODINGS
    ]
    for name in ("jpg", "png"):
        pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
        file = cv2.imencode(f".{name}", pixels)[1].tobytes()
        text = f"bgr8; {name} compressed bgr8"
        found.append((CompressedImage.TYPE, CompressedImage(header, text, file).serialize()))
    return found


def samples() -> list[tuple[type, bytes]]:
    """Return every message type that we read, with serialized examples."""
    from evdistill_core.messages import discovery, standard, vision
    from evdistill_core.messages.message import Message

    found: list[tuple[type, bytes]] = [
        (EventPacket if name == EventPacket.TYPE else EventArray, data)
        for name, several in messages().items()
        for data in several[:6]
    ]
    for module in (standard, vision, discovery):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message:
                found.append((kind, kind().serialize()))
    header = Header(Time(5, 6), "camera")
    found += [(IMAGE_TYPES[name], data) for name, data in images()]
    status = standard.DiagnosticStatus(1, "a", "b", "c", [standard.KeyValue("k", "v")] * 3)
    array = standard.DiagnosticArray(header, [status, status])
    found.append((standard.DiagnosticArray, array.serialize()))
    box = vision.Detection2D(header)
    found.append((vision.Detection2DArray, vision.Detection2DArray(header, [box] * 2).serialize()))
    return found


def files() -> dict[str, bytes]:
    """Return one small recording of every format; those of real data only where it is."""
    found: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["mcap"] = _mcap(folder / "a.mcap")
        for kind in ("NONE", "ZSTD", "LZ4"):
            found[f"mcap-{kind.lower()}"] = _packed_mcap(kind)
        found |= _optional(folder)
        found["sqlite3"] = _sqlite(folder / "a.db3")
        found["npz"] = _npz(folder / "a.npz")
    e = events(200)
    rows = zip(e.t_us.tolist(), e.x.tolist(), e.y.tolist(), e.p.tolist(), strict=True)
    found["text"] = f"{WIDTH} {HEIGHT}\n".encode() + b"".join(b"%d %d %d %d\n" % r for r in rows)
    head = b"%% date 2026-01-01 00:00:00\n%% %s\n%% geometry 346x260\n%% end\n"
    data = payloads()
    found["raw-evt3"] = head % b"evt 3.0" + data["evt3"][:4000]
    found["raw-evt2"] = head % b"format EVT2;height=260;width=346" + data["evt2"][:2000]
    found["raw-evt21"] = head % b"format EVT21;endianness=legacy" + data["evt21"][:2000]
    dat = np.stack([e.t_us, e.x | e.y.astype(np.int64) << 14 | e.p.astype(np.int64) << 28], 1)
    found["dat"] = (
        b"% Data file containing CD events.\n% Version 2\n% Width 346\n% Height 260\n"
        + struct.pack("<BB", 12, 8)
        + dat.astype("<u4").tobytes()
    )
    for name, path, size in (
        ("aedat4", "davis346_street_short.aedat4", 60_000),
        ("es", "atis_plane.es", 4000),
        ("five-byte", "nmnist_one.bin", 2000),
        ("npz-real", "davis240_poster.npz", 1 << 20),
    ):
        if (SHARED / "recordings" / path).exists():
            found[name] = (SHARED / "recordings" / path).read_bytes()[:size]
    found["csv"] = b"timestamp,x,y,polarity\n" + b"".join(
        b"%d,%d,%d,%d\n" % r
        for r in zip(e.t_us.tolist(), e.x.tolist(), e.y.tolist(), e.p.tolist(), strict=True)
    )
    found |= _numpy(e)
    found["raw-evt3-big"] = head % b"format EVT3;endianness=big;height=260;width=346" + (
        np.frombuffer(data["evt3"][:4000], "<u2").astype(">u2").tobytes()
    )
    found["aedat3"] = _aedat3(e)
    davis = e.x.astype(np.uint32) << 12 | e.y.astype(np.uint32) << 22 | e.p.astype(np.uint32) << 11
    found["aedat2-davis"] = (
        b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.Davis346B\r\n"
        + np.stack([davis, e.t_us.astype(np.uint32)], 1).astype(">u4").tobytes()
    )
    found["aedat2"] = (
        b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n# AEChip: DVS128\r\n"
        + np.arange(400, dtype=">u4").tobytes()
    )
    return found


def _numpy(e: Events) -> dict[str, bytes]:
    """Return arrays of every shape that events come in, and a zip of text."""
    table = np.stack([e.t_us, e.x, e.y, e.p], 1).astype(np.int64)
    found = {}
    for name, array in (
        ("npy", table),
        ("npy-sideways", table.T),
        ("npy-structured", e.to_structured()),
    ):
        target = io.BytesIO()
        np.save(target, array)
        found[name] = target.getvalue()
    target = io.BytesIO()
    np.savez_compressed(target, events=table.astype(np.float64))
    found["npz-table"] = target.getvalue()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        lines = (f"{t} {x} {y} {p}\n" for t, x, y, p in table.tolist())
        archive.writestr("events.txt", "".join(lines))
        archive.writestr("images.txt", "0.001 images/a.png\n0.002 images/b.png\n")
        archive.writestr("images/a.png", cv2.imencode(".png", np.full((9, 12), 7, np.uint8))[1])
    found["zip"] = target.getvalue()
    return found


def _aedat3(e: Events) -> bytes:
    """Return packets of events, edges and a frame."""
    words = (
        e.x.astype(np.uint32) << 17 | e.y.astype(np.uint32) << 2 | e.p.astype(np.uint32) << 1 | 1
    )
    polarity = np.stack([words, e.t_us.astype(np.uint32)], 1).astype("<u4").tobytes()
    edges = np.array([[2 << 1 | 1, 1000], [3 << 1 | 1, 1200]], "<u4").tobytes()
    frame = struct.pack("<9i", 1 << 1 | 1, 1, 2, 3, 4, 8, 6, 0, 0) + bytes(2 * 8 * 6)
    head = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DAVIS346\r\n#!END-HEADER\r\n"
    for kind, payload, size in ((1, polarity, 8), (0, edges, 8), (2, frame, len(frame))):
        count = len(payload) // size
        head += struct.pack("<hhiiiiii", kind, 1, size, 4, 0, count, count, count) + payload
    return head


def _hdf5_of_tools(folder: Path, e: Events) -> dict[str, bytes]:
    """Return files as v2e, event_utils and Metavision (with ECF) write them."""
    import h5py

    table = np.stack([e.t_us, e.x, e.y, e.p], 1)
    with h5py.File(folder / "v2e.h5", "w") as file:
        file.create_dataset("events", data=table.astype("u4"), chunks=(64, 4), compression="gzip")
        file["frame"], file["frame_ts"] = np.zeros((2, 260, 346), "u1"), np.array([0, 9], "u4")
    with h5py.File(folder / "utils.h5", "w") as file:
        file["events/ts"], file["events/ps"] = e.t_us / 1e6, e.p.astype(bool)
        file["events/xs"], file["events/ys"] = e.x, e.y
        file.create_dataset("images/image0", data=np.zeros((4, 6), "u1")).attrs["timestamp"] = 0.5
    kind = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    with h5py.File(folder / "metavision.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((64,))
        plist.set_filter(0x8ECF, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((64,), (h5py.h5s.UNLIMITED,))
        group = file.create_group("CD")
        data = h5py.h5d.create(group.id, b"events", h5py.h5t.py_create(kind), space, plist)
        chunk = struct.pack("<IQ", 64 << 2, 1000) + b"\x0f\x40\x00"  # 64 events at one time
        chunk += struct.pack("<HH", 5 << 5 | 31, 64)  # in one row
        chunk += b"".join(struct.pack("<H", 6 * i << 5 | 31) for i in range(11)) + b"\xc0\xc0"
        data.write_direct_chunk((0,), chunk)
        file.attrs["geometry"] = "346x260"
    return {f"hdf5-{name}": (folder / f"{name}.h5").read_bytes()
            for name in ("v2e", "utils", "metavision")}  # fmt: skip


def _mcap(path: Path) -> bytes:
    with McapWriter(path) as bag:
        for name, several in messages().items():
            if name == EventPacket.TYPE:
                for i, data in enumerate(several[:6]):
                    bag.write("/event_camera/events", name, data, STAMP_NS + i)
        for i, (name, data) in enumerate(images()):
            topic = "/event_camera/image_raw" if name == Image.TYPE else "/compressed"
            bag.write(topic, name, data, STAMP_NS + i)
    return path.read_bytes()


def _packed_mcap(kind: str) -> bytes:
    from mcap.writer import CompressionType, Writer

    target = io.BytesIO()
    # Without checksums, so that damage gets past them.
    writer = Writer(
        target, chunk_size=2000, compression=getattr(CompressionType, kind), enable_crcs=False
    )
    writer.start()
    schema = writer.register_schema(EventPacket.TYPE, "ros2idl", b"// none")
    channel = writer.register_channel("/events", "cdr", schema)
    for i, data in enumerate(messages()[EventPacket.TYPE]):
        writer.add_message(channel, STAMP_NS + i, data, STAMP_NS + i)
    writer.finish()
    return target.getvalue()


def _sqlite(path: Path) -> bytes:
    import zstandard

    with closing(sqlite3.connect(path)) as bag:
        bag.execute("CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT)")
        bag.execute(
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, "
            "data BLOB)"
        )
        bag.execute("INSERT INTO topics VALUES(1, '/events', ?)", [EventPacket.TYPE])
        for i, data in enumerate(messages()[EventPacket.TYPE][:8]):
            stored = zstandard.compress(data) if i % 3 == 2 else data
            bag.execute("INSERT INTO messages VALUES(?, 1, ?, ?)", [i, STAMP_NS + i, stored])
        bag.execute("INSERT INTO topics VALUES(2, '/image_raw', ?)", [Image.TYPE])
        raw = [data for name, data in images() if name == Image.TYPE]
        for i, data in enumerate(raw, start=100):
            bag.execute("INSERT INTO messages VALUES(?, 2, ?, ?)", [i, STAMP_NS + i, data])
        bag.commit()
    return path.read_bytes()


def _npz(path: Path) -> bytes:
    edges = Triggers(np.array([5]), np.array([1], np.uint8), np.array([1], np.uint8))
    with NpzWriter(path, width=WIDTH, height=HEIGHT) as writer:
        writer.write(events(200), edges)
    with zipfile.ZipFile(path) as packed:
        assert "t.npy" in packed.namelist()
    return path.read_bytes()


def _optional(folder: Path) -> dict[str, bytes]:
    """Return what needs libraries that not everybody has."""
    found = {}
    e = events(200)
    columns = {"t": e.t_us, "x": e.x, "y": e.y, "p": e.p}
    with contextlib.suppress(ImportError):
        import h5py

        with h5py.File(folder / "a.h5", "w") as file:
            for name, column in columns.items():
                file.create_dataset(f"events/{name}", data=column, chunks=(64,), compression="gzip")
            file["t_offset"] = 5
            file["ms_to_idx"] = [0, 10, 20]
        found["hdf5"] = (folder / "a.h5").read_bytes()
        found |= _hdf5_of_tools(folder, e)
    with contextlib.suppress(ImportError):
        from scipy.io import savemat

        named = {"x": e.x, "y": e.y, "ts": e.t_us, "p": e.p}
        savemat(folder / "a.mat", {"TD": named}, do_compression=True)
        found["matlab"] = (folder / "a.mat").read_bytes()
        savemat(folder / "b.mat", {"TD": named})
        found["matlab-plain"] = (folder / "b.mat").read_bytes()
    with contextlib.suppress(ImportError):
        found["rosbag1"] = _rosbag1(folder / "a.bag")
    return found


def _rosbag1(path: Path) -> bytes:
    from rosbags.rosbag1 import Writer

    text = "uint32 height\n"  # definitions are not read, only kept
    writer = Writer(path)
    writer.set_compression(Writer.CompressionFormat.LZ4)
    with writer:
        kind = "dvs_msgs/msg/EventArray"
        connection = writer.add_connection("/dvs/events", kind, msgdef=text, md5sum="0" * 32)
        for seq in range(3):
            header = struct.pack("<IIII3s", seq, 5, seq * 1000, 3, b"dvs")
            rows = b"".join(struct.pack("<HHIIB", i, i, 5, i * 1000, i % 2) for i in range(9))
            body = struct.pack("<III", 180, 240, 9)
            writer.write(connection, STAMP_NS + seq, header + body + rows)
    return path.read_bytes()
