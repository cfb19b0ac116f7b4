"""Random access into recordings, and unlabelled windows from them."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from evdistill_core.data.recording_index import index_recording
from evdistill_core.data.unlabelled import RecordingsConfig, UnlabelledWindows, invert_polarity
from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.config import from_mapping, to_mapping
from evdistill_core.foundation.errors import ConfigError, DataError, RecordingError
from evdistill_core.recordings.base import Frame
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.writers.aedat4 import Aedat4Writer
from evdistill_core.recordings.writers.npz import NpzWriter
from evdistill_core.representations import InputSpec, represent

DEMO = Path(__file__).resolve().parents[2] / "demo" / "davis346_street.mcap"
SPEC = InputSpec(bins=2, window_us=10_000, size_multiple=8)


def write(path, *, seed=0, count=4000, span_us=200_000, width=40, height=30, order=None):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, span_us, count)) + 5_000_000
    if order is not None:
        t = t[order]
    events = Events.from_columns(
        rng.integers(0, width, count),
        rng.integers(0, height, count),
        t,
        rng.integers(0, 2, count),
        width=width,
        height=height,
    )
    with NpzWriter(path, width=width, height=height) as writer:
        writer.write(events, Triggers.empty())
    return events


def make(tmp_path, spec=SPEC, seed=0, **changes):
    config = RecordingsConfig(
        **{"paths": (tmp_path / "a.npz",), "cache": tmp_path / "cache", "flip": 0.0, **changes}
    )
    return UnlabelledWindows(config, spec, seed=seed)


def test_any_window_is_the_one_of_the_recording(tmp_path):
    events = write(tmp_path / "a.npz")
    indexed = index_recording(tmp_path / "a.npz", tmp_path / "cache")
    (segment,) = indexed.segments
    assert (segment.t_start_us, segment.t_end_us) == (events.t_us[0], events.t_us[-1] + 1)
    for start, end in ((5_000_000, 5_010_000), (5_050_123, 5_050_124), (5_190_000, 9_000_000)):
        keep = (events.t_us >= start) & (events.t_us < end)
        assert indexed.events(segment, start, end).equals(events[keep])


def test_events_out_of_order_are_sorted(tmp_path):
    order = np.arange(4000)
    order[100:200] = order[100:200][::-1]
    events = write(tmp_path / "a.npz", order=order)
    indexed = index_recording(tmp_path / "a.npz", tmp_path / "cache")
    everything = indexed.events(indexed.segments[0], 0, 1 << 60)
    assert everything.equals(events[np.argsort(events.t_us, kind="stable")])


def test_a_recording_is_read_once_and_again_when_it_changes(tmp_path, monkeypatch):
    from evdistill_core.data import recording_index

    opened = []

    def counting(path):
        opened.append(path)
        return open_recording(path)

    monkeypatch.setattr(recording_index, "open_recording", counting)
    write(tmp_path / "a.npz")
    first = index_recording(tmp_path / "a.npz", tmp_path / "cache").folder
    assert index_recording(tmp_path / "a.npz", tmp_path / "cache").folder == first
    assert len(opened) == 1
    write(tmp_path / "a.npz", seed=1, count=3000)
    assert index_recording(tmp_path / "a.npz", tmp_path / "cache").folder != first
    assert len(opened) == 2


def test_an_interrupted_index_leaves_nothing_behind(tmp_path, monkeypatch):
    from evdistill_core.data import recording_index

    def killed(*_):
        raise KeyboardInterrupt

    write(tmp_path / "a.npz")
    monkeypatch.setattr(recording_index, "_sort_segment", killed)
    with pytest.raises(KeyboardInterrupt):
        index_recording(tmp_path / "a.npz", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_index_is_refused(tmp_path):
    write(tmp_path / "a.npz")
    folder = index_recording(tmp_path / "a.npz", tmp_path / "cache").folder
    good = (folder / "x.bin").read_bytes()
    (folder / "x.bin").write_bytes(b"\0")
    with pytest.raises(DataError, match="damaged"):
        index_recording(tmp_path / "a.npz", tmp_path / "cache")
    (folder / "x.bin").write_bytes(good)
    for text in ("{", "[]", '{"segments": [[1]]}'):
        (folder / "index.json").write_text(text)
        with pytest.raises(DataError, match="damaged"):
            index_recording(tmp_path / "a.npz", tmp_path / "cache")


def test_two_processes_that_index_one_file_do_not_disturb_each_other(tmp_path, monkeypatch):
    from evdistill_core.data import recording_index

    events = write(tmp_path / "a.npz")
    publish = recording_index._publish

    def late(part, folder):
        monkeypatch.setattr(recording_index, "_publish", publish)
        other = index_recording(tmp_path / "a.npz", tmp_path / "cache")  # finishes first
        publish(part, folder)
        assert other.events(other.segments[0], 0, 1 << 60).equals(events)

    monkeypatch.setattr(recording_index, "_publish", late)
    mine = index_recording(tmp_path / "a.npz", tmp_path / "cache")
    assert mine.events(mine.segments[0], 0, 1 << 60).equals(events)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [mine.folder.name]


def test_samples_depend_on_seed_and_index_alone(tmp_path):
    write(tmp_path / "a.npz")
    one, two = make(tmp_path), make(tmp_path)
    for i in (5, 0, 3):
        assert np.array_equal(one.sample(i).input, two.sample(i).input)
    assert not np.array_equal(one.sample(0).input, one.sample(1).input)
    assert not np.array_equal(one.sample(0).input, make(tmp_path, seed=1).sample(0).input)
    assert len(one) == 19


def test_windows_are_drawn_from_everywhere_and_only_from_there(tmp_path):
    events = write(tmp_path / "a.npz")
    source = make(tmp_path, start_s=0.05, end_s=0.09, min_events=0)
    times = [source._draw(np.random.default_rng(i))[1] for i in range(300)]
    start = int(events.t_us[0])
    assert start + 50_000 <= min(times) <= start + 51_000
    assert start + 79_000 <= max(times) <= start + 80_000


def test_quiet_windows_are_drawn_again(tmp_path):
    rng = np.random.default_rng(0)
    t = np.concatenate([[0], np.sort(rng.integers(100_000, 120_000, 2000)), [400_000]])
    events = Events.from_columns(
        np.zeros(len(t)), np.zeros(len(t)), t, np.ones(len(t)), width=8, height=8
    )
    with NpzWriter(tmp_path / "a.npz", width=8, height=8) as writer:
        writer.write(events, Triggers.empty())
    drawn = [
        [len(make(tmp_path, min_events=n)._draw(np.random.default_rng(i))[2]) for i in range(60)]
        for n in (0, 200)
    ]
    assert np.mean(np.array(drawn[1]) >= 200) > 2 * np.mean(np.array(drawn[0]) >= 200)


def test_a_crop_is_a_piece_of_the_whole_even_where_the_sensor_is_shrunk(tmp_path):
    write(tmp_path / "a.npz", width=60, height=44)
    spec = InputSpec(bins=2, window_us=10_000, size_multiple=8, max_pixels=700)
    whole = make(tmp_path, spec).sample(4)
    assert spec.grid(height=44, width=60).factor == 2
    assert whole.input.shape == (2, 24, 32)
    assert whole.valid.sum() == 22 * 30
    small = make(tmp_path, spec, crop=(16, 16)).sample(4)
    places = [
        (top, left)
        for top in range(7)
        for left in range(15)
        if np.array_equal(whole.input[:, top : top + 16, left : left + 16], small.input)
    ]
    assert len(places) == 1
    assert small.valid.all()
    assert np.array_equal(small.active, (small.input != 0).any(0))


def test_a_crop_holds_an_event_wherever_the_window_has_one(tmp_path):
    t = np.sort(np.random.default_rng(0).integers(0, 200_000, 4000)) + 5_000_000
    one = np.ones(len(t))
    events = Events.from_columns(35 * one, 3 * one, t, one, width=40, height=30)
    with NpzWriter(tmp_path / "a.npz", width=40, height=30) as writer:
        writer.write(events, Triggers.empty())
    for flip in (0.0, 1.0):
        windows = make(tmp_path, crop=(8, 8), flip=flip)
        crops = [windows.sample(i).input for i in range(40)]
        assert all((c != 0).any() for c in crops)
        places = {tuple(np.argwhere((c != 0).any(0))[0]) for c in crops}
        assert len(places) > 10


def test_mirror_and_inversion_are_those_of_the_events(tmp_path):
    write(tmp_path / "a.npz")
    plain = make(tmp_path)
    span, start, events = plain._draw(np.random.default_rng([0, 2, 11]))
    for spec in (SPEC, InputSpec(kind="counts2", window_us=10_000, size_multiple=8)):
        changed = make(tmp_path, spec, flip=1.0, invert=1.0).sample(2)
        other = Events.from_columns(
            39 - events.x.astype(int), events.y, events.t_us, 1 - events.p, width=40, height=30
        )
        expected = represent(other, spec, start, start + 10_000)
        np.testing.assert_allclose(changed.input, expected, atol=1e-6)
    assert span.segment.width == 40
    twice = invert_polarity(invert_polarity(changed.input, spec), spec)
    assert np.array_equal(twice, changed.input)


def test_a_crop_larger_than_the_sensor_is_padded_and_says_so(tmp_path):
    write(tmp_path / "a.npz")
    sample = make(tmp_path, crop=(48, 64)).sample(0)
    assert sample.input.shape == (2, 48, 64)
    assert sample.valid.sum() == 30 * 40
    assert not sample.input[:, 30:].any()
    assert not sample.has_frame


def test_recordings_without_the_frames_that_are_wanted_are_refused(tmp_path):
    write(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"a\.npz.*none|none of .*a\.npz"):
        make(tmp_path, frame_within_us=5000)


def test_recordings_too_short_for_a_window_are_refused(tmp_path):
    write(tmp_path / "a.npz", span_us=5_000)
    with pytest.raises(DataError, match="without a gap"):
        make(tmp_path)


@pytest.mark.parametrize(
    "changes", [{"paths": ()}, {"flip": 2.0}, {"min_events": -1}, {"crop": (0, 8)}]
)
def test_bad_configurations_are_refused(changes):
    with pytest.raises(ConfigError):
        RecordingsConfig(**{"paths": (Path("a"),), **changes})


def test_configuration_round_trip():
    config = RecordingsConfig(paths=(Path("a"), Path("b")), crop=(64, 96), end_s=3.0)
    assert from_mapping(RecordingsConfig, json.loads(json.dumps(to_mapping(config)))) == config


def test_missing_recordings_are_named(tmp_path):
    with pytest.raises(RecordingError, match=r"gone\.npz"):
        index_recording(tmp_path / "gone.npz", tmp_path / "cache")


def test_a_real_bag(tmp_path):
    # The file that ships: what comes out of the index is what comes out of the recording.
    with open_recording(DEMO) as recording:
        events = Events.concatenate([b.events for b in recording.batches()])
    source = UnlabelledWindows(
        RecordingsConfig(paths=(DEMO,), cache=tmp_path), InputSpec(window_us=50_000), seed=0
    )
    indexed = index_recording(DEMO, tmp_path)
    assert sum(s.last_row - s.first_row for s in indexed.segments) == len(events)
    sample = source.sample(0)
    assert sample.input.shape == (5, 288, 352)
    assert sample.active.any()
    # Its frames carry host time; the index brings them to sensor time, where the events are.
    (segment,) = indexed.segments
    assert len(indexed.frame_t_us) == 30
    assert segment.t_start_us - 50_000 < indexed.frame_t_us[0] < segment.t_start_us + 100_000
    assert segment.t_end_us - 150_000 < indexed.frame_t_us[-1] < segment.t_end_us + 50_000


def test_frames_of_a_real_recording(shared_data, tmp_path):
    path = shared_data / "recordings" / "davis346_street_frames.aedat4"
    indexed = index_recording(path, tmp_path)
    with open_recording(path) as recording:
        frames = list(recording.frames())
    assert len(indexed.frame_t_us) == len(frames)
    at = frames[10].t_us
    assert np.array_equal(indexed.frame_before(at, within_us=1), frames[10].image)
    assert np.array_equal(indexed.frame_before(at - 1, within_us=10**6), frames[9].image)
    assert indexed.frame_before(frames[0].t_us - 1, within_us=10**6) is None
    assert indexed.frame_before(frames[-1].t_us + 10**6, within_us=1000) is None
    config = RecordingsConfig(
        paths=(path,), cache=tmp_path, frame_within_us=60_000, crop=(128, 128), flip=0.0
    )
    source = UnlabelledWindows(config, InputSpec(window_us=50_000), seed=0)
    samples = [source.sample(i) for i in range(5)]
    assert all(s.has_frame for s in samples)
    assert all(-1 <= s.frame.min() < s.frame.max() <= 1 for s in samples)


def test_frames_that_cannot_be_used_are_counted_and_said(tmp_path, caplog):
    t = np.arange(0, 400_000, 20)
    events = Events.from_columns(t % 40, t % 30, t, t % 2, width=40, height=30)
    path = tmp_path / "a.aedat4"
    sizes_and_times = [
        ((30, 40), 10_000),
        ((30, 40), 5_000),
        ((15, 20), 60_000),
        ((30, 40), 90_000),
    ]
    with Aedat4Writer(path, width=40, height=30, frame_size=(40, 30)) as writer:
        writer.write(events, Triggers.empty())
        for size, t_us in sizes_and_times:
            writer.write_frame(Frame(np.full(size, 9, np.uint8), t_us, 0), t_us)
    indexed = index_recording(path, tmp_path / "cache")
    assert indexed.frame_t_us.tolist() == [10_000, 90_000]
    assert indexed.left_out_frames == {
        "earlier than the one before": 1,
        "another size than the first one": 1,
    }
    for within_us, expected in ((0, 0), (10_000, 2)):
        config = RecordingsConfig(
            paths=(path,), cache=tmp_path / "cache", frame_within_us=within_us, flip=0.0
        )
        UnlabelledWindows(config, InputSpec(window_us=20_000), seed=0)
        said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert len(said) == expected
    assert "a.aedat4: 1 frame left out: earlier than the one before" in said


def test_windows_end_at_the_frame_they_have(tmp_path):
    """Both show the same moment; where no frame is near, the window stays where it was drawn."""
    rng = np.random.default_rng(0)
    t = np.arange(0, 400_000, 20)
    x, y = rng.integers(0, 40, len(t)), rng.integers(0, 30, len(t))
    events = Events.from_columns(x, y, t, x % 2, width=40, height=30)
    frames_us = [*range(5_000, 200_000, 40_000)]
    path = tmp_path / "a.aedat4"
    with Aedat4Writer(path, width=40, height=30, frame_size=(40, 30)) as writer:
        writer.write(events, Triggers.empty())
        for k, t_us in enumerate(frames_us):
            writer.write_frame(Frame(np.full((30, 40), k, np.uint8), t_us, 0), t_us)
    spec = InputSpec(window_us=20_000)

    def windows(**changes):
        config = RecordingsConfig(paths=(path,), cache=tmp_path / "cache", flip=0.0, **changes)
        source = UnlabelledWindows(config, spec, seed=0)
        rngs = [np.random.default_rng(k) for k in range(200)]
        return source, [source._draw(r) for r in rngs]

    _, without = windows()
    source, with_frames = windows(frame_within_us=10_000)
    moved = 0
    for (_, drawn_us, _), (span, start_us, found) in zip(without, with_frames, strict=True):
        end_us, drawn_end_us = start_us + spec.span_us, drawn_us + spec.span_us
        near = [f for f in frames_us if 0 <= drawn_end_us - f < 10_000]
        fits = near and near[0] - spec.span_us >= span.t_start_us
        assert end_us == (near[0] if fits else drawn_end_us)
        assert found.equals(events[(events.t_us >= start_us) & (events.t_us < end_us)])
        moved += bool(fits)
    assert 5 < moved < 150
    samples = [source.sample(k) for k in range(50)]
    assert {s.has_frame for s in samples} == {True, False}
