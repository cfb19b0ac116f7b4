"""RAW, DAT, AEDAT 2, ES and five-byte files: golden values, spans, made-up and damaged files."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import EvdistillError, RecordingError
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.readers import raw, records
from evdistill_core.recordings.readers.records import unwrap
from evdistill_core.recordings.summary import summarise

# format, encoding, width, height, events, on, duration, sum x, sum y
GOLDEN = {
    "imx636_evt3.raw": (
        "prophesee-raw", "evt3", 1280, 720, 1218618, 553295, 10767997, 606868036, 367486055),
    "imx636_same_stream.dat": (
        "dat", "dat", 1280, 720, 1218618, 553295, 10767997, 606868036, 367486055),
    "gen3_evt2.raw": (
        "prophesee-raw", "evt2", 640, 480, 521252, 185861, 95871, 128979953, 216346680),
    "atis_plane.es": (
        "event-stream", "es-dvs", 320, 240, 473225, 270001, 999000, 72946016, 56007796),
    "ncars_one.dat": ("dat", "dat", 78, 42, 2009, 1350, 99952, 93457, 40463),
    "ncaltech101_faces_easy_0001.bin": (
        "five-byte", "five-byte", 240, 180, 67445, 33770, 299358, 4337148, 4922131),
    "nmnist_one.bin": ("five-byte", "five-byte", 34, 34, 4325, 2145, 310521, 74457, 71931),
    "davis240_slider_50k.txt": (
        "text", "text", 240, 180, 50000, 21147, 170345, 5741863, 5095686),
    "davis240_poster.npz": ("npz", "npz", 240, 180, 100000, 39801, 73250, 14358435, 10971099),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_real_files_have_their_golden_values(shared_data, name, tmp_path):
    path = shared_data / "recordings" / name
    if name != "nmnist_one.bin":  # the only kind whose suffix counts, and only when it is short
        link = tmp_path / "recording"
        link.symlink_to(path)
        path = link
    with open_recording(path) as recording:
        summary = summarise(recording)
        info = recording.info
    found = (info.format, info.encoding, info.width, info.height, summary.events, summary.on,
             summary.duration_us, summary.sum_x, summary.sum_y)  # fmt: skip
    assert found == GOLDEN[name]


def test_one_stream_in_two_formats_is_equal(shared_data, read):
    raw = read(shared_data / "recordings" / "imx636_evt3.raw")
    dat = read(shared_data / "recordings" / "imx636_same_stream.dat")
    for name in ("x", "y", "p"):
        assert np.array_equal(getattr(raw, name), getattr(dat, name))
    assert (raw.t_us - dat.t_us == 11_194_368).all()


def test_all_of_n_mnist(shared_data, read):
    """Every file is recognised and its times rise."""
    files = sorted((shared_data / "nmnist" / "events").glob("*.bs2"))
    assert len(files) == 1000
    for path in files[::25]:
        events = read(path)
        assert len(events) == path.stat().st_size // 5
        assert (events.width, events.height) == (34, 34)
        assert 250_000 < events.t_us[-1] < 350_000


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("span", [(0.3, 0.6), (0.95, None), (None, 0.1), (2.0, None)])
def test_spans_are_those_of_the_whole(shared_data, name, span, monkeypatch, read):
    monkeypatch.setattr(records, "REORDER_US", 1000)  # or all of them are shorter than the slack
    path = shared_data / "recordings" / name
    whole = read(path)
    origin, length = int(whole.t_us[0]), int(np.ptp(whole.t_us))
    start, end = (None if s is None else origin + int(length * s) for s in span)
    keep = np.ones(len(whole), bool)
    if start is not None:
        keep &= whole.t_us >= start
    if end is not None:
        keep &= whole.t_us < end
    assert read(path, start_us=start, end_us=end).equals(whole[keep])


def dat(path, t_us, x, y, p, *, header="% Height 480\n% Width 640\n% Version 2\n"):
    bits = np.asarray(x) | np.asarray(y) << 14 | np.asarray(p) << 28
    data = np.stack([np.asarray(t_us) & 0xFFFFFFFF, bits], axis=1).astype("<u4").tobytes()
    path.write_bytes(header.encode() + b"\x0c\x08" + data)


def test_a_span_is_entered_in_the_middle(tmp_path, monkeypatch, read):
    """Two hours with a wrap of the 32 bit clock; what lies before the span is not read."""
    count = 400_000
    t_us = np.linspace(4_000_000_000, 4_000_000_000 + 7_200_000_000, count).astype(np.int64)
    path = tmp_path / "a.dat"
    dat(path, t_us, np.arange(count) % 640, np.arange(count) % 480, np.arange(count) % 2)
    whole = read(path)
    assert np.array_equal(whole.t_us, t_us)
    keep = t_us >= 10_000_000_000
    seen = []
    original = records.read_records
    monkeypatch.setattr(
        records, "read_records", lambda file, dtype, n: seen.append(n) or original(file, dtype, n)
    )
    assert read(path, start_us=10_000_000_000).equals(whole[keep])
    assert sum(seen) < keep.sum() + 3 * count / records.SEEK_SAMPLES + records.SEEK_SAMPLES


def evt2_file(path, t_us, x, y, p, *, word=4, order="upper", header=None):
    words = []
    high = None
    for t, a, b, c in zip(t_us, x, y, p, strict=True):
        if t >> 6 != high:
            high = t >> 6
            words.append((8 << 28 | high & 0xFFFFFFF, 0))
        words.append((int(c) << 28 | (t & 63) << 22 | int(a) << 11 | int(b), 1))
    if word == 4:
        data = np.array([w for w, _ in words], "<u4")
        header = header or "% evt 2.0\n% geometry 640x480\n"
    else:
        pairs = [(m, w) if order == "upper" else (w, m) for w, m in words]
        data = np.array(pairs, "<u4")
        header = header or "% format EVT21;height=480;width=640\n% end\n"
    path.write_bytes(header.encode() + data.tobytes())


@pytest.mark.parametrize("word", [4, 8])
@pytest.mark.parametrize("order", ["upper", "lower"])
def test_evt2_and_evt21_files_are_entered_in_the_middle(tmp_path, word, order, read):
    """Ten hours, so the 34 bit clock wraps twice."""
    rng = np.random.default_rng(1)
    count = 30_000
    t_us = np.sort(rng.integers(2**34 - 10**9, 2**34 + 36 * 10**9, count)) & ~63
    t_us += np.sort(rng.integers(0, 64, count))
    x, y, p = rng.integers(0, 640, count), rng.integers(0, 480, count), rng.integers(0, 2, count)
    path = tmp_path / "a.raw"
    evt2_file(path, t_us.tolist(), x, y, p, word=word, order=order)
    whole = read(path)
    assert np.array_equal(whole.t_us - whole.t_us[0], t_us - t_us[0])
    assert np.array_equal(whole.x, x)
    shift = int(whole.t_us[0] - t_us[0])
    for start in (2**34 + 9 * 10**9, 2**34 + 35 * 10**9):
        with open_recording(path) as recording:
            found = [b.events for b in recording.batches(start_us=start + shift)]
            assert recording.counters["events"] < count * 3 // 4
        assert Events.concatenate(found).equals(whole[t_us >= start])


def test_evt3_files_are_entered_in_the_middle(tmp_path, monkeypatch, read):
    """Five turns of the 24 bit clock, and twelve seconds in which only the clock is heard."""
    monkeypatch.setattr(raw, "EVT3_SEEK_FROM_BYTES", 1)
    monkeypatch.setattr(raw, "EVT3_SEEK_STEP", 1 << 17)
    monkeypatch.setattr(raw, "SEEK_BYTES", 1 << 8)
    rng = np.random.default_rng(2)
    count = 100_000
    t_us = np.sort(rng.integers(16_000_000, 100_000_000, count))
    t_us = t_us[(t_us < 50_000_000) | (t_us > 62_000_000)]
    words = []
    clock = int(t_us[0]) >> 12
    for i, t in enumerate(t_us.tolist()):
        while clock <= t >> 12:
            words.append(0x8000 | clock & 0xFFF)
            clock += 1
        x, y, p = i % 1280, i % 720, i % 2
        words += [0x6000 | t & 0xFFF, y, 0x2000 | p << 11 | x]
    path = tmp_path / "a.raw"
    data = np.array(words, "<u2").tobytes()
    path.write_bytes(b"% evt 3.0\n% geometry 1280x720\n% end\n" + data)
    whole = read(path)
    shift = int(whole.t_us[0] - t_us[0])
    assert np.array_equal(whole.t_us - shift, t_us)
    for start in (30_000_000, 64_000_000, 95_000_000):
        with open_recording(path) as recording:
            found = [b.events for b in recording.batches(start_us=start + shift)]
            read_events = recording.counters["events"]
        assert Events.concatenate(found).equals(whole[t_us >= start])
        assert read_events < len(whole) - np.count_nonzero(t_us < start) // 2


@pytest.mark.parametrize("order", ["upper", "lower"])
def test_a_file_too_short_to_show_its_order_is_read_all_the_same(tmp_path, order, read):
    evt2_file(tmp_path / "a.raw", [70], [3], [4], [1], word=8, order=order)
    events = read(tmp_path / "a.raw")
    assert (events.t_us.tolist(), events.x.tolist(), events.y.tolist()) == ([70], [3], [4])


def test_legacy_order_is_told_by_the_header(tmp_path, read):
    header = "% format EVT21;endianness=legacy;height=480;sensor_generation=4.2;width=640\n% end\n"
    evt2_file(tmp_path / "a.raw", [70], [3], [4], [1], word=8, order="lower", header=header)
    assert read(tmp_path / "a.raw").t_us.tolist() == [70]


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("% evt 2.0\n% geometry 320x320\n", (320, 320)),
        ("% evt 2.0\n% plugin_name hal_plugin_gen31_fx3\n", (640, 480)),
        ("% evt 2.0\n% sensor_generation 4.2\n", (1280, 720)),
        ("% evt 2.0\n% width 99\n% height 77\n", (99, 77)),
        ("% evt 2.0\n", (31, 42)),
    ],
)
def test_the_frame_is_told_in_many_ways(tmp_path, header, size):
    evt2_file(tmp_path / "a.raw", [70, 80], [3, 30], [41, 4], [1, 0], header=header)
    with open_recording(tmp_path / "a.raw") as recording:
        assert (recording.info.width, recording.info.height) == size
        assert bool(recording.info.warnings) == (size == (31, 42))


def test_dat_version_1(tmp_path, read):
    bits = np.array([300 | 200 << 9 | 1 << 17, 5 | 6 << 9], "<u4")
    data = np.stack([np.array([7, 9], "<u4"), bits], axis=1).tobytes()
    (tmp_path / "a.dat").write_bytes(b"% Data file\n% Version 1\n\x00\x08" + data)
    events = read(tmp_path / "a.dat")
    assert events.x.tolist() == [300, 5]
    assert events.y.tolist() == [200, 6]
    assert events.p.tolist() == [1, 0]


def test_aedat2_of_a_dvs128(tmp_path, read):
    """Rows and columns turned over as jAER shows them, not exchanged; polarity inverted."""
    raw_x, raw_y, raw_p, t = [3, 100], [120, 7], [1, 0], [5, 2**32 - 1 + 9]
    address = [x << 1 | y << 8 | p for x, y, p in zip(raw_x, raw_y, raw_p, strict=True)]
    pairs = [*zip(address, t, strict=True), (1 << 15 | 3, 2**32 + 20)]
    body = b"".join(struct.pack(">II", a, b & 0xFFFFFFFF) for a, b in pairs)
    (tmp_path / "a.aedat").write_bytes(b"#!AER-DAT2.0\r\n# made up\r\n" + body)
    events = read(tmp_path / "a.aedat")
    assert (events.width, events.height) == (128, 128)
    assert events.x.tolist() == [127 - 3, 127 - 100]
    assert events.y.tolist() == [127 - 120, 127 - 7]
    assert events.p.tolist() == [0, 1]
    # 2**32 + 8 is 3 us after 5 on a clock of 32 bits: the half-range rule takes the short way.
    assert events.t_us.tolist() == [5, 8]


def test_aedat2_of_a_davis(tmp_path):
    words = [(10 << 22 | 20 << 12 | 1 << 11, 7), (1 << 31 | 5, 8), (1 << 10, 9)]
    body = b"".join(struct.pack(">II", *w) for w in words)
    head = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n"
    (tmp_path / "a.aedat").write_bytes(head + body)
    with open_recording(tmp_path / "a.aedat") as recording:
        (batch,) = recording.batches()
        assert recording.counters["not_events"] == 2
    events = batch.events
    assert (events.x[0], events.y[0], events.t_us[0], events.p[0]) == (219, 169, 7, 1)
    head = head.replace(b"davis.DAVIS240C", b"cochlea.CochleaAMS")
    (tmp_path / "b.aedat").write_bytes(head + body)
    with pytest.raises(RecordingError, match="convert the file with jAER"):
        open_recording(tmp_path / "b.aedat")


def es_header(kind, width=320, height=240, version=2):
    return b"Event Stream" + bytes([version, 0, 0, kind]) + struct.pack("<HH", width, height)


def es_reference(body, atis, width, height):
    """Read byte by byte."""
    found, t, i = [], 0, 0
    while i < len(body):
        head = body[i]
        if atis and head >> 2 == 63:
            t, i = t + 63 * (head & 3), i + 1
        elif not atis and head >= 254:
            t, i = t + (127 if head == 255 else 0), i + 1
        elif i + 5 > len(body):
            break
        else:
            x, y = struct.unpack_from("<HH", body, i + 1)
            t += head >> (2 if atis else 1)
            p = head >> 1 & 1 if atis else head & 1
            if not (atis and head & 1) and x < width and y < height:
                found.append((x, height - 1 - y, t, p))
            i += 5
    return found


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(
        st.one_of(
            st.builds(lambda h, x, y: struct.pack("<BHH", h, x, y), st.integers(0, 255),
                      st.integers(0, 330), st.integers(0, 250)),
            st.sampled_from([b"\xff", b"\xfe", b"\xfd", b"\xfc"]),
            st.binary(max_size=3),
        ),
        min_size=1, max_size=40,
    ),
    atis=st.booleans(),
)  # fmt: skip
def test_es_equals_a_reading_byte_by_byte(tmp_path_factory, parts, atis, read):
    path = tmp_path_factory.getbasetemp() / "any.es"
    body = b"".join(parts)
    path.write_bytes(es_header(2 if atis else 1) + body)
    events = read(path)
    columns = (events.x, events.y, events.t_us, events.p)
    rows = list(zip(*(c.tolist() for c in columns), strict=True))
    assert rows == es_reference(body, atis, 320, 240)


def test_five_byte_overflow_marks(tmp_path, read):
    def event(x, y, p, t):
        return bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255])

    body = (
        event(1, 2, 1, 8000) + event(0, 240, 0, 8191) + event(3, 4, 0, 8191) + event(5, 6, 1, 8191)
    )
    (tmp_path / "a.bin").write_bytes(body)
    events = read(tmp_path / "a.bin")
    assert events.t_us.tolist() == [8000, 8191 + 8192, 8191 + 8192]
    assert events.p.tolist() == [1, 0, 1]
    (tmp_path / "a.unknown").write_bytes(body)
    with pytest.raises(RecordingError, match="of a kind that we do not know"):
        open_recording(tmp_path / "a.unknown")


def test_unwrap():
    raw = np.array([2**32 - 5, 3, 2, 2**31 - 10], np.uint32)
    assert unwrap(raw, None).tolist() == [2**32 - 5, 2**32 + 3, 2**32 + 2, 2**32 + 2**31 - 10]
    assert unwrap(raw[:1], 7).tolist() == [-5]
    assert unwrap(raw[:0], 7).tolist() == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"% evt 4.0\n", "names the encoding '4.0'"),
        (b"% format HISTO3D;height=1\n", "names the encoding 'HISTO3D'"),
        (b"% Version 2\n", "event type 0 or 12"),
        (b"% Version 2\n\x0e\x10aaaa", r"got \[14, 16\]"),
        (b"% Version 9\n\x0c\x08", "version must be 1 or 2"),
        (b"% Version 2\n% Width 0\n% Height 9\n\x0c\x08", "0x9 pixels"),
        (b"% evt 3.0\n% geometry 99999x720\n", "99999x720 pixels"),
        (b"%\xff\x00\x01", "no Prophesee file"),
        (b"% evt 2.0\n% geometry 9x9\n" + b"\x33" * 4000, "words are no evt2"),
        (es_header(1)[:17], "cut off inside its header"),
        (es_header(1, version=1), "version 1.0.0"),
        (es_header(4), "holds colour events"),
        (es_header(1, width=65535), "65535x240 pixels"),
        (b"#!AER-DAT2.0\r\n# no end of line", "cut off inside its header"),
        (b"#!AER-DAT2.0\r\n" + struct.pack(">II", 1 << 22, 3), "does not name its camera"),
    ],
)  # fmt: skip
def test_damaged_files_say_what_is_wrong(tmp_path, content, message, read):
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=message):
        read(path)


def test_a_file_that_is_cut_off_is_read_up_to_there(shared_data, tmp_path, read):
    for name in ("gen3_evt2.raw", "imx636_same_stream.dat", "atis_plane.es"):
        whole = (shared_data / "recordings" / name).read_bytes()
        warned = 0
        for length in (100_001, 100_002, 100_003):  # at most one of them ends between two words
            path = tmp_path / name
            path.write_bytes(whole[:length])
            assert len(read(path)) > 10_000
            with open_recording(path) as recording:
                list(recording.batches())
                warned += any("cut off" in w for w in recording.info.warnings)
        assert warned >= 2


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_any_bytes_behind_a_header_are_ours_to_refuse(tmp_path_factory, data, read):
    heads = [
        b"% evt 3.0\n% geometry 40x30\n", b"% evt 2.1\n% geometry 40x30\n", b"% evt 2.0\n",
        b"% Version 2\n\x0c\x08", es_header(1), es_header(2), b"#!AER-DAT2.0\r\n", b"% ", b"",
    ]  # fmt: skip
    path = tmp_path_factory.getbasetemp() / "fuzz.bin"
    content = data.draw(st.sampled_from(heads)) + data.draw(st.binary(max_size=300))
    path.write_bytes(content)
    try:
        events = read(path)
    except EvdistillError:
        return
    assert (events.x < events.width).all()
    assert (events.y < events.height).all()
