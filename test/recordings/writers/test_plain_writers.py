"""EVT3 .raw, .txt and .csv: all is read back; what has no place is counted or refused."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import EncodingError
from evdistill_core.recordings.convert import convert_file
from evdistill_core.recordings.encoders.edge_queue import select
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.sinks import create_recording
from evdistill_core.recordings.writers.raw import RawWriter

SIZE = {"width": 346, "height": 260}
WRAP_US = 1 << 24


def batches_of(path, **options):
    with open_recording(path, **options) as recording:
        batches = list(recording.batches())
        info = recording.info
    none = Events.empty(info.width, info.height)
    events = Events.concatenate([none, *[b.events for b in batches]])
    return events, Triggers.concatenate([b.triggers for b in batches]), info


@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_text_is_exact(make_events, tmp_path, suffix):
    events = make_events(np.random.default_rng(0), 3000, t0_us=1_589_163_147_368_868)
    path = tmp_path / f"a{suffix}"
    with create_recording(path, **SIZE) as sink:
        sink.write_events(events[:1000])
        sink.write_events(events[1000:])
    found, _, info = batches_of(path)
    assert found.equals(events)
    assert info.warnings == ()
    heads = {".txt": ["346 260"], ".csv": ["# width=346 height=260", "t_us,x,y,p"]}
    assert path.read_text().splitlines()[: len(heads[suffix])] == heads[suffix]
    start_us = int(events.t_us[2000])
    with open_recording(path) as recording:
        part = [b.events for b in recording.batches(start_us)]
    assert Events.concatenate(part).equals(events[events.t_us >= start_us])
    if suffix == ".csv":  # as other readers take it
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        rows = list(csv.DictReader(lines))
        assert [int(row["t_us"]) for row in rows] == events.t_us.tolist()


def test_raw_is_what_prophesees_tools_expect(make_events, tmp_path):
    events = make_events(np.random.default_rng(1), 500, t0_us=5)
    with create_recording(tmp_path / "a.raw", **SIZE) as sink:
        sink.write_events(events)
    lines = (tmp_path / "a.raw").read_bytes().split(b"% end\n")[0].decode().splitlines()
    fields = dict(line[2:].split(" ", 1) for line in lines)
    assert fields["evt"] == "3.0"
    assert fields["format"] == "EVT3;height=260;width=346"
    assert fields["geometry"] == "346x260"
    assert fields["plugin_name"] == "hal_plugin_prophesee"
    assert batches_of(tmp_path / "a.raw")[0].equals(events)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.sampled_from([0, 1, 900, 70_000, 5_000_000, 20_000_000, 90_000_000, -1000]),
        min_size=1,
        max_size=40,
    ),
    start=st.sampled_from([0, 7, WRAP_US - 5, 1_589_163_147_368_868]),
    edges=st.lists(st.integers(0, 39), max_size=5),
    cut=st.integers(0, 40),
)
def test_raw_keeps_times_modulo_its_clock(tmp_path_factory, steps, start, edges, cut):
    """Pauses of minutes, wraps of the clock, small falls, edges with and without events."""
    t_us = start + np.cumsum(steps)
    i = np.arange(len(t_us))
    events = Events.from_columns(i % 346, i % 260, t_us, i % 2, **SIZE)
    at = np.sort(t_us[[e for e in edges if e < len(t_us)]])
    triggers = Triggers(at, np.full(len(at), 3, np.uint8), np.ones(len(at), np.uint8))
    early = at <= (int(t_us[:cut].max()) if cut else start - 1)
    path = tmp_path_factory.mktemp("raw") / "a.raw"
    with RawWriter(path, **SIZE) as writer:
        writer.write(events[:cut], select(triggers, early))
        writer.write(events[cut:], select(triggers, ~early))
    found, found_edges, _ = batches_of(path)
    offset = int(t_us[0] - found.t_us[0])
    assert offset % WRAP_US == 0
    assert np.array_equal(found.t_us + offset, t_us)
    for name in ("x", "y", "p"):
        assert np.array_equal(getattr(found, name), getattr(events, name))
    assert np.array_equal(np.sort(found_edges.t_us + offset), at)


@pytest.mark.parametrize("step_us", [-20_000_000, 31 * 86_400_000_000])
def test_raw_refuses_what_its_clock_cannot_tell(tmp_path, step_us):
    t_us = np.array([100_000_000, 100_000_000 + step_us])
    events = Events.from_columns([1, 2], [3, 4], t_us, [0, 1], **SIZE)
    with (
        pytest.raises(EncodingError, match="write another format, or cut"),
        RawWriter(tmp_path / "a.raw", **SIZE) as writer,
    ):
        writer.write(events, Triggers.empty())
    assert list(tmp_path.iterdir()) == []


def test_edges_without_a_place_are_counted(tmp_path):
    channels = np.array([0, 3, 99], np.uint8)
    triggers = Triggers(np.array([10, 20, 30]), channels, np.ones(3, np.uint8))
    events = Events.from_columns([1, 2], [3, 4], [5, 40], [0, 1], **SIZE)
    source = tmp_path / "a.npz"
    with create_recording(source, **SIZE) as sink:
        sink.write_events(events)
        sink._writer.write(events[:0], triggers)
    for suffix, held in ((".raw", 2), (".txt", 0), (".csv", 0), (".npz", 3)):
        result = convert_file(source, tmp_path / f"b{suffix}")
        assert (result.triggers, result.dropped_triggers) == (held, 3 - held)
        assert result.events == 2
