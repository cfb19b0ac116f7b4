import numpy as np
import pytest

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import EncodingError, RecordingError
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.recordings.convert import ConvertConfig, convert
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.writers.npz import NpzWriter

STREET = "recordings/davis346_street_short.aedat4"
SOURCES = [
    "recordings/davis346_robot_arm.aedat4",
    "recordings/davis240_slider_50k.txt",
    "bags/evt3_hd_trigger",
    "bags/libcaer_cmp_davis346_tags",
]


def run(source, target, progress=None, **config):
    with open_recording(source) as recording:
        return convert(recording, target, ConvertConfig(**config), progress)


@pytest.fixture
def npz(tmp_path, make_events):
    path = tmp_path / "in.npz"
    events = make_events(np.random.default_rng(5), 4000, span_us=400_000)
    with NpzWriter(path, width=346, height=260) as writer:
        writer.write(events, Triggers.empty())
    return path


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("suffix", [".mcap", ".npz", ".h5", ".aedat4"])
def test_real_recordings_keep_every_event(shared_data, tmp_path, source, suffix, read):
    target = tmp_path / f"out{suffix}"
    result = run(shared_data / source, target)
    before, after = read(shared_data / source), read(target)
    assert after.equals(before)
    assert result.events == len(before)
    assert [p.name for p in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".aedat4", ".mcap"])
def test_a_file_made_from_a_file_is_the_same_again(npz, tmp_path, suffix, read):
    """Read, write, read, write: events, triggers and frame size stay."""
    events = read(npz)
    edges = Triggers(
        np.array([900_000, 1_200_000, 1_900_000]),  # the first one before the first event
        np.zeros(3, np.uint8),
        np.array([1, 0, 1], np.uint8),
    )
    with NpzWriter(npz, width=346, height=260) as writer:
        writer.write(events, edges)
    source = npz
    for generation in range(2):
        target = tmp_path / f"{generation}{suffix}"
        result = run(source, target, encoding="evt3")
        assert (result.events, result.triggers, result.dropped_triggers) == (len(events), 3, 0)
        with open_recording(target) as recording:
            batches = list(recording.batches())
            assert not recording.info.warnings
        assert Events.concatenate([b.events for b in batches]).equals(events)
        found = Triggers.concatenate([b.triggers for b in batches])
        for name in ("t_us", "channel", "edge"):
            assert np.array_equal(getattr(found, name), getattr(edges, name))
        source = target


@pytest.mark.parametrize("suffix", [".mcap", ".npz", ".aedat4", ".h5"])
def test_an_event_that_is_earlier_than_the_first_one_stays(tmp_path, suffix, read):
    t_us = np.array([1_000_000, 999_990, 1_000_010])
    ones = np.ones(3, np.uint8)
    events = Events.from_columns(ones, ones, t_us, ones, width=346, height=260)
    with NpzWriter(tmp_path / "in.npz", width=346, height=260) as writer:
        writer.write(events, Triggers.empty())
    run(tmp_path / "in.npz", tmp_path / f"out{suffix}")
    assert read(tmp_path / f"out{suffix}").equals(events)


def test_hdf5_is_as_dsec_has_it(npz, tmp_path, read):
    h5py = pytest.importorskip("h5py")
    run(npz, tmp_path / "a.h5")
    events = read(npz)
    with h5py.File(tmp_path / "a.h5") as file:
        t = file["events/t"][:].astype(np.int64)
        index = file["ms_to_idx"][:].astype(np.int64)
        offset = int(file["t_offset"][()])
        assert [file[f"events/{n}"].dtype.str for n in "xytp"] == ["<u2", "<u2", "<u4", "|u1"]
        assert 32001 in [file["events/x"].id.get_create_plist().get_filter(0)[0]]  # Blosc
    assert np.array_equal(t + offset, events.t_us)
    assert len(index) == t.max() // 1000 + 1
    for millisecond, row in enumerate(index):
        assert t[row] >= millisecond * 1000
        assert row == 0 or t[row - 1] < millisecond * 1000


