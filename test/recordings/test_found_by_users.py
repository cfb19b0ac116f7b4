"""One test for each fault that people met with their own files, named by what they did."""

import contextlib
import sqlite3
import struct
import zipfile
from contextlib import closing

import cv2
import numpy as np
import pytest

from evdistill_core.data.recording_index import index_recording
from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import ConfigError, RecordingError
from evdistill_core.messages.event_messages import EventArray, EventBlock, EventPacket
from evdistill_core.messages.standard import Header, Image, Time
from evdistill_core.messages.types import message_type
from evdistill_core.perception.feed import in_order
from evdistill_core.perception.offline import run_recording
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.perception.student import Student
from evdistill_core.recordings.base import Frame
from evdistill_core.recordings.convert import ConvertConfig, convert, convert_file
from evdistill_core.recordings.encoders.packets import events_to_packets
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.readers import aedat4_file
from evdistill_core.recordings.readers.aedat4_file import Stream
from evdistill_core.recordings.readers.ecf import decode_ecf
from evdistill_core.recordings.sinks import create_recording
from evdistill_core.recordings.writers.aedat4 import Aedat4Writer
from evdistill_core.recordings.writers.mcap import McapWriter


def read(path, **options):
    """Return the events of a file, and the information after all were read."""
    with open_recording(path, **options) as recording:
        size = recording.info.width, recording.info.height
        events = Events.concatenate([Events.empty(*size), *[b.events for b in recording.batches()]])
        return events, recording.info


# Cameras


def aedat2(path, address, header=b"", step_us=100):
    words = np.empty(2 * len(address), ">u4")
    words[0::2], words[1::2] = address, np.arange(len(address)) * step_us
    path.write_bytes(b"#!AER-DAT2.0\r\n" + header + words.tobytes())
    return path


def davis(x, y, p=1):
    return np.asarray(x) << 12 | np.asarray(y) << 22 | np.asarray(p) << 11


def test_read_a_dvs128_of_jaer(tmp_path):
    """People lay on their side: rows and columns were exchanged."""
    x, y, p = np.array([3, 100]), np.array([120, 7]), np.array([1, 0])
    header = b"# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"
    events, info = read(aedat2(tmp_path / "a.aedat", x << 1 | y << 8 | p, header))
    assert events.x.tolist() == [127 - 3, 127 - 100]
    assert events.y.tolist() == [127 - 120, 127 - 7]
    assert events.p.tolist() == [0, 1]
    assert info.warnings == ()


@pytest.mark.parametrize(
    ("chip", "width", "height"),
    [
        ("eu.seebetter.ini.chips.davis.Davis128", 128, 128),
        ("eu.seebetter.ini.chips.davis.Davis208PixelParade", 208, 192),
        ("eu.seebetter.ini.chips.davis.DAVIS240A", 240, 180),
        ("eu.seebetter.ini.chips.davis.DAVIS240C", 240, 180),
        ("eu.seebetter.ini.chips.davis.Davis346B", 346, 260),
        ("eu.seebetter.ini.chips.davis.Davis346redColor", 346, 260),
        ("eu.seebetter.ini.chips.davis.Davis640", 640, 480),
    ],
)
def test_read_a_davis_that_is_no_346(tmp_path, chip, width, height):
    i = np.arange(1000)
    header = f"# AEChip: {chip}\r\n#End Of ASCII Header\r\n".encode()
    path = aedat2(tmp_path / "a.aedat", davis(i % width, i % height, i & 1), header)
    events, info = read(path)
    assert (info.width, info.height) == (width, height)
    assert np.array_equal(events.x, width - 1 - i % width)
    assert np.array_equal(events.y, height - 1 - i % height)
    assert np.array_equal(events.p, i & 1)


@pytest.mark.parametrize("chip", ["davis.CDAVIS", "davis.DavisRGBW640", "davis.SciDVS", "DvsX"])
def test_read_a_chip_that_nobody_knows(tmp_path, chip):
    path = aedat2(tmp_path / "a.aedat", davis([1], [2]), f"# AEChip: {chip}\r\n".encode())
    with pytest.raises(RecordingError, match=f"{chip}.*--camera.*davis240"):
        read(path)
    assert read(path, camera="DAVIS240C")[0].x.tolist() == [238]


def test_read_aedat2_without_a_chip_line(tmp_path):
    """A DAVIS is told by its addresses where they reach to its edges, else asked for."""
    i = np.arange(2000)
    events, info = read(aedat2(tmp_path / "a.aedat", davis(i % 240, i % 180)))
    assert (info.width, info.height) == (240, 180)
    assert events.x[:2].tolist() == [239, 238]
    assert "does not name its camera" in info.warnings[0]
    path = aedat2(tmp_path / "b.aedat", davis(i % 200, i % 100))
    with pytest.raises(RecordingError, match=r"column 199 and row 99\. Say which with --camera"):
        read(path)
    assert read(path, camera="davis346")[0].x[0] == 345
    with pytest.raises(RecordingError, match="--camera names the camera 'nokia'"):
        read(path, camera="nokia")


def aedat3_packet(kind, source, payload, size, overflow=0):
    count = len(payload) // size
    return struct.pack("<hhiiiiii", kind, source, size, 4, overflow, count, count, count) + payload


def polarity(x, y, p, t):
    data = np.asarray(x) << 17 | np.asarray(y) << 2 | np.asarray(p) << 1 | 1
    return np.stack([data, np.asarray(t)], 1).astype("<u4").tobytes()


def aedat3(path, *packets, sources=("DVS128",), version="3.1", form="RAW"):
    named = "".join(f"#Source {i}: {name}\r\n" for i, name in enumerate(sources, start=1))
    head = f"#!AER-DAT{version}\r\n#Format: {form}\r\n{named}#Start-Time: now\r\n#!END-HEADER\r\n"
    path.write_bytes(head.encode() + b"".join(packets))
    return path


def test_read_dvs128_gesture(tmp_path):
    """AEDAT 3.1 of cAER: events, edges, and a clock of 31 bits that has wrapped."""
    i = np.arange(500)
    edge = np.array([[2 << 1 | 1, 70], [3 << 1 | 1, 90], [1 << 1 | 1, 95]], "<u4").tobytes()
    path = aedat3(
        tmp_path / "a.aedat",
        aedat3_packet(1, 1, polarity(i % 128, i % 100, i % 2, i * 10), 8),
        aedat3_packet(0, 1, edge, 8),
        aedat3_packet(3, 1, bytes(36), 36),  # IMU
        aedat3_packet(1, 1, polarity(i % 128, i % 100, i % 2, i * 10), 8, overflow=1),
    )
    with open_recording(path) as recording:
        batches = list(recording.batches())
        info = recording.info
        late = [b.events.t_us for b in recording.batches((1 << 31) + 4000)]
    events = Events.concatenate([b.events for b in batches])
    edges = Triggers.concatenate([b.triggers for b in batches])
    assert (info.format, info.width, info.height, info.warnings) == ("aedat3", 128, 128, ())
    assert np.array_equal(events.t_us, np.r_[i * 10, (1 << 31) + i * 10])
    assert np.array_equal(events.x[:500], i % 128)
    assert np.array_equal(events.y[:500], i % 100)
    assert np.array_equal(events.p[:500], i % 2)
    assert (edges.t_us.tolist(), edges.edge.tolist()) == ([70, 90], [1, 0])
    assert len(np.concatenate(late)) == 100


