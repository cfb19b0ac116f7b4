"""What a PacketDecoder makes of gaps, jumps, changes and damage."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.array import Events
from evdistill_core.events.decoders import make_decoder
from evdistill_core.events.filters import EventFilters, FilterConfig, HotPixels
from evdistill_core.events.packet import EVENT_TYPES, Packet
from evdistill_core.events.stream import PacketDecoder, is_event_type
from evdistill_core.events.time_watch import TimeWatch
from evdistill_core.events.warm_up import warm_up
from evdistill_core.events.window import WindowAssembler, WindowSpec
from evdistill_core.messages.event_messages import EventArray, EventBlock, EventPacket
from evdistill_core.messages.standard import Header, Time

GOLDEN = Path(__file__).parents[1] / "golden" / "bags"
PACKET, ARRAY = "event_camera_msgs/msg/EventPacket", "dvs_msgs/msg/EventArray"
S = 1_000_000_000


def evt3(*times, full=True):
    """Words of one event a time; without ``full`` only what EVT3 itself would repeat."""
    words = []
    for t in times:
        words += [0x8000 | t >> 12 & 0xFFF, 0x6000 | t & 0xFFF, *([3] if full else []), 0x2005]
    return np.array(words, "<u2").tobytes()


def mono(*times_us):
    words = [(np.uint64(t * 1000) | np.uint64(5 << 32 | 3 << 48)) for t in times_us]
    return np.array(words, "<u8").tobytes()


def packet(seq, events, *, stamp_ns=S, encoding="evt3", size=(40, 30), type_name=PACKET, **more):
    header = Header(Time.from_ns(stamp_ns), "cam")
    message = EventPacket(header, size[1], size[0], seq, encoding=encoding, events=events, **more)
    return Packet(type_name, message.serialize(), 77)


def array(times_us, *, stamp_ns=S, size=(40, 30), type_name=ARRAY):
    n = len(times_us)
    block = EventBlock.pack(
        np.full(n, 5, np.uint16), np.full(n, 3, np.uint16),
        np.array(times_us, np.int64) * 1000, np.ones(n, np.uint8),
    )  # fmt: skip
    message = EventArray(Header(Time.from_ns(stamp_ns), "cam"), size[1], size[0], block)
    return Packet(type_name, message.serialize(), 77)


def times(decoded):
    return decoded.events.t_us.tolist()


def real_messages():
    path = GOLDEN / "evt3_vga_person" / "test_events_1.db3"
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as bag:
        return [r[0] for r in bag.execute("SELECT data FROM messages ORDER BY timestamp, id")]


def test_a_clean_stream():
    decoder = PacketDecoder()
    first = decoder.push(packet(2**63, evt3(100, 200), stamp_ns=5 * S))
    assert (times(first), first.stamp_ns, first.frame_id) == ([100, 200], 5 * S, "cam")
    assert (first.discontinuity, first.t_end_us) == ("", 200)
    second = decoder.push(packet(2**63 + 1, np.array([0x8000, 0x6FFF], "<u2").tobytes()))
    assert (len(second.events), second.discontinuity, second.t_end_us) == (0, "", 4095)
    counters = decoder.counters.as_dict()
    assert counters.pop("bytes") > 0
    assert {k: v for k, v in counters.items() if v} == {"messages": 2, "events": 2}
    assert decoder.last_error == ""


def test_state_crosses_messages_and_is_not_trusted_after_a_gap():
    decoder = PacketDecoder()
    decoder.push(packet(10, evt3(100)))
    assert times(decoder.push(packet(11, evt3(150, full=False)))) == [150]
    gap = decoder.push(packet(14, evt3(200, full=False) + evt3(250)))
    # The row is unknown until a new one comes, so the first event cannot be placed.
    assert (times(gap), gap.discontinuity) == ([250], "seq")
    c = decoder.counters
    assert (c.seq_gaps, c.lost_messages, c.discarded_before_sync) == (1, 2, 1)


def test_a_gap_longer_than_the_wrap_is_bridged_by_the_stamps():
    for seq in (2, 1):  # with a gap in seq, and after a pause of the driver without one
        decoder = PacketDecoder()
        decoder.push(packet(0, evt3(1000), stamp_ns=100 * S))
        after = decoder.push(
            packet(seq, evt3(51_000 & 0xFFFFFF), stamp_ns=100 * S + 3 * 2**24 * 1000)
        )
        assert times(after) == [3 * 2**24 + 51_000]
        assert after.discontinuity == ("seq" if seq == 2 else "")


def test_seq_that_goes_back_is_a_new_stream_not_a_loss():
    decoder = PacketDecoder()
    decoder.push(packet(100, evt3(5_000_000)))
    again = decoder.push(packet(3, evt3(100)))
    assert (times(again), again.discontinuity) == ([100], "seq")
    assert decoder.counters.lost_messages == 0
    far = decoder.push(packet(2**60, evt3(200)))
    assert far.discontinuity == "seq"
    assert decoder.counters.lost_messages == 0
    assert decoder.counters.seq_gaps == 2


def test_a_message_that_was_overtaken_does_not_turn_the_clock_back():
    """A network may exchange two messages; EVT3 has no epoch, so only the stream knows the turn."""
    decoder = PacketDecoder()
    seen = {}
    order = [*range(40), 41, 40, *range(42, 50)]
    for seq in order:
        t_us = seq * 500_000
        decoded = decoder.push(packet(seq, evt3(t_us & 0xFFFFFF), stamp_ns=S + t_us * 1000))
        seen[seq] = times(decoded)
    assert seen == {seq: [seq * 500_000] for seq in order}
    # The same number again much later is a driver that restarted.
    again = decoder.push(packet(40, evt3(100), stamp_ns=100 * S))
    assert times(again) == [100]


def test_a_bag_that_loops_gives_the_same_events_again():
    decoder, loops = PacketDecoder(), []
    for _ in range(2):
        parts = [decoder.push(Packet(PACKET, m, 0)) for m in real_messages()]
        assert [p.discontinuity for p in parts[1:]] == [""] * (len(parts) - 1)
        loops.append((parts[0].discontinuity, Events.concatenate([p.events for p in parts])))
    assert [name for name, _ in loops] == ["", "seq"]  # 0.16 s are no jump in time
    assert loops[0][1].equals(loops[1][1])
    assert decoder.counters.discarded_before_sync == 0


def test_size_and_encoding_may_change_mid_stream():
    decoder = PacketDecoder()
    decoder.push(packet(0, evt3(100)))
    other = decoder.push(packet(1, evt3(150), size=(20, 10)))
    assert (other.discontinuity, other.events.width, other.events.height) == ("size", 20, 10)
    other = decoder.push(packet(2, mono(200), encoding="mono", size=(20, 10)))
    assert (other.discontinuity, times(other)) == ("encoding", [200])
    assert decoder.push(array([250])).discontinuity == "size"
    assert decoder.counters.size_changes == 2
    assert decoder.counters.encoding_changes == 1


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (packet(0, b"", encoding="evt4"), "unknown event encoding 'evt4'; known: evt3"),
        (packet(0, b"", encoding="x" * 10**6), "'xxxxxxxx"),
        (packet(0, b"", size=(0, 30)), r"frame size must be 1..4096 on both sides, got 0x30"),
        (packet(0, b"", size=(40, 2**32 - 1)), "got 40x4294967295"),
        (packet(0, b"", is_bigendian=True), "big endian"),
        (packet(0, b"", time_base=2**64 - 1), "time_base must be below"),
        (Packet(PACKET, b"", 0), "encapsulation header"),
        (Packet(PACKET, packet(0, evt3(1)).data[:-9], 0), "EventPacket.events: needs"),
        (Packet(ARRAY, array([1, 2]).data[:-12], 0), "EventArray.events: needs"),
        (Packet("sensor_msgs/msg/Image", b"", 0), "sensor_msgs/msg/Image carries no events"),
        (Packet("nonsense", b"", 0), "package/msg/Type"),
    ],
)
def test_damage_is_counted_and_named_and_the_stream_goes_on(bad, text):
    decoder = PacketDecoder()
    assert decoder.push(bad) is None
    assert decoder.counters.damaged_messages == 1
    assert text in decoder.last_error
    assert len(decoder.last_error) < 400
    assert times(decoder.push(packet(1, evt3(100)))) == [100]
    assert decoder.counters.messages == 2


def test_every_type_name_of_the_family():
    for name in EVENT_TYPES:
        for form in (name, name.replace("/msg/", "/")):
            assert is_event_type(form)
            decoder = PacketDecoder()
            made = (
                array([7], type_name=form)
                if name.endswith("EventArray") and "event_array" not in name
                else packet(0, mono(7), encoding="mono", type_name=form)
            )
            assert times(decoder.push(made)) == [7]
    assert times(PacketDecoder().push(array([7], type_name="home_made/msg/EventArray"))) == [7]
    assert not is_event_type("sensor_msgs/msg/Image")
    assert not is_event_type("EventArray")


def test_a_message_without_a_stamp_has_that_of_its_arrival():
    assert PacketDecoder().push(packet(0, evt3(1), stamp_ns=0)).stamp_ns == 77


def check(decoded):
    if decoded is not None:
        e = decoded.events
        assert (e.x < e.width).all()
        assert (e.y < e.height).all()
        assert decoded.discontinuity in ("", "size", "encoding", "time", "seq")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_real_messages_give_nothing_but_counters(data):
    messages = real_messages()[:6]
    decoder = PacketDecoder()
    assembler = WindowAssembler(WindowSpec(2000, 500, stride_us=1000))
    for message in messages:
        raw = bytearray(message)
        for _ in range(data.draw(st.integers(0, 4))):
            raw[data.draw(st.integers(0, min(len(raw), 200) - 1))] ^= 1 << data.draw(
                st.integers(0, 7)
            )
        cut = data.draw(st.integers(0, len(raw)) | st.just(len(raw)))
        decoded = decoder.push(Packet(PACKET, bytes(raw[:cut]), 0))
        check(decoded)
        if decoded is not None:
            if decoded.discontinuity:
                assembler.reset()
            assembler.push(decoded.events)
    c = assembler.counters
    assert c.pushed == c.used + c.late + c.discarded + c.pending == decoder.counters.events


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*EVENT_TYPES, "a/msg/EventArray", "bad"]), st.binary(max_size=300)
        ),
        max_size=8,
    )
)
def test_random_bytes_give_nothing_but_counters(packets):
    decoder = PacketDecoder()
    for name, data in packets:
        for prefix in (b"", b"\0\1\0\0", b"\0\0\0\0"):
            check(decoder.push(Packet(name, prefix + data, 0)))
    assert decoder.counters.messages == 3 * len(packets)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_order_of_valid_messages_gives_nothing_but_counters(data):
    decoder = PacketDecoder()
    for _ in range(data.draw(st.integers(1, 12))):
        made = packet(
            data.draw(st.integers(0, 5) | st.integers(0, 2**64 - 1)),
            data.draw(st.binary(max_size=64)),
            stamp_ns=data.draw(st.integers(-(2**31) * S, 2**31 * S - 1) | st.integers(0, 10 * S)),
            encoding=data.draw(st.sampled_from(["evt3", "libcaer", "libcaer_cmp", "mono", "?"])),
            time_base=data.draw(st.integers(0, 2**62 - 1) | st.integers(0, 2**64 - 1)),
        )
        check(decoder.push(made))


def kernels():
    """Return name and compiled variants of every kernel of the layer."""
    modules = [m for name, m in sys.modules.items() if name.startswith("evdistill_core.events.")]
    found = {(m.__name__, k): v for m in modules for k, v in vars(m).items()}
    return {
        k: len(v.signatures)
        for k, v in found.items()
        if hasattr(v, "signatures") and v.targetoptions.get("inline") != "always"
    }


def use_everything_after_warming_up():
    warm_up()
    before = kernels()
    assert len(before) > 8
    assert all(before.values())
    decoder, assembler = PacketDecoder(), WindowAssembler(WindowSpec(1000))
    watch = TimeWatch(decoder.counters)
    made = [
        packet(0, mono(9), encoding="mono"),
        array([1, 2]),
        packet(0, bytes(64), encoding="libcaer", time_base=2**61),
        packet(0, bytes(64), encoding="libcaer_cmp", time_base=2**61),
    ]
    for data in real_messages()[:5]:
        forms = (data, bytearray(data), memoryview(b"x" + data)[1:])
        made += [Packet(PACKET, form, 0) for form in forms]
    mask = HotPixels(np.zeros((30, 40), bool))
    every = FilterConfig(mask, 0, 1.0, 1.0, 5, 5, 10**6)
    for config in (every, FilterConfig(hot_learn_ms=5), FilterConfig(background_us=5)):
        filters = EventFilters(config)
        for one in made:
            for part in watch.split(decoder.push(one)):
                assembler.push(filters(part.events))
    for encoding in ("evt3", "libcaer_cmp"):
        for payloads in ([bytes(64)] * 3, [memoryview(b"x" + bytes(64))[1:]], [b"", b""]):
            decoder_of_runs = make_decoder(encoding, width=9, height=9)
            decoder_of_runs.decode_run(payloads, [0] * len(payloads))
    assert kernels() == before


def test_after_warm_up_nothing_is_left_to_compile():
    """Run in a process of its own, where no other test has compiled anything."""
    code = (
        "import importlib.util, sys; sys.path.insert(0, sys.argv[1]); "
        "spec = importlib.util.spec_from_file_location('t', sys.argv[2]); "
        "t = importlib.util.module_from_spec(spec); spec.loader.exec_module(t); "
        "t.use_everything_after_warming_up()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parents[2]), __file__],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
