import numpy as np
import pytest

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import ConfigError, RecordingError
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.sinks import create_recording


def write(path, *stretches):
    with create_recording(path, width=10, height=10) as recording:
        for t_us in stretches:
            z = np.zeros(len(t_us), int)
            recording.write_events(Events.from_columns(z, z, t_us, z, width=10, height=10))
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "a.npz", 7_000 + np.arange(0, 100_000, 1000))


def test_windows_follow_one_another_from_the_first_event(path):
    with open_recording(path) as recording:
        windows = list(recording.windows(30_000))
    assert [(w.t_start_us, w.t_end_us) for w in windows] == [
        (7_000 + 30_000 * k, 37_000 + 30_000 * k) for k in range(4)
    ]
    assert [len(w.events) for w in windows] == [30, 30, 30, 10]
    assert {w.stretch for w in windows} == {0}


def test_windows_by_count_and_with_overlap(path):
    with open_recording(path) as recording:
        assert [len(w.events) for w in recording.windows(None, count=40)] == [40, 40, 20]
        overlapping = list(recording.windows(20_000, stride_us=10_000))
    assert [len(w.events) for w in overlapping[:3]] == [20, 20, 20]
    assert overlapping[1].t_start_us - overlapping[0].t_start_us == 10_000


def test_a_span_is_seconds_after_the_first_event(path):
    with open_recording(path) as recording:
        assert recording.span_us() == (None, None)
        assert recording.span_us(0.02, 0.05) == (27_000, 57_000)
        (window,) = recording.windows(30_000, start_s=0.02, end_s=0.05)
    assert (window.events.t_us[0], window.events.t_us[-1]) == (27_000, 56_000)


def test_no_window_spans_a_restart_and_the_stretch_rises(tmp_path):
    before, after = np.arange(90_000_000, 90_030_000, 1000), np.arange(0, 30_000, 1000)
    with open_recording(write(tmp_path / "a.mcap", before, after)) as recording:
        windows = list(recording.windows(10_000))
    assert (windows[0].stretch, windows[0].t_start_us) == (0, 90_000_000)
    assert (windows[-1].stretch, windows[-1].t_start_us) == (1, 20_000)
    assert all(w.events.t_us[-1] - w.events.t_us[0] < 10_000 for w in windows)


@pytest.mark.parametrize("span", [(-1, None), (2, 1), (1, 1)])
def test_a_span_that_is_none_is_refused(path, span):
    with (
        open_recording(path) as recording,
        pytest.raises(RecordingError, match="a span begins at 0"),
    ):
        recording.windows(start_s=span[0], end_s=span[1])


def test_a_stride_above_the_length_is_refused(path):
    with open_recording(path) as recording, pytest.raises(ConfigError, match="stride_us must be 1"):
        recording.windows(10_000, stride_us=20_000)