def test_read_aedat3_of_several_cameras(tmp_path):
    i = np.arange(50)
    left, right = (polarity(i + k, i, i % 2, i) for k in (0, 10))
    packets = aedat3_packet(1, 1, left, 8), aedat3_packet(1, 2, right, 8)
    path = aedat3(tmp_path / "a.aedat", *packets, sources=("DAVIS240C", "DAVIS240C"))
    with pytest.raises(RecordingError, match=r"several cameras.*DAVIS240C:1, DAVIS240C:2"):
        open_recording(path)
    assert read(path, topic="DAVIS240C:2")[0].x[0] == 10
    one = aedat3(tmp_path / "b.aedat", packets[1], sources=("DAVIS240C", "DAVIS346"))
    events, info = read(one)
    assert (info.topic, events.width, len(events)) == ("DAVIS346", 346, 50)


def test_read_aedat3_with_frames(tmp_path):
    image = np.arange(240 * 180, dtype="<u2").reshape(180, 240)
    head = struct.pack("<9i", 1 << 1 | 1, 1, 2, 7000, 8000, 240, 180, 0, 0)
    frame = aedat3_packet(2, 1, head + image.tobytes(), 36 + image.nbytes)
    events = aedat3_packet(1, 1, polarity([1], [2], [1], [3]), 8)
    path = aedat3(tmp_path / "a.aedat", frame, events, sources=("DAVIS240C",))
    with open_recording(path) as recording:
        (found,) = recording.frames()
        assert (found.t_us, found.image.shape) == (7000, (180, 240))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"version": "3.0"}, "AEDAT 3.0 in the format RAW; read is 3.1"),
        ({"form": "Serial-TS"}, "in the format Serial-TS"),
        ({"sources": ("Cochlea",)}, "names the camera 'Cochlea'.*--camera"),
    ],
)
def test_read_an_aedat3_that_is_not_known(tmp_path, content, message):
    with pytest.raises(RecordingError, match=message):
        open_recording(aedat3(tmp_path / "a.aedat", **content))


def test_lose_power_while_recording_aedat3(tmp_path):
    packets = [aedat3_packet(1, 1, polarity([1], [2], [1], [k]), 8) for k in range(9)]
    path = aedat3(tmp_path / "a.aedat", *packets, bytes(8192))
    events, info = read(path)
    assert len(events) == 9
    assert len(info.warnings) == 1
    path.write_bytes(aedat3(path, *packets).read_bytes()[:-3])
    events, info = read(path)
    assert len(events) == 8
    assert "cut off or damaged from byte" in info.warnings[0]


def test_read_aedat4_of_two_cameras(tmp_path, monkeypatch):
    """Images belong to the camera of the events, whatever stream comes first in the file."""
    path = made_aedat4(tmp_path / "a.aedat4", packets=1)
    streams = [
        Stream("left events", 7, "EVTS", 346, 260, "left"),
        Stream("right events", 0, "EVTS", 346, 260, "right"),
        Stream("left frames", 8, "FRME", 346, 260, "left"),
        Stream("right frames", 9, "FRME", 346, 260, "right"),
    ]
    monkeypatch.setattr(aedat4_file, "_streams", lambda _: tuple(streams))
    with open_recording(path) as recording:  # the left camera sent nothing
        assert (recording.info.topic, recording.info.frame_topic) == (
            "right events",
            "right frames",
        )
        assert sum(len(b.events) for b in recording.batches()) == 2000


def test_read_aedat4_that_does_not_tell_its_size(tmp_path, monkeypatch):
    path = made_aedat4(tmp_path / "a.aedat4", packets=1)
    monkeypatch.setattr(aedat4_file, "_streams", lambda _: (Stream("events", 0, "EVTS", 0, 0),))
    with pytest.raises(RecordingError, match="give --size WIDTHxHEIGHT or --camera NAME"):
        open_recording(path)
    for said in ({"size": "346x260"}, {"camera": "DAVIS346"}):
        events, info = read(path, **said)
        assert (len(events), info.width, info.height) == (2000, 346, 260)


# Streams of Prophesee


def evt3(path, words, header=b"% evt 3.0\n% geometry 320x240\n", order="<"):
    path.write_bytes(header + b"% end\n" + np.array(words, f"{order}u2").tobytes())
    return path


def converted_words():
    words = [0x8000]
    for t in (0, 1000):
        words += [0x6000 | t] if t else []
        for i in range(1000):
            words += [i % 240, 0x2800 | i % 320]
    return words


def test_read_an_evt3_of_a_converter(tmp_path):
    """It writes TIME_LOW only once the time is not zero."""
    events, _ = read(evt3(tmp_path / "a.raw", converted_words()))
    assert len(events) == 2000
    assert np.unique(events.t_us).tolist() == [0, 1000]


def test_read_an_evt3_that_was_cut_out_of_a_sensors_stream(tmp_path):
    """A sensor repeats TIME_HIGH: what comes before its first TIME_LOW has no time."""
    words = [0x8005, 7, 0x2803, 0x8005, 0x6010, 7, 0x2804]
    events, _ = read(evt3(tmp_path / "a.raw", words))
    assert events.x.tolist() == [4]
    assert events.t_us.tolist() == [5 << 12 | 0x10]


def test_read_words_with_their_highest_byte_first(tmp_path):
    header = b"% format EVT3;endianness=big;height=240;width=320\n"
    events, _ = read(evt3(tmp_path / "a.raw", converted_words(), header, order=">"))
    little, _ = read(evt3(tmp_path / "b.raw", converted_words()))
    assert events.equals(little)


@pytest.mark.parametrize("bits", [(9, 8), (14, 14)])
def test_read_a_dat_without_a_version_line(tmp_path, bits):
    x, y, p = np.array([70, 301, 5]), np.array([200, 3, 9]), np.array([1, 0, 1])
    word = x | y << bits[0] | p << sum(bits)
    body = np.stack([np.arange(3), word], 1).astype("<u4").tobytes()
    (tmp_path / "a.dat").write_bytes(b"% Data file containing CD events.\n\x0c\x08" + body)
    events, info = read(tmp_path / "a.dat", size="304x240")
    assert (info.width, info.height) == (304, 240)
    assert (events.x.tolist(), events.y.tolist()) == (x.tolist(), y.tolist())
    assert events.p.tolist() == p.tolist()


# Sizes


@pytest.mark.parametrize("how", ["numbers", "attributes", "geometry", "sensor", "generation"])
def test_read_hdf5_that_says_its_size(tmp_path, how):
    h5py = pytest.importorskip("h5py")
    i = np.arange(1000)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, column in {"x": i % 304, "y": i % 240, "t": i * 100, "p": i % 2}.items():
            file[f"events/{name}"] = column
        if how == "numbers":
            file["events/width"], file["events/height"] = 304, 240
        elif how == "attributes":
            file.attrs["width"], file.attrs["height"] = 304, 240
        elif how == "geometry":
            file["events"].attrs["geometry"] = "304x240"
        elif how == "sensor":
            file.attrs["sensor_name"] = "IMX636"
        else:
            file.attrs["sensor_generation"] = "4.2"
    _, info = read(tmp_path / "a.h5")
    expected = (1280, 720) if how in {"sensor", "generation"} else (304, 240)
    assert (info.width, info.height) == expected
    assert info.warnings == ()


def test_say_the_size_of_a_sensor(tmp_path):
    np.savez(tmp_path / "a.npz", t=[1, 2], x=[3, 4], y=[5, 6], p=[0, 1])
    assert read(tmp_path / "a.npz")[0].width == 5
    for options in ({"size": "640x480"}, {"size": (640, 480)}, {"camera": "gen31"}):
        events, info = read(tmp_path / "a.npz", **options)
        assert (events.width, events.height) == (640, 480)
        assert info.warnings == ()
    for wrong in ("640", "0x5", "640x480x3", "99999x1", (1, 2, 3)):
        with pytest.raises(ConfigError, match="WIDTHxHEIGHT"):
            open_recording(tmp_path / "a.npz", size=wrong)


