"""The C++ peer: what is missing is said, and where the library is, both decode the same."""

from pathlib import Path

import numpy as np
import pytest

from evdistill_core.events.array import Events, Triggers
from evdistill_core.recordings.encoders.evt3 import encode_evt3
from evdistill_core.recordings.encoders.libcaer_cmp import encode_libcaer_cmp
from evdistill_core.recordings.encoders.packets import Packetizer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def peer(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import codecs_peer

    return codecs_peer


def made_up(count, from_us):
    rng = np.random.default_rng(0)
    t_us = np.sort(rng.integers(0, 100_000, count)) + from_us
    x, y, p = (rng.integers(0, n, count) for n in (346, 260, 2))
    return Events.from_columns(x, y, t_us, p, width=346, height=260)


def test_without_the_headers_it_says_where_they_come_from(peer, tmp_path):
    with pytest.raises(SystemExit, match="apt install ros-DISTRO-event-camera-codecs"):
        peer.build(tmp_path, tmp_path)


@pytest.fixture(scope="module")
def headers():
    # Some versions install into a folder of the package's name, some do not.
    found = next(Path("/opt/ros").glob("*/include/**/event_camera_codecs/decoder.h"), None)
    if found is None:
        pytest.skip("no ROS installation here has event_camera_codecs")
    return next(folder for folder in found.parents if folder.name == "include")


@pytest.mark.parametrize("encoding", ["evt3", "libcaer_cmp"])
def test_both_decode_the_same(peer, headers, tmp_path, encoding):
    program = peer.build(headers, tmp_path)
    parts = [made_up(500, 0), made_up(700, 100_000)]
    encode = {"evt3": encode_evt3, "libcaer_cmp": encode_libcaer_cmp}[encoding]
    packets = [(0, encode(part, 0)) for part in parts]
    result = peer.decode(program, encoding, (346, 260), packets, 2, tmp_path)
    assert len(result.ms) == len(result.cpu_ms) == 2
    assert result.events.equals(Events.concatenate(parts))


def test_edges_that_we_write_are_read_by_the_peer(peer, headers, tmp_path):
    program = peer.build(headers, tmp_path)
    events = made_up(800, 0)
    rng = np.random.default_rng(1)
    # Some between the events, some in a pause, and two at one time.
    t_us = np.sort(np.append(rng.integers(0, 200_000, 60), [150_000, 150_000]))
    edges = Triggers(
        t_us, rng.integers(0, 16, 62).astype(np.uint8), rng.integers(0, 2, 62).astype(np.uint8)
    )
    packetizer = Packetizer(7_000, "evt3")
    packets = packetizer.push(events, edges) + packetizer.flush()
    pairs = [(p.time_base_ns, p.payload) for p in packets]
    result = peer.decode(program, "evt3", (346, 260), pairs, 1, tmp_path)
    assert result.events.equals(events)
    for name in ("t_us", "channel", "edge"):
        assert np.array_equal(getattr(result.triggers, name), getattr(edges, name))