def test_hdf5_refuses_what_32_bits_cannot_hold(tmp_path):
    (tmp_path / "a.txt").write_text("8 4\n0 1 1 1\n5000000000 1 1 1\n")
    with pytest.raises(RecordingError, match="71 minutes"):
        run(tmp_path / "a.txt", tmp_path / "a.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_aedat4_keeps_pictures(shared_data, tmp_path):
    result = run(shared_data / STREET, tmp_path / "a.aedat4")
    with open_recording(shared_data / STREET) as a, open_recording(tmp_path / "a.aedat4") as b:
        before, after = list(a.frames()), list(b.frames())
    assert result.frames == len(before) == len(after) == 4
    for one, two in zip(before, after, strict=True):
        assert one.t_us == two.t_us
        assert np.array_equal(one.image, two.image)
    run(shared_data / STREET, tmp_path / "b.mcap")
    run(tmp_path / "b.mcap", tmp_path / "c.aedat4", frame_step=2)
    with open_recording(tmp_path / "c.aedat4") as recording:
        found = [f.t_us for f in recording.frames()]
    # A bag knows host time; its distance to sensor time is known to the length of a packet.
    assert len(found) == 2
    assert all(abs(t - before[i].t_us) < 10_000 for t, i in zip(found, (0, 2), strict=True))


def test_packets_are_what_a_driver_sends(npz, tmp_path, read):
    seen = []
    run(npz, tmp_path / "a.mcap", seen.append)
    events = read(npz)
    with open_recording(tmp_path / "a.mcap") as recording:
        packets = list(recording.packets())
        batches = list(recording.batches())
    messages = [EventPacket.parse(p.data) for p in packets]
    assert [m.seq for m in messages] == list(range(len(messages)))
    first_ns = int(events.t_us[0]) * 1000
    for packet, message, batch in zip(packets, messages, batches, strict=True):
        assert (message.time_base - first_ns) % 10_000_000 == 0
        stamp_ns = message.header.stamp.to_ns()
        assert stamp_ns == message.time_base + 10_000_000 == packet.receive_time_ns
        assert message.time_base <= int(batch.events.t_us.min()) * 1000
        assert int(batch.events.t_us.max()) * 1000 < stamp_ns
        assert (message.encoding, message.header.frame_id) == ("libcaer_cmp", "event_camera")
    assert seen[-1] == len(events)


def test_pictures_are_kept_thinned_and_in_order(shared_data, tmp_path):
    path = tmp_path / "a.mcap"
    for step, kept in ((1, [0, 1, 2, 3]), (2, [0, 2]), (3, [0, 3]), (0, [])):
        result = run(shared_data / STREET, path, frame_step=step)
        with open_recording(shared_data / STREET) as recording:
            source = list(recording.frames())
        with open_recording(path) as recording:
            copies = list(recording.frames())
            topics = [t.name for t in recording.info.topics]
            packets = list(recording.packets(topics))
        assert [c.stamp_ns for c in copies] == [source[i].stamp_ns for i in kept]
        assert all(
            np.array_equal(c.image, source[i].image) for c, i in zip(copies, kept, strict=True)
        )
        assert (result.frames, result.dropped_frames) == (len(kept), 4 - len(kept))
        times = [p.receive_time_ns for p in packets]
        assert times == sorted(times)


def test_a_span_takes_events_and_pictures(shared_data, tmp_path, read):
    whole = read(shared_data / STREET)
    first = int(whole.t_us[0])
    run(shared_data / STREET, tmp_path / "a.mcap", start_us=30_000, end_us=100_000)
    keep = (whole.t_us >= first + 30_000) & (whole.t_us < first + 100_000)
    assert read(tmp_path / "a.mcap").equals(whole[keep])
    with open_recording(tmp_path / "a.mcap") as recording:
        times = [f.t_us - first for f in recording.frames()]
    with open_recording(shared_data / STREET) as recording:
        expected = [f.t_us - first for f in recording.frames()]
    assert times == [t for t in expected if 30_000 <= t < 100_000]
    assert len(times) == 2


def test_stamps_of_a_bag_stay_in_host_time(shared_data, tmp_path):
    source = shared_data / "bags" / "evt3_hd_trigger"  # sensor time without an epoch
    result = run(source, tmp_path / "a.mcap")
    assert result.dropped_triggers == 2
    with open_recording(source) as old, open_recording(tmp_path / "a.mcap") as new:
        first, again = next(old.batches()), next(new.batches())
    assert abs(again.stamp_ns - first.stamp_ns) < 20_000_000


@pytest.mark.parametrize("suffix", [".mcap", ".npz", ".h5"])
def test_edges_of_a_real_sensor_come_through(shared_data, tmp_path, suffix):
    def edges(path):
        with open_recording(path) as recording:
            found = Triggers.concatenate([b.triggers for b in recording.batches()])
        return [(found.t_us % 2**24).tolist(), found.channel.tolist(), found.edge.tolist()]

    source = shared_data / "bags" / "evt3_hd_trigger"
    result = run(source, tmp_path / f"a{suffix}", encoding="evt3")
    again = run(tmp_path / f"a{suffix}", tmp_path / "b.mcap", encoding="evt3")
    for done in (result, again):
        assert (done.events, done.triggers, done.dropped_triggers) == (82_469, 2, 0)
    assert edges(source) == edges(tmp_path / f"a{suffix}") == edges(tmp_path / "b.mcap")
    assert len(edges(source)[0]) == 2


def test_edges_that_an_encoding_has_no_word_for_are_counted(npz, tmp_path, read):
    events = read(npz)
    t_us = events.t_us[[5, 6, 7, 8]]
    edges = Triggers(t_us, np.array([0, 15, 16, 3], np.uint8), np.array([1, 0, 1, 7], np.uint8))
    with NpzWriter(npz, width=346, height=260) as writer:
        writer.write(events, edges)
    for encoding, held in (("evt3", 2), ("libcaer_cmp", 0)):
        result = run(npz, tmp_path / "a.mcap", encoding=encoding)
        assert (result.triggers, result.dropped_triggers) == (held, 4 - held)
        with open_recording(tmp_path / "a.mcap") as recording:
            found = Triggers.concatenate([b.triggers for b in recording.batches()])
        assert found.t_us.tolist() == t_us[:held].tolist()
        assert found.channel.tolist() == [0, 15][:held]
        assert found.edge.tolist() == [1, 0][:held]


def test_evt3_keeps_all_but_the_turn_of_its_clock(shared_data, tmp_path, read):
    source = shared_data / "bags" / "libcaer_cmp_davis346_tags"
    result = run(source, tmp_path / "a.mcap", encoding="evt3")
    before, after = read(source), read(tmp_path / "a.mcap")
    assert result.events == len(before) == len(after)
    shift_us = before.t_us - after.t_us
    assert (shift_us == shift_us[0]).all()
    assert shift_us[0] % 2**24 == 0
    for name in ("x", "y", "p"):
        assert np.array_equal(getattr(before, name), getattr(after, name))


def test_a_gap_in_the_source_stays_a_gap(npz, tmp_path, read):
    whole = tmp_path / "whole.mcap"
    run(npz, whole)
    from evdistill_core.recordings.writers.mcap import McapWriter

    gap = tmp_path / "gap.mcap"
    with open_recording(whole) as recording, McapWriter(gap) as writer:
        for i, p in enumerate(recording.packets()):
            if i not in {7, 8}:
                writer.write(p.topic, p.type_name, bytes(p.data), p.receive_time_ns)
    run(gap, tmp_path / "again.mcap", packet_us=7_000)
    assert read(tmp_path / "again.mcap").equals(read(gap))
    with open_recording(tmp_path / "again.mcap") as recording:
        breaks = [b.discontinuity for b in recording.batches() if b.discontinuity]
        assert breaks == ["seq"]
        assert recording.counters["lost_messages"] == 1


def test_an_interrupt_leaves_nothing(npz, tmp_path):
    def interrupt(events):
        if events > 0:
            raise KeyboardInterrupt

    for suffix in (".mcap", ".npz", ".h5", ".aedat4"):
        with pytest.raises(KeyboardInterrupt):
            run(npz, tmp_path / f"out{suffix}", interrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["in.npz"]


def test_what_cannot_be_is_refused(npz, tmp_path):
    with pytest.raises(RecordingError, match=r"cannot write '\.bag'"):
        run(npz, tmp_path / "a.bag")
    with pytest.raises(RecordingError, match="is the source itself"):
        run(npz, npz)
    with pytest.raises(RecordingError, match="no events between"):
        run(npz, tmp_path / "a.mcap", start_us=10**9)
    for config in ({"encoding": "evt99"}, {"packet_us": 0}):
        with pytest.raises(EncodingError, match=r"evt99|packet_us"):
            run(npz, tmp_path / "a.mcap", **config)
    for config, message in (
        ({"start_us": -1}, "start must be"),
        ({"start_us": 5, "end_us": 5}, "end must lie after"),
        ({"frame_step": -1}, "frame_step"),
    ):
        with pytest.raises(RecordingError, match=message):
            run(npz, tmp_path / "a.mcap", **config)
    (tmp_path / "empty.txt").write_text("8 4\n1 1 1 1\n")
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".mcap"] == []