# Columns and units


def columns(count=2000, t0=57_922_807_588):
    i = np.arange(count)
    return {"t": t0 + i * 100, "x": i % 640, "y": i % 480, "p": i % 2}


def write_text(path, order, *, sep=" ", head="", end="\n", **kinds):
    table = columns(**kinds)
    rows = zip(*(table[letter].tolist() for letter in order), strict=True)
    lines = [head, *(sep.join(map(str, row)) for row in rows)]
    path.write_bytes(end.join(line for line in lines if line).encode() + end.encode())
    return path


def check(events, count=2000, t0=57_922_807_588):
    table = columns(count, t0)
    assert np.array_equal(events.t_us, table["t"])
    assert np.array_equal(events.x, table["x"])
    assert np.array_equal(events.y, table["y"])
    assert np.array_equal(events.p, table["p"])


@pytest.mark.parametrize("order", ["txyp", "xypt", "xytp", "ptxy", "tpxy"])
def test_read_text_with_columns_in_another_order(tmp_path, order):
    path = write_text(tmp_path / "a.txt", order, sep="\t")
    events, info = read(path)
    check(events)
    assert any("columns are read as" in text for text in info.warnings) == (order != "txyp")
    events, info = read(path, columns=order, size="640x480")
    check(events)
    assert info.warnings == ()


@pytest.mark.parametrize("order", ["txyp", "xypt", "xytp"])
def test_read_a_table_with_columns_in_another_order(tmp_path, order):
    table = columns()
    rows = np.stack([table[letter] for letter in order], 1)
    np.savez(tmp_path / "a.npz", events=rows)
    np.save(tmp_path / "a.npy", rows)
    np.save(tmp_path / "b.npy", np.array([table[letter] for letter in order]))
    np.savez_compressed(tmp_path / "b.npz", np.array([table[letter] for letter in order]).T)
    for name in ("a.npz", "a.npy", "b.npy", "b.npz"):
        check(read(tmp_path / name)[0])


def test_read_columns_that_nobody_can_tell(tmp_path):
    """Two columns could be the polarity, none of them the usual one."""
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{i % 2} {i * 100} {i % 2} {i % 9}\n" for i in range(500)))
    with pytest.raises(RecordingError, match=r"not clear.*--columns xypt.*column 2: 0 \.\. 49900"):
        open_recording(path)
    assert read(path, columns="xtpy")[0].t_us[-1] == 49_900
    for wrong in ("xyp", "xyptt", "abcd"):
        with pytest.raises(ConfigError, match="--columns must name t, x, y and p"):
            open_recording(path, columns=wrong)
    with pytest.raises(RecordingError, match="has 4 columns, --columns xtpy- names 5"):
        open_recording(path, columns="xtpy-")


@pytest.mark.parametrize(
    ("head", "sep", "end"),
    [
        ("timestamp,x,y,polarity", ",", "\n"),
        ("\ufefft,x,y,p", ",", "\r\n"),
        ("\ufeff", ",", "\r\n"),
        ("", ";", "\n"),
        ("# t x y p", " ", "\n"),
        ("640 480", " ", "\n"),
        ("t_us; x; y; pol", "; ", "\n"),
    ],
)
def test_read_csv(tmp_path, head, sep, end):
    path = write_text(tmp_path / "a.csv", "txyp", sep=sep, head=head, end=end)
    if head == "\ufeff":
        path.write_bytes(path.read_bytes().replace(b"\xef\xbb\xbf\r\n", b"\xef\xbb\xbf", 1))
    events, info = read(path)
    check(events)
    assert (info.width, info.height) == (640, 480)


def test_read_csv_with_a_header_in_another_order(tmp_path):
    path = write_text(tmp_path / "a.csv", "pxty", sep=",", head="polarity,x,time [us],y")
    check(read(path)[0])
    with open_recording(path) as recording:  # and a span of it
        part = [b.events.t_us for b in recording.batches(57_922_807_588 + 150_000)]
    assert len(np.concatenate(part)) == 500


def test_read_text_with_a_fifth_column(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{i * 100} {i % 64} {i % 48} {i % 2} 7\n" for i in range(500)))
    events, info = read(path)
    assert (len(events), events.width, events.height) == (500, 64, 48)
    assert "columns after the fourth are not read (1)" in info.warnings[0]
    assert "--columns" not in read(path, columns="txyp-", size="64x48")[1].warnings


def test_read_times_in_nanoseconds(tmp_path):
    i = np.arange(2000)
    np.savez(tmp_path / "a.npz", t=i * 100_000, x=i % 640, y=i % 480, p=2 * (i % 2) - 1)
    _, info = read(tmp_path / "a.npz")
    assert any("10 events a second (nanoseconds would give 10,000)" in w for w in info.warnings)
    events, info = read(tmp_path / "a.npz", time_unit="ns", size="640x480")
    assert np.array_equal(events.t_us, i * 100)
    assert info.warnings == ()
    now_ns = 1_589_163_147_368_868_123
    np.savez(tmp_path / "b.npz", t=now_ns + i * 100_000, x=i % 640, y=i % 480, p=i % 2)
    events, info = read(tmp_path / "b.npz")  # no microseconds: they would be in the year 52,000
    assert events.t_us[0] == now_ns // 1000
    assert any("nanoseconds, by their date" in w for w in info.warnings)
    np.savez(tmp_path / "c.npz", timestamps_ns=i * 100_000, xs=i % 64, ys=i % 48, polarity=i % 2)
    assert np.array_equal(read(tmp_path / "c.npz")[0].t_us, i * 100)
    with pytest.raises(ConfigError, match="must be ns, us, ms, s, got 'hours'"):
        open_recording(tmp_path / "a.npz", time_unit="hours")


@pytest.mark.parametrize("unit", ["ns", "us", "ms", "s"])
def test_say_the_unit_of_time(tmp_path, unit):
    i = np.arange(1000)
    scale = {"ns": 1e-3, "us": 1, "ms": 1e3, "s": 1e6}[unit]
    for name, t in (("a.npz", i * 1000), ("b.npz", i * 1000.0)):
        np.savez(tmp_path / name, t=t, x=i % 64, y=i % 48, p=i % 2)
        events, _ = read(tmp_path / name, time_unit=unit)
        assert np.array_equal(events.t_us, np.rint(i * 1000 * scale).astype(np.int64))


def test_read_microseconds_in_floating_point(tmp_path):
    """Numbers without a single fraction are no seconds."""
    i = np.arange(2000)
    np.save(tmp_path / "a.npy", np.stack([i % 640, i % 480, i * 100, i % 2], 1).astype(float))
    events, info = read(tmp_path / "a.npy")
    assert np.array_equal(events.t_us, i * 100)
    assert any("read as microseconds, not as seconds" in text for text in info.warnings)


@pytest.mark.parametrize(
    "names", [("ts", "xs", "ys", "ps"), ("timestamp", "x", "y", "pol"), ("t", "x", "y", "polarity")]
)
def test_read_other_names_of_columns(tmp_path, names):
    table = columns()
    found = dict(zip(names, table.values(), strict=True))
    np.savez(tmp_path / "a.npz", **found)
    array = np.empty(
        2000, [(names[1], "<u2"), (names[2], "<u2"), (names[0], "<i8"), (names[3], "?")]
    )
    for name, column in found.items():
        array[name] = column
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", event_data=array)
    for name in ("a.npz", "a.npy", "b.npz"):
        check(read(tmp_path / name)[0])
    del found[names[3]]
    np.savez(tmp_path / "c.npz", **found)
    with pytest.raises(RecordingError, match="looks like columns of events but lacks p"):
        open_recording(tmp_path / "c.npz")
    np.save(tmp_path / "c.npy", np.zeros(5, [(name, "<i8") for name in names[:3]]))
    with pytest.raises(RecordingError, match=r"looks like a structured array.*lacks p"):
        open_recording(tmp_path / "c.npy")


def test_read_the_boxes_of_a_recording(tmp_path):
    fields = [("ts", "<u8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"),
              ("class_id", "u1"), ("confidence", "<f4"), ("track_id", "<u4")]  # fmt: skip
    np.save(tmp_path / "a_bbox.npy", np.zeros(3, fields))
    with pytest.raises(RecordingError, match="bounding boxes, no events: they are labels"):
        open_recording(tmp_path / "a_bbox.npy")


@pytest.mark.parametrize("is_zip", [True, False])
def test_read_the_images_beside_events_txt(tmp_path, is_zip):
    """The IJRR data set has a list of times and names, and PNG files; they were passed over."""
    rows = "".join(f"{0.5 + i * 1e-4:.6f} {i % 240} {i % 180} {i % 2}\n" for i in range(2000))
    image = cv2.imencode(".png", np.full((180, 240), 77, np.uint8))[1].tobytes()
    lists = [
        "0.500100000 images/frame_0.png",
        "# a comment",
        "0.541204 images/frame_1.png",
        "0.55 images/gone.png",
        "0.56 images/half.png",
        "0.57 ../../outside.png",
        "soon images/frame_0.png",
        "0.58",
    ]
    files = {
        "slider/events.txt": rows.encode(),
        "slider/images.txt": "\n".join(lists).encode(),
        "slider/images/frame_0.png": image,
        "slider/images/frame_1.png": image,
        "slider/images/half.png": image[:-20],
        "outside.png": image,
    }
    if is_zip:
        path = tmp_path / "slider.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        path = tmp_path / "in" / "slider" / "events.txt"
        for name, data in files.items():
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).write_bytes(data)
    with open_recording(path, size="240x180") as recording:
        frames = list(recording.frames())
        left_out = recording.left_out_frames
        assert recording.info.frame_topic == "images"
        assert any("left out" in warning for warning in recording.info.warnings)
        assert convert(recording, tmp_path / "a.aedat4").frames == 2
    assert [f.t_us for f in frames] == [500_100, 541_204]
    assert all(f.image.shape == (180, 240) and (f.image == 77).all() for f in frames)
    assert sum(left_out.values()) == 5
    assert left_out["a PNG is cut off or damaged"] == 1
    assert left_out["a line of images.txt begins with no time"] == 1
    assert left_out["a line of images.txt has no name of an image"] == 1
    reading = {"size": "240x180"}
    indexed = index_recording(path, tmp_path / "cache", reading)
    assert indexed.frame_t_us.tolist() == [500_100, 541_204]
    if not is_zip:
        path.with_name("images.txt").write_text("\n".join(lists[:1]))
        indexed = index_recording(path, tmp_path / "cache", reading)
        assert indexed.frame_t_us.tolist() == [500_100]


