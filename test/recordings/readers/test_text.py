"""Text files: units, sizes, damage, and spans without what lies before them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.base import cut
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.readers import text


def read(path, start_us=None, end_us=None):
    with open_recording(path) as recording:
        parts = [b.events for b in recording.batches(start_us, end_us)]
    return Events.concatenate(parts), recording


def test_text(tmp_path):
    path = tmp_path / "events.txt"
    path.write_text("# made by hand\n240 180\n\n0.003811000 96 133 0\n1.5 127 171 1\n")
    events, _ = read(path)
    assert (events.width, events.height) == (240, 180)
    assert events.t_us.tolist() == [3811, 1_500_000]
    assert events.p.tolist() == [0, 1]
    path.write_text("1589163147368868 96 133 0\n1589163147368869 127 171 -1\n")
    events, _ = read(path)
    assert events.t_us.tolist() == [1589163147368868, 1589163147368869]
    assert events.p.tolist() == [0, 0]
    path.write_text("1 2 3 0\n4 5 6\n")
    with pytest.raises(RecordingError, match="four numbers"):
        read(path)
    path.write_text("1.5 2 3 0\nnan 5 6 1\n")
    with pytest.raises(RecordingError, match="no numbers"):
        read(path)
    path.write_text("99999 3\n1.5 2 3 0\n")
    with pytest.raises(RecordingError, match="99999x3"):
        read(path)
    path.write_text("0 2 3 0\n0.000012 5 6 1\n")
    assert read(path)[0].t_us.tolist() == [0, 12]


def write(path, t_us, *, seconds, ends="\n"):
    rng = np.random.default_rng(1)
    lines = ["240 180"]
    for i, t in enumerate(t_us):
        if i % 7 == 3:
            lines.append("# a comment, and an empty line\n")
        shown = f"{t / 1e6:.6f}" if seconds else str(t)
        lines.append(f"{shown} {rng.integers(240)} {rng.integers(180)} {rng.integers(2)}")
    path.write_bytes(ends.join(lines).encode() + ends.encode())


def test_a_last_line_that_was_cut_costs_only_itself(tmp_path):
    path = tmp_path / "killed.txt"
    path.write_text("1000 2 3 0\n2000 5 6 1\n30")
    events, recording = read(path)
    assert events.t_us.tolist() == [1000, 2000]
    assert "the last line is cut and was left out: '30'" in recording.info.warnings
    assert recording.counters["not_events"] == 1
    # A whole line without its end is whole; one in the middle is an error at its own place.
    path.write_text("1000 2 3 0\n2000 5 6 1")
    assert len(read(path)[0]) == 2
    path.write_text("8 8\n1000 2 3 0\n2000 5\n3000 5 6 1\n")
    with pytest.raises(RecordingError, match=r"killed.txt: .* at byte 15: got '2000 5'"):
        read(path)


def test_a_polarity_that_is_none_is_said(tmp_path):
    path = tmp_path / "odd.csv"
    path.write_text("t,x,y,p\n1000,2,3,7\n2000,2,3,0\n")
    events, recording = read(path)
    assert events.p.tolist() == [1, 0]
    assert any("polarities other than 0, 1 and -1" in text for text in recording.info.warnings)


@pytest.fixture
def small_steps(monkeypatch):
    """Sample a line every 200 bytes, decode 50 at a time."""
    monkeypatch.setattr(text, "SEEK_BYTES", 200)
    monkeypatch.setattr(text, "BATCH_EVENTS", 50)


@pytest.mark.usefixtures("small_steps")
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    jitter_us=st.sampled_from([0, 1000, 900_000]),
    seconds=st.booleans(),
    ends=st.sampled_from(["\n", "\r\n"]),
    start_s=st.floats(0, 22, allow_subnormal=False),
    length_s=st.sampled_from([0.3, 5.0, None]),
)
def test_spans(tmp_path_factory, seed, jitter_us, seconds, ends, start_s, length_s):  # noqa: PLR0917
    rng = np.random.default_rng(seed)
    t_us = np.sort(rng.integers(0, 20_000_000, 2000)) - rng.integers(0, jitter_us + 1, 2000)
    path = tmp_path_factory.mktemp("text") / "a.txt"
    write(path, np.maximum(t_us, 0), seconds=seconds, ends=ends)
    start_us = int(start_s * 1e6)
    end_us = None if length_s is None else start_us + int(length_s * 1e6)
    none = Events.empty(240, 180)
    with open_recording(path) as recording:
        expected = [b.events for b in cut(recording.batches(), start_us, end_us)]
        span = [b.events for b in recording.batches(start_us, end_us)]
        taken = recording.counters.get("events", 0)
    assert Events.concatenate([none, *span]).equals(Events.concatenate([none, *expected]))
    if start_s > 5 and start_s < 20:
        assert taken < 2000 - 100 * (start_s - 4)


@pytest.mark.usefixtures("small_steps")
def test_times_that_fall_are_read_from_the_start(tmp_path):
    t_us = np.concatenate([np.arange(0, 20_000_000, 20_000), np.arange(0, 20_000_000, 20_000)])
    write(tmp_path / "a.txt", t_us, seconds=False)
    events, recording = read(tmp_path / "a.txt", 15_000_000)
    assert len(events) == 500
    assert "times fall: a span is found by reading the whole file" in recording.info.warnings


@pytest.mark.usefixtures("small_steps")
def test_a_damaged_line_stops_only_those_who_read_it(tmp_path):
    path = tmp_path / "a.txt"
    write(path, np.arange(0, 20_000_000, 20_000), seconds=True)
    lines = path.read_text().splitlines()
    lines[100:120] = ["damaged beyond all recognition, and long enough to be met"] * 20
    path.write_text("\n".join(lines))
    assert len(read(path, 10_000_000)[0]) == 500
    with pytest.raises(RecordingError, match="damaged beyond"):
        read(path)
