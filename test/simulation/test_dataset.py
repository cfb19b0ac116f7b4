import dataclasses
import json

import numpy as np
import pytest

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.simulation.dataset import SetWriter, SimulatedSet, write_windows
from evdistill_core.simulation.window import SimulatedWindow


def window(number, height=6, width=8):
    rng = np.random.default_rng(number)
    count = int(rng.integers(0, 20))
    events = Events.from_columns(
        rng.integers(0, width, count), rng.integers(0, height, count),
        np.sort(rng.integers(number * 100, number * 100 + 100, count)), rng.random(count) > 0.5,
        width=width, height=height,
    )  # fmt: skip
    labels = rng.integers(0, 6, (height, width)).astype(np.uint8)
    image = rng.integers(0, 256, (height, width)).astype(np.uint8)
    return SimulatedWindow(events, labels, image, number * 100, number * 100 + 100)


def writer(root, **options):
    return SetWriter(root, {"seed": 1}, SIX_CLASSES, height=6, width=8, **options)


def test_what_is_written_is_read(tmp_path):
    write_windows(
        writer(tmp_path), lambda ks: (window(k) for k in ks), count=7, windows_per_shard=3
    )
    made = SimulatedSet(tmp_path)
    assert (len(made), made.height, made.width, made.classes) == (7, 6, 8, SIX_CLASSES)
    for k in (6, 0, 3, 2):
        expected, found = window(k), made[k]
        assert found.events.equals(expected.events)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.image, expected.image)
        assert (found.t_start_us, found.t_end_us) == (k * 100, k * 100 + 100)


def test_an_interruption_leaves_whole_shards_and_nothing_else(tmp_path):
    made = []

    def until_interrupted(numbers):
        for k in numbers:
            if k == 5 and len(made) < 6:
                raise KeyboardInterrupt
            made.append(k)
            yield window(k)

    with pytest.raises(KeyboardInterrupt):
        write_windows(writer(tmp_path), until_interrupted, count=7, windows_per_shard=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "index.json", "shard_00000.npz", "shard_00001.npz",
    ]  # fmt: skip
    made.extend([0, 0])
    write_windows(writer(tmp_path), until_interrupted, count=7, windows_per_shard=2)
    assert made[7:] == [4, 5, 6]  # whole shards are not made again
    assert len(SimulatedSet(tmp_path)) == 7
    assert SimulatedSet(tmp_path)[5].events.equals(window(5).events)


def test_a_missing_shard_is_made_again(tmp_path):
    for _ in range(2):
        write_windows(
            writer(tmp_path), lambda ks: (window(k) for k in ks), count=4, windows_per_shard=2
        )
        before = (tmp_path / "shard_00001.npz").read_bytes()
        (tmp_path / "shard_00001.npz").unlink()
    write_windows(
        writer(tmp_path), lambda ks: (window(k) for k in ks), count=4, windows_per_shard=2
    )
    assert (tmp_path / "shard_00001.npz").read_bytes() == before


def test_a_set_says_of_what_its_partial_labels_are_none(tmp_path):
    plain, partial = tmp_path / "plain", tmp_path / "partial"
    for root, options in ((plain, {}), (partial, {"complete_for": ("human", "vehicle")})):
        write_windows(
            writer(root, **options), lambda ks: map(window, ks), count=1, windows_per_shard=3
        )
    assert SimulatedSet(plain).complete_for == ()
    assert SimulatedSet(partial).complete_for == ("human", "vehicle")
    # Programs that know no such labels refuse the set; the others go on reading old ones.
    versions = [json.loads((r / "index.json").read_text())["version"] for r in (plain, partial)]
    assert versions == [1, 2]


def numbered(number):
    found = window(number)
    instances = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000 + number
    return dataclasses.replace(found, instances=instances)


def test_instances_are_kept_and_sets_without_them_have_none(tmp_path):
    plain, whole = tmp_path / "plain", tmp_path / "whole"
    write_windows(writer(plain), lambda ks: map(window, ks), count=3, windows_per_shard=2)
    write_windows(
        writer(whole, has_instances=True),
        lambda ks: map(numbered, ks),
        count=3,
        windows_per_shard=2,
    )
    assert SimulatedSet(plain)[2].instances is None
    found = SimulatedSet(whole)[2].instances
    assert found is not None
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, numbered(2).instances)
    # A program that knows no instances must not go on with the set.
    versions = [json.loads((r / "index.json").read_text())["version"] for r in (plain, whole)]
    assert versions == [1, 3]


def test_a_set_without_instances_is_not_continued_with_them(tmp_path):
    write_windows(writer(tmp_path), lambda ks: map(window, ks), count=2, windows_per_shard=2)
    with pytest.raises(DataError, match="differs in instances; choose another folder"):
        writer(tmp_path, has_instances=True)
    with pytest.raises(ValueError, match="without instances does not go into a set"):
        writer(tmp_path, has_instances=True, overwrite=True).write_shard(0, [window(0)])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": None}, r"shard_00000.npz lacks the array labels: make the set again"),
        ({"offsets": None}, "lacks the array offsets"),
        (
            {"labels": np.zeros((3, 6, 7), np.uint8)},
            r"labels must be uint8 of the shape \(3, 6, 8\)",
        ),
        ({"images": np.zeros((3, 6, 8), np.int32)}, "images must be uint8"),
        ({"offsets": np.array([0, 9, 5, 2])}, "offsets must rise from 0"),
        ({"x": np.full(2, 8, np.uint16)}, "x must hold 4 numbers"),
        ({"x": np.full(4, 8, np.uint16)}, r"x must hold 4 numbers in 0\.\.7"),
        ({"p": np.zeros(1, np.uint8)}, "p must hold 4 numbers"),
    ],
)
def test_a_shard_that_is_not_what_the_index_promises_is_refused(tmp_path, changed, message):
    write_windows(
        writer(tmp_path), lambda ks: (window(k) for k in ks), count=3, windows_per_shard=3
    )
    arrays = {
        "x": np.arange(4, dtype=np.uint16),
        "y": np.arange(4, dtype=np.uint16),
        "t_us": np.arange(4),
        "p": np.zeros(4, np.uint8),
        "offsets": np.array([0, 1, 4, 4]),
        "spans_us": np.array([(0, 100), (100, 200), (200, 300)]),
        "images": np.zeros((3, 6, 8), np.uint8),
        "labels": np.zeros((3, 6, 8), np.uint8),
    }
    np.savez(tmp_path / "shard_00000.npz", **arrays)
    assert len(SimulatedSet(tmp_path)[1].events) == 3
    kept = {name: array for name, array in (arrays | changed).items() if array is not None}
    np.savez(tmp_path / "shard_00000.npz", **kept)
    with pytest.raises(DataError, match=message):
        SimulatedSet(tmp_path)[1]