def test_read_a_zip_of_events_txt(tmp_path):
    """As the Event Camera Dataset is handed out."""
    path = write_text(tmp_path / "events.txt", "txyp")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "events.txt")
        archive.writestr("calib.txt", "199.0 198.0 132.0 110.0 -0.3 0.1 -0.0 -0.0 0.0\n")
        archive.writestr("images.txt", "0.001 images/frame_00000000.png\n")
    check(read(tmp_path / "a.zip")[0])
    with open_recording(tmp_path / "a.zip") as recording:
        part = [b.events.t_us for b in recording.batches(57_922_807_588 + 150_000)]
    assert len(np.concatenate(part)) == 500
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.write(path, "left.txt")
        archive.write(path, "right.txt")
    with pytest.raises(
        RecordingError, match=r"several text files of events: left\.txt, right\.txt"
    ):
        open_recording(tmp_path / "b.zip")


def test_read_what_is_no_recording(tmp_path):
    for content, message in (
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"0 0 0 0ftypisom", "a video .MP4."),
        (b"1.5 2 3\n2.5 3 4\n", "text of 3 numbers a line; events need four"),
    ):
        path = tmp_path / "a"
        path.write_bytes(content.replace(b"0 0 0 0", b"\0\0\0\x20"))
        with pytest.raises(RecordingError, match=message):
            open_recording(path)


def test_say_what_a_file_tells_itself(tmp_path):
    """An option that means nothing for a kind of file is refused, not ignored."""
    made_aedat4(tmp_path / "a.aedat4", packets=1)
    with pytest.raises(
        RecordingError,
        match=r"an AEDAT4 file, which tells .*, so --camera does not apply: leave it",
    ):
        open_recording(tmp_path / "a.aedat4", camera="DAVIS346")
    i = np.arange(9)
    np.savez(tmp_path / "a.npz", t=i, x=i, y=i, p=i % 2)
    np.save(tmp_path / "a.npy", np.zeros(5, [(name, "<i8") for name in "txyp"]))
    for name in ("a.npz", "a.npy"):
        with pytest.raises(RecordingError, match="its columns have names; --columns"):
            open_recording(tmp_path / name, columns="xypt")
    evt3(tmp_path / "a.raw", converted_words())
    with pytest.raises(
        RecordingError, match=r"--columns does not apply: it takes --size, --camera"
    ):
        open_recording(tmp_path / "a.raw", columns="xypt")


# Damage


def made_aedat4(path, packets=12):
    i = np.arange(2000)
    with Aedat4Writer(path, width=346, height=260, frame_size=None) as writer:
        for k in range(packets):
            t_us = k * 20_000 + i * 10
            events = Events.from_columns(i % 346, i % 260, t_us, i & 1, width=346, height=260)
            writer.write(events, Triggers.empty())
    return path


