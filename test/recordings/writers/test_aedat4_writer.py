"""What we write as AEDAT4 is what iniVation's own library reads."""

import numpy as np
import pytest

from evdistill_core.events.array import Events, Triggers
from evdistill_core.recordings.base import Frame
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.writers.aedat4 import Aedat4Writer

dv = pytest.importorskip("dv_processing")


def write(path, events, edges, frames=(), *, frame_size=None):
    with Aedat4Writer(path, width=346, height=260, frame_size=frame_size) as writer:
        for image, t_us in frames:
            writer.write_frame(Frame(image, t_us, t_us * 1000), t_us)
        writer.write(events, edges)


@pytest.mark.parametrize("count", [1, 16_384, 40_001])
def test_the_vendor_reads_the_same(tmp_path, make_events, count):
    rng = np.random.default_rng(count)
    events = make_events(rng, count)
    edges = Triggers(
        np.array([1_000_500, 1_020_000, 1_030_000]), np.zeros(3, np.uint8),
        np.array([1, 0, 1], np.uint8),
    )  # fmt: skip
    frames = [(rng.integers(0, 256, (260, 346)).astype(np.uint8), 1_000_100)]
    path = tmp_path / "a.aedat4"
    write(path, events, edges, frames, frame_size=(346, 260))
    reader = dv.io.MonoCameraRecording(str(path))
    assert tuple(reader.getEventResolution()) == (346, 260)
    stored = []
    while (batch := reader.getNextEventBatch()) is not None:
        stored.append(batch.numpy())
    found = np.concatenate(stored)
    for name, column in (
        ("timestamp", events.t_us), ("x", events.x), ("y", events.y), ("polarity", events.p),
    ):  # fmt: skip
        assert np.array_equal(found[name], column)
    kinds = []
    while (batch := reader.getNextTriggerBatch()) is not None:
        kinds += [(t.timestamp, t.type.value) for t in batch]
    assert kinds == [(1_000_500, 1), (1_020_000, 2), (1_030_000, 1)]
    frame = reader.getNextFrame()
    assert np.array_equal(np.squeeze(frame.image), frames[0][0])
    assert frame.timestamp == 1_000_100
    with open_recording(path) as recording:
        assert Events.concatenate([b.events for b in recording.batches()]).equals(events)
        assert not recording.info.warnings


def test_the_vendor_finds_spans_by_the_table(tmp_path, make_events):
    events = make_events(np.random.default_rng(1), 60_000, span_us=1_000_000)
    write(tmp_path / "a.aedat4", events, Triggers.empty())
    reader = dv.io.MonoCameraRecording(str(tmp_path / "a.aedat4"))
    start, end = 1_400_000, 1_500_000
    found = reader.getEventsTimeRange(start, end)
    wanted = events[(events.t_us >= start) & (events.t_us < end)]
    assert np.array_equal(found.numpy()["timestamp"], wanted.t_us)


def test_colour_pictures(tmp_path, make_events):
    image = np.zeros((5, 7, 3), np.uint8)
    image[..., 0] = 200  # red
    image[0, 0] = (1, 2, 3)
    path = tmp_path / "a.aedat4"
    events = make_events(np.random.default_rng(0), 10)
    write(path, events, Triggers.empty(), [(image, 5)], frame_size=(7, 5))
    frame = dv.io.MonoCameraRecording(str(path)).getNextFrame()
    assert frame.image[0, 0].tolist() == [3, 2, 1]  # blue first
    with open_recording(path) as recording:
        (ours,) = recording.frames()
    assert np.array_equal(ours.image, image)
