import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from evdistill_core.data.window_dataset import WindowDataset
from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import ConfigError, DataError, OutputError
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.sinks import create_recording
from evdistill_core.representations import InputSpec, represent

SPEC = InputSpec(bins=2, window_us=10_000, size_multiple=8)


def write(path, spans, *, width=24, height=16, rate_hz=100_000, seed=0):
    """Write one stretch of events for each (start_us, end_us); breaks lie between them."""
    rng = np.random.default_rng(seed)
    with create_recording(path, width=width, height=height) as recording:
        for start_us, end_us in spans:
            count = (end_us - start_us) * rate_hz // 1_000_000
            t_us = np.sort(rng.integers(start_us, end_us, count))
            t_us[[0, -1]] = start_us, end_us - 1
            x, y = rng.integers(0, width, count), rng.integers(0, height, count)
            p = rng.integers(0, 2, count)
            recording.write_events(Events.from_columns(x, y, t_us, p, width=width, height=height))
    return path


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "r" / "a.npz", [(0, 45_000)])
    write(tmp_path / "r" / "b.npz", [(1_000, 31_000)], seed=1)
    return tmp_path / "r"


def open_set(folder, **options):
    return WindowDataset(folder, SPEC, cache=folder.parent / "cache", **options)


def test_an_item_is_what_a_student_is_fed(folder):
    dataset = open_set(folder)
    assert len(dataset) == 4 + 3
    for i in range(len(dataset)):
        window = dataset.window(i)
        assert window.t_end_us - window.t_start_us == 10_000
        assert dataset[i].dtype == torch.float32
        assert (dataset[i].numpy() == represent(window, SPEC)).all()
    assert [dataset.recording_of(i).name for i in (0, 3, 4, 6)] == ["a.npz"] * 2 + ["b.npz"] * 2
    assert torch.equal(dataset[-1], dataset[6])


def test_windows_hold_every_event_of_the_span_once(folder):
    dataset = open_set(folder / "a.npz")
    t_us = np.concatenate([dataset.window(i).events.t_us for i in range(len(dataset))])
    with open_recording(folder / "a.npz") as recording:
        stored = np.concatenate([b.events.t_us for b in recording.batches(0, 40_000)])
    assert (t_us == stored).all()


def test_a_list_a_str_and_a_stride(folder):
    paths = [str(folder / "b.npz"), folder / "a.npz"]
    dataset = open_set(folder, stride_us=5_000)
    assert len(dataset) == 8 + 5
    listed = WindowDataset(paths, SPEC, cache=str(folder.parent / "cache"))
    assert listed.recording_of(0).name == "b.npz"


def test_a_cache_that_cannot_be_written_is_refused(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is a file"):
        WindowDataset(folder, SPEC, cache=tmp_path / "file" / "cache")


def test_a_span_in_seconds(folder):
    dataset = open_set(folder / "a.npz", start_s=0.01, end_s=0.03)
    assert [dataset.window(i).t_start_us for i in range(len(dataset))] == [10_000, 20_000]


def test_jitter_depends_on_seed_and_epoch_and_stays_inside(folder):
    def starts(dataset):
        return [dataset.window(i).t_start_us for i in range(len(dataset))]

    one, same, other = (open_set(folder, jitter=True, seed=s) for s in (3, 3, 4))
    assert starts(one) == starts(same)
    assert starts(one) != starts(other)
    before = starts(one)
    one.set_epoch(1)
    assert starts(one) != before
    for k, (moved, still) in enumerate(zip(starts(one), starts(open_set(folder)), strict=True)):
        assert 0 <= moved - still < 10_000
        assert one.window(k).t_end_us <= (45_000 if k < 4 else 31_000)


def test_no_window_spans_a_break(tmp_path):
    path = write(tmp_path / "a.mcap", [(50_000_000, 50_025_000), (0, 25_000)])
    dataset = WindowDataset(path, SPEC, cache=tmp_path / "cache")
    spans = [(w.t_start_us, w.t_end_us) for w in (dataset.window(i) for i in range(len(dataset)))]
    assert all(b <= 25_000 or a >= 50_000_000 for a, b in spans)


def test_quiet_windows_may_be_left_out(tmp_path):
    path = tmp_path / "a.npz"
    with create_recording(path, width=8, height=8) as recording:
        t_us = np.r_[np.arange(0, 10_000, 100), 15_000, np.arange(20_000, 30_000, 100), 30_000]
        z = np.zeros(len(t_us), int)
        recording.write_events(Events.from_columns(z, z, t_us, z, width=8, height=8))
    dataset = WindowDataset(path, SPEC, cache=tmp_path / "cache", min_events=10)
    assert [dataset.window(i).t_start_us for i in range(len(dataset))] == [0, 20_000]


def test_a_loader_with_workers_gives_the_same(folder):
    dataset = open_set(folder, jitter=True, seed=1)
    alone = torch.stack([dataset[i] for i in range(len(dataset))])
    loader = DataLoader(dataset, batch_size=3, num_workers=1, multiprocessing_context="spawn")
    assert torch.equal(torch.cat(list(loader)), alone)


def test_a_sequence_is_windows_in_a_row(folder):
    spec = InputSpec(bins=2, window_us=10_000, size_multiple=8, sequence=2)
    dataset = WindowDataset(folder / "a.npz", spec, cache=folder.parent / "cache")
    assert dataset[0].shape == (2, 2, 16, 24)
    assert torch.equal(dataset[0][1], open_set(folder / "a.npz")[1])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"stride_us": 0}, ConfigError, "stride_us must be at least 1, got 0"),
        ({"start_s": 2, "end_s": 1}, ConfigError, "below end_s"),
        ({"start_s": 10}, DataError, "no window of 10 ms is left in a.npz, b.npz"),
        ({"min_events": 10**9}, DataError, "no window"),
    ],
)
def test_what_gives_no_windows_is_refused(folder, options, error, message):
    with pytest.raises(error, match=message):
        open_set(folder, **options)


def test_sensors_of_different_size_need_a_transform(folder):
    write(folder / "c.npz", [(0, 20_000)], width=48, height=32)
    with pytest.raises(DataError, match="24x16, 48x32"):
        open_set(folder)
    small = open_set(folder, transform=lambda grid: grid[:, :8, :8])
    assert {tuple(small[i].shape) for i in range(len(small))} == {(2, 8, 8)}


@pytest.mark.parametrize("index", [7, -8])
def test_an_index_out_of_range_ends_an_iteration(folder, index):
    with pytest.raises(IndexError, match=f"index {index} is out of range: there are 7"):
        open_set(folder)[index]