def test_lose_power_while_recording_aedat4(tmp_path):
    """A file that ends in zeros gave a warning for each eight of them."""
    whole = made_aedat4(tmp_path / "a.aedat4").read_bytes()
    path = tmp_path / "b.aedat4"
    path.write_bytes(whole[: len(whole) * 2 // 3] + bytes(256 << 10))
    events, info = read(path)
    assert len(events) >= 2000
    assert len(info.warnings) == 1
    assert "zeros, as a power cut leaves it" in info.warnings[0]


@pytest.mark.parametrize("kind", ["dat", "aedat2", "es", "raw"])
def test_lose_power_while_recording(tmp_path, kind):
    """Zeros are an event at pixel 0, 0 in most formats: none of them is given out."""
    i = np.arange(1, 300)
    dat = np.stack([i, i % 300 | i % 200 << 14 | 1 << 28], 1).astype("<u4").tobytes()
    evt2 = np.stack([8 << 28 | i, 1 << 28 | i % 300 << 11 | 7], 1).astype("<u4").tobytes()
    words = np.stack([(i & 127) << 1 | (i & 127) << 8, i], 1).astype(">u4").tobytes()
    es = b"".join(struct.pack("<BHH", 3, 5, 7) for _ in i)
    content = {
        "dat": b"% Version 2\n% Width 320\n% Height 240\n\x0c\x08" + dat,
        "raw": b"% evt 2.0\n% geometry 320x240\n% end\n" + evt2,
        "aedat2": b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n" + words,
        "es": b"Event Stream\2\0\0\1" + struct.pack("<HH", 320, 240) + es,
    }[kind]
    path = tmp_path / "a"
    path.write_bytes(content)
    whole, info = read(path)
    assert info.warnings == ()
    path.write_bytes(content + bytes(64 << 10))
    events, info = read(path)
    assert events.equals(whole)
    assert len(info.warnings) == 1
    assert "zeros" in info.warnings[0]


# Matlab


def test_read_a_mat_with_two_structs(tmp_path):
    """TD holds polarity events, EM exposures; an ATIS counts its pixels from 1 to 304 and 240."""
    io = pytest.importorskip("scipy.io")
    i = np.arange(1000)
    td = {"x": i % 304 + 1, "y": i % 240 + 1, "ts": i * 10, "p": i % 2}
    em = {name: column[:900] for name, column in td.items()}
    io.savemat(tmp_path / "a.mat", {"EM": em, "TD": td})
    events, info = read(tmp_path / "a.mat")
    assert (len(events), info.topic, info.width, info.height) == (1000, "TD", 304, 240)
    assert events.x[:3].tolist() == [0, 1, 2]
    assert [t.name for t in info.topics] == ["TD", "EM"]
    assert any("--topic" in text and "EM" in text for text in info.warnings)
    assert len(read(tmp_path / "a.mat", topic="EM")[0]) == 900
    with pytest.raises(RecordingError, match="no events called 'APS'; it has: TD, EM"):
        read(tmp_path / "a.mat", topic="APS")


# Camera images

EPOCH_NS = 1_700_000_000_000_000_000
IMAGES, IMAGE_PERIOD_NS = 20, 30_000_000
WIDTH, HEIGHT = 346, 260
RAMP = (np.indices((HEIGHT, WIDTH)).sum(0) % 256).astype(np.uint8)


def write_camera_bag(path, encoding, rows):
    """Write 0.6 s of events and 20 images beside them; ``rows`` are the bytes of an image."""
    t_us = np.arange(0, IMAGES * IMAGE_PERIOD_NS // 1000, 100)
    x, y = np.arange(len(t_us)) * 13 % WIDTH, np.arange(len(t_us)) * 7 % HEIGHT
    events = Events.from_columns(x, y, t_us, x % 2, width=WIDTH, height=HEIGHT)
    with McapWriter(path) as writer:
        for seq, packet in enumerate(events_to_packets([events])):
            stamp_ns = EPOCH_NS + packet.end_us * 1000
            message = EventPacket(
                Header(Time.from_ns(stamp_ns), "camera"), HEIGHT, WIDTH, seq, packet.time_base_ns,
                "libcaer_cmp", False, packet.payload,
            )  # fmt: skip
            writer.write("/event_camera/events", EventPacket.TYPE, message.serialize(), stamp_ns)
        for k in range(IMAGES):
            stamp_ns = EPOCH_NS + k * IMAGE_PERIOD_NS + 10_000_000
            header = Header(Time.from_ns(stamp_ns), "camera")
            height, step = rows.shape
            image = Image(header, height, WIDTH, encoding, 0, step, rows.tobytes())
            writer.write("/event_camera/image_raw", Image.TYPE, image.serialize(), stamp_ns)
    return path


def frames_of(path):
    with open_recording(path) as recording:
        return [frame.image for frame in recording.frames()]


def indexed_frames(path, cache):
    indexed = index_recording(path, cache)
    return [indexed.frame_before(int(t), within_us=1) for t in indexed.frame_t_us]


def wide(image):
    """Return the rows of 16 bits whose upper 8 are the image, as libcaer_driver sends them."""
    return (image.astype("<u2") << 8).view(np.uint8).reshape(len(image), -1)


CAMERAS = {
    "mono8": (RAMP, RAMP),
    "mono16": (wide(RAMP), RAMP),  # libcaer_driver since April 2025
    "rgb16": (wide(RAMP.repeat(3, axis=1)), np.stack([RAMP] * 3, axis=-1)),
    "yuv422_yuy2": (  # the default of usb_cam
        np.stack([RAMP, np.full_like(RAMP, 128)], axis=-1).reshape(HEIGHT, -1),
        np.stack([np.clip((RAMP - 16.0) * 255 / 219, 0, 255)] * 3, axis=-1),
    ),
}


@pytest.mark.parametrize("suffix", [".mcap", ".aedat4"])
@pytest.mark.parametrize("encoding", CAMERAS)
def test_convert_images_of_todays_cameras(tmp_path, encoding, suffix):
    rows, expected = CAMERAS[encoding]
    bag = write_camera_bag(tmp_path / "a.mcap", encoding, rows)
    with open_recording(bag) as recording:
        result = convert(recording, tmp_path / f"out{suffix}")
        assert recording.info.warnings == ()
    assert (result.frames, result.dropped_frames, result.left_out_frames) == (IMAGES, 0, {})
    found = frames_of(tmp_path / f"out{suffix}")
    assert len(found) == IMAGES
    for image in found:
        assert image.shape == expected.shape
        assert np.abs(image - expected).max() <= 1


@pytest.mark.parametrize("encoding", CAMERAS)
def test_train_with_images_of_todays_cameras(tmp_path, encoding):
    rows, expected = CAMERAS[encoding]
    bag = write_camera_bag(tmp_path / "a.mcap", encoding, rows)
    found = indexed_frames(bag, tmp_path / "cache")
    assert len(found) == IMAGES
    grey = expected if expected.ndim == 2 else expected[:, :, 0]
    assert max(np.abs(image - grey).max() for image in found) <= 1


def test_convert_a_bayer_image_of_pure_red(tmp_path):
    mosaic = np.zeros((HEIGHT, WIDTH), np.uint8)
    mosaic[::2, ::2] = 255
    bag = write_camera_bag(tmp_path / "a.mcap", "bayer_rggb8", mosaic)
    for name in ("out.mcap", "out.aedat4"):
        with open_recording(bag) as recording:
            convert(recording, tmp_path / name)
        for image in frames_of(tmp_path / name):
            np.testing.assert_array_equal(image, np.full((HEIGHT, WIDTH, 3), (255, 0, 0)))


def test_cut_a_bag_with_16_bit_images(tmp_path):
    """16 bits stay 16 bits, and headers stay what they were."""
    bag = write_camera_bag(tmp_path / "a.mcap", "mono16", wide(RAMP))
    with open_recording(bag) as recording:
        topic = recording.info.frame_topic
        before = [p.data for p in recording.packets([topic])]
        config = ConvertConfig(
            start_us=100_000, end_us=300_000, frames_topic=topic, other_topics=True
        )
        convert(recording, tmp_path / "cut.mcap", config)
    with open_recording(tmp_path / "cut.mcap") as recording:
        after = [p.data for p in recording.packets([topic])]
    assert after == before[4:10]  # at 130, 160, ... 280 ms
    assert Image.parse(after[0]).encoding == "mono16"


def test_read_12_bit_images_in_16_bits(tmp_path):
    levels = RAMP.astype(np.uint16) * 16 + 7
    rows = levels.astype("<u2").view(np.uint8).reshape(HEIGHT, -1)
    bag = write_camera_bag(tmp_path / "a.mcap", "mono16", rows)
    for image in frames_of(bag):
        np.testing.assert_array_equal(image, RAMP)


def test_convert_images_that_nobody_can_read(tmp_path):
    bag = write_camera_bag(tmp_path / "a.mcap", "h264", RAMP)
    with open_recording(bag) as recording:
        result = convert(recording, tmp_path / "out.aedat4")
        (said,) = recording.info.warnings
    assert said.startswith(f"{IMAGES} camera images left out: image encoding 'h264'")
    assert "mono8" in said
    assert list(result.left_out_frames.values()) == [IMAGES]
    assert result.frames == 0
    indexed = index_recording(bag, tmp_path / "cache")
    assert indexed.left_out_frames == result.left_out_frames
    assert len(indexed.frame_t_us) == 0


# HDF5 of tools


def test_read_hdf5_of_v2e(tmp_path):
    """One table ``events`` of t, x, y, p beside the frames; in other orders too."""
    h5py = pytest.importorskip("h5py")
    table = columns(t0=0)
    for order in ("txyp", "xytp"):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            rows = np.stack([table[letter] for letter in order], 1).astype("u4")
            file.create_dataset("events", data=rows, chunks=(500, 4), compression="gzip")
            file["frame"] = np.zeros((3, 480, 640), "u1")
            file["frame_ts"] = np.array([0, 33_000, 66_000], "u4")
        with open_recording(tmp_path / "a.h5") as recording:
            check(Events.concatenate([b.events for b in recording.batches()]), t0=0)
            assert (recording.info.width, recording.info.height) == (640, 480)
            assert [f.t_us for f in recording.frames()] == [0, 33_000, 66_000]
            part = [b.events.t_us for b in recording.batches(150_000)]
            assert len(np.concatenate(part)) == 500


def test_read_hdf5_of_event_utils(tmp_path):
    h5py = pytest.importorskip("h5py")
    table = columns(t0=0)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["events/ts"] = table["t"] / 1e6
        file["events/xs"], file["events/ys"] = table["x"].astype("i2"), table["y"].astype("i2")
        file["events/ps"] = table["p"].astype(bool)
        file.attrs["sensor_resolution"] = (480, 640)
        image = file.create_dataset("images/image000000000", data=np.zeros((480, 640), "u1"))
        image.attrs["timestamp"] = 0.125
    with open_recording(tmp_path / "a.h5") as recording:
        check(Events.concatenate([b.events for b in recording.batches()]), t0=0)
        info = recording.info
        assert (info.format, info.width, info.height) == ("hdf5-event-utils", 640, 480)
        assert [f.t_us for f in recording.frames()] == [125_000]


METAVISION = [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")]


def as_metavision(table):
    rows = np.empty(len(table["t"]), METAVISION)
    for name, _ in METAVISION:
        rows[name] = table[name]
    return rows


def test_read_hdf5_of_metavision(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("CD/events", data=as_metavision(columns()), chunks=(1000,))
        file["CD/indexes"] = np.zeros(3, [("id", "<u8"), ("ts", "<i8")])
        file["EXT_TRIGGER/events"] = np.array(
            [(1, 57_922_807_600, 2), (0, 57_922_900_000, 2)],
            [("p", "<i2"), ("t", "<i8"), ("id", "<i2")],
        )
        file.attrs["format"] = "EVT3;height=720;width=1280"
    with open_recording(tmp_path / "a.hdf5") as recording:
        batches = list(recording.batches())
        check(Events.concatenate([b.events for b in batches]))
        assert (recording.info.format, recording.info.width) == ("hdf5-metavision", 1280)
    edges = Triggers.concatenate([b.triggers for b in batches])
    assert (edges.t_us[0], edges.channel[0], edges.edge.tolist()) == (57_922_807_600, 2, [1, 0])


def packed_times(t_us):
    out = [int(t_us[0]).to_bytes(8, "little")]
    now, i = int(t_us[0]), 0
    while i < len(t_us):
        step = int(t_us[i]) - now
        if step >= 15:
            while step:
                out.append(bytes([0xF0 | step & 15]))
                step >>= 4
        now = int(t_us[i])
        count = int(np.searchsorted(t_us[i:], now, side="right"))
        if count >= 15:
            out.append(bytes([step << 4 | 15]) + count.to_bytes(2, "little"))
        else:
            out.append(bytes([step << 4 | count]))
        i += count
    return b"".join(out)


def runs(values, bits, size):
    """Return runs as value << bits | count, long counts in a number of their own."""
    out, most = [], (1 << bits) - 1
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    for start, count in zip(starts, np.diff(np.r_[starts, len(values)]), strict=True):
        short = min(int(count), most)
        out.append((int(values[start]) << bits | short).to_bytes(size, "little"))
        if short == most:
            out.append(int(count).to_bytes(2, "little"))
    return b"".join(out)


def ecf(rows, way):
    """Pack a chunk in one of the three ways that the format knows."""
    head = len(rows) << 2 | {"masks": 0, "columns": 1, "all": 2}[way]
    out = head.to_bytes(4, "little") + packed_times(rows["t"])
    x, y, p = (np.r_[rows[n].astype(int), [0] * 3] for n in "xyp")
    if way == "all":
        a, b, c, d = (y << 12 | x << 1 | p)[: -(-len(rows) // 4) * 4].reshape(-1, 4).T
        words = (a << 8 | b & 0xFF, b >> 8 << 16 | c & 0xFFFF, c >> 16 << 24 | d)
        return out + np.stack(words, 1).astype("<u4").tobytes()
    out += runs(rows["y"], 5, 2)
    if way == "columns":
        a, b, c, d = (x << 1 | p)[: -(-len(rows) // 4) * 4].reshape(-1, 4).T
        words = (a << 4 | b & 0xF, b >> 4 << 8 | c & 0xFF, c >> 8 << 12 | d)
        return out + np.stack(words, 1).astype("<u2").tobytes()
    i = 0
    while i < len(rows):
        base, mask = int(rows["x"][i]), 0
        i += 1
        for j in range(5):
            if i < len(rows) and int(rows["x"][i]) == base + j + 1:
                mask |= 1 << 4 - j
                i += 1
        out += struct.pack("<H", base << 5 | mask)
    return out + runs(rows["p"], 7, 1)


@pytest.mark.parametrize("way", ["masks", "columns", "all"])
@pytest.mark.parametrize("step_us", [0, 7, 100, 1_000_000])
def test_read_hdf5_of_metavision_that_is_packed_with_ecf(tmp_path, way, step_us):
    """Prophesee's tools pack so by default; no package brings HDF5's plug-in for it."""
    h5py = pytest.importorskip("h5py")
    i = np.arange(2500)
    table = {
        "t": 5_000_000_000 + i // 40 * step_us,
        "x": 100 + i % 40,
        "y": i // 40,
        "p": i // 200 % 2,
    }
    rows = as_metavision(table)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1000,))
        plist.set_filter(0x8ECF, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((2500,), (h5py.h5s.UNLIMITED,))
        kind = h5py.h5t.py_create(rows.dtype)
        group = file.create_group("CD")
        data = h5py.h5d.create(group.id, b"events", kind, space, plist)
        for start in range(0, 2500, 1000):
            data.write_direct_chunk((start,), ecf(rows[start : start + 1000], way))
        file.attrs["geometry"] = "640x480"
    with open_recording(tmp_path / "a.hdf5") as recording:
        events = Events.concatenate([b.events for b in recording.batches()])
        for name, column in (("t", events.t_us), ("x", events.x), ("y", events.y), ("p", events.p)):
            assert np.array_equal(column, table[name]), name
        part = [b.events.t_us for b in recording.batches(int(table["t"][2400]))]
        assert np.concatenate([[0], *part])[-1] == table["t"][-1]
    with pytest.raises(RecordingError, match="damaged"):
        decode_ecf(ecf(rows[:1000], way)[:-9])


def test_read_hdf5_that_lacks_a_column(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("events/x", "events/y", "events/t"):
            file[name] = np.arange(5)
    with pytest.raises(RecordingError, match="'events' looks like columns of events, but lacks p"):
        open_recording(tmp_path / "a.h5")


def test_read_a_stereo_file_of_which_one_camera_recorded_nothing(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, column in columns().items():
            file[f"left/{name}"], file[f"right/{name}"] = column, column[:0]
    events, info = read(tmp_path / "a.h5")
    check(events)
    assert (info.topic, [t.name for t in info.topics]) == ("left", ["left", "right"])


def test_read_a_bag_with_a_topic_that_nobody_published_on(tmp_path):
    """Recorders list every topic that was announced."""
    path = tmp_path / "a.db3"
    with create_recording(tmp_path / "a.mcap", width=64, height=48) as sink:
        sink.write_events(Events.from_columns([1], [2], [3], [1], width=64, height=48))
    with open_recording(tmp_path / "a.mcap") as recording:
        (packet,) = recording.packets()
    with contextlib.closing(sqlite3.connect(path)) as bag:
        bag.execute("CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT)")
        bag.execute(
            "CREATE TABLE messages(id INTEGER, topic_id INTEGER, timestamp INTEGER, data BLOB)"
        )
        for number, name in enumerate(("/left/events", "/right/events")):
            bag.execute("INSERT INTO topics VALUES(?, ?, ?)", [number, name, packet.type_name])
        bag.execute("INSERT INTO messages VALUES(1, 1, 5, ?)", [bytes(packet.data)])
        bag.commit()
    events, info = read(path)
    assert (len(events), info.topic) == (1, "/right/events")


# Time that falls


def save(path, t_us):
    i = np.arange(len(t_us))
    if path.suffix == ".txt":
        rows = np.column_stack([np.asarray(t_us) / 1e6, i % 346, i % 260, i % 2])
        np.savetxt(path, rows, "%.9f %d %d %d")
    else:
        np.savez(path, t=t_us, x=i % 346, y=i % 260, p=i % 2)
    return path


def windows_and_counters(path, student):
    """Return the events in every window that a student computes, and what became of all."""
    stream = student.stream()
    with open_recording(path) as recording:
        results = [
            result
            for item in in_order(recording)
            if not isinstance(item, Frame)
            for result in stream.take(item)
        ]
    results += stream.flush()
    return [len(r.events) for r in results], stream.counters


@pytest.fixture(scope="module")
def student(tiny_student):
    return Student.load(tiny_student)


def test_run_a_recording_in_which_the_camera_was_reset(tmp_path, student):
    """6,000 of 12,000 events were used, and nothing was said."""
    path = save(tmp_path / "restart.npz", np.tile(np.arange(6000) * 166, 2))
    counts, counters = windows_and_counters(path, student)
    assert (len(counts), sum(counts)) == (40, 12_000)
    assert counters["stream_time_jumps"] == 1


def test_run_a_recording_with_one_stray_time(tmp_path, student):
    """2 of 12,000 events were used."""
    t_us = np.arange(12_000) * 83
    t_us[-2] -= 300_000
    counts, counters = windows_and_counters(save(tmp_path / "stray.npz", t_us), student)
    assert (len(counts), sum(counts)) == (20, 11_999)
    assert counters["stream_discarded_at_jump"] == 1


def test_run_what_a_simulator_left_unsorted_inside_each_frame(tmp_path, student):
    """1,942 of 6,000 events were used."""
    rng = np.random.default_rng(1)
    t_us = np.repeat(np.arange(30) * 33_333, 200) + rng.integers(1, 33_333, 6000)
    counts, counters = windows_and_counters(save(tmp_path / "per_frame.txt", t_us), student)
    assert sum(counts) == 6000
    assert counters["stream_time_sorted"] > 5000


def stray_bag(path):
    t_us = 1_500_000_000_000_000 + np.arange(5000) * 100
    t_us[-2] -= 999_000
    i = np.arange(5000)
    block = EventBlock.pack(
        (i % 240).astype(np.uint16), (i % 180).astype(np.uint16), t_us * 1000, (i & 1).astype("u1")
    )
    message = EventArray(Header(Time.from_ns(1_500_000_000 * 10**9), ""), 180, 240, block)
    with McapWriter(path) as writer:
        data = message.serialize()
        writer.write("/dvs/events", "dvs_msgs/msg/EventArray", data, 1_500_000_000_600_000_000)
    return path, t_us


def test_convert_a_message_with_one_stray_time(tmp_path, student):
    """2 of 5,000 events were written."""
    path, t_us = stray_bag(tmp_path / "jump.mcap")
    with open_recording(path) as recording:
        assert convert(recording, tmp_path / "out.npz").events == 5000
    events, _ = read(tmp_path / "out.npz")
    assert (events.t_us == t_us).all()
    counts, counters = windows_and_counters(path, student)
    assert (sum(counts), counters["stream_discarded_at_jump"]) == (4999, 1)


def test_train_on_a_recording_in_which_the_camera_was_reset(tmp_path):
    """Sorted by time, the two halves were mixed."""
    path = save(tmp_path / "restart.npz", np.tile(np.arange(6000) * 166, 2))
    indexed = index_recording(path, tmp_path / "cache")
    assert [s.last_row - s.first_row for s in indexed.segments] == [6000, 6000]


@pytest.mark.parametrize("suffix", [".npz", ".txt", ".h5", ".aedat4"])
def test_look_at_the_stamps_of_a_files_results(tmp_path, student, suffix):
    """Masks were stamped up to 7.1 s late, with steps back."""
    rng = np.random.default_rng(0)
    first_us = 1_600_000_000_000_000 if suffix == ".aedat4" else 2_000_000
    t_us = first_us + np.sort(rng.integers(0, 3_000_000, 200_000))
    path = save(tmp_path / "a.npz", t_us)
    if suffix == ".txt":
        path = save(tmp_path / "a.txt", t_us)
    elif suffix != ".npz":
        with open_recording(path, size=(346, 260)) as recording:
            convert(recording, tmp_path / f"a{suffix}")
        path = tmp_path / f"a{suffix}"
    results = list(student.predict(path))
    assert [r.stamp_ns for r in results] == [r.t_end_us * 1000 for r in results]
    assert len(results) == 60


def test_convert_a_recording_with_a_restart_to_a_bag(tmp_path):
    """The stamps fell, and every reader mixed the two halves: 199 gaps, 9,900 messages missing."""
    t_us = np.tile(np.arange(6000) * 166, 2)
    path = save(tmp_path / "restart.npz", t_us)
    with open_recording(path, size=(346, 260)) as recording:
        convert(recording, tmp_path / "a.mcap")
    events, _ = read(tmp_path / "a.mcap")
    assert (events.t_us == t_us).all()
    with open_recording(tmp_path / "a.mcap") as recording:
        sent_ns = [p.receive_time_ns for p in recording.packets()]
        list(recording.batches())
        assert recording.counters["lost_messages"] == 0
    steps_ms = np.diff(sent_ns) / 1e6
    assert (steps_ms >= 0).all()
    assert steps_ms.max() <= 20
    assert 1.8e9 < sent_ns[-1] - sent_ns[0] < 2.1e9


def test_convert_times_below_zero(tmp_path, student):
    """A number that could not be packed, and a crash in `run`."""
    t_us = np.arange(6000) * 166 - 500_000
    path = save(tmp_path / "neg.npz", t_us)
    with open_recording(path, size=(346, 260)) as recording:
        with pytest.raises(RecordingError, match=r"no times below zero.*-500000 us.*\.npz"):
            convert(recording, tmp_path / "a.mcap")
        convert(recording, tmp_path / "a.aedat4")
    assert (read(tmp_path / "a.aedat4")[0].t_us == t_us).all()
    given = SegmentationParameters(student=str(student.path))
    report = run_recording(path, tmp_path / "out", given, show_progress=False, pictures=False)
    assert report["event_account"]["used"] == 6000
    with open_recording(tmp_path / "out" / "masks.mcap") as bag:
        stamps = [
            Image.parse(p.data).header.stamp.to_ns() for p in bag.packets(["/segmentation/mask"])
        ]
    assert stamps == [-450_000_000 + 50_000_000 * k for k in range(20)]


def test_convert_and_train_on_columns_that_were_said(tmp_path):
    """The Python front door takes what the command line takes."""
    path = write_text(tmp_path / "a.txt", "xypt")
    convert_file(path, tmp_path / "a.npz", columns="xypt", size="640x480")
    check(read(tmp_path / "a.npz")[0])
    reading = {"columns": "xypt", "size": "640x480", "time_unit": "ns"}
    one = index_recording(path, tmp_path / "cache", reading)
    assert one.segments[0].width == 640
    assert one.segments[0].t_end_us - one.segments[0].t_start_us == 201
    other = index_recording(path, tmp_path / "cache", {"columns": "xypt"})
    assert other.folder != one.folder


# Other topics


@pytest.mark.parametrize("storage", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize("is_whole", [True, False])
def test_cut_a_bag_with_topics_of_other_types(tmp_path, storage, is_whole):
    """The driver's IMU and tf are of types that we do not read; `cut` ended with an error."""
    rosbags = pytest.importorskip("rosbags.rosbag2")
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    bag = write_camera_bag(tmp_path / "a.mcap", "mono8", RAMP)
    store = get_typestore(Stores.ROS2_JAZZY)
    name = "sensor_msgs/msg/Temperature"
    kind, times = store.types[name], store.types["builtin_interfaces/msg/Time"]
    header = store.types["std_msgs/msg/Header"](stamp=times(sec=1, nanosec=2), frame_id="imu")
    data = bytes(store.serialize_cdr(kind(header=header, temperature=21.5, variance=0.0), name))
    folder = tmp_path / "bag"
    with (
        open_recording(bag) as recording,
        rosbags.Writer(folder, version=9, storage_plugin=rosbags.StoragePlugin[storage]) as writer,
    ):
        topics = {}
        for p in recording.packets([t.name for t in recording.info.topics]):
            if p.topic not in topics:
                message = message_type(p.type_name)
                topics[p.topic] = writer.add_connection(
                    p.topic, p.type_name, msgdef=message.schema, rihs01=message.type_hash
                )
            writer.write(topics[p.topic], p.receive_time_ns, bytes(p.data))
        other = writer.add_connection("/imu/temperature", name, typestore=store)
        writer.write(other, EPOCH_NS + 200_000_000, data)
    (file,) = (p for p in folder.iterdir() if p.suffix in {".mcap", ".db3"})
    if not is_whole and storage == "MCAP":
        # The recorder was killed: without its index the file is read from its start.
        file.write_bytes(file.read_bytes()[:-200])
    if not is_whole and storage == "SQLITE3":
        with closing(sqlite3.connect(file)) as db:  # as recorders before Iron left it
            db.execute("DROP TABLE message_definitions")
            db.commit()
    with open_recording(file) as recording:
        result = convert(recording, tmp_path / "cut.mcap", ConvertConfig(other_topics=True))
    assert result.others == 1
    with open_recording(tmp_path / "cut.mcap") as recording:
        (found,) = recording.packets(["/imu/temperature"])
        definition = recording.definitions()[name]
    assert (found.type_name, bytes(found.data)) == (name, data)
    if storage == "MCAP" or is_whole:
        assert definition.encoding == "ros2msg"
        with AnyReader([tmp_path / "cut.mcap"]) as reader:  # an independent reader
            (message,) = [m for c, _, m in reader.messages() if c.topic == "/imu/temperature"]
            assert reader.deserialize(message, name).temperature == 21.5
    else:
        assert definition.encoding == ""


def write_latched_bag(folder, storage, version):
    """A camera's bag with /tf_static, latched at its beginning, and /tf, both of a known type."""
    rosbags = pytest.importorskip("rosbags.rosbag2")
    from rosbags.interfaces import (
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )
    from rosbags.typesys import Stores, get_typestore

    def qos(durability):
        forever = QosTime(2147483647, 4294967295)
        return Qos(
            QosHistory.KEEP_LAST, 7, QosReliability.RELIABLE, durability, forever, forever,
            QosLiveliness.AUTOMATIC, forever, avoid_ros_namespace_conventions=False,
        )  # fmt: skip

    bag = write_camera_bag(folder.with_name("camera.mcap"), "mono8", RAMP)
    store = get_typestore(Stores.ROS2_JAZZY)
    name = "std_msgs/msg/String"
    data = bytes(store.serialize_cdr(store.types[name](data="base to camera"), name))
    with (
        open_recording(bag) as recording,
        rosbags.Writer(
            folder, version=version, storage_plugin=rosbags.StoragePlugin[storage]
        ) as writer,
    ):
        (event_topic,) = (t for t in recording.info.topics if t.name == recording.info.topic)
        message = message_type(event_topic.type_name)
        events = writer.add_connection(
            event_topic.name, message.name, msgdef=message.schema, rihs01=message.type_hash
        )
        for p in recording.packets():
            writer.write(events, p.receive_time_ns, bytes(p.data))
        for topic, durability in (
            ("/tf_static", QosDurability.TRANSIENT_LOCAL), ("/tf", QosDurability.VOLATILE),
        ):  # fmt: skip
            other = writer.add_connection(
                topic, name, typestore=store, offered_qos_profiles=[qos(durability)]
            )
            writer.write(other, EPOCH_NS + 1, data)
    return next(p for p in folder.iterdir() if p.suffix in {".mcap", ".db3"})


@pytest.mark.parametrize(("storage", "version"), [("MCAP", 9), ("SQLITE3", 8), ("SQLITE3", 9)])
def test_cut_a_bag_with_a_latched_tf_static(tmp_path, storage, version):
    """Its offered QoS was dropped, and with a later start the message too."""
    from rosbags.highlevel import AnyReader
    from rosbags.interfaces import QosDurability, QosHistory

    file = write_latched_bag(tmp_path / "bag", storage, version)
    target = tmp_path / "cut.mcap"
    with open_recording(file) as recording:
        convert(recording, target, ConvertConfig(other_topics=True, start_us=100_000))
        assert not recording.info.warnings
    with open_recording(target) as recording:
        first_ns = next(recording.batches()).stamp_ns
        (latched,) = recording.packets(["/tf_static"])
        assert first_ns - 50_000_000 < latched.receive_time_ns <= first_ns
        assert [t.name for t in recording.info.topics] == ["/tf_static", recording.info.topic]
    with AnyReader([target]) as reader:  # an independent reader
        (offered,) = (
            c.ext.offered_qos_profiles for c in reader.connections if c.topic == "/tf_static"
        )
    assert [(q.durability, q.history, q.depth) for q in offered] == [
        (QosDurability.TRANSIENT_LOCAL, QosHistory.KEEP_LAST, 7)
    ]


def test_cut_a_bag_with_a_qos_that_cannot_be_read(tmp_path):
    file = write_latched_bag(tmp_path / "bag", "SQLITE3", 9)
    with closing(sqlite3.connect(file)) as db:
        db.execute("UPDATE topics SET offered_qos_profiles = '- history: best' WHERE name = '/tf'")
        db.commit()
    with open_recording(file) as recording:
        convert(recording, tmp_path / "cut.mcap", ConvertConfig(other_topics=True))
        (warning,) = recording.info.warnings
    assert warning.startswith("the offered QoS of /tf cannot be read (a profile has history, ")
